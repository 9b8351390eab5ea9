/* A worker that stands still: what waits for it goes to the others, and it takes part again once it moves. */
#include "primary.h"

/* All answered, each within about a second; how many the given worker had. */
static int burst(int port, int how_many, int id) {
    int clients[128], had = 0;
    long long start = now_ms();
    CHECK(how_many <= 128);
    for (int i = 0; i < how_many; i++) clients[i] = connect4(port);
    for (int i = 0; i < how_many; i++) had += answered_by(clients[i]) == id;
    if (now_ms() - start > 1500 * check_slow()) check_fail(__FILE__, __LINE__, "it took %lld ms", now_ms() - start);
    return had;
}

static void stopped(int policy, int spawned) {
    use_exact_turns();
    use_policy(policy);
    primary_ready(serve_any_port);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    CHECK(ask(port) > 0);
    OK(cl_worker_kill(one, SIGSTOP));
    CHECK_EQ(burst(port, 100, one), 0);
    CHECK_EQ(burst(port, 20, one), 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(ask(port), two);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
    OK(cl_worker_kill(one, SIGCONT));
    int again = 0;
    for (long long end = now_ms() + 2000LL * check_slow(); !again && now_ms() < end;) again = ask(port) == one;
    CHECK(again);
    if (policy == CL_SCHED_RR) {
        /* and not just once: in turns as before. */
        int first = ask(port);
        for (int i = 0; i < 40; i++) CHECK_EQ(ask(port), i % 2 == 0 ? one + two - first : first);
    }
    finish();
}

static void stopped_forked(void) { stopped(CL_SCHED_RR, 0); }
static void stopped_shared(void) { stopped(CL_SCHED_NONE, 0); }
static void stopped_spawned(void) {
    if (worker_side()) serve_any_port();
    else stopped(CL_SCHED_RR, 1);
}

/* Busy without looking: from outside the same as stopped. The message says when to begin and for how long. */
static int busy_when_told(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int channel = OK(cl_channel_fd());
    for (;;) {
        char text[16];
        int which = await_either(listener, channel);
        if ((which & 2) != 0 && cl_receive(text, sizeof text, 0) >= 0) {
            OK(cl_send("busy", 4));
            for (long long end = now_ms() + 1200; now_ms() < end;) {}
        } else if ((which & 1) != 0) {
            int connection = cl_accept(listener, NULL, NULL);
            if (connection == -ESHUTDOWN) return 0;
            answer(OK(connection));
        }
    }
}

static void busy(void) {
    primary_ready(busy_when_told);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    OK(cl_worker_send(one, "now", 3));
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, one, 0) >= 0, 3000);
    CHECK_EQ(burst(port, 60, one), 0);
    int again = 0;
    for (long long end = now_ms() + 4000LL * check_slow(); !again && now_ms() < end;) again = ask(port) == one;
    CHECK(again);
    finish();
}

/* All stand still: clients wait, none is refused, and all are served once one moves. */
static void all_stopped(void) {
    int clients[64];
    primary_ready(serve_any_port);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    OK(cl_worker_kill(one, SIGSTOP));
    OK(cl_worker_kill(two, SIGSTOP));
    for (int i = 0; i < 64; i++) clients[i] = connect4(port);
    pump_for(600);
    for (int i = 0; i < 64; i++) CHECK_EQ(readable_within(clients[i], 0), 0);
    OK(cl_worker_kill(two, SIGCONT));
    for (int i = 0; i < 64; i++) CHECK_EQ(answered_by(clients[i]), two);
    OK(cl_worker_kill(one, SIGCONT));
    finish();
}

/* Stopped, and then killed: nothing of what it held was served by nobody or twice. */
static void stopped_and_killed(void) {
    int clients[24];
    primary_ready(serve_any_port);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    OK(cl_worker_kill(one, SIGSTOP));
    for (int i = 0; i < 24; i++) clients[i] = connect4(port);
    turn(0);
    OK(cl_worker_kill(one, SIGKILL));
    for (int i = 0; i < 24; i++) CHECK_EQ(answered_by(clients[i]), two);
    CHECK_EQ(await_exit(one, 3000)->signal, SIGKILL);
    finish();
}

static const check_case_t cases[] = {
    {"stopped_forked", stopped_forked}, {"stopped_shared", stopped_shared}, {"stopped_spawned", stopped_spawned},
    {"busy", busy}, {"all_stopped", all_stopped}, {"stopped_and_killed", stopped_and_killed},
};
CHECK_MAIN(cases)
