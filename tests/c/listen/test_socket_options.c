/* Socket options of a listen: with every mechanism each accepted connection has them, also of a replacement's. */
#include "socket_options.h"

static int listen_at(const char *address, unsigned flags, const cl_socket_option_t *list, size_t count) {
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = address;
    options.flags = flags;
    options.options = list;
    options.option_count = count;
    return cl_listen_with(&options);
}

static int serve_judging(int listener) {
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) return 0;
        judge_and_answer(OK(connection));
    }
}

static int judging(void) {
    int listener = listen_at("127.0.0.1:0", 0, WANTED, COUNT);
    return listener == -ESHUTDOWN ? 0 : serve_judging(OK(listener));
}

static int ask_judged(int port) {
    char text[128];
    int id = ask_and_hear(port, text, sizeof text);
    if (id == 0) check_fail(__FILE__, __LINE__, "%s", text);
    return id;
}

static void expect_inherited(int policy, int mechanism) {
    use_policy(policy);
    primary_ready(judging);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, one, 0)].mechanism, mechanism);
    for (int i = 0; i < 20; i++) ask_judged(port);
    /* The slot's next worker asks with the same options, which are those of the address already. */
    OK(cl_worker_kill(one, SIGKILL));
    await_exit(one, 3000);
    one = fork_worker();
    await_listening(one, 1);
    OK(cl_worker_kill(two, SIGKILL));
    await_exit(two, 3000);
    for (int i = 0; i < 5; i++) CHECK_EQ(ask_judged(port), one);
    finish();
}

static void inherited_passed(void) {
    use_mechanism("passed");
    expect_inherited(CL_SCHED_RR, CL_MECHANISM_PASSED);
}
static void inherited_kernel(void) {
    begin_kernel();
    expect_inherited(CL_SCHED_RR, CL_MECHANISM_KERNEL);
}
static void inherited_shared(void) { expect_inherited(CL_SCHED_NONE, CL_MECHANISM_SHARED); }

/* -- What is refused ----------------------------------------------------------------------------------------------- */

static int one_option(const char *address, unsigned flags, int level, int name, const void *value, socklen_t length) {
    cl_socket_option_t option;
    option.level = level;
    option.name = name;
    option.value = value;
    option.length = length;
    return listen_at(address, flags, &option, 1);
}

static void what_is_no_list(void) {
    cl_socket_option_t many[33];
    for (int i = 0; i < 33; i++) many[i] = WANTED[0];
    expect_code(listen_at("127.0.0.1:0", 0, many, 33), -EINVAL);
    expect_code(listen_at("127.0.0.1:0", 0, many, (size_t)-1), -EINVAL);
    expect_code(listen_at("127.0.0.1:0", 0, NULL, 1), -EINVAL);
    many[31].value = NULL;
    expect_code(listen_at("127.0.0.1:0", 0, many, 32), -EINVAL);
    many[31].value = &ONE;
    many[31].length = 1 << 20;
    expect_code(listen_at("127.0.0.1:0", 0, many, 32), -EINVAL);
    OK(cl_close(OK(listen_at("127.0.0.1:0", 0, many, 31))));
    OK(cl_close(OK(listen_at("127.0.0.1:0", 0, NULL, 0))));
}

static int fixed_port;

