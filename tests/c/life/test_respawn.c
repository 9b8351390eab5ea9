/* Replacing workers: when, in which slot, how often, and by what. */
#include "primary.h"

static void use_respawn(int respawn) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = respawn;
    OK(cl_setup_primary(&settings));
}

/* Does what the message says: exit with that number, or wait for ever. */
static int obey(void) {
    char text[16];
    int n = cl_receive(text, sizeof text - 1, -1);
    if (n == -ESHUTDOWN) return 0;
    text[OK(n)] = '\0';
    return atoi(text);
}

static void tell(int id, const char *text) { OK(cl_worker_send(id, text, strlen(text))); }

/* Without being asked to, nobody replaces: the end of the last worker is the end of cl_run. */
static void never(void) {
    int modes[] = {CL_RESPAWN_DEFAULT, CL_RESPAWN_NEVER};
    for (int i = 0; i < 2; i++) {
        if (modes[i] != CL_RESPAWN_DEFAULT) use_respawn(modes[i]);
        if (i == 0) primary_ready(obey);
        int one = fork_worker(), two = fork_worker();
        tell(one, "3");
        OK(cl_worker_kill(two, SIGKILL));
        CHECK_EQ(cl_run(), 0);
        CHECK_EQ(await_exit(one, 1)->exit_code, 3);
        CHECK_EQ(await_exit(two, 1)->signal, SIGKILL);
        CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    }
    CHECK_EQ(count_events(CL_EVENT_FORK, 0), 4);
    finish();
}

static void on_failure(int spawned) {
    primary_ready(obey);
    use_respawn(CL_RESPAWN_ON_FAILURE);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    int three = spawned ? spawn_worker() : fork_worker();
    tell(one, "0");
    CHECK_EQ(await_exit(one, 5000)->exit_code, 0);
    tell(two, "5");
    CHECK_EQ(await_exit(two, 5000)->exit_code, 5);
    OK(cl_worker_kill(three, SIGUSR2));
    CHECK_EQ(await_exit(three, 5000)->signal, SIGUSR2);
    PUMP_UNTIL(count_events(CL_EVENT_FORK, 0) == 5, 3000);
    pump_for(500);
    CHECK_EQ(count_events(CL_EVENT_FORK, 0), 5);
    /* New ids, the slots of those that failed; the third slot stays empty. */
    int ids[4], slots = 0;
    CHECK_EQ(cl_worker_ids(ids, 4), 2);
    for (int i = 0; i < 2; i++) {
        CHECK(ids[i] > three);
        slots |= 1 << slot_of(ids[i]);
    }
    CHECK_EQ(slots, 1 << 1 | 1 << 2);
    finish();
}

static void on_failure_forked(void) { on_failure(0); }
static void on_failure_spawned(void) {
    if (worker_side()) exit(obey());
    else on_failure(1);
}

static void always(void) {
    primary_ready(obey);
    use_respawn(CL_RESPAWN_ALWAYS);
    int one = fork_worker();
    tell(one, "0");
    await_exit(one, 3000);
    PUMP_UNTIL(count_events(CL_EVENT_ONLINE, 0) == 2, 3000);
    int two = 0;
    CHECK_EQ(cl_worker_ids(&two, 1), 1);
    CHECK_EQ(two, one + 1);
    CHECK_EQ(slot_of(two), 0);
    finish();
    /* Stopped means stopped: nothing comes after. */
    int forks = count_events(CL_EVENT_FORK, 0);
    pump_for(400);
    CHECK_EQ(count_events(CL_EVENT_FORK, 0), forks);
}

/* Slots are filled from the lowest free one. */
static void slots(void) {
    int ids[4];
    primary_ready(obey);
    for (int i = 0; i < 4; i++) CHECK_EQ(slot_of(ids[i] = fork_worker()), i);
    tell(ids[2], "0");
    await_exit(ids[2], 3000);
    tell(ids[0], "0");
    await_exit(ids[0], 3000);
    int five = fork_worker(), six = fork_worker(), seven = fork_worker();
    CHECK_EQ(slot_of(five), 0);
    CHECK_EQ(slot_of(six), 2);
    CHECK_EQ(slot_of(seven), 4);
    CHECK(five > ids[3] && six > five && seven > six);
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    CHECK_EQ(cl_worker_info(ids[0], &info), -ESRCH);
    finish();
}

/* -- Back-off ---------------------------------------------------------------------------------------------------- */

static int exit_at_once(void) { return 1; }

static void backs_off(int spawned) {
    struct rusage before, after;
    primary_ready(exit_at_once);
    use_respawn(CL_RESPAWN_ALWAYS);
    if (spawned) spawn_worker();
    else fork_worker();
    getrusage(RUSAGE_SELF, &before);
    pump_for(3000);
    getrusage(RUSAGE_SELF, &after);
    /* 100, 200, 400, 800, 1600 ms, give or take the jitter: six starts. It does not give up, and it does not storm. */
    int forks = count_events(CL_EVENT_FORK, 0);
    if (forks < 3 || forks > 8) check_fail(__FILE__, __LINE__, "%d starts in three seconds", forks);
    CHECK(after.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec < 1);
    CHECK(count_events(CL_EVENT_EXIT, 0) >= forks - 1);
    for (int i = 0; i < count_events(CL_EVENT_EXIT, 0); i++) CHECK_EQ(seen[find_event(CL_EVENT_EXIT, 0, i)].exit_code, 1);
    /* A stop does not wait for the next try. */
    long long start = now_ms();
    finish();
    CHECK(now_ms() - start < 1000 * check_slow());
}

static void backs_off_forked(void) { backs_off(0); }
static void backs_off_spawned(void) {
    if (worker_side()) exit(1);
    else backs_off(1);
}

