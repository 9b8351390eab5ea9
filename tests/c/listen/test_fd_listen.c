/* fd:N: a listening socket the primary's program has already, and the kinds of descriptor that are none. */
#include "primary.h"

static int listen_fd(int fd) {
    char address[32];
    snprintf(address, sizeof address, "fd:%d", fd);
    return cl_listen(address, 0);
}

/* The worker is told the numbers by message: each is tried; what came out is sent back. */
static int try_numbers(void) {
    char text[64];
    for (;;) {
        int n = cl_receive(text, sizeof text - 1, -1);
        if (n == -ESHUTDOWN) return 0;
        text[OK(n)] = '\0';
        int listener = listen_fd(atoi(text));
        n = snprintf(text, sizeof text, "%d", listener >= 0 ? 0 : listener);
        CHECK(listener >= 0 || strlen(cl_last_error()) > 4);
        OK(cl_send(text, (size_t)n));
        if (listener < 0) continue;
        answer(OK(cl_accept(listener, NULL, NULL)));
        OK(cl_close(listener));
    }
}

static int answers;

static int try_in_worker(int id, int fd) {
    char text[32];
    int n = snprintf(text, sizeof text, "%d", fd);
    OK(cl_worker_send(id, text, (size_t)n));
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, answers) >= 0, 5000);
    return atoi(seen[find_event(CL_EVENT_MESSAGE, id, answers++)].data);
}

static int unix_socket(int type, int listens) {
    struct sockaddr_un name = address_unix(case_path("any"));
    int fd = SYS(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    unlink(name.sun_path);
    SYS(bind(fd, (struct sockaddr *)&name, sizeof name));
    if (listens) SYS(listen(fd, 5));
    return fd;
}

static void in_primary(int spawned) {
    struct sockaddr_in any = address4(0);
    int wrong[10], count = 0, listened = plain_listener(0);
    wrong[count++] = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));
    wrong[count++] = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(bind(wrong[count - 1], (struct sockaddr *)&any, sizeof any));
    wrong[count++] = connect4(system_port(listened));
    close(SYS(accept(listened, NULL, NULL)));
    wrong[count++] = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    wrong[count++] = unix_socket(SOCK_DGRAM, 0);
    wrong[count++] = unix_socket(SOCK_SEQPACKET, 1);
    wrong[count++] = SYS(memfd_create("file", MFD_CLOEXEC));
    int good_tcp = plain_listener(0), good_unix = unix_socket(SOCK_STREAM, 1);
    primary_ready(try_numbers);
    int id = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(try_in_worker(id, 999), -EBADF);
    for (int i = 0; i < count; i++) {
        int code = try_in_worker(id, wrong[i]);
        if (code != -EINVAL && code != -ENOTSOCK && code != -EPROTOTYPE && code != -EOPNOTSUPP)
            check_fail(__FILE__, __LINE__, "wrong kind %d: %d (%s)", i, code, cl_err_name(code));
    }
    CHECK_EQ(count_events(CL_EVENT_LISTENING, id), 0);
    /* A refused one is asked about anew each time, a right one serves; the program's own descriptor stays open. */
    for (int round = 0; round < 2; round++) {
        CHECK_EQ(try_in_worker(id, good_tcp), 0);
        CHECK_EQ(ask(system_port(good_tcp)), id);
        CHECK_EQ(try_in_worker(id, good_unix), 0);
        CHECK_EQ(answered_by(try_connect_unix(case_path("any"))), id);
    }
    finish();
    for (int i = 0; i < count; i++) {
        CHECK(fcntl(wrong[i], F_GETFD) >= 0);
        close(wrong[i]);
    }
    int client = connect4(system_port(good_tcp));
    close(SYS(accept(good_tcp, NULL, NULL)));
    close(client);
    CHECK_EQ(access(case_path("any"), F_OK), 0);
    close(good_tcp);
    close(good_unix);
    close(listened);
    check_baseline -= count + 3;
}

static void forked(void) { in_primary(0); }

static void spawned(void) {
    if (worker_side()) try_numbers();
    else in_primary(1);
}

/* In a process of no cluster N is its own. */
static void alone(void) {
    int plain = plain_listener(0);
    int port = system_port(plain), wrong = SYS(open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK_EQ(listen_fd(999), -EBADF);
    CHECK(listen_fd(wrong) < 0);
    CHECK(fcntl(wrong, F_GETFD) >= 0);
    int listener = OK(listen_fd(plain));
    CHECK_EQ(bound_port(listener), port);
    int client = connect4(port);
    answer(OK(cl_accept(listener, NULL, NULL)));
    close(client);
    OK(cl_close(listener));
    CHECK(fcntl(plain, F_GETFD) >= 0);
    close(plain);
    close(wrong);
}

static const check_case_t cases[] = {{"forked", forked}, {"spawned", spawned}, {"alone", alone}};
CHECK_MAIN(cases)
