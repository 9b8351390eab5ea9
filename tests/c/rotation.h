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

#endif
