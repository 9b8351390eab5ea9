/* NULL, garbage and the wrong role: a code each time, never a crash, and errno stays the program's own. */
#include "primary.h"

static int nothing(void *argument) {
    (void)argument;
    return 0;
}

/* Every refusal leaves a sentence and leaves errno alone. */
static void refused(long long got, int code, const char *text, int line) {
    if (errno != 4711) check_fail(__FILE__, line, "%s set errno", text);
    check_equal(got, code, text, __FILE__, line);
    if (strlen(cl_last_error()) < 4) check_fail(__FILE__, line, "%s left no sentence", text);
    errno = 4711;
}
#define REFUSED(call, code) (errno = 4711, refused(call, code, #call, __LINE__))

static void sockets(void) {
    struct sockaddr_storage name;
    struct sockaddr *address = (struct sockaddr *)&name;
    socklen_t length = sizeof name;
    int pair[2];
    REFUSED(cl_listen(NULL, 0), -EINVAL);
    REFUSED(cl_listen_with(NULL), -EINVAL);
    SYS(pipe2(pair, O_CLOEXEC));
    int not_ours[] = {-1, INT_MIN, INT_MAX, 9999, 0, pair[0], pair[1]};
    for (size_t i = 0; i < sizeof not_ours / sizeof not_ours[0]; i++) {
        REFUSED(cl_accept(not_ours[i], NULL, NULL), -EBADF);
        REFUSED(cl_accept4(not_ours[i], NULL, NULL, SOCK_CLOEXEC), -EBADF);
        REFUSED(cl_getsockname(not_ours[i], address, &length), -EBADF);
        REFUSED(cl_setsockopt(not_ours[i], SOL_SOCKET, SO_KEEPALIVE, &pair[0], sizeof pair[0]), -EBADF);
        REFUSED(cl_listener_watch(not_ours[i], pair[0], 0), -EBADF);
        REFUSED(cl_listener_unwatch(not_ours[i]), -EBADF);
        REFUSED(cl_close(not_ours[i]), -EBADF);
    }
    CHECK(fcntl(0, F_GETFD) >= 0 && fcntl(pair[0], F_GETFD) >= 0 && fcntl(pair[1], F_GETFD) >= 0);
    close(pair[0]);
    close(pair[1]);

    int plain = plain_listener(0);
    REFUSED(cl_accept(plain, NULL, NULL), -EBADF);
    REFUSED(cl_close(plain), -EBADF);
    CHECK(fcntl(plain, F_GETFD) >= 0);
    close(plain);

    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int client = connect4(bound_port(listener));
    REFUSED(cl_accept(listener, address, NULL), -EINVAL);
    REFUSED(cl_accept4(listener, NULL, NULL, -1), -EINVAL);
    REFUSED(cl_accept4(listener, NULL, NULL, O_APPEND), -EINVAL);
    REFUSED(cl_accept4(listener, NULL, NULL, SOCK_CLOEXEC | 1), -EINVAL);
    REFUSED(cl_setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, NULL, sizeof(int)), -EINVAL);
    REFUSED(cl_listener_watch(listener, -1, 0), -EBADF);
    REFUSED(cl_listener_watch(listener, INT_MAX, 0), -EBADF);
    REFUSED(cl_listener_watch(listener, client, 0), -EINVAL);
    REFUSED(cl_listener_unwatch(listener), -ENOENT);
    REFUSED(cl_getsockname(listener, NULL, &length), -EINVAL);
    REFUSED(cl_getsockname(listener, address, NULL), -EINVAL);
    /* None of these cost the waiting connection. */
    int connection = OK(cl_accept(listener, NULL, NULL));
    REFUSED(cl_accept(connection, NULL, NULL), -EBADF);
    REFUSED(cl_getsockname(connection, address, &length), -EBADF);
    REFUSED(cl_close(connection), -EBADF);
    CHECK(fcntl(connection, F_GETFD) >= 0);
    close(connection);
    close(client);
    OK(cl_close(listener));
    REFUSED(cl_close(listener), -EBADF);
    REFUSED(cl_accept(listener, NULL, NULL), -EBADF);
}
IN_WORKERS(sockets)

static void bad_addresses(void) {
    static const char *const bad[] = {
        "", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:80x",
        "127.0.0.1: 80", "127.0.0.1:99999999999999999999", "[::1", "[::1]", "[::1]80", "[]:80", "[127.0.0.1]:0",
        "[::1:0", "unix:", "unix:@", "fd:", "fd:x", "fd:-1", "fd:3x", "fd:99999999999999999999", "udp:", "udp:127.0.0.1",
        "udp:127.0.0.1:x", "udp:udp:127.0.0.1:0", "80", "\n", "127.0.0.1:0\n", "\xff\xfe:0",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int result = cl_listen(bad[i], 0);
        if (result != -EINVAL) check_fail(__FILE__, __LINE__, "cl_listen(\"%s\") is %d", bad[i], result);
        CHECK(strlen(cl_last_error()) > 10);
    }
    char *huge = (char *)malloc(100001);
    memset(huge, 'a', 100000);
    huge[100000] = '\0';
    REFUSED(cl_listen(huge, 0), -EINVAL);
    memcpy(huge, "unix:/", 6);
    CHECK(cl_listen(huge, 0) < 0);
    memcpy(huge, "unix:@", 6);
    CHECK(cl_listen(huge, 0) < 0);
    free(huge);
}
IN_WORKERS(bad_addresses)

