/* No worker for a moment: the port stays, clients wait in the kernel, the next worker serves them all. */
#include "primary.h"

enum { CLIENTS = 60 };

static void gap(int policy, int spawned, int graceful) {
    int clients[CLIENTS];
    use_policy(policy);
    primary_ready(serve_any_port);
    int one = spawned ? spawn_worker() : fork_worker();
    int port = await_listening(one, 1);
    CHECK_EQ(ask(port), one);
    OK(graceful ? cl_worker_disconnect(one) : cl_worker_kill(one, SIGKILL));
    await_exit(one, 5000);
    int before = count_descriptors();
    for (int i = 0; i < CLIENTS; i++) clients[i] = connect4(port);
    pump_for(300);
    /* They wait in the kernel: the clients' own descriptors are the only new ones here. */
    CHECK_EQ(count_descriptors(), before + CLIENTS);
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(readable_within(clients[i], 0), 0);
    int two = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(answered_by(clients[i]), two);
    CHECK_EQ(await_listening(two, 1), port);
    finish();
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
}

static void killed_forked(void) { gap(CL_SCHED_RR, 0, 0); }
static void killed_shared(void) { gap(CL_SCHED_NONE, 0, 0); }
static void killed_spawned(void) {
    if (worker_side()) serve_any_port();
    else gap(CL_SCHED_RR, 1, 0);
}
static void left_forked(void) { gap(CL_SCHED_RR, 0, 1); }
static void left_shared(void) { gap(CL_SCHED_NONE, 0, 1); }

/* The same under cl_run, with the gap made by the back-off of a respawn. */
static int die_first(void) {
    if (cl_worker_id() == 1) {
        OK(cl_listen("127.0.0.1:0", 0));
        raise(SIGKILL);
    }
    return serve_any_port();
}

static int the_port, client_pipe;

static void stop_when_served(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_LISTENING && the_port == 0) {
        the_port = event->port;
        CHECK_EQ(write(client_pipe, &the_port, sizeof the_port), sizeof the_port);
    }
    if (event->type == CL_EVENT_EXIT && event->worker_id == 1) CHECK_EQ(event->signal, SIGKILL);
}

static void stop_on_signal(int number) {
    (void)number;
    cl_stop(2000);
}

static void gap_of_respawn(void) {
    cl_settings_t settings;
    struct sigaction action;
    int ends[2];
    SYS(pipe2(ends, O_CLOEXEC));
    pid_t client = SYS(fork());
    if (client == 0) {
        int port;
        char text[96];
        CHECK_EQ(read(ends[0], &port, sizeof port), sizeof port);
        for (int i = 0; i < 20; i++) {
            int fd = connect4(port);
            CHECK(receive_all(fd, text, sizeof text) > 0);
            close(fd);
        }
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    ZERO(action);
    action.sa_handler = stop_on_signal;
    SYS(sigaction(SIGUSR1, &action, NULL));
    client_pipe = ends[1];
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    OK(cl_setup_primary(&settings));
    OK(cl_on_event(stop_when_served, NULL));
    worker_main = die_first;
    fork_worker();
    int result = OK(cl_run());
    if (cl_is_worker() == 1) {
        CHECK_EQ(result, 1);
        become_worker();
    }
    CHECK_EQ(result, 0);
    WAIT_SUCCESS(client);
    check_ignore_descriptors = 1;
}

static const check_case_t cases[] = {
    {"killed_forked", killed_forked}, {"killed_shared", killed_shared}, {"killed_spawned", killed_spawned},
    {"left_forked", left_forked}, {"left_shared", left_shared}, {"gap_of_respawn", gap_of_respawn},
};
CHECK_MAIN(cases)
