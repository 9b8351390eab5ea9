/* A worker that leaves, and hands back what is no connection of its listeners, or too much. It ends for that; nobody waits until something
 * of it is closed, and nobody else loses a connection. */
#include "slow.h"

static int returns = -1;

/* What takes its time is made behind this, and before it listens: whoever came to its own socket would wait meanwhile. */
static void begin(void) {
    offered = 1;
    greet();
}

/* A share of what the siblings serve, and where it may hand connections back. */
static share_t leave_in_order(void) {
    share_t share = join_siblings();
    CHECK_EQ(say(DISCONNECT, NULL, 0), 0);
    const frame_t *frame = expect_frame(grants, RETURNS, 0);
    CHECK_EQ(frame->fd_count, 1);
    returns = frame->fds[0];
    return share;
}

static int hand_back(unsigned listener, const int *fds, int count) {
    unsigned char body[4];
    put_u32(body, listener);
    return attach_to(returns, HANDBACK, body, sizeof body, fds, count);
}

/* `make` is called when it has a channel, as some of what it makes has a child. */
static void hand_back_one(int (*make)(void)) {
    begin();
    int fd = make();
    share_t share = leave_in_order();
    (void)hand_back(share.listener, &fd, 1);
}

static int end_of_a_pipe(void) {
    int ends[2];
    SYS(pipe2(ends, O_CLOEXEC));
    return ends[0];
}
static void a_pipe(void) { hand_back_one(end_of_a_pipe); }

static int listening(void) { return plain_listener(0); }
static void a_listening_socket(void) { hand_back_one(listening); }

static int connected_datagrams(void) {
    int fd = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    struct sockaddr_in to = address4(9);
    SYS(connect(fd, (struct sockaddr *)&to, sizeof to));
    return fd;
}
static void datagrams(void) { hand_back_one(connected_datagrams); }

/* Accepted elsewhere. */
static int foreign(void) {
    int listener = plain_listener(0), client = connect4(system_port(listener));
    CHECK(client >= 0);
    return SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

static void a_foreign_connection(void) { hand_back_one(foreign); }

static void one_that_lingers(void) { hand_back_one(lingering); }

static int file(void) {
    int of_fuse = file_of_fuse();
    return of_fuse >= 0 ? of_fuse : SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));
}
static void a_file_that_does_not_close(void) { hand_back_one(file); }

/* Not connected: as one whose client has just gone, which is no offence. */
static void none_that_is_connected(void) {
    begin();
    share_t share = leave_in_order();
    for (int i = 0; i < 100; i++) {
        int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        (void)hand_back(share.listener, &fd, 1);
        close(fd);
    }
}

static void two_at_once(void) {
    begin();
    int two[2] = {foreign(), lingering()};
    share_t share = leave_in_order();
    (void)hand_back(share.listener, two, 2);
}

static void many_at_once(void) {
    static int fds[MOST];
    begin();
    for (int i = 0; i < MOST; i++) fds[i] = i < 4 ? lingering() : SYS(dup(fds[i % 4]));
    (void)hand_back(leave_in_order().listener, fds, MOST);
}

static void none_at_all(void) {
    begin();
    (void)hand_back(leave_in_order().listener, NULL, 0);
}

static void of_no_listener(void) {
    begin();
    int fd = foreign();
    (void)hand_back(leave_in_order().listener + 1000, &fd, 1);
}

static void another_frame(void) {
    begin();
    unsigned char body[4];
    int fd = foreign();
    share_t share = leave_in_order();
    put_u32(body, share.listener);
    (void)attach_to(returns, CLOSE, body, sizeof body, &fd, 1);
}

static void a_long_frame(void) {
    static const unsigned char body[12];
    begin();
    int fd = foreign();
    (void)leave_in_order();
    (void)attach_to(returns, HANDBACK, body, sizeof body, &fd, 1);
}

/* Unread when it ends. */
static void at_the_end(void) {
    begin();
    int of_fuse = file_of_fuse(), slow = lingering();
    share_t share = leave_in_order();
    for (int i = 0; i < 50; i++) {
        (void)hand_back(share.listener, &slow, 1);
        if (of_fuse >= 0) (void)hand_back(share.listener, &of_fuse, 1);
    }
    kill(getpid(), SIGKILL);
}

