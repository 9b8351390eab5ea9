/* Stopping with a deadline: asked, then SIGTERM, then two seconds later SIGKILL. */
#include "primary.h"

static void announce(void) { OK(cl_send("ready", 5)); }

/* Hears that it is to leave and does not care; SIGTERM ends it. */
static int does_not_leave(void) {
    announce();
    for (;;) nap(1000);
    return 0;
}

static int ignores_sigterm(void) {
    signal(SIGTERM, SIG_IGN);
    return does_not_leave();
}

static int spins(void) {
    signal(SIGTERM, SIG_IGN);
    announce();
    for (volatile unsigned long n = 0;; n++) {}
    return 0;
}

static int announce_and_serve(void) {
    announce();
    return serve_any_port();
}

static int start(int (*body)(void)) {
    worker_main = body;
    int id = fork_worker();
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, 0) >= 0, 5000);
    return id;
}

static void expect_between(long long took, int least, int most) {
    if (took < least || took > (long long)most + 3000 * (check_slow() - 1))
        check_fail(__FILE__, __LINE__, "took %lld ms, not %d to %d", took, least, most);
}

static void ladder(void) {
    primary_ready(serve_any_port);
    int good = start(announce_and_serve), deaf = start(does_not_leave), stubborn = start(ignores_sigterm), busy = start(spins);
    int stopped = start(does_not_leave);
    OK(cl_worker_kill(stopped, SIGSTOP));
    long long begin = now_ms();
    int deadline = 1000 * check_slow();
    OK(cl_stop(deadline));
    PUMP_UNTIL(find_event(CL_EVENT_EXIT, good, 0) >= 0, 950);
    CHECK_EQ(seen[find_event(CL_EVENT_EXIT, good, 0)].exit_code, 0);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 1);
    CHECK_EQ(await_exit(deaf, 2000)->signal, SIGTERM);
    expect_between(now_ms() - begin, deadline - 10, deadline + 500);
    CHECK_EQ(await_exit(stubborn, 5000)->signal, SIGKILL);
    expect_between(now_ms() - begin, deadline + 1950, deadline + 2700);
    CHECK_EQ(await_exit(busy, 1000)->signal, SIGKILL);
    /* A stopped one does not see SIGTERM; SIGKILL it need not see. */
    int how = await_exit(stopped, 1000)->signal;
    CHECK(how == SIGKILL || how == SIGTERM);
    CHECK_EQ(seen[find_event(CL_EVENT_EXIT, deaf, 0)].exit_code, -1);
    CHECK_EQ(cl_run(), 0);
    finish();
}

static void at_once(void) {
    primary_ready(serve_any_port);
    int good = start(announce_and_serve), deaf = start(does_not_leave);
    long long begin = now_ms();
    OK(cl_stop(0));
    CHECK_EQ(cl_run(), 0);
    expect_between(now_ms() - begin, 0, 500);
    CHECK_EQ(await_exit(deaf, 1)->signal, SIGTERM);
    const seen_t *end = await_exit(good, 1);
    CHECK(end->signal == SIGTERM || end->exit_code == 0);
    finish();
}

/* A later, shorter stop shortens a long one; a longer one does not lengthen it. */
static void shorter(void) {
    primary_ready(serve_any_port);
    int deaf = start(does_not_leave);
    long long begin = now_ms();
    OK(cl_stop(30000));
    pump_for(50);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
    OK(cl_stop(200));
    OK(cl_stop(60000));
    CHECK_EQ(cl_run(), 0);
    expect_between(now_ms() - begin, 240, 900);
    CHECK_EQ(await_exit(deaf, 1)->signal, SIGTERM);
    finish();
}

/* The settings' deadline is for cl_stop(-1), for cl_disconnect and for one worker. */
static void of_settings(void) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.stop_deadline_ms = 250;
    OK(cl_setup_primary(&settings));
    primary_ready(serve_any_port);
    int one = start(does_not_leave), two = start(does_not_leave), three = start(does_not_leave);
    long long begin = now_ms();
    OK(cl_worker_disconnect(one));
    CHECK_EQ(await_exit(one, 3000)->signal, SIGTERM);
    expect_between(now_ms() - begin, 240, 800);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 1);
    begin = now_ms();
    OK(cl_disconnect());
    CHECK_EQ(await_exit(two, 3000)->signal, SIGTERM);
    CHECK_EQ(await_exit(three, 3000)->signal, SIGTERM);
    expect_between(now_ms() - begin, 240, 800);
    int four = start(does_not_leave);
    begin = now_ms();
    OK(cl_stop(-1));
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(await_exit(four, 1)->signal, SIGTERM);
    expect_between(now_ms() - begin, 240, 800);
    finish();
}

/* A program that knows nothing of us cannot leave gracefully; the ladder works for it. */
static void foreign_program(void) {
    cl_spawn_options_t options;
    char program[] = "/bin/sleep", long_time[] = "1000";
    char *argv[] = {program, long_time, NULL};
    primary_ready(serve_any_port);
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    int id = OK(cl_spawn(&options));
    PUMP_UNTIL(find_event(CL_EVENT_FORK, id, 0) >= 0, 3000);
    pump_for(50);
    CHECK_EQ(count_events(CL_EVENT_ONLINE, id), 0);
    CHECK_EQ(count_events(CL_EVENT_EXIT, id), 0);
    long long begin = now_ms();
    OK(cl_stop(200));
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(await_exit(id, 1)->signal, SIGTERM);
    expect_between(now_ms() - begin, 190, 700);
    finish();
}

static const check_case_t cases[] = {
    {"ladder", ladder}, {"at_once", at_once}, {"shorter", shorter}, {"of_settings", of_settings}, {"foreign_program", foreign_program},
};
CHECK_MAIN(cases)
