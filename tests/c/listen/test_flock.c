/* Whoever holds the lock of a directory (flock(2)) does not hold the primary up: a socket file that a dead server left is replaced
 * when the lock is free, and clients of others wait for nobody. */
#include "primary.h"
#include <sys/file.h>

static char at[PATH_MAX + 16], hidden[PATH_MAX + 16];

/* A file whose server has died. */
static void leave_dead_file(const char *path) {
    struct sockaddr_un address = address_unix(path);
    int fd = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    close(fd);
}

static int lock_directory(void) {
    int fd = SYS(open(getenv("CHECK_DIR"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    SYS(flock(fd, LOCK_EX | LOCK_NB));
    return fd;
}

static void name_places(void) {
    leave_dead_file(case_path("dead"));
    snprintf(at, sizeof at, "unix:%s", case_path("dead"));
    snprintf(hidden, sizeof hidden, "unix:%s", case_path("fresh"));
}

/* Asks for the dead file again and again while it holds the lock. */
static int asks_and_asks(void) {
    int lock = lock_directory();
    OK(cl_send("locked", 6));
    for (;;) {
        int listener = cl_listen(at, 0);
        if (listener == -ESHUTDOWN || listener == -EPIPE) break;
        CHECK_EQ(listener, -EADDRINUSE);
    }
    close(lock);
    return 0;
}

static int (*mains[2])(void);
static int by_slot(void) { return mains[cl_worker_slot()](); }

/* Some 20 of its listens take longer than all of the clients. */
static void nobody_waits(void) {
    use_mechanism("passed"); /* each client needs the primary */
    name_places();
    primary_ready(by_slot);
    mains[0] = serve_any_port;
    mains[1] = asks_and_asks;
    int server = fork_worker(), asker = fork_worker(), port = await_listening(server, 1);
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, asker) == 1, 5000);
    long long before = now_ms(), most = 0;
    for (int i = 0; i < 100; i++) {
        long long begun = now_ms();
        CHECK_EQ(ask(port), server);
        if (now_ms() - begun > most) most = now_ms() - begun;
    }
    /* A tenth of a second for each would be ten. */
    if (now_ms() - before > 4000LL * check_slow())
        check_fail(__FILE__, __LINE__, "100 clients in %lld ms, the longest %lld", now_ms() - before, most);
    finish();
}

/* While the lock is held a file of another name is bound, and the dead one replaced as soon as the lock is free. */
static int waits_for_the_lock(void) {
    int lock = lock_directory();
    int fresh = OK(cl_listen(hidden, 0));
    OK(cl_close(fresh));
    pid_t child = SYS(fork());
    if (child == 0) {
        nap(30); /* the primary has begun to wait, as a rule */
        _exit(0); /* the last that has the lock */
    }
    close(lock);
    int listener = OK(cl_listen(at, 0));
    OK(cl_close(listener));
    WAIT_SUCCESS(child);
    return 0;
}

static void free_in_time(void) {
    name_places();
    primary_ready(waits_for_the_lock);
    CHECK_EQ(await_exit(fork_worker(), 8000)->exit_code, 0);
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 0);
    finish();
}

/* The lock is not given back: the answer comes all the same, and names it. */
static int waits_in_vain(void) {
    int lock = lock_directory();
    CHECK_EQ(cl_listen(at, 0), -EADDRINUSE);
    CHECK(strstr(cl_last_error(), "flock") != NULL);
    close(lock);
    int listener = OK(cl_listen(at, 0));
    OK(cl_close(listener));
    return 0;
}

static void not_free(void) {
    name_places();
    primary_ready(waits_in_vain);
    CHECK_EQ(await_exit(fork_worker(), 8000)->exit_code, 0);
    finish();
}

/* One that asked and died: its answer is nobody's. */
static int asks_and_dies(void) {
    int lock = lock_directory();
    pid_t child = SYS(fork());
    if (child == 0) {
        nap(20);
        kill(getppid(), SIGKILL);
        nap(200);
        _exit(0);
    }
    close(lock);
    (void)cl_listen(at, 0);
    pause();
    return 0;
}

static void died_meanwhile(void) {
    SYS(prctl(PR_SET_CHILD_SUBREAPER, 1));
    name_places();
    primary_ready(asks_and_dies);
    CHECK_EQ(await_exit(fork_worker(), 8000)->signal, SIGKILL);
    pump_for(150);
    worker_main = serve_any_port;
    int id = fork_worker();
    CHECK_EQ(ask(await_listening(id, 1)), id);
    finish();
    while (waitpid(-1, NULL, 0) > 0) {}
}

static const check_case_t cases[] = {
    {"nobody_waits", nobody_waits}, {"free_in_time", free_in_time}, {"not_free", not_free}, {"died_meanwhile", died_meanwhile},
};
CHECK_MAIN(cases)
