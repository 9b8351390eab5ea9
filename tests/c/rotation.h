/* Workers that accept in rotation, each in a way of its own. */
#ifndef ROTATION_H
#define ROTATION_H

#include "primary.h"
#include <pthread.h>
#include <sys/epoll.h>

enum { BY_ACCEPT, BY_WATCH, BY_POLL, BY_THREADS }; /* how a worker waits */
enum { WORKERS = 4, THREADS = 4, TOLD = 4711 };

/* Wake-ups after which nothing was there. */
static int in_vain;

static inline int watched_listener(const char *address, int epoll) {
    int listener = listen_flags(address, CL_LISTEN_NONBLOCK);
    if (listener != -ESHUTDOWN) OK(cl_listener_watch(OK(listener), epoll, TOLD));
    return listener;
}

static inline int new_epoll(void) { return SYS(epoll_create1(EPOLL_CLOEXEC)); }

/* The epoll tells of the listener, and of nothing else, within that time. */
static inline int told_within(int epoll, int ms) {
    struct epoll_event event;
    int n = SYS(epoll_wait(epoll, &event, 1, ms));
    if (n > 0) CHECK_EQ(event.data.u64, TOLD);
    return n;
}

/* One connection for an event, as cluster.h advises. */
static inline int serve_by(int listener, int epoll) {
    if (listener == -ESHUTDOWN) return 0; /* asked to leave before it began */
    for (;;) {
        if (epoll >= 0) (void)told_within(epoll, -1);
        else (void)readable_within(listener, 60000);
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        if (connection == -EPIPE) _exit(3);
        if (connection == -EAGAIN) in_vain++;
        if (connection != -EAGAIN) answer(OK(connection));
    }
    OK(cl_close(listener));
    if (epoll >= 0) {
        CHECK_EQ(told_within(epoll, 0), 0);
        close(epoll);
    }
    return 0;
}

static inline void *serve_in_thread(void *listener) {
    int connection;
    while ((connection = cl_accept(*(int *)listener, NULL, NULL)) >= 0) answer(connection);
    CHECK_EQ(connection, -ESHUTDOWN);
    return NULL;
}

static inline int serve_by_threads(const char *address) {
    pthread_t threads[THREADS];
    int listener = cl_listen(address, 0);
    if (listener == -ESHUTDOWN) return 0;
    OK(listener);
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, serve_in_thread, &listener), 0);
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    OK(cl_close(listener));
    return 0;
}

static inline int serve_in_a_way(const char *address, int way) {
    int epoll = way == BY_WATCH ? new_epoll() : -1;
    switch (way) {
    case BY_WATCH: return serve_by(watched_listener(address, epoll), epoll);
    case BY_POLL: return serve_by(listen_flags(address, CL_LISTEN_NONBLOCK), -1);
    case BY_THREADS: return serve_by_threads(address);
    default: break;
    }
    int listener = cl_listen(address, 0);
    return listener == -ESHUTDOWN ? 0 : serve_listener(OK(listener));
}

/* Connections of which some wait at the same time; how many each worker had goes to counts. From a thread, because a
 * primary that is busy with something else is passed over, too. */
typedef struct {
    int port, connections, outstanding, done;
    const int *ids;
    int counts[WORKERS];
} clients_t;

static inline void *come(void *argument) {
    clients_t *self = (clients_t *)argument;
    int clients[64];
    char text[96];
    for (int i = 0; i < self->connections; i += self->outstanding) {
        for (int j = 0; j < self->outstanding; j++) clients[j] = connect4(self->port);
        for (int j = 0; j < self->outstanding; j++) {
            int at = 0, n = receive_all(clients[j], text, sizeof text);
            if (n <= 0) check_fail(__FILE__, __LINE__, "connection %d: %s", i + j, n < 0 ? strerror(-n) : "end of file");
            while (at < WORKERS && self->ids[at] != atoi(text)) at++;
            CHECK(at < WORKERS);
            self->counts[at]++;
            close(clients[j]);
        }
    }
    __atomic_store_n(&self->done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static inline clients_t drive(int port, int connections, int outstanding, const int *ids) {
    clients_t clients;
    pthread_t thread;
    ZERO(clients);
    clients.port = port;
    clients.connections = connections;
    clients.outstanding = outstanding;
    clients.ids = ids;
    CHECK_EQ(pthread_create(&thread, NULL, come, &clients), 0);
    while (!__atomic_load_n(&clients.done, __ATOMIC_SEQ_CST)) turn(5);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    return clients;
}

#endif
