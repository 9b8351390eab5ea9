/* Idle connections of a worker that leaves go to the others, unread, and their clients notice nothing. */
#include "keeping.h"
#include <sys/resource.h>

enum { CLIENTS = 40, WORKERS = 3 };

static int respawn = CL_RESPAWN_ALWAYS;

/* -- Its clients, in the primary's process ----------------------------------------------------------------------------- */

typedef struct {
    int slot, pid, code;
} answer_t;

static int clients[CLIENTS], worker_ids[WORKERS];

static void set_up(int mechanism, int policy, int spawned) {
    cl_settings_t settings;
    primary_ready(keep_serving);
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = policy;
    settings.mechanism = mechanism;
    settings.respawn = respawn;
    settings.stop_deadline_ms = 3000;
    int result = cl_setup_primary(&settings);
    if (result == -EPERM && mechanism == CL_MECHANISM_KERNEL) _exit(CHECK_SKIPPED);
    OK(result);
    for (int i = 0; i < WORKERS; i++) worker_ids[i] = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < WORKERS; i++) (void)await_listening(worker_ids[i], 1);
}

/* Where there may be so many, for this process and its workers. */
static void need_descriptors(rlim_t wanted) {
    struct rlimit limit;
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    if (limit.rlim_cur >= wanted) return;
    if (limit.rlim_max < wanted) _exit(CHECK_SKIPPED);
    limit.rlim_cur = wanted;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
}

static answer_t answer_of(int client) {
    char text[64];
    answer_t said;
    if (!pump_readable(client, CLIENT_LIMIT_MS)) check_fail(__FILE__, __LINE__, "no answer");
    int n = receive_line(client, text, sizeof text);
    if (n <= 0) check_fail(__FILE__, __LINE__, "the connection was closed");
    CHECK_EQ(sscanf(text, "%d %d %d", &said.slot, &said.pid, &said.code), 3);
    return said;
}

static answer_t ask_again(int client) {
    send_text(client, "ping\n");
    return answer_of(client);
}

static int port;

static void connect_all(int first_host) {
    port = seen[find_event(CL_EVENT_LISTENING, worker_ids[0], 0)].port;
    for (int i = 0; i < CLIENTS; i++) {
        struct sockaddr_in from = address4(0), to = address4(port);
        from.sin_addr.s_addr = htonl((unsigned)(first_host + (first_host > 0x7f000001 ? i : 0)));
        clients[i] = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        limit_waits(clients[i]);
        SYS(bind(clients[i], (struct sockaddr *)&from, sizeof from));
        SYS(connect(clients[i], (struct sockaddr *)&to, sizeof to));
        (void)ask_again(clients[i]);
    }
}

static void close_all(void) {
    for (int i = 0; i < CLIENTS; i++) close(clients[i]);
}

static int id_in_slot(int slot) {
    int ids[16], n = OK(cl_worker_ids(ids, 16));
    for (int i = n - 1; i >= 0; i--)
        if (slot_of(ids[i]) == slot) return ids[i];
    return -1;
}

/* Another takes its place, and it has ended. */
static void replace(int slot) {
    int old = id_in_slot(slot);
    OK(cl_worker_restart(old));
    CHECK_EQ(await_exit(old, 20000)->exit_code, 0);
}

/* -- Nobody notices ------------------------------------------------------------------------------------------------ */

static void unnoticed(int mechanism, int policy, int spawned) {
    if (spawned && worker_side()) exit(keep_serving());
    set_up(mechanism, policy, spawned);
    connect_all(0x7f000001);
    for (int slot = 0; slot < WORKERS; slot++) {
        int pid = pid_of(id_in_slot(slot)), asked = 0;
        OK(cl_worker_restart(id_in_slot(slot)));
        /* Also requests that come while it is replaced. */
        while (!gone_now(pid) || asked < 3) {
            for (int i = 0; i < CLIENTS; i++) (void)ask_again(clients[i]);
            asked++;
        }
        for (int i = 0; i < CLIENTS; i++) CHECK(ask_again(clients[i]).pid != pid);
    }
    close_all();
    finish();
}

