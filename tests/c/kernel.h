/* What the tests of the mechanism kernel share: they begin with it or say why they do not, and clients that are many. */
#ifndef KERNEL_H
#define KERNEL_H

#include "primary.h"

/* The mechanism that these tests are about, or the end of the case. A worker is none of its business. */
static inline void begin_kernel(void) {
    if (cl_is_worker() == 1) return;
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    use_mechanism("kernel");
}

/* What the workers of a case listen on. A spawned one finds it in the environment. */
static char served_address[128] = "127.0.0.1:0";

static inline void serve_at(const char *address) {
    snprintf(served_address, sizeof served_address, "%s", address);
    SYS(setenv("CHECK_ADDRESS", address, 1));
}

static inline int serve_address(void) {
    const char *address = getenv("CHECK_ADDRESS");
    int listener = cl_listen(address != NULL ? address : served_address, 0);
    return listener == -ESHUTDOWN ? 0 : serve_listener(OK(listener));
}

enum { MOST_WORKERS = 8 };

/* Workers with their ids, and how many connections each had. */
typedef struct {
    int count, port;
    int ids[MOST_WORKERS];
    int had[MOST_WORKERS];
} crew_t;

static inline crew_t hire(int count, int spawned) {
    crew_t crew;
    ZERO(crew);
    crew.count = count;
    for (int i = 0; i < count; i++) crew.ids[i] = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < count; i++) {
        crew.port = await_listening(crew.ids[i], 1);
        CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, crew.ids[i], 0)].mechanism, CL_MECHANISM_KERNEL);
    }
    return crew;
}

static inline void note(crew_t *crew, int id) {
    for (int i = 0; i < crew->count; i++)
        if (crew->ids[i] == id) {
            crew->had[i]++;
            return;
        }
    check_fail(__FILE__, __LINE__, "answered by %d, who is not one of them", id);
}

/* The most that one had, less the least. */
static inline int spread(const crew_t *crew) {
    int least = crew->had[0], most = crew->had[0];
    for (int i = 1; i < crew->count; i++) {
        if (crew->had[i] < least) least = crew->had[i];
        if (crew->had[i] > most) most = crew->had[i];
    }
    return most - least;
}

static inline void expect_spread(const crew_t *crew, int wanted) {
    /* valgrind makes threads wait for each other asleep, and who sleeps in front of his queue loses turns. */
    if (spread(crew) <= wanted || under_valgrind()) return;
    for (int i = 0; i < crew->count; i++) dprintf(2, "worker %d had %d\n", crew->ids[i], crew->had[i]);
    check_fail(__FILE__, __LINE__, "they differ by %d", spread(crew));
}

static inline int connect6(int port) {
    int fd = try_connect6(port);
    if (fd < 0) check_fail(__FILE__, __LINE__, "connect to port %d of ::1: %s", port, strerror(-fd));
    return fd;
}

/* So many connections, some at a time; family 0 is either in turn. All are answered. */
static inline void drive(crew_t *crew, int connections, int together, int family) {
    int clients[64];
    for (int done = 0; done < connections; done += together) {
        for (int i = 0; i < together; i++)
            clients[i] = family == 6 || (family == 0 && i % 2 == done / together % 2) ? connect6(crew->port) : connect4(crew->port);
        for (int i = 0; i < together; i++) note(crew, answered_by(clients[i]));
    }
}

/* What this process has had of the processors, in milliseconds. */
static inline long long processor_ms(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return used.tv_sec * 1000LL + used.tv_nsec / 1000000;
}

/* As the primary for a while in which nothing happens: it must sleep through most of it. */
static inline void expect_rest(int ms) {
    long long before = processor_ms();
    pump_for(ms);
    long long used = processor_ms() - before;
    if (used > ms / 4) check_fail(__FILE__, __LINE__, "the primary ran %lld ms of %d in which nothing was to be done", used, ms);
}

/* The descriptor of this process that is a TCP socket bound to a port, the n-th from 0; -1 if there is none. */
static inline int tcp_descriptor(int port, int n) {
    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_storage name;
        int domain = 0, listening = 0;
        socklen_t length = sizeof domain;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0 || (domain != AF_INET && domain != AF_INET6)) continue;
        length = sizeof listening;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || !listening) continue;
        length = sizeof name;
        if (getsockname(fd, (struct sockaddr *)&name, &length) == 0 && port_of(&name) == port && n-- == 0) return fd;
    }
    return -1;
}

#endif
