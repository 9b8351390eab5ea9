/* Messages both ways: order, sizes, time limits, and nobody who can block the primary. */
#include "primary.h"

static char large[CL_MESSAGE_MAX + 1];

static void fill(char *text, size_t length, int number) {
    for (size_t i = 0; i < length; i++) text[i] = (char)(number + (int)(i * 7));
}

static int filled_with(const char *text, size_t length, int number) {
    for (size_t i = 0; i < length; i++)
        if (text[i] != (char)(number + (int)(i * 7))) return 0;
    return 1;
}

/* Sizes around every border, nothing among them. */
static const size_t sizes[] = {0, 1, 2, 7, 8, 9, 255, 4095, 4096, 65527, 65528, 65535, 65536, 0, 3};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static int echo_messages(void) {
    static char text[CL_MESSAGE_MAX];
    for (;;) {
        int n = cl_receive(text, sizeof text, -1);
        if (n == -ESHUTDOWN) return 0;
        OK(n);
        CHECK_EQ(cl_send(text, (size_t)n), 0);
    }
}

static int echoed, echo_ok;

static void check_echo(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type != CL_EVENT_MESSAGE) return;
    size_t size = sizes[echoed % SIZES];
    echo_ok = event->length == size && (size == 0 || filled_with((const char *)event->data, size, echoed % SIZES));
    if (!echo_ok) check_fail(__FILE__, __LINE__, "message %d has %zu bytes", echoed, event->length);
    echoed++;
}

static void sizes_and_order(int spawned) {
    primary_ready(echo_messages);
    OK(cl_on_event(check_echo, NULL));
    int id = spawned ? spawn_worker() : fork_worker();
    /* The first are sent before the worker can possibly be there. */
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < SIZES; i++) {
            fill(large, sizes[i], i);
            CHECK_EQ(cl_worker_send(id, large, sizes[i]), 0);
        }
        PUMP_UNTIL(echoed == (round + 1) * SIZES, 5000);
    }
    CHECK_EQ(cl_worker_send(id, large, CL_MESSAGE_MAX + 1), -EMSGSIZE);
    CHECK_EQ(cl_worker_send(id, NULL, 0), 0);
    finish();
}

static void sizes_forked(void) { sizes_and_order(0); }
static void sizes_spawned(void) {
    if (worker_side()) exit(echo_messages());
    else sizes_and_order(1);
}

/* -- What cl_receive says ------------------------------------------------------------------------------------------ */

