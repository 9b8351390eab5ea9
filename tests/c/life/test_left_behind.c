/* What a worker leaves behind: a process that has a copy of the socket of its slot. It gets nobody's connections and datagrams, whatever
 * it does with the copy, and nobody goes without an answer because of it. */
#include "kernel.h"

/* What the processes of a case know of each other. */
static struct shared {
    int wanted; /* the next worker is one that leaves something behind */
    int child;
    int tries;
    int stolen;
} *shared;

enum { RELISTEN = 1, CLOSED = 2, IDLE = 3, ALONE = 4, RISES = 5 };

static void share(void) {
    void *page = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    shared = (struct shared *)page;
}

static void set_reuse(int fd, int on) { (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on); }

/* As another user where that may be, tries to have what comes to the address. */
static void steal_connections(int fd) {
    if (geteuid() == 0) (void)!setresuid(65534, 65534, 65534);
    for (;; nap(2)) {
        set_reuse(fd, 1);
        (void)!listen(fd, 64);
        set_reuse(fd, 0);
        for (int one; (one = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0; close(one))
            __atomic_add_fetch(&shared->stolen, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&shared->tries, 1, __ATOMIC_SEQ_CST);
    }
}

static void steal_datagrams(int fd, int how) {
    struct sockaddr none;
    char text[16];
    if (geteuid() == 0) (void)!setresuid(65534, 65534, 65534);
    ZERO(none);
    for (int first = 1;; nap(2)) {
        if (how == ALONE) set_reuse(fd, 0);
        if (how == RISES && first && shared->tries > 100) first = connect(fd, &none, sizeof none) != 0; /* AF_UNSPEC */
        while (how != IDLE && recv(fd, text, sizeof text, MSG_DONTWAIT) > 0) __atomic_add_fetch(&shared->stolen, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&shared->tries, 1, __ATOMIC_SEQ_CST);
    }
}

static void leave(int fd, int how) {
    int child = SYS(fork());
    if (child == 0) {
        if (how == RELISTEN) steal_connections(fd);
        steal_datagrams(fd, how);
    }
    shared->child = child;
}

/* What this worker is to be; before it listens, since the case goes on then. */
static int take_order(void) {
    int wanted = shared->wanted;
    shared->wanted = 0;
    return wanted;
}

static int serve_or_leave(void) {
    int how = take_order();
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    if (how == 0) return serve_listener(listener);
    OK(cl_getsockname(listener, (struct sockaddr *)&name, &length));
    int fd = SYS(dup(SYS(tcp_descriptor(ntohs(name.sin_port), 0))));
    if (how == CLOSED) {
        /* It lives, and has no part in the address any more. */
        OK(cl_close(listener));
        int relay = SYS(fork());
        if (relay == 0) steal_connections(fd);
        shared->child = relay;
        for (;;) nap(1000);
    }
    leave(fd, how);
    return 1;
}

static void await_tries(int more) {
    int before = shared->tries;
    PUMP_UNTIL(shared->tries > before + more, 5000);
}

static void expect_all_answered(int port, int how_many) {
    for (int i = 0; i < how_many; i++) CHECK(ask(port) > 0);
    CHECK_EQ(shared->stolen, 0);
}

static void end_child(void) {
    SYS(kill(shared->child, SIGKILL));
    finish();
}

/* `successor`: another takes the slot at once, before the old socket is given up, or later, or nobody does. */
static void thief(int how, int successor) {
    begin_kernel();
    share();
    primary_ready(serve_or_leave);
    int two = fork_worker();
    int port = await_listening(two, 1);
    shared->wanted = how;
    int one = fork_worker();
    await_listening(one, 1);
    if (how == RELISTEN) await_exit(one, 3000);
    else PUMP_UNTIL(shared->child != 0, 3000);
    if (successor == 1) await_listening(fork_worker(), 1);
    pump_for(300); /* it goes on listening for 100 ms; whoever comes then may meet it */
    shared->stolen = 0;
    await_tries(20);
    expect_all_answered(port, 30);
    if (successor == 2) {
        int third = fork_worker(), had = 0;
        await_listening(third, 1);
        await_tries(20);
        for (int i = 0; i < 20; i++) had += ask(port) == third;
        CHECK_EQ(had, 10);
        CHECK_EQ(shared->stolen, 0);
    }
    if (how == CLOSED) OK(cl_worker_kill(one, SIGKILL));
    end_child();
}

static void replaced(void) { thief(RELISTEN, 1); }
static void replaced_later(void) { thief(RELISTEN, 2); }
static void not_replaced(void) { thief(RELISTEN, 0); }
static void closed_by_a_living_worker(void) { thief(CLOSED, 1); }

/* -- Datagrams ------------------------------------------------------------------------------------------------------- */

static int serve_or_leave_datagrams(void) {
    int how = take_order();
    int listener = OK(cl_listen("udp:127.0.0.1:0", 0));
    char text[32];
    if (how != 0) {
        leave(listener, how);
        return 1;
    }
    for (;;) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        int which = await_either(listener, OK(cl_channel_fd()));
        if ((which & 2) != 0) break;
        if (recvfrom(listener, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&peer, &length) < 0) continue;
        int size = snprintf(text, sizeof text, "%d", cl_worker_id());
        SYS(sendto(listener, text, (size_t)size, 0, (struct sockaddr *)&peer, length));
    }
    OK(cl_close(listener));
    return 0;
}

