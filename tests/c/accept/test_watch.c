/* cl_listener_watch: an epoll of the program's tells when cl_accept has something to say, in every role and mechanism. */
#include "rotation.h"

static void come_and_be_told(int epoll, int listener, int client) {
    CHECK_EQ(told_within(epoll, 5000), 1);
    served(listener, client);
}

/* Connects to where a listener listens, whatever it is. */
static int connect_to(int listener) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    OK(cl_getsockname(listener, (struct sockaddr *)&name, &length));
    return try_connect(name.ss_family, &name, length);
}

/* -- What it is in every role -------------------------------------------------------------------------------------- */

static void watches(const char *address) {
    int epoll = new_epoll(), other = new_epoll(), pair[2];
    int listener = OK(listen_flags(address, CL_LISTEN_NONBLOCK));
    CHECK_EQ(cl_listener_unwatch(listener), -ENOENT);
    OK(cl_listener_watch(listener, epoll, TOLD));
    CHECK_EQ(told_within(epoll, 0), 0);
    for (int i = 0; i < 5; i++) come_and_be_told(epoll, listener, connect_to(listener));
    /* It is told for as long as it is so. */
    int client = connect_to(listener);
    for (int i = 0; i < 3; i++) CHECK_EQ(told_within(epoll, 5000), 1);
    served(listener, client);
    /* Once at a time. */
    CHECK_EQ(cl_listener_watch(listener, other, 1), -EEXIST);
    CHECK_EQ(cl_listener_watch(listener, epoll, 1), -EEXIST);
    OK(cl_listener_unwatch(listener));
    CHECK_EQ(cl_listener_unwatch(listener), -ENOENT);
    nap(50); /* the primary has heard of it */
    client = connect_to(listener);
    CHECK_EQ(readable_within(listener, 5000), 1);
    CHECK_EQ(told_within(epoll, 0), 0);
    served(listener, client);
    /* Then elsewhere; and the program may forget its own descriptor. */
    OK(cl_listener_watch(listener, other, TOLD));
    come_and_be_told(other, listener, connect_to(listener));
    OK(cl_listener_unwatch(listener));
    /* What cannot be is refused, and leaves everything as it was. */
    SYS(pipe2(pair, O_CLOEXEC));
    CHECK_EQ(cl_listener_watch(listener, -1, TOLD), -EBADF);
    CHECK_EQ(cl_listener_watch(listener, 1000000, TOLD), -EBADF);
    CHECK_EQ(cl_listener_watch(listener, pair[0], TOLD), -EINVAL);
    CHECK_EQ(cl_listener_watch(pair[0], epoll, TOLD), -EBADF);
    CHECK_EQ(cl_listener_unwatch(pair[0]), -EBADF);
    OK(cl_listener_watch(listener, epoll, TOLD));
    come_and_be_told(epoll, listener, connect_to(listener));
    close(pair[0]);
    close(pair[1]);
    OK(cl_close(listener));
    CHECK_EQ(cl_listener_watch(listener, epoll, TOLD), -EBADF);
    CHECK_EQ(cl_listener_unwatch(listener), -EBADF);
    CHECK_EQ(told_within(epoll, 0), 0);
    close(epoll);
    close(other);
}

static void tcp(void) { watches("127.0.0.1:0"); }
IN_WORKERS(tcp)
static void in_rotation(void) {
    use_mechanism("rotation");
    run_in_worker(tcp, CL_SCHED_RR, 1);
}
static void unix_path(void) { watches(unix_address(case_path("socket"))); }
IN_WORKERS(unix_path)
static void unix_in_rotation(void) {
    use_mechanism("rotation");
    run_in_worker(unix_path, CL_SCHED_RR, 1);
}

static void udp(void) {
    char text[8];
    int epoll = new_epoll(), listener = OK(cl_listen("udp:127.0.0.1:0", 0));
    struct sockaddr_in address = address4(bound_port(listener));
    int client = SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    OK(cl_listener_watch(listener, epoll, TOLD));
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(told_within(epoll, 0), 0);
        SYS(sendto(client, "hi", 2, 0, (struct sockaddr *)&address, sizeof address));
        CHECK_EQ(told_within(epoll, 5000), 1);
        CHECK_EQ(recv(listener, text, sizeof text, MSG_DONTWAIT), 2);
    }
    OK(cl_listener_unwatch(listener));
    SYS(sendto(client, "hi", 2, 0, (struct sockaddr *)&address, sizeof address));
    CHECK_EQ(told_within(epoll, 20), 0);
    OK(cl_listener_watch(listener, epoll, TOLD));
    CHECK_EQ(told_within(epoll, 5000), 1);
    OK(cl_close(listener));
    close(client);
    close(epoll);
}
IN_WORKERS(udp)

/* One that waits, too: while it is watched the epoll tells, afterwards its accept waits as before. */
static void of_one_that_waits(void) {
    int epoll = new_epoll(), listener = OK(cl_listen("127.0.0.1:0", 0));
    for (int i = 0; i < 3; i++) {
        served(listener, connect_to(listener));
        OK(cl_listener_watch(listener, epoll, TOLD));
        for (int j = 0; j < 3; j++) come_and_be_told(epoll, listener, connect_to(listener));
        OK(cl_listener_unwatch(listener));
        served(listener, connect_to(listener));
    }
    OK(cl_close(listener));
    close(epoll);
}
IN_WORKERS(of_one_that_waits)
static void waits_in_rotation(void) {
    use_mechanism("rotation");
    run_in_worker(of_one_that_waits, CL_SCHED_RR, 1);
}

/* -- Its end ------------------------------------------------------------------------------------------------------- */

