/* A primary that is stopped and followed by another one, on a socket that a third process holds (fd:N): whoever comes in between waits
 * for the next one, nobody is refused and nobody lost. */
#include "load.h"
#include "primary.h"

enum { ROUNDS = 5 };

static int held; /* the holder's socket: the process of the case is what systemd would be */
static int policy;

static const char *address_of_it(void) {
    static char address[16];
    snprintf(address, sizeof address, "fd:%d", held);
    return address;
}

static int serve_it(void *unused) {
    (void)unused;
    int listener = cl_listen(address_of_it(), 0);
    if (listener == -ESHUTDOWN) return 0;
    if (listener == -EPIPE) _exit(3); /* the primary was killed before this worker had begun */
    return serve_listener(OK(listener));
}

/* A primary in a process of its own, which has the holder's socket from it. */
static pid_t start_primary(void) {
    pid_t primary = SYS(fork());
    if (primary != 0) return primary;
    cl_settings_t settings;
    check_ignore_descriptors = 1;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = policy;
    OK(cl_setup_primary(&settings));
    _exit(cl_serve(2, serve_it, NULL) == 0 ? 0 : 1);
}

static int hold(void) {
    held = plain_listener(0);
    return system_port(held);
}

/* Its answer, once there is somebody to give it. */
static void expect_answer(int client) {
    char text[96];
    CHECK(receive_all(client, text, sizeof text) > 0);
    close(client);
}

static void one_after_the_other(void) {
    int port = hold();
    load_begin(port);
    for (int round = 0; round < ROUNDS; round++) {
        pid_t primary = start_primary();
        load_await(50);
        SYS(kill(primary, SIGTERM));
        CHECK_EQ(wait_status(primary), 0);
        CHECK(readable_within(held, 10000)); /* nobody serves, and they wait */
    }
    pid_t last = start_primary();
    load_await(50);
    load_end();
    SYS(kill(last, SIGTERM));
    CHECK_EQ(wait_status(last), 0);
    close(held);
}

static void graceful(void) { one_after_the_other(); }

static void graceful_none(void) {
    policy = CL_SCHED_NONE;
    one_after_the_other();
}

/* The next one is there before the other is told to go: nobody waits. */
static void overlapping(void) {
    load_begin(hold());
    pid_t primary = start_primary();
    for (int round = 0; round < ROUNDS; round++) {
        load_await(50);
        pid_t next = start_primary();
        load_await(50);
        SYS(kill(primary, SIGTERM));
        CHECK_EQ(wait_status(primary), 0);
        primary = next;
    }
    load_await(50);
    load_end();
    SYS(kill(primary, SIGTERM));
    CHECK_EQ(wait_status(primary), 0);
    close(held);
}

/* What a primary that is killed had accepted ends with it; who comes then is not refused. */
static void killed(void) {
    int port = hold();
    pid_t primary = start_primary();
    expect_answer(connect4(port));
    SYS(kill(primary, SIGKILL));
    CHECK_EQ(wait_status(primary), SIGKILL);
    /* Its workers end by themselves, and may have served one more until then. */
    int client = connect4(port);
    WAIT_UNTIL(readable_within(held, 0) || readable_within(client, 10), 10000);
    primary = start_primary();
    expect_answer(client);
    expect_answer(connect4(port));
    SYS(kill(primary, SIGTERM));
    CHECK_EQ(wait_status(primary), 0);
    close(held);
}

static const check_case_t cases[] = {
    {"graceful", graceful},
    {"graceful_none", graceful_none},
    {"overlapping", overlapping},
    {"killed", killed},
};
CHECK_MAIN(cases)