/* Each from a port of its own, so that each socket of the group gets some. */
static void expect_all_heard(int port) {
    struct sockaddr_in to = address4(port);
    for (int i = 0; i < 60; i++) {
        char text[32];
        int fd = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        SYS(sendto(fd, "?", 1, 0, (struct sockaddr *)&to, sizeof to));
        if (!pump_readable(fd, 2000)) check_fail(__FILE__, __LINE__, "peer %d has no answer; %d were stolen", i, shared->stolen);
        CHECK(recv(fd, text, sizeof text, 0) > 0);
        close(fd);
    }
    CHECK_EQ(shared->stolen, 0);
}

/* Where one is forced on the tests that has one socket for all, a worker that leaves gives none up. */
static void datagrams(int how, int replaced_too) {
    use_mechanism("auto");
    share();
    primary_ready(serve_or_leave_datagrams);
    int two = fork_worker();
    int port = await_listening(two, 1);
    shared->wanted = how;
    int one = fork_worker();
    await_exit(one, 3000);
    if (replaced_too) await_listening(fork_worker(), 1);
    shared->stolen = 0;
    await_tries(10);
    if (how == RISES) {
        /* Nothing keeps it from that, so it is found and undone. */
        PUMP_UNTIL(count_events(CL_EVENT_WARNING, 0) > 0, 5000);
        CHECK(strstr(seen[find_event(CL_EVENT_WARNING, 0, 0)].data, "left behind") != NULL);
        shared->stolen = 0;
    }
    expect_all_heard(port);
    if (how != RISES) CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 0);
    end_child();
}

static void datagrams_idle(void) { datagrams(IDLE, 1); }
static void datagrams_idle_not_replaced(void) { datagrams(IDLE, 0); }
static void datagrams_alone(void) { datagrams(ALONE, 1); }
static void datagrams_rising(void) { datagrams(RISES, 1); }

/* A living worker that takes its socket out of the group takes everybody's datagrams, and is ended. */
static int serve_alone(void) {
    if (shared->wanted == 0) return serve_or_leave_datagrams();
    shared->wanted = 0;
    int listener = OK(cl_listen("udp:127.0.0.1:0", 0));
    set_reuse(listener, 0);
    for (;;) nap(1000);
}

static void datagrams_of_a_thief(void) {
    use_mechanism("auto");
    share();
    primary_ready(serve_alone);
    int two = fork_worker();
    int port = await_listening(two, 1);
    shared->wanted = ALONE;
    int one = fork_worker();
    await_listening(one, 1);
    CHECK_EQ(await_exit(one, 5000)->signal, SIGKILL);
    CHECK_EQ(count_events(CL_EVENT_WARNING, one), 1);
    expect_all_heard(port);
    finish();
}

static const check_case_t cases[] = {
    {"replaced", replaced},
    {"replaced_later", replaced_later},
    {"not_replaced", not_replaced},
    {"closed_by_a_living_worker", closed_by_a_living_worker},
    {"datagrams_idle", datagrams_idle},
    {"datagrams_idle_not_replaced", datagrams_idle_not_replaced},
    {"datagrams_alone", datagrams_alone},
    {"datagrams_rising", datagrams_rising},
    {"datagrams_of_a_thief", datagrams_of_a_thief},
};
CHECK_MAIN(cases)
