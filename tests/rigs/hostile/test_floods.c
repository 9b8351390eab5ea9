/* Floods on every socket that a worker has, and nobody reading at the other end: the primary goes on with its other work, and
 * grows by nothing that it does not bound. */
#include "rig.h"

static void raise_buffer(int fd) {
    int size = 32 << 20;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* As many of a packet as go in, for as long as the attack lasts. */
static void flood(const void *packet, size_t length) {
    ATTACK {
        for (int i = 0; i < 64; i++)
            if (throw_packet(channel, packet, length) != 0) sched_yield();
    }
}

static void flood_numbers(int type, unsigned number) {
    unsigned char body[4], packet[12];
    put_u32(body, number);
    build(packet, type, 0, body, 4);
    flood(packet, sizeof packet);
}

static void small_messages(void) {
    unsigned char packet[9];
    greet();
    build(packet, MESSAGE, 0, "x", 1);
    flood(packet, sizeof packet);
}

/* Sixty-four of these are 4 MiB, and the buffer holds them all. */
static void large_messages(void) {
    static unsigned char packet[65544];
    greet();
    raise_buffer(channel);
    packet[0] = MESSAGE;
    flood(packet, sizeof packet);
}

static void loads(void) {
    greet();
    flood_numbers(LOAD, 5);
}

static void disconnects(void) {
    unsigned char packet[8];
    greet();
    join_siblings();
    build(packet, DISCONNECT, 0, NULL, 0);
    flood(packet, sizeof packet);
}

static void unseats(void) {
    greet();
    flood_numbers(UNSEAT, join_siblings().listener);
}

static void flood_by_turns(int one, int other, unsigned number) {
    unsigned char body[4], packets[2][12];
    put_u32(body, number);
    build(packets[0], one, 0, body, 4);
    build(packets[1], other, 0, body, 4);
    unsigned next = 0;
    ATTACK {
        for (int i = 0; i < 64; i++)
            if (throw_packet(channel, packets[next % 2], 12) == 0) next++;
            else sched_yield();
    }
}

static void pauses(void) {
    greet();
    flood_by_turns(PAUSE, RESUME, join_siblings().listener);
}

static void seats(void) {
    greet();
    share_t share = join_siblings();
    flood_by_turns(share.page >= 0 ? SEAT : UNSEAT, UNSEAT, share.listener);
}

/* Asks for what it cannot have, and never looks at the answers. */
static void refused_listens(void) {
    unsigned char body[32], packet[64];
    memset(body, 0, sizeof body);
    greet();
    memcpy(body + 12, "nonsense", 8);
    flood(packet, build(packet, LISTEN, 7, body, 20));
}

/* Sets an option of what the siblings serve, and reads the answers in time. */
static void options(void) {
    unsigned char body[16], packet[24], answer[600];
    offered = 4;
    greet();
    put_option(body, join_siblings().listener, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    size_t length = build(packet, SETSOCKOPT, 7, body, sizeof body);
    ATTACK {
        for (int i = 0; i < 64; i++)
            if (throw_packet(channel, packet, length) != 0) sched_yield();
        while (recv(grants, answer, sizeof answer, MSG_DONTWAIT) > 0) {}
    }
}

/* The same, and what it may not set; and never looks at the answers. */
static void unread_options(void) {
    unsigned char body[16], packets[2][24];
    offered = 4;
    greet();
    unsigned listener = join_siblings().listener, next = 0;
    put_option(body, listener, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    build(packets[0], SETSOCKOPT, 7, body, sizeof body);
    put_option(body, listener, SOL_SOCKET, SO_LINGER, 1);
    build(packets[1], SETSOCKOPT, 8, body, sizeof body);
    ATTACK {
        for (int i = 0; i < 64; i++)
            if (throw_packet(channel, packets[next % 2], 24) == 0) next++;
            else sched_yield();
    }
}

/* The same for what it can have: at most 256, unread. */
static void granted_listens(void) {
    char address[32];
    greet();
    for (unsigned n = 0; n < 400; n++) {
        snprintf(address, sizeof address, "127.0.%u.%u:0", n / 250, n % 250 + 1);
        if (ask_listen(n, 1, address) != 0) break;
    }
    flood_numbers(LOAD, 1);
}

/* As many as it may have of the addresses that all who do this ask for. */
static void joins_what_is_open(void) {
    char address[32];
    greet();
    for (unsigned n = 1; n <= 40; n++) {
        snprintf(address, sizeof address, "127.0.2.%u:0", n);
        join(n, 1, address);
    }
}

/* An address opened and given up at once, again and again. */
static void listens_and_closes(void) {
    char address[32];
    greet();
    unsigned n = 0;
    ATTACK {
        share_t shares[16];
        for (int i = 0; i < 16; i++) {
            snprintf(address, sizeof address, "127.0.1.%u:0", n++ % 250 + 1);
            ask_listen(n, 1, address);
        }
        for (int i = 0; i < 16; i++) {
            shares[i] = take_grant();
            if (shares[i].code != 0) continue;
            close(shares[i].mailbox);
            if (shares[i].socket >= 0) close(shares[i].socket);
            say_number(CLOSE, shares[i].listener);
        }
    }
}

static void joins_and_leaves(void) {
    greet();
    ATTACK {
        share_t share = join_siblings();
        close(share.mailbox);
        if (share.socket >= 0) close(share.socket);
        say_number(CLOSE, share.listener);
    }
}

/* What the primary never reads: the sending ends of the mailbox and of the grants socket, with descriptors and without. */
static void into_what_nobody_reads(void) {
    static unsigned char bytes[4000];
    greet();
    share_t share = join_siblings();
    raise_buffer(grants);
    raise_buffer(share.mailbox);
    int fds[4] = {channel, grants, share.mailbox, board_file};
    ATTACK {
        for (int i = 0; i < 16; i++) {
            if (throw_packet(grants, bytes, sizeof bytes) != 0 && throw_packet(share.mailbox, bytes, sizeof bytes) != 0) sched_yield();
            struct pollfd room = {grants, POLLOUT, 0};
            if (poll(&room, 1, 0) > 0) send_packet(grants, bytes, 8, fds, 4);
        }
    }
}

/* It reads nothing of what the program sends it, and writes with a buffer as small as may be; its listens go unread, too. */
static void both_sides_full(void) {
    static unsigned char packet[1032];
    unsigned char listen_body[32], listening[64];
    int size = 4608;
    greet();
    SYS(setsockopt(channel, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
    SYS(setsockopt(grants, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    memset(listen_body, 0, sizeof listen_body);
    memcpy(listen_body + 12, "127.0.0.1:0", 11);
    put_u32(listen_body + 8, 1);
    size_t length = build(listening, LISTEN, 1, listen_body, 23);
    build(packet, MESSAGE, 0, packet + 8, 1024);
    for (int i = 0; i < 40; i++) throw_packet(channel, listening, length);
    flood(packet, sizeof packet);
}

static const attack_t attacks[] = {
    {"small messages", small_messages, LIVES, 0, 0},
    {"large messages", large_messages, LIVES, 0, 0},
    {"loads", loads, LIVES, 0, 0},
    {"disconnects", disconnects, LIVES, 0, 0},
    {"unseats", unseats, LIVES, 0, 0},
    {"pauses", pauses, LIVES, 0, 0},
    {"seats", seats, LIVES, 0, 0},
    {"refused listens", refused_listens, EITHER, 1, 0},
    {"listens and closes", listens_and_closes, LIVES, 0, 0},
    {"joins and leaves", joins_and_leaves, LIVES, 0, 0},
    {"into what nobody reads", into_what_nobody_reads, LIVES, 0, 0},
    {"both sides full", both_sides_full, LIVES, 0, 0},
    {"options", options, LIVES, 0, 0},
    {"unread options", unread_options, EITHER, 1, 0},
    {"granted listens", granted_listens, EITHER, 1, LEAVES_ADDRESSES},
    {"joins what is open", joins_what_is_open, LIVES, 0, LEAVES_ADDRESSES},
};

static const attack_t *attack_called(const char *name) {
    const attack_t *one = attacks;
    while (strcmp(one->name, name) != 0) one++;
    return one;
}

#ifndef HOSTILE_WITHOUT_MAIN
static rlim_t limit_descriptors(rlim_t count) {
    struct rlimit limit;
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = count;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    return before;
}

/* Another worker can be started, and is one that serves. */
static void replace_a_sibling(void) {
    int old = siblings[0], online = atomic_load(&book->online), sibling = siblings[0] = fork_worker();
    RIG_UNTIL(atomic_load(&book->online) > online, 3000);
    OK(cl_worker_kill(old, SIGKILL));
    long answered = atomic_load(&book->answered);
    RIG_UNTIL(atomic_load(&book->answered) > answered + 100, 6000);
    CHECK(pid_of(sibling) > 0);
    atomic_store(&book->failed, 0); /* what the old one had in its hands */
}

/* However many addresses a worker asks for, and whatever one that died has left, there are descriptors for the clients and for
 * another worker. */
static void few_descriptors(const char *mechanism) {
    if (strcmp(mechanism, "kernel") == 0 && !may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    begin_rig(mechanism);
    rlim_t before = limit_descriptors(160);
    for (int i = 0; i < 8; i++) suffer(attack_called("granted listens"));
    replace_a_sibling();
    limit_descriptors(before);
    end_rig();
}

/* Of addresses that are open already no more is given away than leaves room for workers to be started. */
static void few_joins(const char *mechanism) {
    int ids[4];
    if (strcmp(mechanism, "kernel") == 0 && !may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    begin_rig(mechanism);
    rlim_t before = limit_descriptors(160);
    for (int i = 0; i < 4; i++) {
        ids[i] = start_hostile("joins what is open");
        RIG_UNTIL(atomic_load(&book->ready), 6000);
    }
    for (int i = 0; i < 4; i++) {
        exits = 0;
        hostile_id = ids[i];
        OK(cl_worker_kill(hostile_id, SIGKILL));
        RIG_UNTIL(exits > 0, 3000);
    }
    expect_service("joins what is open");
    replace_a_sibling();
    limit_descriptors(before);
    end_rig();
}

static void few_passed(void) { few_descriptors("passed"); }
static void few_kernel(void) { few_descriptors("kernel"); }
static void few_joins_passed(void) { few_joins("passed"); }
static void few_joins_kernel(void) { few_joins("kernel"); }
static void few_rotation(void) { few_descriptors("rotation"); }
static void few_joins_rotation(void) { few_joins("rotation"); }

HOSTILE_MAIN(attacks, "floods", {"few_passed", few_passed}, {"few_kernel", few_kernel},
             {"few_joins_passed", few_joins_passed}, {"few_joins_kernel", few_joins_kernel},
             {"few_rotation", few_rotation}, {"few_joins_rotation", few_joins_rotation}, {"_hostile", hostile_role})
#endif
