/* EXCLUSIVE and REUSEPORT: a socket of the worker's own, which the primary hears nothing of. */
#include "primary.h"

static int report(int code) {
    char text[32];
    int n = snprintf(text, sizeof text, "%d", code);
    return OK(cl_send(text, (size_t)n));
}

static int reported(int id) {
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, 0) >= 0, 5000);
    return atoi(seen[find_event(CL_EVENT_MESSAGE, id, 0)].data);
}

/* The address to use lies in the environment; the port or the error is reported. */
static int serve_own(unsigned flags) {
    int listener = listen_flags(getenv("CHECK_ADDRESS"), flags);
    if (listener < 0) return report(listener);
    report(bound_port(listener));
    return serve_listener(listener);
}

static int serve_exclusive(void) { return serve_own(CL_LISTEN_EXCLUSIVE); }
static int serve_reuseport(void) { return serve_own(CL_LISTEN_REUSEPORT); }

static void set_address(int port) {
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    setenv("CHECK_ADDRESS", address, 1);
}

static void exclusive(int spawned) {
    set_address(free_port());
    primary_ready(serve_exclusive);
    int one = spawned ? spawn_worker() : fork_worker();
    int port = reported(one);
    CHECK(port > 0);
    int two = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(reported(two), -EADDRINUSE);
    await_exit(two, 3000);
    CHECK_EQ(ask(port), one);
    /* Port 0: each its own. */
    set_address(0);
    int three = spawned ? spawn_worker() : fork_worker(), four = spawned ? spawn_worker() : fork_worker();
    int third = reported(three), fourth = reported(four);
    CHECK(third > 0 && fourth > 0 && third != fourth);
    CHECK_EQ(ask(third), three);
    CHECK_EQ(ask(fourth), four);
    CHECK_EQ(count_events(CL_EVENT_LISTENING, 0), 0);
    /* The port goes with its worker. */
    OK(cl_worker_kill(three, SIGKILL));
    await_exit(three, 3000);
    CHECK_EQ(try_connect4(third), -ECONNREFUSED);
    /* Whoever is in cl_accept on an own socket hears that it is time to leave. */
    OK(cl_worker_disconnect(one));
    const seen_t *end = await_exit(one, 3000);
    CHECK_EQ(end->exit_code, 0);
    CHECK_EQ(end->signal, 0);
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
    finish();
}

static void exclusive_forked(void) { exclusive(0); }
static void exclusive_spawned(void) {
    if (worker_side()) serve_exclusive();
    else exclusive(1);
}

static void reuseport(int spawned) {
    int seen_one = 0, seen_two = 0;
    set_address(free_port());
    primary_ready(serve_reuseport);
    int one = spawned ? spawn_worker() : fork_worker();
    int port = reported(one);
    int two = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(reported(two), port);
    /* The kernel chooses by hash; both are found soon. */
    for (int i = 0; i < 200 && !(seen_one && seen_two); i++) {
        int id = ask(port);
        CHECK(id == one || id == two);
        if (id == one) seen_one = 1;
        else seen_two = 1;
    }
    CHECK(seen_one && seen_two);
    CHECK_EQ(count_events(CL_EVENT_LISTENING, 0), 0);
    OK(cl_worker_kill(one, SIGKILL));
    await_exit(one, 3000);
    for (int i = 0; i < 10; i++) CHECK_EQ(ask(port), two);
    finish();
}

static void reuseport_forked(void) { reuseport(0); }
static void reuseport_spawned(void) {
    if (worker_side()) serve_reuseport();
    else reuseport(1);
}

/* A stop: whoever had come to an own socket is served, even if somebody always waits there; who comes later is refused. */
static int echo_own(unsigned flags) {
    int listener = OK(listen_flags(getenv("CHECK_ADDRESS"), flags)), connection;
    report(bound_port(listener));
    while ((connection = cl_accept(listener, NULL, NULL)) >= 0) echo_line(connection);
    CHECK_EQ(connection, -ESHUTDOWN);
    return OK(cl_close(listener));
}

static int echo_exclusive(void) { return echo_own(CL_LISTEN_EXCLUSIVE); }
static int echo_reuseport(void) { return echo_own(CL_LISTEN_REUSEPORT); }

static void expect_echo(int connection) {
    char text[64];
    send_text(connection, "here\n");
    CHECK_EQ(receive_all(connection, text, sizeof text), 5);
    close(connection);
}

static int state_of(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    return cl_worker_info(id, &info) < 0 ? 0 : info.state;
}

static void stopped_own(int (*serve)(void), int spawned) {
    set_address(free_port());
    primary_ready(serve);
    int one = spawned ? spawn_worker() : fork_worker();
    int port = reported(one), inside = connect4(port), waiting = connect4(port), rounds = 0, next;
    OK(cl_stop(10000));
    PUMP_UNTIL(state_of(one) == CL_WORKER_DISCONNECTING, 5000);
    while ((next = try_connect4(port)) >= 0) {
        CHECK(rounds++ < 100);
        expect_echo(inside);
        inside = waiting;
        waiting = next;
    }
    CHECK_EQ(next, -ECONNREFUSED);
    expect_echo(inside);
    expect_echo(waiting);
    CHECK_EQ(await_exit(one, 5000)->exit_code, 0);
    CHECK_EQ(cl_run(), 0);
}

static void exclusive_stopped(void) { stopped_own(echo_exclusive, 0); }
static void exclusive_stopped_spawned(void) {
    if (worker_side()) echo_exclusive();
    else stopped_own(echo_exclusive, 1);
}
static void reuseport_stopped(void) { stopped_own(echo_reuseport, 0); }

/* Own sockets take the same flags and the same calls as shares do. */
static void own_socket(void) {
    char text[64];
    int listener = OK(listen_flags("127.0.0.1:0", CL_LISTEN_EXCLUSIVE | CL_LISTEN_NONBLOCK));
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EAGAIN);
    int client = connect4(bound_port(listener));
    CHECK_EQ(readable_within(listener, 3000), 1);
    answer(OK(cl_accept(listener, NULL, NULL)));
    CHECK(receive_all(client, text, sizeof text) > 0);
    close(client);
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EAGAIN);
    OK(cl_close(listener));
    CHECK_EQ(cl_accept(listener, NULL, NULL), -EBADF);
    int one = OK(listen_flags("127.0.0.1:0", CL_LISTEN_REUSEPORT));
    snprintf(text, sizeof text, "127.0.0.1:%d", bound_port(one));
    int two = OK(listen_flags(text, CL_LISTEN_REUSEPORT));
    CHECK_EQ(bound_port(one), bound_port(two));
    OK(cl_close(one));
    OK(cl_close(two));
}
IN_WORKERS(own_socket)

static const check_case_t cases[] = {
    {"exclusive_forked", exclusive_forked}, {"exclusive_spawned", exclusive_spawned}, {"reuseport_forked", reuseport_forked},
    {"reuseport_spawned", reuseport_spawned}, {"exclusive_stopped", exclusive_stopped},
    {"exclusive_stopped_spawned", exclusive_stopped_spawned}, {"reuseport_stopped", reuseport_stopped}, ROLE_CASES(own_socket),
};
CHECK_MAIN(cases)
