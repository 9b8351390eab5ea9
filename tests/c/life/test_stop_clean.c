/* A stop shuts the door first: who had connected is served, who comes later is refused, nobody is reset. */
#include "primary.h"

static int policy = CL_SCHED_RR, slow_ms, hang_slot = -1, with_child, go[2], gone[2];
static char at[128] = "127.0.0.1:0";

static void settle(int delay_ms, int respawn) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = policy;
    settings.drain_delay_ms = delay_ms;
    settings.respawn = respawn;
    OK(cl_setup_primary(&settings));
}

static int serve(void) {
    int listener = cl_listen(at, 0);
    if (listener == -ESHUTDOWN) return 0;
    OK(listener);
    if (with_child && fork() == 0) { /* goes on until the case closes its end */
        char any;
        close(go[1]);
        close(gone[0]);
        _exit(read(go[0], &any, 1) < 0);
    }
    if (cl_worker_slot() == hang_slot) for (;;) pause();
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) return 0;
        OK(connection);
        if (slow_ms > 0) nap(slow_ms);
        answer(connection);
    }
}

/* One client after another until one is refused. Exits 0 if all others were served. */
static void be_clients(int port_pipe) {
    int port, served = 0;
    char text[96];
    if (read(port_pipe, &port, sizeof port) != sizeof port) _exit(2);
    for (;; served++) {
        int client = try_connect4(port);
        if (client == -ECONNREFUSED) break;
        int n = client < 0 ? client : receive_all(client, text, sizeof text);
        if (n <= 0) {
            dprintf(2, "after %d: instead of an answer: %s\n", served, n < 0 ? strerror(-n) : "end of file");
            _exit(1);
        }
        close(client);
    }
    _exit(0);
}

enum { CLIENTS = 3, PRIMARIES = 5, STOPS = 4 };

static void stop_again_and_again(int of_policy) {
    policy = of_policy;
    settle(0, 0);
    primary_ready(serve);
    for (int round = 0; round < STOPS; round++) {
        pid_t clients[CLIENTS];
        int tell[2], port;
        SYS(pipe(tell));
        for (int i = 0; i < CLIENTS; i++)
            if ((clients[i] = SYS(fork())) == 0) be_clients(tell[0]);
        int one = fork_worker(), two = fork_worker();
        port = await_listening(one, 1);
        for (int i = 0; i < CLIENTS; i++) CHECK_EQ(write(tell[1], &port, sizeof port), sizeof port);
        pump_for(10 + 5 * round);
        OK(cl_stop(8000));
        CHECK_EQ(cl_run(), 0);
        CHECK_EQ(await_exit(one, 1)->exit_code + await_exit(two, 1)->exit_code, 0);
        for (int i = 0; i < CLIENTS; i++) WAIT_SUCCESS(clients[i]);
        close(tell[0]);
        close(tell[1]);
        seen_count = 0;
    }
}

/* Twenty stops, by primaries side by side. */
static void under_load(int of_policy) {
    pid_t primaries[PRIMARIES];
    for (int i = 0; i < PRIMARIES; i++) {
        if ((primaries[i] = SYS(fork())) != 0) continue;
        stop_again_and_again(of_policy);
        CHECK(no_child_left());
        CHECK_EQ(count_descriptors(), check_baseline);
        _exit(0);
    }
    for (int i = 0; i < PRIMARIES; i++) WAIT_SUCCESS(primaries[i]);
}

static void under_load_rr(void) { under_load(CL_SCHED_RR); }
static void under_load_none(void) { under_load(CL_SCHED_NONE); }
static void under_load_hash(void) { under_load(CL_SCHED_SOURCE_HASH); }
static void under_load_least(void) { under_load(CL_SCHED_LEAST_LOADED); }
static void under_load_passed(void) {
    use_mechanism("passed");
    under_load(CL_SCHED_RR);
}

static void under_load_passed_hash(void) {
    use_mechanism("passed");
    under_load(CL_SCHED_SOURCE_HASH);
}
static void under_load_passed_least(void) {
    use_mechanism("passed");
    under_load(CL_SCHED_LEAST_LOADED);
}

enum { WAITING = 6 };

/* Six clients wait for two slow workers, or for one where the other hangs; the port. */
static int begin_waiting(int clients[WAITING]) {
    settle(0, 0);
    primary_ready(serve);
    int port = await_listening(fork_worker(), 1);
    await_listening(fork_worker(), 1);
    for (int i = 0; i < WAITING; i++) clients[i] = connect4(port);
    return port;
}

static void those_who_wait(int of_policy, int hangs) {
    int clients[WAITING];
    policy = of_policy;
    slow_ms = hangs ? 0 : 30;
    hang_slot = hangs ? 1 : -1;
    int port = begin_waiting(clients);
    OK(cl_stop(hangs ? 800 : 8000));
    turn(0);
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
    for (int i = 0; i < WAITING; i++) CHECK(answered_by(clients[i]) > 0);
    CHECK_EQ(cl_run(), 0);
}

static void waiting_rr(void) { those_who_wait(CL_SCHED_RR, 0); }
static void waiting_none(void) { those_who_wait(CL_SCHED_NONE, 0); }
static void waiting_hash(void) { those_who_wait(CL_SCHED_SOURCE_HASH, 0); }
static void waiting_least(void) { those_who_wait(CL_SCHED_LEAST_LOADED, 0); }
static void hung_rr(void) { those_who_wait(CL_SCHED_RR, 1); }
static void hung_passed(void) {
    use_mechanism("passed");
    those_who_wait(CL_SCHED_RR, 1);
}