/* One slot's misfortune is not the others': a worker that dies once is back while another slot backs off. */
static int slot_zero_dies(void) { return cl_worker_slot() == 0 ? 1 : serve_any_port(); }

static void per_slot(void) {
    primary_ready(slot_zero_dies);
    use_respawn(CL_RESPAWN_ALWAYS);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(two, 1);
    await_exit(one, 3000);
    pump_for(1200);
    OK(cl_worker_kill(two, SIGKILL));
    long long start = now_ms();
    PUMP_UNTIL(count_events(CL_EVENT_LISTENING, 0) == 2, 3000);
    CHECK(now_ms() - start < 400 * check_slow());
    CHECK(ask(port) > two);
    finish();
}

/* A worker that had been serving is back at once, however often: with the delays of a crash loop these would take 6.3 s. */
static void at_once(int spawned) {
    primary_ready(serve_any_port);
    use_respawn(CL_RESPAWN_ALWAYS);
    int id = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(id, 1);
    long long start = now_ms();
    for (int i = 0; i < 6; i++) {
        int served_by = ask(port);
        CHECK(served_by >= id + i);
        OK(cl_worker_kill(served_by, SIGKILL));
        await_exit(served_by, 3000);
    }
    CHECK(ask(port) > 0);
    CHECK(now_ms() - start < 3000 * check_slow());
    finish();
}
static void at_once_forked(void) { at_once(0); }
static void at_once_spawned(void) {
    if (worker_side()) exit(serve_any_port());
    else at_once(1);
}
static void at_once_shared(void) {
    use_policy(CL_SCHED_NONE);
    at_once(0);
}

/* Each request kills its worker. It is replaced, and not without end. */
static int die_of_a_request(void) {
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener == -ESHUTDOWN) return 0;
    int connection = cl_accept(OK(listener), NULL, NULL);
    if (connection == -ESHUTDOWN) return 0;
    OK(connection);
    raise(SIGKILL);
    return 0;
}

static void poisoned(void) {
    enum { SLOTS = 4, MOST = 8, FOR_MS = 2500 };
    int clients[MOST * 8], count = 0;
    primary_ready(die_of_a_request);
    use_respawn(CL_RESPAWN_ALWAYS);
    int port = 0;
    for (int i = 0; i < SLOTS; i++) port = await_listening(fork_worker(), 1);
    long long start = now_ms();
    while (count < MOST * 8) clients[count++] = connect4(port);
    pump_for(FOR_MS);
    int replaced = count_events(CL_EVENT_FORK, 0) - SLOTS;
    long long took = now_ms() - start;
    if (replaced < 2 * MOST || replaced > MOST * (took / 1000 + 1))
        check_fail(__FILE__, __LINE__, "%d replacements in %lld ms", replaced, took);
    while (count > 0) close(clients[--count]);
    finish();
}

/* While nobody is there, a slot is tried once a second whatever its delay has grown to: 0.9, 1.8, 3.6, 7.2 s here. */
static int served_once(void) {
    if (cl_worker_id() != 2) return 1;
    return serve_any_port();
}

static void deserted(void) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    settings.restart_min_ms = 900;
    primary_ready(served_once);
    OK(cl_setup_primary(&settings));
    int id = fork_worker();
    CHECK_EQ(id, 2);
    int port = await_listening(id, 1);
    CHECK_EQ(ask(port), id);
    OK(cl_worker_kill(id, SIGKILL));
    PUMP_UNTIL(count_events(CL_EVENT_FORK, 0) == 6, 8000);
    finish();
}

/* cl_run returns 1 in the replacement of a forked worker, wherever in the program that is. */
static void cl_run_in_replacement(void) {
    int report[2], said;
    pid_t self = getpid();
    SYS(pipe2(report, O_CLOEXEC));
    use_respawn(CL_RESPAWN_ON_FAILURE);
    OK(cl_on_event(remember_event, NULL));
    int id = OK(cl_fork());
    if (id == 0) _exit(9);
    CHECK_EQ(id, 1);
    int result = OK(cl_run());
    if (result == 1) {
        CHECK_EQ(cl_is_worker(), 1);
        CHECK_EQ(cl_is_primary(), 0);
        CHECK_EQ(cl_worker_id(), 2);
        CHECK_EQ(cl_worker_slot(), 0);
        CHECK(getpid() != self);
        CHECK_EQ(cl_run(), -EPERM);
        OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
        said = (int)getpid();
        CHECK_EQ(write(report[1], &said, sizeof said), sizeof said);
        exit(0);
    }
    CHECK_EQ(getpid(), self);
    CHECK_EQ(result, 0);
    CHECK_EQ(read(report[0], &said, sizeof said), sizeof said);
    CHECK_EQ(await_exit(1, 1)->exit_code, 9);
    CHECK_EQ(await_exit(2, 1)->exit_code, 0);
    CHECK_EQ(await_exit(2, 1)->pid, said);
    check_ignore_descriptors = 1;
}

static const check_case_t cases[] = {
    {"never", never},
    {"on_failure_forked", on_failure_forked},
    {"on_failure_spawned", on_failure_spawned},
    {"always", always},
    {"slots", slots},
    {"backs_off_forked", backs_off_forked},
    {"backs_off_spawned", backs_off_spawned},
    {"per_slot", per_slot},
    {"at_once_forked", at_once_forked},
    {"at_once_spawned", at_once_spawned},
    {"at_once_shared", at_once_shared},
    {"poisoned", poisoned},
    {"deserted", deserted},
    {"cl_run_in_replacement", cl_run_in_replacement},
};
CHECK_MAIN(cases)
