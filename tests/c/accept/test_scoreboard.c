/* What the primary sees of a worker without being told in words: its load, and what it has taken. */
#include "primary.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>

static cl_worker_info_t info_of(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    return info;
}

/* -- Load ---------------------------------------------------------------------------------------------------------- */

static int tell_what_is_asked(void) {
    char text[16];
    int n;
    OK(cl_send("ready", 5));
    while ((n = cl_receive(text, sizeof text - 1, -1)) != -ESHUTDOWN) {
        text[OK(n)] = '\0';
        errno = 4711;
        CHECK_EQ(cl_set_load((unsigned)strtoul(text, NULL, 10)), 0);
        CHECK_EQ(errno, 4711);
    }
    return 0;
}

static void tell(int id, const char *load) { OK(cl_worker_send(id, load, strlen(load))); }

/* The primary does not turn: what it knows, it has read for itself. */
static void load_without_a_turn(int spawned) {
    const char *loads[] = {"41", "0", "4294967295", "41"};
    primary_ready(tell_what_is_asked);
    int id = spawned ? spawn_worker() : fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 5000);
    CHECK_EQ(info_of(id).load, 0);
    for (int i = 0; i < 4; i++) {
        tell(id, loads[i]);
        WAIT_UNTIL(info_of(id).load == (unsigned)strtoul(loads[i], NULL, 10), 5000);
    }
    finish();
}

static void load_forked(void) { load_without_a_turn(0); }
static void load_spawned(void) {
    if (worker_side()) exit(tell_what_is_asked());
    load_without_a_turn(1);
}

/* In a handler, whatever the program is doing at that moment. */
static volatile sig_atomic_t signals;

static void tell_signals(int number) {
    (void)number;
    signals++;
    cl_set_load((unsigned)signals);
}

static int work_on(void) {
    signal(SIGUSR1, tell_signals);
    OK(cl_send("ready", 5));
    while (signals < 100) {
        char *text = (char *)malloc(100 + (size_t)signals);
        CHECK(cl_listen("nonsense", 0) < 0); /* which writes a sentence */
        free(text);
    }
    while (cl_receive(NULL, 0, -1) != -ESHUTDOWN) {}
    return 0;
}

static void load_in_a_handler(void) {
    if (worker_side()) exit(work_on());
    primary_ready(work_on);
    int ids[2] = {fork_worker(), spawn_worker()};
    for (int i = 0; i < 2; i++) {
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, ids[i]) == 1, 5000);
        for (unsigned n = 1; n <= 100; n++) {
            OK(cl_worker_kill(ids[i], SIGUSR1));
            WAIT_UNTIL(info_of(ids[i]).load == n, 5000);
        }
    }
    finish();
}

/* A child of plain fork(2) has the worker's page, too. */
static int fork_and_tell(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    OK(cl_set_load(5));
    pid_t child = SYS(fork());
    if (child == 0) {
        CHECK_EQ(cl_set_load(6), -ECHILD);
        CHECK_EQ(cl_accept(listener, NULL, NULL), -ECHILD);
        _exit(0);
    }
    WAIT_SUCCESS(child);
    OK(cl_send("forked", 6));
    return serve_listener(listener);
}

static void a_copy_of_the_worker(void) {
    if (worker_side()) exit(fork_and_tell());
    use_policy(CL_SCHED_NONE);
    primary_ready(fork_and_tell);
    int ids[2] = {fork_worker(), spawn_worker()};
    for (int i = 0; i < 2; i++) {
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, ids[i]) == 1, 5000);
        CHECK_EQ(info_of(ids[i]).load, 5);
        CHECK_EQ(info_of(ids[i]).delivered, 0);
    }
    finish();
}

/* -- What was taken ------------------------------------------------------------------------------------------------ */

static void *accept_until_asked(void *listener) {
    int connection;
    while ((connection = cl_accept(*(int *)listener, NULL, NULL)) != -ESHUTDOWN) answer(OK(connection));
    return NULL;
}

static int serve_with_threads(void) {
    pthread_t threads[3];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    for (int i = 0; i < 3; i++) CHECK_EQ(pthread_create(&threads[i], NULL, accept_until_asked, &listener), 0);
    accept_until_asked(&listener);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    OK(cl_close(listener));
    return 0;
}

