/* cl_setsockopt: with every mechanism each connection that comes afterwards has the option, whoever of the workers takes it, those
 * that start later included; and what is refused changes nothing. */
#include "socket_options.h"
#include <pthread.h>

static int ZERO_VALUE = 0;

static void set_all(int listener) {
    for (int i = 0; i < COUNT; i++)
        OK(cl_setsockopt(listener, WANTED[i].level, WANTED[i].name, WANTED[i].value, WANTED[i].length));
}

static int ask_judged(int port) {
    char text[128];
    return ask_and_hear(port, text, sizeof text);
}

static int in_turn;

static void expect_all(int port, const int *ids, int count) {
    int seen_ids[3] = {0, 0, 0};
    for (int i = 0; i < 30; i++) {
        int id = ask_judged(port);
        if (id == 0) check_fail(__FILE__, __LINE__, "connection %d has not what was set", i);
        for (int j = 0; j < count; j++) seen_ids[j] += id == ids[j];
    }
    /* Under CL_SCHED_NONE the kernel may well wake one alone. */
    for (int j = 0; j < count && in_turn; j++) CHECK(seen_ids[j] > 0);
}

/* -- A worker that does what the primary tells it ------------------------------------------------------------------- */

/* As somebody does who has the socket itself: the one that all workers share, or that of its own slot. */
static void spoil(int port) {
    struct linger linger = {1, 7};
    int fd = tcp_descriptor(port, 0);
    CHECK(fd >= 0);
    SYS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    SYS(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &ZERO_VALUE, sizeof ZERO_VALUE));
}

static int obey(int listener) {
    char text[64];
    for (;;) {
        struct pollfd fds[2] = {{listener, POLLIN, 0}, {OK(cl_channel_fd()), POLLIN, 0}};
        (void)poll(fds, 2, -1);
        int connection = cl_accept(listener, NULL, NULL);
        if (connection >= 0) judge_and_answer(connection);
        int length = cl_receive(text, sizeof text, 0);
        if (length == -EAGAIN) continue;
        if (length == -ESHUTDOWN || connection == -ESHUTDOWN) return 0;
        OK(length);
        if (text[0] == 's') set_all(listener);
        if (text[0] == 'l') spoil(bound_port(listener));
        /* What a class of service brings along (ip(7)) belongs to it. */
        if (text[0] == 'p') CHECK_EQ(value_of(tcp_descriptor(bound_port(listener), 0), SOL_SOCKET, SO_PRIORITY), 6);
        OK(cl_send("done", 4));
    }
}

static int obeying(void) {
    int listener = listen_flags("127.0.0.1:0", CL_LISTEN_NONBLOCK);
    return listener == -ESHUTDOWN ? 0 : obey(OK(listener));
}

static void tell(int id, const char *what) {
    int before = count_events(CL_EVENT_MESSAGE, id);
    OK(cl_worker_send(id, what, strlen(what)));
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == before + 1, 5000);
}

static void set_later(int policy, int mechanism) {
    use_policy(policy);
    in_turn = policy != CL_SCHED_NONE;
    primary_ready(obeying);
    int ids[3] = {fork_worker(), fork_worker(), 0};
    int port = await_listening(ids[0], 1);
    await_listening(ids[1], 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, ids[0], 0)].mechanism, mechanism);
    CHECK_EQ(ask_judged(port), 0);
    tell(ids[0], "set");
    expect_all(port, ids, 2);
    /* A slot that there was none of has them, */
    ids[2] = fork_worker();
    await_listening(ids[2], 1);
    expect_all(port, ids, 3);
    /* and so has whoever comes after the one that set them, when it is dead. */
    OK(cl_worker_kill(ids[0], SIGKILL));
    await_exit(ids[0], 3000);
    ids[0] = fork_worker();
    await_listening(ids[0], 1);
    expect_all(port, ids, 3);
    for (int i = 1; i < 3; i++) {
        OK(cl_worker_kill(ids[i], SIGKILL));
        await_exit(ids[i], 3000);
    }
    expect_all(port, ids, 1);
    if (mechanism == CL_MECHANISM_SHARED) {
        /* The primary makes the socket as it was made, and this is now part of it. */
        CHECK_EQ(count_other_warnings(0), 0);
        tell(ids[0], "lapse");
        PUMP_UNTIL(ask_judged(port) != 0, 5000);
        CHECK_EQ(count_other_warnings(0), 1);
        expect_all(port, ids, 1);
        tell(ids[0], "priority");
    }
    finish();
}

