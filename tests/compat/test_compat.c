/* Workers of 0.1 (COMPAT_OLD) and of today (COMPAT_NEW) under a primary of today: they serve, leave, and take each other's place. */
#include "primary.h"
#include <pthread.h>

enum { WORKERS = 2 };

static int over, gone, answered, failed;

static void *be_client(void *port) {
    while (!__atomic_load_n(&over, __ATOMIC_SEQ_CST)) {
        char text[96];
        int fd = try_connect4(*(int *)port), n = fd < 0 ? fd : receive_all(fd, text, sizeof text);
        if (fd >= 0) close(fd);
        if (n <= 0) fprintf(stderr, "after %d answers: %s\n", answered, n < 0 ? strerror(-n) : "end of file");
        __atomic_add_fetch(n > 0 ? &answered : &failed, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&gone, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static cl_spawn_options_t program(const char *variable) {
    cl_spawn_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.file = getenv(variable);
    CHECK(options.file != NULL);
    return options;
}

static int spawn_one(const char *variable) {
    cl_spawn_options_t options = program(variable);
    return OK(cl_spawn(&options));
}

static void set_up(unsigned flags) {
    cl_settings_t settings;
    primary_ready(leave_at_once);
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = strcmp(getenv("COMPAT_POLICY"), "none") == 0 ? CL_SCHED_NONE : CL_SCHED_RR;
    settings.respawn = CL_RESPAWN_ALWAYS;
    settings.stop_deadline_ms = 5000;
    settings.flags = flags;
    int result = cl_setup_primary(&settings);
    /* CL_MECHANISM=kernel where bpf(2) is not allowed. */
    if (result == -EPERM) _exit(CHECK_SKIPPED);
    OK(result);
}

/* As many as there are to be, all of a generation. */
static int all_are_of(int generation) {
    int ids[8], count = OK(cl_worker_ids(ids, 8));
    for (int i = 0; i < count; i++) {
        cl_worker_info_t info;
        ZERO(info);
        info.size = sizeof info;
        OK(cl_worker_info(ids[i], &info));
        if (info.generation != generation || info.state != CL_WORKER_LISTENING) return 0;
    }
    return count == WORKERS;
}

static int end_of(int generation, const char **why) {
    for (int i = seen_count; i-- > 0;) {
        if (seen[i].type != CL_EVENT_RELOAD || seen[i].generation != generation) continue;
        *why = seen[i].data;
        return seen[i].phase >= CL_RELOAD_DONE ? seen[i].phase : 0;
    }
    return 0;
}

static int reload_to(const char *variable, const char **why) {
    cl_spawn_options_t anew = program(variable);
    cl_reload_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.program = &anew;
    options.parallel = 2;
    options.min_ready_ms = 20;
    options.ready_timeout_ms = 500;
    int generation = OK(cl_reload(&options));
    PUMP_UNTIL(end_of(generation, why) != 0, 20000);
    return end_of(generation, why);
}

/* All answer, a worker that is killed is replaced, and each leaves in order. */
static void serves(void) {
    set_up(0);
    int one = spawn_one("COMPAT_OLD"), two = spawn_one("COMPAT_OLD"), port = await_listening(one, 1), from_one = 0;
    CHECK_EQ(await_listening(two, 1), port);
    for (int i = 0; i < 40; i++) from_one += ask(port) == one;
    if (strcmp(getenv("COMPAT_POLICY"), "none") != 0) CHECK(from_one > 0 && from_one < 40);
    SYS(kill(pid_of(one), SIGKILL));
    await_exit(one, 5000);
    PUMP_UNTIL(all_are_of(1), 10000);
    for (int i = 0; i < 10; i++) CHECK(ask(port) > 0);
    finish();
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_EXIT && seen[i].worker_id != one) CHECK_EQ(seen[i].exit_code, 0);
}

/* Old for old, new for old, old for new: nobody notices. */
static void is_replaced(void) {
    static const char *const programs[] = {"COMPAT_OLD", "COMPAT_NEW", "COMPAT_OLD"};
    const char *why = "";
    pthread_t client;
    set_up(0);
    int one = spawn_one("COMPAT_OLD"), port = await_listening(one, 1);
    await_listening(spawn_one("COMPAT_OLD"), 1);
    CHECK_EQ(pthread_create(&client, NULL, be_client, &port), 0);
    for (int i = 0; i < 3; i++) {
        if (reload_to(programs[i], &why) != CL_RELOAD_DONE) check_fail(__FILE__, __LINE__, "reload %d: %s", i, why);
        PUMP_UNTIL(all_are_of(i + 2), 5000);
        int before = __atomic_load_n(&answered, __ATOMIC_SEQ_CST);
        PUMP_UNTIL(__atomic_load_n(&answered, __ATOMIC_SEQ_CST) > before + 20, 10000);
    }
    __atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
    /* Its last connection needs the primary. */
    PUMP_UNTIL(__atomic_load_n(&gone, __ATOMIC_SEQ_CST), 10000);
    CHECK_EQ(pthread_join(client, NULL), 0);
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == CL_EVENT_EXIT) CHECK_EQ(seen[i].exit_code, 0);
    CHECK_EQ(failed, 0);
    finish();
}

/* It cannot say that it is ready, so where that is asked for it takes nobody's place. */
static void is_refused(void) {
    const char *why = "";
    set_up(CL_MANUAL_READY);
    int one = spawn_one("COMPAT_OLD"), port = await_listening(one, 1);
    int two = spawn_one("COMPAT_OLD");
    await_listening(two, 1);
    CHECK_EQ(reload_to("COMPAT_OLD", &why), CL_RELOAD_REFUSED);
    if (strstr(why, "has not said that it is ready after 0.5 s") == NULL) check_fail(__FILE__, __LINE__, "why: %s", why);
    PUMP_UNTIL(all_are_of(1), 10000);
    for (int i = 0; i < 20; i++) {
        int by = ask(port);
        CHECK(by == one || by == two);
    }
    finish();
}

static const check_case_t cases[] = {
    {"serves", serves},
    {"is_replaced", is_replaced},
    {"is_refused", is_refused},
};
CHECK_MAIN(cases)