static void unnoticed_passed(void) { unnoticed(CL_MECHANISM_PASSED, CL_SCHED_RR, 0); }
static void unnoticed_kernel(void) { unnoticed(CL_MECHANISM_KERNEL, CL_SCHED_RR, 0); }
static void unnoticed_rotation(void) { unnoticed(CL_MECHANISM_ROTATION, CL_SCHED_RR, 0); }
static void unnoticed_none(void) { unnoticed(CL_MECHANISM_AUTO, CL_SCHED_NONE, 0); }
static void unnoticed_least_loaded(void) { unnoticed(CL_MECHANISM_AUTO, CL_SCHED_LEAST_LOADED, 0); }
static void unnoticed_spawned(void) { unnoticed(CL_MECHANISM_AUTO, CL_SCHED_RR, 1); }

/* A request that was there before the connection changed hands is read by the one that gets it. */
static void unread_requests_go_along(void) {
    set_up(CL_MECHANISM_AUTO, CL_SCHED_RR, 0);
    connect_all(0x7f000001);
    int pid = pid_of(id_in_slot(0));
    SYS(kill(pid, SIGSTOP));
    for (int i = 0; i < CLIENTS; i++) send_text(clients[i], "ping\n");
    OK(cl_worker_restart(id_in_slot(0)));
    PUMP_UNTIL(count_events(CL_EVENT_LISTENING, 0) == WORKERS + 1, 5000);
    pump_for(600);
    SYS(kill(pid, SIGCONT));
    for (int i = 0; i < CLIENTS; i++) (void)answer_of(clients[i]);
    PUMP_UNTIL(gone_now(pid), 10000);
    for (int i = 0; i < CLIENTS; i++) CHECK(ask_again(clients[i]).pid != pid);
    close_all();
    finish();
}

/* Also where clients are told apart, for which slots count and not workers. */
static void each_client_keeps_its_slot(int mechanism) {
    int slots[CLIENTS], several = 0;
    set_up(mechanism, CL_SCHED_SOURCE_HASH, 0);
    connect_all(0x7f000101);
    for (int i = 0; i < CLIENTS; i++) {
        slots[i] = ask_again(clients[i]).slot;
        several |= slots[i] != slots[0];
    }
    CHECK(several);
    for (int slot = 0; slot < WORKERS; slot++) {
        replace(slot);
        for (int i = 0; i < CLIENTS; i++) CHECK_EQ(ask_again(clients[i]).slot, slots[i]);
    }
    close_all();
    finish();
}

static void each_client_keeps_its_slot_kernel(void) { each_client_keeps_its_slot(CL_MECHANISM_KERNEL); }
static void each_client_keeps_its_slot_passed(void) { each_client_keeps_its_slot(CL_MECHANISM_PASSED); }

/* A worker that leaves for good, without a successor. */
static void fewer_workers_have_them_all(void) {
    set_up(CL_MECHANISM_AUTO, CL_SCHED_RR, 0);
    connect_all(0x7f000001);
    OK(cl_scale(1));
    PUMP_UNTIL(count_events(CL_EVENT_EXIT, 0) == WORKERS - 1, 20000);
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(ask_again(clients[i]).slot, 0);
    close_all();
    finish();
}

/* -- Nobody is there ----------------------------------------------------------------------------------------------- */

static void the_last_one_keeps_its_own(void) {
    set_up(CL_MECHANISM_AUTO, CL_SCHED_RR, 0);
    connect_all(0x7f000001);
    OK(cl_stop(3000));
    /* Each closes what it has, as nobody takes anything. */
    for (int i = 0; i < CLIENTS; i++) {
        char end;
        CHECK(pump_readable(clients[i], CLIENT_LIMIT_MS));
        CHECK_EQ(recv(clients[i], &end, 1, 0), 0);
    }
    PUMP_UNTIL(cl_worker_ids(NULL, 0) == 0, 5000);
    close_all();
    finish();
}