static void later_passed(void) {
    use_mechanism("passed");
    set_later(CL_SCHED_RR, CL_MECHANISM_PASSED);
}
static void later_kernel(void) {
    begin_kernel();
    set_later(CL_SCHED_RR, CL_MECHANISM_KERNEL);
}
static void later_shared(void) { set_later(CL_SCHED_NONE, CL_MECHANISM_SHARED); }

/* -- What is refused ----------------------------------------------------------------------------------------------- */

static void what_is_no_option(int listener) {
    static const char long_value[257] = "";
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, NULL, sizeof ONE), -EINVAL);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, NULL, 0), -EINVAL);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, long_value, sizeof long_value), -EINVAL);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, long_value, (socklen_t)-1), -EINVAL);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &ONE, 1), -EINVAL);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &ONE, 0), -EINVAL);
    expect_code(cl_setsockopt(-1, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EBADF);
    expect_code(cl_setsockopt(0, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EBADF);
}

static int inherited_fd;

static int refusing(void) {
    struct linger linger = {1, 5};
    char path[256], text[8];
    static const char long_value[256] = "";
    int huge = 1 << 30, two = 2;
    int listener = OK(listen_flags("127.0.0.1:0", 0));
    what_is_no_option(listener);
    expect_code(cl_setsockopt(listener, SOL_SOCKET, SO_MARK, &ONE, sizeof ONE), -EACCES);
    expect_code(cl_setsockopt(listener, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), -EACCES);
    expect_code(cl_setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &ZERO_VALUE, sizeof ZERO_VALUE), -EACCES);
    expect_code(cl_setsockopt(listener, 12345, -1, &ONE, sizeof ONE), -EACCES);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, long_value, sizeof long_value), -EACCES);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, long_value, sizeof long_value), -EINVAL);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &two, sizeof two), -EINVAL);
    expect_code(cl_setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &huge, sizeof huge), -EINVAL);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_KEEPIDLE, &ZERO_VALUE, sizeof ZERO_VALUE), -EINVAL);
    expect_code(cl_setsockopt(listener, IPPROTO_IPV6, IPV6_TCLASS, &ONE, sizeof ONE), -ENOPROTOOPT);
    snprintf(path, sizeof path, "unix:%s", case_path("sock"));
    int local = OK(cl_listen(path, 0));
    expect_code(cl_setsockopt(local, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EOPNOTSUPP);
    OK(cl_setsockopt(local, SOL_SOCKET, SO_SNDBUF, &BUFFER, sizeof BUFFER));
    int datagrams = OK(cl_listen("udp:127.0.0.1:0", 0));
    expect_code(cl_setsockopt(datagrams, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -ENOPROTOOPT);
    snprintf(path, sizeof path, "fd:%d", inherited_fd);
    int inherited = OK(cl_listen(path, 0));
    expect_code(cl_setsockopt(inherited, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EOPNOTSUPP);
    CHECK_EQ(value_of(inherited_fd, IPPROTO_TCP, TCP_NODELAY), 0);
    /* Of all this nothing is to be seen. */
    OK(cl_send("refused", 7));
    int connection = OK(cl_accept(listener, NULL, NULL));
    CHECK_EQ(value_of(connection, IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK(value_of(connection, SOL_SOCKET, SO_RCVBUF) < 1 << 24);
    answer(connection);
    OK(cl_close(local));
    expect_code(cl_setsockopt(local, SOL_SOCKET, SO_SNDBUF, &BUFFER, sizeof BUFFER), -EBADF);
    OK(cl_disconnect());
    CHECK_EQ(cl_receive(text, sizeof text, -1), -ESHUTDOWN);
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -ESHUTDOWN);
    return 0;
}

static void expect_refusals(int policy) {
    use_policy(policy);
    inherited_fd = plain_listener(0);
    primary_ready(refusing);
    int id = fork_worker(), port = await_listening(id, 1);
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 5000);
    CHECK_EQ(ask_judged(port), id);
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 0);
    finish();
}

static void refusals(void) { expect_refusals(CL_SCHED_RR); }
static void refusals_shared(void) { expect_refusals(CL_SCHED_NONE); }

/* -- Datagrams, and unix sockets ------------------------------------------------------------------------------------- */

static int udp_worker(void) {
    char text[16];
    int listener = OK(cl_listen("udp:127.0.0.1:0", 0));
    for (;;) {
        int length = cl_receive(text, sizeof text, -1);
        if (length == -ESHUTDOWN) return 0;
        OK(length);
        if (text[0] == 's') OK(cl_setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &BUFFER, sizeof BUFFER));
        else CHECK_EQ(value_of(listener, SOL_SOCKET, SO_RCVBUF), 2 * BUFFER);
        OK(cl_send("done", 4));
    }
}

