/* A worker's own child has copies of what the worker listens with: after SIGKILL for the primary, or a stop, it keeps nobody waiting. */
#include "primary.h"

static int policy = CL_SCHED_RR, stands, go[2], gone[2];
static char at[64] = "127.0.0.1:0";

/* Goes on until the case closes its end. */
static void start_child(void) {
    char any;
    if (SYS(fork()) != 0) return;
    close(go[1]);
    close(gone[0]);
    _exit(read(go[0], &any, 1) < 0);
}

static int serve(void) {
    int listener = cl_listen(at, 0);
    if (listener == -ESHUTDOWN) return 0;
    OK(listener);
    start_child();
    if (stands) for (;;) pause();
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN || connection == -EPIPE) return 0;
        answer(OK(connection));
    }
}

static void settle(void) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = policy;
    OK(cl_setup_primary(&settings));
}

static void be_primary(int tell) {
    settle();
    OK(cl_on_event(remember_event, NULL));
    worker_main = serve;
    int port = await_listening(fork_worker(), 1);
    CHECK_EQ(write(tell, &port, sizeof port), sizeof port);
    for (;;) turn(1000);
}

enum { CLIENTS = 3 };

static int has_ended(int client) {
    char any;
    if (!readable_within(client, 5000 * check_slow())) return 0;
    return recv(client, &any, 1, 0) <= 0;
}

static int is_free(int port) {
    struct sockaddr_in address = address4(port);
    int yes = 1, fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes));
    int free_now = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0;
    close(fd);
    return free_now;
}

static void let_child_go(void) {
    char any;
    close(go[1]);
    close(gone[1]);
    CHECK_EQ(read(gone[0], &any, 1), 0);
    check_ignore_descriptors = 1;
}

static void primary_is_killed(int of_policy, int worker_stands) {
    int tell[2], port, clients[CLIENTS];
    policy = of_policy;
    stands = worker_stands;
    SYS(pipe(go));
    SYS(pipe(gone));
    SYS(pipe(tell));
    pid_t primary = SYS(fork());
    if (primary == 0) be_primary(tell[1]);
    CHECK_EQ(read(tell[0], &port, sizeof port), sizeof port);
    for (int i = 0; stands && i < CLIENTS; i++) clients[i] = connect4(port);
    if (!stands) {
        char text[64];
        int client = connect4(port);
        CHECK(receive_all(client, text, sizeof text) > 0);
        close(client);
    } else {
        nap(50); /* so that they are in the mailbox, where they go there; elsewhere it is right as well */
    }
    SYS(kill(primary, SIGKILL));
    wait_status(primary);
    WAIT_UNTIL(is_free(port), 5000);
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
    for (int i = 0; stands && i < CLIENTS; i++) CHECK(has_ended(clients[i]));
    let_child_go();
}

static void accepts_rr(void) { primary_is_killed(CL_SCHED_RR, 0); }
static void accepts_none(void) { primary_is_killed(CL_SCHED_NONE, 0); }
static void accepts_least(void) { primary_is_killed(CL_SCHED_LEAST_LOADED, 0); }
static void accepts_hash(void) { primary_is_killed(CL_SCHED_SOURCE_HASH, 0); }
static void stands_rr(void) { primary_is_killed(CL_SCHED_RR, 1); }
static void stands_none(void) { primary_is_killed(CL_SCHED_NONE, 1); }
static void stands_hash(void) { primary_is_killed(CL_SCHED_SOURCE_HASH, 1); }
static void stands_passed(void) {
    use_mechanism("passed");
    primary_is_killed(CL_SCHED_RR, 1);
}

/* -- Datagrams ---------------------------------------------------------------------------------------------------- */

static int echo(void) {
    int fd = cl_listen(at, 0), channel = OK(cl_channel_fd());
    if (fd == -ESHUTDOWN) return 0;
    OK(fd);
    start_child();
    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        char text[8];
        int which = await_either(fd, channel);
        if ((which & 2) != 0 && cl_receive(text, sizeof text, 0) == -ESHUTDOWN) return 0;
        ssize_t n = recvfrom(fd, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
        if (n > 0) sendto(fd, text, (size_t)n, 0, (struct sockaddr *)&from, length);
    }
}

static int peer_of(int port) {
    struct sockaddr_in address = address4(port);
    int fd = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    SYS(connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

static int is_answered(int peer) {
    char text[8];
    CHECK_EQ(send(peer, "ping", 4, 0), 4);
    return pump_readable(peer, 3000) && recv(peer, text, sizeof text, 0) == 4;
}

/* Nobody reads any more, and whoever sends there is told. */
static void datagrams(int of_policy) {
    char text[8];
    policy = of_policy;
    snprintf(at, sizeof at, "udp:127.0.0.1:0");
    SYS(pipe(go));
    SYS(pipe(gone));
    settle();
    primary_ready(echo);
    int one = fork_worker(), port = await_listening(one, 1);
    await_listening(fork_worker(), 1);
    OK(cl_worker_disconnect(one));
    await_exit(one, 3000);
    /* Its child has a copy of its socket, which must get nothing in the stead of the other. */
    for (int i = 0; i < 16; i++) {
        int peer = peer_of(port);
        CHECK(is_answered(peer));
        close(peer);
    }
    finish();
    int peer = peer_of(port);
    CHECK_EQ(send(peer, "ping", 4, 0), 4);
    CHECK(readable_within(peer, 3000 * check_slow()));
    CHECK_EQ(recv(peer, text, sizeof text, 0), -1);
    CHECK_EQ(errno, ECONNREFUSED);
    close(peer);
    let_child_go();
}

static void datagrams_own(void) {
    use_mechanism("auto");
    datagrams(CL_SCHED_RR);
}
static void datagrams_shared(void) { datagrams(CL_SCHED_NONE); }

static const check_case_t cases[] = {
    {"accepts_rr", accepts_rr},       {"accepts_none", accepts_none},         {"accepts_least", accepts_least},
    {"accepts_hash", accepts_hash},   {"stands_rr", stands_rr},               {"stands_none", stands_none},
    {"stands_hash", stands_hash},     {"stands_passed", stands_passed},       {"datagrams_own", datagrams_own},
    {"datagrams_shared", datagrams_shared},
};
CHECK_MAIN(cases)
