/* cl_stop from everywhere: another thread, a signal handler, a callback, before anything runs. */
#include "primary.h"
#include <pthread.h>

static volatile sig_atomic_t stop_result = 1;

static void stop_in_handler(int number) {
    (void)number;
    stop_result = cl_stop(3000);
}

static void expect_all_gone(const int *ids, int count) {
    for (int i = 0; i < count; i++) {
        const seen_t *end = await_exit(ids[i], 1);
        CHECK_EQ(end->signal, 0);
        CHECK_EQ(end->exit_code, 0);
    }
}

/* A handler interrupts cl_run wherever it is; timer after timer tries many places. */
static void from_signal_handler(void) {
    struct sigaction action;
    struct itimerval once;
    primary_ready(serve_any_port);
    ZERO(action);
    action.sa_handler = stop_in_handler;
    for (int round = 0; round < 12; round++) {
        int ids[2] = {fork_worker(), fork_worker()};
        if (round % 2 == 0) await_listening(ids[1], 1);
        action.sa_flags = round % 3 == 0 ? SA_RESTART : 0;
        SYS(sigaction(SIGALRM, &action, NULL));
        ZERO(once);
        once.it_value.tv_usec = 1 + round * round * 400;
        stop_result = 1;
        SYS(setitimer(ITIMER_REAL, &once, NULL));
        CHECK_EQ(cl_run(), 0);
        CHECK_EQ(stop_result, 0);
        CHECK_EQ(cl_worker_ids(NULL, 0), 0);
        await_exit(ids[0], 1);
        await_exit(ids[1], 1);
    }
    finish();
}

static void *stop_in_thread(void *argument) {
    nap(*(int *)argument);
    OK(cl_stop(3000));
    return NULL;
}

static void from_another_thread(void) {
    if (worker_side()) exit(serve_any_port());
    primary_ready(serve_any_port);
    for (int round = 0; round < 6; round++) {
        pthread_t thread;
        int delay = round * 15;
        int ids[2] = {spawn_worker(), spawn_worker()};
        CHECK_EQ(pthread_create(&thread, NULL, stop_in_thread, &delay), 0);
        long long start = now_ms();
        CHECK_EQ(cl_run(), 0);
        CHECK(now_ms() - start < 4000 * check_slow());
        CHECK_EQ(pthread_join(thread, NULL), 0);
        await_exit(ids[0], 1);
        await_exit(ids[1], 1);
    }
    finish();
}

static void stop_at_listening(const cl_event_t *event, void *user) {
    remember_event(event, user);
    if (event->type == CL_EVENT_LISTENING && count_events(CL_EVENT_LISTENING, 0) == 3) OK(cl_stop(3000));
}

static void from_callback(void) {
    int ids[3];
    primary_ready(serve_any_port);
    OK(cl_on_event(stop_at_listening, NULL));
    for (int i = 0; i < 3; i++) ids[i] = fork_worker();
    CHECK_EQ(cl_run(), 0);
    expect_all_gone(ids, 3);
    finish();
}

/* Before anything is started it stops nothing, and what is started later runs. */
static void before_anything(void) {
    OK(cl_stop(0));
    CHECK_EQ(cl_run(), 0);
    primary_ready(serve_any_port);
    OK(cl_stop(0));
    CHECK_EQ(cl_run(), 0);
    int id = fork_worker();
    CHECK_EQ(ask(await_listening(id, 1)), id);
    finish();
}

/* Before cl_run, with workers: cl_run finishes what was begun. */
static void before_run(void) {
    int ids[2];
    primary_ready(serve_any_port);
    for (int i = 0; i < 2; i++) ids[i] = fork_worker();
    for (int i = 0; i < 2; i++) await_listening(ids[i], 1);
    OK(cl_stop(3000));
    OK(cl_stop(3000));
    CHECK_EQ(cl_run(), 0);
    expect_all_gone(ids, 2);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 2);
    finish();
}

/* With cl_step alone: the stop goes on turn by turn, and the program sees when all are gone. */
static void in_own_loop(void) {
    int ids[2];
    primary_ready(serve_any_port);
    for (int i = 0; i < 2; i++) ids[i] = fork_worker();
    for (int i = 0; i < 2; i++) await_listening(ids[i], 1);
    OK(cl_stop(3000));
    PUMP_UNTIL(cl_worker_ids(NULL, 0) == 0, 3000);
    PUMP_UNTIL(count_events(CL_EVENT_EXIT, 0) == 2, 1000);
    expect_all_gone(ids, 2);
    finish();
}

/* A worker's cl_disconnect from a signal handler. */
static void leave_in_handler(int number) {
    (void)number;
    stop_result = cl_disconnect();
}

static int leave_by_signal(void) {
    struct sigaction action;
    ZERO(action);
    action.sa_handler = leave_in_handler;
    SYS(sigaction(SIGTERM, &action, NULL));
    int result = serve_any_port();
    CHECK_EQ(stop_result, 0);
    return result;
}

static void worker_leaves_by_signal(int spawned) {
    if (spawned && worker_side()) exit(leave_by_signal());
    primary_ready(leave_by_signal);
    for (int round = 0; round < 5; round++) {
        int id = spawned ? spawn_worker() : fork_worker();
        int port = await_listening(id, 1);
        CHECK_EQ(ask(port), id);
        OK(cl_worker_kill(id, SIGTERM));
        const seen_t *end = await_exit(id, 3000);
        CHECK_EQ(end->signal, 0);
        CHECK_EQ(end->exit_code, 0);
    }
    finish();
}

static void worker_leaves_forked(void) { worker_leaves_by_signal(0); }
static void worker_leaves_spawned(void) { worker_leaves_by_signal(1); }

static const check_case_t cases[] = {
    {"from_signal_handler", from_signal_handler},   {"from_another_thread", from_another_thread},
    {"from_callback", from_callback},               {"before_anything", before_anything},
    {"before_run", before_run},                     {"in_own_loop", in_own_loop},
    {"worker_leaves_forked", worker_leaves_forked}, {"worker_leaves_spawned", worker_leaves_spawned},
};
CHECK_MAIN(cases)
