/* Frames that no worker may send, beyond those of tests/c/protocol/test_protocol_primary.c: each type cut short, each in each state
 * in which it has no place, too much of one, and numbers that belong to others. */
#include "rig.h"

/* A body that is right for its type, where one is; its length, or -1. */
static int rightful(int type, unsigned char *body) {
    memset(body, 0, 64);
    switch (type) {
    case ONLINE: put_u32(body, 1); put_u32(body + 4, (unsigned)getpid()); memcpy(body + 8, nonce, 8); return 16;
    case LISTEN: put_u32(body + 4, 64); put_u32(body + 8, 1); memcpy(body + 12, "127.0.0.1:0", 11); return 23;
    case CLOSE: case LOAD: case PAUSE: case RESUME: case UNSEAT: case SEAT: return 4;
    case SETSOCKOPT: return 12;
    case MESSAGE: case DISCONNECT: return 0;
    default: return -1;
    }
}

/* What the environment says beside the attack: a number. */
static int variant(void) { return atomic_load(&book->wanted); }

static void cut_short(void) {
    unsigned char body[64], packet[80];
    offered = 6;
    greet();
    int type = variant(), length = rightful(type, body);
    size_t whole = build(packet, type, 0, body, (size_t)(length < 0 ? 0 : length));
    /* An address may be as short as one byte, and a message may end anywhere behind its header. */
    throw_packet(channel, packet, type == LISTEN ? 8 + 12 : whole - 1);
    stay();
}

static void too_long(void) {
    unsigned char body[64], packet[5300];
    offered = 6;
    greet();
    int type = variant(), length = rightful(type, body);
    memset(packet, 'a', sizeof packet);
    build(packet, type, 0, body, (size_t)length);
    throw_packet(channel, packet, type == LISTEN ? 12 + 8 + 4097 : type == SETSOCKOPT ? 8 + 12 + 257 : (size_t)length + 9);
    stay();
}

static void before_online(void) {
    unsigned char body[64];
    take_hello();
    int length = rightful(variant(), body);
    say(variant(), body, (size_t)(length < 0 ? 16 : length));
    stay();
}

static void of_nobody(void) {
    offered = 6;
    greet();
    say_number(variant(), 0x7fffffff);
    stay();
}

/* Listener ids are numbers from 1: those of the siblings are among these. */
static void of_a_sibling(void) {
    offered = 6;
    greet();
    share_t share = join_siblings();
    say_number(variant(), share.listener == 2 ? 3 : 2);
    stay();
}

static void of_one_closed(void) {
    offered = 6;
    greet();
    share_t share = join_siblings();
    say_number(CLOSE, share.listener);
    say_number(variant(), share.listener);
    stay();
}

/* A frame of something that it did not offer, and otherwise right. */
static void not_offered(void) {
    greet();
    say_number(variant(), join_siblings().listener);
    stay();
}

/* What it was granted is passed on. */
static void not_granted(void) {
    offered = 2;
    greet();
    say_number(SEAT, join_siblings().listener);
    stay();
}

static void online_while_leaving(void) {
    greet();
    join_siblings();
    say(DISCONNECT, NULL, 0);
    say_online_as(1);
    stay();
}

static void random_bytes(void) {
    static unsigned char bytes[4096];
    offered = 6;
    greet();
    srandom((unsigned)variant());
    for (int i = 0; i < 60; i++) {
        size_t length = (size_t)random() % sizeof bytes;
        for (size_t at = 0; at < length; at++) bytes[at] = (unsigned char)random();
        if (length > 4) bytes[1] = bytes[2] = bytes[3] = 0;
        if (length > 0) bytes[0] %= 20;
        throw_packet(channel, bytes, length);
    }
    throw_packet(channel, bytes, 1);
    stay();
}

