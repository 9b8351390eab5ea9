/* Children of a plain fork(2), made while a primary works: every call in them is -ECHILD and touches nothing, and the parent
 * and its workers go on as if they did not exist. */
#ifndef FORKS_H
#define FORKS_H

#include "../../c/primary.h"



/* Which descriptors are open, asked in a way that a child of a process with threads may. */
static inline int open_numbers(unsigned char *open_ones, int most) {
    int count = 0;
    for (int fd = 0; fd < most; fd++) count += open_ones[fd] = fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* In the child. The function that was not refused, or 0. */
static inline const char *not_refused(int listener, int id) {
    static unsigned char before[512], after[512];
    char buffer[64];
    int ids[8];
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    cl_listen_options_t listen_options;
    cl_settings_t settings;
    cl_worker_info_t info;
    cl_spawn_options_t spawn;
    ZERO(listen_options);
    ZERO(settings);
    ZERO(info);
    ZERO(spawn);
    listen_options.size = sizeof listen_options;
    settings.size = sizeof settings;
    info.size = sizeof info;
    spawn.size = sizeof spawn;
    int numbers[] = {listener, -1, 0, 1 << 30};
    open_numbers(before, 512);
#define REFUSE(call) if ((call) != -ECHILD) return #call
    for (int i = 0; i < 4; i++) {
        REFUSE(cl_accept(numbers[i], NULL, NULL));
        REFUSE(cl_accept4(numbers[i], (struct sockaddr *)&name, &length, SOCK_CLOEXEC));
        REFUSE(cl_getsockname(numbers[i], (struct sockaddr *)&name, &length));
        REFUSE(cl_setsockopt(numbers[i], SOL_SOCKET, SO_KEEPALIVE, &length, sizeof length));
        REFUSE(cl_listener_watch(numbers[i], 0, 0));
        REFUSE(cl_listener_unwatch(numbers[i]));
        REFUSE(cl_hand_back(numbers[i], 0));
        REFUSE(cl_close(numbers[i]));
        REFUSE(cl_worker_info(i == 0 ? id : numbers[i], &info));
        REFUSE(cl_worker_send(i == 0 ? id : numbers[i], "x", 1));
        REFUSE(cl_worker_disconnect(i == 0 ? id : numbers[i]));
        REFUSE(cl_worker_kill(i == 0 ? id : numbers[i], SIGKILL));
        REFUSE(cl_worker_restart(i == 0 ? id : numbers[i]));
    }
    REFUSE(cl_is_primary());
    REFUSE(cl_is_worker());
    REFUSE(cl_worker_id());
    REFUSE(cl_worker_slot());
    REFUSE(cl_listen("127.0.0.1:0", 0));
    REFUSE(cl_listen_with(&listen_options));
    REFUSE(cl_setup_primary(&settings));
    REFUSE(cl_setup_primary(NULL));
    REFUSE(cl_fork());
    REFUSE(cl_spawn(NULL));
    REFUSE(cl_spawn(&spawn));
    REFUSE(cl_serve(2, (int (*)(void *))(uintptr_t)not_refused, NULL));
    REFUSE(cl_run());
    REFUSE(cl_step(-1));
    REFUSE(cl_poll_fd());
    REFUSE(cl_stop(0));
    REFUSE(cl_on_event(NULL, NULL));
    REFUSE(cl_worker_ids(ids, 8));
    REFUSE(cl_send("x", 1));
    REFUSE(cl_receive(buffer, sizeof buffer, -1));
    REFUSE(cl_channel_fd());
    REFUSE(cl_disconnect());
    REFUSE(cl_set_load(1));
    REFUSE(cl_ready());
    REFUSE(cl_count(CL_COUNT_REQUESTS, 1));
    REFUSE(cl_took(1));
    REFUSE(cl_reload(NULL));
    REFUSE(cl_rollback());
    REFUSE(cl_scale(2));
    REFUSE(cl_recycle(NULL));
#undef REFUSE
    if (cl_last_error()[0] == '\0' || cl_strerror(-ECHILD)[0] == '\0' || cl_err_name(-ECHILD)[0] == '\0') return "the texts";
    if (cl_version()[0] == '\0' || cl_version_number() == 0) return "the version";
    open_numbers(after, 512);
    return memcmp(before, after, sizeof before) == 0 ? NULL : "the descriptors";
}

static int forks_are_over, port_of_workers, answers;

static inline void *step_on(void *argument) {
    (void)argument;
    while (!__atomic_load_n(&forks_are_over, __ATOMIC_SEQ_CST)) OK(cl_step(20));
    return NULL;
}

static inline void *ask_on(void *argument) {
    (void)argument;
    while (!__atomic_load_n(&forks_are_over, __ATOMIC_SEQ_CST)) {
        char text[96];
        int client = connect4(port_of_workers), n = receive_all(client, text, sizeof text);
        if (n <= 0) check_fail(__FILE__, __LINE__, "no answer: %s", strerror(-n));
        close(client);
        __atomic_add_fetch(&answers, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static inline void *look_on(void *argument) {
    while (!__atomic_load_n(&forks_are_over, __ATOMIC_SEQ_CST)) {
        int ids[8], n = OK(cl_worker_ids(ids, 8));
        CHECK_EQ(n, 2);
        pid_of(ids[0]);
        OK(cl_worker_send(ids[1], "", 0));
        OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
        nap(1);
    }
    return argument;
}

static inline void *take_messages(void *argument) {
    char text[16];
    while (cl_receive(text, sizeof text, -1) >= 0) {}
    return argument;
}

static inline int serve_and_listen(void) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, take_messages, NULL), 0);
    serve_any_port();
    CHECK_EQ(pthread_join(thread, NULL), 0);
    return 0;
}

static inline int fork_children(int count) {
    pthread_t threads[4];
    if (cl_poll_fd() == CL_ENOLIB) return 0;
    primary_ready(serve_and_listen);
    int one = fork_worker(), two = fork_worker();
    port_of_workers = await_listening(one, 1);
    CHECK_EQ(await_listening(two, 1), port_of_workers);
    int listener = OK(cl_listen("127.0.0.1:0", 0)), before = count_descriptors();
    CHECK_EQ(pthread_create(&threads[0], NULL, step_on, NULL), 0);
    CHECK_EQ(pthread_create(&threads[1], NULL, ask_on, NULL), 0);
    CHECK_EQ(pthread_create(&threads[2], NULL, ask_on, NULL), 0);
    CHECK_EQ(pthread_create(&threads[3], NULL, look_on, NULL), 0);
    for (int i = 0; i < count; i++) {
        pid_t pid = SYS(fork());
        if (pid == 0) {
            const char *which = not_refused(listener, one);
            if (which != NULL) dprintf(2, "check failed: not refused after fork(2): %s\n", which);
            /* To valgrind all that the other threads held is lost in this copy; of a process that is killed it does not say so. */
            if (which == NULL && under_valgrind()) raise(SIGKILL);
            _exit(which != NULL);
        }
        CHECK_EQ(wait_status(pid), under_valgrind() ? SIGKILL : 0);
        __atomic_add_fetch(&tally->calls, 60, __ATOMIC_RELAXED);
    }
    /* Until the last of the answers, the primary has been as good as before. */
    int so_far = __atomic_load_n(&answers, __ATOMIC_SEQ_CST);
    WAIT_UNTIL(__atomic_load_n(&answers, __ATOMIC_SEQ_CST) >= so_far + 20, 10000);
    __atomic_store_n(&forks_are_over, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    tally->connections = answers;
    CHECK_EQ(count_descriptors(), before);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
    CHECK_EQ(count_events(CL_EVENT_DISCONNECT, 0), 0);
    OK(cl_close(listener));
    finish();
    CHECK_EQ(await_exit(one, 1)->exit_code, 0);
    CHECK_EQ(await_exit(two, 1)->exit_code, 0);
    CHECK(no_child_left());
    return 0;
}

#endif
