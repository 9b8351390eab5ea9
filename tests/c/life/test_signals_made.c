/* Signals to a whole group, and how its workers are made: in the middle of a fork, by cl_fork and cl_spawn, as replacements. */
#include "group.h"
#include <pthread.h>

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
    {"in_first_fork", in_first_fork}, {"in_second_fork", in_second_fork}, {"before_second_fork", before_second_fork},
    {"in_fork_of_replacement", in_fork_of_replacement}, {"alone_in_fork", alone_in_fork},
    {"forked_and_spawned", forked_and_spawned}, {"signalfd_in_primary", signalfd_in_primary},
    {"spawned_that_serve", spawned_that_serve}, {"masks_of_both", masks_of_both}, {"replaced_forked", replaced_forked},
    {"replaced_spawned", replaced_spawned},
};
CHECK_MAIN(cases)