/* The others stand still: the worker keeps what it has, serves it, and hands it back when they go on. */
static void nobody_has_room(void) {
    enum { MANY = 900 };
    static int many[MANY];
    int pids[2];
    need_descriptors(2 * MANY);
    respawn = CL_RESPAWN_NEVER;
    set_up(CL_MECHANISM_PASSED, CL_SCHED_RR, 0);
    port = seen[find_event(CL_EVENT_LISTENING, worker_ids[0], 0)].port;
    for (int i = 0; i < 2; i++) SYS(kill(pids[i] = pid_of(id_in_slot(i + 1)), SIGSTOP));
    for (int i = 0; i < MANY; i++) {
        many[i] = connect4(port);
        CHECK_EQ(ask_again(many[i]).slot, 0);
    }
    int old = id_in_slot(0);
    OK(cl_worker_disconnect(old));
    PUMP_UNTIL(ask_again(many[MANY - 1]).code == -EAGAIN, 5000);
    for (int i = 0; i < 2; i++) SYS(kill(pids[i], SIGCONT));
    CHECK_EQ(await_exit(old, 20000)->exit_code, 0);
    for (int i = 0; i < MANY; i++) CHECK(ask_again(many[i]).slot != 0);
    for (int i = 0; i < MANY; i++) close(many[i]);
    finish();
}

/* -- What is refused ----------------------------------------------------------------------------------------------- */

static void check_refused(int expected) {
    int listener = OK(listen_flags("127.0.0.1:0", 0)), other = OK(listen_flags("127.0.0.1:0", 0)), ends[2], pair[2];
    int client = connect4(bound_port(listener)), elsewhere = connect4(bound_port(other));
    int connection = OK(cl_accept(listener, NULL, NULL)), there = OK(cl_accept(other, NULL, NULL));
    int new_one = SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(pipe(ends));
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(cl_hand_back(listener, connection), expected);
    CHECK(strlen(cl_last_error()) > 0);
    CHECK_EQ(cl_hand_back(listener, ends[0]), -ENOTSOCK);
    CHECK_EQ(cl_hand_back(listener, new_one), -EINVAL);
    CHECK_EQ(cl_hand_back(listener, pair[0]), -EINVAL);
    CHECK_EQ(cl_hand_back(listener, there), -EINVAL);
    CHECK_EQ(cl_hand_back(listener, client), -EINVAL);
    CHECK_EQ(cl_hand_back(listener, -1), -EBADF);
    CHECK_EQ(cl_hand_back(listener, 9999), -EBADF);
    CHECK_EQ(cl_hand_back(connection, connection), -EBADF);
    /* Nothing was lost by that. */
    send_text(connection, "x");
    char text;
    CHECK_EQ(recv(client, &text, 1, 0), 1);
    int all[] = {client, elsewhere, connection, there, new_one, ends[0], ends[1], pair[0], pair[1]};
    for (int i = 0; i < (int)(sizeof all / sizeof all[0]); i++) close(all[i]);
    OK(cl_close(listener));
    CHECK_EQ(cl_hand_back(listener, 0), -EBADF);
    OK(cl_close(other));
}

static void what_is_refused(void) { check_refused(-EOPNOTSUPP); }
IN_WORKERS(what_is_refused)

static const check_case_t cases[] = {
    {"unnoticed_passed", unnoticed_passed},
    {"unnoticed_kernel", unnoticed_kernel},
    {"unnoticed_rotation", unnoticed_rotation},
    {"unnoticed_none", unnoticed_none},
    {"unnoticed_least_loaded", unnoticed_least_loaded},
    {"unnoticed_spawned", unnoticed_spawned},
    {"unread_requests_go_along", unread_requests_go_along},
    {"each_client_keeps_its_slot_kernel", each_client_keeps_its_slot_kernel},
    {"each_client_keeps_its_slot_passed", each_client_keeps_its_slot_passed},
    {"fewer_workers_have_them_all", fewer_workers_have_them_all},
    {"the_last_one_keeps_its_own", the_last_one_keeps_its_own},
    {"nobody_has_room", nobody_has_room},
    ROLE_CASES(what_is_refused),
};
CHECK_MAIN(cases)
