/* A stop while one worker stands still and another has nothing to do: whoever waits for the first is served by the second, also where
 * the deadline is too short for the first to be known as stuck. */
#include "kernel.h"

static int hung_slot;

static int serve_or_hang(void) {
    signal(SIGTERM, SIG_IGN); /* it may need longer than the deadline, which is not what this is about */
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    if (cl_worker_slot() != hung_slot) return serve_listener(listener);
    signal(SIGTERM, SIG_DFL);
    for (;;) pause();
}

static void stopped(const char *mechanism, int deadline_ms, int hung) {
    enum { CLIENTS = 10 };
    int clients[CLIENTS];
    if (strcmp(mechanism, "kernel") == 0 && !may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    use_mechanism(mechanism);
    hung_slot = hung;
    primary_ready(serve_or_hang);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1), well = hung == 0 ? two : one;
    await_listening(two, 1);
    for (int i = 0; i < CLIENTS; i++) clients[i] = connect4(port);
    turn(0); /* they are passed on */
    OK(cl_stop(deadline_ms));
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(answered_by(clients[i]), well);
    CHECK_EQ(cl_run(), 0);
}

static void kernel_short(void) { stopped("kernel", 30, 0); }
static void kernel_short_other(void) { stopped("kernel", 30, 1); }
static void passed_short(void) { stopped("passed", 30, 0); }
static void passed_short_other(void) { stopped("passed", 30, 1); }
static void passed_long(void) { stopped("passed", 1000, 0); }

static const check_case_t cases[] = {
    {"kernel_short", kernel_short},
    {"kernel_short_other", kernel_short_other},
    {"passed_short", passed_short},
    {"passed_short_other", passed_short_other},
    {"passed_long", passed_long},
};
CHECK_MAIN(cases)
