/* What a worker does with its processes: children that keep what it was given, descriptors in strangers' hands, standing still
 * in the middle of everything, ends of every kind. */
#include "rig.h"

static pid_t child(void) { return SYS(fork()); }

/* The worker ends; a child of its keeps every descriptor, and does nothing with them. */
static void child_keeps_all(void) {
    greet();
    join_siblings();
    if (child() == 0) {
        while (!over()) nap(20);
        _exit(0);
    }
    _exit(0);
}

/* The child goes on to speak, as fast as it can, on the channel of one that is dead. */
static void child_floods(void) {
    static unsigned char packet[9];
    greet();
    join_siblings();
    build(packet, MESSAGE, 0, "x", 1);
    for (int i = 0; i < 6; i++)
        if (child() == 0) {
            while (!over())
                if (throw_packet(channel, packet, sizeof packet) == -EPIPE) _exit(0);
            _exit(0);
        }
    _exit(0);
}

/* The child takes from the mailbox and the socket what comes, which after its parent's end is the others'. */
static void child_takes(void) {
    greet();
    share_t share = join_siblings();
    if (child() == 0) {
        while (!over()) {
            swallow(&share);
            sched_yield();
        }
        _exit(0);
    }
    _exit(0);
}

/* The child waits until the socket of its parent's slot listens no more, lets it listen alone, and takes all that comes: whoever is
 * found before the group has everybody. As another user, who has the copy all the same. */
static void child_listens_alone(void) {
    greet();
    share_t share = join_siblings();
    pid_t worker = getpid();
    if (share.socket < 0 || is_shared(&share)) done();
    else if (child() == 0) {
        if (geteuid() == 0) (void)!setresuid(65534, 65534, 65534);
        while (getppid() == worker) nap(5);
        nap(300);
        for (int tries = 0; !over(); tries++) {
            for (int on = 1; on >= 0; on--) {
                (void)setsockopt(share.socket, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
                (void)!listen(share.socket, 100);
            }
            swallow(&share);
            if (tries == 20) done();
            nap(2);
        }
        _exit(0);
    }
    _exit(0);
}

/* Another process, no child of the worker's, has all of it; and the worker is gone. */
static void given_away(void) {
    int pair[2];
    greet();
    share_t share = join_siblings();
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    int fds[6] = {channel, grants, lifeline, share.mailbox, board_file, share.socket >= 0 ? share.socket : channel};
    pid_t first = child();
    if (first == 0) {
        if (fork() == 0) {
            char byte[64];
            SYS(setsid());
            union {
                char bytes[CMSG_SPACE(8 * sizeof(int))];
                struct cmsghdr align;
            } control;
            struct iovec part = {byte, sizeof byte};
            struct msghdr message;
            ZERO(message);
            message.msg_iov = &part;
            message.msg_iovlen = 1;
            message.msg_control = control.bytes;
            message.msg_controllen = sizeof control.bytes;
            (void)recvmsg(pair[1], &message, 0);
            while (!over()) nap(20);
            _exit(0);
        }
        _exit(0);
    }
    CHECK_EQ(send_packet(pair[0], "x", 1, fds, 6), 0);
    _exit(0);
}

/* Descriptors on their way to nobody, among them the sockets that they are on their way in. */
static void in_flight_in_itself(void) {
    greet();
    share_t share = join_siblings();
    int fds[2] = {share.mailbox, grants};
    for (int i = 0; i < 20; i++) {
        struct pollfd room = {share.mailbox, POLLOUT, 0};
        if (poll(&room, 1, 0) > 0) (void)send_packet(share.mailbox, "x", 1, fds, 2);
    }
    _exit(0);
}

static void stops_before_hello(void) { SYS(kill(getpid(), SIGSTOP)); }

static void stop_soon(void) {
    /* Somebody else's stop: this worker's own call would come too late to be in the middle of something. */
    pid_t worker = getpid();
    if (child() == 0) {
        done();
        kill(worker, SIGSTOP);
        _exit(0);
    }
}

static void stops_with_a_share(void) {
    greet();
    join_siblings();
    stop_soon();
    ATTACK say_number(LOAD, 1);
}

static void stops_between_listen_and_answer(void) {
    greet();
    ask_listen(1, 1, "127.0.0.1:0");
    stop_soon();
    stay();
}

static void stops_while_leaving(void) {
    greet();
    join_siblings();
    say(DISCONNECT, NULL, 0);
    stop_soon();
    stay();
}

static void stops_while_paused(void) {
    greet();
    share_t share = join_siblings();
    say_number(PAUSE, share.listener);
    stop_soon();
    stay();
}

/* Holds its share and never reads, and lives. */
static void never_reads(void) {
    greet();
    join_siblings();
}

static void peeks_for_ever(void) {
    char bytes[64];
    greet();
    share_t share = join_siblings();
    ATTACK {
        for (int i = 0; i < 64; i++)
            if (recv(share.mailbox, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT) < 0) sched_yield();
    }
}

/* Stands still and moves by turns, so that it is taken for stuck and for well again and again. */
static void comes_and_goes(void) {
    greet();
    share_t share = join_siblings();
    ATTACK {
        nap(30);
        swallow(&share);
    }
}

static void exits_before_hello(void) { _exit(0); }

static void exits_with_all_unread(void) {
    greet();
    join_siblings();
    for (unsigned i = 2; i < 40; i++) ask_listen(i, 1, "127.0.0.1:0");
    say(MESSAGE, "x", 1);
    _exit(0);
}

static void closes_the_channel(void) {
    greet();
    join_siblings();
    close(channel);
}

static void closes_the_grants(void) {
    greet();
    join_siblings();
    close(grants);
    for (unsigned i = 2; i < 40; i++) ask_listen(i, 1, "127.0.0.1:0");
}

static const attack_t attacks[] = {
    {"never reads", never_reads, LIVES, 0, 0},
    {"peeks for ever", peeks_for_ever, LIVES, 0, 0},
    {"comes and goes", comes_and_goes, LIVES, 0, 0},
    {"stops before hello", stops_before_hello, STOPS, 0, 0},
    {"stops with a share", stops_with_a_share, STOPS, 0, 0},
    {"stops between listen and answer", stops_between_listen_and_answer, STOPS, 0, 0},
    {"stops while leaving", stops_while_leaving, STOPS, 0, 0},
    {"stops while paused", stops_while_paused, STOPS, 0, 0},
    {"exits before hello", exits_before_hello, EXITS, 0, 0},
    {"exits with all unread", exits_with_all_unread, EXITS, 0, 0},
    {"closes the channel", closes_the_channel, LIVES, 0, 0},
    {"closes the grants", closes_the_grants, LIVES, 0, 0},
    {"in flight in itself", in_flight_in_itself, EXITS, 0, 0},
    {"given away", given_away, EXITS, 0, 0},
    {"child keeps all", child_keeps_all, EXITS, 0, 0},
    {"child floods", child_floods, EXITS, 0, 0},
    {"child takes", child_takes, EXITS, 0, 0},
    {"child listens alone", child_listens_alone, EXITS, 0, STAYS_BEHIND},
};

HOSTILE_MAIN(attacks, "processes", {"_hostile", hostile_role})
