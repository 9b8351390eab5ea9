/* Replacing workers that run: a new one listens beside the old one, gets nothing before it is ready, and then all that the slot gets. */
#include "primary.h"
#include <pthread.h>

enum { CLIENTS = 3 };

typedef struct {
    int port, over, may_be_ready;
    long long answered, failed;
} shared_t;
static shared_t *shared;

static int get(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
static void put(int *to, int value) { __atomic_store_n(to, value, __ATOMIC_SEQ_CST); }

static pid_t clients[CLIENTS];

/* One connection after the other until it is over; each has to be answered. */
static void be_client(void) {
    while (!get(&shared->over)) {
        char text[96];
        int fd = try_connect4(get(&shared->port)), n = fd < 0 ? fd : receive_all(fd, text, sizeof text);
        if (fd >= 0) close(fd);
        __atomic_add_fetch(n > 0 ? &shared->answered : &shared->failed, 1, __ATOMIC_SEQ_CST);
    }
    _exit(0);
}

static void start_clients(int port) {
    put(&shared->port, port);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = SYS(fork());
        if (clients[i] == 0) be_client();
    }
}

static void end_clients(void) {
    put(&shared->over, 1);
    for (int i = 0; i < CLIENTS; i++) {
        PUMP_UNTIL(gone_now(clients[i]), 10000);
        CHECK_EQ(wait_status(clients[i]), 0);
    }
    CHECK(shared->answered > 0);
    CHECK_EQ(shared->failed, 0);
}

static void set_up(const char *mechanism, int (*main_of_workers)(void)) {
    cl_settings_t settings;
    primary_ready(main_of_workers);
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = strcmp(mechanism, "none") == 0 ? CL_SCHED_NONE : CL_SCHED_RR;
    settings.mechanism = strcmp(mechanism, "passed") == 0     ? CL_MECHANISM_PASSED
                         : strcmp(mechanism, "kernel") == 0   ? CL_MECHANISM_KERNEL
                         : strcmp(mechanism, "rotation") == 0 ? CL_MECHANISM_ROTATION
                                                              : 0;
    settings.respawn = CL_RESPAWN_ALWAYS;
    settings.stop_deadline_ms = 1000;
    int result = cl_setup_primary(&settings);
    if (result == -EPERM && settings.mechanism == CL_MECHANISM_KERNEL) _exit(CHECK_SKIPPED);
    OK(result);
    shared = (shared_t *)mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
}

static int reload_with(int parallel, int ready_ms, int alive_ms, unsigned flags) {
    cl_reload_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.parallel = parallel;
    options.ready_timeout_ms = ready_ms;
    options.min_ready_ms = alive_ms;
    options.flags = flags;
    return cl_reload(&options);
}

static int phase_of(int generation) {
    int phase = 0;
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_RELOAD && seen[i].generation == generation) phase = seen[i].phase;
    return phase;
}

static const char *why(int generation) {
    const char *text = "";
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_RELOAD && seen[i].generation == generation && seen[i].length > 0) text = seen[i].data;
    return text;
}

static int await_end(int generation) {
    PUMP_UNTIL(phase_of(generation) >= CL_RELOAD_DONE, 20000);
    return phase_of(generation);
}

static cl_worker_info_t info_of(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    return info;
}

/* The workers are those of a generation, one in each slot. */
static int all_are_of(int generation, int count) {
    int ids[16], slots = 0;
    if (OK(cl_worker_ids(ids, 16)) != count) return 0;
    for (int i = 0; i < count; i++) {
        cl_worker_info_t info = info_of(ids[i]);
        if (info.generation != generation || info.state != CL_WORKER_LISTENING) return 0;
        slots |= 1 << info.slot;
    }
    return slots == (1 << count) - 1;
}

/* -- Nobody notices ------------------------------------------------------------------------------------------------ */

static void unnoticed(const char *mechanism, int spawned) {
    if (spawned && worker_side()) exit(serve_any_port());
    set_up(mechanism, serve_any_port);
    int first_id = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < 3; i++) (void)(spawned ? spawn_worker() : fork_worker());
    int port = await_listening(first_id, 1);
    PUMP_UNTIL(all_are_of(1, 4), 5000);
    start_clients(port);
    for (int generation = 2; generation < 8; generation++) {
        CHECK_EQ(OK(reload_with(generation % 2 ? 4 : 1, 0, CL_NONE, 0)), generation);
        CHECK_EQ(await_end(generation), CL_RELOAD_DONE);
        PUMP_UNTIL(all_are_of(generation, 4), 5000);
        int first = -1;
        for (int i = 0; i < seen_count && first < 0; i++)
            if (seen[i].type == CL_EVENT_RELOAD && seen[i].generation == generation) first = seen[i].phase;
        CHECK_EQ(first, CL_RELOAD_CHECKING);
        seen_count = 0;
    }
    end_clients();
    finish();
}

