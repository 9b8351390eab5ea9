/* Signals to a whole group at its edges: a terminal, timeout(1), the middle of a fork, what the program had decided before. */
#include "group.h"
#include <pthread.h>

static void tell_exits(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_EXIT) note("exit", event->signal * 1000 + event->exit_code);
}

static void with_exits(void) { OK(cl_on_event(tell_exits, NULL)); }

static void expect_stopped(pid_t primary) { CHECK_EQ(wait_status(primary), 0); }

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

static int number_in(const char *name) {
    const char *text = getenv(name);
    CHECK(text != NULL);
    return atoi(text);
}

/* Ends of the case's pipes in a program that was started with them. */
static void inherit_notes(void) {
    ZERO(group_settings);
    group_settings.size = sizeof group_settings;
    notes[1] = number_in("CHECK_NOTES");
    go[0] = number_in("CHECK_GO");
    check_ignore_descriptors = 1;
}

static void export_notes(void) {
    char text[16];
    snprintf(text, sizeof text, "%d", notes[1]);
    SYS(setenv("CHECK_NOTES", text, 1));
    snprintf(text, sizeof text, "%d", go[0]);
    SYS(setenv("CHECK_GO", text, 1));
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

/* -- The middle of a fork ----------------------------------------------------------------------------------------- */

/* Asks somebody outside of the group to signal it, and waits until that is done. */
static int wish[2], granted[2], signal_at_fork, forks;

static void signal_the_group(void) {
    char byte;
    pid_t self = getpid();
    CHECK_EQ(write(wish[1], &self, sizeof self), sizeof self);
    while (read(granted[0], &byte, 1) < 0) CHECK_EQ(errno, EINTR);
}

static void before_fork(void) {
    forks++;
    if (signal_at_fork < 0 && forks == -signal_at_fork) signal_the_group();
}

static void in_new_worker(void) {
    if (signal_at_fork > 0 && forks == signal_at_fork) signal_the_group();
}

static void count_forks(void) {
    CHECK_EQ(pthread_atfork(before_fork, NULL, in_new_worker), 0);
    with_exits();
}

static int live(void *unused) {
    (void)unused;
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener == -ESHUTDOWN) return 0;
    OK(listener);
    if (signal_at_fork == 3 && forks == 2) _exit(17); /* the third is a replacement's */
    return serve_listener(listener);
}

static void in_fork(int at, int workers) {
    int ended = 0;
    pid_t which;
    open_notes();
    SYS(pipe2(wish, O_CLOEXEC));
    SYS(pipe2(granted, O_CLOEXEC));
    signal_at_fork = at;
    group_workers = workers;
    pid_t primary = start_group(live, count_forks);
    CHECK(readable_within(wish[0], 8000 * check_slow()));
    CHECK_EQ(read(wish[0], &which, sizeof which), sizeof which);
    SYS(kill(-primary, SIGTERM));
    CHECK_EQ(write(granted[1], "x", 1), 1);
    expect_stopped(primary);
    close(notes[1]);
    for (char line[64]; receive_line(notes[0], line, sizeof line) > 0; ended++)
        CHECK(strcmp(line, "exit 0") == 0 || (at == 3 && strcmp(line, "exit 17") == 0));
    CHECK_EQ(ended, at == 3 ? 3 : workers);
}

static int live_and_tell(void *unused) {
    note("id", cl_worker_id());
    return live(unused);
}

/* Only the worker that is being made: it leaves, and another comes. */
static void alone_in_fork(void) {
    pid_t which;
    open_notes();
    SYS(pipe2(wish, O_CLOEXEC));
    SYS(pipe2(granted, O_CLOEXEC));
    signal_at_fork = 1;
    pid_t primary = start_group(live_and_tell, count_forks);
    CHECK(readable_within(wish[0], 8000 * check_slow()));
    CHECK_EQ(read(wish[0], &which, sizeof which), sizeof which);
    CHECK(which != primary);
    SYS(kill(which, SIGTERM));
    CHECK_EQ(write(granted[1], "x", 1), 1);
    CHECK_EQ(expect_note("id"), 1);
    CHECK_EQ(expect_note("exit"), 0);
    CHECK_EQ(expect_note("id"), 2);
    SYS(kill(primary, SIGTERM));
    CHECK_EQ(expect_note("exit"), 0);
    expect_stopped(primary);
}

