/* Clients for the tests: loopback connections, each with a deadline of its own. */
#ifndef NET_H
#define NET_H

#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

/* No client of a test waits longer than this for anything. */
#define CLIENT_LIMIT_MS 8000

static inline struct sockaddr_in address4(int port) {
    struct sockaddr_in address;
    ZERO(address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)port);
    return address;
}

static inline struct sockaddr_in6 address6(int port) {
    struct sockaddr_in6 address;
    ZERO(address);
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    address.sin6_port = htons((unsigned short)port);
    return address;
}

static inline struct sockaddr_un address_unix(const char *path) {
    struct sockaddr_un address;
    ZERO(address);
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

static inline void limit_waits(int fd) {
    struct timeval limit;
    limit.tv_sec = CLIENT_LIMIT_MS / 1000 * check_slow();
    limit.tv_usec = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

/* A connected socket, or -errno. */
static inline int try_connect(int family, const void *address, size_t length) {
    int fd = SYS(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    limit_waits(fd);
    int result;
    do result = connect(fd, (const struct sockaddr *)address, (socklen_t)length);
    while (result < 0 && errno == EINTR);
    if (result == 0) return fd;
    result = -errno;
    close(fd);
    return result;
}

static inline int try_connect4(int port) {
    struct sockaddr_in address = address4(port);
    return try_connect(AF_INET, &address, sizeof address);
}

static inline int try_connect6(int port) {
    struct sockaddr_in6 address = address6(port);
    return try_connect(AF_INET6, &address, sizeof address);
}

static inline int try_connect_unix(const char *path) {
    struct sockaddr_un address = address_unix(path);
    return try_connect(AF_UNIX, &address, sizeof address);
}

static inline int connect4(int port) {
    int fd = try_connect4(port);
    if (fd < 0) check_fail(__FILE__, __LINE__, "connect to port %d: %s", port, strerror(-fd));
    return fd;
}

static inline void send_text(int fd, const char *text) {
    size_t length = strlen(text);
    while (length > 0) {
        ssize_t n = send(fd, text, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) check_fail(__FILE__, __LINE__, "send: %s", strerror(errno));
        text += n;
        length -= (size_t)n;
    }
}

/* Reads up to end of file; the number of bytes, -errno when the connection broke or nothing came in time. */
static inline int receive_all(int fd, char *text, size_t capacity) {
    size_t length = 0;
    while (length + 1 < capacity) {
        ssize_t n = recv(fd, text + length, capacity - 1 - length, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) break;
        length += (size_t)n;
    }
    text[length] = '\0';
    return (int)length;
}

/* Reads exactly one line, without its end. */
static inline int receive_line(int fd, char *text, size_t capacity) {
    size_t length = 0;
    while (length + 1 < capacity) {
        char one;
        ssize_t n = read(fd, &one, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) return length == 0 ? -EPIPE : (int)length;
        if (one == '\n') break;
        text[length++] = one;
    }
    text[length] = '\0';
    return (int)length;
}

/* What a worker of the tests says to a client: who it is. Then it closes. */
static inline void answer(int connection) {
    char text[96];
    snprintf(text, sizeof text, "%d %d %d\n", cl_worker_id(), cl_worker_slot(), (int)getpid());
    send_text(connection, text);
    close(connection);
}

/* Echoes one line and closes. */
static inline void echo_line(int connection) {
    char text[256];
    limit_waits(connection);
    if (receive_line(connection, text, sizeof text - 1) >= 0) {
        strcat(text, "\n");
        send_text(connection, text);
    }
    close(connection);
}

static inline int port_of(const struct sockaddr_storage *name) {
    if (name->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)name)->sin_port);
    if (name->ss_family == AF_INET6) return ntohs(((const struct sockaddr_in6 *)name)->sin6_port);
    return -1;
}

/* The bound port of one of our listeners. */
static inline int bound_port(int listener) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    ZERO(name);
    OK(cl_getsockname(listener, (struct sockaddr *)&name, &length));
    return port_of(&name);
}

static inline int system_port(int fd) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    SYS(getsockname(fd, (struct sockaddr *)&name, &length));
    return port_of(&name);
}

/* A plain listening socket that is none of the library's. */
static inline int plain_listener(int port) {
    struct sockaddr_in address = address4(port);
    int yes = 1;
    int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes));
    SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    SYS(listen(fd, 16));
    return fd;
}

/* A port nobody uses: below the range from which the kernel gives ports to clients, and another in every process. */
static inline int free_port(void) {
    static unsigned last;
    if (last == 0) last = (unsigned)getpid() * 7919U + (unsigned)now_ms();
    for (int tries = 0; tries < 10000; tries++) {
        int port = 10000 + (int)(last++ % 20000);
        struct sockaddr_in address = address4(port);
        int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        int result = bind(fd, (struct sockaddr *)&address, sizeof address);
        close(fd);
        if (result == 0) return port;
    }
    check_fail(__FILE__, __LINE__, "no port is free");
    return -1;
}

static inline int have_ipv6(void) {
    struct sockaddr_in6 address = address6(0);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int have = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0) close(fd);
    return have;
}

/* -- Listening ---------------------------------------------------------------------------------------------------- */

static inline int listen_flags(const char *address, unsigned flags) {
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = address;
    options.flags = flags;
    return cl_listen_with(&options);
}

static inline int listen_index(const char *address, int index) {
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = address;
    options.index = index;
    return cl_listen_with(&options);
}

static inline const char *unix_address(const char *path) {
    static char address[PATH_MAX + 8];
    snprintf(address, sizeof address, "unix:%s", path);
    return address;
}

/* The listener answers on this connection, which was made a moment ago. */
static inline void served(int listener, int client) {
    char text[96];
    if (client < 0) check_fail(__FILE__, __LINE__, "connect: %s", strerror(-client));
    answer(OK(cl_accept(listener, NULL, NULL)));
    CHECK(receive_all(client, text, sizeof text) > 0);
    CHECK_EQ(atoi(text), cl_worker_id());
    close(client);
}

/* Which of two are readable: 1, 2 or both, waiting for one of them; 0 after a signal. */
static inline int await_either(int one, int other) {
    struct pollfd both[2] = {{one, POLLIN, 0}, {other, POLLIN, 0}};
    if (poll(both, 2, -1) < 0) return 0;
    return (both[0].revents != 0) | (both[1].revents != 0) << 1;
}

#endif
