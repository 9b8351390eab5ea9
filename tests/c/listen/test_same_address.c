/* One address, asked for twice: in one worker an error, in two a share, and a failed bind is nobody's for long. */
#include "primary.h"

static void twice_in_one(void) {
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%d", free_port());
    int listener = OK(cl_listen(address, 0));
    CHECK_EQ(cl_listen(address, 0), -EADDRINUSE);
    CHECK_EQ(cl_listen(address, 0), -EADDRINUSE);
    CHECK(strstr(cl_last_error(), address) != NULL);
    /* For a fixed port the index says nothing. */
    CHECK_EQ(listen_index(address, 3), -EADDRINUSE);
    int client = connect4(bound_port(listener));
    answer(OK(cl_accept(listener, NULL, NULL)));
    close(client);
    OK(cl_close(listener));
    listener = OK(cl_listen(address, 0));
    OK(cl_close(listener));
}
IN_WORKERS(twice_in_one)

static void twice_unix(void) {
    char address[PATH_MAX];
    snprintf(address, sizeof address, "unix:%s", case_path("twice"));
    int listener = OK(cl_listen(address, 0));
    CHECK_EQ(cl_listen(address, 0), -EADDRINUSE);
    int client = try_connect_unix(case_path("twice"));
    CHECK(client >= 0);
    send_text(client, "here\n");
    /* Whoever asked whether anybody lives here may have left a connection that is gone again. */
    char text[16];
    do {
        int connection = OK(cl_accept(listener, NULL, NULL));
        if (receive_line(connection, text, sizeof text) < 0) text[0] = '\0';
        close(connection);
    } while (strcmp(text, "here") != 0);
    close(client);
    OK(cl_close(listener));
}
IN_WORKERS(twice_unix)

static int occupant = -1;

/* Tries whenever it is told to and reports what came of it; the listener of a success is kept and served. */
static int try_when_told(void) {
    char text[128];
    if (occupant >= 0) close(occupant); /* a forked worker has a copy */
    for (;;) {
        int n = cl_receive(text, sizeof text - 1, -1);
        if (n == -ESHUTDOWN) return 0;
        text[OK(n)] = '\0';
        int listener = cl_listen(text, 0);
        n = snprintf(text, sizeof text, "%d", listener < 0 ? listener : bound_port(listener));
        OK(cl_send(text, (size_t)n));
        if (listener >= 0) return serve_listener(listener);
    }
}

static int asked_before[16];

static int tell(int id, const char *address) {
    OK(cl_worker_send(id, address, strlen(address)));
    int n = asked_before[id % 16]++;
    PUMP_UNTIL(find_event(CL_EVENT_MESSAGE, id, n) >= 0, 5000);
    return atoi(seen[find_event(CL_EVENT_MESSAGE, id, n)].data);
}

/* A port somebody else has: each asker is told, nothing is remembered, the next try may succeed. */
static void occupied(int spawned) {
    char address[64];
    use_exact_turns();
    occupant = plain_listener(0);
    int port = system_port(occupant);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    primary_ready(try_when_told);
    int one = spawned ? spawn_worker() : fork_worker(), two = spawned ? spawn_worker() : fork_worker();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(tell(one, address), -EADDRINUSE);
        CHECK_EQ(tell(two, address), -EADDRINUSE);
    }
    CHECK_EQ(tell(one, "192.0.2.7:1"), -EADDRNOTAVAIL);
    CHECK_EQ(count_events(CL_EVENT_LISTENING, 0), 0);
    /* The refusals left no descriptor: two channels and their company is all there is, and stays so. */
    int before = count_descriptors();
    for (int i = 0; i < 20; i++) CHECK_EQ(tell(two, address), -EADDRINUSE);
    CHECK_EQ(count_descriptors(), before);
    close(occupant);
    check_baseline--;
    CHECK_EQ(tell(one, address), port);
    CHECK_EQ(tell(two, address), port);
    int first = ask(port), second = ask(port);
    CHECK(first != second);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
    finish();
}

static void occupied_forked(void) { occupied(0); }
static void occupied_spawned(void) {
    if (worker_side()) try_when_told();
    else occupied(1);
}

/* A worker without privileges is not the one that binds; where the primary may not either, both are told why. */
static void privileged(void) {
    if (under_valgrind()) check_skip("valgrind's own files are closed to the other user");
    use_mechanism("auto");
    primary_ready(try_when_told);
    if (geteuid() == 0 && (setegid(65534) != 0 || seteuid(65534) != 0)) check_skip("cannot give up root for a moment");
    int limit = 1024;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    if (file == NULL || fscanf(file, "%d", &limit) != 1) limit = 1024;
    if (file != NULL) fclose(file);
    int id = fork_worker();
    if (limit > 1) {
        CHECK_EQ(tell(id, "127.0.0.1:1"), -EACCES);
    }
    CHECK(tell(id, "127.0.0.1:0") > 0);
    finish();
    if (getuid() == 0) SYS(seteuid(0));
}

static const check_case_t cases[] = {
    ROLE_CASES(twice_in_one), ROLE_CASES(twice_unix),      {"occupied_forked", occupied_forked},
    {"occupied_spawned", occupied_spawned}, {"privileged", privileged},
};
CHECK_MAIN(cases)
