/* cl_accept and cl_accept4: blocking and not, flags, the peer's address, alone and in workers of every kind. */
#include "primary.h"
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>

static int listen_nonblock(const char *address) { return listen_flags(address, CL_LISTEN_NONBLOCK); }

/* Whether the two descriptors are the ends of one connection, told by a byte in each direction. */
static void connected(int client, int connection) {
    char byte = 0;
    CHECK_EQ(send(client, "a", 1, MSG_NOSIGNAL), 1);
    CHECK_EQ(readable_within(connection, 3000), 1);
    CHECK_EQ(read(connection, &byte, 1), 1);
    CHECK_EQ(byte, 'a');
    CHECK_EQ(send(connection, "b", 1, MSG_NOSIGNAL), 1);
    CHECK_EQ(readable_within(client, 3000), 1);
    CHECK_EQ(read(client, &byte, 1), 1);
    CHECK_EQ(byte, 'b');
}

static void *connect_later(void *port) {
    nap(80);
    return (void *)(size_t)connect4((int)(size_t)port);
}

static void blocking(void) {
    pthread_t thread;
    void *client;
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    long long start = now_ms();
    CHECK_EQ(pthread_create(&thread, NULL, connect_later, (void *)(size_t)bound_port(listener)), 0);
    int connection = OK(cl_accept(listener, NULL, NULL));
    CHECK(now_ms() - start >= 70);
    CHECK_EQ(pthread_join(thread, &client), 0);
    connected((int)(size_t)client, connection);
    close(connection);
    close((int)(size_t)client);
    OK(cl_close(listener));
}
IN_WORKERS(blocking)

static void nonblocking(void) {
    int listener = OK(listen_nonblock("127.0.0.1:0"));
    for (int i = 0; i < 3; i++) CHECK_EQ(cl_accept(listener, NULL, NULL), -EAGAIN);
    int client = connect4(bound_port(listener));
    CHECK_EQ(readable_within(listener, 3000), 1);
    int connection = OK(cl_accept(listener, NULL, NULL));
    CHECK_EQ(fcntl(connection, F_GETFL) & O_NONBLOCK, 0);
    connected(client, connection);
    CHECK_EQ(cl_accept4(listener, NULL, NULL, SOCK_NONBLOCK), -EAGAIN);
    close(client);
    close(connection);
    OK(cl_close(listener));
}
IN_WORKERS(nonblocking)

/* Inside an own loop, level and edge triggered: each connection is announced, none is announced twice. */
static void in_epoll(uint32_t how) {
    struct epoll_event event;
    int clients[5], taken = 0, wakes = 0;
    int listener = OK(listen_nonblock("127.0.0.1:0"));
    int loop = SYS(epoll_create1(EPOLL_CLOEXEC));
    ZERO(event);
    event.events = EPOLLIN | how;
    SYS(epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event));
    CHECK_EQ(epoll_wait(loop, &event, 1, 30), 0);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5; i++) clients[i] = connect4(bound_port(listener));
        while (taken < (round + 1) * 5) {
            CHECK_EQ(epoll_wait(loop, &event, 1, 3000), 1);
            if (++wakes > 100) check_fail(__FILE__, __LINE__, "woken without end");
            int connection;
            while ((connection = cl_accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                close(connection);
                taken++;
                if (how == 0) break; /* level: what is left is announced again */
            }
            CHECK(connection >= 0 || connection == -EAGAIN);
        }
        for (int i = 0; i < 5; i++) close(clients[i]);
        CHECK_EQ(cl_accept(listener, NULL, NULL), -EAGAIN);
        CHECK_EQ(epoll_wait(loop, &event, 1, 30), 0);
    }
    close(loop);
    OK(cl_close(listener));
}

static void epoll_level(void) { in_epoll(0); }
static void epoll_edge(void) { in_epoll(EPOLLET); }
IN_WORKERS(epoll_level)
IN_WORKERS(epoll_edge)

static void flags(void) {
    static const int all[] = {0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC};
    for (int kind = 0; kind < 2; kind++) {
        int listener = OK(kind == 0 ? cl_listen("127.0.0.1:0", 0) : listen_nonblock("127.0.0.1:0"));
        for (int i = 0; i < 5; i++) {
            int client = connect4(bound_port(listener));
            CHECK_EQ(readable_within(listener, 3000), 1);
            int connection = OK(i == 4 ? cl_accept(listener, NULL, NULL) : cl_accept4(listener, NULL, NULL, all[i]));
            int wanted = i == 4 ? 0 : all[i];
            CHECK_EQ((fcntl(connection, F_GETFL) & O_NONBLOCK) != 0, (wanted & SOCK_NONBLOCK) != 0);
            CHECK_EQ((fcntl(connection, F_GETFD) & FD_CLOEXEC) != 0, (wanted & SOCK_CLOEXEC) != 0);
            connected(client, connection);
            close(client);
            close(connection);
        }
        OK(cl_close(listener));
    }
}
IN_WORKERS(flags)

