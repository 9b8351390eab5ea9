/* One random call of one function of cluster.h, and what must hold of its result whatever it was given. */
#ifndef CALLS_H
#define CALLS_H

#include "foreign.h"
#include <pthread.h>
#include <netinet/tcp.h>
#include <stdint.h>

typedef enum { ALONE, PRIMARY, WORKER } role_t;

#define FUNCTIONS(X) \
    X(is_primary, 8) X(is_worker, 8) X(worker_id, 8) X(worker_slot, 8) X(listen, 4) X(listen_with, 12) X(accept, 40) \
    X(accept4, 40) X(getsockname, 60) X(setsockopt, 40) X(listener_watch, 40) X(listener_unwatch, 30) X(close, 24) \
    X(setup_primary, 20) X(fork, 8) X(spawn, 12) X(serve, 2) X(run, 1) \
    X(step, 60) X(poll_fd, 16) X(stop, 1) X(on_event, 8) X(worker_ids, 40) X(worker_info, 60) X(worker_send, 40) \
    X(worker_disconnect, 16) X(worker_kill, 30) X(send, 40) X(receive, 60) X(channel_fd, 20) X(disconnect, 2) \
    X(set_load, 60) X(strerror, 40) X(err_name, 40) X(last_error, 40) X(version, 8) X(version_number, 8)

enum {
#define X(name, weight) F_##name,
    FUNCTIONS(X)
#undef X
    FUNCTION_COUNT
};
static const char *const function_names[] = {
#define X(name, weight) "cl_" #name,
    FUNCTIONS(X)
#undef X
};
static const int function_weights[] = {
#define X(name, weight) weight,
    FUNCTIONS(X)
#undef X
};

/* Shared by all processes of one run. */
typedef struct {
    long long target, calls;
    long long of_function[FUNCTION_COUNT], succeeded[FUNCTION_COUNT];
    long long connections, workers, crashes;
} tally_t;
static tally_t *tally;

/* What the threads of one process have in common. */
enum { OPEN_MOST = 16, THREADS_MOST = 16 };
typedef struct {
    int now;         /* the function it is in; -1: none */
    int listener;    /* that it may be waiting for; -1: none */
    long long since; /* ms */
} place_t;
static int open_listeners[OPEN_MOST], known_ids[8], spawns_left;
static place_t places[THREADS_MOST];
static role_t role;
static int leaving_is_due; /* a worker may ask to be disconnected now */
static char self_arguments[4][32];
static char folder[256], worker_program[256];

static inline int load(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
static inline int swap(int *at, int value) { return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); }

typedef struct {
    uint64_t state;
    int thread, depth;
} dice_t;

static inline uint32_t roll(dice_t *dice) { /* xorshift64* */
    dice->state ^= dice->state >> 12;
    dice->state ^= dice->state << 25;
    dice->state ^= dice->state >> 27;
    return (uint32_t)(dice->state * 2685821657736338717ULL >> 32);
}
static inline int below(dice_t *dice, int n) { return (int)(roll(dice) % (uint32_t)n); }
static inline int once_in(dice_t *dice, int n) { return below(dice, n) == 0; }
#define PICK(dice, list) (list)[below(dice, (int)(sizeof(list) / sizeof(list)[0]))]

static const int odd_numbers[] = {-1, -2, INT_MIN, INT_MAX, 0, 1, 2, 1023, 65536, 1 << 30, -4096, -4097};

/* -- Arguments ----------------------------------------------------------------------------------------------------- */

static int any_descriptor(dice_t *dice) {
    int fd;
    switch (below(dice, 8)) {
    case 0: return foreign[below(dice, foreign_count)].fd;
    case 1: return PICK(dice, odd_numbers);
    case 2: return below(dice, 256); /* closed, another thread's, or the library's own */
    default: fd = load(&open_listeners[below(dice, OPEN_MOST)]); return fd >= 0 ? fd : below(dice, 64);
    }
}