static int receive_rules(void) {
    static char text[CL_MESSAGE_MAX];
    long long start = now_ms();
    CHECK_EQ(cl_receive(text, sizeof text, 0), -EAGAIN);
    CHECK_EQ(cl_receive(text, sizeof text, 120), -ETIMEDOUT);
    CHECK(now_ms() - start >= 115);
    CHECK(now_ms() - start < 600 * check_slow());
    CHECK_EQ(readable_within(OK(cl_channel_fd()), 0), 0);
    CHECK(fcntl(cl_channel_fd(), F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(cl_channel_fd(), cl_channel_fd());
    OK(cl_send("ready", 5));
    /* "0123456789", then an empty one, then 65536 bytes, then "end" */
    CHECK_EQ(readable_within(cl_channel_fd(), 5000), 1);
    memset(text, 'z', 64);
    CHECK_EQ(cl_receive(text, 9, 5000), -EMSGSIZE);
    CHECK_EQ(text[0], 'z');
    CHECK_EQ(cl_receive(text, 0, 5000), -EMSGSIZE);
    CHECK_EQ(cl_receive(NULL, 0, 5000), -EMSGSIZE);
    CHECK_EQ(cl_receive(text, 9, 0), -EMSGSIZE);
    CHECK_EQ(readable_within(cl_channel_fd(), 0), 1);
    CHECK_EQ(cl_receive(text, 10, 0), 10);
    CHECK(memcmp(text, "0123456789z", 11) == 0);
    CHECK_EQ(cl_receive(text, 0, 5000), 0);
    CHECK_EQ(cl_receive(text, sizeof text - 1, 5000), -EMSGSIZE);
    CHECK_EQ(cl_receive(text, sizeof text, 5000), CL_MESSAGE_MAX);
    CHECK(filled_with(text, sizeof text, 5));
    CHECK_EQ(cl_receive(text, sizeof text, -1), 3);
    CHECK_EQ(cl_receive(text, sizeof text, 0), -EAGAIN);
    CHECK_EQ(readable_within(cl_channel_fd(), 0), 0);
    OK(cl_send("done", 4));
    /* What was sent before the request to leave is read before it is heard. */
    CHECK_EQ(cl_receive(text, sizeof text, -1), 4);
    CHECK(memcmp(text, "last", 4) == 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(cl_receive(text, sizeof text, i - 1), -ESHUTDOWN);
    return 0;
}

static void receive_side(int spawned) {
    primary_ready(receive_rules);
    int id = spawned ? spawn_worker() : fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 5000);
    fill(large, CL_MESSAGE_MAX, 5);
    OK(cl_worker_send(id, "0123456789", 10));
    OK(cl_worker_send(id, "", 0));
    OK(cl_worker_send(id, large, CL_MESSAGE_MAX));
    OK(cl_worker_send(id, "end", 3));
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 2, 5000);
    OK(cl_worker_send(id, "last", 4));
    OK(cl_worker_disconnect(id));
    CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    finish();
}

static void receive_forked(void) { receive_side(0); }
static void receive_spawned(void) {
    if (worker_side()) receive_rules();
    else receive_side(1);
}

/* -- Nobody blocks the primary ------------------------------------------------------------------------------------- */

/* Reads nothing until it gets a connection; then everything, and reports. */
static int read_late(void) {
    static char text[CL_MESSAGE_MAX];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int client = OK(cl_accept(listener, NULL, NULL)), count = 0;
    while (cl_receive(text, sizeof text, 1000) == 4000) {
        int number;
        memcpy(&number, text, sizeof number);
        CHECK_EQ(number, count);
        CHECK_EQ(text[3999], (char)count);
        count++;
    }
    answer(client);
    int n = snprintf(text, sizeof text, "%d", count);
    OK(cl_send(text, (size_t)n));
    return 0;
}

static void flood(int spawned) {
    primary_ready(read_late);
    int id = spawned ? spawn_worker() : fork_worker(), sent = 0, result;
    int port = await_listening(id, 1);
    long long start = now_ms();
    for (;;) {
        memset(large, sent, 4000);
        memcpy(large, &sent, sizeof sent);
        result = cl_worker_send(id, large, 4000);
        if (result < 0) break;
        if (++sent > 10000) check_fail(__FILE__, __LINE__, "there is no limit");
        if (sent % 10 == 0) turn(0);
    }
    CHECK_EQ(result, -EAGAIN);
    CHECK(sent * 4000LL >= 1000000); /* about the 1 MiB that may wait, and what the socket holds */
    CHECK(sent * 4000LL < 4000000);
    CHECK(now_ms() - start < 2000 * check_slow());
    for (int i = 0; i < 10; i++) CHECK_EQ(cl_worker_send(id, large, 4000), -EAGAIN);
    /* The primary serves meanwhile, and the worker in question too; nothing of what was taken is lost. */
    int client = connect4(port);
    CHECK_EQ(answered_by(client), id);
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 3000);
    CHECK_EQ(atoi(seen[find_event(CL_EVENT_MESSAGE, id, 0)].data), sent);
    CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    CHECK_EQ(cl_worker_send(id, "x", 1), -ESRCH);
    finish();
}

static void flood_forked(void) { flood(0); }
static void flood_spawned(void) {
    if (worker_side()) exit(read_late());
    else flood(1);
}

