/* A worker killed with connections waiting unread: others answer every one of them. */
#include "primary.h"

/* Listens, but accepts nothing; ends when asked to. */
static int hold(void) {
    char text[8];
    OK(cl_listen("127.0.0.1:0", 0));
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    return 0;
}

/* Says which line it read, so that a request sent before the kill must have survived it. */
static int echo_lines(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) return 0;
        echo_line(OK(connection));
    }
}

static int chosen(void) { return cl_worker_slot() == 0 ? hold() : echo_lines(); }

enum { CLIENTS = 16 };

static void connect_and_ask(int *clients, int port) {
    for (int i = 0; i < CLIENTS; i++) {
        char line[32];
        clients[i] = connect4(port);
        snprintf(line, sizeof line, "request %d\n", i);
        send_text(clients[i], line);
    }
}

static void expect_answers(int *clients) {
    for (int i = 0; i < CLIENTS; i++) {
        char line[32], text[64];
        snprintf(line, sizeof line, "request %d\n", i);
        if (!pump_readable(clients[i], 2000)) check_fail(__FILE__, __LINE__, "client %d has no answer", i);
        int n = receive_all(clients[i], text, sizeof text);
        if (n < 0) check_fail(__FILE__, __LINE__, "client %d: %s", i, strerror(-n));
        CHECK(strcmp(text, line) == 0);
        close(clients[i]);
    }
}

static unsigned waiting_at(int id) {
    cl_worker_info_t info;
    ZERO(info);
    info.size = sizeof info;
    OK(cl_worker_info(id, &info));
    return info.waiting;
}

/* Slot 0 holds half of them unread and dies; slot 1 answers all. */
static void to_the_neighbour(int policy, int spawned) {
    int clients[CLIENTS];
    use_exact_turns();
    use_policy(policy);
    primary_ready(chosen);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    for (int round = 0; round < 5; round++) {
        connect_and_ask(clients, port);
        if (policy == CL_SCHED_RR) PUMP_UNTIL(waiting_at(one) > 0, 2000);
        OK(cl_worker_kill(one, SIGKILL));
        expect_answers(clients);
        CHECK_EQ(await_exit(one, 3000)->signal, SIGKILL);
        one = spawned ? spawn_worker() : fork_worker();
        CHECK_EQ(slot_of(one), 0);
        await_listening(one, 1);
    }
    CHECK_EQ(count_events(CL_EVENT_EXIT, two), 0);
    finish();
}

static void neighbour_forked(void) { to_the_neighbour(CL_SCHED_RR, 0); }
static void neighbour_shared(void) { to_the_neighbour(CL_SCHED_NONE, 0); }
static void neighbour_spawned(void) {
    if (worker_side()) chosen();
    else to_the_neighbour(CL_SCHED_RR, 1);
}

/* The only worker dies: its successor in the slot answers. */
static void to_the_successor(int spawned) {
    int clients[CLIENTS];
    use_exact_turns();
    primary_ready(chosen);
    int one = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(one, 1);
    connect_and_ask(clients, port);
    PUMP_UNTIL(waiting_at(one) > 0, 2000);
    OK(cl_worker_kill(one, SIGKILL));
    await_exit(one, 3000);
    /* The holder's slot is taken by another holder, killed as well: nothing is lost by dying twice. */
    one = spawned ? spawn_worker() : fork_worker();
    await_listening(one, 1);
    PUMP_UNTIL(waiting_at(one) > 0, 2000);
    int two = spawned ? spawn_worker() : fork_worker();
    OK(cl_worker_kill(one, SIGKILL));
    await_listening(two, 1);
    expect_answers(clients);
    finish();
}

static void successor_forked(void) { to_the_successor(0); }
static void successor_spawned(void) {
    if (worker_side()) chosen();
    else to_the_successor(1);
}

