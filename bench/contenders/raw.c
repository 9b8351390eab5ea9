/*
 * What the kernel's own ways cost: the baselines of the benchmark. The first word says which.
 *
 *   single              one process: accept4, close
 *   shared              workers with an event loop each on one listening socket, as many servers are written
 *   exclusive           the same with EPOLLEXCLUSIVE
 *   blocking            the same without an event loop: each worker blocks in accept4
 *   reuseport           a listening socket (SO_REUSEPORT) and an event loop for each worker
 *   reuseport-blocking  the same without an event loop
 *   handover            the least that passing a connection on can cost: accept4, sendmsg, recvmsg, close, in turn
 */
#define _GNU_SOURCE
#include "handlers.h"

static int listener_on(int *port, int reuseport, int listens) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) fail("socket");
    if (reuseport && setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int))) fail("SO_REUSEPORT");
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) fail("bind");
    if (listens && listen(listener, BACKLOG)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    *port = ntohs(address.sin_port);
    return listener;
}

static void block_in_accept(int listener, int slot) {
    for (int connection; (connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) serve(connection, slot);
    fail("accept4");
}

static int take(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC); }

static void loop_over(const int *listeners, uint32_t how, int slot) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) fail("epoll_create1");
    for (int i = 0; i < addresses; i++) {
        struct epoll_event event = {.events = EPOLLIN | how, .data.u64 = LISTENER | (uint64_t)listeners[i]};
        fcntl(listeners[i], F_SETFL, O_NONBLOCK);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, listeners[i], &event)) fail("epoll_ctl");
    }
    if (http) speak_http(epoll, slot, take, NULL);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll, events, 64, -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++)
            for (int connection; (connection = take((int)(uint32_t)events[i].data.u64)) >= 0;) serve(connection, slot);
    }
}

static void take_from(int mailbox, int slot) {
    for (;;) {
        char byte, control[CMSG_SPACE(sizeof(int))];
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        int connection;
        if (recvmsg(mailbox, &message, MSG_CMSG_CLOEXEC) <= 0) _exit(0);
        memcpy(&connection, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof connection);
        serve(connection, slot);
    }
}

static void hand_over(int listener, const int *mailboxes) {
    for (int connection, next = 0; (connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(connection)) {
        char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        *CMSG_FIRSTHDR(&message) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &connection, sizeof connection);
        if (sendmsg(mailboxes[next], &message, MSG_NOSIGNAL) < 0) fail("sendmsg");
        next = (next + 1) % workers;
    }
    fail("accept4");
}

int main(int argc, char **argv) {
    static int listeners[ADDRESSES], ports[ADDRESSES], mailboxes[SLOTS];
    begin(argc, argv);
    const char *mode = argc > 1 ? argv[1] : "";
    if (http && strcmp(mode, "shared") && strcmp(mode, "exclusive") && strcmp(mode, "reuseport"))
        fail_as(UNAVAILABLE, mode, "its workers have no event loop that could speak HTTP");
    int reuseport = !strncmp(mode, "reuseport", 9), handover = !strcmp(mode, "handover");
    /* With SO_REUSEPORT the parent only reserves the ports; each worker has sockets of its own. */
    for (int i = 0; i < addresses; i++) {
        listeners[i] = listener_on(&ports[i], reuseport, !reuseport);
        board->ports[i] = (uint32_t)ports[i];
    }
    if (!strcmp(mode, "single")) {
        listening();
        block_in_accept(listeners[0], 0);
    }
    for (int slot = 0; slot < workers; slot++) {
        int pair[2] = {-1, -1};
        if (handover && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) fail("socketpair");
        pid_t pid = fork();
        if (pid < 0) fail("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (int i = 0; reuseport && i < addresses; i++) listeners[i] = listener_on(&ports[i], 1, 1);
            listening();
            if (handover) take_from(pair[1], slot);
            if (!strcmp(mode, "blocking") || (!strcmp(mode, "reuseport-blocking") && !event_loop)) block_in_accept(listeners[0], slot);
            loop_over(listeners, !strcmp(mode, "exclusive") ? EPOLLEXCLUSIVE : 0, slot);
        }
        mailboxes[slot] = pair[0];
        if (handover) close(pair[1]);
    }
    if (handover) hand_over(listeners[0], mailboxes);
    for (;;) pause();
}
