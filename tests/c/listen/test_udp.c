/* udp: one datagram socket that every worker reads from, or one for each slot. */
#include "primary.h"

/* Answers each datagram with who it is, until asked to leave. */
static int echo_datagrams(void) {
    int fd = OK(cl_listen("udp:127.0.0.1:0", 0));
    int channel = OK(cl_channel_fd());
    int type;
    socklen_t size = sizeof type;
    SYS(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size));
    CHECK_EQ(type, SOCK_DGRAM);
    CHECK_EQ(cl_accept(fd, NULL, NULL), -EOPNOTSUPP);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    for (;;) {
        char text[64];
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        int which = await_either(fd, channel);
        if ((which & 2) != 0 && cl_receive(text, sizeof text, 0) == -ESHUTDOWN) break;
        if ((which & 1) == 0) continue;
        /* Another worker may have been quicker. */
        ssize_t n = recvfrom(fd, text, sizeof text, MSG_DONTWAIT, (struct sockaddr *)&from, &length);
        if (n < 0) continue;
        CHECK_EQ(n, 4);
        int id = cl_worker_id();
        memcpy(text + 4, &id, sizeof id);
        CHECK_EQ(sendto(fd, text, 8, 0, (struct sockaddr *)&from, length), 8);
    }
    OK(cl_close(fd));
    return 0;
}

/* Sends one datagram; the id of the worker that answered. */
static int ping(int client, int number) {
    char text[8];
    int id;
    memcpy(text, &number, 4);
    CHECK_EQ(send(client, text, 4, 0), 4);
    CHECK_EQ(pump_readable(client, 3000), 1);
    CHECK_EQ(recv(client, text, sizeof text, 0), 8);
    CHECK(memcmp(text, &number, 4) == 0);
    memcpy(&id, text + 4, sizeof id);
    return id;
}

static void two_workers(int spawned) {
    primary_ready(echo_datagrams);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(one, 1);
    CHECK(port > 0);
    CHECK_EQ(await_listening(two, 1), port);
    struct sockaddr_in address = address4(port);
    int client = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    SYS(connect(client, (struct sockaddr *)&address, sizeof address));
    for (int i = 0; i < 200; i++) {
        int id = ping(client, i);
        CHECK(id == one || id == two);
    }
    /* One dies, one leaves: what remains goes on, and a new one takes part in the same socket. */
    OK(cl_worker_kill(one, SIGKILL));
    await_exit(one, 3000);
    for (int i = 0; i < 20; i++) CHECK_EQ(ping(client, i), two);
    int three = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(await_listening(three, 1), port);
    OK(cl_worker_disconnect(two));
    CHECK_EQ(await_exit(two, 5000)->exit_code, 0);
    for (int i = 0; i < 20; i++) CHECK_EQ(ping(client, i), three);
    close(client);
    finish();
}

