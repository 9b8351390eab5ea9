/* A worker that is made by hand, as docs/protocol.md says: its birth, and its question. */
#ifndef WORKER_BY_HAND_H
#define WORKER_BY_HAND_H

#include "frame.h"

static int channel, grants, primary_pidfd, board_file;
static unsigned char nonce[8];

/* Takes HELLO as the page says, without a call of the library. */
static inline void take_hello(void) {
    channel = atoi(getenv("CL_CHANNEL_FD"));
    const frame_t *frame = expect_frame(channel, HELLO, 32);
    check_ignore_descriptors = 1;
    CHECK_EQ(frame->number, 0);
    CHECK_EQ(frame->fd_count, 4);
    CHECK(memcmp(frame->body, "libclust", 8) == 0);
    CHECK_EQ(get_u32(frame->body + 8), 1);
    CHECK_EQ(get_u32(frame->body + 12), atoi(getenv("CL_WORKER_ID")));
    CHECK_EQ(get_u32(frame->body + 16), atoi(getenv("CL_WORKER_SLOT")));
    CHECK_EQ(get_u32(frame->body + 20), getppid());
    memcpy(nonce, frame->body + 24, 8);
    grants = frame->fds[0];
    primary_pidfd = frame->fds[2];
    board_file = frame->fds[3];
    CHECK_EQ(readable_within(primary_pidfd, 0), 0);
    /* The lifeline kills at the primary's death whoever takes no care himself: a pipe's end, silent while it lives. */
    CHECK_EQ(readable_within(frame->fds[1], 0), 0);
    CHECK(fcntl(frame->fds[1], F_GETFL) & O_ASYNC);
    CHECK_EQ(fcntl(frame->fds[1], F_GETSIG), SIGKILL);
    CHECK_EQ(fcntl(frame->fds[1], F_GETOWN), getpid());
}

/* What its ONLINE offers: 2 is to accept in rotation, 4 to set socket options later. */
static unsigned offered;

static inline void say_online(unsigned version) {
    unsigned char body[16];
    put_u32(body, version);
    put_u32(body + 4, (unsigned)getpid());
    memcpy(body + 8, nonce, 8);
    CHECK_EQ(send_frame(channel, ONLINE, offered, body, sizeof body, NULL, 0), 0);
}

static inline void send_listen(unsigned number, unsigned flags, int backlog, unsigned index, const char *address) {
    unsigned char body[4200];
    put_u32(body, flags);
    put_u32(body + 4, (unsigned)backlog);
    put_u32(body + 8, index);
    memcpy(body + 12, address, strlen(address));
    CHECK_EQ(send_frame(channel, LISTEN, number, body, 12 + strlen(address), NULL, 0), 0);
}

#endif
