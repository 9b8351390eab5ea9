/* The mechanism rotation: turns are even however a worker waits, and nobody waits for a wake-up that was lost. */
#include "rotation.h"

/* What each slot's worker does; set before it is forked. */
static int way_of[WORKERS];

static int serve_in_my_way(void) { return serve_in_a_way("127.0.0.1:0", way_of[cl_worker_slot()]); }

/* Of those who come one after the other. Of a burst, who is awake may have more. */
static void are_even(int port, int connections, int outstanding, const int *ids) {
    clients_t clients = drive(port, connections, outstanding, ids);
    int part = connections / WORKERS, least = outstanding > 1 ? part / 20 : part - part / 10;
    for (int i = 0; i < WORKERS; i++)
        if (clients.counts[i] < least)
            check_fail(__FILE__, __LINE__, "of %d, %d at a time, they had %d, %d, %d and %d", connections, outstanding,
                       clients.counts[0], clients.counts[1], clients.counts[2], clients.counts[3]);
}

/* Also after one was replaced, which has nothing made up for. */
static void even(const int *ways, int spawned) {
    int ids[WORKERS], port = 0, connections = check_slow() > 1 ? 400 : 2000;
    use_mechanism("rotation");
    memcpy(way_of, ways, sizeof way_of);
    primary_ready(serve_in_my_way);
    for (int i = 0; i < WORKERS; i++) ids[i] = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, ids[0], 0)].mechanism, CL_MECHANISM_ROTATION);
    pump_for(50); /* what they say after they listen */
    are_even(port, connections, 1, ids);
    are_even(port, connections, 10, ids);
    OK(cl_worker_kill(ids[1], SIGKILL));
    await_exit(ids[1], 3000);
    ids[1] = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(await_listening(ids[1], 1), port);
    pump_for(50);
    are_even(port, connections, 1, ids);
    finish();
}

static void each_in(int way) {
    const int ways[WORKERS] = {way, way, way, way};
    even(ways, 0);
}
static void by_accept(void) { each_in(BY_ACCEPT); }
static void by_threads(void) { each_in(BY_THREADS); }
static void by_watch(void) { each_in(BY_WATCH); }
/* Not watched: by their mailboxes. */
static void by_poll(void) { each_in(BY_POLL); }
static void mixed(void) {
    const int ways[WORKERS] = {BY_POLL, BY_WATCH, BY_ACCEPT, BY_THREADS};
    even(ways, 0);
}
static void spawned(void) {
    const int ways[WORKERS] = {BY_ACCEPT, BY_ACCEPT, BY_ACCEPT, BY_ACCEPT};
    if (worker_side()) serve_in_my_way();
    else even(ways, 1);
}

/* -- Lost wake-ups ------------------------------------------------------------------------------------------------- */

/* The first in line says that it was woken, and does not accept. The second sleeps. */
static int woken_in_vain(void) {
    if (cl_worker_slot() != 0) return serve_in_my_way();
    int epoll = new_epoll();
    (void)watched_listener("127.0.0.1:0", epoll);
    CHECK_EQ(told_within(epoll, 10000), 1);
    OK(cl_send("woken", 5));
    for (;;) pause();
}

static void killed_when_woken(int way) {
    use_mechanism("rotation");
    way_of[1] = way;
    for (int round = 0; round < 3; round++) {
        if (round == 0) primary_ready(woken_in_vain);
        int first = fork_worker();
        int port = await_listening(first, 1);
        pump_for(20);
        int second = fork_worker();
        await_listening(second, 1);
        pump_for(50);
        int client = connect4(port);
        PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, first, 0) >= 0, 3000);
        CHECK_EQ(readable_within(client, 50), 0);
        OK(cl_worker_kill(first, SIGKILL));
        long long killed = now_ms();
        CHECK_EQ(answered_by(client), second);
        CHECK(now_ms() - killed < 1000 * check_slow());
        await_exit(first, 3000);
        OK(cl_worker_kill(second, SIGKILL));
        await_exit(second, 3000);
    }
    finish();
}
static void killed_before_accept(void) { killed_when_woken(BY_ACCEPT); }
static void killed_before_watch(void) { killed_when_woken(BY_WATCH); }
static void killed_before_threads(void) { killed_when_woken(BY_THREADS); }

/* The same where it has no descriptor for the connection: it has somebody else woken itself. */
static int woken_without_descriptors(void) {
    if (cl_worker_slot() != 0) return serve_in_my_way();
    int epoll = new_epoll(), way = way_of[0];
    int listener = way == BY_WATCH ? watched_listener("127.0.0.1:0", epoll) : OK(cl_listen("127.0.0.1:0", 0));
    struct rlimit limit = {16, 16};
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    while (dup(0) >= 0) {}
    for (;;) {
        if (way == BY_WATCH) (void)told_within(epoll, -1);
        int result = cl_accept(listener, NULL, NULL);
        if (result == -ESHUTDOWN) return 0;
        CHECK_EQ(result, -EMFILE);
    }
}

