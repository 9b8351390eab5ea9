/* The backlog asked for is the one the kernel has: min(asked, somaxconn), 511 where nothing was asked. */
#include "primary.h"

static int somaxconn(void) {
    char text[32] = "";
    int fd = SYS(open("/proc/sys/net/core/somaxconn", O_RDONLY | O_CLOEXEC));
    CHECK(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return atoi(text);
}

static int at_most(int asked) { return asked < somaxconn() ? asked : somaxconn(); }

/* For a listening socket the kernel reports the limit of its queue in this field; ss(8) shows it as Send-Q. */
static int backlog_of(int fd) {
    struct tcp_info info;
    socklen_t length = sizeof info;
    ZERO(info);
    SYS(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
    return (int)info.tcpi_sacked;
}

static const int asked[] = {64, 0, -1, 1, 1000000, INT_MIN};
static const int wanted[] = {64, 511, 511, 1, 1000000, 511};
enum { HOW_MANY = 6 };

static void alone(void) {
    for (int i = 0; i < HOW_MANY; i++) {
        int listener = OK(cl_listen("127.0.0.1:0", asked[i]));
        CHECK_EQ(backlog_of(listener), at_most(wanted[i]));
        OK(cl_close(listener));
    }
}

static int listen_each(void) {
    for (int i = 0; i < HOW_MANY; i++) OK(cl_listen("127.0.0.1:0", asked[i]));
    char text[8];
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    return 0;
}

/* Asks for more where others had asked before: the first asker's is used. */
static int listen_larger(void) {
    for (int i = 0; i < HOW_MANY; i++) OK(cl_listen("127.0.0.1:0", 2000));
    char text[8];
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    return 0;
}

/* All that listen on a port: the primary has each of them, one, or with the mechanism kernel one for each slot and its own. */
static int count_listeners(int port, int backlog) {
    int count = 0;
    for (int fd = 3; fd < 256; fd++) {
        int listens = 0;
        socklen_t length = sizeof listens;
        struct sockaddr_storage name;
        socklen_t name_length = sizeof name;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0 || !listens) continue;
        if (getsockname(fd, (struct sockaddr *)&name, &name_length) != 0 || port_of(&name) != port) continue;
        CHECK_EQ(backlog_of(fd), backlog);
        count++;
    }
    return count;
}

static void through_workers(int policy, int spawned) {
    int kernel = policy == CL_SCHED_RR && expected_mechanism() == CL_MECHANISM_KERNEL;
    use_policy(policy);
    primary_ready(listen_each);
    int one = spawned ? spawn_worker() : fork_worker();
    await_listening(one, HOW_MANY);
    worker_main = listen_larger;
    int two = fork_worker();
    await_listening(two, HOW_MANY);
    for (int i = 0; i < HOW_MANY; i++) {
        int port = await_listening(one, i + 1);
        CHECK_EQ(await_listening(two, i + 1), port);
        CHECK_EQ(count_listeners(port, at_most(wanted[i])), kernel ? 3 : 1);
    }
    finish();
}

static void forked(void) { through_workers(CL_SCHED_RR, 0); }
static void forked_shared(void) { through_workers(CL_SCHED_NONE, 0); }
static void spawned(void) {
    if (worker_side()) listen_each();
    else through_workers(CL_SCHED_RR, 1);
}

static const check_case_t cases[] = {
    {"alone", alone}, {"forked", forked}, {"forked_shared", forked_shared}, {"spawned", spawned},
};
CHECK_MAIN(cases)
