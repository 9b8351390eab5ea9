/* cl_close in one worker: what waited for it there goes to the others. */
#include "primary.h"

/* Slot 0 lets connections wait until it is told to close; what it closed stays closed. The others serve. */
static int close_when_told(void) {
    char text[8];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    if (cl_worker_slot() != 0) return serve_listener(listener);
    OK(cl_receive(text, sizeof text, -1));
    OK(cl_close(listener));
    CHECK(fcntl(listener, F_GETFD) == -1);
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EBADF);
    OK(cl_send("closed", 6));
    OK(cl_receive(text, sizeof text, -1));
    return serve_any_port();
}

static void handed_on(int policy, int spawned) {
    int clients[14];
    use_exact_turns();
    use_policy(policy);
    primary_ready(close_when_told);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    for (int i = 0; i < 14; i++) clients[i] = connect4(port);
    turn(0);
    OK(cl_worker_send(one, "close", 5));
    for (int i = 0; i < 14; i++) CHECK_EQ(answered_by(clients[i]), two);
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, one, 0) >= 0, 3000);
    for (int i = 0; i < 6; i++) CHECK_EQ(ask(port), two);
    /* It may take part again. */
    OK(cl_worker_send(one, "again", 5));
    CHECK_EQ(await_listening(one, 2), port);
    int first = ask(port), second = ask(port);
    if (policy == CL_SCHED_RR) CHECK(first != second);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
    finish();
}

static void forked(void) { handed_on(CL_SCHED_RR, 0); }
static void forked_shared(void) { handed_on(CL_SCHED_NONE, 0); }
static void spawned(void) {
    if (worker_side()) close_when_told();
    else handed_on(CL_SCHED_RR, 1);
}

/* Closing, listening and accepting go round and round under load: nobody is lost, nothing grows. */
static int open_and_close(void) {
    /* The last to close an address gives it up; slot 2 is never that one. */
    if (cl_worker_slot() == 2) return serve_any_port();
    for (int round = 0;; round++) {
        int listener = cl_listen("127.0.0.1:0", 0);
        if (listener == -ESHUTDOWN) return 0;
        OK(listener);
        for (int i = 0; i < 1 + round % 3; i++) {
            int connection = cl_accept(listener, NULL, NULL);
            if (connection == -ESHUTDOWN) break;
            answer(OK(connection));
        }
        OK(cl_close(listener));
    }
}

static void round_and_round(int policy) {
    use_policy(policy);
    primary_ready(open_and_close);
    int one = fork_worker(), two = fork_worker(), three = fork_worker();
    int port = await_listening(three, 1);
    CHECK_EQ(await_listening(one, 1), port);
    CHECK_EQ(await_listening(two, 1), port);
    int before = 0;
    for (int i = 0; i < 100; i++) {
        int clients[6];
        for (int j = 0; j < 6; j++) clients[j] = connect4(port);
        for (int j = 0; j < 6; j++) {
            int id = answered_by(clients[j]);
            CHECK(id == one || id == two || id == three);
        }
        if (i == 20) before = count_descriptors();
    }
    /* At most a mailbox for each of the two and what is in the middle of being closed. */
    CHECK(count_descriptors() <= before + 6);
    finish();
}

static void round_and_round_passed(void) { round_and_round(CL_SCHED_RR); }
static void round_and_round_shared(void) { round_and_round(CL_SCHED_NONE); }

/* A worker that exits without closing anything has closed everything. */
static int exit_after_some(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    if (cl_worker_slot() != 0) return serve_listener(listener);
    for (int i = 0; i < 3; i++) answer(OK(cl_accept(listener, NULL, NULL)));
    return 0;
}

static void exit_without_close(void) {
    use_exact_turns();
    primary_ready(exit_after_some);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    int clients[14], had = 0;
    for (int i = 0; i < 14; i++) clients[i] = connect4(port);
    for (int i = 0; i < 14; i++) had += answered_by(clients[i]) == one;
    CHECK_EQ(had, 3);
    CHECK_EQ(await_exit(one, 3000)->exit_code, 0);
    CHECK_EQ(ask(port), two);
    finish();
}

static const check_case_t cases[] = {
    {"forked", forked},   {"forked_shared", forked_shared}, {"spawned", spawned},
    {"round_and_round_passed", round_and_round_passed},     {"round_and_round_shared", round_and_round_shared},
    {"exit_without_close", exit_without_close},
};
CHECK_MAIN(cases)
