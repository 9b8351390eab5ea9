/* The primary's side of the tests: a loop of its own over cl_step, what it saw, and the same body in every role. */
#ifndef PRIMARY_H
#define PRIMARY_H

#include "net.h"

typedef struct {
    int type, worker_id, pid, exit_code, signal, port, mechanism, generation, phase;
    size_t length;
    char address[128];
    char data[128];
} seen_t;

static seen_t seen[8192];
static int seen_count;

static inline void remember_event(const cl_event_t *event, void *user) {
    (void)user;
    if (seen_count == (int)(sizeof seen / sizeof seen[0])) return;
    seen_t *one = &seen[seen_count++];
    memset(one, 0, sizeof *one);
    one->type = event->type;
    one->worker_id = event->worker_id;
    one->pid = event->pid;
    one->exit_code = event->exit_code;
    one->signal = event->signal;
    one->port = event->port;
    one->mechanism = event->mechanism;
    one->generation = event->generation;
    one->phase = event->phase;
    one->length = event->length;
    if (event->address != NULL) snprintf(one->address, sizeof one->address, "%s", event->address);
    if (event->data != NULL && event->length > 0)
        memcpy(one->data, event->data, event->length < sizeof one->data - 1 ? event->length : sizeof one->data - 1);
    if (event->type == CL_EVENT_WARNING) dprintf(2, "warning about worker %d: %.100s\n", event->worker_id, one->data);
}

/* The index of the n-th (from 0) event of a type; of any worker where id is 0. -1: not seen yet. */
static inline int find_event(int type, int id, int n) {
    for (int i = 0; i < seen_count; i++)
        if (seen[i].type == type && (id == 0 || seen[i].worker_id == id) && n-- == 0) return i;
    return -1;
}

static inline int count_events(int type, int id) {
    int count = 0;
    while (find_event(type, id, count) >= 0) count++;
    return count;
}

/* Warnings but those that a listen was refused, which a test may well have asked for. */
static inline int count_other_warnings(int id) {
    int count = 0;
    for (int i = 0; i < seen_count; i++)
        count += seen[i].type == CL_EVENT_WARNING && (id == 0 || seen[i].worker_id == id) &&
                 strncmp(seen[i].data, "it cannot listen", 16) != 0;
    return count;
}

/* What a worker made by cl_fork does, also when it is a replacement. */
static int (*worker_main)(void);

static inline void become_worker(void) {
    int code = worker_main();
    exit(code);
}

/* One turn. In a replacement that cl_step made by forking, it does not return. */
static inline int turn(int ms) {
    int result = cl_step(ms);
    if (cl_is_worker() == 1) become_worker();
    return check_ok(result, "cl_step", __FILE__, __LINE__);
}

