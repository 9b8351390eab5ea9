/* The life of a worker as its primary is told it: each event once, in order, with its fields. */
#include "primary.h"

static int live(void) {
    char text[8];
    char address[PATH_MAX];
    OK(cl_listen("127.0.0.1:0", 0));
    snprintf(address, sizeof address, "unix:%s", case_path("listening"));
    OK(cl_listen(address, 0));
    OK(cl_listen("udp:127.0.0.1:0", 0));
    OK(cl_send("binary\0text", 11));
    OK(cl_send("", 0));
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    return 42;
}

static void full_life(int policy, int spawned) {
    static const int order[] = {CL_EVENT_FORK,      CL_EVENT_ONLINE,  CL_EVENT_LISTENING, CL_EVENT_LISTENING, CL_EVENT_LISTENING,
                                CL_EVENT_MESSAGE,   CL_EVENT_MESSAGE, CL_EVENT_DISCONNECT, CL_EVENT_EXIT};
    use_policy(policy);
    primary_ready(live);
    int id = spawned ? spawn_worker() : fork_worker();
    int pid = pid_of(id);
    CHECK_EQ(seen_count, 0); /* events are told in a turn, never inside another call */
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 2, 5000);
    OK(cl_worker_disconnect(id));
    await_exit(id, 3000);
    pump_for(50);
    CHECK_EQ(seen_count, 10);
    /* It is ready with its first listener; the others may come in the same turn. */
    int ready = find_event(CL_EVENT_READY, id, 0);
    CHECK(ready > 2 && ready < 6);
    CHECK_EQ(seen[ready].generation, 1);
    memmove(&seen[ready], &seen[ready + 1], (size_t)(9 - ready) * sizeof seen[0]);
    for (int i = 0; i < 9; i++) {
        if (seen[i].type != order[i]) check_fail(__FILE__, __LINE__, "event %d is of type %d, not %d", i, seen[i].type, order[i]);
        CHECK_EQ(seen[i].worker_id, id);
        CHECK_EQ(seen[i].pid, pid);
    }
    int mechanism = policy == CL_SCHED_NONE ? CL_MECHANISM_SHARED : expected_mechanism();
    CHECK(seen[2].port > 0);
    CHECK(strstr(seen[2].address, "127.0.0.1") != NULL);
    CHECK_EQ(seen[2].mechanism, mechanism);
    char address[PATH_MAX];
    snprintf(address, sizeof address, "unix:%s", case_path("listening"));
    CHECK(strcmp(seen[3].address, address) == 0);
    CHECK_EQ(seen[3].port, -1);
    /* A socket file is passed on, where nothing else was chosen. */
    int has_file = policy == CL_SCHED_NONE || is_forced("rotation") ? mechanism : CL_MECHANISM_PASSED;
    CHECK_EQ(seen[3].mechanism, has_file);
    CHECK(seen[4].port > 0);
    CHECK_EQ(seen[5].length, 11);
    CHECK(memcmp(seen[5].data, "binary\0text", 11) == 0);
    CHECK_EQ(seen[6].length, 0);
    CHECK_EQ(seen[8].exit_code, 42);
    CHECK_EQ(seen[8].signal, 0);
    finish();
}

static void forked(void) { full_life(CL_SCHED_RR, 0); }
static void forked_shared(void) { full_life(CL_SCHED_NONE, 0); }
static void spawned(void) {
    if (worker_side()) exit(live());
    else full_life(CL_SCHED_RR, 1);
}

/* How a worker ended, from each way to end. */
static int end_somehow(void) {
    switch (cl_worker_slot()) {
    case 0: exit(0);
    case 1: _exit(255);
    case 2: raise(SIGKILL); break;
    case 3: raise(SIGUSR2); break;
    case 4: signal(SIGABRT, SIG_DFL); raise(SIGABRT); break;
    case 5: exit(256 + 3);
    default: break;
    }
    return 0;
}

static void ends(void) {
    static const int codes[] = {0, 255, -1, -1, -1, 3}, signals[] = {0, 0, SIGKILL, SIGUSR2, SIGABRT, 0};
    int ids[6];
    primary_ready(end_somehow);
    for (int i = 0; i < 6; i++) ids[i] = fork_worker();
    for (int i = 0; i < 6; i++) {
        const seen_t *end = await_exit(ids[i], 3000);
        CHECK_EQ(end->exit_code, codes[i]);
        CHECK_EQ(end->signal, signals[i]);
        CHECK_EQ(count_events(CL_EVENT_EXIT, ids[i]), 1);
        CHECK_EQ(count_events(CL_EVENT_FORK, ids[i]), 1);
        CHECK(count_events(CL_EVENT_DISCONNECT, ids[i]) <= 1);
    }
    finish();
}

