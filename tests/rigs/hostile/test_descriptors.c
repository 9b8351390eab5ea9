/* Descriptors that a worker attaches to what it sends. The kernel closes those that nobody wanted in the process that did not want
 * them, and how long that takes is the sender's to choose: a TCP socket that lingers, a file of FUSE whose server does not answer.
 * Once as this kernel has it (from Linux 6.16 on they are refused), and once as older ones do. */
#include "filter.h"
#include "slow.h"

enum { SO_PASSRIGHTS_ = 83 };

static int attach(int to, const int *fds, int count) { return attach_to(to, MESSAGE, "x", 1, fds, count); }

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
