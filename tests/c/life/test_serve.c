/* cl_serve: workers forked, supervised and replaced until a stop, in one call. */
#include "primary.h"
#include <pthread.h>
#include <sched.h>

/* The port goes to whoever drives the server through this pipe; so do reports of the workers. */
static int report_pipe[2];

static void report(const char *word, int number) {
    char line[64];
    int n = snprintf(line, sizeof line, "%s %d\n", word, number);
    CHECK_EQ(write(report_pipe[1], line, (size_t)n), n);
}

static int expect_report(const char *word) {
    char line[64], found[32] = "";
    int number = -1;
    if (!readable_within(report_pipe[0], 8000 * check_slow())) check_fail(__FILE__, __LINE__, "nobody says \"%s\"", word);
    CHECK(receive_line(report_pipe[0], line, sizeof line) > 0);
    CHECK_EQ(sscanf(line, "%31s %d", found, &number), 2);
    if (strcmp(found, word) != 0) check_fail(__FILE__, __LINE__, "\"%s\" instead of \"%s\"", line, word);
    return number;
}

static int serve_and_report(void *argument) {
    CHECK_EQ(cl_is_worker(), 1);
    CHECK(argument == (void *)report_pipe);
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    report("port", bound_port(listener));
    serve_listener(listener);
    return 0;
}

static int client_ask(int port) {
    char text[96];
    int client = connect4(port);
    int n = receive_all(client, text, sizeof text);
    close(client);
    return n > 0 ? atoi(text) : n;
}

/* Runs the driver as a plain child while this process is in cl_serve. */
static pid_t drive_by(void (*driver)(pid_t primary)) {
    pid_t primary = getpid();
    SYS(pipe2(report_pipe, O_CLOEXEC));
    pid_t pid = SYS(fork());
    if (pid != 0) return pid;
    driver(primary);
    exit(0);
}

static int first_id = 1;

static void ask_kill_and_stop(pid_t primary) {
    int port = expect_report("port"), pids[3], ids[3];
    for (int i = 1; i < 3; i++) CHECK_EQ(expect_report("port"), port);
    for (int i = 0; i < 3; i++) {
        char text[96];
        int client = connect4(port), slot;
        CHECK(receive_all(client, text, sizeof text) > 0);
        CHECK_EQ(sscanf(text, "%d %d %d", &ids[i], &slot, &pids[i]), 3);
        CHECK(slot >= 0 && slot < 3);
        close(client);
    }
    CHECK(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    /* One is killed: it is replaced, under the same port. */
    SYS(kill(pids[1], SIGKILL));
    CHECK_EQ(expect_report("port"), port);
    int newest = 0;
    for (int i = 0; i < 6; i++) {
        int id = client_ask(port);
        CHECK(id > 0 && id != ids[1]);
        if (id > newest) newest = id;
    }
    CHECK_EQ(newest, first_id + 3);
    SYS(kill(primary, SIGTERM));
}

static void until_stopped(void) {
    use_exact_turns();
    int before = count_descriptors();
    pid_t driver = drive_by(ask_kill_and_stop);
    CHECK_EQ(cl_serve(3, serve_and_report, report_pipe), 0);
    CHECK_EQ(cl_is_primary(), 1);
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    WAIT_SUCCESS(driver);
    close(report_pipe[0]);
    close(report_pipe[1]);
    /* What stays open is the engine itself; a second call adds nothing to it. */
    int first = count_descriptors();
    CHECK(first <= before + 8);
    first_id += 4;
    driver = drive_by(ask_kill_and_stop);
    CHECK_EQ(cl_serve(3, serve_and_report, report_pipe), 0);
    WAIT_SUCCESS(driver);
    close(report_pipe[0]);
    close(report_pipe[1]);
    CHECK_EQ(count_descriptors(), first);
    check_baseline = first;
}

/* The worker function's result is the exit code, by way of exit(3): its handlers run and stdio is flushed. */
static void at_exit(void) { report("handler", cl_worker_slot()); }

static int exit_properly(void *argument) {
    (void)argument;
    if (cl_worker_id() > 2) { /* the replacement of the first */
        char text[8];
        while (cl_receive(text, sizeof text, -1) >= 0) {}
        return 0;
    }
    atexit(at_exit);
    setvbuf(stdout, NULL, _IOFBF, 4096);
    dup2(report_pipe[1], 1);
    printf("flushed %d\n", cl_worker_slot());
    return 23;
}

static void stop_at_second_exit(const cl_event_t *event, void *user) {
    remember_event(event, user);
    if (event->type == CL_EVENT_EXIT && event->worker_id <= 2) CHECK_EQ(event->exit_code, 23);
    if (event->type == CL_EVENT_ONLINE && event->worker_id == 4) OK(cl_stop(2000));
}

static void result_is_exit_code(void) {
    int handlers = 0, flushed = 0;
    SYS(pipe2(report_pipe, O_CLOEXEC));
    OK(cl_on_event(stop_at_second_exit, NULL));
    CHECK_EQ(cl_serve(2, exit_properly, NULL), 0);
    close(report_pipe[1]);
    char line[64];
    while (receive_line(report_pipe[0], line, sizeof line) > 0) {
        handlers += strncmp(line, "handler", 7) == 0;
        flushed += strncmp(line, "flushed", 7) == 0;
    }
    CHECK_EQ(handlers, 2);
    CHECK_EQ(flushed, 2);
    CHECK_EQ(count_events(CL_EVENT_FORK, 0), 4);
    close(report_pipe[0]);
    check_ignore_descriptors = 1;
}

/* Zero workers means as many as this process may use processors. */
static int wait_for_end(void *argument) {
    char text[8];
    (void)argument;
    while (cl_receive(text, sizeof text, -1) >= 0) {}
    return 0;
}

static int wanted_workers, most_workers;

static void stop_when_enough(const cl_event_t *event, void *user) {
    (void)user;
    int count = OK(cl_worker_ids(NULL, 0));
    if (count > most_workers) most_workers = count;
    if (event->type == CL_EVENT_ONLINE && --wanted_workers == 0) OK(cl_stop(2000));
}

static void default_count(void) {
    cpu_set_t set;
    SYS(sched_getaffinity(0, sizeof set, &set));
    OK(cl_on_event(stop_when_enough, NULL));
    wanted_workers = CPU_COUNT(&set);
    int usable = wanted_workers;
    int quota = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file != NULL) {
        quota = fscanf(file, "%d", &quota) == 1; /* a number and not "max": fewer may be right */
        fclose(file);
    }
    if (!quota) {
        CHECK_EQ(cl_serve(0, wait_for_end, NULL), 0);
        CHECK_EQ(most_workers, usable);
    }
    /* Confined to one processor, one worker. */
    int cpu = 0;
    while (!CPU_ISSET(cpu, &set)) cpu++;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    SYS(sched_setaffinity(0, sizeof set, &set));
    wanted_workers = 1;
    most_workers = 0;
    CHECK_EQ(cl_serve(0, wait_for_end, NULL), 0);
    CHECK_EQ(most_workers, 1);
    check_ignore_descriptors = 1;
}

