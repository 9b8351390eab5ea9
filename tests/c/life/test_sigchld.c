/* Whatever a host does with SIGCHLD and wait(2): every death of a worker is told, no foreign child is reaped. */
#include "primary.h"
#include <pthread.h>

enum { DEATHS = 30 };

static int die_somehow(void) {
    if (cl_worker_slot() % 2 == 0) _exit(5);
    raise(SIGKILL);
    return 0;
}

/* Starts and loses workers; `known` says whether the host leaves us the status to look at. */
static void all_deaths_are_told(int known, int spawned) {
    int told = 0;
    for (int i = 0; i < DEATHS / 2; i++) {
        int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
        const seen_t *first = await_exit(one, 3000), *second = await_exit(two, 3000);
        if (known) {
            CHECK_EQ(first->exit_code, 5);
            CHECK_EQ(first->signal, 0);
            CHECK_EQ(second->signal, SIGKILL);
        } else {
            CHECK((first->exit_code == 5 || first->exit_code == -1) && first->signal == 0);
            CHECK(second->exit_code == -1 && (second->signal == SIGKILL || second->signal == 0));
        }
        told += 2;
    }
    CHECK_EQ(told, DEATHS);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), DEATHS);
}

/* A child of the host's own, which ends now; its status must be the host's to fetch. */
static pid_t foreign_child(int code) {
    pid_t pid = SYS(fork());
    if (pid == 0) _exit(code);
    CHECK_EQ(gone_within(pid, 3000), 1);
    return pid;
}

static void expect_status(pid_t pid, int code) {
    int status = 0;
    CHECK_EQ(waitpid(pid, &status, WNOHANG), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code);
}

static void by_default(void) {
    primary_ready(die_somehow);
    pid_t before = foreign_child(11);
    all_deaths_are_told(1, 0);
    pid_t after = foreign_child(12);
    pump_for(50);
    expect_status(before, 11);
    expect_status(after, 12);
    finish();
}

static void spawned(void) {
    if (worker_side()) exit(die_somehow());
    primary_ready(die_somehow);
    pid_t before = foreign_child(13);
    all_deaths_are_told(1, 1);
    expect_status(before, 13);
    finish();
}

static void ignored(void) {
    signal(SIGCHLD, SIG_IGN);
    primary_ready(die_somehow);
    all_deaths_are_told(0, 0);
    finish();
    CHECK(signal(SIGCHLD, SIG_DFL) == SIG_IGN);
}

static void no_zombies_flag(void) {
    struct sigaction action;
    ZERO(action);
    action.sa_handler = SIG_DFL;
    action.sa_flags = SA_NOCLDWAIT;
    SYS(sigaction(SIGCHLD, &action, NULL));
    primary_ready(die_somehow);
    all_deaths_are_told(0, 0);
    finish();
}

static volatile sig_atomic_t handled;

static void count_only(int number) {
    (void)number;
    handled++;
}

static void own_handler(void) {
    struct sigaction action, now;
    ZERO(action);
    action.sa_handler = count_only;
    SYS(sigaction(SIGCHLD, &action, NULL));
    primary_ready(die_somehow);
    pid_t foreign = foreign_child(14);
    all_deaths_are_told(1, 0);
    expect_status(foreign, 14);
    CHECK(handled > 0);
    SYS(sigaction(SIGCHLD, NULL, &now));
    CHECK(now.sa_handler == count_only && plain_flags(&now) == plain_flags(&action));
    finish();
}

/* The classic handler, which reaps whatever there is. */
static void reap_everything(int number) {
    int kept = errno;
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0) handled++;
    errno = kept;
}

static void greedy_handler(void) {
    struct sigaction action;
    ZERO(action);
    action.sa_handler = reap_everything;
    action.sa_flags = SA_RESTART;
    SYS(sigaction(SIGCHLD, &action, NULL));
    primary_ready(die_somehow);
    all_deaths_are_told(0, 0);
    finish();
}

static volatile int over;

static void *reap_in_thread(void *argument) {
    (void)argument;
    while (!over)
        if (waitpid(-1, NULL, 0) < 0) nap(1);
    return NULL;
}

/* With threads only cl_spawn starts workers. */
static void greedy_thread(void) {
    pthread_t thread;
    if (worker_side()) exit(die_somehow());
    primary_ready(die_somehow);
    CHECK_EQ(pthread_create(&thread, NULL, reap_in_thread, NULL), 0);
    all_deaths_are_told(0, 1);
    over = 1;
    CHECK_EQ(pthread_join(thread, NULL), 0);
    finish();
}

/* A pid that was reaped by the host and belongs to somebody else by now is never signalled. */
static int wait_for_ever(void) {
    for (;;) nap(100000);
    return 0;
}

static void kill_after_reaping(void) {
    signal(SIGCHLD, SIG_IGN);
    primary_ready(wait_for_ever);
    int id = fork_worker();
    int pid = pid_of(id);
    SYS(kill(pid, SIGKILL));
    WAIT_UNTIL(kill(pid, 0) != 0, 3000); /* gone and reaped, but our primary has not looked yet */
    CHECK_EQ(cl_worker_kill(id, SIGTERM), -ESRCH);
    await_exit(id, 3000);
    CHECK_EQ(cl_worker_kill(id, SIGTERM), -ESRCH);
    finish();
}

static const check_case_t cases[] = {
    {"by_default", by_default}, {"spawned", spawned},         {"ignored", ignored},
    {"no_zombies_flag", no_zombies_flag}, {"own_handler", own_handler}, {"greedy_handler", greedy_handler},
    {"greedy_thread", greedy_thread},     {"kill_after_reaping", kill_after_reaping},
};
CHECK_MAIN(cases)