static void on_unix(int of_policy) {
    char path[108];
    int clients[3];
    policy = of_policy;
    slow_ms = 30;
    snprintf(path, sizeof path, "%s", case_path("door"));
    snprintf(at, sizeof at, "unix:%s", path);
    settle(0, 0);
    primary_ready(serve);
    await_listening(fork_worker(), 1);
    for (int i = 0; i < 3; i++) clients[i] = OK(try_connect_unix(path));
    long long start = now_ms();
    OK(cl_stop(8000));
    turn(0);
    int late = try_connect_unix(path);
    CHECK(late == -ECONNREFUSED || late == -ENOENT);
    for (int i = 0; i < 3; i++) CHECK(answered_by(clients[i]) > 0);
    CHECK_EQ(cl_run(), 0);
    CHECK(now_ms() - start < 2500 * check_slow()); /* and not when everybody is told at the latest */
}

static void unix_rr(void) { on_unix(CL_SCHED_RR); }
static void unix_none(void) { on_unix(CL_SCHED_NONE); }

/* The socket is the program's: who comes during the stop and after it waits for its owner. */
static void inherited(int of_policy) {
    policy = of_policy;
    int socket = plain_listener(0), port = system_port(socket);
    snprintf(at, sizeof at, "fd:%d", socket);
    settle(0, 0);
    primary_ready(serve);
    await_listening(fork_worker(), 1);
    CHECK(ask(port) > 0);
    OK(cl_stop(3000));
    turn(0);
    int during = connect4(port);
    CHECK_EQ(cl_run(), 0);
    int after = connect4(port);
    close(during);
    close(after);
    close(socket);
    check_ignore_descriptors = 1;
}

static void inherited_rr(void) { inherited(CL_SCHED_RR); }
static void inherited_none(void) { inherited(CL_SCHED_NONE); }

/* A child of a worker's own lives on, and nobody hangs because of it. */
static void child_lives_on(int of_policy) {
    char any;
    policy = of_policy;
    with_child = 1;
    SYS(pipe(go));
    SYS(pipe(gone));
    settle(0, 0);
    primary_ready(serve);
    int port = await_listening(fork_worker(), 1);
    CHECK(ask(port) > 0);
    OK(cl_stop(3000));
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
    close(plain_listener(port));
    close(go[1]);
    close(gone[1]);
    CHECK_EQ(read(gone[0], &any, 1), 0);
    check_ignore_descriptors = 1;
}

static void child_rr(void) { child_lives_on(CL_SCHED_RR); }
static void child_none(void) { child_lives_on(CL_SCHED_NONE); }
static void child_least(void) { child_lives_on(CL_SCHED_LEAST_LOADED); }

/* It goes on serving, and a second stop that is to be quicker ends that. */
static void drain_delay(void) {
    settle(20000, 0);
    primary_ready(serve);
    int port = await_listening(fork_worker(), 1);
    OK(cl_stop(4000));
    turn(0);
    CHECK(ask(port) > 0);
    OK(cl_stop(4000)); /* no other */
    turn(0);
    CHECK(ask(port) > 0);
    long long start = now_ms();
    OK(cl_stop(3000));
    CHECK_EQ(cl_run(), 0);
    CHECK(now_ms() - start < 10000);
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
}

static void drain_delay_ends(void) {
    settle(60, 0);
    primary_ready(serve);
    int one = fork_worker(), port = await_listening(one, 1);
    OK(cl_stop(4000));
    turn(0);
    CHECK(ask(port) > 0);
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(await_exit(one, 1)->exit_code, 0);
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
}

/* The last worker leaves for good; while it serves who had come, another opens the address anew. */
static void last_leaves(int of_policy) {
    int clients[3];
    policy = of_policy;
    slow_ms = 100;
    snprintf(at, sizeof at, "127.0.0.1:%d", free_port());
    settle(0, CL_RESPAWN_NEVER);
    primary_ready(serve);
    int one = fork_worker(), port = await_listening(one, 1);
    for (int i = 0; i < 3; i++) clients[i] = connect4(port);
    OK(cl_worker_disconnect(one));
    turn(0);
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
    int two = fork_worker();
    await_listening(two, 1);
    CHECK_EQ(ask(port), two);
    for (int i = 0; i < 3; i++) CHECK_EQ(answered_by(clients[i]), one);
    await_exit(one, 3000);
    finish();
}

static void last_leaves_rr(void) { last_leaves(CL_SCHED_RR); }
static void last_leaves_least(void) { last_leaves(CL_SCHED_LEAST_LOADED); }

static const check_case_t cases[] = {
    {"under_load_rr", under_load_rr},       {"under_load_passed", under_load_passed}, {"under_load_none", under_load_none},
    {"under_load_hash", under_load_hash},   {"under_load_least", under_load_least},   {"under_load_passed_hash", under_load_passed_hash},
    {"under_load_passed_least", under_load_passed_least}, {"waiting_rr", waiting_rr},
    {"waiting_none", waiting_none},         {"waiting_hash", waiting_hash},           {"waiting_least", waiting_least},
    {"hung_rr", hung_rr},                   {"hung_passed", hung_passed},             {"unix_rr", unix_rr},
    {"unix_none", unix_none},               {"inherited_rr", inherited_rr},           {"inherited_none", inherited_none},
    {"child_rr", child_rr},                 {"child_none", child_none},               {"child_least", child_least},
    {"drain_delay", drain_delay},           {"drain_delay_ends", drain_delay_ends},   {"last_leaves_rr", last_leaves_rr},
    {"last_leaves_least", last_leaves_least},
};
CHECK_MAIN(cases)
