/* A graceful end: the queue is served to its last connection, then -ESHUTDOWN, and no new work comes. */
#include "primary.h"

/* Waits until it is asked to leave, and only then looks into its queue. */
static int serve_late(void) {
    char text[64];
    int served = 0;
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    if (cl_worker_slot() != 0) return serve_listener(listener);
    OK(cl_send("ready", 5));
    while (cl_receive(text, sizeof text, -1) >= 0) {}
    CHECK_EQ(cl_receive(text, sizeof text, -1), -ESHUTDOWN);
    CHECK_EQ(readable_within(OK(cl_channel_fd()), 1000), 1);
    CHECK_EQ(readable_within(listener, 3000), 1);
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        answer(OK(connection));
        served++;
    }
    /* It stays so, and the descriptor stays readable, so that no loop waits for it in vain. */
    CHECK_EQ(readable_within(listener, 0), 1);
    for (int i = 0; i < 3; i++) CHECK_EQ(cl_accept(listener, NULL, NULL), -ESHUTDOWN);
    CHECK_EQ(cl_listen("127.0.0.1:0", 0), -ESHUTDOWN);
    CHECK_EQ(cl_listen("0.0.0.0:0", 0), -ESHUTDOWN);
    int n = snprintf(text, sizeof text, "served %d", served);
    OK(cl_send(text, (size_t)n)); /* what it has to say still arrives */
    OK(cl_close(listener));
    return 7;
}

/* The only worker holds some unread when it is asked to leave: those it was given it serves itself. */
static void queue_is_served(int spawned) {
    int clients[4];
    use_exact_turns();
    primary_ready(serve_late);
    int one = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(one, 1);
    for (int i = 0; i < 4; i++) clients[i] = connect4(port);
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    do {
        turn(10);
        OK(cl_worker_info(one, &info));
    } while (info.delivered < 4);
    OK(cl_worker_disconnect(one));
    /* New ones are nobody's until there is another worker. */
    int late = connect4(port);
    for (int i = 0; i < 4; i++) CHECK_EQ(answered_by(clients[i]), one);
    const seen_t *end = await_exit(one, 3000);
    CHECK_EQ(end->exit_code, 7);
    CHECK_EQ(end->signal, 0);
    CHECK(strcmp(seen[find_event(CL_EVENT_MESSAGE, one, 1)].data, "served 4") == 0);
    CHECK(find_event(CL_EVENT_MESSAGE, one, 1) < find_event(CL_EVENT_DISCONNECT, one, 0));
    CHECK(find_event(CL_EVENT_DISCONNECT, one, 0) < find_event(CL_EVENT_EXIT, one, 0));
    CHECK_EQ(readable_within(late, 0), 0);
    worker_main = serve_any_port;
    if (spawned) {
        close(late);
    } else {
        int two = fork_worker();
        CHECK_EQ(answered_by(late), two);
    }
    finish();
}

static void queue_is_served_forked(void) { queue_is_served(0); }
static void queue_is_served_spawned(void) {
    if (worker_side()) exit(serve_late());
    else queue_is_served(1);
}

/* Under load, one after the other is asked to leave and replaced: nobody notices. */
static void rolling(int policy, int spawned) {
    int ids[3], port = 0;
    use_policy(policy);
    primary_ready(serve_any_port);
    for (int i = 0; i < 3; i++) ids[i] = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < 3; i++) port = await_listening(ids[i], 1);
    for (int round = 0; round < 12; round++) {
        int clients[12], leaving = ids[round % 3];
        for (int i = 0; i < 12; i++) {
            clients[i] = connect4(port);
            if (i == 6) {
                OK(cl_worker_disconnect(leaving));
                ids[round % 3] = spawned ? spawn_worker() : fork_worker();
            }
        }
        for (int i = 0; i < 12; i++) CHECK(answered_by(clients[i]) > 0);
        const seen_t *end = await_exit(leaving, 3000);
        CHECK_EQ(end->exit_code, 0);
        CHECK_EQ(end->signal, 0);
    }
    finish();
}

static void rolling_forked(void) { rolling(CL_SCHED_RR, 0); }
static void rolling_shared(void) { rolling(CL_SCHED_NONE, 0); }
static void rolling_spawned(void) {
    if (worker_side()) serve_any_port();
    else rolling(CL_SCHED_RR, 1);
}

static int serve_slowly(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) return 0;
        OK(connection);
        nap(10);
        answer(connection);
    }
}

