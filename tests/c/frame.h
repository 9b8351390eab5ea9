/* Frames by hand, as docs/protocol.md gives them: for tests that are the other side of the protocol themselves. */
#ifndef FRAME_H
#define FRAME_H

#include "net.h"

enum {
    HELLO = 1, ONLINE, LISTEN, CLOSE, MESSAGE, LOAD, DISCONNECT, GRANT, CONNECTION, NOP, STOP, UNSEAT = 14,
    RETURNS = 15, HANDBACK, SETSOCKOPT, SEAT
};

typedef struct {
    size_t length; /* of the whole packet; 0 at end of file */
    unsigned short type;
    unsigned number;
    unsigned char body[70000];
    size_t body_length;
    int fds[8];
    int fd_count;
} frame_t;

static inline void put_u32(unsigned char *at, unsigned value) { memcpy(at, &value, 4); }

static inline unsigned get_u32(const unsigned char *at) {
    unsigned value;
    memcpy(&value, at, 4);
    return value;
}

/* Sends one packet of any bytes; 0 or -errno. */
static inline int send_packet(int fd, const void *bytes, size_t length, const int *fds, int fd_count) {
    union {
        char bytes[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part;
    struct msghdr message;
    ZERO(control);
    ZERO(message);
    part.iov_base = (void *)bytes;
    part.iov_len = length;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (fd_count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)fd_count);
    }
    ssize_t n;
    do n = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

static inline int send_frame(int fd, int type, unsigned number, const void *body, size_t length, const int *fds, int fd_count) {
    static unsigned char packet[70008];
    unsigned short kind = (unsigned short)type;
    memset(packet, 0, 8);
    memcpy(packet, &kind, 2);
    put_u32(packet + 4, number);
    if (length > 0) memcpy(packet + 8, body, length);
    return send_packet(fd, packet, length + 8, fds, fd_count);
}

/* Receives one packet with its descriptors within the time. */
static inline const frame_t *receive_frame(int fd, int ms) {
    static frame_t frame;
    static unsigned char packet[70008];
    union {
        char bytes[CMSG_SPACE(8 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part;
    struct msghdr message;
    memset(&frame, 0, sizeof frame);
    ZERO(message);
    part.iov_base = packet;
    part.iov_len = sizeof packet;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    if (!readable_within(fd, ms * check_slow())) check_fail(__FILE__, __LINE__, "no frame");
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n <= 0) return &frame;
    CHECK((message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) == 0);
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        frame.fd_count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(frame.fds, CMSG_DATA(header), sizeof(int) * (size_t)frame.fd_count);
    }
    CHECK(n >= 8);
    frame.length = (size_t)n;
    memcpy(&frame.type, packet, 2);
    CHECK_EQ(packet[2], 0);
    CHECK_EQ(packet[3], 0);
    frame.number = get_u32(packet + 4);
    frame.body_length = (size_t)n - 8;
    memcpy(frame.body, packet + 8, frame.body_length);
    return &frame;
}

static inline const frame_t *expect_frame(int fd, int type, size_t body_length) {
    const frame_t *frame = receive_frame(fd, 5000);
    if (frame->length == 0) check_fail(__FILE__, __LINE__, "end of file instead of a frame of type %d", type);
    CHECK_EQ(frame->type, type);
    if (body_length != (size_t)-1) CHECK_EQ(frame->body_length, body_length);
    return frame;
}

#endif
