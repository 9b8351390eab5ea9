/*
 * A worker in C: takes connections one at a time in cl_accept, or with an event loop (FAULTS_LOOP=1), claims each, answers.
 */
#ifndef FAULTS_WORKER_H
#define FAULTS_WORKER_H

#include "claims.h"
#include <arpa/inet.h>
#include <cluster.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

enum { CONNECTIONS = 32768, HOLD_MS = 10000, LINGER_MS = 2000, SHORTAGE_MS = 5 };

struct connection {
    int open, held;
    uint32_t port;
    size_t count;
    uint64_t id;
};

static uint32_t worker_id;
static int busy_ms, work_us, linger_ms, grow_kb;

static void compute(int unused) {
    uint64_t end = now_ns() + (uint64_t)busy_ms * 1000000u;
    (void)unused;
    while (now_ns() < end) {}
}

static int is_shortage(int code) {
    return code == -EMFILE || code == -ENFILE || code == -ENOBUFS || code == -ENOMEM;
}

/* A program that loses memory with each request. */
static void grow(void) {
    /* What the compiler knows to be unused is not there at all. */
    static char *volatile lost;
    lost = grow_kb > 0 ? malloc((size_t)grow_kb << 10) : NULL;
    if (lost) memset(lost, 1, (size_t)grow_kb << 10);
}

/* Says whether the answer was the last on its connection. */
static int answer_to(int fd, const struct connection *connection, int leaving) {
    uint32_t last = connection->id >> 56 != KEEP || leaving;
    struct answer answer = {connection->id, worker_id, (uint32_t)getpid(), now_ns(), last, 0};
    if (send(fd, &answer, sizeof answer, MSG_NOSIGNAL) < 0) return 1;
    cl_count(CL_COUNT_REQUESTS, 1);
    grow();
    return (int)last;
}

static int accept_one(int listener, uint32_t *port, int flags) {
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    memset(&peer, 0, sizeof peer);
    int fd = cl_accept4(listener, (struct sockaddr *)&peer, &length, flags);
    if (fd < 0) return fd;
    *port = ntohs(peer.sin_port);
    if (!claim(ACCEPTED, worker_id, *port, 0)) _exit(3);
    for (uint64_t end = now_ns() + (uint64_t)work_us * 1000u; work_us > 0 && now_ns() < end;) {}
    return fd;
}

/* Reads what there is of an id. 1: it is whole; 0: more is to come; -1: the peer is gone. */
static int read_id(int fd, struct connection *connection, int flags) {
    while (connection->count < sizeof connection->id) {
        ssize_t count = recv(fd, (char *)&connection->id + connection->count, sizeof connection->id - connection->count, flags);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return 0;
        if (count <= 0) return -1;
        connection->count += (size_t)count;
    }
    if (!claim(READ, worker_id, connection->port, connection->id)) _exit(3);
    return 1;
}

static void serve_one(int fd, uint32_t port) {
    struct connection connection = {.port = port};
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    do {
        connection.count = 0;
        if (poll(&polled, 1, linger_ms) == 0 || read_id(fd, &connection, 0) < 0) break;
        if (connection.id >> 56 == HOLD) {
            poll(&polled, 1, HOLD_MS);
            break;
        }
    } while (!answer_to(fd, &connection, 0));
    close(fd);
}

static int serve_blocking(int listener) {
    for (;;) {
        uint32_t port = 0;
        int fd = accept_one(listener, &port, SOCK_CLOEXEC);
        if (fd >= 0) serve_one(fd, port);
        else if (is_shortage(fd)) poll(NULL, 0, SHORTAGE_MS);
        else if (fd == -ESHUTDOWN || fd == -EPIPE) return 0;
        else if (fd != -EINTR && fd != -EAGAIN && fd != -ECONNABORTED) return 4;
    }
}

static int watch(int epoll, int operation, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(epoll, operation, fd, &event);
}