static void set_on_datagrams(int policy) {
    use_policy(policy);
    primary_ready(udp_worker);
    int one = fork_worker(), two = fork_worker();
    await_listening(one, 1);
    await_listening(two, 1);
    tell(two, "set");
    tell(one, "look");
    tell(two, "look");
    int three = fork_worker();
    await_listening(three, 1);
    tell(three, "look");
    OK(cl_worker_kill(two, SIGKILL));
    await_exit(two, 3000);
    two = fork_worker();
    await_listening(two, 1);
    tell(two, "look");
    finish();
}

static void datagrams(void) { set_on_datagrams(CL_SCHED_RR); }
static void datagrams_shared(void) { set_on_datagrams(CL_SCHED_NONE); }

static int unix_worker(void) {
    char path[256];
    snprintf(path, sizeof path, "unix:%s", case_path("sock"));
    int listener = OK(cl_listen(path, 0));
    OK(cl_setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &BUFFER, sizeof BUFFER));
    OK(cl_send("set", 3));
    int connection = OK(cl_accept(listener, NULL, NULL));
    OK(cl_close(listener));
    answer(connection);
    return 0;
}

/* It is the primary's socket that has it; connections of unix sockets inherit it or not, as with setsockopt(2). */
static void unix_socket(void) {
    char text[16];
    primary_ready(unix_worker);
    int id = fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) == 1, 5000);
    int found = 0;
    for (int fd = 3; fd < 256; fd++) {
        int listening = 0, domain = 0;
        socklen_t length = sizeof listening;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || !listening) continue;
        length = sizeof domain;
        SYS(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length));
        if (domain == AF_UNIX) found += value_of(fd, SOL_SOCKET, SO_SNDBUF) == 2 * BUFFER;
    }
    CHECK_EQ(found, 1);
    int client = try_connect_unix(case_path("sock"));
    CHECK(client >= 0);
    CHECK(pump_readable(client, 5000));
    OK(receive_all(client, text, sizeof text));
    CHECK_EQ(atoi(text), id);
    close(client);
    await_exit(id, 5000);
    finish();
}

/* -- Sockets of this process's own ------------------------------------------------------------------------------------ */

/* The kernel alone decides. */
static void expect_own(const char *address, unsigned flags) {
    struct linger linger = {1, 5}, off = {0, 0};
    char text[96];
    int listener = OK(listen_flags(address, flags));
    what_is_no_option(listener);
    set_all(listener);
    OK(cl_setsockopt(listener, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    CHECK_EQ(value_of(listener, SOL_SOCKET, SO_LINGER), 1);
    OK(cl_setsockopt(listener, SOL_SOCKET, SO_LINGER, &off, sizeof off));
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, 9999, &ONE, sizeof ONE), -ENOPROTOOPT);
    CHECK(strstr(cl_last_error(), "9999") != NULL);
    int client = connect4(bound_port(listener));
    judge_and_answer(OK(cl_accept(listener, NULL, NULL)));
    OK(receive_all(client, text, sizeof text));
    if (strncmp(text, "option", 6) == 0) check_fail(__FILE__, __LINE__, "%s", text);
    close(client);
    OK(cl_close(listener));
    expect_code(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EBADF);
}