/* Others have copies of what was watched, a child of this process too, so closing alone would leave it in the epoll. */
static int close_and_look(void) {
    char text[8];
    int epoll = new_epoll();
    int listener = watched_listener("127.0.0.1:0", epoll);
    if (cl_worker_slot() != 0) return serve_by(listener, epoll);
    OK(cl_receive(text, sizeof text, 10000));
    pid_t child = SYS(fork());
    if (child == 0) {
        for (;;) pause();
    }
    OK(cl_close(listener));
    OK(cl_send("closed", 6));
    CHECK_EQ(told_within(epoll, 300), 0);
    SYS(kill(child, SIGKILL));
    SYS(waitpid(child, NULL, 0));
    close(epoll);
    return 0;
}

static void closed(int policy) {
    if (worker_side()) exit(close_and_look());
    use_policy(policy);
    primary_ready(close_and_look);
    int one = spawn_worker();
    int port = await_listening(one, 1);
    int two = spawn_worker();
    await_listening(two, 1);
    OK(cl_worker_send(one, "close", 5));
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, one, 0) >= 0, 3000);
    for (int i = 0; i < 50; i++) CHECK_EQ(ask(port), two);
    CHECK_EQ(await_exit(one, 3000)->exit_code, 0);
    finish();
}
static void closed_in_rotation(void) {
    use_mechanism("rotation");
    closed(CL_SCHED_RR);
}
static void closed_shared(void) { closed(CL_SCHED_NONE); }
static void closed_passed(void) {
    use_mechanism("passed");
    closed(CL_SCHED_RR);
}

/* -- Many at once -------------------------------------------------------------------------------------------------- */

/* One worker is woken for one connection. */
static int count_in_vain(void) {
    char text[32];
    int epoll = new_epoll();
    int code = serve_by(watched_listener("127.0.0.1:0", epoll), epoll);
    int n = snprintf(text, sizeof text, "%d", in_vain);
    OK(cl_send(text, (size_t)n));
    return code;
}

static void no_herd(int policy) {
    enum { CONNECTIONS = 200 };
    int ids[8], port = 0, vain = 0;
    if (worker_side()) exit(count_in_vain());
    use_policy(policy);
    primary_ready(count_in_vain);
    for (int i = 0; i < 8; i++) ids[i] = spawn_worker();
    for (int i = 0; i < 8; i++) port = await_listening(ids[i], 1);
    pump_for(50);
    for (int i = 0; i < CONNECTIONS; i++) CHECK(ask(port) > 0);
    OK(cl_stop(5000));
    CHECK_EQ(cl_run(), 0);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(await_exit(ids[i], 1)->exit_code, 0);
        vain += atoi(seen[find_event(CL_EVENT_MESSAGE, ids[i], 0)].data);
    }
    if (vain > CONNECTIONS) check_fail(__FILE__, __LINE__, "%d connections woke somebody %d times in vain", CONNECTIONS, vain);
}
static void no_herd_in_rotation(void) {
    use_mechanism("rotation");
    no_herd(CL_SCHED_RR);
}
static void no_herd_shared(void) { no_herd(CL_SCHED_NONE); }

/* What a thread says about a listener that another closes at that moment is said before the close or not at all: a primary
 * kills who speaks of a listener that he does not have. */
typedef struct {
    int listener, epoll, over;
} watched_t;

static void *watch_on_and_on(void *argument) {
    watched_t *self = (watched_t *)argument;
    while (!__atomic_load_n(&self->over, __ATOMIC_SEQ_CST)) {
        int listener = __atomic_load_n(&self->listener, __ATOMIC_SEQ_CST);
        (void)cl_listener_watch(listener, self->epoll, TOLD);
        (void)cl_listener_unwatch(listener);
    }
    return NULL;
}

static void closed_under_its_feet(void) {
    pthread_t thread;
    watched_t shared;
    ZERO(shared);
    shared.epoll = new_epoll();
    shared.listener = OK(listen_flags("127.0.0.1:0", CL_LISTEN_NONBLOCK));
    CHECK_EQ(pthread_create(&thread, NULL, watch_on_and_on, &shared), 0);
    for (int i = 0; i < 150; i++) {
        OK(cl_close(shared.listener));
        int next = OK(listen_flags("127.0.0.1:0", CL_LISTEN_NONBLOCK));
        __atomic_store_n(&shared.listener, next, __ATOMIC_SEQ_CST);
        sched_yield();
    }
    __atomic_store_n(&shared.over, 1, __ATOMIC_SEQ_CST);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    OK(cl_close(shared.listener));
    CHECK_EQ(told_within(shared.epoll, 0), 0);
    close(shared.epoll);
}
static void closed_under_its_feet_in_rotation(void) {
    use_mechanism("rotation");
    run_in_worker(closed_under_its_feet, CL_SCHED_RR, 1);
}

static const check_case_t cases[] = {
    ROLE_CASES(tcp),
    {"in_rotation", in_rotation},
    ROLE_CASES(unix_path),
    {"unix_in_rotation", unix_in_rotation},
    ROLE_CASES(udp),
    ROLE_CASES(of_one_that_waits),
    {"waits_in_rotation", waits_in_rotation},
    {"closed_in_rotation", closed_in_rotation},
    {"closed_shared", closed_shared},
    {"closed_passed", closed_passed},
    {"no_herd_in_rotation", no_herd_in_rotation},
    {"no_herd_shared", no_herd_shared},
    {"closed_under_its_feet", closed_under_its_feet},
    {"closed_under_its_feet_in_rotation", closed_under_its_feet_in_rotation},
};
CHECK_MAIN(cases)