/* A program that never takes its HELLO: it is never online, but its end is told. */
static void stranger(void) {
    cl_spawn_options_t options;
    char program[] = "/bin/sh", flag[] = "-c", script[] = "exit 6";
    char *argv[] = {program, flag, script, NULL};
    primary_ready(leave_at_once);
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    int id = OK(cl_spawn(&options));
    CHECK_EQ(await_exit(id, 3000)->exit_code, 6);
    CHECK_EQ(count_events(CL_EVENT_ONLINE, id), 0);
    CHECK_EQ(count_events(CL_EVENT_FORK, id), 1);
    finish();
}

static size_t told_size;
static int told_first, told_second;

static void first_callback(const cl_event_t *event, void *user) {
    told_size = event->size;
    CHECK(user == (void *)&told_first);
    told_first++;
}

static void second_callback(const cl_event_t *event, void *user) {
    (void)event;
    CHECK(user == (void *)&told_second);
    told_second++;
}

/* One callback at a time: a later one takes the place of the first. cl_step counts what it told. */
static void callbacks(void) {
    primary_ready(serve_any_port);
    OK(cl_on_event(first_callback, &told_first));
    int id = fork_worker(), counted = 0;
    while (told_first < 4) counted += turn(1000); /* forked, online, listening, ready */
    CHECK_EQ(counted, told_first);
    CHECK(told_size >= sizeof(cl_event_t) - sizeof(int));
    OK(cl_on_event(second_callback, &told_second));
    OK(cl_worker_kill(id, SIGTERM));
    while (cl_worker_ids(NULL, 0) > 0) turn(1000);
    pump_for(20);
    CHECK_EQ(told_first, 4);
    CHECK(told_second >= 1);
    OK(cl_on_event(remember_event, NULL));
    finish();
}

/* Without any callback everything goes on; nobody is told. */
static void no_callback(void) {
    int id = OK(cl_fork());
    if (id == 0) {
        OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
        OK(cl_send("hello", 5));
        _exit(0);
    }
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    check_ignore_descriptors = 1;
}

static void states(void) {
    cl_worker_info_t info;
    primary_ready(live);
    ZERO(info);
    info.size = sizeof info;
    int id = fork_worker();
    OK(cl_worker_info(id, &info));
    CHECK(info.state == CL_WORKER_STARTING || info.state == CL_WORKER_ONLINE);
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 2, 5000);
    OK(cl_worker_info(id, &info));
    CHECK_EQ(info.state, CL_WORKER_LISTENING);
    CHECK_EQ(info.load, 0);
    OK(cl_worker_kill(id, SIGSTOP));
    OK(cl_worker_disconnect(id));
    OK(cl_worker_info(id, &info));
    CHECK_EQ(info.state, CL_WORKER_DISCONNECTING);
    OK(cl_worker_kill(id, SIGCONT));
    await_exit(id, 3000);
    CHECK_EQ(cl_worker_info(id, &info), -ESRCH);
    finish();
}

/* The load a worker tells is what its primary reads; the newest counts. */
static int tell_load(void) {
    char text[8];
    for (unsigned load = 0; load < 50; load++) OK(cl_set_load(load));
    OK(cl_set_load(4000000000U));
    OK(cl_send("told", 4));
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    return 0;
}

static void load(int spawned) {
    cl_worker_info_t info;
    primary_ready(tell_load);
    int id = spawned ? spawn_worker() : fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 5000);
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    CHECK_EQ(info.load, 4000000000U);
    finish();
}

static void load_forked(void) { load(0); }
static void load_spawned(void) {
    if (worker_side()) exit(tell_load());
    else load(1);
}

static const check_case_t cases[] = {
    {"forked", forked}, {"forked_shared", forked_shared}, {"spawned", spawned},   {"ends", ends},
    {"stranger", stranger}, {"callbacks", callbacks},     {"no_callback", no_callback}, {"states", states},
    {"load_forked", load_forked}, {"load_spawned", load_spawned},
};
CHECK_MAIN(cases)
