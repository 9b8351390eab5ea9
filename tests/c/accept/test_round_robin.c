/* Each worker in turn, exactly: no connection more and none less, before and after one of them is replaced. */
#include "primary.h"

enum { WORKERS = 4 };

/* Connections one after another; how many each worker served goes to counts, by index in ids. */
static void drive(int port, int connections, const int *ids, int *counts) {
    int window[WORKERS] = {0, 0, 0, 0};
    for (int i = 0; i < connections; i++) {
        int id = ask(port), at = 0;
        while (at < WORKERS && ids[at] != id) at++;
        CHECK(at < WORKERS);
        counts[at]++;
        window[at]++;
        if ((i + 1) % WORKERS != 0) continue;
        /* Also in every small window each had one. */
        for (int j = 0; j < WORKERS; j++) {
            if (window[j] != 1) check_fail(__FILE__, __LINE__, "worker %d had %d of %d, at connection %d", ids[j], window[j], WORKERS, i);
            window[j] = 0;
        }
    }
}

static void exact(int spawned) {
    int ids[WORKERS], counts[WORKERS] = {0, 0, 0, 0}, port = 0;
    int connections = check_slow() > 1 ? 400 : 4000;
    use_exact_turns();
    primary_ready(serve_any_port);
    for (int i = 0; i < WORKERS; i++) ids[i] = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    drive(port, connections, ids, counts);
    for (int i = 0; i < WORKERS; i++) {
        cl_worker_info_t info;
        ZERO(info);
        info.size = sizeof info;
        CHECK_EQ(counts[i], connections / WORKERS);
        OK(cl_worker_info(ids[i], &info));
        CHECK_EQ(info.delivered, connections / WORKERS);
        CHECK_EQ(info.waiting, 0);
    }
    /* One is replaced: with three it goes on in turns, and the new one is in the rotation as soon as it listens. */
    OK(cl_worker_kill(ids[1], SIGKILL));
    await_exit(ids[1], 3000);
    int last[3];
    for (int i = 0; i < 30; i++) {
        int id = ask(port);
        CHECK(id == ids[0] || id == ids[2] || id == ids[3]);
        if (i >= 3) CHECK_EQ(id, last[i % 3]);
        last[i % 3] = id;
    }
    CHECK(last[0] != last[1] && last[1] != last[2] && last[0] != last[2]);
    ids[1] = spawned ? spawn_worker() : fork_worker();
    CHECK_EQ(slot_of(ids[1]), 1);
    CHECK_EQ(await_listening(ids[1], 1), port);
    memset(counts, 0, sizeof counts);
    drive(port, connections / 10, ids, counts);
    for (int i = 0; i < WORKERS; i++) CHECK_EQ(counts[i], connections / 10 / WORKERS);
    finish();
}

static void forked(void) { exact(0); }
static void spawned(void) {
    if (worker_side()) serve_any_port();
    else exact(1);
}

/* A burst that waits all at once is dealt out as exactly while nobody's mailbox is full. */
static void burst(void) {
    int ids[WORKERS], clients[WORKERS * 4], counts[WORKERS] = {0, 0, 0, 0}, port = 0;
    use_exact_turns();
    primary_ready(serve_any_port);
    for (int i = 0; i < WORKERS; i++) ids[i] = fork_worker();
    for (int i = 0; i < WORKERS; i++) port = await_listening(ids[i], 1);
    for (int round = 0; round < 25; round++) {
        for (int i = 0; i < WORKERS * 4; i++) clients[i] = connect4(port);
        for (int i = 0; i < WORKERS * 4; i++) {
            int id = answered_by(clients[i]);
            for (int j = 0; j < WORKERS; j++) counts[j] += ids[j] == id;
        }
    }
    for (int i = 0; i < WORKERS; i++) CHECK_EQ(counts[i], 25 * 4);
    finish();
}

/* Two addresses have two rotations. */
static int serve_two_ports(void) {
    int listeners[2] = {OK(cl_listen("127.0.0.1:0", 0)), OK(cl_listen("127.0.0.1:0", 0))};
    for (;;) {
        for (int i = 0; i < 2; i++) {
            struct pollfd both[2];
            both[0].fd = listeners[0];
            both[1].fd = listeners[1];
            both[0].events = both[1].events = POLLIN;
            both[0].revents = both[1].revents = 0;
            if (poll(both, 2, -1) < 0 || both[i].revents == 0) continue;
            int connection = cl_accept(listeners[i], NULL, NULL);
            if (connection == -ESHUTDOWN) return 0;
            answer(OK(connection));
        }
    }
}

static void two_ports(void) {
    use_exact_turns();
    primary_ready(serve_two_ports);
    int one = fork_worker(), two = fork_worker();
    int first = await_listening(one, 1), second = await_listening(one, 2);
    CHECK_EQ(await_listening(two, 1), first);
    CHECK_EQ(await_listening(two, 2), second);
    int counts[2] = {0, 0};
    for (int i = 0; i < 30; i++) {
        int a = ask(first), b = ask(first), c = ask(second);
        CHECK(a != b);
        counts[c == one]++;
    }
    CHECK_EQ(counts[0], 15);
    CHECK_EQ(counts[1], 15);
    finish();
}

static const check_case_t cases[] = {{"forked", forked}, {"spawned", spawned}, {"burst", burst}, {"two_ports", two_ports}};
CHECK_MAIN(cases)
