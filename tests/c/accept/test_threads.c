/* Several threads on one listener, on several listeners, and on the channel; closing and leaving under their feet. */
#include "primary.h"
#include <pthread.h>

enum { THREADS = 4 };

typedef struct {
    int listener, served, result;
    long long ended;
} acceptor_t;

static void *accept_all(void *argument) {
    acceptor_t *self = (acceptor_t *)argument;
    for (;;) {
        int connection = cl_accept(self->listener, NULL, NULL);
        if (connection < 0) {
            self->result = connection;
            self->ended = now_ms();
            return NULL;
        }
        answer(connection);
        self->served++;
    }
}

static void start(pthread_t *threads, acceptor_t *selves, int listener) {
    for (int i = 0; i < THREADS; i++) {
        memset(&selves[i], 0, sizeof selves[i]);
        selves[i].listener = listener;
        CHECK_EQ(pthread_create(&threads[i], NULL, accept_all, &selves[i]), 0);
    }
}

static void join(pthread_t *threads) {
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* All share the work; each connection is one thread's; closing the listener sends all of them home at once. */
static void one_listener(void) {
    pthread_t threads[THREADS];
    acceptor_t selves[THREADS];
    char text[96];
    int total = 0, clients[10];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int port = bound_port(listener);
    start(threads, selves, listener);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 10; i++) clients[i] = connect4(port);
        for (int i = 0; i < 10; i++) {
            CHECK(receive_all(clients[i], text, sizeof text) > 0);
            CHECK_EQ(atoi(text), cl_worker_id());
            close(clients[i]);
        }
    }
    nap(20); /* so that they are inside cl_accept, which is what this is about */
    long long closed = now_ms();
    OK(cl_close(listener));
    join(threads);
    for (int i = 0; i < THREADS; i++) {
        total += selves[i].served;
        CHECK_EQ(selves[i].result, -EBADF);
        CHECK(selves[i].ended - closed < 1000 * check_slow());
    }
    CHECK_EQ(total, 200);
}
IN_WORKERS(one_listener)

static void *accept_once(void *argument) {
    acceptor_t *self = (acceptor_t *)argument;
    self->result = cl_accept(self->listener, NULL, NULL);
    self->ended = now_ms();
    return NULL;
}

static void close_while_blocked(void) {
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        acceptor_t self;
        ZERO(self);
        self.listener = OK(cl_listen("127.0.0.1:0", 0));
        CHECK_EQ(pthread_create(&thread, NULL, accept_once, &self), 0);
        nap(round);
        long long closed = now_ms();
        OK(cl_close(self.listener));
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(self.result, -EBADF);
        CHECK(self.ended - closed < 500 * check_slow());
    }
}
IN_WORKERS(close_while_blocked)

/* Listening and closing at once from several threads: ports differ, nothing is lost. */
static void *listen_and_close(void *argument) {
    (void)argument;
    for (int i = 0; i < 15; i++) {
        char text[96];
        int listener = OK(cl_listen("127.0.0.1:0", 0));
        int client = connect4(bound_port(listener));
        answer(OK(cl_accept(listener, NULL, NULL)));
        CHECK(receive_all(client, text, sizeof text) > 0);
        close(client);
        OK(cl_close(listener));
    }
    return NULL;
}

static void many_listeners(void) {
    pthread_t threads[THREADS];
    OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, listen_and_close, NULL), 0);
    join(threads);
}
IN_WORKERS(many_listeners)

/* Asked to leave: every thread hears it, in cl_accept on one listener and in cl_receive. */
static void *receive_until_end(void *argument) {
    char text[16];
    acceptor_t *self = (acceptor_t *)argument;
    while ((self->result = cl_receive(text, sizeof text, -1)) >= 0) {}
    return NULL;
}

static int leave_together(void) {
    pthread_t threads[THREADS], receiver;
    acceptor_t selves[THREADS], self;
    ZERO(self);
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    start(threads, selves, listener);
    CHECK_EQ(pthread_create(&receiver, NULL, receive_until_end, &self), 0);
    join(threads);
    CHECK_EQ(pthread_join(receiver, NULL), 0);
    CHECK_EQ(self.result, -ESHUTDOWN);
    for (int i = 0; i < THREADS; i++) CHECK_EQ(selves[i].result, -ESHUTDOWN);
    CHECK_EQ(cl_accept(listener, NULL, NULL), -ESHUTDOWN);
    OK(cl_close(listener));
    return 0;
}

static void leaving(int policy, int spawned) {
    use_policy(policy);
    primary_ready(leave_together);
    int id = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(id, 1);
    for (int i = 0; i < 5; i++) CHECK_EQ(ask(port), id);
    OK(cl_worker_disconnect(id));
    CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    finish();
}

static void leaving_forked(void) { leaving(CL_SCHED_RR, 0); }
static void leaving_shared(void) { leaving(CL_SCHED_NONE, 0); }
static void leaving_spawned(void) {
    if (worker_side()) leave_together();
    else leaving(CL_SCHED_RR, 1);
}

/* Messages from several threads arrive whole, each thread's in order. */
static void *send_many(void *argument) {
    char text[600];
    int thread = *(int *)argument;
    for (int i = 0; i < 100; i++) {
        memset(text, 'a' + thread, sizeof text);
        int n = snprintf(text, sizeof text, "%d %d ", thread, i);
        text[n] = (char)('a' + thread);
        OK(cl_send(text, sizeof text));
    }
    return NULL;
}

static int send_from_threads(void) {
    static int numbers[THREADS] = {0, 1, 2, 3};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, send_many, &numbers[i]), 0);
    join(threads);
    return 0;
}

static void sending(int spawned) {
    int next[THREADS] = {0, 0, 0, 0};
    primary_ready(send_from_threads);
    int id = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(await_exit(id, 10000)->exit_code, 0);
    CHECK_EQ(count_events(CL_EVENT_MESSAGE, id), THREADS * 100);
    for (int i = 0; i < seen_count; i++) {
        int thread, number;
        if (seen[i].type != CL_EVENT_MESSAGE) continue;
        CHECK_EQ(seen[i].length, 600);
        CHECK_EQ(sscanf(seen[i].data, "%d %d ", &thread, &number), 2);
        CHECK_EQ(number, next[thread]++);
        CHECK_EQ(seen[i].data[100], 'a' + thread);
    }
    finish();
}

static void sending_forked(void) { sending(0); }
static void sending_spawned(void) {
    if (worker_side()) send_from_threads();
    else sending(1);
}

static const check_case_t cases[] = {
    ROLE_CASES(one_listener), ROLE_CASES(close_while_blocked), ROLE_CASES(many_listeners),
    {"leaving_forked", leaving_forked}, {"leaving_shared", leaving_shared}, {"leaving_spawned", leaving_spawned},
    {"sending_forked", sending_forked}, {"sending_spawned", sending_spawned},
};
CHECK_MAIN(cases)
