/* A program with a loop of its own: one descriptor to poll is enough for everything, timers included. */
#include "primary.h"

/* Turns only when the descriptor says so. Gives up when nothing comes for too long. */
#define POLL_UNTIL(condition, ms)                                                                                        \
    do {                                                                                                                 \
        long long deadline_ = now_ms() + (long long)(ms) * check_slow();                                                 \
        while (!(condition)) {                                                                                           \
            if (now_ms() > deadline_) check_fail(__FILE__, __LINE__, "not within %d ms: %s", (int)(ms), #condition);     \
            if (readable_within(OK(cl_poll_fd()), (int)(ms))) turn(0);                                                   \
        }                                                                                                                \
    } while (0)

static int ready_and_deaf(void) {
    signal(SIGTERM, SIG_IGN);
    OK(cl_send("ready", 5));
    for (;;) nap(100000);
    return 0;
}

static int slot_decides(void) {
    if (cl_worker_slot() == 1) return 1;
    return cl_worker_slot() == 2 ? ready_and_deaf() : serve_any_port();
}

static void own_loop(int spawned) {
    cl_settings_t settings;
    primary_ready(slot_decides);
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    OK(cl_setup_primary(&settings));
    CHECK_EQ(cl_poll_fd(), cl_poll_fd());
    int zero = spawned ? spawn_worker() : fork_worker(), one = spawned ? spawn_worker() : fork_worker();
    int two = spawned ? spawn_worker() : fork_worker();
    /* Frames, listening, passing, deaths and the timers of the back-off. */
    POLL_UNTIL(find_event(CL_EVENT_LISTENING, zero, 0) >= 0, 5000);
    POLL_UNTIL(find_event(CL_EVENT_MESSAGE, two, 0) >= 0, 5000);
    POLL_UNTIL(count_events(CL_EVENT_EXIT, 0) >= 3, 5000);
    CHECK_EQ(count_events(CL_EVENT_EXIT, one), 1);
    int port = seen[find_event(CL_EVENT_LISTENING, zero, 0)].port;
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), zero);
    /* The watch over a worker that stands still. */
    OK(cl_worker_kill(zero, SIGSTOP));
    int client = connect4(port);
    OK(cl_worker_kill(zero, SIGCONT));
    CHECK_EQ(answered_by(client), zero);
    /* The deadline's SIGTERM and the SIGKILL behind it. */
    long long start = now_ms();
    OK(cl_stop(200));
    POLL_UNTIL(cl_worker_ids(NULL, 0) == 0, 5000);
    POLL_UNTIL(find_event(CL_EVENT_EXIT, two, 0) >= 0, 1000);
    CHECK_EQ(seen[find_event(CL_EVENT_EXIT, two, 0)].signal, SIGKILL);
    CHECK(now_ms() - start >= 2100 && now_ms() - start < 4000 * check_slow());
    CHECK_EQ(cl_run(), 0);
    finish();
}

static void own_loop_forked(void) { own_loop(0); }
static void own_loop_spawned(void) {
    if (worker_side()) exit(slot_decides());
    else own_loop(1);
}

/* With nothing to do the descriptor is quiet: no timer ticks while no connection waits anywhere. */
static void quiet(int policy) {
    int wakes = 0;
    if (under_valgrind()) check_skip("valgrind has no pidfds, so that the primary asks for its workers' health again and again");
    use_policy(policy);
    primary_ready(serve_any_port);
    for (int i = 0; i < 3; i++) await_listening(fork_worker(), 1);
    for (int i = 0; i < 10; i++) CHECK(ask(await_listening(2, 1)) > 0);
    pump_for(100);
    for (long long end = now_ms() + 1000; now_ms() < end;) {
        if (!readable_within(cl_poll_fd(), (int)(end - now_ms()))) continue;
        turn(0);
        wakes++;
    }
    if (wakes > 3) check_fail(__FILE__, __LINE__, "%d turns in an idle second", wakes);
    finish();
}

static void quiet_passed(void) { quiet(CL_SCHED_RR); }
static void quiet_shared(void) { quiet(CL_SCHED_NONE); }

