/* ETOOMANYREFS: the kernel counts descriptors in flight per user, so that a stranger of our uid can use them all up.
 * Root is exempt from the count; the case runs as a user without rights. */
#include "primary.h"

static void become_nobody(void) {
    struct rlimit limit;
    if (under_valgrind()) check_skip("valgrind's own files are closed to the other user");
    if (geteuid() == 0) {
        uid_t nobody = 100000 + (uid_t)getpid(); /* not the one of a test that runs at the same time */
        SYS(chmod(getenv("CHECK_DIR"), 01777));
        SYS(setresgid(nobody, nobody, nobody));
        SYS(setresuid(nobody, nobody, nobody));
        SYS(prctl(PR_SET_DUMPABLE, 1)); /* so that /proc/self stays readable */
    }
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 128;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
}

static int send_one(int socket, int fd) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part;
    struct msghdr message;
    char byte = 0;
    ZERO(control);
    ZERO(message);
    part.iov_base = &byte;
    part.iov_len = 1;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* Holds as many in flight as there may be, until it is killed. Says when it does. */
static pid_t start_hog(int ready) {
    pid_t pid = SYS(fork());
    if (pid != 0) return pid;
    int pairs[8][2], result = 0;
    char byte;
    for (int i = 0; i < 8 && result != -ETOOMANYREFS; i++) {
        SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pairs[i]));
        do result = send_one(pairs[i][0], 0);
        while (result == 0);
    }
    byte = result == -ETOOMANYREFS ? 'y' : 'n';
    CHECK_EQ(write(ready, &byte, 1), 1);
    for (;;) nap(100000);
}

static void used_up(void) {
    struct rusage before, after;
    int ready[2], clients[10];
    char byte;
    use_mechanism("passed"); /* what the kernel gives out is not in flight */
    become_nobody();
    primary_ready(serve_any_port);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    SYS(pipe2(ready, O_CLOEXEC));
    pid_t hog = start_hog(ready[1]);
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    if (byte == 'y') {
        for (int i = 0; i < 10; i++) clients[i] = connect4(port);
        SYS(getrusage(RUSAGE_SELF, &before));
        pump_for(300);
        SYS(getrusage(RUSAGE_SELF, &after));
        CHECK((after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000LL +
                  after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec < 100000LL * check_slow());
        /* New workers are refused or wait, and nothing is left of a refused one. */
        int third = cl_fork();
        if (third == 0) become_worker();
        CHECK(third > 0 || third == -ETOOMANYREFS || third == -EAGAIN);
        long long start = now_ms();
        SYS(kill(hog, SIGKILL));
        wait_status(hog);
        /* As soon as there is room again, everybody is served. */
        for (int i = 0; i < 10; i++) CHECK(answered_by(clients[i]) > 0);
        CHECK(now_ms() - start < 1000 * check_slow());
        CHECK_EQ(count_events(CL_EVENT_EXIT, one), 0);
        CHECK_EQ(count_events(CL_EVENT_EXIT, two), 0);
        if (third > 0) await_listening(third, 1);
    } else {
        SYS(kill(hog, SIGKILL));
        wait_status(hog);
    }
    for (int i = 0; i < 6; i++) CHECK(ask(port) > 0);
    close(ready[0]);
    close(ready[1]);
    finish();
    if (byte != 'y') check_skip("this process may have any number of descriptors in flight");
}

static const check_case_t cases[] = {{"used_up", used_up}};
CHECK_MAIN(cases)