/* Called by a program that was started as a worker, it is the worker. */
static int serve_as_worker(void *argument) {
    CHECK_EQ(cl_is_worker(), 1);
    CHECK(argument == (void *)&wanted_workers);
    OK(cl_send("served", 6));
    return 31;
}

static void in_spawned_worker(void) {
    if (worker_side()) {
        int result = cl_serve(5, serve_as_worker, &wanted_workers);
        CHECK_EQ(result, 31);
        CHECK(no_child_left());
        exit(result);
    }
    primary_ready(leave_at_once);
    int id = spawn_worker();
    CHECK_EQ(await_exit(id, 5000)->exit_code, 31);
    CHECK_EQ(count_events(CL_EVENT_MESSAGE, id), 1);
    finish();
}

/* SIGINT as well, and the dispositions are the program's again afterwards; with the settings the program made. */
static void interrupt(pid_t primary) {
    expect_report("port");
    expect_report("port");
    SYS(kill(primary, SIGINT));
}

static void stopped_by_sigint(void) {
    struct sigaction before_term, before_int, now;
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = CL_SCHED_NONE;
    settings.respawn = CL_RESPAWN_NEVER;
    OK(cl_setup_primary(&settings));
    SYS(sigaction(SIGTERM, NULL, &before_term));
    SYS(sigaction(SIGINT, NULL, &before_int));
    OK(cl_on_event(remember_event, NULL));
    pid_t driver = drive_by(interrupt);
    CHECK_EQ(cl_serve(2, serve_and_report, report_pipe), 0);
    SYS(sigaction(SIGTERM, NULL, &now));
    CHECK(now.sa_handler == before_term.sa_handler && plain_flags(&now) == plain_flags(&before_term));
    SYS(sigaction(SIGINT, NULL, &now));
    CHECK(now.sa_handler == before_int.sa_handler && plain_flags(&now) == plain_flags(&before_int));
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, 0, 0)].mechanism, CL_MECHANISM_SHARED);
    CHECK_EQ(count_events(CL_EVENT_FORK, 0), 2);
    WAIT_SUCCESS(driver);
    check_ignore_descriptors = 1;
}

/* Told never to replace, it ends with its last worker. */
static int end_at_once(void *argument) {
    (void)argument;
    return 2;
}

static void without_respawn(void) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_NEVER;
    OK(cl_setup_primary(&settings));
    OK(cl_on_event(remember_event, NULL));
    CHECK_EQ(cl_serve(3, end_at_once, NULL), 0);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 3);
    CHECK_EQ(count_events(CL_EVENT_FORK, 0), 3);
    check_ignore_descriptors = 1;
}

static void *wait_here(void *argument) {
    char byte;
    while (read(*(int *)argument, &byte, 1) < 0) {}
    return NULL;
}

static void in_threaded_host(void) {
    pthread_t thread;
    int ends[2];
    SYS(pipe2(ends, O_CLOEXEC));
    CHECK_EQ(pthread_create(&thread, NULL, wait_here, &ends[0]), 0);
    CHECK_EQ(cl_serve(2, end_at_once, NULL), CL_ETHREADS);
    CHECK(no_child_left());
    close(ends[1]);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    close(ends[0]);
    check_ignore_descriptors = 1;
}

static const check_case_t cases[] = {
    {"until_stopped", until_stopped},         {"result_is_exit_code", result_is_exit_code}, {"default_count", default_count},
    {"in_spawned_worker", in_spawned_worker}, {"stopped_by_sigint", stopped_by_sigint},     {"without_respawn", without_respawn},
    {"in_threaded_host", in_threaded_host},
};
CHECK_MAIN(cases)