/* One packet that is larger than the channel's buffer once was, as large as the kernel lets it be. */
static void huge(void) {
    static unsigned char bytes[4 << 20];
    int size = sizeof bytes;
    greet();
    if (setsockopt(channel, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        setsockopt(channel, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    bytes[0] = MESSAGE;
    for (size_t length = sizeof bytes; length > 65544 && throw_packet(channel, bytes, length) != 0;) length -= 65536;
    stay();
}

/* Each is an offence, and all are there before the first is read. One word about it is enough. */
static void many_wrong_versions(void) {
    take_hello();
    for (int i = 0; i < 200; i++) say_online_as(99);
    stay();
}

static void many_empty_packets(void) {
    greet();
    for (int i = 0; i < 1000; i++)
        if (throw_packet(channel, "", 0) != 0) break;
    stay();
}

/* Credentials are no descriptors, and a frame that carries them is as good as any. */
static void credentials(void) {
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    unsigned char packet[16];
    struct iovec part;
    struct msghdr message;
    struct ucred self;
    greet();
    ZERO(control);
    ZERO(message);
    part.iov_base = packet;
    part.iov_len = build(packet, MESSAGE, 0, "x", 1);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_CREDENTIALS;
    header->cmsg_len = CMSG_LEN(sizeof self);
    self.pid = getpid();
    self.uid = getuid();
    self.gid = getgid();
    memcpy(CMSG_DATA(header), &self, sizeof self);
    SYS(sendmsg(channel, &message, MSG_NOSIGNAL));
}

static const attack_t attacks[] = {
    {"cut short", cut_short, ENDED, 1, 0},
    {"too long", too_long, ENDED, 1, 0},
    {"before online", before_online, ENDED, 1, 0},
    {"of nobody", of_nobody, ENDED, 1, 0},
    {"of a sibling", of_a_sibling, ENDED, 1, 0},
    {"of one closed", of_one_closed, ENDED, 1, 0},
    {"not offered", not_offered, ENDED, 1, 0},
    {"not granted", not_granted, ENDED, 1, 0},
    {"online while leaving", online_while_leaving, ENDED, 1, 0},
    {"random bytes", random_bytes, ENDED, 1, 0},
    {"huge", huge, ENDED, 1, 0},
    {"many wrong versions", many_wrong_versions, ENDED, 1, 0},
    {"many empty packets", many_empty_packets, ENDED, 1, 0},
    {"credentials", credentials, LIVES, 0, 0},
};

static void each(const char *name, const int *variants, int count) {
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++)
        for (int n = 0; strcmp(attacks[i].name, name) == 0 && n < count; n++) {
            next_variant = variants[n];
            suffer(&attacks[i]);
        }
}
#define EACH(name, ...)                                                                \
    do {                                                                               \
        static const int variants_[] = {__VA_ARGS__};                                  \
        each(name, variants_, (int)(sizeof variants_ / sizeof variants_[0]));          \
    } while (0)

/* The primary reads frames in the same way whatever the mechanism. */
static void frames(void) {
    begin_rig("passed");
    EACH("cut short", ONLINE, LISTEN, CLOSE, MESSAGE, LOAD, DISCONNECT, PAUSE, RESUME, UNSEAT, SEAT, SETSOCKOPT);
    EACH("too long", ONLINE, LISTEN, CLOSE, LOAD, DISCONNECT, PAUSE, RESUME, UNSEAT, SEAT, SETSOCKOPT);
    EACH("before online", HELLO, LISTEN, CLOSE, LOAD, DISCONNECT, GRANT, PAUSE, RESUME, UNSEAT, SEAT, SETSOCKOPT);
    EACH("of nobody", CLOSE, PAUSE, RESUME, UNSEAT, SEAT, SETSOCKOPT);
    EACH("of a sibling", CLOSE, PAUSE, RESUME, UNSEAT, SEAT, SETSOCKOPT);
    EACH("of one closed", CLOSE, PAUSE, RESUME, UNSEAT, SEAT, SETSOCKOPT);
    EACH("not offered", SETSOCKOPT, SEAT);
    EACH("not granted", 0);
    EACH("online while leaving", 0);
    EACH("random bytes", 1, 2, 3);
    EACH("huge", 0);
    EACH("many wrong versions", 0);
    EACH("many empty packets", 0);
    EACH("credentials", 0);
    end_rig();
}

HOSTILE_ROLE(attacks)

static const check_case_t cases[] = {{"frames", frames}, {"_hostile", hostile_role}};
CHECK_MAIN(cases)