static void own(void) {
    char text[256];
    int before = count_descriptors();
    expect_own("127.0.0.1:0", 0);
    expect_own(":0", CL_LISTEN_REUSEPORT);
    int udp = OK(cl_listen("udp:127.0.0.1:0", 0));
    OK(cl_setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &BUFFER, sizeof BUFFER));
    CHECK_EQ(value_of(udp, SOL_SOCKET, SO_RCVBUF), 2 * BUFFER);
    OK(cl_close(udp));
    snprintf(text, sizeof text, "unix:%s", case_path("sock"));
    int local = OK(cl_listen(text, 0));
    expect_code(cl_setsockopt(local, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EOPNOTSUPP);
    OK(cl_close(local));
    int plain = plain_listener(0);
    snprintf(text, sizeof text, "fd:%d", plain);
    int inherited = OK(cl_listen(text, 0));
    expect_code(cl_setsockopt(inherited, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EOPNOTSUPP);
    CHECK_EQ(value_of(plain, IPPROTO_TCP, TCP_NODELAY), 0);
    OK(cl_close(inherited));
    close(plain);
    CHECK_EQ(count_descriptors(), before);
}

static int own_in_worker(void) {
    expect_own("127.0.0.1:0", CL_LISTEN_EXCLUSIVE);
    expect_own("127.0.0.1:0", CL_LISTEN_REUSEPORT);
    return 0;
}

/* Of a worker and of a primary. */
static void own_beside(void) {
    primary_ready(own_in_worker);
    expect_own("127.0.0.1:0", 0);
    int id = fork_worker();
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    finish();
}

/* -- Threads and children --------------------------------------------------------------------------------------------- */

static int shared_listener;

static void *set_on_and_on(void *unused) {
    (void)unused;
    for (int i = 0;; i++) {
        int code = cl_setsockopt(__atomic_load_n(&shared_listener, __ATOMIC_SEQ_CST), IPPROTO_TCP, TCP_KEEPIDLE, &IDLE, sizeof IDLE);
        if (code == -EBADF) return NULL;
        OK(code);
    }
}

static void *listen_and_close(void *address) {
    for (int i = 0; i < 20; i++) OK(cl_close(OK(cl_listen((const char *)address, 0))));
    return NULL;
}

/* What is set while the listener is being closed never reaches the primary behind the close, which would be an offence. */
static int threaded(void) {
    static char elsewhere[] = "127.0.0.2:0";
    pthread_t threads[4];
    for (int round = 0; round < 24; round++) {
        shared_listener = OK(cl_listen("127.0.0.1:0", 0));
        for (int i = 0; i < 3; i++) CHECK_EQ(pthread_create(&threads[i], NULL, set_on_and_on, NULL), 0);
        CHECK_EQ(pthread_create(&threads[3], NULL, round % 8 == 0 ? listen_and_close : set_on_and_on, elsewhere), 0);
        OK(cl_setsockopt(shared_listener, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE));
        OK(cl_close(shared_listener));
        for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    return 0;
}

static void threads(void) {
    primary_ready(threaded);
    int id = fork_worker();
    const seen_t *end = await_exit(id, 30000);
    CHECK_EQ(end->signal, 0);
    CHECK_EQ(end->exit_code, 0);
    CHECK_EQ(count_events(CL_EVENT_WARNING, 0), 0);
    finish();
}

static int with_child(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int alone = OK(listen_flags("127.0.0.1:0", CL_LISTEN_EXCLUSIVE));
    pid_t child = SYS(fork());
    if (child == 0) {
        if (cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE) != -ECHILD) _exit(1);
        _exit(cl_setsockopt(alone, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE) == -ECHILD ? 0 : 2);
    }
    WAIT_SUCCESS(child);
    CHECK_EQ(value_of(alone, IPPROTO_TCP, TCP_NODELAY), 0);
    OK(cl_setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE));
    return 0;
}

static void after_fork(void) {
    primary_ready(with_child);
    int id = fork_worker();
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    finish();
}

static const check_case_t cases[] = {
    {"later_passed", later_passed}, {"later_kernel", later_kernel}, {"later_shared", later_shared},
    {"refusals", refusals}, {"refusals_shared", refusals_shared},
    {"datagrams", datagrams}, {"datagrams_shared", datagrams_shared}, {"unix_socket", unix_socket},
    {"own", own}, {"own_beside", own_beside},
    {"threads", threads}, {"after_fork", after_fork},
};

CHECK_MAIN(cases)
