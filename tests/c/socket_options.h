/* A list of options that accepted sockets inherit, and a worker that judges whether they did. */
#ifndef SOCKET_OPTIONS_H
#define SOCKET_OPTIONS_H

#include "kernel.h"
#include <netinet/ip.h>

static int ONE = 1, IDLE = 77, PATIENCE = 4321, BUFFER = 40000, LOW_DELAY = IPTOS_LOWDELAY;

static const cl_socket_option_t WANTED[] = {
    {IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE},
    {SOL_SOCKET, SO_KEEPALIVE, &ONE, sizeof ONE},
    {IPPROTO_TCP, TCP_KEEPIDLE, &IDLE, sizeof IDLE},
    {SOL_SOCKET, SO_RCVBUF, &BUFFER, sizeof BUFFER},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, &PATIENCE, sizeof PATIENCE},
    {IPPROTO_IP, IP_TOS, &LOW_DELAY, sizeof LOW_DELAY},
};
enum { COUNT = sizeof WANTED / sizeof WANTED[0] };

static inline int value_of(int fd, int level, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    SYS(getsockopt(fd, level, name, &value, &length));
    return value;
}

/* The kernel doubles what a buffer is asked to be (socket(7)). */
static inline int expected_value(const cl_socket_option_t *one) {
    int value;
    memcpy(&value, one->value, sizeof value);
    return one->level == SOL_SOCKET && (one->name == SO_RCVBUF || one->name == SO_SNDBUF) ? 2 * value : value;
}

/* Tells the client who it is, or which option its connection lacks, and closes. */
static inline void judge_and_answer(int connection) {
    struct linger linger = {0, 0};
    socklen_t length = sizeof linger;
    char text[64] = "";
    for (int i = 0; i < COUNT; i++) {
        int got = value_of(connection, WANTED[i].level, WANTED[i].name);
        if (got != expected_value(&WANTED[i]))
            snprintf(text, sizeof text, "option %d of level %d is %d\n", WANTED[i].name, WANTED[i].level, got);
    }
    SYS(getsockopt(connection, SOL_SOCKET, SO_LINGER, &linger, &length));
    if (linger.l_onoff) snprintf(text, sizeof text, "option SO_LINGER is on\n");
    if (text[0] == '\0') {
        answer(connection);
        return;
    }
    send_text(connection, text);
    close(connection);
}

/* Who has answered, or 0 where an option was not there, which is what the text says then. */
static inline int ask_and_hear(int port, char *text, size_t capacity) {
    int client = connect4(port);
    if (!pump_readable(client, 5000)) check_fail(__FILE__, __LINE__, "no answer");
    OK(receive_all(client, text, capacity));
    close(client);
    return atoi(text);
}

static inline void expect_code(int got, int code) {
    CHECK_EQ(got, code);
    CHECK(strlen(cl_last_error()) > 10);
}

#endif