/* The one in the killed worker's hand ends for its client at once, with end of file or a reset: no copy keeps it. */
static int take_and_hold(void) {
    char text[8];
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    int connection = OK(cl_accept(listener, NULL, NULL));
    send_text(connection, "have it\n");
    while (cl_receive(text, sizeof text, -1) >= 0) {}
    return 0;
}

static void in_the_hand(int policy) {
    char text[64];
    use_policy(policy);
    primary_ready(take_and_hold);
    for (int round = 0; round < 5; round++) {
        int id = fork_worker();
        int client = connect4(await_listening(id, 1));
        CHECK_EQ(pump_readable(client, 3000), 1);
        CHECK_EQ(receive_line(client, text, sizeof text), 7);
        OK(cl_worker_kill(id, SIGKILL));
        long long start = now_ms();
        CHECK_EQ(pump_readable(client, 1000), 1);
        int n = (int)recv(client, text, sizeof text, 0);
        CHECK(n == 0 || (n == -1 && errno == ECONNRESET));
        CHECK(now_ms() - start < 500 * check_slow());
        close(client);
        await_exit(id, 3000);
    }
    finish();
}

static void in_the_hand_passed(void) { in_the_hand(CL_SCHED_RR); }
static void in_the_hand_shared(void) { in_the_hand(CL_SCHED_NONE); }

/* A worker's close is the client's end of file: the primary keeps no copy of what it passed. */
static void end_of_file_is_prompt(void) {
    primary_ready(serve_any_port);
    int id = fork_worker();
    int port = await_listening(id, 1);
    long long start = now_ms();
    for (int i = 0; i < 100; i++) CHECK_EQ(ask(port), id);
    CHECK(now_ms() - start < 2000 * check_slow());
    finish();
}

static int all_listen(int wanted) {
    int ids[8];
    int count = cl_worker_ids(ids, 8);
    for (int i = 0; i < count; i++)
        if (find_event(CL_EVENT_LISTENING, ids[i], 0) < 0) return 0;
    return count == wanted;
}

/* A storm: workers are killed while they serve, replaced by the primary, and clients go on asking. Lost may be only
 * what a killed worker had in its hand, so at most one for each kill. */
static void storm(void) {
    cl_settings_t settings;
    int lost = 0, kills = 0, answered = 0, port = 0;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    primary_ready(serve_any_port);
    OK(cl_setup_primary(&settings));
    for (int i = 0; i < 3; i++) port = await_listening(fork_worker(), 1);
    for (int round = 0; round < 60; round++) {
        int clients[10], ids[8];
        for (int i = 0; i < 10; i++) clients[i] = connect4(port);
        if (round % 10 == 5) {
            CHECK(cl_worker_ids(ids, 8) <= 3);
            if (cl_worker_ids(ids, 8) > 0 && cl_worker_kill(ids[0], SIGKILL) == 0) kills++;
            else PUMP_UNTIL(cl_worker_ids(NULL, 0) > 0, 3000); /* all are being replaced */
        }
        for (int i = 0; i < 10; i++) {
            char text[96];
            if (!pump_readable(clients[i], CLIENT_LIMIT_MS)) check_fail(__FILE__, __LINE__, "a client hangs");
            if (receive_all(clients[i], text, sizeof text) > 0) answered++;
            else lost++;
            close(clients[i]);
        }
    }
    CHECK(kills >= 3);
    CHECK_EQ(answered + lost, 600);
    if (lost > kills) check_fail(__FILE__, __LINE__, "%d lost by %d kills", lost, kills);
    PUMP_UNTIL(all_listen(3), 8000);
    finish();
}

static const check_case_t cases[] = {
    {"neighbour_forked", neighbour_forked},     {"neighbour_shared", neighbour_shared},
    {"neighbour_spawned", neighbour_spawned},   {"successor_forked", successor_forked},
    {"successor_spawned", successor_spawned},   {"in_the_hand_passed", in_the_hand_passed},
    {"in_the_hand_shared", in_the_hand_shared}, {"end_of_file_is_prompt", end_of_file_is_prompt},
    {"storm", storm},
};
CHECK_MAIN(cases)
