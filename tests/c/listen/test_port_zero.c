/* Port 0: the n-th listen of every worker is the same port, two in one worker differ, a replacement gets the same. */
#include "primary.h"

/* Listens five times and tells the ports; then serves all until it is to leave. Told to, it closes the second, asks
 * again, and once by number: while another worker has that port open, it is the same. */
static int listen_often(void) {
    int listeners[5];
    char text[128];
    for (int i = 0; i < 3; i++) listeners[i] = OK(cl_listen("127.0.0.1:0", 0));
    CHECK_EQ(listen_index("127.0.0.1:0", 2), -EADDRINUSE);
    listeners[3] = OK(listen_index("127.0.0.1:0", 7));
    CHECK_EQ(listen_index("127.0.0.1:0", 7), -EADDRINUSE);
    listeners[4] = OK(cl_listen("0.0.0.0:0", 0));
    int n = 0;
    for (int i = 0; i < 5; i++) {
        for (int j = 0; j < i; j++) CHECK(bound_port(listeners[i]) != bound_port(listeners[j]));
        n += snprintf(text + n, sizeof text - (size_t)n, "%d ", bound_port(listeners[i]));
    }
    OK(cl_send(text, (size_t)n));
    for (;;) {
        struct pollfd all[6];
        for (int i = 0; i < 6; i++) {
            all[i].fd = i < 5 ? listeners[i] : OK(cl_channel_fd());
            all[i].events = POLLIN;
            all[i].revents = 0;
        }
        if (poll(all, 6, -1) < 0) continue;
        if (all[5].revents != 0 && cl_receive(text, sizeof text, 0) == 5) {
            int second = bound_port(listeners[1]);
            OK(cl_close(listeners[1]));
            listeners[1] = OK(cl_listen("127.0.0.1:0", 0)); /* the lowest number not open now is 2 */
            CHECK_EQ(bound_port(listeners[1]), second);
            OK(cl_send("again", 5));
            continue;
        }
        for (int i = 0; i < 5; i++) {
            if (all[i].revents == 0) continue;
            int connection = cl_accept(listeners[i], NULL, NULL);
            if (connection == -ESHUTDOWN) {
                for (int j = 0; j < 5; j++) OK(cl_close(listeners[j]));
                return 0;
            }
            answer(OK(connection));
        }
    }
}

static const char *ports_of(int id) {
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, 0) >= 0, 5000);
    return seen[find_event(CL_EVENT_MESSAGE, id, 0)].data;
}

static void same_everywhere(int policy, int spawned) {
    char ports[128];
    int numbers[5];
    use_policy(policy);
    primary_ready(listen_often);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    snprintf(ports, sizeof ports, "%s", ports_of(one));
    CHECK(strcmp(ports, ports_of(two)) == 0);
    CHECK_EQ(sscanf(ports, "%d %d %d %d %d", &numbers[0], &numbers[1], &numbers[2], &numbers[3], &numbers[4]), 5);
    OK(cl_worker_send(one, "again", 5));
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, one) == 2, 5000);
    for (int i = 0; i < 5; i++) {
        int id = ask(numbers[i]);
        CHECK(id == one || id == two);
    }
    OK(cl_worker_kill(one, SIGKILL));
    await_exit(one, 3000);
    int three = spawned ? spawn_worker() : fork_worker();
    CHECK(strcmp(ports, ports_of(three)) == 0);
    /* Also when for a moment there is none. */
    OK(cl_worker_kill(two, SIGKILL));
    OK(cl_worker_kill(three, SIGKILL));
    await_exit(two, 3000);
    await_exit(three, 3000);
    int four = spawned ? spawn_worker() : fork_worker();
    CHECK(strcmp(ports, ports_of(four)) == 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(ask(numbers[i]), four);
    finish();
}

static void forked(void) { same_everywhere(CL_SCHED_RR, 0); }
static void forked_shared(void) { same_everywhere(CL_SCHED_NONE, 0); }
static void spawned(void) {
    if (worker_side()) listen_often();
    else same_everywhere(CL_SCHED_RR, 1);
}
static void spawned_shared(void) {
    if (worker_side()) listen_often();
    else same_everywhere(CL_SCHED_NONE, 1);
}

/* In a process of no cluster each is a port of its own. */
static void alone(void) {
    int one = OK(cl_listen("127.0.0.1:0", 0)), two = OK(cl_listen("127.0.0.1:0", 0));
    CHECK(bound_port(one) != bound_port(two));
    OK(cl_close(one));
    OK(cl_close(two));
}

/* The number the system chose may be asked for by name afterwards, by nobody else than a second bind. */
static void resolved_number(void) {
    char address[64];
    int one = OK(cl_listen("127.0.0.1:0", 0));
    snprintf(address, sizeof address, "127.0.0.1:%d", bound_port(one));
    CHECK_EQ(cl_listen(address, 0), -EADDRINUSE);
    OK(cl_close(one));
}
IN_WORKERS(resolved_number)

/* Again and again: two listens of each worker, the same two ports in both workers and in the replacement of one. */
static int tell_ports(void) {
    char text[32];
    int one = OK(cl_listen("127.0.0.1:0", 0)), two = OK(cl_listen("127.0.0.1:0", 0));
    int n = snprintf(text, sizeof text, "%d %d", bound_port(one), bound_port(two));
    OK(cl_send(text, (size_t)n));
    while (cl_receive(text, sizeof text, -1) != -ESHUTDOWN) {}
    return 0;
}

enum { ROUNDS = 100 };

static void again_and_again(int policy) {
    use_policy(policy);
    primary_ready(tell_ports);
    for (int round = 0; round < ROUNDS; round++) {
        char ports[32];
        int one, two;
        seen_count = 0;
        int first = fork_worker(), second = fork_worker();
        snprintf(ports, sizeof ports, "%s", ports_of(first));
        CHECK_EQ(sscanf(ports, "%d %d", &one, &two), 2);
        CHECK(one > 0 && two > 0 && one != two);
        CHECK(strcmp(ports, ports_of(second)) == 0);
        OK(cl_worker_kill(first, SIGKILL));
        await_exit(first, 3000);
        int third = fork_worker();
        CHECK(strcmp(ports, ports_of(third)) == 0);
        /* Given up by all, it is another address the next time. */
        OK(cl_stop(2000));
        CHECK_EQ(cl_run(), 0);
    }
    finish();
}

static void again_and_again_in_turn(void) { again_and_again(CL_SCHED_RR); }
static void again_and_again_shared(void) { again_and_again(CL_SCHED_NONE); }

static const check_case_t cases[] = {
    {"again_and_again_in_turn", again_and_again_in_turn}, {"again_and_again_shared", again_and_again_shared},
    {"forked", forked},   {"forked_shared", forked_shared}, {"spawned", spawned}, {"spawned_shared", spawned_shared},
    {"alone", alone}, ROLE_CASES(resolved_number),
};
CHECK_MAIN(cases)
