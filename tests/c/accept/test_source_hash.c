/* CL_SCHED_SOURCE_HASH: a client's address meets the same slot, whatever its port, while that slot is there. */
#include "primary.h"

enum { WORKERS = 4, ADDRESSES = 80 };

static const char *listen_at = "127.0.0.1:0";

/* Tells every client who it is. At a message "hold" it takes nothing until the next one, or until it is to leave. */
static int serve_or_hold(void) {
    int listener = cl_listen(listen_at, 0);
    if (listener == -ESHUTDOWN) return 0;
    int channel = OK(cl_channel_fd());
    OK(listener);
    for (;;) {
        char text[16];
        int which = await_either(listener, channel);
        int length = (which & 2) != 0 ? cl_receive(text, sizeof text, 0) : 0;
        if (length == 4 && memcmp(text, "hold", 4) == 0) {
            OK(cl_send("held", 4));
            cl_receive(text, sizeof text, -1);
        } else if (length == -ESHUTDOWN) {
            return serve_listener(listener); /* what waits for it, up to the stop */
        }
        if ((which & 1) == 0) continue;
        int connection = cl_accept4(listener, NULL, NULL, 0);
        if (connection == -ESHUTDOWN) break;
        answer(OK(connection));
    }
    OK(cl_close(listener));
    return 0;
}

static void hold(int id) {
    int before = count_events(CL_EVENT_MESSAGE, id);
    OK(cl_worker_send(id, "hold", 4));
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) > before, 5000);
}

static int connect_from(int host, int port) {
    struct sockaddr_in from = address4(0), to = address4(port);
    int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    limit_waits(fd);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (unsigned)host);
    SYS(bind(fd, (struct sockaddr *)&from, sizeof from));
    SYS(connect(fd, (struct sockaddr *)&to, sizeof to));
    return fd;
}

static int ask_from(int host, int port) { return answered_by(connect_from(host, port)); }

/* Who serves each of the addresses from 127.0.0.2 on. */
static void look(int port, int owners[ADDRESSES]) {
    for (int i = 0; i < ADDRESSES; i++) owners[i] = ask_from(i + 1, port);
}

static int start_workers(int ids[], int count, int spawned) {
    int port = 0;
    for (int i = 0; i < count; i++) ids[i] = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < count; i++) port = await_listening(ids[i], 1);
    return port;
}

static unsigned waiting_at(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    return info.waiting;
}

/* The first address from 127.0.0.2 on that a worker serves. */
static int client_of(int id, int port) {
    for (int host = 1; host < 200; host++)
        if (ask_from(host, port) == id) return host;
    check_fail(__FILE__, __LINE__, "worker %d serves no address", id);
    return -1;
}

static void sticky(int spawned) {
    int ids[WORKERS], before[ADDRESSES], after[ADDRESSES], counts[WORKERS] = {0, 0, 0, 0};
    use_policy(CL_SCHED_SOURCE_HASH);
    primary_ready(serve_or_hold);
    int port = start_workers(ids, WORKERS, spawned);
    look(port, before);
    for (int round = 0; round < 3; round++) {
        look(port, after);
        CHECK(memcmp(before, after, sizeof before) == 0);
    }
    for (int i = 0; i < ADDRESSES; i++)
        for (int j = 0; j < WORKERS; j++) counts[j] += before[i] == ids[j];
    for (int j = 0; j < WORKERS; j++) CHECK(counts[j] > 0);

    OK(cl_worker_kill(ids[1], SIGKILL));
    await_exit(ids[1], 3000);
    look(port, after);
    int elsewhere = 0;
    for (int i = 0; i < ADDRESSES; i++) {
        if (before[i] != ids[1]) CHECK_EQ(after[i], before[i]);
        else CHECK(after[i] != ids[1]);
        elsewhere |= before[i] == ids[1] ? after[i] : 0;
    }
    CHECK(elsewhere != 0);

    int successor = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(slot_of(successor), 1);
    await_listening(successor, 1);
    look(port, after);
    for (int i = 0; i < ADDRESSES; i++) CHECK_EQ(after[i], before[i] == ids[1] ? successor : before[i]);
    finish();
}

static void forked(void) { sticky(0); }
static void spawned(void) {
    if (worker_side()) serve_or_hold();
    else sticky(1);
}

/* An IPv4 client of a dual-stack address, and one of IPv6. */
static void both_families(void) {
    int ids[WORKERS], before[ADDRESSES], after[ADDRESSES];
    if (!have_ipv6()) check_skip("no IPv6 here");
    listen_at = "[::]:0";
    use_policy(CL_SCHED_SOURCE_HASH);
    primary_ready(serve_or_hold);
    int port = start_workers(ids, WORKERS, 0);
    look(port, before);
    look(port, after);
    CHECK(memcmp(before, after, sizeof before) == 0);
    int owner = 0, distinct = 0;
    for (int i = 1; i < ADDRESSES; i++) distinct += before[i] != before[0];
    CHECK(distinct > 0);
    for (int i = 0; i < 8; i++) {
        int client = try_connect6(port);
        int id = answered_by(OK(client));
        if (i > 0) CHECK_EQ(id, owner);
        owner = id;
    }
    finish();
}

enum { CLIENTS = 300 };
static int clients[CLIENTS];

