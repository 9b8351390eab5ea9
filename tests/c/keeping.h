/* A worker that keeps its connections and answers each line: "slot pid code", code being what cl_hand_back() said last. When it leaves it
 * hands back those that it has, and goes on serving those for which there is no room. */
#ifndef KEEPING_H
#define KEEPING_H

#include "primary.h"
#include <sys/epoll.h>

enum { MOST = 1024 };

/* It closes them instead. */
static int closes_all;

static int keeps[MOST], count;

/* 0: the client has gone. */
static inline int serve_line(int connection, int code) {
    char text[64], answer[64];
    ssize_t n = recv(connection, text, sizeof text, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
    if (n <= 0) return 0;
    CHECK_EQ(text[n - 1], '\n'); /* nobody has read a part of it */
    snprintf(answer, sizeof answer, "%d %d %d\n", cl_worker_slot(), (int)getpid(), code);
    send_text(connection, answer);
    return 1;
}

static inline int hand_all_back(int listener, int epoll) {
    int code = 0, kept = 0;
    for (int i = 0; i < count; i++) {
        SYS(epoll_ctl(epoll, EPOLL_CTL_DEL, keeps[i], NULL));
        code = closes_all ? -EOPNOTSUPP : cl_hand_back(listener, keeps[i]);
        if (code == 0) continue;
        struct epoll_event event;
        ZERO(event);
        event.events = EPOLLIN;
        event.data.fd = keeps[i];
        SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, keeps[i], &event));
        keeps[kept++] = keeps[i];
    }
    count = kept;
    return code;
}

static inline int keep_serving(void) {
    int listener = listen_flags("127.0.0.1:0", CL_LISTEN_NONBLOCK), epoll = SYS(epoll_create1(EPOLL_CLOEXEC)), leaving = 0, code = 0;
    if (listener == -ESHUTDOWN) return 0;
    OK(listener);
    OK(cl_listener_watch(listener, epoll, (unsigned long long)(unsigned)listener));
    while (!leaving || (count > 0 && (code == -EAGAIN || code == 0))) {
        struct epoll_event events[16];
        int n = epoll_wait(epoll, events, 16, leaving ? 2 : -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                int at = 0;
                while (at < count && keeps[at] != fd) at++;
                if (at == count || serve_line(fd, code)) continue;
                SYS(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL));
                close(fd);
                keeps[at] = keeps[--count];
                continue;
            }
            int connection = cl_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (connection == -ESHUTDOWN) {
                leaving = 1;
                OK(cl_listener_unwatch(listener));
            }
            if (connection == -EPIPE) _exit(3);
            if (connection < 0) continue;
            CHECK_EQ(fcntl(connection, F_GETFL) & O_NONBLOCK, 0);
            SYS(fcntl(connection, F_SETFL, O_NONBLOCK));
            CHECK(count < MOST);
            keeps[count++] = connection;
            events[0].events = EPOLLIN;
            events[0].data.u64 = (unsigned long long)(unsigned)connection;
            SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &events[0]));
            break; /* what was told of the others is told again */
        }
        if (leaving) code = hand_all_back(listener, epoll);
    }
    for (int i = 0; i < count; i++) close(keeps[i]);
    OK(cl_close(listener));
    close(epoll);
    return count;
}

#endif
