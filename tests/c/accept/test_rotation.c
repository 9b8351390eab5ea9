/* The mechanism rotation: turns are even however a worker waits, and nobody waits for a wake-up that was lost. */
#include "rotation.h"

/* What each slot's worker does, in digits. Workers are spawned: a forked one has the primary's library, also with CL_HEADER_ONLY. */
static void use_ways(const char *ways) { SYS(setenv("WAYS", ways, 1)); }
static int my_way(void) { return getenv("WAYS")[cl_worker_slot()] - '0'; }
static int serve_in_my_way(void) { return serve_in_a_way("127.0.0.1:0", my_way()); }

#define AS_WORKER(main_of_workers) \
    if (worker_side()) exit(main_of_workers())

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
static void even(const char *ways) {
    AS_WORKER(serve_in_my_way);
    int ids[WORKERS], port = 0, connections = check_slow() > 1 ? 400 : 2000;
    use_mechanism("rotation");
    use_ways(ways);
    primary_ready(serve_in_my_way);
    for (int i = 0; i < WORKERS; i++) ids[i] = spawn_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, ids[0], 0)].mechanism, CL_MECHANISM_ROTATION);
    pump_for(50); /* what they say after they listen */
    are_even(port, connections, 1, ids);
    are_even(port, connections, 10, ids);
    OK(cl_worker_kill(ids[1], SIGKILL));
    await_exit(ids[1], 3000);
    ids[1] = spawn_worker();
    CHECK_EQ(await_listening(ids[1], 1), port);
    pump_for(50);
    are_even(port, connections, 1, ids);
    finish();
}

static void by_accept(void) { even("0000"); }
static void by_watch(void) { even("1111"); }
/* Not watched: by their mailboxes. */
static void by_poll(void) { even("2222"); }
static void by_threads(void) { even("3333"); }
static void mixed(void) { even("2103"); }

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

static void killed_when_woken(const char *ways) {
    AS_WORKER(woken_in_vain);
    use_mechanism("rotation");
    use_ways(ways);
    for (int round = 0; round < 3; round++) {
        if (round == 0) primary_ready(woken_in_vain);
        int first = spawn_worker();
        int port = await_listening(first, 1);
        pump_for(20);
        int second = spawn_worker();
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
static void killed_before_accept(void) { killed_when_woken("10"); }
static void killed_before_watch(void) { killed_when_woken("11"); }
static void killed_before_threads(void) { killed_when_woken("13"); }

/* The same where it has no descriptor for the connection: it has somebody else woken itself. */
static int woken_without_descriptors(void) {
    if (cl_worker_slot() != 0) return serve_in_my_way();
    int epoll = new_epoll(), way = my_way();
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

static void short_of_descriptors(const char *ways) {
    AS_WORKER(woken_without_descriptors);
    use_mechanism("rotation");
    use_ways(ways);
    primary_ready(woken_without_descriptors);
    int first = spawn_worker();
    int port = await_listening(first, 1);
    pump_for(100);
    int second = spawn_worker();
    await_listening(second, 1);
    pump_for(50);
    for (int i = 0; i < 20; i++) {
        int client = connect4(port);
        CHECK_EQ(answered_by(client), second);
    }
    finish();
}
static void short_in_watch(void) { short_of_descriptors("10"); }
static void short_in_accept(void) { short_of_descriptors("00"); }

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
    AS_WORKER(serve_in_my_way);
    use_mechanism("rotation");
    use_ways("0000");
    primary_ready(serve_in_my_way);
    for (int i = 0; i < WORKERS; i++) ids[i] = spawn_worker();
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
    int ids[WORKERS], port = 0;
    AS_WORKER(serve_in_my_way);
    use_mechanism("rotation");
    use_ways("1031");
    primary_ready(serve_in_my_way);
    for (int i = 0; i < WORKERS; i++) ids[i] = spawn_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    for (int round = 0; round < 12; round++) {
        int clients[24], leaving = ids[round % WORKERS];
        for (int i = 0; i < 24; i++) {
            clients[i] = connect4(port);
            if (i != 12) continue;
            OK(cl_worker_disconnect(leaving));
            ids[round % WORKERS] = spawn_worker();
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
    /* Only the mailbox, which tells of the stop for good. It has one entry; the socket, at which somebody waits, would be another. */
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
    AS_WORKER(stays_behind_stop);
    use_mechanism("rotation");
    use_ways("00");
    primary_ready(stays_behind_stop);
    int one = spawn_worker();
    int port = await_listening(one, 1);
    int two = spawn_worker();
    await_listening(two, 1);
    pump_for(50);
    SYS(kill(pid_of(two), SIGSTOP));
    WAIT_UNTIL(is_stopped(pid_of(two)), 3000);
    OK(cl_worker_disconnect(one));
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, one, 0) >= 0, 3000);
    int client = connect4(port);
    CHECK_EQ(await_exit(one, 3000)->exit_code, 0);
    SYS(kill(pid_of(two), SIGCONT));
    CHECK_EQ(answered_by(client), two);
    finish();
}

static const check_case_t cases[] = {
    {"by_accept", by_accept},
    {"by_threads", by_threads},
    {"by_watch", by_watch},
    {"by_poll", by_poll},
    {"mixed", mixed},
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