static void in_first_fork(void) { in_fork(1, 1); }
static void in_second_fork(void) { in_fork(2, 3); }
static void before_second_fork(void) { in_fork(-2, 3); }
static void in_fork_of_replacement(void) { in_fork(3, 2); }

/* -- What the program has decided --------------------------------------------------------------------------------- */

static volatile sig_atomic_t own_calls;
static void own_handler(int number) { own_calls += number; }

static struct sigaction disposition(int number) {
    struct sigaction action;
    SYS(sigaction(number, NULL, &action));
    return action;
}

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

/* -- Programs with cl_fork and cl_spawn --------------------------------------------------------------------------- */

static int blocked(int number) {
    sigset_t set;
    SYS(pthread_sigmask(SIG_SETMASK, NULL, &set));
    return sigismember(&set, number);
}

static sigset_t one_signal(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    return set;
}

static int hold_one_plainly(void) { return hold_one(NULL); }

static int spawn_with_notes(unsigned flags) {
    cl_spawn_options_t options;
    int inherit[2] = {notes[1], go[0]};
    ZERO(options);
    options.size = sizeof options;
    options.inherit = inherit;
    options.inherit_count = 2;
    options.flags = flags;
    export_notes();
    return OK(cl_spawn(&options));
}

/* In a group of its own: one worker of each kind. BY_SIGNALFD: the stop signals are blocked, and read by the program. SERVING: both
 * are spawned, and it is their cl_serve that holds signals. */
enum { PLAIN, BY_SIGNALFD, SERVING };

static int own_loop(int how) {
    int by_signalfd = how == BY_SIGNALFD;
    sigset_t stop = one_signal(SIGTERM);
    group_settings.flags = (unsigned)((how == SERVING ? 0 : CL_WORKER_SIGNALS) | (by_signalfd ? 0 : CL_HANDLE_SIGNALS));
    OK(cl_on_event(remember_event, NULL));
    OK(cl_setup_primary(&group_settings));
    if (by_signalfd) SYS(sigprocmask(SIG_BLOCK, &stop, NULL));
    worker_main = hold_one_plainly;
    int other = how == SERVING ? spawn_with_notes(0) : fork_worker(), spawned = spawn_with_notes(0);
    if (by_signalfd) {
        struct pollfd both[2];
        ZERO(both);
        both[0].fd = SYS((int)syscall(SYS_signalfd4, -1, &stop, 8, O_CLOEXEC));
        both[1].fd = OK(cl_poll_fd());
        both[0].events = both[1].events = POLLIN;
        while (both[0].revents == 0) {
            if (poll(both, 2, -1) < 0) CHECK_EQ(errno, EINTR);
            turn(0);
        }
        OK(cl_stop(-1));
    }
    CHECK_EQ(cl_run(), 0);
    for (int i = 0; i < 2; i++) {
        const seen_t *end = await_exit(i == 0 ? other : spawned, 1);
        CHECK_EQ(end->signal, 0);
        CHECK_EQ(end->exit_code, 0);
    }
    return 0;
}

static void both_kinds(int how) {
    int clients[2], port;
    if (getenv("CL_WORKER_ID") != NULL && worker_side()) { /* no cl_ call before the fork of the group */
        inherit_notes();
        CHECK_EQ(blocked(SIGTERM), 0);
        exit(how == SERVING ? cl_serve(7, hold_one, NULL) : hold_one(NULL));
    }
    open_notes();
    pid_t primary = SYS(fork());
    if (primary == 0) {
        SYS(setpgid(0, 0));
        _exit(own_loop(how));
    }
    port = expect_note("port");
    CHECK_EQ(expect_note("port"), port);
    for (int i = 0; i < 2; i++) take_in_hand(port, &clients[i]);
    SYS(kill(-primary, SIGTERM));
    WAIT_UNTIL(is_refused(port), 3000);
    for (int i = 0; i < 2; i++) CHECK_EQ(readable_within(clients[i], 200), 0);
    let_go();
    let_go();
    for (int i = 0; i < 2; i++) expect_answer(clients[i]);
    expect_stopped(primary);
}

static void forked_and_spawned(void) { both_kinds(PLAIN); }
static void signalfd_in_primary(void) { both_kinds(BY_SIGNALFD); }
static void spawned_that_serve(void) { both_kinds(SERVING); }