/* Who accepts from a socket that all have, and that is never empty, still sees that it is to leave. */
static void busy_socket_hides_no_stop(void) {
    enum { MANY = 200, FIRST = 60 };
    int clients[MANY], waiting = 0;
    use_policy(CL_SCHED_NONE);
    primary_ready(serve_slowly);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    for (int i = 0; i < MANY; i++) clients[i] = connect4(port);
    /* Neither has slept for long enough to look at everything before it accepts. */
    for (int i = 0; i < FIRST; i++) CHECK(answered_by(clients[i]) > 0);
    OK(cl_worker_disconnect(one));
    CHECK_EQ(await_exit(one, 5000)->exit_code, 0);
    for (int i = FIRST; i < MANY; i++) waiting += !readable_within(clients[i], 0);
    CHECK(waiting > MANY / 8);
    for (int i = FIRST; i < MANY; i++) CHECK(answered_by(clients[i]) > 0);
    finish();
}

/* A worker leaves by its own will: the same, and without a deadline. */
static int leave_by_itself(void) {
    char text[16];
    int served = 0;
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    OK(cl_send("ready", 5));
    OK(cl_receive(text, sizeof text, -1));
    long long start = now_ms();
    OK(cl_disconnect());
    OK(cl_disconnect()); /* once more is nothing new */
    CHECK(now_ms() - start < 300 * check_slow());
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        answer(OK(connection));
        served++;
    }
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    nap(300); /* longer than the deadline of the settings, which is not for this */
    OK(cl_close(listener));
    return 10 + served;
}

static void own_will(int spawned) {
    cl_settings_t settings;
    int clients[3];
    use_exact_turns();
    ZERO(settings);
    settings.size = sizeof settings;
    settings.stop_deadline_ms = 100;
    OK(cl_setup_primary(&settings));
    primary_ready(leave_by_itself);
    int id = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(id, 1);
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, 0) >= 0, 3000);
    for (int i = 0; i < 3; i++) clients[i] = connect4(port);
    pump_for(50);
    OK(cl_worker_send(id, "leave", 5));
    for (int i = 0; i < 3; i++) CHECK_EQ(answered_by(clients[i]), id);
    const seen_t *end = await_exit(id, 5000);
    CHECK_EQ(end->signal, 0);
    CHECK_EQ(end->exit_code, 13);
    finish();
}

static void own_will_forked(void) { own_will(0); }
static void own_will_spawned(void) {
    if (worker_side()) exit(leave_by_itself());
    else own_will(1);
}

/* cl_disconnect in the primary asks all of them. */
static void all_of_them(void) {
    int ids[3];
    primary_ready(serve_any_port);
    for (int i = 0; i < 3; i++) ids[i] = fork_worker();
    for (int i = 0; i < 3; i++) await_listening(ids[i], 1);
    OK(cl_disconnect());
    CHECK_EQ(cl_run(), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(await_exit(ids[i], 1)->exit_code, 0);
        CHECK_EQ(await_exit(ids[i], 1)->signal, 0);
    }
    finish();
}

/* Asked before it ever listened: listening is refused, and it leaves. */
static int listen_too_late(void) {
    char text[8];
    OK(cl_send("ready", 5));
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    CHECK_EQ(cl_listen("127.0.0.1:0", 0), -ESHUTDOWN);
    CHECK_EQ(cl_listen("unix:@never", 0), -ESHUTDOWN);
    CHECK(strlen(cl_last_error()) > 4);
    return 0;
}

static void before_listening(int spawned) {
    primary_ready(listen_too_late);
    int id = spawned ? spawn_worker() : fork_worker();
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, 0) >= 0, 3000);
    OK(cl_worker_disconnect(id));
    CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    CHECK_EQ(count_events(CL_EVENT_LISTENING, 0), 0);
    finish();
}

static void before_listening_forked(void) { before_listening(0); }
static void before_listening_spawned(void) {
    if (worker_side()) listen_too_late();
    else before_listening(1);
}

static const check_case_t cases[] = {
    {"busy_socket_hides_no_stop", busy_socket_hides_no_stop},
    {"queue_is_served_forked", queue_is_served_forked},   {"queue_is_served_spawned", queue_is_served_spawned},
    {"rolling_forked", rolling_forked},                   {"rolling_shared", rolling_shared},
    {"rolling_spawned", rolling_spawned},                 {"own_will_forked", own_will_forked},
    {"own_will_spawned", own_will_spawned},               {"all_of_them", all_of_them},
    {"before_listening_forked", before_listening_forked}, {"before_listening_spawned", before_listening_spawned},
};
CHECK_MAIN(cases)
