/* A signal to everybody: workers finish what is in hand. One from the primary ends a worker. */
#include "primary.h"

static int notes[2], go[2];
static pid_t the_primary;

static int next_note(char *line, int size) {
    if (!readable_within(notes[0], 8000 * check_slow())) check_fail(__FILE__, __LINE__, "nobody says anything");
    return receive_line(notes[0], line, (size_t)size);
}

static void note(const char *word, int number) {
    char line[64];
    int n = snprintf(line, sizeof line, "%s %d\n", word, number);
    CHECK_EQ(write(notes[1], line, (size_t)n), n);
}

static int expect_note(const char *word) {
    char line[64], found[32] = "";
    int number = -1;
    CHECK(next_note(line, sizeof line) > 0);
    CHECK_EQ(sscanf(line, "%31s %d", found, &number), 2);
    if (strcmp(found, word) != 0) check_fail(__FILE__, __LINE__, "\"%s\" instead of \"%s\"", line, word);
    return number;
}

/* Has a connection in hand until it is told to go on. */
static int hold_one(void *unused) {
    char byte;
    (void)unused;
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    note("port", bound_port(listener));
    int connection = cl_accept(listener, NULL, NULL);
    if (connection == -ESHUTDOWN) return OK(cl_close(listener)); /* a replacement that had nobody */
    OK(connection);
    note("hand", getpid());
    while (read(go[0], &byte, 1) < 0) CHECK_EQ(errno, EINTR);
    answer(connection);
    serve_listener(listener);
    return 0;
}

static int which;
static int hold_one_plainly(void) { return hold_one(NULL); }

/* In a group of its own; the signal goes to all of it. */
static void in_group(int how) {
    pid_t primary;
    SYS(pipe2(notes, O_CLOEXEC));
    SYS(pipe2(go, O_CLOEXEC));
    primary = SYS(fork());
    if (primary == 0) {
        SYS(setpgid(0, 0));
        if (which == SIGHUP) signal(SIGHUP, SIG_DFL);
        if (how == 0) _exit(cl_serve(1, hold_one, NULL) == 0 ? 0 : 9);
        cl_settings_t settings;
        ZERO(settings);
        settings.size = sizeof settings;
        settings.flags = CL_HANDLE_SIGNALS | CL_WORKER_SIGNALS;
        OK(cl_setup_primary(&settings));
        worker_main = hold_one_plainly;
        fork_worker();
        _exit(cl_run() == 0 ? 0 : 9);
    }
    int port = expect_note("port");
    int client = connect4(port);
    int worker = expect_note("hand");
    char text[96];
    if (which == SIGHUP) SYS(kill(worker, SIGHUP)); /* the primary dies of it, as ever */
    else SYS(kill(-primary, which));
    CHECK_EQ(readable_within(client, 200), 0); /* neither cut nor answered */
    CHECK_EQ(write(go[1], "x", 1), 1);
    CHECK(receive_all(client, text, sizeof text) > 0);
    close(client);
    if (which == SIGHUP) { /* alone, it is replaced */
        CHECK_EQ(expect_note("port"), port);
        SYS(kill(primary, SIGTERM));
    }
    CHECK_EQ(wait_status(primary), 0);
    check_ignore_descriptors = 1;
}

static void sigterm_serve(void) { which = SIGTERM; in_group(0); }
static void sigint_serve(void) { which = SIGINT; in_group(0); }
static void alone_is_replaced(void) { which = SIGHUP; in_group(0); }
static void sigterm_fork(void) { which = SIGTERM; in_group(1); }

static void settings_with(int flags, int deadline) {
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.flags = (unsigned)flags;
    settings.stop_deadline_ms = deadline;
    OK(cl_setup_primary(&settings));
}

static int stays(void) {
    OK(cl_listen("127.0.0.1:0", 0));
    for (;;) nap(100000);
    return 0;
}

static int check_held(void) {
    struct sigaction action;
    SYS(sigaction(SIGTERM, NULL, &action));
    CHECK(action.sa_handler != SIG_DFL && action.sa_flags & SA_RESTART);
    CHECK(getenv("CL_WORKER_SIGNALS") == NULL);
    return stays();
}

/* The primary's own signals end a worker, with the right status: by cl_worker_kill and by the deadline. */
static void ended_by_primary(int spawned) {
    if (spawned && worker_side()) exit(check_held());
    primary_ready(check_held);
    settings_with(CL_WORKER_SIGNALS, 100);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    await_listening(one, 1);
    await_listening(two, 1);
    OK(cl_worker_kill(one, SIGTERM));
    CHECK_EQ(await_exit(one, 3000)->signal, SIGTERM);
    OK(cl_worker_disconnect(two));
    CHECK_EQ(await_exit(two, 3000)->signal, SIGTERM);
    finish();
}
static void ended_forked(void) { ended_by_primary(0); }
static void ended_spawned(void) { ended_by_primary(1); }