static int any_id(dice_t *dice) { return once_in(dice, 3) ? PICK(dice, odd_numbers) : load(&known_ids[below(dice, 8)]); }

static size_t any_size(dice_t *dice, size_t right) {
    switch (below(dice, 8)) {
    case 0: return 0;
    case 1: return SIZE_MAX;
    case 2: return (size_t)below(dice, 64);
    case 3: return 5000 + (size_t)below(dice, 100000);
    default: return right;
    }
}

static const char *any_address(dice_t *dice, char *room, size_t size) {
    static const char *const bad[] = {
        "", ":", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:-1", "[::1", "[]:80", "unix:", "unix:@", "fd:", "fd:-1", "fd:3x",
        "fd:99999999999999999999", "udp:", "udp:udp:127.0.0.1:0", "\n", "\xff\xfe:0", "unix:/nowhere/at/all", "192.0.2.1:0",
    };
    switch (below(dice, 12)) {
    case 0: return NULL;
    case 1: return PICK(dice, bad);
    case 2: snprintf(room, size, "fd:%d", any_descriptor(dice)); return room;
    case 3: snprintf(room, size, "fd:%d", foreign_listener); return room;
    case 4: snprintf(room, size, "unix:%s/socket%d", folder, below(dice, 3)); return room;
    case 5: snprintf(room, size, "unix:@torture.%d", below(dice, 3)); return room;
    case 6: return "udp:127.0.0.1:0";
    case 7: snprintf(room, size, "127.0.0.1:%d", 20000 + below(dice, 4)); return room;
    case 8: return ":0";
    default: return "127.0.0.1:0";
    }
}

static int call_setsockopt(dice_t *dice) {
    static const int levels[] = {SOL_SOCKET, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6, -1};
    static const int names[] = {SO_KEEPALIVE, TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPCNT, TCP_DEFER_ACCEPT, INT_MIN};
    char value[300];
    int number = once_in(dice, 4) ? PICK(dice, odd_numbers) : 1;
    memset(value, 0, sizeof value);
    memcpy(value, &number, sizeof number);
    size_t length = once_in(dice, 4) ? (size_t)below(dice, sizeof value) : sizeof number;
    return cl_setsockopt(any_descriptor(dice), PICK(dice, levels), PICK(dice, names), once_in(dice, 16) ? NULL : value, (socklen_t)length);
}

/* Not the library's own: the program may not put anything into these. */
static int call_listener_watch(dice_t *dice) {
    int epoll = once_in(dice, 4) ? PICK(dice, odd_numbers) : foreign_epoll;
    return cl_listener_watch(any_descriptor(dice), epoll, roll(dice));
}

/* -- Results ------------------------------------------------------------------------------------------------------- */

static void failed(const char *name, const char *what, long long result) {
    check_fail(__FILE__, __LINE__, "%s %s: %lld (%s)", name, what, result, cl_err_name((int)result));
}

/* Every code has a name, every failure a sentence, and none is a defect that was caught. */
static int judge(int function, int result, int has_sentence) {
    const char *name = function_names[function];
    __atomic_add_fetch(&tally->of_function[function], 1, __ATOMIC_RELAXED);
    if (errno != 4711) failed(name, "changed errno", errno);
    if (result >= 0) {
        __atomic_add_fetch(&tally->succeeded[function], 1, __ATOMIC_RELAXED);
        return result;
    }
    if (result == CL_EPANIC) failed(name, "panicked", result);
    if (strcmp(cl_err_name(result), "UNKNOWN") == 0) failed(name, "gave a code that is none", result);
    if (has_sentence && cl_last_error()[0] == '\0') failed(name, "left no sentence", result);
    if (result == -ECHILD) failed(name, "takes this process for another", result);
    errno = 4711;
    return result;
}

static void keep_listener(dice_t *dice, int fd) {
    if (fd < 0) return;
    int before = swap(&open_listeners[below(dice, OPEN_MOST)], fd);
    if (before >= 0) judge(F_close, cl_close(before), 1);
}

/* The connection is ours: that closing it succeeds shows that nobody else has closed it. */
static void give_up(int connection) {
    if (connection < 0) return;
    __atomic_add_fetch(&tally->connections, 1, __ATOMIC_RELAXED);
    if (close(connection) != 0) check_fail(__FILE__, __LINE__, "the connection %d was closed by somebody else", connection);
    errno = 4711;
}

static void on_event(const cl_event_t *event, void *user);

static int returns_seven(void *argument) {
    CHECK(argument == &tally);
    return 7;
}

/* -- The calls ----------------------------------------------------------------------------------------------------- */

static void call_listen_with(dice_t *dice) {
    union {
        cl_listen_options_t options;
        unsigned char bytes[4096];
    } one;
    char room[320];
    memset(&one, 0, sizeof one);
    one.options.address = any_address(dice, room, sizeof room);
    one.options.size = any_size(dice, sizeof one.options);
    one.options.backlog = PICK(dice, odd_numbers);
    one.options.flags = once_in(dice, 8) ? roll(dice) : CL_LISTEN_NONBLOCK | (once_in(dice, 4) ? (unsigned)below(dice, 64) : 0u);
    one.options.index = once_in(dice, 8) ? PICK(dice, odd_numbers) : below(dice, 3);
    if (once_in(dice, 8)) one.bytes[sizeof one.options + (size_t)below(dice, 32)] = 1;
    keep_listener(dice, judge(F_listen_with, cl_listen_with(once_in(dice, 32) ? NULL : &one.options), 1));
}

static int call_accept(dice_t *dice, int with_flags) {
    static const int flags[] = {0, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_CLOEXEC | SOCK_NONBLOCK, -1, 1, INT_MIN, O_APPEND};
    struct sockaddr_storage peer;
    socklen_t length = once_in(dice, 2) ? sizeof peer : (socklen_t)below(dice, 20);
    struct sockaddr *to = once_in(dice, 2) ? (struct sockaddr *)&peer : NULL;
    socklen_t *room = once_in(dice, 3) ? NULL : &length;
    int fd = any_descriptor(dice);
    if (dice->depth > 0) fd = PICK(dice, odd_numbers); /* nobody could wake a callback that waits */
    __atomic_store_n(&places[dice->thread].listener, fd, __ATOMIC_SEQ_CST);
    int result = with_flags ? cl_accept4(fd, to, room, PICK(dice, flags)) : cl_accept(fd, to, room);
    __atomic_store_n(&places[dice->thread].listener, -1, __ATOMIC_SEQ_CST);
    return result;
}

static int call_setup(dice_t *dice) {
    union {
        cl_settings_t settings;
        unsigned char bytes[4096];
    } one;
    static const int mechanisms[] = {0, 0, 0, CL_MECHANISM_PASSED, CL_MECHANISM_SHARED, CL_MECHANISM_ROTATION, -1, 77};
    static const int delays[] = {0, 200, 1000, -1, INT_MIN, INT_MAX};
    static const int windows[] = {0, 1, 12, 256, 257, -1, INT_MAX};
    memset(&one, 0, sizeof one);
    one.settings.size = any_size(dice, sizeof one.settings);
    one.settings.policy = below(dice, 7) - 1;
    one.settings.mechanism = once_in(dice, 200) ? CL_MECHANISM_KERNEL : PICK(dice, mechanisms);
    one.settings.respawn = below(dice, 6) - 1;
    one.settings.stop_deadline_ms = PICK(dice, delays);
    one.settings.flags = once_in(dice, 4) ? roll(dice) : 0;
    one.settings.window = PICK(dice, windows);
    one.settings.restart_min_ms = PICK(dice, delays);
    one.settings.restart_max_ms = PICK(dice, delays);
    if (once_in(dice, 8)) one.bytes[sizeof one.settings + (size_t)below(dice, 32)] = 1;
    return cl_setup_primary(once_in(dice, 16) ? NULL : &one.settings);
}

static int call_spawn(dice_t *dice) {
    static const char *const nowhere[] = {"/nonexistent", "", "no such program", "/etc/passwd", "/"};
    char *own[] = {(char *)(uintptr_t)check_self(), self_arguments[0], self_arguments[1], self_arguments[2], self_arguments[3], folder, NULL};
    char *nothing[] = {NULL};
    int inherit[3];
    union {
        cl_spawn_options_t options;
        unsigned char bytes[4096];
    } one;
    memset(&one, 0, sizeof one);
    one.options.size = sizeof one.options;
    one.options.file = PICK(dice, nowhere);
    if (role == PRIMARY && cl_worker_ids(NULL, 0) < 4 && __atomic_sub_fetch(&spawns_left, 1, __ATOMIC_SEQ_CST) >= 0) {
        /* Now and then one that knows nothing of the library. */
        one.options.file = once_in(dice, 4) ? "/bin/true" : worker_program;
        if (one.options.file == worker_program) one.options.argv = own;
        errno = 4711;
        int id = cl_spawn(&one.options);
        if (id >= 0) __atomic_add_fetch(&tally->workers, 1, __ATOMIC_RELAXED);
        if (id >= 0) swap(&known_ids[below(dice, 8)], id);
        return id;
    }
    errno = 4711;
    for (int i = 0; i < 3; i++) inherit[i] = once_in(dice, 2) ? foreign[below(dice, foreign_count)].fd : PICK(dice, odd_numbers);
    one.options.inherit = once_in(dice, 3) ? NULL : inherit;
    one.options.inherit_count = one.options.inherit == NULL ? (size_t)below(dice, 2) : (size_t)below(dice, 4);
    one.options.cwd = once_in(dice, 2) ? NULL : "/nonexistent";
    one.options.user = once_in(dice, 2) ? NULL : once_in(dice, 2) ? "no such user" : "4294967295";
    one.options.group = once_in(dice, 2) ? NULL : "no such group";
    one.options.argv = once_in(dice, 4) ? nothing : NULL;
    one.options.envp = once_in(dice, 4) ? nothing : NULL;
    one.options.size = any_size(dice, sizeof one.options);
    return cl_spawn(&one.options);
}

static int call_worker_info(dice_t *dice) {
    union {
        cl_worker_info_t info;
        unsigned char bytes[4096];
    } one;
    memset(&one, 0xee, sizeof one);
    one.info.size = any_size(dice, sizeof one.info);
    size_t size = one.info.size;
    int result = cl_worker_info(any_id(dice), once_in(dice, 16) ? NULL : &one.info);
    /* Nothing behind what the caller has. */
    for (size_t i = size > sizeof one.info ? sizeof one.info : size; i < sizeof one; i++)
        if (one.bytes[i] != 0xee && i >= sizeof one.info.size) failed("cl_worker_info", "wrote behind the struct", (long long)i);
    return result;
}

static int call_worker_kill(dice_t *dice) {
    static const int harmless[] = {0, 0, SIGCONT, 9999, -1, 65, INT_MAX, INT_MIN, SIGWINCH};
    static const int deadly[] = {SIGKILL, SIGTERM, SIGSTOP};
    return cl_worker_kill(any_id(dice), once_in(dice, 500) ? PICK(dice, deadly) : PICK(dice, harmless));
}

static int call_worker_ids(dice_t *dice) {
    int ids[8], result = cl_worker_ids(once_in(dice, 8) ? NULL : ids, once_in(dice, 8) ? 0 : 8);
    if (once_in(dice, 8)) return result;
    memset(ids, 0xff, sizeof ids);
    errno = 4711;
    result = cl_worker_ids(ids, 7);
    if (result >= 0 && ids[7] != -1) failed("cl_worker_ids", "wrote behind the list", ids[7]);
    if (result > 0) swap(&known_ids[below(dice, 8)], ids[0]);
    return result;
}

static char message[CL_MESSAGE_MAX + 1];

static size_t any_length(dice_t *dice) {
    switch (below(dice, 16)) {
    case 0: return CL_MESSAGE_MAX + 1;
    case 1: return SIZE_MAX;
    case 2: return once_in(dice, 16) ? CL_MESSAGE_MAX : 4000;
    default: return (size_t)below(dice, 64);
    }
}

static int call_receive(dice_t *dice) {
    char buffer[4096];
    size_t capacity = once_in(dice, 4) ? (size_t)below(dice, 16) : sizeof buffer;
    return cl_receive(once_in(dice, 16) ? NULL : buffer, capacity, once_in(dice, 64) ? 1 + below(dice, 3) : 0);
}

static void expect_text(const char *name, const char *text) {
    if (text == NULL || strlen(text) > 2000) failed(name, "gave no text", 0);
}

/* Rare ones are not for callbacks, where they have to be refused, only. */
static void call(dice_t *dice, int function) {
    char room[320];
    int fd;
    socklen_t length = 16;
    struct sockaddr_storage name;
    errno = 4711;
#define JUDGE(name, expression) judge(F_##name, expression, 1)
    switch (function) {
    case F_is_primary: CHECK_EQ(JUDGE(is_primary, cl_is_primary()), role != WORKER); break;
    case F_is_worker: CHECK_EQ(JUDGE(is_worker, cl_is_worker()), role == WORKER); break;
    case F_worker_id: CHECK_EQ(JUDGE(worker_id, cl_worker_id()) > 0, role == WORKER); break;
    case F_worker_slot: /* -1 is no error */
        CHECK_EQ(cl_worker_slot() >= 0, role == WORKER);
        judge(F_worker_slot, 0, 1);
        break;
    case F_listen:
        /* These wait in cl_accept: one that is wanted by nobody else is closed by the keeper. */
        fd = once_in(dice, 2) ? -1 : JUDGE(listen, cl_listen(any_address(dice, room, sizeof room), PICK(dice, odd_numbers)));
        keep_listener(dice, fd);
        break;
    case F_listen_with: call_listen_with(dice); break;
    case F_accept: give_up(JUDGE(accept, call_accept(dice, 0))); break;
    case F_accept4: give_up(JUDGE(accept4, call_accept(dice, 1))); break;
    case F_getsockname:
        fd = any_descriptor(dice);
        length = once_in(dice, 2) ? sizeof name : (socklen_t)below(dice, 20);
        JUDGE(getsockname, cl_getsockname(fd, once_in(dice, 16) ? NULL : (struct sockaddr *)&name, once_in(dice, 16) ? NULL : &length));
        break;
    case F_listener_watch: JUDGE(listener_watch, call_listener_watch(dice)); break;
    case F_listener_unwatch: JUDGE(listener_unwatch, cl_listener_unwatch(any_descriptor(dice))); break;
    case F_setsockopt: JUDGE(setsockopt, call_setsockopt(dice)); break;
    case F_close:
        fd = once_in(dice, 4) ? swap(&open_listeners[below(dice, OPEN_MOST)], -1) : once_in(dice, 4) ? any_descriptor(dice) : PICK(dice, odd_numbers);
        JUDGE(close, cl_close(fd));
        break;
    case F_setup_primary: JUDGE(setup_primary, call_setup(dice)); break;
    case F_fork: /* refused, because this process has threads */
        if (JUDGE(fork, cl_fork()) >= 0) failed("cl_fork", "forked a process with threads", 0);
        break;
    case F_spawn: JUDGE(spawn, call_spawn(dice)); break;
    case F_serve:
        if (once_in(dice, 50) || role == WORKER) {
            fd = JUDGE(serve, cl_serve(2, returns_seven, &tally));
            if (fd != 7 && (fd >= 0 || role == WORKER)) failed("cl_serve", "did not run the worker's function", fd);
        } else {
            JUDGE(serve, once_in(dice, 2) ? cl_serve(-1, returns_seven, &tally) : cl_serve(1, NULL, NULL));
        }
        break;
    case F_run:
        if (once_in(dice, 100) || dice->depth > 0) JUDGE(run, cl_run());
        break;
    case F_step: JUDGE(step, cl_step(once_in(dice, 16) ? 1 + below(dice, 2) : 0)); break;
    case F_poll_fd: JUDGE(poll_fd, cl_poll_fd()); break;
    case F_stop: /* async-signal-safe, and therefore without a sentence */
        if (once_in(dice, 50)) judge(F_stop, cl_stop(once_in(dice, 2) ? below(dice, 50) : PICK(dice, odd_numbers)), 0);
        break;
    case F_on_event: JUDGE(on_event, cl_on_event(once_in(dice, 4) ? NULL : on_event, (void *)(uintptr_t)roll(dice))); break;
    case F_worker_ids: JUDGE(worker_ids, call_worker_ids(dice)); break;
    case F_worker_info: JUDGE(worker_info, call_worker_info(dice)); break;
    case F_worker_send: JUDGE(worker_send, cl_worker_send(any_id(dice), once_in(dice, 16) ? NULL : message, any_length(dice))); break;
    case F_worker_disconnect: JUDGE(worker_disconnect, cl_worker_disconnect(once_in(dice, 100) ? any_id(dice) : PICK(dice, odd_numbers))); break;
    case F_worker_kill: JUDGE(worker_kill, call_worker_kill(dice)); break;
    case F_send: JUDGE(send, cl_send(once_in(dice, 16) ? NULL : message, any_length(dice))); break;
    case F_receive: JUDGE(receive, call_receive(dice)); break;
    case F_channel_fd: JUDGE(channel_fd, cl_channel_fd()); break;
    case F_disconnect:
        if (role != WORKER ? once_in(dice, 50) : load(&leaving_is_due) && once_in(dice, 20)) JUDGE(disconnect, cl_disconnect());
        break;
    case F_set_load: JUDGE(set_load, cl_set_load(roll(dice))); break;
    case F_strerror: expect_text("cl_strerror", cl_strerror(once_in(dice, 2) ? PICK(dice, odd_numbers) : -below(dice, 5000))); judge(function, 0, 0); break;
    case F_err_name: expect_text("cl_err_name", cl_err_name(once_in(dice, 2) ? PICK(dice, odd_numbers) : -below(dice, 5000))); judge(function, 0, 0); break;
    case F_last_error: expect_text("cl_last_error", cl_last_error()); judge(function, 0, 0); break;
    case F_version: expect_text("cl_version", cl_version()); judge(function, 0, 0); break;
    case F_version_number: CHECK_EQ(cl_version_number(), CL_VERSION_NUMBER); judge(function, 0, 0); break;
    }
#undef JUDGE
}

static int any_function(dice_t *dice) {
    static int total;
    int sum = 0, function = 0;
    if (__atomic_load_n(&total, __ATOMIC_RELAXED) == 0) {
        for (int i = 0; i < FUNCTION_COUNT; i++) sum += function_weights[i];
        __atomic_store_n(&total, sum, __ATOMIC_RELAXED);
    }
    for (sum = below(dice, __atomic_load_n(&total, __ATOMIC_RELAXED)); sum >= function_weights[function]; function++) sum -= function_weights[function];
    return function;
}

/* A callback may call anything too. */
static void on_event(const cl_event_t *event, void *user) {
    dice_t dice = {(uintptr_t)user * 2654435761U + (unsigned)event->worker_id + 1, THREADS_MOST - 1, 1};
    CHECK(event->size == sizeof *event && event->type >= CL_EVENT_FORK && event->type <= CL_EVENT_RECYCLE);
    if (event->type == CL_EVENT_EXIT) {
        int number = event->signal;
        if (number == SIGSEGV || number == SIGABRT || number == SIGBUS || number == SIGILL || number == SIGFPE || number == SIGTRAP || event->exit_code > 0)
            check_fail(__FILE__, __LINE__, "a worker ended with exit code %d, signal %d", event->exit_code, number);
    }
    if (below(&dice, 4) == 0) return;
    for (int i = 0; i < 3; i++) call(&dice, any_function(&dice));
}

#endif
