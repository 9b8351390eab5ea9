/* Programs that remove the socket file before they listen, since a dead server may have left it: each worker removes what the one before
 * it has made, and clients find it all the same, or the primary's program is told that they do not. */
#include "primary.h"

static char place[PATH_MAX];
static unsigned flags;

static int remove_and_serve(void) {
    unlink(place);
    int listener = listen_flags(unix_address(place), flags);
    return listener == -ESHUTDOWN ? 0 : serve_listener(OK(listener));
}

/* How often the program was told that nobody can connect. */
static int told_of_it(void) {
    int count = 0;
    for (int i = 0; i < seen_count; i++)
        count += seen[i].type == CL_EVENT_WARNING && strstr(seen[i].data, "nobody can connect") != NULL;
    return count;
}

static void choose_place(int policy) {
    snprintf(place, sizeof place, "%s", case_path("socket"));
    use_policy(policy);
    primary_ready(remove_and_serve);
}

/* Both answer, in whatever order. */
static void both_answer(int one, int other) {
    int seen_by[2] = {0, 0};
    for (int i = 0; i < 8; i++) {
        int by = answered_by(OK(try_connect_unix(place)));
        CHECK(by == one || by == other);
        seen_by[by == other]++;
    }
    CHECK(seen_by[0] > 0 && seen_by[1] > 0);
}

static void removed_by_each(void) {
    use_exact_turns(); /* here workers do not have the socket itself */
    choose_place(CL_SCHED_RR);
    int first = fork_worker();
    await_listening(first, 1);
    CHECK_EQ(answered_by(OK(try_connect_unix(place))), first);
    int second = fork_worker();
    await_listening(second, 1);
    both_answer(first, second);
    /* A replacement does the same. */
    OK(cl_worker_kill(first, SIGKILL));
    await_exit(first, 3000);
    int third = fork_worker();
    await_listening(third, 1);
    both_answer(second, third);
    CHECK_EQ(told_of_it(), 0);
    finish();
    CHECK(access(place, F_OK) != 0);
}

static int serve_and_remove(void) {
    int listener = cl_listen(unix_address(place), 0);
    if (listener == -ESHUTDOWN) return 0;
    int code = serve_listener(OK(listener));
    unlink(place);
    return code;
}

/* One that leaves takes the file with it, while others serve: as in a reload. */
static void removed_at_the_end(void) {
    use_exact_turns();
    choose_place(CL_SCHED_RR);
    worker_main = serve_and_remove;
    int first = fork_worker();
    await_listening(first, 1);
    int second = fork_worker(), third = fork_worker();
    await_listening(second, 1);
    await_listening(third, 1);
    OK(cl_worker_disconnect(first));
    CHECK_EQ(await_exit(first, 3000)->exit_code, 0);
    both_answer(second, third);
    CHECK_EQ(told_of_it(), 0);
    finish();
}

/* What the first asker wanted is what the new socket is made with. */
static void as_before(void) {
    struct stat status;
    use_exact_turns();
    choose_place(CL_SCHED_RR);
    flags = CL_LISTEN_WRITABLE_ALL;
    int first = fork_worker();
    await_listening(first, 1);
    flags = 0;
    int second = fork_worker();
    await_listening(second, 1);
    SYS(stat(place, &status));
    CHECK_EQ(status.st_mode & 0222, 0222);
    both_answer(first, second);
    finish();
}

static int stopped_workers_main(void) {
    int listener = cl_listen(unix_address(place), 0);
    if (listener == -ESHUTDOWN) return 0;
    raise(SIGSTOP);
    return serve_listener(OK(listener));
}

/* Clients that wait in the old socket, and one that has come to nobody yet, are served. */
static void waiting_clients(void) {
    enum { CLIENTS = 40 };
    int clients[CLIENTS];
    use_exact_turns();
    choose_place(CL_SCHED_RR);
    worker_main = stopped_workers_main;
    int first = fork_worker();
    await_listening(first, 1);
    for (int i = 0; i < CLIENTS; i++) clients[i] = OK(try_connect_unix(place));
    worker_main = remove_and_serve;
    int second = fork_worker();
    await_listening(second, 1);
    CHECK_EQ(access(place, F_OK), 0);
    kill(pid_of(first), SIGCONT);
    for (int i = 0; i < CLIENTS; i++) {
        int by = answered_by(clients[i]);
        CHECK(by == first || by == second);
    }
    both_answer(first, second);
    finish();
}

/* The workers have the socket itself; the program is told. */
static void of_all(int policy) {
    choose_place(policy);
    int first = fork_worker();
    await_listening(first, 1);
    int second = fork_worker();
    await_listening(second, 1);
    PUMP_UNTIL(told_of_it() == 1, 3000);
    finish();
}

static void shared(void) { of_all(CL_SCHED_NONE); }

/* With these turns the address goes on with another socket, which the workers do not have. */
static void in_rotation(void) {
    use_mechanism("rotation");
    choose_place(CL_SCHED_RR);
    int first = fork_worker();
    await_listening(first, 1);
    CHECK_EQ(answered_by(OK(try_connect_unix(place))), first);
    int second = fork_worker();
    await_listening(second, 1);
    both_answer(first, second);
    CHECK_EQ(told_of_it(), 0);
    finish();
}

/* A file that another server has put there stays, and the program is told. */
static void anothers_file(void) {
    choose_place(CL_SCHED_RR);
    int first = fork_worker();
    await_listening(first, 1);
    SYS(unlink(place));
    struct sockaddr_un name = address_unix(place);
    int other = SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(bind(other, (struct sockaddr *)&name, sizeof name));
    SYS(listen(other, 4));
    worker_main = stopped_workers_main;
    int second = fork_worker();
    await_listening(second, 1);
    PUMP_UNTIL(told_of_it() == 1, 3000);
    kill(pid_of(second), SIGCONT);
    CHECK_EQ(access(place, F_OK), 0);
    close(OK(try_connect_unix(place)));
    CHECK(readable_within(other, 1000));
    finish();
    CHECK_EQ(access(place, F_OK), 0);
    close(other);
    unlink(place);
}

static const check_case_t cases[] = {
    {"removed_by_each", removed_by_each}, {"removed_at_the_end", removed_at_the_end}, {"as_before", as_before},
    {"waiting_clients", waiting_clients}, {"shared", shared},                         {"in_rotation", in_rotation},
    {"anothers_file", anothers_file},
};
CHECK_MAIN(cases)
