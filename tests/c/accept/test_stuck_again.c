/* A worker that stands still is given nothing again before it has taken something itself, however often what waits for it was given to
 * others: a client that it is tried with again waits as long as the first, and in a closed loop nobody else is there meanwhile. Judged by
 * what waits for it, not by the time. */
#include "primary.h"

enum { CLIENTS = 24, ROUNDS = 40 };

static int waiting_for(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    CHECK_EQ(info.delivered, 0);
    return (int)info.waiting;
}

static void closed_loop(int policy, const char *mechanism) {
    int clients[CLIENTS];
    if (strcmp(mechanism, "kernel") == 0 && !may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    use_mechanism(mechanism);
    use_policy(policy);
    primary_ready(serve_any_port);
    int hung = fork_worker(), well = fork_worker();
    int port = await_listening(hung, 1);
    await_listening(well, 1);
    OK(cl_worker_kill(hung, SIGSTOP));
    for (int i = 0; i < CLIENTS; i++) clients[i] = connect4(port);
    /* Once all are answered it has been found out. */
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(answered_by(clients[i]), well);
    int most = 0;
    for (int i = 0; i < CLIENTS; i++) clients[i] = connect4(port);
    for (int i = 0; i < ROUNDS * CLIENTS; i++) {
        CHECK_EQ(answered_by(clients[i % CLIENTS]), well);
        clients[i % CLIENTS] = connect4(port);
        int waiting = waiting_for(hung);
        most = waiting > most ? waiting : most;
    }
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(answered_by(clients[i]), well);
    /* What the primary has left there, to see when it is back. */
    CHECK(most <= 1);
    OK(cl_worker_kill(hung, SIGCONT));
    int again = 0;
    for (long long end = now_ms() + 2000LL * check_slow(); !again && now_ms() < end;) again = ask(port) == hung;
    CHECK(again);
    finish();
}

static void kernel(void) { closed_loop(CL_SCHED_RR, "kernel"); }
static void passed(void) { closed_loop(CL_SCHED_RR, "passed"); }
static void least_loaded(void) { closed_loop(CL_SCHED_LEAST_LOADED, "passed"); }

static const check_case_t cases[] = {{"kernel", kernel}, {"passed", passed}, {"least_loaded", least_loaded}};
CHECK_MAIN(cases)
