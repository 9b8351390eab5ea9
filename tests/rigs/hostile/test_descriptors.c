/* Descriptors that a worker attaches to what it sends. The kernel closes those that nobody wanted in the process that did not want
 * them, and how long that takes is the sender's to choose: a TCP socket that lingers, a file of FUSE whose server does not answer.
 * Once as this kernel has it (from Linux 6.16 on they are refused), and once as older ones do. */
#include "filter.h"
#include "rig.h"
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/uio.h>

enum { LINGER_S = 20, MOST = 253, SO_PASSRIGHTS_ = 83, FLUSH_MS = 1500 };

/* A turn that takes longer has waited for one of them to be closed. */
#define CLOSING_LIMIT_MS 400

/* -- What is slow to be closed -------------------------------------------------------------------------------------- */

/* A socket with data that its other end does not take, and that waits for this when it is closed for the last time. */
static int lingering(void) {
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

static void reply(int device, const struct fuse_in_header *to, int error, const void *data, size_t length) {
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
static void be_a_file_system(int device) {
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
static int file_of_fuse(void) {
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

static int attach(int to, const int *fds, int count) {
    static union {
        char bytes[CMSG_SPACE(MOST * sizeof(int))];
        struct cmsghdr align;
    } control;
    unsigned char packet[16];
    struct iovec part;
    struct msghdr message;
    ZERO(message);
    part.iov_base = packet;
    part.iov_len = build(packet, MESSAGE, 0, "x", 1);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof(int));
    return sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* More than the primary reads of a worker at once; what comes behind it is unread when the worker ends. */
static void say_too_much(void) {
    static unsigned char packet[9];
    build(packet, MESSAGE, 0, "x", 1);
    while (throw_packet(channel, packet, sizeof packet) == 0) {}
    /* Room for one more. */
    for (;;) {
        struct pollfd one = {channel, POLLOUT, 0};
        if (poll(&one, 1, 1000) > 0) return;
    }
}

static void lingers(void) {
    greet();
    join_siblings();
    int fd = lingering();
    /* Where it was refused, this process would be the one that waits. */
    if (attach(channel, &fd, 1) == 0) close(fd);
}

static void lingers_at_the_end(void) {
    greet();
    join_siblings();
    int fd = lingering();
    say_too_much();
    for (int i = 0; i < 3; i++) (void)attach(channel, &fd, 1);
    _exit(0);
}

static void many_linger(void) {
    int fds[MOST];
    greet();
    join_siblings();
    for (int i = 0; i < MOST; i++) fds[i] = i < 8 ? lingering() : dup(fds[i % 8]);
    int refused = attach(channel, fds, MOST);
    for (int i = 0; i < MOST && refused == 0; i++) close(fds[i]);
}

static void file_does_not_close(void) {
    greet();
    join_siblings();
    int file = file_of_fuse();
    if (file >= 0) (void)attach(channel, &file, 1);
}

static void file_at_the_end(void) {
    greet();
    join_siblings();
    int file = file_of_fuse();
    if (file < 0) _exit(0);
    say_too_much();
    for (int i = 0; i < 3; i++) (void)attach(channel, &file, 1);
    kill(getpid(), SIGKILL);
}

static void bombs(void) {
    int fds[MOST];
    greet();
    for (int i = 0; i < MOST; i++) fds[i] = channel;
    for (int i = 0; i < 500; i++)
        if (attach(channel, fds, MOST) < 0) break;
}

/* Where the primary only sends, nobody else can put anything in. */
static void the_wrong_way(void) {
    greet();
    share_t share = join_siblings();
    int fd = lingering();
    CHECK_EQ(attach(grants, &fd, 1), -EPIPE);
    CHECK_EQ(attach(share.mailbox, &fd, 1), -EPIPE);
    CHECK_EQ(throw_packet(grants, "x", 1), -EPIPE);
}

static const attack_t attacks[] = {
    {"lingers", lingers, EITHER, 1, 0},
    {"lingers at the end", lingers_at_the_end, EITHER, 1, 0},
    {"many linger", many_linger, EITHER, 1, 0},
    {"file does not close", file_does_not_close, EITHER, 1, 0},
    {"file at the end", file_at_the_end, EITHER, 1, 0},
    {"bombs", bombs, EITHER, 1, 0},
    {"the wrong way", the_wrong_way, LIVES, 0, 0},
};

static void each(int old_kernel) {
    if (old_kernel) refuse_option(SO_PASSRIGHTS_, ENOPROTOOPT);
    begin_rig("passed");
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        attack_t attack = attacks[i];
        const char *only = getenv("HOSTILE_ONLY");
        if (only != NULL && strcmp(only, attack.name) != 0) continue;
        suffer(&attack);
        if (longest_turn_us > CLOSING_LIMIT_MS * 1000LL * check_slow())
            check_fail(attack.name, 0, "a turn of the primary took %lld us", longest_turn_us);
    }
    end_rig();
}

static void this_kernel(void) { each(0); }
static void older_kernels(void) { each(1); }

HOSTILE_ROLE(attacks)

static const check_case_t cases[] = {
    {"this_kernel", this_kernel}, {"older_kernels", older_kernels}, {"_hostile", hostile_role}};
CHECK_MAIN(cases)