#define PUMP_UNTIL(condition, ms)                                                                   \
    do {                                                                                            \
        long long deadline_ = now_ms() + (long long)(ms) * check_slow();                            \
        while (!(condition)) {                                                                      \
            if (now_ms() > deadline_) check_fail(__FILE__, __LINE__, "not within %d ms: %s", (int)(ms), #condition); \
            turn(20);                                                                               \
        }                                                                                           \
    } while (0)

/* Turns for as long, whatever happens. */
static inline void pump_for(int ms) {
    long long end = now_ms() + ms, left;
    while ((left = end - now_ms()) > 0) turn((int)left);
}

/* Waits for data of a client's socket while being the primary, as a program with a loop of its own does. */
static inline int pump_readable(int fd, int ms) {
    struct pollfd both[2];
    long long deadline = now_ms() + (long long)ms * check_slow();
    for (;;) {
        both[0].fd = fd;
        both[1].fd = OK(cl_poll_fd());
        both[0].events = both[1].events = POLLIN;
        both[0].revents = both[1].revents = 0;
        long long left = deadline - now_ms();
        if (left < 0) return 0;
        if (poll(both, 2, (int)left) < 0 && errno != EINTR) SYS(-1);
        if (both[0].revents != 0) return 1;
        if (both[1].revents != 0) turn(0);
    }
}

/* Engine parts that last as long as the process are made by a first worker, which leaves at once. What is there
 * afterwards is the number of descriptors the case must end with. */
static inline int leave_at_once(void) { return 0; }

/* What a case is about exists with one mechanism only. To be called first. */
static inline void use_mechanism(const char *name) { SYS(setenv("CL_MECHANISM", name, 1)); }

/* This process may use bpf(2), which the mechanism kernel needs. */
static inline int may_use_bpf(void) {
    static const struct { unsigned type, key, value, entries; } array = {20, 4, 8, 1}; /* of sockets */
    long map = syscall(SYS_bpf, 0, &array, sizeof array);
    if (map >= 0) close((int)map);
    return map >= 0;
}

static inline int is_forced(const char *mechanism) {
    const char *forced = getenv("CL_MECHANISM");
    return forced != NULL && strcmp(forced, mechanism) == 0;
}

/* What a case is about holds only where each connection is given to a worker before that asks: turns are exact, and what waits at
 * a worker is known. To be called first. */
static inline void use_exact_turns(void) {
    if (!is_forced("passed") && !is_forced("kernel")) use_mechanism(may_use_bpf() ? "kernel" : "passed");
}

/* The mechanism that an address of TCP gets under CL_SCHED_RR. */
static inline int expected_mechanism(void) {
    if (is_forced("passed")) return CL_MECHANISM_PASSED;
    return is_forced("kernel") ? CL_MECHANISM_KERNEL : CL_MECHANISM_ROTATION;
}

static inline void primary_ready(int (*main_of_workers)(void)) {
    OK(cl_on_event(remember_event, NULL));
    OK(cl_poll_fd());
    worker_main = leave_at_once;
    int id = OK(cl_fork());
    if (id == 0) _exit(0);
    PUMP_UNTIL(find_event(CL_EVENT_EXIT, id, 0) >= 0, 3000);
    pump_for(1);
    check_baseline = count_descriptors();
    seen_count = 0;
    worker_main = main_of_workers;
}

static inline int fork_worker(void) {
    int id = OK(cl_fork());
    if (id == 0) become_worker();
    return id;
}

static inline int spawn_worker(void) { return OK(cl_spawn(NULL)); }

static inline int pid_of(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    CHECK_EQ(info.id, id);
    CHECK(info.pid > 0);
    return info.pid;
}

static inline int slot_of(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    return info.slot;
}

/* Waits until the worker listens, n listeners from 1; the port. */
static inline int await_listening(int id, int n) {
    PUMP_UNTIL(find_event(CL_EVENT_LISTENING, id, n - 1) >= 0, 5000);
    return seen[find_event(CL_EVENT_LISTENING, id, n - 1)].port;
}

static inline const seen_t *await_exit(int id, int ms) {
    PUMP_UNTIL(find_event(CL_EVENT_EXIT, id, 0) >= 0, ms);
    return &seen[find_event(CL_EVENT_EXIT, id, 0)];
}

/* The id of the worker that answers on this connection. */
static inline int answered_by(int client) {
    char text[96];
    if (!pump_readable(client, CLIENT_LIMIT_MS)) check_fail(__FILE__, __LINE__, "no answer");
    int n = receive_all(client, text, sizeof text);
    close(client);
    if (n <= 0) check_fail(__FILE__, __LINE__, "instead of an answer: %s", n < 0 ? strerror(-n) : "end of file");
    return atoi(text);
}

static inline int ask(int port) { return answered_by(connect4(port)); }

/* The plainest worker: tells every client who it is, until it is asked to leave. */
static inline int serve_listener(int listener) {
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        if (connection == -EPIPE) _exit(3);
        OK(connection);
        answer(connection);
    }
    OK(cl_close(listener));
    return 0;
}

static inline int serve_any_port(void) {
    int listener = cl_listen("127.0.0.1:0", 0);
    return listener == -ESHUTDOWN ? 0 : serve_listener(OK(listener)); /* asked to leave before it began */
}

/* Ends the primary's part of a case: everything stopped, everything given back. */
static inline void finish(void) {
    OK(cl_stop(2000));
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
}

/* In a case that spawns workers of its own program: which side is this? A worker keeps its channel to the end. */
static inline int worker_side(void) {
    if (cl_is_worker() != 1) return 0;
    check_ignore_descriptors = 1;
    return 1;
}

/* -- The same body in every role: alone, and in workers of both kinds and both mechanisms ---------------------- */

static inline void use_policy(int policy) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = policy;
    OK(cl_setup_primary(&settings));
}

static void (*forked_body)(void);

/* A worker must give back what a body took, too. */
static inline void run_body(void (*body)(void)) {
    int before = count_descriptors();
    body();
    if (count_descriptors() != before) list_descriptors();
    CHECK_EQ(count_descriptors(), before);
}

static inline int run_forked_body(void) {
    run_body(forked_body);
    return 0;
}

static inline void run_in_worker(void (*body)(void), int policy, int spawned) {
    if (spawned && worker_side()) {
        run_body(body);
        return;
    }
    use_policy(policy);
    forked_body = body;
    primary_ready(run_forked_body);
    int id = spawned ? spawn_worker() : fork_worker();
    const seen_t *end = await_exit(id, 20000);
    if (end->exit_code == CHECK_SKIPPED) {
        finish();
        _exit(CHECK_SKIPPED);
    }
    CHECK_EQ(end->signal, 0);
    CHECK_EQ(end->exit_code, 0);
    finish();
}

#define IN_WORKERS(body)                                                                            \
    static void body##_forked(void) { run_in_worker(body, CL_SCHED_RR, 0); }                        \
    static void body##_spawned(void) { run_in_worker(body, CL_SCHED_RR, 1); }                       \
    static void body##_forked_shared(void) { run_in_worker(body, CL_SCHED_NONE, 0); }               \
    static void body##_spawned_shared(void) { run_in_worker(body, CL_SCHED_NONE, 1); }
#define WORKER_CASES(body)                                                                          \
    {#body "_forked", body##_forked}, {#body "_spawned", body##_spawned},                           \
        {#body "_forked_shared", body##_forked_shared}, { #body "_spawned_shared", body##_spawned_shared }
#define ROLE_CASES(body) {#body, body}, WORKER_CASES(body)

#endif