/* A worker that sends without end: its own calls wait for room, the primary stays free, nothing is lost. */
static int send_much(void) {
    for (int i = 0; i < 3000; i++) {
        memcpy(large, &i, sizeof i);
        CHECK_EQ(cl_send(large, 2000), 0);
    }
    return 0;
}

static int arrived;

static void count_in_order(const cl_event_t *event, void *user) {
    int number;
    remember_event(event, user);
    if (event->type != CL_EVENT_MESSAGE) return;
    CHECK_EQ(event->length, 2000);
    memcpy(&number, event->data, sizeof number);
    CHECK_EQ(number, arrived++);
}

static void worker_floods(int spawned) {
    primary_ready(send_much);
    OK(cl_on_event(count_in_order, NULL));
    int id = spawned ? spawn_worker() : fork_worker();
    worker_main = serve_any_port;
    int other = fork_worker();
    int port = await_listening(other, 1);
    CHECK_EQ(ask(port), other);
    /* The last ones were sent just before its exit, and come before that is told. */
    CHECK_EQ(await_exit(id, 10000)->exit_code, 0);
    CHECK_EQ(arrived, 3000);
    finish();
}

static void worker_floods_forked(void) { worker_floods(0); }
static void worker_floods_spawned(void) {
    if (worker_side()) exit(send_much());
    else worker_floods(1);
}

/* Both at once, with nobody reading first: no one waits for ever. */
static int both_ways(void) {
    static char text[CL_MESSAGE_MAX];
    int sent = 0, received = 0;
    while (sent < 300 || received < 300) {
        if (sent < 300) {
            CHECK_EQ(cl_send(large, 20000), 0);
            sent++;
        }
        while (received < 300 && cl_receive(text, sizeof text, sent < 300 ? 0 : 5000) == 20000) received++;
    }
    return 0;
}

static void mutual_flood(void) {
    primary_ready(both_ways);
    int id = fork_worker(), sent = 0;
    while (sent < 300) {
        int result = cl_worker_send(id, large, 20000);
        if (result == -EAGAIN) turn(5);
        else if (OK(result) >= 0) sent++;
    }
    CHECK_EQ(await_exit(id, 10000)->exit_code, 0);
    CHECK_EQ(count_events(CL_EVENT_MESSAGE, id), 300);
    finish();
}

/* What a worker sends with its last breath arrives, also when it was to be nobody's fault that it ended. */
static int last_words(void) {
    for (int i = 0; i < 20; i++) OK(cl_send("last words", 10));
    if (cl_worker_slot() == 1) raise(SIGKILL);
    _exit(4);
}

static void before_the_end(void) {
    primary_ready(last_words);
    int one = fork_worker(), two = fork_worker();
    /* Both are gone before the primary looks. */
    CHECK_EQ(gone_within(pid_of(one), 5000), 1);
    CHECK_EQ(gone_within(pid_of(two), 5000), 1);
    CHECK_EQ(await_exit(one, 3000)->exit_code, 4);
    CHECK_EQ(await_exit(two, 3000)->signal, SIGKILL);
    CHECK_EQ(count_events(CL_EVENT_MESSAGE, one), 20);
    CHECK_EQ(count_events(CL_EVENT_MESSAGE, two), 20);
    CHECK(find_event(CL_EVENT_MESSAGE, one, 19) < find_event(CL_EVENT_EXIT, one, 0));
    CHECK(find_event(CL_EVENT_MESSAGE, two, 19) < find_event(CL_EVENT_EXIT, two, 0));
    finish();
}

static const check_case_t cases[] = {
    {"sizes_forked", sizes_forked},     {"sizes_spawned", sizes_spawned},
    {"receive_forked", receive_forked}, {"receive_spawned", receive_spawned},
    {"flood_forked", flood_forked},     {"flood_spawned", flood_spawned},
    {"worker_floods_forked", worker_floods_forked}, {"worker_floods_spawned", worker_floods_spawned},
    {"mutual_flood", mutual_flood},     {"before_the_end", before_the_end},
};
CHECK_MAIN(cases)