static void primary_group(void) {
    cl_worker_info_t info;
    int ids[4];
    static char large[CL_MESSAGE_MAX + 1];
    ZERO(info);
    info.size = sizeof info;
    primary_ready(serve_any_port);
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(cl_step(0), 0);
    REFUSED(cl_serve(-1, nothing, NULL), -EINVAL);
    REFUSED(cl_serve(1, NULL, NULL), -EINVAL);
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    CHECK_EQ(cl_worker_ids(ids, 4), 0);
    int id = fork_worker();
    await_listening(id, 1);
    REFUSED(cl_worker_ids(NULL, 4), -EINVAL);
    CHECK_EQ(cl_worker_ids(NULL, 0), 1);
    ids[0] = ids[1] = -5;
    CHECK_EQ(cl_worker_ids(ids, 0), 1);
    CHECK_EQ(ids[0], -5);
    CHECK_EQ(cl_worker_ids(ids, 1), 1);
    CHECK_EQ(ids[0], id);
    CHECK_EQ(ids[1], -5);
    int nobody[] = {0, -1, 1, 99, INT_MAX, INT_MIN}; /* 1 was the warm-up's */
    for (size_t i = 0; i < sizeof nobody / sizeof nobody[0]; i++) {
        REFUSED(cl_worker_info(nobody[i], &info), -ESRCH);
        REFUSED(cl_worker_send(nobody[i], "x", 1), -ESRCH);
        REFUSED(cl_worker_disconnect(nobody[i]), -ESRCH);
        REFUSED(cl_worker_kill(nobody[i], SIGTERM), -ESRCH);
    }
    REFUSED(cl_worker_info(id, NULL), -EINVAL);
    REFUSED(cl_worker_send(id, NULL, 5), -EINVAL);
    REFUSED(cl_worker_send(id, large, sizeof large), -EMSGSIZE);
    REFUSED(cl_worker_send(id, large, (size_t)-1), -EMSGSIZE);
    REFUSED(cl_worker_kill(id, 9999), -EINVAL);
    REFUSED(cl_worker_kill(id, -1), -EINVAL);
    CHECK_EQ(cl_worker_kill(id, 0), 0);
    /* A callback that is not there: accepted or refused, but nothing falls over at the next event. */
    int result = cl_on_event(NULL, NULL);
    CHECK(result == 0 || result == -EINVAL);
    OK(cl_worker_kill(id, SIGKILL));
    while (cl_worker_ids(NULL, 0) > 0) turn(100);
    finish();
}

static void worker_only(void) {
    char bytes[8];
    for (int round = 0; round < 2; round++) {
        REFUSED(cl_send("x", 1), -EPERM);
        REFUSED(cl_receive(bytes, sizeof bytes, 0), -EPERM);
        REFUSED(cl_channel_fd(), -EPERM);
        REFUSED(cl_set_load(1), -EPERM);
        if (round == 0) primary_ready(serve_any_port);
    }
    finish();
}

static void in_worker(void) {
    cl_settings_t settings;
    cl_worker_info_t info;
    char bytes[8];
    int ids[4];
    static char large[CL_MESSAGE_MAX + 1];
    ZERO(settings);
    settings.size = sizeof settings;
    ZERO(info);
    info.size = sizeof info;
    REFUSED(cl_setup_primary(&settings), -EPERM);
    REFUSED(cl_fork(), -EPERM);
    REFUSED(cl_spawn(NULL), -EPERM);
    REFUSED(cl_run(), -EPERM);
    REFUSED(cl_step(0), -EPERM);
    REFUSED(cl_poll_fd(), -EPERM);
    REFUSED(cl_stop(0), -EPERM);
    REFUSED(cl_on_event(remember_event, NULL), -EPERM);
    REFUSED(cl_worker_ids(ids, 4), -EPERM);
    REFUSED(cl_worker_info(cl_worker_id(), &info), -EPERM);
    REFUSED(cl_worker_send(cl_worker_id(), "x", 1), -EPERM);
    REFUSED(cl_worker_disconnect(cl_worker_id()), -EPERM);
    REFUSED(cl_worker_kill(cl_worker_id(), SIGKILL), -EPERM);
    REFUSED(cl_send(NULL, 5), -EINVAL);
    REFUSED(cl_send(large, sizeof large), -EMSGSIZE);
    REFUSED(cl_send(large, (size_t)-1), -EMSGSIZE);
    REFUSED(cl_receive(NULL, 5, 0), -EINVAL);
    REFUSED(cl_receive(bytes, sizeof bytes, 0), -EAGAIN);
    CHECK_EQ(cl_send(NULL, 0), 0);
    CHECK_EQ(cl_set_load(UINT_MAX), 0);
}
IN_WORKERS(in_worker)

/* Calls that succeed leave errno alone as well. */
static void errno_is_kept(void) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    errno = 4711;
    int listener = OK(cl_listen("localhost:0", 0));
    CHECK_EQ(errno, 4711);
    OK(cl_getsockname(listener, (struct sockaddr *)&name, &length));
    CHECK_EQ(errno, 4711);
    int client = connect4(bound_port(listener));
    errno = 4711;
    int connection = OK(cl_accept(listener, (struct sockaddr *)&name, &length));
    CHECK_EQ(errno, 4711);
    if (cl_is_worker() == 1) OK(cl_send("x", 1));
    CHECK(cl_strerror(-EINVAL) != NULL && cl_err_name(99999) != NULL);
    CHECK_EQ(errno, 4711);
    OK(cl_close(listener));
    CHECK_EQ(errno, 4711);
    close(connection);
    close(client);
}
IN_WORKERS(errno_is_kept)

static const check_case_t cases[] = {
    ROLE_CASES(sockets),   ROLE_CASES(bad_addresses), {"primary_group", primary_group},
    {"worker_only", worker_only}, WORKER_CASES(in_worker),   ROLE_CASES(errno_is_kept),
};
CHECK_MAIN(cases)
