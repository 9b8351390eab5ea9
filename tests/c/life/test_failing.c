/* Failing to start: cl_serve and cl_run end where nothing ever listens by what the primary knows, and go on otherwise. */
#include "primary.h"

static char taken[64]; /* an address that is taken, of this process's own */

static void take_address(void) {
    int port, fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct sockaddr_in address = address4(0);
    SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    SYS(listen(fd, 1));
    port = system_port(fd);
    snprintf(taken, sizeof taken, "127.0.0.1:%d", port);
}

static int listen_on(const char *address) {
    int listener = cl_listen(address, 0);
    if (listener == -ESHUTDOWN) return 0;
    return listener < 0 ? 1 : serve_listener(listener);
}

static int serve_address(void *address) { return listen_on((const char *)address); }
static int serve_taken(void) { return listen_on(taken); }
static int ends_at_once(void *unused) {
    (void)unused;
    return 1;
}

/* With short delays where many lives are to be seen. */
static void use_always(int most_ms) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    settings.restart_min_ms = most_ms > 0 ? 5 : 0;
    settings.restart_max_ms = most_ms;
    OK(cl_setup_primary(&settings));
}

static void expect_sentence(const char *part) {
    const char *sentence = cl_last_error();
    if (sentence == NULL || strstr(sentence, part) == NULL) check_fail(__FILE__, __LINE__, "no \"%s\" in the sentence", part);
}

/* The sentence of each refusal; no more than one a second. */
static void expect_warnings(const char *part, long long began) {
    int warnings = count_events(CL_EVENT_WARNING, 0);
    CHECK(warnings >= 1);
    CHECK(warnings <= 1 + (now_ms() - began) / 1000);
    CHECK(strstr(seen[find_event(CL_EVENT_WARNING, 0, 0)].data, part) != NULL);
}

static void expect_nobody(void) {
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    CHECK_EQ(count_events(CL_EVENT_FORK, 0), count_events(CL_EVENT_EXIT, 0));
    CHECK(no_child_left());
    check_ignore_descriptors = 1; /* the engine stays */
}

static void stop_after_six(const cl_event_t *event, void *user) {
    remember_event(event, user);
    if (count_events(CL_EVENT_FORK, 0) >= 6 + (user != NULL)) OK(cl_stop(1000));
}

static void serve_of_a_taken_address(void) {
    long long began = now_ms();
    take_address();
    OK(cl_on_event(remember_event, NULL));
    CHECK_EQ(cl_serve(2, serve_address, taken), -EADDRINUSE);
    expect_sentence(taken);
    expect_warnings(taken, began);
    CHECK(count_events(CL_EVENT_FORK, 0) >= 6);
    expect_nobody();
    /* The primary is as good as new: what can be had is served. */
    seen_count = 0;
    OK(cl_on_event(stop_after_six, NULL));
    CHECK_EQ(cl_serve(6, serve_address, (void *)(uintptr_t) "127.0.0.1:0"), 0);
    expect_nobody();
}

static void serve_without_the_right(void) {
    long long began;
    int fd;
    if (geteuid() != 0) check_skip("only root can make a namespace in which a port is forbidden");
    if (unshare(CLONE_NEWNET) != 0) check_skip("no network namespace is to be had");
    fd = open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "1024", 4) != 4) check_skip("ip_unprivileged_port_start cannot be set");
    close(fd);
    SYS(setresgid(65534, 65534, 65534));
    SYS(setresuid(65534, 65534, 65534));
    began = now_ms();
    OK(cl_on_event(remember_event, NULL));
    CHECK_EQ(cl_serve(2, serve_address, (void *)(uintptr_t) "0.0.0.0:80"), -EACCES);
    expect_sentence("0.0.0.0:80");
    expect_warnings("0.0.0.0:80", began);
    expect_nobody();
}

/* A refusal by the program's own rules is told once, not twice. */
static void serve_of_what_is_not_allowed(void) {
    const char *allowed[] = {"127.0.0.1:1", NULL};
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.listen_allow = allowed;
    OK(cl_setup_primary(&settings));
    OK(cl_on_event(remember_event, NULL));
    CHECK_EQ(cl_serve(1, serve_address, (void *)(uintptr_t) "127.0.0.1:0"), -EACCES);
    expect_sentence("listen_allow");
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 3); /* each worker's own */
    expect_nobody();
}