/* More than a mailbox holds, and more than the primary does: all meet the one worker, and others are served behind them. */
static void full_keeps_its_clients(void) {
    int ids[2];
    use_policy(CL_SCHED_SOURCE_HASH);
    primary_ready(serve_or_hold);
    int port = start_workers(ids, 2, 0);
    int mine = client_of(ids[0], port), others = client_of(ids[1], port);
    for (int i = 0; i < CLIENTS - 10; i++) clients[i] = connect_from(mine, port);
    for (int i = CLIENTS - 10; i < CLIENTS; i++) clients[i] = connect_from(others, port);
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(answered_by(clients[i]), i < CLIENTS - 10 ? ids[0] : ids[1]);
    CHECK_EQ(waiting_at(ids[0]), 0);
    finish();
}

/* A stuck one counts as gone until it is back: its clients are served by the other meanwhile, then by itself again. */
static void stuck_loses_them_for_a_while(void) {
    int ids[2];
    use_policy(CL_SCHED_SOURCE_HASH);
    primary_ready(serve_or_hold);
    int port = start_workers(ids, 2, 0);
    int mine = client_of(ids[0], port);
    hold(ids[0]);
    for (int i = 0; i < 40; i++) clients[i] = connect_from(mine, port);
    PUMP_UNTIL(waiting_at(ids[0]) > 12, 5000); /* also what the primary holds for it */
    for (int i = 0; i < 40; i++) CHECK_EQ(answered_by(clients[i]), ids[1]);
    CHECK_EQ(ask_from(mine, port), ids[1]);
    OK(cl_worker_send(ids[0], "go", 2));
    int back = 0;
    for (long long end = now_ms() + 3000LL * check_slow(); !back && now_ms() < end;) back = ask_from(mine, port) == ids[0];
    CHECK(back);
    finish();
}

/* Of a worker that dies nothing is lost but what it had in its hand: neither what waits in its mailbox nor what is held. */
static void killed_with_many_waiting(void) {
    int ids[2];
    use_policy(CL_SCHED_SOURCE_HASH);
    primary_ready(serve_or_hold);
    int port = start_workers(ids, 2, 0);
    int mine = client_of(ids[0], port);
    hold(ids[0]);
    for (int i = 0; i < CLIENTS; i++) clients[i] = connect_from(mine, port);
    PUMP_UNTIL(waiting_at(ids[0]) > 12, 5000);
    OK(cl_worker_kill(ids[0], SIGKILL));
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(answered_by(clients[i]), ids[1]);
    await_exit(ids[0], 3000);
    finish();
}

/* With nobody to take them, the primary accepts only so many; the rest stays in the kernel, and none is lost. */
static void bounded(void) {
    int id, most = 0;
    use_policy(CL_SCHED_SOURCE_HASH);
    primary_ready(serve_or_hold);
    int port = start_workers(&id, 1, 0);
    hold(id);
    int before = count_descriptors();
    enum { MANY = 500 }; /* fewer than the backlog */
    static int many[MANY];
    for (int i = 0; i < MANY; i++) many[i] = connect_from(1 + i % ADDRESSES, port);
    for (int i = 0; i < 60; i++) {
        turn(5);
        int held = count_descriptors() - before - MANY;
        if (held > most) most = held;
    }
    if (most > 300) check_fail(__FILE__, __LINE__, "%d connections were held", most);
    OK(cl_worker_send(id, "go", 2));
    for (int i = 0; i < MANY; i++) CHECK_EQ(answered_by(many[i]), id);
    finish();
}

/* Everybody is to leave while the primary has connections in its hands: they go with the last one that can take them. */
static void stopped_with_many_waiting(void) {
    int ids[2], sent = 0;
    use_mechanism("passed"); /* the primary of the others has none in its hands */
    use_policy(CL_SCHED_SOURCE_HASH);
    primary_ready(serve_or_hold);
    int port = start_workers(ids, 2, 0);
    int mine = client_of(ids[0], port), others = client_of(ids[1], port);
    hold(ids[0]);
    hold(ids[1]);
    int before = count_descriptors();
    for (; sent < 120; sent++) clients[sent] = connect_from(sent % 2 != 0 ? mine : others, port);
    /* All are accepted: 12 wait in each mailbox, the others in the primary. */
    PUMP_UNTIL(count_descriptors() == before + sent + sent - 2 * 12, 5000);
    OK(cl_stop(10000));
    for (int i = 0; i < sent; i++) CHECK(answered_by(clients[i]) > 0);
    for (int i = 0; i < 2; i++) CHECK_EQ(await_exit(ids[i], 10000)->exit_code, 0);
    finish();
}

/* Nothing tells the clients of a unix socket apart: each worker in turn. */
static void unix_in_turn(void) {
    static char address[PATH_MAX + 8];
    int ids[2], last = 0;
    snprintf(address, sizeof address, "unix:%s", case_path("socket"));
    listen_at = address;
    use_policy(CL_SCHED_SOURCE_HASH);
    primary_ready(serve_or_hold);
    start_workers(ids, 2, 0);
    for (int i = 0; i < 20; i++) {
        int client = try_connect_unix(address + 5);
        int id = answered_by(OK(client));
        CHECK(id == ids[0] || id == ids[1]);
        CHECK(id != last);
        last = id;
    }
    finish();
}

static const check_case_t cases[] = {
    {"forked", forked},
    {"spawned", spawned},
    {"both_families", both_families},
    {"full_keeps_its_clients", full_keeps_its_clients},
    {"stuck_loses_them_for_a_while", stuck_loses_them_for_a_while},
    {"killed_with_many_waiting", killed_with_many_waiting},
    {"bounded", bounded},
    {"stopped_with_many_waiting", stopped_with_many_waiting},
    {"unix_in_turn", unix_in_turn},
};
CHECK_MAIN(cases)