/* Each worker has a socket of its own: who speaks from one address and port is heard by one worker, and many by all. */
static void peers(void) {
    use_mechanism("auto"); /* no privilege is needed for this */
    enum { WORKERS = 4, PEERS = 64 };
    int ids[WORKERS], heard[WORKERS] = {0}, clients[PEERS], port = 0;
    primary_ready(echo_datagrams);
    for (int i = 0; i < WORKERS; i++) ids[i] = fork_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, ids[0], 0)].mechanism, CL_MECHANISM_KERNEL);
    struct sockaddr_in address = address4(port);
    for (int i = 0; i < PEERS; i++) {
        clients[i] = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        SYS(connect(clients[i], (struct sockaddr *)&address, sizeof address));
        int first = ping(clients[i], 0);
        for (int n = 1; n < 4; n++) CHECK_EQ(ping(clients[i], n), first);
        for (int k = 0; k < WORKERS; k++) heard[k] += ids[k] == first;
    }
    /* By chance alone one of four hears none of 64 less than once in 10 million runs. */
    for (int k = 0; k < WORKERS; k++) CHECK(heard[k] > 0);
    /* Nobody else is let in, and a worker that is gone is nobody's any more. */
    int stranger = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    CHECK(bind(stranger, (struct sockaddr *)&address, sizeof address) < 0 && errno == EADDRINUSE);
    close(stranger);
    for (int k = 0; k < WORKERS - 1; k++) {
        OK(cl_worker_kill(ids[k], SIGKILL));
        await_exit(ids[k], 3000);
    }
    for (int i = 0; i < PEERS; i++) CHECK_EQ(ping(clients[i], 9), ids[WORKERS - 1]);
    /* The last one's socket waits for the next worker, with what has come meanwhile. */
    OK(cl_worker_kill(ids[WORKERS - 1], SIGKILL));
    await_exit(ids[WORKERS - 1], 3000);
    SYS(send(clients[0], "wait", 4, 0));
    int next = fork_worker();
    CHECK_EQ(pump_readable(clients[0], 5000), 1);
    char text[8];
    CHECK_EQ(recv(clients[0], text, sizeof text, 0), 8);
    CHECK_EQ(await_listening(next, 1), port);
    for (int i = 0; i < PEERS; i++) close(clients[i]);
    finish();
}

/* One socket for all, if the program wants it so. */
static void passed(void) {
    use_mechanism("passed");
    primary_ready(echo_datagrams);
    int id = fork_worker();
    await_listening(id, 1);
    CHECK_EQ(seen[find_event(CL_EVENT_LISTENING, id, 0)].mechanism, CL_MECHANISM_SHARED);
    finish();
}

static void forked(void) { two_workers(0); }

static void spawned(void) {
    if (worker_side()) echo_datagrams();
    else two_workers(1);
}

static void exchange(const char *address, int family, const void *to_any, size_t length) {
    struct sockaddr_storage to;
    char text[16];
    int fd = OK(cl_listen(address, 0));
    int port = system_port(fd);
    CHECK_EQ(bound_port(fd), port);
    memcpy(&to, to_any, length);
    if (family == AF_INET6) ((struct sockaddr_in6 *)&to)->sin6_port = htons((unsigned short)port);
    else ((struct sockaddr_in *)&to)->sin_port = htons((unsigned short)port);
    int client = SYS(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    CHECK_EQ(sendto(client, "hello", 5, 0, (struct sockaddr *)&to, (socklen_t)length), 5);
    CHECK_EQ(readable_within(fd, 3000), 1);
    CHECK_EQ(recv(fd, text, sizeof text, 0), 5);
    CHECK_EQ(cl_accept4(fd, NULL, NULL, 0), -EOPNOTSUPP);
    close(client);
    OK(cl_close(fd));
    CHECK(fcntl(fd, F_GETFD) == -1);
}

static void addresses(void) {
    struct sockaddr_in four = address4(0);
    struct sockaddr_in6 six = address6(0);
    exchange("udp:127.0.0.1:0", AF_INET, &four, sizeof four);
    exchange("udp::0", AF_INET, &four, sizeof four);
    exchange("udp:localhost:0", AF_INET, &four, sizeof four);
    if (have_ipv6()) exchange("udp:[::1]:0", AF_INET6, &six, sizeof six);
}
IN_WORKERS(addresses)

/* TCP and UDP of one number are two addresses. */
static void beside_tcp(void) {
    char address[64];
    int tcp = OK(cl_listen("127.0.0.1:0", 0));
    snprintf(address, sizeof address, "udp:127.0.0.1:%d", bound_port(tcp));
    int udp = OK(cl_listen(address, 0));
    CHECK_EQ(cl_listen(address, 0), -EADDRINUSE);
    OK(cl_close(udp));
    OK(cl_close(tcp));
}
IN_WORKERS(beside_tcp)

static const check_case_t cases[] = {
    {"forked", forked}, {"spawned", spawned}, {"peers", peers}, {"passed", passed}, ROLE_CASES(addresses), ROLE_CASES(beside_tcp),
};
CHECK_MAIN(cases)