static int run_is_over(int result) {
    if (cl_is_worker() == 1) become_worker();
    return result;
}

static void run_of_a_taken_address(void) {
    take_address();
    worker_main = serve_taken;
    use_always(0);
    OK(cl_on_event(remember_event, NULL));
    fork_worker();
    fork_worker();
    CHECK_EQ(run_is_over(cl_run()), -EADDRINUSE);
    expect_sentence(taken);
    expect_nobody();
}

/* Without replacement the end of all is the end, as ever. */
static void run_without_replacement(void) {
    take_address();
    worker_main = serve_taken;
    OK(cl_on_event(remember_event, NULL));
    fork_worker();
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 1);
    expect_nobody();
}

static void never_online(const char *file, const char *script, const char *how) {
    char *arguments[] = {(char *)(uintptr_t)file, (char *)(uintptr_t) "-c", (char *)(uintptr_t)script, NULL};
    cl_spawn_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.file = file;
    options.argv = arguments;
    use_always(0);
    OK(cl_on_event(remember_event, NULL));
    OK(cl_spawn(&options));
    OK(cl_spawn(&options));
    CHECK_EQ(cl_run(), -ENOTCONN);
    expect_sentence(how);
    CHECK(count_events(CL_EVENT_FORK, 0) >= 6);
    CHECK_EQ(count_events(CL_EVENT_ONLINE, 0), 0);
    expect_nobody();
}
static void never_online_exits(void) { never_online("/bin/false", "", "exited with code 1"); }
static void never_online_killed(void) { never_online("/bin/sh", "kill -9 $$", "ended by signal 9"); }

/* -- What goes on ------------------------------------------------------------------------------------------------- */

static void serve_of_who_ends_by_itself(void) {
    use_always(50);
    OK(cl_on_event(stop_after_six, NULL));
    CHECK_EQ(cl_serve(1, ends_at_once, NULL), 0);
    CHECK(count_events(CL_EVENT_FORK, 0) >= 6);
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 0);
    expect_nobody();
}

static int one_of_two(void *unused) {
    (void)unused;
    return listen_on(cl_worker_slot() == 0 ? "127.0.0.1:0" : taken);
}

static void serve_where_one_listens(void) {
    use_always(50);
    take_address();
    OK(cl_on_event(stop_after_six, NULL));
    CHECK_EQ(cl_serve(2, one_of_two, NULL), 0);
    CHECK(count_events(CL_EVENT_FORK, 0) >= 6);
    CHECK(count_events(CL_EVENT_WARNING, 0) >= 1);
    expect_nobody();
}

static int only_the_first(void *unused) {
    (void)unused;
    if (cl_worker_id() != 1) return listen_on(taken);
    OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
    return 1;
}

static void serve_of_what_was_lost(void) {
    use_always(50);
    take_address();
    OK(cl_on_event(stop_after_six, NULL));
    CHECK_EQ(cl_serve(1, only_the_first, NULL), 0);
    CHECK(count_events(CL_EVENT_FORK, 0) >= 6);
    expect_nobody();
}

/* A program with a loop of its own is told, and never ended. */
static void step_is_told(void) {
    long long began = now_ms();
    take_address();
    primary_ready(serve_taken);
    use_always(50);
    fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_EXIT, 0) >= 5, 8000);
    expect_warnings(taken, began);
    finish();
    check_ignore_descriptors = 1;
}

static const check_case_t cases[] = {
    {"serve_of_a_taken_address", serve_of_a_taken_address},
    {"serve_without_the_right", serve_without_the_right},
    {"serve_of_what_is_not_allowed", serve_of_what_is_not_allowed},
    {"run_of_a_taken_address", run_of_a_taken_address},
    {"run_without_replacement", run_without_replacement},
    {"never_online_exits", never_online_exits},
    {"never_online_killed", never_online_killed},
    {"serve_of_who_ends_by_itself", serve_of_who_ends_by_itself},
    {"serve_where_one_listens", serve_where_one_listens},
    {"serve_of_what_was_lost", serve_of_what_was_lost},
    {"step_is_told", step_is_told},
};
CHECK_MAIN(cases)
