/* One connection wakes one worker: of eight that wait, the others sleep on. */
#include "figure.h"

enum { WORKERS = 8, CONNECTIONS = 400 };

/* How often the thread that accepts has gone to sleep; it does so once for each time it was woken. */
static long sleeps_of(int pid) {
    char name[64], text[4096];
    snprintf(name, sizeof name, "/proc/%d/task/%d/status", pid, pid);
    int fd = SYS(open(name, O_RDONLY | O_CLOEXEC));
    ssize_t n = SYS(read(fd, text, sizeof text - 1));
    close(fd);
    text[n] = '\0';
    const char *line = strstr(text, "\nvoluntary_ctxt_switches:");
    CHECK(line != NULL);
    return atol(strchr(line, ':') + 1);
}

static long sleeps_of_all(const int *pids) {
    long sum = 0;
    for (int i = 0; i < WORKERS; i++) sum += sleeps_of(pids[i]);
    return sum;
}

static void measure(int policy, int spawned) {
    int ids[WORKERS], pids[WORKERS], port = 0;
    char measured[32];
    use_policy(policy);
    primary_ready(serve_any_port);
    for (int i = 0; i < WORKERS; i++) ids[i] = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    for (int i = 0; i < WORKERS; i++) pids[i] = pid_of(ids[i]);
    for (int i = 0; i < 2 * WORKERS; i++) ask(port);
    long before = sleeps_of_all(pids);
    for (int i = 0; i < CONNECTIONS; i++) ask(port);
    long slept = sleeps_of_all(pids) - before;
    /* A thundering herd would be 8. A worker may find the next connection there already, and not sleep at all. */
    snprintf(measured, sizeof measured, "%.2f", (double)slept / CONNECTIONS);
    /* Once is enough for the socket that all share, which no mechanism changes. */
    if (!spawned && (policy != CL_SCHED_NONE || expected_mechanism() == CL_MECHANISM_PASSED))
        figure("processes", "wake-ups for a connection, of 8 idle workers", contender_of(policy), measured, "<= 1.3", slept * 10 <= CONNECTIONS * 13);
    if (slept * 10 > CONNECTIONS * 13 && !under_valgrind())
        check_fail(__FILE__, __LINE__, "%ld times woken for %d connections", slept, CONNECTIONS);
    CHECK(slept > CONNECTIONS / 2 || under_valgrind());
    finish();
}

static void forked(void) { measure(CL_SCHED_RR, 0); }
static void shared(void) { measure(CL_SCHED_NONE, 0); }
static void spawned(void) {
    if (worker_side()) exit(serve_any_port());
    measure(CL_SCHED_RR, 1);
}
static void spawned_shared(void) {
    if (worker_side()) exit(serve_any_port());
    measure(CL_SCHED_NONE, 1);
}

static const check_case_t cases[] = {
    {"forked", forked}, {"shared", shared}, {"spawned", spawned}, {"spawned_shared", spawned_shared},
};
CHECK_MAIN(cases)