static void unnoticed_passed(void) { unnoticed("passed", 0); }
static void unnoticed_kernel(void) { unnoticed("kernel", 0); }
static void unnoticed_rotation(void) { unnoticed("rotation", 0); }
static void unnoticed_none(void) { unnoticed("none", 0); }
static void unnoticed_spawned(void) { unnoticed("auto", 1); }

/* -- Nothing before it is ready ------------------------------------------------------------------------------------ */

static void *say_ready_when_allowed(void *unused) {
    (void)unused;
    while (!get(&shared->may_be_ready)) nap(2);
    OK(cl_ready());
    OK(cl_ready());
    return NULL;
}

static int serve_and_say_ready(void) {
    pthread_t thread;
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener == -ESHUTDOWN) return 0;
    CHECK_EQ(pthread_create(&thread, NULL, say_ready_when_allowed, NULL), 0);
    int code = serve_listener(OK(listener));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    return code;
}

static void nothing_before(const char *mechanism) {
    cl_settings_t settings;
    set_up(mechanism, serve_and_say_ready);
    ZERO(settings);
    settings.size = sizeof settings;
    settings.flags = CL_MANUAL_READY;
    OK(cl_setup_primary(&settings));
    put(&shared->may_be_ready, 1);
    int old = fork_worker(), port = await_listening(old, 1);
    PUMP_UNTIL(info_of(old).ready, 5000);
    CHECK_EQ(seen[find_event(CL_EVENT_READY, old, 0)].generation, 1);
    put(&shared->may_be_ready, 0);
    CHECK_EQ(OK(reload_with(1, CL_NONE, CL_NONE, 0)), 2);
    PUMP_UNTIL(count_events(CL_EVENT_FORK, 0) == 2, 5000);
    int new_one = seen[find_event(CL_EVENT_FORK, 0, 1)].worker_id;
    CHECK_EQ(await_listening(new_one, 1), port);
    CHECK_EQ(slot_of(new_one), slot_of(old));
    for (int i = 0; i < 40; i++) CHECK_EQ(ask(port), old);
    CHECK_EQ(info_of(new_one).ready, 0);
    CHECK_EQ(phase_of(2), CL_RELOAD_CHECKING);
    put(&shared->may_be_ready, 1);
    CHECK_EQ(await_end(2), CL_RELOAD_DONE);
    CHECK_EQ(info_of(new_one).ready, 1);
    PUMP_UNTIL(find_event(CL_EVENT_EXIT, old, 0) >= 0, 5000);
    for (int i = 0; i < 40; i++) CHECK_EQ(ask(port), new_one);
    finish();
}

static void nothing_before_passed(void) { nothing_before("passed"); }
static void nothing_before_kernel(void) { nothing_before("kernel"); }
static void nothing_before_rotation(void) { nothing_before("rotation"); }
static void nothing_before_none(void) { nothing_before("none"); }

/* -- Refused, and rolled back -------------------------------------------------------------------------------------- */

static int exit_at_once(void) { return 7; }
static int crash(void) { raise(SIGKILL); return 0; }
static int hang(void) {
    for (;;) pause();
    return 0;
}
static int listen_elsewhere(void) {
    int listener = cl_listen("127.0.0.2:0", 0);
    return listener == -ESHUTDOWN ? 0 : serve_listener(OK(listener));
}
static int listen_and_exit(void) {
    OK(cl_listen("127.0.0.1:0", 0));
    nap(50);
    return 3;
}

/* It was ready once. */
static int listen_and_close(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    nap(50);
    OK(cl_close(listener));
    return hang();
}