static int refused(void) {
    struct linger linger = {1, 5};
    char address[64], path[256];
    int huge = 1 << 30, two = 2, zero = 0;
    snprintf(address, sizeof address, "127.0.0.1:%d", fixed_port);
    what_is_no_list();
    expect_code(one_option(address, 0, SOL_SOCKET, SO_MARK, &ONE, sizeof ONE), -EACCES);
    expect_code(one_option(address, 0, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), -EACCES);
    expect_code(one_option(address, 0, SOL_SOCKET, SO_REUSEPORT, &ONE, sizeof ONE), -EACCES);
    expect_code(one_option(address, 0, 12345, -1, &ONE, sizeof ONE), -EACCES);
    expect_code(one_option(address, 0, IPPROTO_TCP, TCP_NODELAY, &ONE, 1), -EINVAL);
    expect_code(one_option(address, 0, IPPROTO_TCP, TCP_NODELAY, &ONE, 0), -EINVAL);
    expect_code(one_option(address, 0, IPPROTO_TCP, TCP_NODELAY, &two, sizeof two), -EINVAL);
    expect_code(one_option(address, 0, SOL_SOCKET, SO_RCVBUF, &huge, sizeof huge), -EINVAL);
    expect_code(one_option(address, 0, IPPROTO_TCP, TCP_KEEPIDLE, &zero, sizeof zero), -EINVAL);
    snprintf(path, sizeof path, "unix:%s", case_path("sock"));
    expect_code(one_option(path, 0, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EOPNOTSUPP);
    CHECK(access(case_path("sock"), F_OK) != 0);
    expect_code(one_option("fd:3", 0, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EOPNOTSUPP);
    expect_code(one_option("udp:127.0.0.1:0", 0, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -ENOPROTOOPT);
    /* Nothing of all that is open: the worker can have the address itself, and the primary's too. */
    OK(cl_close(OK(listen_at(address, CL_LISTEN_EXCLUSIVE, NULL, 0))));
    OK(cl_close(OK(listen_at(path, 0, NULL, 0))));
    int listener = OK(listen_at(address, 0, WANTED, COUNT));
    return serve_judging(listener);
}

static void refusals(void) {
    primary_ready(refused);
    fixed_port = free_port();
    int id = fork_worker();
    CHECK_EQ(await_listening(id, 4), fixed_port);
    CHECK_EQ(ask_judged(fixed_port), id);
    finish();
}

/* -- Other sockets ------------------------------------------------------------------------------------------------- */

static int kinds_in_worker(void) {
    char path[256], text[8];
    snprintf(path, sizeof path, "unix:%s", case_path("sock"));
    int listener = OK(one_option(path, 0, SOL_SOCKET, SO_SNDBUF, &BUFFER, sizeof BUFFER));
    int udp = OK(one_option("udp:127.0.0.1:0", 0, SOL_SOCKET, SO_RCVBUF, &BUFFER, sizeof BUFFER));
    CHECK_EQ(value_of(udp, SOL_SOCKET, SO_RCVBUF), 2 * BUFFER);
    CHECK_EQ(cl_receive(text, sizeof text, -1), -ESHUTDOWN);
    OK(cl_close(listener));
    OK(cl_close(udp));
    return 0;
}

static void kinds(void) {
    primary_ready(kinds_in_worker);
    int one = fork_worker(), two = fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_LISTENING, one) == 2 && count_events(CL_EVENT_LISTENING, two) == 2, 5000);
    finish();
}

/* A socket of this process's own: the kernel alone decides. */
static void expect_own(const char *address, unsigned flags) {
    int listener = OK(listen_at(address, flags, WANTED, COUNT));
    int client = connect4(bound_port(listener)), connection = OK(cl_accept(listener, NULL, NULL));
    char text[96];
    judge_and_answer(connection);
    OK(receive_all(client, text, sizeof text));
    if (strncmp(text, "option", 6) == 0) check_fail(__FILE__, __LINE__, "%s", text);
    close(client);
    OK(cl_close(listener));
}

static void own(void) {
    struct linger linger = {1, 5};
    int before = count_descriptors();
    what_is_no_list();
    expect_own("127.0.0.1:0", 0);
    expect_own(":0", CL_LISTEN_REUSEPORT);
    OK(cl_close(OK(one_option("127.0.0.1:0", 0, SOL_SOCKET, SO_LINGER, &linger, sizeof linger))));
    expect_code(one_option("127.0.0.1:0", 0, IPPROTO_TCP, 9999, &ONE, sizeof ONE), -ENOPROTOOPT);
    CHECK(strstr(cl_last_error(), "9999") != NULL);
    expect_code(one_option("127.0.0.1:0", 0, IPPROTO_TCP, TCP_NODELAY, &ONE, 1), -EINVAL);
    int udp = OK(one_option("udp:127.0.0.1:0", 0, SOL_SOCKET, SO_RCVBUF, &BUFFER, sizeof BUFFER));
    CHECK_EQ(value_of(udp, SOL_SOCKET, SO_RCVBUF), 2 * BUFFER);
    OK(cl_close(udp));
    char path[256];
    snprintf(path, sizeof path, "unix:%s", case_path("sock"));
    int listener = OK(one_option(path, 0, SOL_SOCKET, SO_SNDBUF, &BUFFER, sizeof BUFFER));
    OK(cl_close(listener));
    expect_code(one_option(path, 0, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EOPNOTSUPP);
    CHECK(access(case_path("sock"), F_OK) != 0);
    int plain = plain_listener(0);
    snprintf(path, sizeof path, "fd:%d", plain);
    expect_code(one_option(path, 0, IPPROTO_TCP, TCP_NODELAY, &ONE, sizeof ONE), -EOPNOTSUPP);
    close(plain);
    CHECK_EQ(count_descriptors(), before);
}

static int own_in_worker(void) {
    expect_own("127.0.0.1:0", CL_LISTEN_EXCLUSIVE);
    return 0;
}

static void own_of_worker(void) {
    primary_ready(own_in_worker);
    int id = fork_worker();
    CHECK_EQ(await_exit(id, 5000)->exit_code, 0);
    finish();
}

/* -- UDP through fd:N ---------------------------------------------------------------------------------------------- */

static int datagrams_fd;

static void echo_datagram(int socket) {
    char text[32];
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    CHECK(readable_within(socket, 5000));
    ssize_t n = recvfrom(socket, text, sizeof text, 0, (struct sockaddr *)&peer, &length);
    CHECK_EQ(n, 4);
    CHECK_EQ(sendto(socket, text, (size_t)n, 0, (struct sockaddr *)&peer, length), 4);
}

static int echo_one(void) {
    char address[32];
    snprintf(address, sizeof address, "fd:%d", datagrams_fd);
    int socket = OK(cl_listen(address, 0));
    echo_datagram(socket);
    return 0;
}

static int udp_socket(int bound) {
    struct sockaddr_in address = address4(0);
    int fd = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (bound) SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

static void udp_of_the_program(int policy) {
    struct sockaddr_in address;
    use_policy(policy);
    datagrams_fd = udp_socket(1);
    address = address4(system_port(datagrams_fd));
    primary_ready(echo_one);
    int id = fork_worker(), client = udp_socket(1);
    CHECK_EQ(await_listening(id, 1), system_port(datagrams_fd));
    CHECK_EQ(sendto(client, "ping", 4, 0, (struct sockaddr *)&address, sizeof address), 4);
    CHECK(pump_readable(client, 5000));
    close(client);
    await_exit(id, 5000);
    finish();
}

static void udp_inherited(void) { udp_of_the_program(CL_SCHED_RR); }
static void udp_inherited_shared(void) { udp_of_the_program(CL_SCHED_NONE); }

static void udp_inherited_alone(void) {
    char text[32];
    int bound = udp_socket(1), unbound = udp_socket(0), client = udp_socket(1);
    struct sockaddr_in address = address4(system_port(bound));
    snprintf(text, sizeof text, "fd:%d", unbound);
    expect_code(cl_listen(text, 0), -EINVAL);
    snprintf(text, sizeof text, "fd:%d", bound);
    int listener = OK(cl_listen(text, 0));
    CHECK_EQ(sendto(client, "ping", 4, 0, (struct sockaddr *)&address, sizeof address), 4);
    echo_datagram(listener);
    CHECK(readable_within(client, 5000));
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EOPNOTSUPP);
    OK(cl_close(listener));
    close(bound);
    close(unbound);
    close(client);
}

static const check_case_t cases[] = {
    {"inherited_passed", inherited_passed}, {"inherited_kernel", inherited_kernel},
    {"inherited_shared", inherited_shared}, {"refusals", refusals}, {"kinds", kinds},
    {"own", own}, {"own_of_worker", own_of_worker}, {"udp_inherited", udp_inherited},
    {"udp_inherited_shared", udp_inherited_shared}, {"udp_inherited_alone", udp_inherited_alone},
};

CHECK_MAIN(cases)