static int serve_looping(int listener) {
    static struct connection connections[CONNECTIONS];
    int epoll = epoll_create1(EPOLL_CLOEXEC), open_now = 0, leaving = 0, short_now = 0;
    uint64_t leave_at = 0;
    if (epoll < 0 || watch(epoll, EPOLL_CTL_ADD, listener)) return 5;
    while (!leaving || (open_now && now_ns() < leave_at)) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll, events, 64, short_now ? SHORTAGE_MS : leaving ? 50 : -1);
        if (short_now && !leaving && !watch(epoll, EPOLL_CTL_ADD, listener)) short_now = 0;
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                uint32_t port = 0;
                int connection = accept_one(listener, &port, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (connection >= CONNECTIONS) return 6;
                if (connection >= 0) {
                    connections[connection] = (struct connection){.open = 1, .port = port};
                    open_now++;
                    fd = connection;
                    if (watch(epoll, EPOLL_CTL_ADD, connection)) return 5;
                } else if (is_shortage(connection)) {
                    short_now = !watch(epoll, EPOLL_CTL_DEL, listener);
                    continue;
                } else if (connection == -ESHUTDOWN) {
                    leaving = 1;
                    leave_at = now_ns() + (uint64_t)linger_ms * 1000000u;
                    watch(epoll, EPOLL_CTL_DEL, listener);
                    continue;
                } else if (connection == -EPIPE) {
                    return 0;
                } else if (connection != -EINTR && connection != -EAGAIN && connection != -ECONNABORTED) {
                    return 4;
                } else {
                    continue;
                }
            }
            struct connection *connection = &connections[fd];
            if (!connection->open) continue;
            int state = connection->held ? -1 : read_id(fd, connection, MSG_DONTWAIT);
            if (state == 0) continue;
            if (state > 0 && connection->id >> 56 == HOLD) {
                connection->held = 1;
                continue;
            }
            connection->count = 0;
            if (state > 0 && !answer_to(fd, connection, leaving)) continue;
            epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
            connection->open = 0;
            open_now--;
            close(fd);
        }
    }
    return 0;
}

/* A program of the worker's own, in which nothing of ours is to be found. It ends with the worker. */
static void start_grandchild(void) {
    pid_t worker = getpid();
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != worker) _exit(0);
        execlp("sleep", "sleep", "600", (char *)NULL);
        _exit(127);
    }
}

static int serve(void) {
    struct sigaction action = {.sa_handler = compute, .sa_flags = SA_RESTART};
    const char *host = getenv("FAULTS_HOST");
    char address[64];
    snprintf(address, sizeof address, "%s:0", host && *host ? host : "127.0.0.1");
    cl_listen_options_t options = {.size = sizeof options, .address = address, .backlog = option("FAULTS_BACKLOG", 511)};
    int looping = option("FAULTS_LOOP", 0), listener;
    busy_ms = option("FAULTS_BUSY_MS", 300);
    work_us = option("FAULTS_WORK_US", 0);
    linger_ms = option("FAULTS_LINGER_MS", LINGER_MS);
    grow_kb = option("FAULTS_GROW_KB", 0);
    sigaction(SIGUSR2, &action, NULL);
    worker_id = (uint32_t)cl_worker_id();
    open_claims();
    if (claims_fd < 0) return 2;
    if (option("FAULTS_GRANDCHILDREN", 0)) start_grandchild();
    if (looping) options.flags = CL_LISTEN_NONBLOCK;
    /* While it is forbidden a descriptor, it waits for better times. */
    while (is_shortage(listener = cl_listen_with(&options))) poll(NULL, 0, SHORTAGE_MS);
    if (listener == -ESHUTDOWN || listener == -EPIPE) return 0;
    if (listener < 0) {
        fprintf(stderr, "worker %u cannot listen: %s\n", worker_id, cl_last_error());
        return 1;
    }
    return looping ? serve_looping(listener) : serve_blocking(listener);
}

#endif