/* Somebody else's ask it to leave; a copy of it that fork(2) made dies of its own, and asks nobody. */
static int with_child(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    pid_t child = SYS(fork());
    if (child == 0) for (;;) nap(100000);
    SYS(kill(child, SIGTERM));
    int status = wait_status(child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    OK(cl_send("x", 1));
    return serve_listener(listener);
}

static void asked_by_others(int spawned) {
    if (spawned && worker_side()) exit(with_child());
    primary_ready(with_child);
    settings_with(CL_WORKER_SIGNALS, 5000);
    int id = spawned ? spawn_worker() : fork_worker();
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, 0) >= 0, 5000);
    pid_t worker = pid_of(id), other = SYS(fork());
    if (other == 0) _exit(kill(worker, SIGTERM) != 0);
    CHECK_EQ(await_exit(id, 3000)->signal, 0);
    CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    WAIT_SUCCESS(other);
    finish();
}
static void asked_forked(void) { asked_by_others(0); }
static void asked_spawned(void) { asked_by_others(1); }

/* What the program has decided about a signal is left alone. */
static void own_handler(int number) { (void)number; }
static int keeps_own(void) {
    struct sigaction action;
    SYS(sigaction(SIGTERM, NULL, &action));
    CHECK(action.sa_handler == own_handler);
    SYS(sigaction(SIGHUP, NULL, &action));
    CHECK(action.sa_handler == SIG_IGN);
    return 0;
}

static void own_disposition_stays(void) {
    signal(SIGTERM, own_handler);
    signal(SIGHUP, SIG_IGN);
    primary_ready(keeps_own);
    settings_with(CL_WORKER_SIGNALS, 5000);
    CHECK_EQ(await_exit(fork_worker(), 3000)->exit_code, 0);
    finish();
}

/* -- Masks -------------------------------------------------------------------------------------------------------- */

static void block(int number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    SYS(pthread_sigmask(SIG_BLOCK, &set, NULL));
}

static int blocked(int number) {
    sigset_t set;
    SYS(pthread_sigmask(SIG_SETMASK, NULL, &set));
    return sigismember(&set, number);
}

static void stop_when_listening(const cl_event_t *event, void *user) {
    remember_event(event, user);
    if (event->type == CL_EVENT_LISTENING) SYS(kill(getpid(), SIGTERM));
}

/* CL_HANDLE_SIGNALS where SIGTERM is blocked; a worker has the mask that the program had. */
static int stays_blocked(void) {
    CHECK_EQ(blocked(SIGTERM), 1);
    return serve_any_port();
}

static void blocked_at_start(void) {
    primary_ready(stays_blocked);
    block(SIGTERM);
    settings_with(CL_HANDLE_SIGNALS, 5000);
    OK(cl_on_event(stop_when_listening, NULL));
    int id = fork_worker();
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(await_exit(id, 1)->exit_code, 0);
    CHECK_EQ(blocked(SIGTERM), 1);
    CHECK_EQ(blocked(SIGINT), 0);
    finish();
}

static void spawned_mask(void) {
    if (worker_side()) {
        exit(blocked(SIGUSR1) * 2 + blocked(SIGTERM));
    }
    cl_spawn_options_t options;
    ZERO(options);
    options.size = sizeof options;
    primary_ready(leave_at_once);
    block(SIGTERM);
    block(SIGUSR1);
    CHECK_EQ(await_exit(spawn_worker(), 5000)->exit_code, 0);
    options.flags = CL_SPAWN_KEEP_MASK;
    CHECK_EQ(await_exit(OK(cl_spawn(&options)), 5000)->exit_code, 3);
    finish();
}

/* -- What stdio holds, and atexit(3) ------------------------------------------------------------------------------ */

static void remove_pid_file(void) {
    if (getpid() != the_primary) return;
    unlink(case_path("pid"));
}

static int end_at_once(void *unused) { (void)unused; return 0; }

static void banner_and_pid_file(void) {
    const char *path = case_path("out"), *pid_file = case_path("pid");
    char text[256];
    pid_t child = SYS(fork());
    if (child == 0) {
        cl_settings_t settings;
        ZERO(settings);
        settings.size = sizeof settings;
        settings.respawn = CL_RESPAWN_NEVER;
        the_primary = getpid();
        close(SYS(open(pid_file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
        CHECK(freopen(path, "w", stdout) != NULL);
        atexit(remove_pid_file);
        printf("banner\n");
        OK(cl_setup_primary(&settings));
        CHECK_EQ(cl_serve(3, end_at_once, NULL), 0);
        CHECK_EQ(access(pid_file, F_OK), 0);
        exit(0);
    }
    WAIT_SUCCESS(child);
    CHECK(access(pid_file, F_OK) != 0);
    int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    CHECK_EQ(read(fd, text, sizeof text), 7);
    close(fd);
}

static const check_case_t cases[] = {
    {"sigterm_serve", sigterm_serve}, {"sigint_serve", sigint_serve}, {"alone_is_replaced", alone_is_replaced},
    {"sigterm_fork", sigterm_fork}, {"ended_forked", ended_forked}, {"ended_spawned", ended_spawned},
    {"asked_forked", asked_forked}, {"asked_spawned", asked_spawned}, {"own_disposition_stays", own_disposition_stays},
    {"blocked_at_start", blocked_at_start}, {"spawned_mask", spawned_mask}, {"banner_and_pid_file", banner_and_pid_file},
};
CHECK_MAIN(cases)
