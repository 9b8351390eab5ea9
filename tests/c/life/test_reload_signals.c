/* CL_HANDLE_RELOAD: what SIGHUP, SIGTTIN and SIGTTOU do to a primary that runs; and workers that have done enough. */
#include "primary.h"

typedef struct {
    int port, listening, phase, recycled, warnings, exits;
} told_t;
static told_t *told;

static int get(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
static void put(int *to, int value) { __atomic_store_n(to, value, __ATOMIC_SEQ_CST); }
static void add(int *to) { __atomic_add_fetch(to, 1, __ATOMIC_SEQ_CST); }

static void tell(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_LISTENING) {
        put(&told->port, event->port);
        add(&told->listening);
    }
    if (event->type == CL_EVENT_RELOAD) put(&told->phase, event->phase);
    if (event->type == CL_EVENT_RECYCLE) add(&told->recycled);
    if (event->type == CL_EVENT_WARNING) add(&told->warnings);
    if (event->type == CL_EVENT_EXIT) add(&told->exits);
}

static int serve(void *argument) {
    (void)argument;
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener == -ESHUTDOWN) return 0;
    OK(listener);
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        if (connection == -EPIPE) _exit(3);
        OK(connection);
        answer(connection);
        OK(cl_took(3));
    }
    OK(cl_close(listener));
    return 0;
}

static void settle(unsigned flags) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.flags = flags;
    OK(cl_setup_primary(&settings));
    OK(cl_on_event(tell, NULL));
}

/* The primary in a process of its own. */
static pid_t start(unsigned flags, const cl_recycle_options_t *recycle) {
    told = (told_t *)mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(told != MAP_FAILED);
    pid_t primary = SYS(fork());
    if (primary != 0) return primary;
    check_ignore_descriptors = 1;
    settle(flags);
    if (recycle != NULL) OK(cl_recycle(recycle));
    _exit(cl_serve(2, serve, NULL) == 0 ? 0 : 1);
}

static void end(pid_t primary) {
    SYS(kill(primary, SIGTERM));
    CHECK_EQ(wait_status(primary), 0);
}

static void by_signal(void) {
    pid_t primary = start(CL_HANDLE_RELOAD, NULL);
    WAIT_UNTIL(get(&told->listening) == 2, 10000);
    SYS(kill(primary, SIGHUP));
    WAIT_UNTIL(get(&told->phase) == CL_RELOAD_DONE, 20000);
    WAIT_UNTIL(get(&told->exits) == 2, 10000);
    CHECK_EQ(get(&told->listening), 4);
    SYS(kill(primary, SIGTTIN));
    WAIT_UNTIL(get(&told->listening) == 5, 10000);
    SYS(kill(primary, SIGTTOU));
    WAIT_UNTIL(get(&told->exits) == 3, 10000);
    CHECK_EQ(get(&told->warnings), 0);
    end(primary);
}

/* Dispositions that are not the default stay what they are. */
static void left_alone(void) {
    struct sigaction ignore;
    ZERO(ignore);
    ignore.sa_handler = SIG_IGN;
    SYS(sigaction(SIGHUP, &ignore, NULL));
    pid_t primary = start(CL_HANDLE_RELOAD, NULL);
    WAIT_UNTIL(get(&told->listening) == 2, 10000);
    SYS(kill(primary, SIGHUP));
    SYS(kill(primary, SIGTTIN));
    WAIT_UNTIL(get(&told->listening) == 3, 10000);
    CHECK_EQ(get(&told->phase), 0);
    end(primary);
}

static void not_asked_for(void) {
    pid_t primary = start(0, NULL);
    WAIT_UNTIL(get(&told->listening) == 2, 10000);
    SYS(kill(primary, SIGHUP));
    CHECK_EQ(wait_status(primary), SIGHUP);
}

static void recycled(void) {
    cl_recycle_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.requests = 20;
    options.jitter_percent = CL_NONE;
    pid_t primary = start(0, &options);
    WAIT_UNTIL(get(&told->listening) == 2, 10000);
    long long deadline = now_ms() + 40000LL * check_slow();
    while (get(&told->recycled) < 2) {
        char text[96];
        int client = connect4(get(&told->port));
        CHECK(now_ms() < deadline);
        CHECK(receive_all(client, text, sizeof text) > 0);
        close(client);
    }
    end(primary);
}

static void bad_options(void) {
    cl_recycle_options_t options;
    OK(cl_recycle(NULL));
    ZERO(options);
    CHECK_EQ(cl_recycle(&options), -EINVAL);
    options.size = sizeof options;
    options.age_s = -1;
    CHECK_EQ(cl_recycle(&options), -EINVAL);
    options.age_s = 0;
    options.jitter_percent = -2;
    CHECK_EQ(cl_recycle(&options), -EINVAL);
    check_ignore_descriptors = 1;
}

static const check_case_t cases[] = {
    {"by_signal", by_signal},         {"left_alone", left_alone},   {"not_asked_for", not_asked_for},
    {"recycled", recycled},           {"bad_options", bad_options},
};
CHECK_MAIN(cases)
