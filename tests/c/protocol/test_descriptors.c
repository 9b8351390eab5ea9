/* Which descriptors a worker starts with, and that a host with odd ones of its own is served as well. */
#include "primary.h"
#include <pthread.h>

/* What the spawned side finds before it asks the library anything: 0, 1, 2, the channel, and what was declared. */
static void expect_only(const int *declared, int count) {
    int channel = atoi(getenv("CL_CHANNEL_FD"));
    CHECK(channel > 2);
    for (int fd = 3; fd < 1024; fd++) {
        int wanted = fd == channel;
        for (int i = 0; i < count; i++) wanted = wanted || declared[i] == fd;
        if ((fcntl(fd, F_GETFD) >= 0) == wanted || (under_valgrind() && belongs_to_valgrind(fd))) continue;
        list_descriptors();
        check_fail(__FILE__, __LINE__, "descriptor %d is %s", fd, wanted ? "missing" : "inherited");
    }
    for (int fd = 0; fd < 3; fd++) CHECK(fcntl(fd, F_GETFD) >= 0);
}

/* Descriptors of the host that are not close-on-exec, and listeners and channels of other workers: none arrives. */
static void exactly_these(void) {
    int ends[2], high;
    if (getenv("CL_CHANNEL_FD") != NULL) {
        expect_only(NULL, 0);
        if (worker_side()) exit(serve_any_port());
    }
    SYS(pipe(ends));
    high = SYS(fcntl(0, F_DUPFD, 700));
    primary_ready(leave_at_once);
    int listener = plain_listener(0);
    SYS(fcntl(listener, F_SETFD, 0));
    int ids[3], port = 0;
    for (int i = 0; i < 3; i++) {
        ids[i] = spawn_worker();
        port = await_listening(ids[i], 1);
    }
    for (int i = 0; i < 6; i++) CHECK(ask(port) > 0);
    close(listener);
    finish();
    for (int i = 0; i < 3; i++) CHECK_EQ(await_exit(ids[i], 1)->exit_code, 0);
    CHECK(fcntl(ends[0], F_GETFD) == 0 && fcntl(ends[1], F_GETFD) == 0 && fcntl(high, F_GETFD) == 0);
}

/* What the host declares arrives under the same number, though it is close-on-exec here, and stays so here. */
static void declared(void) {
    int wanted[2] = {40, 41};
    if (getenv("CL_CHANNEL_FD") != NULL) {
        char text[8];
        expect_only(wanted, 2);
        CHECK_EQ(read(40, text, sizeof text), 5);
        CHECK(memcmp(text, "hello", 5) == 0);
        CHECK_EQ(write(41, "world", 5), 5);
        worker_side();
        return;
    }
    int in[2], out[2];
    char text[8];
    cl_spawn_options_t options;
    SYS(pipe2(in, O_CLOEXEC));
    SYS(pipe2(out, O_CLOEXEC));
    SYS(dup3(in[0], 40, O_CLOEXEC));
    SYS(dup3(out[1], 41, O_CLOEXEC));
    close(in[0]);
    close(out[1]);
    primary_ready(leave_at_once);
    ZERO(options);
    options.size = sizeof options;
    options.inherit = wanted;
    options.inherit_count = 2;
    int id = OK(cl_spawn(&options));
    CHECK_EQ(write(in[1], "hello", 5), 5);
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    CHECK_EQ(read(out[0], text, sizeof text), 5);
    CHECK_EQ(fcntl(40, F_GETFD), FD_CLOEXEC);
    int bad[] = {40, 999};
    options.inherit = bad;
    CHECK_EQ(cl_spawn(&options), -EBADF);
    options.inherit = NULL;
    CHECK_EQ(cl_spawn(&options), -EINVAL);
    CHECK(no_child_left());
    finish();
}

/* A daemon has no 0, 1 and 2: what the library opens must not land there and be taken for standard input. */
static void closed_standard(void) {
    if (worker_side()) {
        check_ignore_descriptors = 1;
        exit(serve_any_port());
    }
    int error = SYS(fcntl(2, F_DUPFD_CLOEXEC, 100));
    close(0);
    close(1);
    close(2);
    OK(cl_on_event(remember_event, NULL));
    worker_main = serve_any_port;
    int one = spawn_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    CHECK_EQ(await_listening(two, 1), port);
    for (int i = 0; i < 8; i++) CHECK(ask(port) > 0);
    finish();
    CHECK_EQ(await_exit(one, 1)->exit_code, 0);
    CHECK_EQ(await_exit(two, 1)->exit_code, 0);
    SYS(dup2(error, 2));
    check_ignore_descriptors = 1;
}

/* While threads open and start things at the same time, nothing of ours leaks into programs the host starts itself. */
static volatile int over;

static void *start_others(void *argument) {
    (void)argument;
    for (int i = 0; i < 40; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            execl("/bin/sh", "sh", "-c", "for f in /proc/self/fd/*; do [ ${f##*/} -le 2 ] || [ ! -e $f ] || [ -d $f/ ] || exit 1; done", (char *)NULL);
            _exit(2);
        }
        int status = wait_status(pid);
        if (status != 0) check_fail(__FILE__, __LINE__, "a program of the host inherited something (%#x)", status);
    }
    over = 1;
    return NULL;
}

static void nothing_leaks(void) {
    pthread_t thread;
    if (worker_side()) exit(serve_any_port());
    if (under_valgrind()) check_skip("valgrind leaves descriptors of its own to every program");
    primary_ready(leave_at_once);
    CHECK_EQ(pthread_create(&thread, NULL, start_others, NULL), 0);
    while (!over) {
        int id = spawn_worker();
        int port = await_listening(id, 1);
        for (int i = 0; i < 5; i++) CHECK_EQ(ask(port), id);
        OK(cl_worker_kill(id, SIGKILL));
        await_exit(id, 5000);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    finish();
}

/* Round after round of everything: the count of descriptors at the end is the one at the start. */
static void nothing_grows(void) {
    int first = 0;
    if (worker_side()) exit(serve_any_port());
    primary_ready(serve_any_port);
    for (int round = 0; round < 15; round++) {
        int ids[3] = {fork_worker(), spawn_worker(), fork_worker()}, clients[12];
        int port = await_listening(ids[0], 1);
        for (int i = 1; i < 3; i++) await_listening(ids[i], 1);
        for (int i = 0; i < 12; i++) clients[i] = connect4(port);
        OK(cl_worker_kill(ids[round % 3], round % 2 ? SIGKILL : SIGTERM));
        for (int i = 0; i < 12; i++) {
            char text[96];
            CHECK(pump_readable(clients[i], 3000));
            receive_all(clients[i], text, sizeof text);
            close(clients[i]);
        }
        for (int i = 0; i < 3; i++) cl_worker_disconnect(ids[i]);
        for (int i = 0; i < 3; i++) await_exit(ids[i], 5000);
        if (round == 2) {
            pump_for(300); /* a slot's socket outlasts its worker for 100 ms */
            first = count_descriptors();
        }
        if (round > 2) PUMP_UNTIL(count_descriptors() == first, 3000);
    }
    finish();
}

static const check_case_t cases[] = {
    {"exactly_these", exactly_these}, {"declared", declared}, {"closed_standard", closed_standard},
    {"nothing_leaks", nothing_leaks}, {"nothing_grows", nothing_grows},
};
CHECK_MAIN(cases)
