/* Signals to a whole group at its edges: a terminal, timeout(1), what the program had decided before. */
#include "group.h"

/* -- A terminal --------------------------------------------------------------------------------------------------- */

/* A session of its own, whose foreground group it is; the terminal's other end. */
static int open_terminal(pid_t *primary) {
    char name[64];
    int terminal = SYS(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    SYS(grantpt(terminal));
    SYS(unlockpt(terminal));
    CHECK_EQ(ptsname_r(terminal, name, sizeof name), 0);
    *primary = SYS(fork());
    if (*primary != 0) return terminal;
    close(terminal); /* the last of its kind hangs up */
    SYS(setsid());
    int line = SYS(open(name, O_RDWR | O_CLOEXEC));
    SYS(ioctl(line, TIOCSCTTY, 0));
    CHECK_EQ(tcgetpgrp(line), getpid());
    signal(SIGHUP, SIG_DFL);
    _exit(serve_group(hold_one));
}

static void ctrl_c(void) {
    int clients[2], workers[2];
    pid_t primary;
    open_notes();
    group_workers = 2;
    int terminal = open_terminal(&primary), port = expect_note("port");
    CHECK_EQ(expect_note("port"), port);
    for (int i = 0; i < 2; i++) workers[i] = take_in_hand(port, &clients[i]);
    CHECK(workers[0] != workers[1]);
    CHECK_EQ(write(terminal, "\x03", 1), 1);
    WAIT_UNTIL(is_refused(port), 3000);
    for (int i = 0; i < 2; i++) CHECK_EQ(readable_within(clients[i], 100), 0);
    let_go();
    let_go();
    for (int i = 0; i < 2; i++) expect_answer(clients[i]);
    expect_stopped(primary);
    for (int i = 0; i < 2; i++) CHECK(gone_within(workers[i], 2000));
    close(terminal);
}

/* Nobody handles SIGHUP: it ends the primary, as ever. What is in hand has a moment. */
static void terminal_closed(void) {
    int client;
    pid_t primary;
    open_notes();
    int terminal = open_terminal(&primary), worker = take_in_hand(expect_note("port"), &client);
    close(terminal);
    expect_signalled(wait_status(primary), SIGHUP);
    let_go();
    expect_answer(client);
    CHECK(gone_within(worker, 2000));
}

static void stop_by_handler(int number) {
    (void)number;
    (void)cl_stop(-1); /* -EPERM in the workers, who have it too */
}

static void own_hangup(void) { CHECK(signal(SIGHUP, stop_by_handler) != SIG_ERR); }

static void hangup_is_a_stop(void) {
    int client;
    open_notes();
    pid_t primary = start_group(hold_one, own_hangup);
    int port = expect_note("port");
    take_in_hand(port, &client);
    SYS(kill(-primary, SIGHUP));
    WAIT_UNTIL(is_refused(port), 3000);
    let_go();
    expect_answer(client);
    expect_stopped(primary);
}

/* -- How often it comes ------------------------------------------------------------------------------------------- */

/* A second one cuts short, as cl_stop(0) does. The first does not. */
static void second_cuts(void) {
    int client;
    char text[96];
    open_notes();
    group_settings.stop_deadline_ms = 20000;
    pid_t primary = start_group(hold_one, with_exits);
    int port = expect_note("port");
    take_in_hand(port, &client);
    SYS(kill(-primary, SIGINT));
    WAIT_UNTIL(is_refused(port), 3000);
    CHECK_EQ(readable_within(client, 500), 0);
    long long second = now_ms();
    SYS(kill(-primary, SIGINT));
    CHECK(receive_all(client, text, sizeof text) <= 0);
    CHECK_EQ(expect_note("exit"), SIGTERM * 1000 - 1);
    expect_stopped(primary);
    CHECK(now_ms() - second < 10000);
    close(client);
}

/* Whether a signal of the set waits for the process. */
static int is_pending(pid_t pid, int number) {
    char name[64], text[4096];
    snprintf(name, sizeof name, "/proc/%d/status", (int)pid);
    int fd = SYS(open(name, O_RDONLY | O_CLOEXEC));
    ssize_t n = SYS(read(fd, text, sizeof text - 1));
    close(fd);
    text[n] = '\0';
    const char *line = strstr(text, "ShdPnd:");
    CHECK(line != NULL);
    return (strtoull(line + 7, NULL, 16) >> (number - 1) & 1) != 0;
}

static int is_cut(int client) {
    char text[96];
    int cut = readable_within(client, 200);
    let_go();
    cut |= receive_all(client, text, sizeof text) <= 0;
    close(client);
    return cut;
}

/* Two at once are one. On a busy machine they may be taken for two; hardly five times running. */
static void at_once_is_one(void) {
    for (int tries = 0; tries < 5; tries++) {
        int client;
        open_notes();
        pid_t primary = start_group(hold_one, NULL);
        int port = expect_note("port");
        take_in_hand(port, &client);
        SYS(kill(-primary, SIGTERM));
        WAIT_UNTIL(!is_pending(primary, SIGTERM), 3000);
        SYS(kill(-primary, SIGTERM));
        WAIT_UNTIL(is_refused(port), 3000);
        int cut = is_cut(client);
        expect_stopped(primary);
        if (!cut) return;
    }
    check_fail(__FILE__, __LINE__, "a signal that came twice at once has cut what was in hand");
}

static void under_timeout(void) {
    inherit_notes();
    _exit(serve_group(hold_one));
}

/* timeout(1) signals its child, and then all of the group it is in. */
static void by_timeout(void) {
    int cut = 0;
    for (int tries = 0; tries < 5; tries++) {
        int client;
        open_notes();
        pid_t timeout = SYS(fork());
        if (timeout == 0) {
            export_notes();
            SYS(fcntl(notes[1], F_SETFD, 0));
            SYS(fcntl(go[0], F_SETFD, 0));
            execlp("timeout", "timeout", "60", check_self(), "_under_timeout", (char *)NULL);
            _exit(CHECK_SKIPPED);
        }
        if (!readable_within(notes[0], 100) && gone_within(timeout, 0)) {
            WAIT_SUCCESS(timeout);
            check_skip("no timeout(1)");
        }
        int port = expect_note("port");
        take_in_hand(port, &client);
        SYS(kill(timeout, SIGTERM));
        WAIT_UNTIL(is_refused(port), 3000);
        cut = is_cut(client);
        CHECK_EQ(wait_status(timeout), 0);
        if (!cut) break;
    }
    CHECK_EQ(cut, 0);
}

/* The delay of a stop goes on serving, and nobody leaves meanwhile because the signal came to the worker as well. */
static void during_the_delay(void) {
    char text[96];
    int client, worker, id, slot, pid;
    open_notes();
    group_settings.drain_delay_ms = 20000;
    pid_t primary = start_group(hold_one, NULL);
    int port = expect_note("port");
    worker = take_in_hand(port, &client);
    SYS(kill(-primary, SIGTERM));
    CHECK_EQ(readable_within(client, 400), 0);
    let_go();
    expect_answer(client);
    for (int i = 0; i < 2; i++) {
        client = connect4(port);
        CHECK(receive_all(client, text, sizeof text) > 0);
        CHECK_EQ(sscanf(text, "%d %d %d", &id, &slot, &pid), 3);
        CHECK_EQ(pid, worker);
        close(client);
    }
    SYS(kill(-primary, SIGTERM));
    expect_stopped(primary);
}

/* -- What the program has decided --------------------------------------------------------------------------------- */

static volatile sig_atomic_t own_calls;
static void own_handler(int number) { own_calls += number; }

static int replaces_ours(void *unused) {
    (void)unused;
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    CHECK(disposition(SIGTERM).sa_handler != SIG_DFL);
    CHECK(signal(SIGTERM, own_handler) != SIG_ERR);
    note("pid", getpid());
    note("port", bound_port(listener));
    for (int connection; (connection = cl_accept(listener, NULL, NULL)) >= 0; answer(connection)) note("own", own_calls);
    return 0;
}

static void own_in_worker(void) {
    open_notes();
    pid_t primary = start_group(replaces_ours, with_exits);
    pid_t worker = expect_note("pid");
    int port = expect_note("port");
    for (int i = 1; i < 3; i++) {
        SYS(kill(worker, SIGTERM));
        WAIT_UNTIL(!is_pending(worker, SIGTERM), 3000);
        nap(i == 1 ? 250 : 0); /* longer than the primary waits for a signal of its own */
        expect_answer(connect4(port));
        CHECK_EQ(expect_note("own"), i * SIGTERM);
    }
    SYS(kill(-primary, SIGTERM));
    CHECK_EQ(expect_note("exit"), 0);
    expect_stopped(primary);
}

static void own_before(void) {
    struct sigaction action;
    ZERO(action);
    action.sa_handler = own_handler;
    action.sa_flags = SA_NODEFER;
    SYS(sigaction(SIGTERM, &action, NULL));
    SYS(sigaction(SIGINT, &action, NULL));
    CHECK(signal(SIGHUP, SIG_IGN) != SIG_ERR);
}

static int has_the_programs(void *unused) {
    (void)unused;
    for (int number = SIGINT; number <= SIGTERM; number += SIGTERM - SIGINT) {
        struct sigaction action = disposition(number);
        CHECK(action.sa_handler == own_handler && plain_flags(&action) == SA_NODEFER);
    }
    CHECK(disposition(SIGHUP).sa_handler == SIG_IGN);
    return hold_one(NULL);
}

/* Workers made before and during cl_run have it, and nothing of ours. */
static void own_before_serve(void) {
    int client;
    open_notes();
    pid_t primary = start_group(has_the_programs, own_before);
    int port = expect_note("port");
    SYS(kill(take_in_hand(port, &client), SIGKILL));
    close(client);
    CHECK_EQ(expect_note("port"), port);
    take_in_hand(port, &client);
    SYS(kill(-primary, SIGTERM));
    WAIT_UNTIL(is_refused(port), 3000);
    CHECK_EQ(readable_within(client, 300), 0);
    let_go();
    expect_answer(client);
    expect_stopped(primary);
}

static void ignore_two(void) {
    CHECK(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    CHECK(signal(SIGINT, SIG_IGN) != SIG_ERR);
}

static int ignores_two(void *unused) {
    (void)unused;
    CHECK(disposition(SIGHUP).sa_handler == SIG_IGN && disposition(SIGINT).sa_handler == SIG_IGN);
    CHECK(disposition(SIGTERM).sa_handler != SIG_DFL && disposition(SIGTERM).sa_handler != SIG_IGN);
    return hold_one(NULL);
}

/* As nohup(1) and a shell's & leave them. The primary was asked to handle SIGINT; nobody was asked for SIGHUP. */
static void ignored_at_start(void) {
    int client;
    open_notes();
    pid_t primary = start_group(ignores_two, ignore_two);
    int port = expect_note("port"), worker = take_in_hand(port, &client);
    SYS(kill(-primary, SIGHUP));
    SYS(kill(worker, SIGINT));
    CHECK_EQ(readable_within(client, 300), 0);
    CHECK(!is_refused(port));
    CHECK(!gone_now(worker));
    SYS(kill(-primary, SIGINT));
    WAIT_UNTIL(is_refused(port), 3000);
    let_go();
    expect_answer(client);
    expect_stopped(primary);
}

/* -- One alone ---------------------------------------------------------------------------------------------------- */

static void alone(void) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    int client, last = 0;
    union sigval value;
    value.sival_int = 0;
    open_notes();
    pid_t primary = start_group(hold_one, NULL);
    int port = expect_note("port");
    for (int i = 0; i < 3; i++) {
        int worker = take_in_hand(port, &client);
        CHECK(worker != last);
        last = worker;
        SYS(i == 1 ? sigqueue(worker, numbers[i], value) : kill(worker, numbers[i]));
        CHECK_EQ(readable_within(client, 300), 0);
        CHECK(no_note(0)); /* it is replaced when it is gone */
        let_go();
        expect_answer(client);
        CHECK_EQ(expect_note("port"), port);
        CHECK(gone_within(worker, 2000));
    }
    SYS(kill(primary, SIGTERM));
    expect_stopped(primary);
}

static const check_case_t cases[] = {
    {"ctrl_c", ctrl_c}, {"terminal_closed", terminal_closed}, {"hangup_is_a_stop", hangup_is_a_stop},
    {"second_cuts", second_cuts}, {"at_once_is_one", at_once_is_one}, {"by_timeout", by_timeout},
    {"during_the_delay", during_the_delay}, {"own_in_worker", own_in_worker}, {"own_before_serve", own_before_serve},
    {"ignored_at_start", ignored_at_start}, {"alone", alone}, {"_under_timeout", under_timeout},
};
CHECK_MAIN(cases)