static void refused(void) {
    static int (*const broken[])(void) = {exit_at_once, crash, hang, listen_elsewhere, listen_and_exit, listen_and_close};
    static const char *const reasons[] = {"exited with code 7", "was ended by signal 9", "listens on nothing",
                                          "does not listen on 127.0.0.1:", "exited with code 3", "listens on nothing"};
    set_up("auto", serve_any_port);
    int one = fork_worker(), two = fork_worker(), port = await_listening(one, 1);
    await_listening(two, 1);
    start_clients(port);
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        seen_count = 0;
        worker_main = broken[i];
        int generation = OK(reload_with(2, 1000, 300, 0));
        CHECK_EQ(await_end(generation), CL_RELOAD_REFUSED);
        if (strstr(why(generation), reasons[i]) == NULL) check_fail(__FILE__, __LINE__, "why: %s", why(generation));
        int ids[8], listening = 0;
        PUMP_UNTIL(OK(cl_worker_ids(ids, 8)) == 2, 40000);
        for (int j = 0; j < 2; j++) listening += ids[j] == one || ids[j] == two;
        CHECK_EQ(listening, 2);
        CHECK_EQ(info_of(one).state, CL_WORKER_LISTENING);
        CHECK_EQ(cl_rollback(), -ENOENT);
    }
    worker_main = serve_any_port;
    end_clients();
    finish();
}

/* The first comes through, the second fails. */
static int serve_in_slot_0(void) { return cl_worker_slot() == 0 ? serve_any_port() : 9; }

static void rolled_back(void) {
    set_up("auto", serve_any_port);
    int one = fork_worker(), two = fork_worker(), port = await_listening(one, 1);
    await_listening(two, 1);
    start_clients(port);
    /* What a fork is made of is the program as it is, so the way back has to be told from the way there. */
    worker_main = serve_in_slot_0;
    int generation = OK(reload_with(1, 0, CL_NONE, 0));
    PUMP_UNTIL(phase_of(generation) == CL_RELOAD_ROLLING, 5000);
    CHECK_EQ(await_end(generation), CL_RELOAD_ROLLED_BACK);
    CHECK(strstr(why(generation), "exited with code 9") != NULL);
    CHECK_EQ(info_of(two).generation, 1);
    PUMP_UNTIL(all_are_of(1, 2), 5000);
    end_clients();
    finish();
}

/* -- This program's own file ---------------------------------------------------------------------------------------- */

static void copy_file(const char *from, const char *to) {
    char line[3 * PATH_MAX];
    snprintf(line, sizeof line, "cp %s %s", from, to);
    CHECK_EQ(system(line), 0);
}

/* Workers that are this program again are replaced by what has its name by then, not by the file that was replaced. */
static void own_file(void) {
    if (worker_side()) exit(serve_any_port());
    const char *copy = case_path("server"), *next = case_path("next");
    if (getenv("CHECK_COPY") == NULL) {
        copy_file(check_self(), copy);
        SYS(setenv("CHECK_COPY", "1", 1));
        SYS(execl(copy, copy, "own_file", (char *)NULL));
    }
    set_up("auto", NULL);
    int one = spawn_worker(), port = await_listening(one, 1);
    FILE *script = fopen(next, "w");
    CHECK(script != NULL && fputs("#!/bin/sh\nexit 7\n", script) >= 0 && fclose(script) == 0);
    SYS(chmod(next, 0755));
    SYS(rename(next, copy));
    int generation = OK(reload_with(1, 0, CL_NONE, 0));
    CHECK_EQ(await_end(generation), CL_RELOAD_REFUSED);
    if (strstr(why(generation), "exited with code 7") == NULL) check_fail(__FILE__, __LINE__, "why: %s", why(generation));
    CHECK_EQ(ask(port), one);
    finish();
}

/* The release that a worker runs: the directory of its program. */
static int is_of_release(int id, const char *release) {
    char link[64], path[PATH_MAX], part[64];
    snprintf(link, sizeof link, "/proc/%d/exe", pid_of(id));
    path[SYS(readlink(link, path, sizeof path - 1))] = '\0';
    snprintf(part, sizeof part, "/%s/server", release);
    return strstr(path, part) != NULL;
}

static int only_worker(void) {
    int id;
    PUMP_UNTIL(cl_worker_ids(&id, 1) == 1 && info_of(id).state == CL_WORKER_LISTENING, 5000);
    return id;
}