static void short_of_descriptors(int way) {
    use_mechanism("rotation");
    way_of[0] = way;
    primary_ready(woken_without_descriptors);
    int first = fork_worker();
    int port = await_listening(first, 1);
    pump_for(100);
    int second = fork_worker();
    await_listening(second, 1);
    pump_for(50);
    for (int i = 0; i < 20; i++) {
        int client = connect4(port);
        CHECK_EQ(answered_by(client), second);
    }
    finish();
}
static void short_in_watch(void) { short_of_descriptors(BY_WATCH); }
static void short_in_accept(void) { short_of_descriptors(BY_ACCEPT); }

static int is_stopped(int pid) {
    char name[64], text[256];
    snprintf(name, sizeof name, "/proc/%d/stat", pid);
    int fd = SYS(open(name, O_RDONLY | O_CLOEXEC));
    ssize_t n = SYS(read(fd, text, sizeof text - 1));
    close(fd);
    text[n] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL && end[2] == 'T';
}

/* A worker that computes or is stopped is passed over. */
static void stopped(void) {
    int ids[WORKERS], port = 0;
    use_mechanism("rotation");
    primary_ready(serve_in_my_way);
    for (int i = 0; i < WORKERS; i++) ids[i] = fork_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    pump_for(50);
    are_even(port, 200, 1, ids);
    SYS(kill(pid_of(ids[2]), SIGSTOP));
    WAIT_UNTIL(is_stopped(pid_of(ids[2])), 3000); /* until then it can be woken, and not accept */
    long long start = now_ms();
    CHECK(drive(port, 600, 1, ids).counts[2] <= 1);
    CHECK(now_ms() - start < 5000 * check_slow());
    SYS(kill(pid_of(ids[2]), SIGCONT));
    CHECK(drive(port, 400, 1, ids).counts[2] > 50);
    finish();
}

/* -- Leaving ------------------------------------------------------------------------------------------------------- */

/* Under load, one after the other is asked to leave and replaced: nobody notices. */
static void rolling(void) {
    static const int ways[WORKERS] = {BY_WATCH, BY_ACCEPT, BY_THREADS, BY_WATCH};
    int ids[WORKERS], port = 0;
    use_mechanism("rotation");
    memcpy(way_of, ways, sizeof way_of);
    primary_ready(serve_in_my_way);
    for (int i = 0; i < WORKERS; i++) ids[i] = fork_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    for (int round = 0; round < 12; round++) {
        int clients[24], leaving = ids[round % WORKERS];
        for (int i = 0; i < 24; i++) {
            clients[i] = connect4(port);
            if (i != 12) continue;
            OK(cl_worker_disconnect(leaving));
            ids[round % WORKERS] = fork_worker();
        }
        for (int i = 0; i < 24; i++) CHECK(answered_by(clients[i]) > 0);
        CHECK_EQ(await_exit(leaving, 3000)->exit_code, 0);
    }
    finish();
}

/* Behind its stop, an epoll is told of nobody who comes to the others. */
static int stays_behind_stop(void) {
    struct epoll_event event;
    if (cl_worker_slot() != 0) return serve_in_my_way();
    int epoll = new_epoll(), listener = watched_listener("127.0.0.1:0", epoll), result;
    do {
        (void)told_within(epoll, -1);
        result = cl_accept(listener, NULL, NULL);
        if (result >= 0) answer(result);
    } while (result != -ESHUTDOWN);
    OK(cl_send("left", 4));
    /* Only the mailbox, which tells of the stop for good. It has one entry; the socket would be another. */
    for (long long end = now_ms() + 300; now_ms() < end;) {
        struct epoll_event both[2];
        CHECK_EQ(epoll_wait(epoll, both, 2, 0), 1);
        CHECK_EQ(cl_accept(listener, NULL, NULL), -ESHUTDOWN);
    }
    OK(cl_close(listener));
    CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
    return 0;
}

static void leaves_the_line(void) {
    use_mechanism("rotation");
    primary_ready(stays_behind_stop);
    int one = fork_worker();
    int port = await_listening(one, 1);
    int two = fork_worker();
    await_listening(two, 1);
    pump_for(50);
    OK(cl_worker_disconnect(one));
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, one, 0) >= 0, 3000);
    for (int i = 0; i < 100; i++) CHECK_EQ(ask(port), two);
    CHECK_EQ(await_exit(one, 3000)->exit_code, 0);
    finish();
}

static const check_case_t cases[] = {
    {"by_accept", by_accept},
    {"by_threads", by_threads},
    {"by_watch", by_watch},
    {"by_poll", by_poll},
    {"mixed", mixed},
    {"spawned", spawned},
    {"killed_before_accept", killed_before_accept},
    {"killed_before_watch", killed_before_watch},
    {"killed_before_threads", killed_before_threads},
    {"short_in_watch", short_in_watch},
    {"short_in_accept", short_in_accept},
    {"stopped", stopped},
    {"rolling", rolling},
    {"leaves_the_line", leaves_the_line},
};
CHECK_MAIN(cases)