/* Every connection that a worker accepted is known, whoever accepts: of a shared socket too, where the primary sees none. */
static void taken(int policy, int spawned) {
    if (worker_side()) exit(serve_with_threads());
    use_policy(policy);
    primary_ready(serve_with_threads);
    int id = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(id, 1);
    for (unsigned i = 1; i <= 80; i++) {
        CHECK_EQ(ask(port), id);
        CHECK_EQ(info_of(id).delivered, i);
    }
    finish();
}

static void taken_forked(void) { taken(CL_SCHED_RR, 0); }
static void taken_spawned(void) { taken(CL_SCHED_RR, 1); }
static void taken_forked_shared(void) { taken(CL_SCHED_NONE, 0); }
static void taken_spawned_shared(void) { taken(CL_SCHED_NONE, 1); }

/* A socket of the worker's own is none of the primary's. */
static int serve_alone(void) {
    cl_listen_options_t options;
    char text[16];
    ZERO(options);
    options.size = sizeof options;
    options.address = "127.0.0.1:0";
    options.flags = CL_LISTEN_EXCLUSIVE;
    int listener = OK(cl_listen_with(&options));
    int client = connect4(bound_port(listener));
    answer(OK(cl_accept(listener, NULL, NULL)));
    close(client);
    OK(cl_close(listener));
    OK(cl_send("served", 6));
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    return 0;
}

static void taken_from_a_socket_of_its_own(void) {
    if (worker_side()) exit(serve_alone());
    primary_ready(serve_alone);
    int ids[2] = {fork_worker(), spawn_worker()};
    for (int i = 0; i < 2; i++) {
        PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, ids[i]) == 1, 5000);
        CHECK_EQ(info_of(ids[i]).delivered, 0);
    }
    finish();
}

/* -- Without a page ------------------------------------------------------------------------------------------------ */

/* Everything works; the load comes by frame. */
static void works_without(int id) {
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 5000);
    tell(id, "41");
    PUMP_UNTIL(info_of(id).load == 41, 5000);
    tell(id, "42");
    PUMP_UNTIL(info_of(id).load == 42, 5000);
}

/* A limit on files is a limit on those without a name as well; to go beyond is SIGXFSZ. */
static void the_primary_has_none(void) {
    struct rlimit none;
    if (worker_side()) exit(tell_what_is_asked());
    if (under_valgrind()) check_skip("valgrind writes files");
    none.rlim_cur = 0;
    none.rlim_max = RLIM_INFINITY;
    SYS(setrlimit(RLIMIT_FSIZE, &none));
    primary_ready(tell_what_is_asked);
    works_without(fork_worker());
    works_without(spawn_worker());
    finish();
}

/* From here on this process can share no memory. */
static void forbid_shared_memory(void) {
#define LOAD_FIELD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
    struct sock_filter program[] = {
        LOAD_FIELD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
        LOAD_FIELD(args[3]),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_SHARED, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter;
    filter.len = sizeof program / sizeof program[0];
    filter.filter = program;
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) check_skip("no system call filters here");
    CHECK_EQ(mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED, 1);
}

static void the_worker_has_none(void) {
    if (getenv("CL_CHANNEL_FD") != NULL) {
        forbid_shared_memory();
        CHECK_EQ(worker_side(), 1);
        exit(tell_what_is_asked());
    }
    primary_ready(tell_what_is_asked);
    works_without(spawn_worker());
    finish();
}

static const check_case_t cases[] = {
    {"load_forked", load_forked}, {"load_spawned", load_spawned}, {"load_in_a_handler", load_in_a_handler},
    {"a_copy_of_the_worker", a_copy_of_the_worker}, {"taken_forked", taken_forked},
    {"taken_spawned", taken_spawned}, {"taken_forked_shared", taken_forked_shared},
    {"taken_spawned_shared", taken_spawned_shared},
    {"taken_from_a_socket_of_its_own", taken_from_a_socket_of_its_own},
    {"the_primary_has_none", the_primary_has_none}, {"the_worker_has_none", the_worker_has_none},
};
CHECK_MAIN(cases)
