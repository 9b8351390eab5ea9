/* A worker whose program forbids itself what workers do not need: making unix sockets, out-of-band data, tracing, bpf(2). It listens,
 * is spoken with, serves and leaves as any other. The filter is one to begin with for programs that handle what strangers send. */
#include "primary.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define ARCHITECTURE 0
#endif

/* The lower half of an argument, which is all that an int has. */
#define ARGUMENT(n) ((unsigned)(offsetof(struct seccomp_data, args) + 8 * (n)))
#define REFUSE(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
/* Refuses it when the argument has one of these bits, or is just this number. */
#define REFUSE_WITH(call, test, argument, value)                                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 4), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(argument)),            \
        BPF_JUMP(BPF_JMP | (test) | BPF_K, (value), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),          \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void forbid(void) {
    static struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, nr)),
        REFUSE(SYS_socketpair),
        REFUSE(SYS_ptrace),
        REFUSE(SYS_process_vm_writev),
        REFUSE(SYS_bpf),
        REFUSE_WITH(SYS_socket, BPF_JEQ, 0, AF_UNIX),
        REFUSE_WITH(SYS_sendto, BPF_JSET, 3, MSG_OOB),
        REFUSE_WITH(SYS_recvfrom, BPF_JSET, 3, MSG_OOB),
        REFUSE_WITH(SYS_sendmsg, BPF_JSET, 2, MSG_OOB),
        REFUSE_WITH(SYS_recvmsg, BPF_JSET, 2, MSG_OOB),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter;
    filter.len = (unsigned short)(sizeof program / sizeof program[0]);
    filter.filter = program;
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) _exit(CHECK_SKIPPED);
}

static int live_under_a_filter(void) {
    int pair[2], connection;
    forbid();
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 && errno == EPERM);
    CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EPERM);
    CHECK(send(OK(cl_channel_fd()), "x", 1, MSG_OOB) < 0 && errno == EPERM);
    int listener = OK(cl_listen("127.0.0.1:0", 0)), second = OK(cl_listen("127.0.0.1:0", 0));
    OK(cl_close(second));
    cl_set_load(3);
    OK(cl_send("here", 4));
    while ((connection = cl_accept(listener, NULL, NULL)) >= 0) answer(connection);
    CHECK_EQ(connection, -ESHUTDOWN);
    OK(cl_close(listener));
    return 0;
}

static void serve_and_leave(int policy, int spawned) {
    if (ARCHITECTURE == 0) check_skip("no filter is written for this processor");
    use_policy(policy);
    primary_ready(live_under_a_filter);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_EXIT, 0) > 0 || count_events(CL_EVENT_LISTENING, 0) == 4, 5000);
    if (count_events(CL_EVENT_EXIT, 0) > 0 && seen[find_event(CL_EVENT_EXIT, 0, 0)].exit_code == CHECK_SKIPPED) {
        finish();
        check_skip("seccomp filters are not allowed here");
    }
    int port = await_listening(one, 1);
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, 0) == 2, 5000);
    for (int i = 0; i < 20; i++) ask(port);
    OK(cl_worker_kill(one, SIGKILL));
    await_exit(one, 3000);
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), two);
    OK(cl_worker_disconnect(two));
    CHECK_EQ(await_exit(two, 5000)->exit_code, 0);
    finish();
}

static void forked(void) { serve_and_leave(CL_SCHED_RR, 0); }
static void shared(void) { serve_and_leave(CL_SCHED_NONE, 0); }
static void spawned(void) {
    if (worker_side()) exit(live_under_a_filter());
    serve_and_leave(CL_SCHED_RR, 1);
}

static const check_case_t cases[] = {{"forked", forked}, {"shared", shared}, {"spawned", spawned}};
CHECK_MAIN(cases)