/* What a link leads to counts at a reload. Who follows a worker that crashes before, and who is put back, is of the release before. */
static void releases_by_a_link(void) {
    if (worker_side()) exit(serve_any_port());
    char *one = strdup(case_path("r1")), *two = strdup(case_path("r2")), *current = strdup(case_path("current"));
    char program[PATH_MAX], name[] = "server", role[] = "releases_by_a_link", *argv[] = {name, role, NULL};
    const char *releases[] = {one, two};
    for (int i = 0; i < 2; i++) {
        SYS(mkdir(releases[i], 0755));
        snprintf(program, sizeof program, "%s/server", releases[i]);
        copy_file(check_self(), program);
    }
    SYS(symlink(one, current));
    set_up("auto", NULL);
    cl_spawn_options_t options;
    ZERO(options);
    options.size = sizeof options;
    snprintf(program, sizeof program, "%s/server", current);
    options.file = program;
    options.argv = argv;
    int id = OK(cl_spawn(&options));
    (void)await_listening(id, 1);
    CHECK(is_of_release(id, "r1"));
    SYS(unlink(current));
    SYS(symlink(two, current));
    OK(cl_worker_kill(id, SIGKILL));
    await_exit(id, 5000);
    CHECK(is_of_release(only_worker(), "r1"));
    CHECK_EQ(await_end(OK(reload_with(1, 0, CL_NONE, 0))), CL_RELOAD_DONE);
    CHECK(is_of_release(only_worker(), "r2"));
    CHECK_EQ(await_end(OK(cl_rollback())), CL_RELOAD_DONE);
    CHECK(is_of_release(only_worker(), "r1"));
    finish();
    free(one);
    free(two);
    free(current);
}

/* It listens on a second address unless there is to be less. */
static int serve_two(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    if (!get(&shared->may_be_ready)) (void)OK(listen_index("127.0.0.1:0", 2));
    return serve_listener(listener);
}

/* What the new ones do not listen on any more is refused as long as that is not allowed, and given up where it is. */
static void fewer_addresses(void) {
    set_up("auto", serve_two);
    int one = fork_worker(), port = await_listening(one, 1), second = await_listening(one, 2);
    (void)fork_worker();
    PUMP_UNTIL(all_are_of(1, 2), 5000);
    put(&shared->may_be_ready, 1);
    CHECK_EQ(await_end(OK(reload_with(1, 500, CL_NONE, 0))), CL_RELOAD_REFUSED);
    int client = try_connect4(second);
    CHECK(client >= 0);
    close(client);
    int generation = OK(reload_with(1, 0, CL_NONE, CL_RELOAD_ALLOW_FEWER));
    CHECK_EQ(await_end(generation), CL_RELOAD_DONE);
    PUMP_UNTIL((client = try_connect4(second)) == -ECONNREFUSED || (client >= 0 && close(client) != 0), 3000);
    PUMP_UNTIL(all_are_of(generation, 2), 5000);
    CHECK(ask(port) > 0);
    finish();
}

/* -- Several at a time --------------------------------------------------------------------------------------------- */

static void superseded(void) {
    set_up("auto", serve_any_port);
    int one = fork_worker(), port = await_listening(one, 1);
    start_clients(port);
    int first = OK(reload_with(1, 0, 2000, 0)), second = OK(reload_with(1, 0, CL_NONE, 0));
    CHECK_EQ(await_end(second), CL_RELOAD_DONE);
    CHECK_EQ(phase_of(first), CL_RELOAD_SUPERSEDED);
    PUMP_UNTIL(all_are_of(second, 1), 5000);
    int third = OK(reload_with(1, 0, 300, 0));
    CHECK_EQ(reload_with(1, 0, CL_NONE, CL_RELOAD_REFUSE_IF_BUSY), -EBUSY);
    int fourth = OK(reload_with(1, 0, CL_NONE, CL_RELOAD_QUEUE));
    CHECK_EQ(await_end(fourth), CL_RELOAD_DONE);
    CHECK_EQ(phase_of(third), CL_RELOAD_DONE);
    PUMP_UNTIL(all_are_of(fourth, 1), 5000);
    int back = OK(cl_rollback());
    CHECK_EQ(await_end(back), CL_RELOAD_DONE);
    /* While a reload runs it ends that. */
    int given_up = OK(reload_with(1, 0, 2000, 0)), instead = OK(cl_rollback());
    CHECK_EQ(await_end(instead), CL_RELOAD_DONE);
    CHECK_EQ(phase_of(given_up), CL_RELOAD_SUPERSEDED);
    end_clients();
    /* A stop wins over everything. */
    int last = OK(reload_with(1, 0, 2000, 0));
    OK(cl_stop(2000));
    CHECK_EQ(await_end(last), CL_RELOAD_SUPERSEDED);
    CHECK_EQ(cl_reload(NULL), -ESHUTDOWN);
    finish();
    CHECK_EQ(cl_reload(NULL), -ENOENT);
}

