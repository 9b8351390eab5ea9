/* With a small limit of descriptors workers listen wherever they may: others can join what is open, clients are served, and a worker that
 * dies is replaced and listens again. */
#include "kernel.h"

enum { ADDRESSES = 150, LIMIT = 256 };

/* As many as it gets, all on the same ports in each worker. */
static int listen_and_serve(void) {
    int listeners[ADDRESSES], count = 0, code = 0;
    char text[32];
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = "127.0.0.1:0";
    long long deadline = now_ms() + 5000LL * check_slow();
    while (count < ADDRESSES && (code >= 0 || (count == 0 && now_ms() < deadline))) {
        /* What its predecessor had is free a moment later, and another worker may be quicker. */
        if (code < 0) nap(20);
        code = cl_listen_with(&options);
        if (code == -ESHUTDOWN) return 0;
        if (code >= 0) listeners[count++] = code;
    }
    CHECK_EQ(code, -EMFILE);
    CHECK(count > 0);
    snprintf(text, sizeof text, "%d", count);
    OK(cl_send(text, strlen(text)));
    /* Some are closed and had again, whatever numbers that frees in the primary. */
    for (int i = 1; i < count && i < 9; i++) {
        OK(cl_close(listeners[i]));
        listeners[i] = cl_listen("127.0.0.1:0", 0);
    }
    int result = serve_listener(listeners[0]);
    for (int i = 1; i < count; i++)
        if (listeners[i] >= 0) OK(cl_close(listeners[i]));
    return result;
}

static void everybody_listens_everywhere(const char *mechanism) {
    use_mechanism(mechanism);
    struct rlimit limit;
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    OK(cl_setup_primary(&settings));
    primary_ready(listen_and_serve);
    limit.rlim_cur = LIMIT;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    int ids[2];
    for (int i = 0; i < 2; i++) {
        ids[i] = fork_worker();
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, ids[i]) == 1, 8000);
    }
    int port = await_listening(ids[0], 1);
    /* Clients at once, each of which is a descriptor for a moment where connections are passed. */
    int clients[16];
    for (int i = 0; i < 16; i++) clients[i] = connect4(port);
    for (int i = 0; i < 16; i++) answered_by(clients[i]);
    for (int round = 0; round < 4; round++) {
        int before = count_events(CL_EVENT_MESSAGE, 0), dying = ids[round % 2];
        OK(cl_worker_kill(dying, SIGKILL));
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, 0) == before + 1, 8000);
        ids[round % 2] = seen[find_event(CL_EVENT_MESSAGE, 0, before)].worker_id;
        CHECK(ids[round % 2] != dying);
    }
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_WARNING) CHECK(strstr(seen[i].data, "replaced") == NULL);
    for (int i = 0; i < 16; i++) clients[i] = connect4(port);
    for (int i = 0; i < 16; i++) answered_by(clients[i]);
    finish();
}

/* Slot 0 serves one address. The others take what they get, slot 1 first, and go on asking. */
static int serve_among_greedy(void) {
    int first = cl_listen("127.0.0.1:0", 0), told = 0;
    if (first == -ESHUTDOWN) return 0; /* the end has begun */
    OK(first);
    if (cl_worker_slot() == 0) return serve_listener(first);
    while (!readable_within(OK(cl_channel_fd()), 1)) {
        int code = cl_listen("127.0.0.1:0", 0);
        if (code == -ESHUTDOWN) break;
        if (code < 0 && !told++) OK(cl_send("full", 4));
    }
    return 0;
}

/* What a dead worker gives back others take at once. Its replacement serves all the same, in its first life. */
static void serves_among_greedy(const char *mechanism) {
    use_mechanism(mechanism);
    struct rlimit limit;
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    OK(cl_setup_primary(&settings));
    primary_ready(serve_among_greedy);
    limit.rlim_cur = LIMIT;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    int victim = fork_worker();
    await_listening(victim, 1);
    for (int i = 0; i < 2; i++) {
        int greedy = fork_worker();
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, greedy) > 0, 15000);
    }
    for (int round = 0; round < 3; round++) {
        int forks = count_events(CL_EVENT_FORK, 0);
        OK(cl_worker_kill(victim, SIGKILL));
        PUMP_UNTIL(count_events(CL_EVENT_FORK, 0) > forks, 8000);
        victim = seen[find_event(CL_EVENT_FORK, 0, forks)].worker_id;
        await_listening(victim, 1);
    }
    finish();
}

static void passed(void) { everybody_listens_everywhere("passed"); }

static void kernel(void) {
    begin_kernel();
    everybody_listens_everywhere("kernel");
}

static void greedy_passed(void) { serves_among_greedy("passed"); }

static void greedy_kernel(void) {
    begin_kernel();
    serves_among_greedy("kernel");
}

static const check_case_t cases[] = {
    {"passed", passed},
    {"kernel", kernel},
    {"greedy_passed", greedy_passed},
    {"greedy_kernel", greedy_kernel},
};
CHECK_MAIN(cases)
