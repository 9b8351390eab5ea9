/* A full descriptor table loses nobody: neither in the worker that accepts, nor in the primary that passes. */
#include "primary.h"

/* Fills the table up to a small limit; what was opened for that lies in `filler`. */
static int filler[256], filled;

static void no_play(void) {
    if (under_valgrind()) check_skip("valgrind only plays RLIMIT_NOFILE: it closes what the kernel gave beyond");
}

static void fill_table(void) {
    struct rlimit limit;
    no_play();
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = 96;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    for (filled = 0;; filled++) {
        int fd = fcntl(0, F_DUPFD_CLOEXEC, 3);
        if (fd < 0) break;
        filler[filled] = fd;
    }
    CHECK_EQ(errno, EMFILE);
}

static void free_some(int how_many) {
    while (how_many-- > 0 && filled > 0) close(filler[--filled]);
}

static void accept_at_the_limit(unsigned flags) {
    cl_listen_options_t options;
    int clients[3], connections[3];
    char byte;
    ZERO(options);
    options.size = sizeof options;
    options.address = "127.0.0.1:0";
    options.flags = flags;
    int listener = OK(cl_listen_with(&options));
    for (int i = 0; i < 3; i++) {
        byte = (char)('0' + i);
        clients[i] = connect4(bound_port(listener));
        CHECK_EQ(send(clients[i], &byte, 1, 0), 1);
    }
    CHECK_EQ(readable_within(listener, 3000), 1);
    fill_table();
    /* Who only tries again is slowed down, so that he does not spin. */
    long long start = now_ms();
    for (int i = 0; i < 6; i++) CHECK_EQ(cl_accept(listener, NULL, NULL), -EMFILE);
    if (!(flags & CL_LISTEN_NONBLOCK)) CHECK(now_ms() - start >= 100);
    CHECK_EQ(readable_within(listener, 0), 1); /* still announced */
    /* One descriptor, one connection, and the one that came first. */
    for (int i = 0; i < 3; i++) {
        free_some(1);
        if (flags & CL_LISTEN_NONBLOCK) CHECK_EQ(readable_within(listener, 3000), 1);
        connections[i] = OK(cl_accept(listener, NULL, NULL));
        CHECK_EQ(recv(connections[i], &byte, 1, 0), 1);
        CHECK_EQ(byte, '0' + i);
        if (i < 2) CHECK_EQ(cl_accept(listener, NULL, NULL), -EMFILE);
    }
    free_some(256);
    for (int i = 0; i < 3; i++) {
        close(clients[i]);
        close(connections[i]);
    }
    OK(cl_close(listener));
}

static void blocking(void) { accept_at_the_limit(0); }
static void nonblocking(void) { accept_at_the_limit(CL_LISTEN_NONBLOCK); }
IN_WORKERS(blocking)
IN_WORKERS(nonblocking)

/* At the limit a listen fails whole: no half-made listener, no lost descriptor, and the next one works. */
static void listen_at_the_limit(void) {
    OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
    for (int room = 0; room < 4; room++) {
        fill_table();
        free_some(room);
        int before = filled;
        int listener = cl_listen("127.0.0.1:0", 0);
        CHECK(listener >= 0 || listener == -EMFILE);
        if (room == 0) CHECK_EQ(listener, -EMFILE);
        if (listener >= 0) OK(cl_close(listener));
        for (filled = before; filled < before + room; filled++) filler[filled] = SYS(fcntl(0, F_DUPFD_CLOEXEC, 3));
        CHECK(fcntl(0, F_DUPFD_CLOEXEC, 3) == -1 && errno == EMFILE);
        free_some(256);
    }
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int client = connect4(bound_port(listener));
    close(OK(cl_accept(listener, NULL, NULL)));
    close(client);
    OK(cl_close(listener));
}
IN_WORKERS(listen_at_the_limit)

/* -- The primary's table ------------------------------------------------------------------------------------------ */

enum { CLIENTS = 12 };

/* Clients in a process of their own, because their descriptors would be missing here. */
static pid_t start_clients(int port) {
    pid_t pid = SYS(fork());
    if (pid != 0) return pid;
    int clients[CLIENTS];
    char text[96];
    free_some(256);
    for (int i = 0; i < CLIENTS; i++) clients[i] = connect4(port);
    for (int i = 0; i < CLIENTS; i++) CHECK(receive_all(clients[i], text, sizeof text) > 0);
    exit(0);
}

static long long cpu_ms(void) {
    struct rusage usage;
    SYS(getrusage(RUSAGE_SELF, &usage));
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000LL + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static void primary_is_full(void) {
    use_mechanism("passed");
    primary_ready(serve_any_port);
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1), status = 0;
    await_listening(two, 1);
    CHECK(ask(port) > 0);
    fill_table();
    pid_t clients = start_clients(port);
    /* It waits for better times without spinning, and stays a primary. */
    long long cpu = cpu_ms(), start = now_ms();
    pump_for(400);
    CHECK_EQ(waitpid(clients, &status, WNOHANG), 0);
    CHECK(cpu_ms() - cpu < (now_ms() - start) / 3);
    CHECK_EQ(cl_spawn(NULL), -EMFILE);
    CHECK_EQ(cl_fork(), -EMFILE);
    OK(cl_worker_send(one, "still here", 10));
    free_some(256);
    PUMP_UNTIL(waitpid(clients, &status, WNOHANG) == clients, 3000);
    CHECK_EQ(status, 0);
    /* Both still take part, in turns. */
    int first = ask(port);
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), i % 2 == 0 ? one + two - first : first);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
    finish();
}

static int listen_when_told(void) {
    char text[64];
    for (;;) {
        int n = cl_receive(text, sizeof text, -1);
        if (n == -ESHUTDOWN) return 0;
        OK(n);
        int listener = cl_listen("127.0.0.1:0", 0);
        n = snprintf(text, sizeof text, "%d", listener);
        OK(cl_send(text, (size_t)n));
        if (listener >= 0) return serve_listener(listener);
    }
}

/* The first asker's error is the primary's want of descriptors; it may ask again. */
static void listen_while_primary_is_full(void) {
    no_play();
    primary_ready(listen_when_told);
    int id = fork_worker();
    PUMP_UNTIL(find_event(CL_EVENT_ONLINE, id, 0) >= 0, 3000);
    for (int room = 0; room < 3; room++) {
        fill_table();
        free_some(room);
        OK(cl_worker_send(id, "now", 3));
        PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, room) >= 0, 3000);
        int code = atoi(seen[find_event(CL_EVENT_MESSAGE, id, room)].data);
        free_some(256);
        if (code >= 0) break; /* that much room was enough */
        CHECK_EQ(code, -EMFILE);
    }
    if (find_event(CL_EVENT_LISTENING, id, 0) < 0) OK(cl_worker_send(id, "now", 3));
    CHECK_EQ(ask(await_listening(id, 1)), id);
    finish();
}

static const check_case_t cases[] = {
    ROLE_CASES(blocking),
    ROLE_CASES(nonblocking),
    ROLE_CASES(listen_at_the_limit),
    {"primary_is_full", primary_is_full},
    {"listen_while_primary_is_full", listen_while_primary_is_full},
};
CHECK_MAIN(cases)
