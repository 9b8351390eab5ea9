/* CL_SCHED_LEAST_LOADED: who tells the least load gets the next connection, and a burst does not go to one alone. */
#include "primary.h"

enum { WORKERS = 3 };

static const char *listen_at = "127.0.0.1:0";

/* Tells every client who it is, and the primary the load that it was sent. */
static int serve_with_load(void) {
    int listener = cl_listen(listen_at, 0);
    if (listener == -ESHUTDOWN) return 0;
    int channel = OK(cl_channel_fd());
    OK(listener);
    for (;;) {
        char text[16];
        int which = await_either(listener, channel);
        int length = (which & 2) != 0 ? cl_receive(text, sizeof text - 1, 0) : 0;
        if (length == -ESHUTDOWN) return serve_listener(listener); /* what waits for it, up to the stop */
        if (length > 0) {
            text[length] = '\0';
            OK(cl_set_load((unsigned)atoi(text)));
            OK(cl_send("told", 4));
        }
        if ((which & 1) == 0) continue;
        int connection = cl_accept4(listener, NULL, NULL, 0);
        if (connection == -ESHUTDOWN) break;
        answer(OK(connection));
    }
    OK(cl_close(listener));
    return 0;
}

static void tell(int id, int load) {
    char text[16];
    cl_worker_info_t info;
    int before = count_events(CL_EVENT_MESSAGE, id);
    snprintf(text, sizeof text, "%d", load);
    OK(cl_worker_send(id, text, strlen(text)));
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) > before, 5000);
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    CHECK_EQ(info.load, load);
}

static int start(int ids[], int count, int is_spawned) {
    int port = 0;
    use_policy(CL_SCHED_LEAST_LOADED);
    primary_ready(serve_with_load);
    for (int i = 0; i < count; i++) ids[i] = is_spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < count; i++) port = await_listening(ids[i], 1);
    return port;
}

static void count(int id, const int *ids, int *counts) {
    for (int i = 0; i < WORKERS; i++) counts[i] += ids[i] == id;
}

static void least_wins(int is_spawned) {
    int ids[WORKERS], counts[WORKERS] = {0, 0, 0};
    int port = start(ids, WORKERS, is_spawned);
    tell(ids[0], 100);
    tell(ids[1], 0);
    tell(ids[2], 100);
    for (int i = 0; i < 40; i++) CHECK_EQ(ask(port), ids[1]);
    tell(ids[1], 300);
    for (int i = 0; i < 40; i++) count(ask(port), ids, counts);
    CHECK_EQ(counts[1], 0);
    CHECK(counts[0] > 0 && counts[2] > 0);
    CHECK_EQ(counts[0] + counts[2], 40);
    /* Who dies leaves the choice to the others, and its replacement has told nothing, which is the least. */
    OK(cl_worker_kill(ids[2], SIGKILL));
    await_exit(ids[2], 3000);
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), ids[0]);
    ids[2] = is_spawned ? spawn_worker() : fork_worker();
    await_listening(ids[2], 1);
    for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), ids[2]);
    finish();
}

static void forked(void) { least_wins(0); }
static void spawned(void) {
    if (worker_side()) serve_with_load();
    else least_wins(1);
}

/* Connections that are there at once, before anybody can tell anything new. */
static void burst(int *counts, const int *ids, int port) {
    int clients[30];
    memset(counts, 0, WORKERS * sizeof *counts);
    for (int i = 0; i < 30; i++) clients[i] = connect4(port);
    for (int i = 0; i < 30; i++) count(answered_by(clients[i]), ids, counts);
}

static void bursts_are_spread(void) {
    int ids[WORKERS], counts[WORKERS];
    int port = start(ids, WORKERS, 0);
    burst(counts, ids, port); /* nobody has told anything */
    for (int i = 0; i < WORKERS; i++) CHECK_EQ(counts[i], 10);
    tell(ids[0], 6);
    tell(ids[1], 0);
    tell(ids[2], 6);
    burst(counts, ids, port); /* the least gets more, and not all */
    CHECK_EQ(counts[1], 12);
    CHECK_EQ(counts[0], 9);
    CHECK_EQ(counts[2], 9);
    finish();
}

/* A worker that does not take what it has is passed over, however little its load was when it told. */
static void busy_is_passed_over(void) {
    int ids[WORKERS], clients[3];
    int port = start(ids, WORKERS, 0);
    tell(ids[0], 0);
    tell(ids[1], 50);
    tell(ids[2], 60);
    SYS(kill(pid_of(ids[0]), SIGSTOP));
    clients[0] = connect4(port);
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    do {
        turn(5);
        OK(cl_worker_info(ids[0], &info));
    } while (info.waiting == 0);
    CHECK_EQ(ask(port), ids[1]);
    SYS(kill(pid_of(ids[0]), SIGCONT));
    CHECK(answered_by(clients[0]) > 0);
    finish();
}

static void of_unix_sockets(void) {
    static char address[PATH_MAX + 8];
    int ids[WORKERS];
    snprintf(address, sizeof address, "unix:%s", case_path("socket"));
    listen_at = address;
    start(ids, WORKERS, 0);
    tell(ids[0], 100);
    tell(ids[1], 0);
    tell(ids[2], 100);
    for (int i = 0; i < 20; i++) {
        int client = try_connect_unix(address + 5);
        CHECK_EQ(answered_by(OK(client)), ids[1]);
    }
    finish();
}

static const check_case_t cases[] = {
    {"forked", forked},
    {"spawned", spawned},
    {"bursts_are_spread", bursts_are_spread},
    {"busy_is_passed_over", busy_is_passed_over},
    {"of_unix_sockets", of_unix_sockets},
};
CHECK_MAIN(cases)
