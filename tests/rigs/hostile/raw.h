/* The hostile side: a worker that speaks the raw protocol and keeps to nothing but its frames' layout, and what it writes
 * down for the oracle. */
#ifndef RAW_H
#define RAW_H

#include "frame.h"
#include <stdatomic.h>

enum { PAUSE = 12, RESUME = 13 };

enum { LATENCIES = 16384, LATENCY_US = 10 };

/* What the processes of a case tell each other, in a file of the case's own. */
typedef struct {
    atomic_int port;     /* the one that the siblings serve */
    atomic_int stop;     /* the client is to end */
    atomic_int phase;    /* whose latencies are recorded */
    atomic_int ready;    /* the hostile worker has done what it does once */
    atomic_int online;   /* honest workers that listen */
    atomic_int wanted;   /* a step that it is to take next */
    atomic_long taken;   /* connections that it took and answers in no way */
    atomic_long answered, failed, hung, refused;
    atomic_llong gap_us; /* the longest time between two answers */
    atomic_uint latency[2][LATENCIES]; /* in steps of LATENCY_US, for a phase each */
} book_t;

static book_t *book;

static inline void open_book(void) {
    int fd = SYS(open(case_path("book"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    SYS(ftruncate(fd, sizeof *book));
    book = (book_t *)mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(book != MAP_FAILED);
    close(fd);
}

/* -- What a worker is given --------------------------------------------------------------------------------------- */

static int channel, grants, lifeline, primary_pidfd, board_file;
static unsigned char nonce[8];

static inline void take_hello(void) {
    channel = atoi(getenv("CL_CHANNEL_FD"));
    const frame_t *frame = expect_frame(channel, HELLO, 32);
    CHECK_EQ(frame->fd_count, 4);
    memcpy(nonce, frame->body + 24, 8);
    grants = frame->fds[0];
    lifeline = frame->fds[1];
    primary_pidfd = frame->fds[2];
    board_file = frame->fds[3];
    check_ignore_descriptors = 1;
}

/* A send that does not wait: 0 or -errno. */
static inline int throw_packet(int fd, const void *bytes, size_t length) {
    return send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

static inline size_t build(unsigned char *packet, int type, unsigned number, const void *body, size_t length) {
    unsigned short kind = (unsigned short)type;
    memset(packet, 0, 8);
    memcpy(packet, &kind, 2);
    put_u32(packet + 4, number);
    if (length > 0) memcpy(packet + 8, body, length);
    return length + 8;
}

static inline int say(int type, const void *body, size_t length) {
    return send_frame(channel, type, 0, body, length, NULL, 0);
}

/* What its ONLINE offers: 4 is to set socket options later, 2 to accept in rotation, which it always does where that is there. */
static unsigned offered;

static inline int in_rotation(void) {
    const char *mechanism = getenv("CL_MECHANISM");
    return mechanism != NULL && strcmp(mechanism, "rotation") == 0;
}

static inline int say_online_as(unsigned version) {
    unsigned char body[16];
    put_u32(body, version);
    put_u32(body + 4, (unsigned)getpid());
    memcpy(body + 8, nonce, 8);
    return send_frame(channel, ONLINE, offered | (in_rotation() ? 2U : 0U), body, sizeof body, NULL, 0);
}

static inline void greet(void) {
    take_hello();
    CHECK_EQ(say_online_as(1), 0);
}

/* A body of SETSOCKOPT: 16 bytes, of which the last four are the value. */
static inline void put_option(unsigned char *body, unsigned listener, int level, int name, int value) {
    put_u32(body, listener);
    put_u32(body + 4, (unsigned)level);
    put_u32(body + 8, (unsigned)name);
    put_u32(body + 12, (unsigned)value);
}

/* Something about a listener that is otherwise right. */
static inline int say_number(int type, unsigned number) {
    unsigned char body[16];
    put_option(body, number, IPPROTO_TCP, TCP_NODELAY, 1);
    if (type == SETSOCKOPT) return say(type, body, sizeof body);
    return say(type, body, 4);
}

static inline int ask_listen(unsigned number, unsigned index, const char *address) {
    unsigned char body[5200];
    size_t length = strlen(address);
    put_u32(body, 0);
    put_u32(body + 4, 64);
    put_u32(body + 8, index);
    memcpy(body + 12, address, length);
    return send_frame(channel, LISTEN, number, body, 12 + length, NULL, 0);
}

/* One share of an address. */
typedef struct {
    int code;
    unsigned listener;
    int mechanism, mailbox, socket, page; /* -1 where the mailbox is all; the page is there in rotation */
} share_t;

static inline share_t take_grant(void) {
    share_t share;
    const frame_t *frame = expect_frame(grants, GRANT, (size_t)-1);
    ZERO(share);
    share.mailbox = share.socket = share.page = -1;
    share.code = (int)get_u32(frame->body);
    if (share.code != 0) return share;
    share.listener = get_u32(frame->body + 4);
    share.mechanism = (int)get_u32(frame->body + 8);
    share.mailbox = frame->fds[0];
    if (frame->fd_count > 1) share.socket = frame->fds[1];
    if (frame->fd_count > 2) share.page = frame->fds[2];
    return share;
}

static inline share_t join(unsigned number, unsigned index, const char *address) {
    CHECK_EQ(ask_listen(number, index, address), 0);
    return take_grant();
}

/* A share of what the siblings serve. */
static inline share_t join_siblings(void) {
    /* Whoever measures what others notice gives it clients of nobody. */
    share_t share = join(1, getenv("HOSTILE_APART") != NULL ? 7 : 1, "127.0.0.1:0");
    CHECK_EQ(share.code, 0);
    return share;
}

/* Others have its socket. */
static inline int is_shared(const share_t *share) {
    return share->mechanism == CL_MECHANISM_SHARED || share->mechanism == CL_MECHANISM_ROTATION;
}

/* Takes whatever waits, without an answer to anybody; how much. */
static inline int swallow(const share_t *share) {
    int count = 0, fd;
    if (share->socket >= 0)
        while ((fd = accept4(share->socket, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
            atomic_fetch_add(&book->taken, 1);
            close(fd);
            count++;
            if ((fcntl(share->socket, F_GETFL) & O_NONBLOCK) == 0) break;
        }
    while (share->mailbox >= 0 && readable_within(share->mailbox, 0)) {
        const frame_t *frame = receive_frame(share->mailbox, 0);
        if (frame->length == 0) break;
        if (frame->fd_count > 0) {
            atomic_fetch_add(&book->taken, 1);
            close(frame->fds[0]);
            count++;
        }
    }
    return count;
}

static inline void done(void) { atomic_store(&book->ready, 1); }

/* A child may outlive its worker, but neither the case nor the primary. */
static inline int over(void) { return atomic_load(&book->stop) || readable_within(primary_pidfd, 0); }

static inline void stay(void) {
    for (;;) nap(100000);
}

/* True for as many milliseconds as an attack lasts. */
static inline int attacking(long long *since) {
    const char *text = getenv("HOSTILE_MS");
    long long now = now_ms();
    if (*since == 0) *since = now;
    return now - *since < (text != NULL ? atoi(text) : 200);
}
#define ATTACK for (long long since_ = 0; attacking(&since_);)

#endif
