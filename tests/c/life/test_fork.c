/* cl_fork: like fork(2), in a program with one thread; and what the child has and has not. */
#include "primary.h"
#include <pthread.h>

static void *wait_for_byte(void *argument) {
    char byte;
    while (read(*(int *)argument, &byte, 1) < 0) {}
    return NULL;
}

static void with_threads(void) {
    pthread_t thread;
    int ends[2];
    primary_ready(serve_any_port);
    SYS(pipe2(ends, O_CLOEXEC));
    CHECK_EQ(pthread_create(&thread, NULL, wait_for_byte, &ends[0]), 0);
    CHECK_EQ(cl_fork(), CL_ETHREADS);
    CHECK(strlen(cl_last_error()) > 10);
    CHECK_EQ(cl_serve(2, NULL, NULL) < 0, 1);
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    CHECK(no_child_left());
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    close(ends[0]);
    close(ends[1]);
    /* With the thread gone it works; the kernel may need a moment to forget the thread. */
    int id = -1;
    WAIT_UNTIL((id = cl_fork()) != CL_ETHREADS, 1000);
    if (id == 0) become_worker();
    CHECK_EQ(ask(await_listening(OK(id), 1)), id);
    finish();
}

static int global_value = 1;

/* The child is a copy: memory, open files, working directory, mask; and starts where cl_fork returns. */
static void like_fork(void) {
    int ends[2], value, local = 5;
    sigset_t mask, now;
    primary_ready(serve_any_port);
    SYS(pipe(ends));
    SYS(chdir(case_path(".")));
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGTERM);
    SYS(sigprocmask(SIG_SETMASK, &mask, NULL));
    global_value = 77;
    int id = OK(cl_fork());
    if (id == 0) {
        char cwd[PATH_MAX], wanted[PATH_MAX];
        CHECK_EQ(global_value, 77);
        CHECK_EQ(local, 5);
        global_value = local = 1;
        CHECK(getcwd(cwd, sizeof cwd) != NULL && realpath(getenv("CHECK_DIR"), wanted) != NULL);
        CHECK(strcmp(cwd, wanted) == 0);
        SYS(sigprocmask(SIG_SETMASK, NULL, &now));
        for (int number = 1; number < 32; number++) CHECK_EQ(sigismember(&now, number), sigismember(&mask, number));
        value = cl_worker_id();
        CHECK_EQ(write(ends[1], &value, sizeof value), sizeof value);
        CHECK_EQ(getppid() > 1, 1);
        exit(0);
    }
    CHECK_EQ(read(ends[0], &value, sizeof value), sizeof value);
    CHECK_EQ(value, id);
    CHECK_EQ(global_value, 77);
    CHECK_EQ(local, 5);
    CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    close(ends[0]);
    close(ends[1]);
    finish();
}

/* Nobody holds his brothers' descriptors: the tenth child has as many as the first. */
static int report_descriptors(void) {
    char text[32];
    int n = snprintf(text, sizeof text, "%d", count_descriptors());
    OK(cl_send(text, (size_t)n));
    return serve_any_port();
}

static void no_inheritance(void) {
    int first = 0;
    primary_ready(report_descriptors);
    for (int i = 0; i < 10; i++) {
        int id = fork_worker();
        await_listening(id, 1);
        int count = atoi(seen[find_event(CL_EVENT_MESSAGE, id, 0)].data);
        if (i == 0) first = count;
        CHECK_EQ(count, first);
    }
    /* 0, 1, 2 and a few of its own: channel, grants, lifeline, primary, and what it waits with. */
    if (first > 3 + 8) check_fail(__FILE__, __LINE__, "a new worker has %d descriptors", first);
    finish();
}

static int does_not_fork(void) {
    CHECK_EQ(cl_fork(), -EPERM);
    CHECK_EQ(cl_spawn(NULL), -EPERM);
    CHECK(no_child_left());
    return 0;
}

static void worker_is_no_primary(void) {
    primary_ready(does_not_fork);
    CHECK_EQ(await_exit(fork_worker(), 3000)->exit_code, 0);
    finish();
}

/* A worker that returns from where it was forked and ends through exit(3) runs its own exit handlers, once. */
static int handler_pipe;
static void at_exit(void) { CHECK_EQ(write(handler_pipe, "x", 1), 1); }

static void exit_handlers(void) {
    int ends[2];
    char bytes[8];
    primary_ready(serve_any_port);
    SYS(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
    handler_pipe = ends[1];
    int id = OK(cl_fork());
    if (id == 0) {
        atexit(at_exit);
        exit(0);
    }
    CHECK_EQ(await_exit(id, 3000)->exit_code, 0);
    CHECK_EQ(read(ends[0], bytes, sizeof bytes), 1);
    close(ends[0]);
    close(ends[1]);
    finish();
}

/* Many at once, served by all, gone without a trace. */
static void many(void) {
    int ids[24], port = 0, count = check_slow() > 1 ? 6 : 24; /* all must get their turn in time to be in the rotation */
    use_exact_turns();
    primary_ready(serve_any_port);
    for (int i = 0; i < count; i++) ids[i] = fork_worker();
    for (int i = 0; i < count; i++) port = await_listening(ids[i], 1);
    int first = ask(port);
    for (int i = 1; i < count; i++) CHECK(ask(port) != first);
    CHECK_EQ(ask(port), first);
    finish();
    for (int i = 0; i < count; i++) CHECK_EQ(await_exit(ids[i], 1)->exit_code, 0);
}

/* A second life: after everything was stopped, the same program may start again. */
static void again(void) {
    primary_ready(serve_any_port);
    for (int round = 0; round < 3; round++) {
        int id = fork_worker();
        int port = await_listening(id, 1);
        CHECK_EQ(ask(port), id);
        OK(cl_stop(1000));
        CHECK_EQ(cl_run(), 0);
        CHECK_EQ(await_exit(id, 1)->exit_code, 0);
        CHECK_EQ(try_connect4(port), -ECONNREFUSED);
    }
    finish();
}

static const check_case_t cases[] = {
    {"with_threads", with_threads},   {"like_fork", like_fork}, {"no_inheritance", no_inheritance},
    {"worker_is_no_primary", worker_is_no_primary}, {"exit_handlers", exit_handlers}, {"many", many}, {"again", again},
};
CHECK_MAIN(cases)