/* How long a turn takes: 0 looks, n waits so long, -1 until something comes. */
static void timeouts(void) {
    primary_ready(serve_any_port);
    long long start = now_ms();
    CHECK_EQ(cl_step(0), 0);
    CHECK(now_ms() - start < 50 * check_slow());
    start = now_ms();
    CHECK_EQ(cl_step(150), 0);
    CHECK(now_ms() - start >= 145 && now_ms() - start < 600 * check_slow());
    int id = fork_worker();
    int events = 0;
    start = now_ms();
    while (find_event(CL_EVENT_LISTENING, id, 0) < 0) events += turn(-1);
    CHECK_EQ(events, 4); /* forked, online, listening, ready */
    CHECK(now_ms() - start < 3000 * check_slow());
    finish();
}

/* The descriptor is close-on-exec, pollable inside another epoll by nature, and not the program's to read from. */
static void descriptor(void) {
    primary_ready(serve_any_port);
    CHECK(fcntl(cl_poll_fd(), F_GETFD) & FD_CLOEXEC);
    CHECK_EQ(readable_within(cl_poll_fd(), 0), 0);
    int id = fork_worker();
    CHECK_EQ(readable_within(cl_poll_fd(), 3000), 1);
    await_listening(id, 1);
    finish();
}

/* -- Callbacks that call ------------------------------------------------------------------------------------------ */

static int stage, second, failed_inside;

static int nothing(void *argument) {
    (void)argument;
    return 0;
}

static void calls_everything(const cl_event_t *event, void *user) {
    cl_worker_info_t info;
    int ids[4];
    remember_event(event, user);
    ZERO(info);
    info.size = sizeof info;
    /* Not these: a turn inside a turn. */
    if (cl_step(0) != -EBUSY || cl_run() != -EBUSY || cl_serve(1, nothing, NULL) != -EBUSY) failed_inside++;
    if (cl_poll_fd() < 0 || cl_worker_ids(ids, 4) < 0 || cl_is_primary() != 1) failed_inside++;
    if (event->type <= CL_EVENT_MESSAGE && cl_worker_info(event->worker_id, &info) != 0) failed_inside++;
    if (event->type == CL_EVENT_ONLINE && cl_worker_send(event->worker_id, "hello", 5) != 0) failed_inside++;
    if (event->type == CL_EVENT_MESSAGE && stage++ == 0) {
        second = cl_fork();
        if (second == 0) become_worker();
        if (second < 0) failed_inside++;
    }
    if (event->type == CL_EVENT_MESSAGE && event->worker_id == second && cl_worker_kill(second, SIGKILL) != 0) failed_inside++;
    if (event->type == CL_EVENT_EXIT && event->worker_id == second && cl_stop(1000) != 0) failed_inside++;
}

static int echo_one(void) {
    char text[8];
    OK(cl_send(text, (size_t)OK(cl_receive(text, sizeof text, -1))));
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    return 0;
}

static void in_callbacks(void) {
    primary_ready(echo_one);
    OK(cl_on_event(calls_everything, NULL));
    int first = fork_worker();
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(failed_inside, 0);
    CHECK_EQ(await_exit(second, 1)->signal, SIGKILL);
    CHECK_EQ(await_exit(first, 1)->exit_code, 0);
    finish();
}

/* A worker started in a callback, and the callback changed inside itself. */
static void spawns_again(const cl_event_t *event, void *user) {
    int *left = (int *)user;
    remember_event(event, user);
    if (event->type != CL_EVENT_EXIT) return;
    if (--*left == 0) OK(cl_on_event(remember_event, NULL));
    OK(cl_spawn(NULL));
}

static void spawn_in_callback(void) {
    int left = 4;
    if (worker_side()) exit(3);
    primary_ready(leave_at_once);
    OK(cl_on_event(spawns_again, &left));
    spawn_worker();
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(left, 0);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 5);
    finish();
}

static const check_case_t cases[] = {
    {"own_loop_forked", own_loop_forked}, {"own_loop_spawned", own_loop_spawned}, {"quiet_passed", quiet_passed},
    {"quiet_shared", quiet_shared},       {"timeouts", timeouts},                 {"descriptor", descriptor},
    {"in_callbacks", in_callbacks},       {"spawn_in_callback", spawn_in_callback},
};
CHECK_MAIN(cases)