/* The peer's address as accept(2) gives it: the length goes in as room and comes out as size; no byte beyond room. */
static void peer(void) {
    static const socklen_t rooms[] = {sizeof(struct sockaddr_storage), sizeof(struct sockaddr_in), 4, 1, 0};
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        struct sockaddr_in mine;
        socklen_t mine_length = sizeof mine, length = rooms[i];
        union {
            struct sockaddr any;
            struct sockaddr_storage large;
            unsigned char bytes[sizeof(struct sockaddr_storage)];
        } place;
        int client = connect4(bound_port(listener));
        SYS(getsockname(client, (struct sockaddr *)&mine, &mine_length));
        memset(&place, 0x5a, sizeof place);
        close(OK(cl_accept(listener, &place.any, &length)));
        CHECK_EQ(length, sizeof mine);
        size_t whole = rooms[i] < sizeof mine ? rooms[i] : sizeof mine;
        CHECK(memcmp(&place, &mine, whole) == 0);
        for (size_t at = whole; at < sizeof place; at++) CHECK_EQ(place.bytes[at], 0x5a);
        close(client);
    }
    /* Without a place for the address the length is not looked at. */
    socklen_t untouched = 77;
    int client = connect4(bound_port(listener));
    close(OK(cl_accept(listener, NULL, &untouched)));
    CHECK_EQ(untouched, 77);
    close(client);
    OK(cl_close(listener));
}
IN_WORKERS(peer)

static void peer_ipv6(void) {
    struct sockaddr_in6 theirs, mine;
    socklen_t length = sizeof theirs, mine_length = sizeof mine;
    if (!have_ipv6()) check_skip("this system has no IPv6");
    int listener = OK(cl_listen("[::]:0", 0));
    int client = try_connect6(bound_port(listener));
    CHECK(client >= 0);
    SYS(getsockname(client, (struct sockaddr *)&mine, &mine_length));
    close(OK(cl_accept(listener, (struct sockaddr *)&theirs, &length)));
    CHECK_EQ(length, sizeof theirs);
    CHECK(memcmp(&theirs, &mine, sizeof mine) == 0);
    close(client);
    client = connect4(bound_port(listener));
    length = sizeof theirs;
    close(OK(cl_accept(listener, (struct sockaddr *)&theirs, &length)));
    CHECK_EQ(length, sizeof theirs);
    CHECK(IN6_IS_ADDR_V4MAPPED(&theirs.sin6_addr));
    close(client);
    OK(cl_close(listener));
}
IN_WORKERS(peer_ipv6)

/* An unnamed client of a unix socket has an address of two bytes, a named one its path. */
static void peer_unix(void) {
    struct sockaddr_un theirs, name = address_unix(case_path("server")), own = address_unix(case_path("client"));
    char address[PATH_MAX];
    socklen_t length = sizeof theirs;
    snprintf(address, sizeof address, "unix:%s", name.sun_path);
    int listener = OK(cl_listen(address, 0));
    int client = try_connect_unix(name.sun_path);
    CHECK(client >= 0);
    close(OK(cl_accept(listener, (struct sockaddr *)&theirs, &length)));
    CHECK_EQ(length, sizeof(sa_family_t));
    CHECK_EQ(theirs.sun_family, AF_UNIX);
    close(client);
    client = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(bind(client, (struct sockaddr *)&own, sizeof own));
    SYS(connect(client, (struct sockaddr *)&name, sizeof name));
    length = sizeof theirs;
    ZERO(theirs);
    close(OK(cl_accept(listener, (struct sockaddr *)&theirs, &length)));
    CHECK_EQ(length, offsetof(struct sockaddr_un, sun_path) + strlen(own.sun_path) + 1);
    CHECK(strcmp(theirs.sun_path, own.sun_path) == 0);
    close(client);
    OK(cl_close(listener));
}
IN_WORKERS(peer_unix)

static void own_name(void) {
    static const socklen_t rooms[] = {sizeof(struct sockaddr_storage), sizeof(struct sockaddr_in), 6, 0};
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        union {
            struct sockaddr any;
            struct sockaddr_in four;
            struct sockaddr_storage large;
            unsigned char bytes[sizeof(struct sockaddr_storage)];
        } place;
        socklen_t length = rooms[i];
        memset(&place, 0x5a, sizeof place);
        OK(cl_getsockname(listener, &place.any, &length));
        CHECK_EQ(length, sizeof(struct sockaddr_in));
        size_t whole = rooms[i] < sizeof(struct sockaddr_in) ? rooms[i] : sizeof(struct sockaddr_in);
        for (size_t at = whole; at < sizeof place; at++) CHECK_EQ(place.bytes[at], 0x5a);
        if (whole < sizeof(struct sockaddr_in)) continue;
        CHECK_EQ(place.four.sin_family, AF_INET);
        CHECK_EQ(ntohl(place.four.sin_addr.s_addr), INADDR_LOOPBACK);
        CHECK(place.four.sin_port != 0);
    }
    OK(cl_close(listener));
}
IN_WORKERS(own_name)

/* A client that is gone again before it was accepted costs the others nothing. */
static void gone_before(void) {
    struct linger hard;
    hard.l_onoff = 1;
    hard.l_linger = 0;
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int client = connect4(bound_port(listener));
    setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(client); /* with a reset */
    client = connect4(bound_port(listener));
    for (;;) {
        int connection = OK(cl_accept(listener, NULL, NULL));
        struct sockaddr_in name;
        socklen_t length = sizeof name;
        if (getpeername(connection, (struct sockaddr *)&name, &length) == 0) {
            connected(client, connection);
            close(connection);
            break;
        }
        close(connection);
    }
    close(client);
    OK(cl_close(listener));
}
IN_WORKERS(gone_before)

static const check_case_t cases[] = {
    ROLE_CASES(blocking), ROLE_CASES(nonblocking), ROLE_CASES(epoll_level), ROLE_CASES(epoll_edge), ROLE_CASES(flags),
    ROLE_CASES(peer), ROLE_CASES(peer_ipv6), ROLE_CASES(peer_unix), ROLE_CASES(own_name), ROLE_CASES(gone_before),
};
CHECK_MAIN(cases)
