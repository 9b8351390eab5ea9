/* Every way to write a TCP address: alone and in workers, each reached by a real connection. */
#include "primary.h"

static int family_of(int listener) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    ZERO(name);
    OK(cl_getsockname(listener, (struct sockaddr *)&name, &length));
    CHECK_EQ(length, name.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    return name.ss_family;
}

static void ipv4(void) {
    static const char *const addresses[] = {"127.0.0.1:0", "0.0.0.0:0"};
    for (int i = 0; i < 2; i++) {
        int listener = OK(cl_listen(addresses[i], 0));
        CHECK_EQ(family_of(listener), AF_INET);
        CHECK(bound_port(listener) > 0);
        served(listener, try_connect4(bound_port(listener)));
        OK(cl_close(listener));
    }
}
IN_WORKERS(ipv4)

static void ipv6(void) {
    if (!have_ipv6()) check_skip("this system has no IPv6");
    int listener = OK(cl_listen("[::1]:0", 0));
    CHECK_EQ(family_of(listener), AF_INET6);
    served(listener, try_connect6(bound_port(listener)));
    CHECK_EQ(try_connect4(bound_port(listener)), -ECONNREFUSED);
    OK(cl_close(listener));
    listener = OK(cl_listen("[::1%lo]:0", 0));
    served(listener, try_connect6(bound_port(listener)));
    OK(cl_close(listener));
}
IN_WORKERS(ipv6)

static void dual_stack(void) {
    static const char *const addresses[] = {":0", "[::]:0"};
    for (int i = 0; i < 2; i++) {
        if (i > 0 && !have_ipv6()) break;
        int listener = OK(cl_listen(addresses[i], 0));
        CHECK_EQ(family_of(listener), have_ipv6() ? AF_INET6 : AF_INET);
        served(listener, try_connect4(bound_port(listener)));
        if (have_ipv6()) served(listener, try_connect6(bound_port(listener)));
        OK(cl_close(listener));
    }
}
IN_WORKERS(dual_stack)

static void ipv6_only(void) {
    if (!have_ipv6()) check_skip("this system has no IPv6");
    static const char *const addresses[] = {":0", "[::]:0"};
    for (int i = 0; i < 2; i++) {
        /* Ports of their own: the first asker's flags are used for an address and index. */
        int listener = OK(listen_flags(addresses[i], CL_LISTEN_IPV6ONLY));
        CHECK_EQ(family_of(listener), AF_INET6);
        served(listener, try_connect6(bound_port(listener)));
        CHECK_EQ(try_connect4(bound_port(listener)), -ECONNREFUSED);
        OK(cl_close(listener));
    }
}
IN_WORKERS(ipv6_only)

static void name(void) {
    int listener = OK(cl_listen("localhost:0", 0));
    int port = bound_port(listener);
    served(listener, family_of(listener) == AF_INET ? try_connect4(port) : try_connect6(port));
    OK(cl_close(listener));
    listener = OK(cl_listen("LOCALHOST:0", 0));
    OK(cl_close(listener));
}
IN_WORKERS(name)

static void fixed_port(void) {
    char address[64];
    int port = free_port();
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    int listener = OK(cl_listen(address, 0));
    CHECK_EQ(bound_port(listener), port);
    served(listener, try_connect4(port));
    OK(cl_close(listener));
    snprintf(address, sizeof address, ":%d", port = free_port());
    listener = OK(cl_listen(address, 0));
    CHECK_EQ(bound_port(listener), port);
    served(listener, try_connect4(port));
    OK(cl_close(listener));
}
IN_WORKERS(fixed_port)

/* Alone, a closed listener's port is free at once and can be taken again, also after connections. */
static void listen_again(void) {
    char address[64];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int port = bound_port(listener);
    for (int i = 0; i < 3; i++) {
        served(listener, try_connect4(port));
        OK(cl_close(listener));
        if (cl_is_worker() != 1) CHECK_EQ(try_connect4(port), -ECONNREFUSED);
        snprintf(address, sizeof address, "127.0.0.1:%d", port);
        if (cl_is_worker() == 1) strcpy(address, "127.0.0.1:0");
        listener = OK(cl_listen(address, 0));
        port = bound_port(listener);
    }
    OK(cl_close(listener));
}
IN_WORKERS(listen_again)

/* The listener is one pollable descriptor, closed on exec: readable when a connection waits, and not before. */
static void pollable(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    CHECK(fcntl(listener, F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(readable_within(listener, 30), 0);
    int client = connect4(bound_port(listener));
    CHECK_EQ(readable_within(listener, 3000), 1);
    served(listener, client);
    CHECK_EQ(readable_within(listener, 30), 0);
    OK(cl_close(listener));
}
IN_WORKERS(pollable)

static void many(void) {
    int listeners[40];
    for (int i = 0; i < 40; i++) listeners[i] = OK(cl_listen("127.0.0.1:0", 0));
    for (int i = 39; i >= 0; i--) served(listeners[i], try_connect4(bound_port(listeners[i])));
    for (int i = 0; i < 40; i++) OK(cl_close(listeners[i]));
}
IN_WORKERS(many)

/* A bind the system refuses: its own code comes back, and nothing stays behind. */
static void not_ours(void) {
    CHECK_EQ(cl_listen("192.0.2.1:0", 0), -EADDRNOTAVAIL);
    CHECK(strstr(cl_last_error(), "192.0.2.1") != NULL);
    if (have_ipv6()) CHECK_EQ(cl_listen("[2001:db8::1]:0", 0), -EADDRNOTAVAIL);
    OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
}
IN_WORKERS(not_ours)

static const check_case_t cases[] = {
    ROLE_CASES(ipv4),      ROLE_CASES(ipv6), ROLE_CASES(dual_stack), ROLE_CASES(ipv6_only),    ROLE_CASES(name),
    ROLE_CASES(fixed_port), ROLE_CASES(listen_again), ROLE_CASES(pollable),  ROLE_CASES(many),  ROLE_CASES(not_ours),
};
CHECK_MAIN(cases)
