/* Few wait at a worker, the rest in the kernel: as many as the window says, and nobody is stalled by a full one. */
#include "primary.h"

static int hold_until_told(void) {
    char text[8];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    if (cl_worker_slot() == 0) OK(cl_receive(text, sizeof text, -1));
    return serve_listener(listener);
}

static unsigned waiting_at(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    return info.waiting;
}

static void use_window(int window) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.window = window;
    OK(cl_setup_primary(&settings));
}

enum { CLIENTS = 300 };
static int clients[CLIENTS];

/* The worker is stopped, so that nothing moves; it is the only one, so that nothing is taken back for another. */
static void of_size(int window, int least, int most) {
    struct rlimit limit;
    unsigned waiting = 0, highest = 0;
    use_mechanism("passed");
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max < 1024 ? limit.rlim_max : 1024;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    if (window > 0) use_window(window);
    primary_ready(hold_until_told);
    int id = fork_worker();
    int port = await_listening(id, 1);
    int before = count_descriptors();
    for (int i = 0; i < CLIENTS; i++) clients[i] = connect4(port);
    for (int i = 0; i < 60; i++) {
        turn(5);
        waiting = waiting_at(id);
        if (waiting > highest) highest = waiting;
    }
    if ((int)highest < least || (int)highest > most)
        check_fail(__FILE__, __LINE__, "window %d: %u wait at the worker, not %d to %d", window, highest, least, most);
    CHECK_EQ(count_descriptors(), before + CLIENTS); /* neither these nor the others are open in the primary */
    OK(cl_worker_send(id, "go", 2));
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(answered_by(clients[i]), id);
    CHECK_EQ(waiting_at(id), 0);
    finish();
}

static void default_window(void) { of_size(0, 8, 16); }
static void window_1(void) { of_size(1, 1, 2); }
static void window_40(void) { of_size(40, 30, 45); }
static void window_256(void) { of_size(256, 200, 270); }

/* A full mailbox is passed over at once: the neighbour has all the rest, without waiting for any watch. */
static void full_is_passed_over(void) {
    use_exact_turns();
    primary_ready(hold_until_told);
    int one = fork_worker(), two = fork_worker(), served = 0;
    int port = await_listening(one, 1);
    await_listening(two, 1);
    for (int i = 0; i < 120; i++) clients[i] = connect4(port);
    for (int i = 0; i < 120; i++) {
        if (!pump_readable(clients[i], 2000)) check_fail(__FILE__, __LINE__, "client %d is stalled", i);
        served += answered_by(clients[i]) == two;
    }
    CHECK_EQ(served, 120);
    OK(cl_worker_send(one, "go", 2));
    int again = 0;
    for (long long end = now_ms() + 2000LL * check_slow(); !again && now_ms() < end;) again = ask(port) == one;
    CHECK(again);
    finish();
}

/* Many waiting: neither descriptors nor memory of the primary grow with them. */
static void many_waiting(void) {
    long long pages = 0, after = 0, unused;
    primary_ready(hold_until_told);
    int id = fork_worker();
    int port = await_listening(id, 1);
    pump_for(50);
    FILE *file = fopen("/proc/self/statm", "re");
    CHECK(file != NULL && fscanf(file, "%lld %lld", &unused, &pages) == 2);
    fclose(file);
    for (int i = 0; i < CLIENTS; i++) clients[i] = connect4(port);
    pump_for(300);
    file = fopen("/proc/self/statm", "re");
    CHECK(file != NULL && fscanf(file, "%lld %lld", &unused, &after) == 2);
    fclose(file);
    if (check_slow() == 1) CHECK((after - pages) * 4096 < 1 << 20);
    OK(cl_worker_send(id, "go", 2));
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(answered_by(clients[i]), id);
    finish();
}

static void bad_values(void) {
    static const int bad[] = {-1, 257, INT_MAX, INT_MIN};
    cl_settings_t settings;
    primary_ready(hold_until_told);
    for (int i = 0; i < 4; i++) {
        ZERO(settings);
        settings.size = sizeof settings;
        settings.window = bad[i];
        CHECK_EQ(cl_setup_primary(&settings), -EINVAL);
        if (bad[i] > 0) continue;
        settings.window = 0;
        settings.stop_deadline_ms = bad[i];
        CHECK_EQ(cl_setup_primary(&settings), -EINVAL);
        settings.stop_deadline_ms = 0;
        settings.restart_min_ms = bad[i];
        CHECK_EQ(cl_setup_primary(&settings), -EINVAL);
        settings.restart_min_ms = 0;
        settings.restart_max_ms = bad[i];
        CHECK_EQ(cl_setup_primary(&settings), -EINVAL);
    }
    finish();
}

static const check_case_t cases[] = {
    {"default_window", default_window}, {"window_1", window_1}, {"window_40", window_40}, {"window_256", window_256},
    {"full_is_passed_over", full_is_passed_over}, {"many_waiting", many_waiting}, {"bad_values", bad_values},
};
CHECK_MAIN(cases)
