/* A primary that is made by hand, as docs/protocol.md says: it starts a role of the test as its worker. */
#ifndef PRIMARY_BY_HAND_H
#define PRIMARY_BY_HAND_H

#include "frame.h"

static const unsigned char hand_nonce[8] = {1, 2, 3, 4, 5, 6, 7, 8};

typedef struct {
    int channel, grants, lifeline;
    pid_t pid;
} hand_t;

/* What goes with the hello as the page of the scoreboard, if anything does. */
static int board_of_worker = -1;

/* Starts a role as worker 5 in slot 2. */
static inline hand_t start_worker(const char *role, unsigned version) {
    hand_t self;
    unsigned char hello[32];
    int channel[2], grants[2], lifeline[2];
    char number[16];
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel));
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, grants));
    SYS(pipe2(lifeline, O_CLOEXEC));
    memcpy(hello, "libclust", 8);
    put_u32(hello + 8, version);
    put_u32(hello + 12, 5);
    put_u32(hello + 16, 2);
    put_u32(hello + 20, (unsigned)getpid());
    memcpy(hello + 24, hand_nonce, 8);
    int passed[4] = {grants[1], lifeline[0], pidfd_of(getpid()), board_of_worker};
    if (passed[2] < 0) check_skip("pidfd_open(2) is missing here");
    CHECK_EQ(send_frame(channel[0], HELLO, 0, hello, sizeof hello, passed, board_of_worker >= 0 ? 4 : 3), 0);
    for (int i = 0; i < 3; i++) close(passed[i]);
    SYS(fcntl(channel[1], F_SETFD, 0));
    snprintf(number, sizeof number, "%d", channel[1]);
    setenv("CL_CHANNEL_FD", number, 1);
    setenv("CL_WORKER_ID", "5", 1);
    setenv("CL_WORKER_SLOT", "2", 1);
    self.pid = start_role(role, -1);
    unsetenv("CL_CHANNEL_FD");
    unsetenv("CL_WORKER_ID");
    unsetenv("CL_WORKER_SLOT");
    close(channel[1]);
    self.channel = channel[0];
    self.grants = grants[0];
    self.lifeline = lifeline[1];
    return self;
}

static inline void expect_online(const hand_t *self) {
    const frame_t *frame = expect_frame(self->channel, ONLINE, 16);
    CHECK_EQ(frame->number, 1 | 2 | 4); /* it hands connections back, accepts in rotation, and sets socket options later */
    CHECK_EQ(frame->fd_count, 0);
    CHECK_EQ(get_u32(frame->body), 1);
    CHECK_EQ(get_u32(frame->body + 4), self->pid);
    CHECK(memcmp(frame->body + 8, hand_nonce, 8) == 0);
}

static inline void end_worker(hand_t *self) {
    WAIT_SUCCESS(self->pid);
    close(self->channel);
    close(self->grants);
    close(self->lifeline);
}

#endif
