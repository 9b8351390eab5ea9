/* Descriptors that take as long to be closed as whoever made them likes, and how they are attached to a packet. */
#ifndef SLOW_H
#define SLOW_H

#include "rig.h"
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/uio.h>

enum { LINGER_S = 20, MOST = 253, FLUSH_MS = 1500 };

/* A turn that takes longer has waited for one of them to be closed. */
#define CLOSING_LIMIT_MS 400

/* A socket with data that its other end does not take, and that waits for this when it is closed for the last time. */
static inline int lingering(void) {
    static char nothing[65536];
    struct linger linger;
    int listener = plain_listener(0), small = 4096, closed[2];
    struct sockaddr_in address = address4(system_port(listener));
    int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small));
    SYS(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small));
    SYS(connect(fd, (struct sockaddr *)&address, sizeof address));
    int other = SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    /* Until nothing more goes, not even when what is on the way has been acknowledged. */
    for (long long end = now_ms() + 500; now_ms() < end;) {
        struct pollfd one = {fd, POLLOUT, 0};
        if (poll(&one, 1, 150) <= 0) break;
        (void)!send(fd, nothing, sizeof nothing, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    SYS(pipe2(closed, O_CLOEXEC));
    if (fork() == 0) { /* keeps the other end, and reads nothing */
        close(fd);
        close(channel);
        close(closed[1]);
        while (!over()) nap(20);
        _exit(0);
    }
    /* Only now, so that it is not the child who waits. */
    close(closed[1]);
    readable_within(closed[0], 5000);
    close(closed[0]);
    linger.l_onoff = 1;
    linger.l_linger = LINGER_S;
    SYS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    close(other);
    close(listener);
    return fd;
}

static inline void reply(int device, const struct fuse_in_header *to, int error, const void *data, size_t length) {
    struct fuse_out_header head;
    struct iovec parts[2];
    head.len = (unsigned)(sizeof head + length);
    head.error = error;
    head.unique = to->unique;
    parts[0].iov_base = &head;
    parts[0].iov_len = sizeof head;
    parts[1].iov_base = (void *)data;
    parts[1].iov_len = length;
    (void)!writev(device, parts, 2);
}

/* A file system with one file, which answers everything but that the file is closed, and ends FLUSH_MS after that: the worker itself
 * waits for it when it ends. */
static inline void be_a_file_system(int device) {
    static char request[1 << 18];
    long long end = 0;
    for (;;) {
        struct pollfd one = {device, POLLIN, 0};
        if (over() || (end != 0 && now_ms() > end)) _exit(0);
        if (poll(&one, 1, 20) <= 0) continue;
        ssize_t n = read(device, request, sizeof request);
        if (n < (ssize_t)sizeof(struct fuse_in_header)) _exit(0);
        const struct fuse_in_header *in = (const struct fuse_in_header *)(void *)request;
        struct fuse_init_out init;
        struct fuse_entry_out entry;
        struct fuse_attr_out attributes;
        struct fuse_open_out opened;
        ZERO(init);
        ZERO(entry);
        ZERO(attributes);
        ZERO(opened);
        switch (in->opcode) {
        case FUSE_INIT:
            init.major = FUSE_KERNEL_VERSION;
            init.minor = 31;
            init.max_write = 4096;
            reply(device, in, 0, &init, sizeof init);
            break;
        case FUSE_LOOKUP:
            entry.nodeid = 2;
            entry.attr.ino = 2;
            entry.attr.mode = S_IFREG | 0666;
            entry.attr.nlink = 1;
            reply(device, in, 0, &entry, sizeof entry);
            break;
        case FUSE_GETATTR:
            attributes.attr.ino = in->nodeid;
            attributes.attr.mode = in->nodeid == 1 ? S_IFDIR | 0777 : S_IFREG | 0666;
            attributes.attr.nlink = 1;
            reply(device, in, 0, &attributes, sizeof attributes);
            break;
        case FUSE_OPEN: reply(device, in, 0, &opened, sizeof opened); break;
        case FUSE_FLUSH: end = now_ms() + FLUSH_MS; break; /* never answered */
        case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_RELEASE: case FUSE_INTERRUPT: break;
        default: reply(device, in, -ENOSYS, NULL, 0);
        }
    }
}

/* Its file; -1 where nothing can be mounted. It stays open here: to close it would take as long here. */
static inline int file_of_fuse(void) {
    char options[128], place[64] = "/tmp/hostile-XXXXXX", name[96];
    int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0 || unshare(CLONE_NEWNS) != 0 || mkdtemp(place) == NULL) return -1;
    (void)mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    int mounted = mount("none", place, "fuse", 0, options) == 0;
    if (mounted && fork() == 0) be_a_file_system(device);
    close(device);
    snprintf(name, sizeof name, "%s/file", place);
    int file = mounted ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    (void)umount2(place, MNT_DETACH);
    rmdir(place);
    return file;
}

/* -- How it is sent -------------------------------------------------------------------------------------------------- */

/* A frame with descriptors attached; 0 or -errno. */
static inline int attach_to(int to, int type, const void *bytes, size_t length, const int *fds, int count) {
    static union {
        char bytes[CMSG_SPACE(MOST * sizeof(int))];
        struct cmsghdr align;
    } control;
    unsigned char packet[32];
    struct iovec part;
    struct msghdr message;
    ZERO(message);
    part.iov_base = packet;
    part.iov_len = build(packet, type, 0, bytes, length);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count == 0) return sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof(int));
    return sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

#endif