/* Without CL_WORKER_SIGNALS: a forked worker has the program's mask, a spawned one none. */
static int tell_mask(void) {
    char text[2] = {(char)('0' + blocked(SIGTERM)), (char)('0' + (disposition(SIGTERM).sa_handler == SIG_DFL))};
    OK(cl_send(text, 2));
    return serve_any_port();
}

static const char *told_by(int id) {
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, 0) >= 0, 5000);
    return seen[find_event(CL_EVENT_MESSAGE, id, 0)].data;
}

static void masks_of_both(void) {
    if (worker_side()) exit(tell_mask());
    sigset_t stop = one_signal(SIGTERM);
    primary_ready(tell_mask);
    SYS(sigprocmask(SIG_BLOCK, &stop, NULL));
    int forked = fork_worker(), spawned = spawn_worker();
    CHECK_EQ(strcmp(told_by(forked), "11"), 0);
    CHECK_EQ(strcmp(told_by(spawned), "01"), 0);
    finish();
}

/* -- Replacements ------------------------------------------------------------------------------------------------- */

static int tell_all(void) {
    struct sigaction action = disposition(SIGHUP);
    char text[5] = {(char)('0' + blocked(SIGUSR1)), (char)('0' + blocked(SIGTERM)), (char)('0' + (action.sa_handler != SIG_DFL)),
                    (char)('0' + ((action.sa_flags & SA_RESTART) != 0)),
                    (char)('0' + (disposition(SIGINT).sa_handler == SIG_IGN))};
    OK(cl_send(text, 5));
    CHECK(getenv("CL_WORKER_SIGNALS") == NULL);
    return serve_any_port();
}

static void replaced_alike(int spawned) {
    if (spawned && worker_side()) exit(tell_all());
    sigset_t usr1 = one_signal(SIGUSR1), term = one_signal(SIGTERM);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_IGN);
    primary_ready(tell_all);
    group_settings.size = sizeof group_settings;
    group_settings.respawn = CL_RESPAWN_ALWAYS;
    group_settings.flags = CL_WORKER_SIGNALS;
    OK(cl_setup_primary(&group_settings));
    SYS(sigprocmask(SIG_BLOCK, &usr1, NULL));
    SYS(sigprocmask(SIG_BLOCK, &term, NULL));
    cl_spawn_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.flags = CL_SPAWN_KEEP_MASK;
    int id = spawned ? OK(cl_spawn(&options)) : fork_worker();
    CHECK_EQ(strcmp(told_by(id), "10111"), 0);
    /* What the program's mask has become since is not the spawned one's. */
    if (spawned) SYS(sigprocmask(SIG_UNBLOCK, &usr1, NULL));
    for (int i = 0; i < 2; i++) {
        OK(cl_worker_kill(id, SIGKILL));
        PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, 0, i + 1) >= 0, 5000);
        const seen_t *said = &seen[find_event(CL_EVENT_MESSAGE, 0, i + 1)];
        CHECK(said->worker_id != id);
        id = said->worker_id;
        CHECK_EQ(strcmp(said->data, "10111"), 0);
    }
    finish();
}

static void replaced_forked(void) { replaced_alike(0); }
static void replaced_spawned(void) { replaced_alike(1); }

static const check_case_t cases[] = {
    {"ctrl_c", ctrl_c}, {"terminal_closed", terminal_closed}, {"hangup_is_a_stop", hangup_is_a_stop},
    {"second_cuts", second_cuts}, {"at_once_is_one", at_once_is_one}, {"by_timeout", by_timeout},
    {"during_the_delay", during_the_delay}, {"in_first_fork", in_first_fork}, {"in_second_fork", in_second_fork},
    {"before_second_fork", before_second_fork}, {"in_fork_of_replacement", in_fork_of_replacement},
    {"alone_in_fork", alone_in_fork},
    {"own_in_worker", own_in_worker}, {"own_before_serve", own_before_serve}, {"ignored_at_start", ignored_at_start},
    {"alone", alone}, {"forked_and_spawned", forked_and_spawned}, {"signalfd_in_primary", signalfd_in_primary},
    {"spawned_that_serve", spawned_that_serve}, {"masks_of_both", masks_of_both}, {"replaced_forked", replaced_forked}, {"replaced_spawned", replaced_spawned},
    {"_under_timeout", under_timeout},
};
CHECK_MAIN(cases)
