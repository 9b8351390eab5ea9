/*
 * Workers that speak HTTP, for the figures in which a request takes time: an event loop that accepts one connection for each
 * event, answers one request at a time and keeps the connection unless the request says "Connection: close".
 *
 *   /        is answered at once
 *   /short   after 0.2 ms of CPU
 *   /long    after 30 ms of CPU
 *   /later   after 20 ms in which the loop goes on, and then 0.2 ms of CPU
 *
 * bench/contenders/server.cjs does the same in Node. Time of CPU and not of the clock: who is pushed from the CPU by others has
 * as much left to do as before.
 */
#ifndef BENCH_HANDLERS_H
#define BENCH_HANDLERS_H

#include "board.h"
#include <sys/epoll.h>

enum { CONNECTIONS = 1 << 17, SHORT_US = 200, LONG_US = 30000, LATER_NS = 20000000 };

/* What an event is about: a connection, or with this bit a listener. */
#define LISTENER ((uint64_t)1 << 32)

struct conversation {
    uint8_t watched;                /* it is in the epoll */
    uint8_t last;                   /* it ends with the present request */
    uint8_t waits;                  /* its answer is due later */
};

/* All wait for the same time, and so the first to come is the first to go. */
struct later {
    uint64_t due;
    int connection;
};

static struct conversation conversations[CONNECTIONS];
static struct later queue[CONNECTIONS];
static unsigned queue_begin, queue_end;
static int in_hand;

/* Takes a connection from a listener; or -1, and the event was for somebody else. */
typedef int take_t(int listener);
/* Is told how many connections the worker has; may be NULL. */
typedef void tell_t(int connections);

static inline uint64_t clock_now(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline void spend(uint64_t microseconds) {
    uint64_t end = clock_now(CLOCK_THREAD_CPUTIME_ID) + microseconds * 1000;
    while (clock_now(CLOCK_THREAD_CPUTIME_ID) < end);
}

static inline void end_connection(int connection, tell_t *tell) {
    close(connection);
    in_hand--;
    if (tell) tell(in_hand);
}

static inline void respond(int connection, int slot, tell_t *tell) {
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    /* Whoever has the answer may ask at once how many were served. */
    board->slots[slot].served++;
    send(connection, text, sizeof text - 1, MSG_NOSIGNAL);
    if (conversations[connection].last) end_connection(connection, tell);
}

static inline void read_request(int epoll, int connection, int slot, tell_t *tell) {
    struct conversation *its = &conversations[connection];
    char text[1024];
    ssize_t count = recv(connection, text, sizeof text - 1, MSG_DONTWAIT);
    if (count <= 0 && !(count < 0 && errno == EAGAIN)) {
        /* Who hangs up while his answer is due gets it all the same, or the queue would hold a descriptor of somebody else. */
        its->last = 1;
        if (!its->waits) end_connection(connection, tell);
        else if (its->watched) its->watched = epoll_ctl(epoll, EPOLL_CTL_DEL, connection, NULL) != 0;
        return;
    }
    text[count < 0 ? 0 : count] = '\0';
    if (count > 0 && !strstr(text, "\r\n\r\n")) fail_as(1, "a request", "it came in pieces");
    its->last = count > 0 && strstr(text, "Connection: close");
    if (!its->watched && !its->last) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)connection};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &event)) fail("epoll_ctl");
        its->watched = 1;
    }
    if (count < 0) return;
    if (!strncmp(text, "GET /later", 10)) {
        its->waits = 1;
        queue[queue_end++ % CONNECTIONS] = (struct later){clock_now(CLOCK_MONOTONIC) + LATER_NS, connection};
        return;
    }
    if (!strncmp(text, "GET /short", 10)) spend(SHORT_US);
    if (!strncmp(text, "GET /long", 9)) spend(LONG_US);
    respond(connection, slot, tell);
}

/* Gives the answers that are due; says how long the next one can wait, in milliseconds as epoll_wait wants it. */
static inline int respond_to_those_due(int slot, tell_t *tell) {
    while (queue_begin != queue_end) {
        struct later first = queue[queue_begin % CONNECTIONS];
        uint64_t now = clock_now(CLOCK_MONOTONIC);
        if (first.due > now) return (int)((first.due - now + 999999) / 1000000);
        queue_begin++;
        conversations[first.connection].waits = 0;
        spend(SHORT_US);
        respond(first.connection, slot, tell);
    }
    return -1;
}

/* The listeners are in the epoll already, as LISTENER | descriptor. */
static inline void speak_http(int epoll, int slot, take_t *take, tell_t *tell) {
    for (;;) {
        struct epoll_event events[64];
        int wait = respond_to_those_due(slot, tell);
        int count = epoll_wait(epoll, events, 64, wait);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = (int)(uint32_t)events[i].data.u64;
            if (!(events[i].data.u64 & LISTENER)) {
                read_request(epoll, fd, slot, tell);
                continue;
            }
            fd = take(fd);
            if (fd < 0) continue;
            if (fd >= CONNECTIONS) fail_as(1, "a connection", "there are too many");
            conversations[fd] = (struct conversation){0};
            in_hand++;
            if (tell) tell(in_hand);
            /* Mostly the request is here already. */
            read_request(epoll, fd, slot, tell);
        }
    }
}

#endif
