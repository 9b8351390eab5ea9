/* Spoils what a worker needs to join, and then becomes $NODE. JOIN says how, in steps with a space between them:
 *   refuse=CALL:ERRNO[:ARG:MASK:VALUE]  a filter refuses a system call, or only that with args[ARG] & MASK == VALUE
 *   unset=NAME  set=NAME=VALUE          the environment
 *   close  foreign                      every descriptor from 3 on; the channel's number means another socket
 *   nofile=N                            a limit
 * Exit code 77: filters are not allowed here. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const struct {
    const char *name;
    int number;
} calls[] = {
    {"clone3", SYS_clone3}, {"recvmsg", SYS_recvmsg}, {"sendmsg", SYS_sendmsg}, {"fcntl", SYS_fcntl},
    {"getsockopt", SYS_getsockopt}, {"getsockname", SYS_getsockname}, {"mmap", SYS_mmap}, {"shutdown", SYS_shutdown},
    {"pidfd_send_signal", SYS_pidfd_send_signal}, {"epoll_ctl", SYS_epoll_ctl}, {"madvise", SYS_madvise},
};

static void fail(const char *what) {
    fprintf(stderr, "spoil: %s: %s\n", what, strerror(errno));
    exit(99);
}

static void refuse(const char *how) {
    char name[32];
    int with, argument = 0, fields;
    unsigned mask = 0, value = 0;
    size_t i = 0;
    fields = sscanf(how, "%31[^:]:%d:%d:%u:%u", name, &with, &argument, &mask, &value);
    while (i < COUNT(calls) && strcmp(calls[i].name, name) != 0) i++;
    if (fields < 2 || i == COUNT(calls)) fail(how);
    {
        struct sock_filter program[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 4),
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)(offsetof(struct seccomp_data, args) + 8 * (size_t)argument)),
            BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)with),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog filter = {(unsigned short)COUNT(program), program};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("PR_SET_NO_NEW_PRIVS");
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) exit(77);
    }
}

static void foreign(void) {
    int pair[2], channel = atoi(getenv("CL_CHANNEL_FD"));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 || dup2(pair[0], channel) < 0) fail("socketpair");
}

static void limit_files(rlim_t most) {
    struct rlimit limit = {most, most};
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) fail("RLIMIT_NOFILE");
}

static const char *value_of(const char *step, const char *name) {
    size_t length = strlen(name);
    return strncmp(step, name, length) == 0 && step[length] == '=' ? step + length + 1 : NULL;
}

static void take(char *step) {
    const char *value;
    char *equals;
    if ((value = value_of(step, "refuse")) != NULL) refuse(value);
    else if ((value = value_of(step, "unset")) != NULL) unsetenv(value);
    else if ((value = value_of(step, "nofile")) != NULL) limit_files((rlim_t)atoi(value));
    else if (value_of(step, "set") != NULL && (equals = strchr(step + 4, '=')) != NULL) {
        *equals = '\0';
        setenv(step + 4, equals + 1, 1);
    } else if (strcmp(step, "close") == 0) syscall(SYS_close_range, 3, ~0U, 0);
    else if (strcmp(step, "foreign") == 0) foreign();
    else fail(step);
}

int main(int argc, char **argv) {
    char *step, *join = getenv("JOIN"), *node = getenv("NODE"), steps[1024];
    (void)argc;
    if (join == NULL || node == NULL || strlen(join) >= sizeof steps) fail("JOIN and NODE");
    strcpy(steps, join);
    /* A worker's own workers are not spoiled, and would show. */
    unsetenv("JOIN");
    for (step = strtok(steps, " "); step != NULL; step = strtok(NULL, " ")) take(step);
    argv[0] = node;
    execv(node, argv);
    fail(node);
    return 1;
}