static void scaled(void) {
    set_up("auto", serve_any_port);
    int one = fork_worker(), port = await_listening(one, 1);
    start_clients(port);
    static const int sizes[] = {4, 1, 3, 2};
    for (int i = 0; i < 4; i++) {
        OK(cl_scale(sizes[i]));
        PUMP_UNTIL(all_are_of(1, sizes[i]), 10000);
    }
    CHECK_EQ(cl_scale(-1), -EINVAL);
    end_clients();
    finish();
}

/* A slot is new, and the worker that was to sit there first was overtaken by one that is no good. */
static void scaled_meanwhile(void) {
    set_up("auto", serve_any_port);
    int one = fork_worker(), port = await_listening(one, 1);
    start_clients(port);
    worker_main = hang;
    int generation = OK(reload_with(2, 500, CL_NONE, 0));
    OK(cl_scale(2));
    PUMP_UNTIL(count_events(CL_EVENT_FORK, 0) >= 3, 5000);
    worker_main = serve_any_port;
    CHECK_EQ(await_end(generation), CL_RELOAD_REFUSED);
    PUMP_UNTIL(all_are_of(1, 2), 10000);
    CHECK_EQ(info_of(one).state, CL_WORKER_LISTENING);
    end_clients();
    finish();
}

static void restarted(void) {
    set_up("auto", serve_any_port);
    int one = fork_worker(), two = fork_worker(), port = await_listening(one, 1);
    await_listening(two, 1);
    start_clients(port);
    OK(cl_worker_restart(one));
    CHECK_EQ(cl_worker_restart(one), -EBUSY);
    await_exit(one, 10000);
    CHECK_EQ(cl_worker_restart(one), -ESRCH);
    PUMP_UNTIL(all_are_of(1, 2), 5000);
    CHECK_EQ(info_of(two).pid, pid_of(two));
    end_clients();
    finish();
}

static void bad_options(void) {
    cl_reload_options_t options;
    primary_ready(serve_any_port);
    CHECK_EQ(cl_reload(NULL), -ENOENT);
    CHECK_EQ(cl_rollback(), -ENOENT);
    CHECK_EQ(cl_ready(), 0);
    CHECK_EQ(cl_count(CL_COUNT_REQUESTS, 1), 0);
    CHECK_EQ(cl_count(9, 1), -EINVAL);
    CHECK_EQ(cl_count(CL_COUNT_ERRORS, -1), -EINVAL);
    CHECK_EQ(cl_took(10), 0);
    ZERO(options);
    CHECK_EQ(cl_reload(&options), -EINVAL);
    options.size = sizeof options;
    options.canary_ms = 1;
    CHECK_EQ(cl_reload(&options), -EOPNOTSUPP);
    CHECK_EQ(reload_with(-1, 0, 0, 0), -EINVAL);
    CHECK_EQ(reload_with(1, -2, 0, 0), -EINVAL);
    CHECK_EQ(reload_with(1, 0, 0, 16), -EINVAL);
    CHECK_EQ(reload_with(1, 0, 0, CL_RELOAD_QUEUE | CL_RELOAD_REFUSE_IF_BUSY), -EINVAL);
    finish();
}

static const check_case_t cases[] = {
    {"unnoticed_passed", unnoticed_passed},
    {"unnoticed_kernel", unnoticed_kernel},
    {"unnoticed_rotation", unnoticed_rotation},
    {"unnoticed_none", unnoticed_none},
    {"unnoticed_spawned", unnoticed_spawned},
    {"nothing_before_passed", nothing_before_passed},
    {"nothing_before_kernel", nothing_before_kernel},
    {"nothing_before_rotation", nothing_before_rotation},
    {"nothing_before_none", nothing_before_none},
    {"refused", refused},
    {"rolled_back", rolled_back},
    {"own_file", own_file},
    {"releases_by_a_link", releases_by_a_link},
    {"fewer_addresses", fewer_addresses},
    {"superseded", superseded},
    {"scaled", scaled},
    {"scaled_meanwhile", scaled_meanwhile},
    {"restarted", restarted},
    {"bad_options", bad_options},
};
CHECK_MAIN(cases)
