/* A child of plain fork(2) is nobody: every call says -ECHILD and touches nothing; its parent goes on as before. */
#include "primary.h"

static int never_run(void *argument) {
    (void)argument;
    return 0;
}

static void every_call_is_refused(int listener) {
    char bytes[16];
    int ids[4];
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    cl_listen_options_t listen_options;
    cl_settings_t settings;
    cl_worker_info_t info;
    ZERO(listen_options);
    ZERO(settings);
    ZERO(info);
    listen_options.size = sizeof listen_options;
    listen_options.address = "127.0.0.1:0";
    settings.size = sizeof settings;
    info.size = sizeof info;
    int before = count_descriptors();
    CHECK_EQ(cl_is_primary(), -ECHILD);
    CHECK_EQ(cl_is_worker(), -ECHILD);
    CHECK_EQ(cl_worker_id(), -ECHILD);
    CHECK_EQ(cl_worker_slot(), -ECHILD);
    CHECK_EQ(cl_listen("127.0.0.1:0", 0), -ECHILD);
    CHECK_EQ(cl_listen_with(&listen_options), -ECHILD);
    CHECK_EQ(cl_accept(listener, NULL, NULL), -ECHILD);
    CHECK_EQ(cl_accept4(listener, NULL, NULL, SOCK_CLOEXEC), -ECHILD);
    CHECK_EQ(cl_getsockname(listener, (struct sockaddr *)&name, &length), -ECHILD);
    CHECK_EQ(cl_close(listener), -ECHILD);
    CHECK_EQ(cl_setup_primary(&settings), -ECHILD);
    CHECK_EQ(cl_setup_primary(NULL), -ECHILD);
    CHECK_EQ(cl_fork(), -ECHILD);
    CHECK_EQ(cl_spawn(NULL), -ECHILD);
    CHECK_EQ(cl_serve(2, never_run, NULL), -ECHILD);
    CHECK_EQ(cl_run(), -ECHILD);
    CHECK_EQ(cl_step(0), -ECHILD);
    CHECK_EQ(cl_poll_fd(), -ECHILD);
    CHECK_EQ(cl_stop(0), -ECHILD);
    CHECK_EQ(cl_on_event(NULL, NULL), -ECHILD);
    CHECK_EQ(cl_worker_ids(ids, 4), -ECHILD);
    CHECK_EQ(cl_worker_info(1, &info), -ECHILD);
    CHECK_EQ(cl_worker_send(1, "x", 1), -ECHILD);
    CHECK_EQ(cl_worker_disconnect(1), -ECHILD);
    CHECK_EQ(cl_worker_kill(1, SIGKILL), -ECHILD);
    CHECK_EQ(cl_send("x", 1), -ECHILD);
    CHECK_EQ(cl_receive(bytes, sizeof bytes, 0), -ECHILD);
    CHECK_EQ(cl_channel_fd(), -ECHILD);
    CHECK_EQ(cl_disconnect(), -ECHILD);
    CHECK_EQ(cl_set_load(1), -ECHILD);
    CHECK(strlen(cl_last_error()) > 0);
    CHECK(strcmp(cl_err_name(-ECHILD), "ECHILD") == 0);
    CHECK(strlen(cl_strerror(-ECHILD)) > 0);
    CHECK(strlen(cl_version()) > 0);
    CHECK(cl_version_number() > 0);
    CHECK_EQ(count_descriptors(), before);
    if (listener >= 0) CHECK(fcntl(listener, F_GETFD) >= 0);
}

/* The child ends through exit(3), so that nothing the library does at exit reaches into the parent's world. */
static void child_is_refused(int listener) {
    pid_t pid = SYS(fork());
    if (pid == 0) {
        pid_t grandchild = SYS(fork());
        every_call_is_refused(listener);
        if (grandchild != 0) WAIT_SUCCESS(grandchild);
        exit(0);
    }
    WAIT_SUCCESS(pid);
}

static void plain_process(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    child_is_refused(listener);
    int client = connect4(bound_port(listener));
    answer(OK(cl_accept(listener, NULL, NULL)));
    close(client);
    CHECK_EQ(cl_is_primary(), 1);
    OK(cl_close(listener));
}

/* In a worker: its channel, its listener and its connections go on. */
static void of_worker(void) {
    char text[96];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int client = connect4(bound_port(listener));
    child_is_refused(listener);
    answer(OK(cl_accept(listener, NULL, NULL)));
    CHECK(receive_all(client, text, sizeof text) > 0);
    CHECK_EQ(atoi(text), cl_worker_id());
    close(client);
    CHECK_EQ(cl_is_worker(), 1);
    OK(cl_send("still here", 10));
    OK(cl_close(listener));
}
IN_WORKERS(of_worker)

/* In a primary with workers. */
static void of_primary(void) {
    if (worker_side()) {
        serve_any_port();
        return;
    }
    primary_ready(serve_any_port);
    int one = fork_worker(), two = spawn_worker();
    int port = await_listening(one, 1);
    CHECK_EQ(await_listening(two, 1), port);
    for (int i = 0; i < 5; i++) {
        child_is_refused(-1);
        int first = ask(port), second = ask(port);
        CHECK(first != second && (first == one || first == two) && (second == one || second == two));
    }
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
    CHECK_EQ(count_events(CL_EVENT_DISCONNECT, 0), 0);
    finish();
}

/* A child that lives on holds copies of everything: that must hide neither a worker's death nor an asked-for end. */
static void lasting_child(void) {
    int ends[2];
    primary_ready(serve_any_port);
    SYS(pipe2(ends, O_CLOEXEC));
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    pid_t child = SYS(fork());
    if (child == 0) {
        char byte;
        close(ends[1]);
        while (read(ends[0], &byte, 1) < 0) {}
        exit(0);
    }
    SYS(kill(pid_of(one), SIGKILL));
    CHECK_EQ(await_exit(one, 3000)->signal, SIGKILL);
    CHECK_EQ(ask(port), two);
    OK(cl_stop(2000));
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(await_exit(two, 1)->exit_code, 0);
    close(ends[0]);
    close(ends[1]);
    WAIT_SUCCESS(child);
    finish();
}

static const check_case_t cases[] = {
    {"plain_process", plain_process}, WORKER_CASES(of_worker), {"of_primary", of_primary}, {"lasting_child", lasting_child},
};
CHECK_MAIN(cases)