/* A connection that came to this worker, or -1. */
static int take_one(const share_t *share, int ms) {
    int fd = share->socket >= 0 ? accept4(share->socket, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd >= 0 || !readable_within(share->mailbox, ms)) return fd;
    const frame_t *frame = receive_frame(share->mailbox, 0);
    return frame->fd_count > 0 ? frame->fds[0] : -1;
}

/* One connection again and again: the siblings get it as often as they have room. Whoever came with it goes back to them. */
static void floods(void) {
    static int others[1024];
    int count = 0, own = -1;
    begin();
    share_t share = join_siblings();
    struct sockaddr_in name, peer;
    socklen_t length = sizeof name;
    int client = connect4(atomic_load(&book->port));
    SYS(getsockname(client, (struct sockaddr *)&name, &length));
    /* Until it is this worker's turn at the time of its own client; those of others wait meanwhile. */
    for (long long end = now_ms() + 100; own < 0 && count < 1024 && now_ms() < end;) {
        int fd = take_one(&share, 2);
        length = sizeof peer;
        int is_connected = fd >= 0 && getpeername(fd, (struct sockaddr *)&peer, &length) == 0;
        if (is_connected && peer.sin_port == name.sin_port) own = fd;
        else if (fd >= 0) others[count++] = fd;
        if (own >= 0 || !readable_within(client, 0)) continue;
        close(client); /* a sibling had it */
        client = connect4(atomic_load(&book->port));
        length = sizeof name;
        SYS(getsockname(client, (struct sockaddr *)&name, &length));
    }
    if (fork() == 0) { /* its client reads for as long as a sibling may answer it, since no sibling gives a client up */
        char text[4096];
        close(channel);
        close(own);
        for (int i = 0; i < count; i++) close(others[i]); /* or they would stay open */
        while (!over())
            if (recv(client, text, sizeof text, MSG_DONTWAIT) <= 0) nap(1);
        _exit(0);
    }
    CHECK_EQ(say(DISCONNECT, NULL, 0), 0);
    returns = expect_frame(grants, RETURNS, 0)->fds[0];
    for (int i = 0; i < count; i++) {
        while (hand_back(share.listener, &others[i], 1) == -EAGAIN) nap(1);
        close(others[i]);
    }
    ATTACK {
        int fd = take_one(&share, 0);
        while (fd >= 0 && hand_back(share.listener, &fd, 1) == -EAGAIN) nap(1);
        if (fd >= 0) close(fd);
        if (own < 0 || hand_back(share.listener, &own, 1) == -EAGAIN) nap(1);
    }
    kill(getpid(), SIGKILL);
}

static const attack_t attacks[] = {
    {"floods", floods, EITHER, 1, 0},
    {"a pipe", a_pipe, ENDED, 1, 0},
    {"a listening socket", a_listening_socket, ENDED, 1, 0},
    {"datagrams", datagrams, ENDED, 1, 0},
    {"a foreign connection", a_foreign_connection, ENDED, 1, 0},
    {"one that lingers", one_that_lingers, ENDED, 1, 0},
    {"a file that does not close", a_file_that_does_not_close, ENDED, 1, 0},
    {"none that is connected", none_that_is_connected, LIVES, 0, 0},
    {"two at once", two_at_once, ENDED, 1, 0},
    {"many at once", many_at_once, ENDED, 1, 0},
    {"none at all", none_at_all, ENDED, 1, 0},
    {"of no listener", of_no_listener, ENDED, 1, 0},
    {"another frame", another_frame, ENDED, 1, 0},
    {"a long frame", a_long_frame, ENDED, 1, 0},
    {"at the end", at_the_end, EITHER, 1, 0},
};

static void each(const char *mechanism) {
    if (strcmp(mechanism, "kernel") == 0 && !may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    begin_rig(mechanism);
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        const char *only = getenv("HOSTILE_ONLY");
        if (only != NULL && strcmp(only, attacks[i].name) != 0) continue;
        suffer(&attacks[i]);
        if (longest_turn_us > CLOSING_LIMIT_MS * 1000LL * check_slow())
            check_fail(attacks[i].name, 0, "a turn of the primary took %lld us", longest_turn_us);
    }
    end_rig();
}

static void passed(void) { each("passed"); }
static void kernel(void) { each("kernel"); }
static void rotation(void) { each("rotation"); }

HOSTILE_ROLE(attacks)

static const check_case_t cases[] = {
    {"passed", passed}, {"kernel", kernel}, {"rotation", rotation}, {"_hostile", hostile_role}};
CHECK_MAIN(cases)
