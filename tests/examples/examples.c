/* What each example promises in its first comment, checked with real processes and clients. */
#include "program.h"
#include "../c/load.h"

/* -- fork_server ------------------------------------------------------------------------------------------------ */

static int start_fork_server(program_t *server, int *pids) {
    int port = 0, id;
    *server = START(example("fork_server"), "127.0.0.1:0");
    expect_line(server, "[+]Server Socket is created.");
    sscanf(expect_line(server, "[+]Bind to port"), "[+]Bind to port %d", &port);
    expect_line(server, "[+]Listening....");
    for (int i = 0; i < 4; i++)
        CHECK_EQ(sscanf(expect_line(server, "[+]Worker"), "[+]Worker %d is ready, pid %d", &id, &pids[i]), 2);
    CHECK(port > 0);
    return port;
}

static void fork_server_as_before(void) {
    program_t server;
    int pids[4], port = start_fork_server(&server, pids);

    int fd = connect4(port);
    say(fd, "hello\n");
    say(fd, "the classic client sends no newline");
    say(fd, "one\ntwo\n\nthree\n");
    say(fd, "say :exit\n:exiting\n");
    send_text(fd, ":exit\n");
    expect_end(fd);

    fd = connect4(port); /* as the classic client says it, and waits */
    say(fd, "hello");
    send_text(fd, ":exit");
    expect_end(fd);

    fd = connect4(port); /* in pieces */
    send_text(fd, "he");
    nap(1);
    send_text(fd, "llo\r\n:ex");
    expect_bytes(fd, "hello\r\n");
    send_text(fd, "it\r\n");
    expect_end(fd);

    fd = connect4(port); /* the last words of a client that says no more are answered */
    send_text(fd, "good\nbye");
    SYS(shutdown(fd, SHUT_WR));
    expect_bytes(fd, "good\nbye");
    expect_end(fd);
    stop(&server);
}

static void fork_server_sends_all(void) {
    program_t server;
    int pids[4], port = start_fork_server(&server, pids);
    int fd = connect4(port);
    echo_much(fd, 16 << 20);
    close(fd);
    stop(&server);
}

static void fork_server_many_sessions(void) {
    enum { SESSIONS = 40 };
    program_t server;
    int fds[SESSIONS], pids[4], zombies, port = start_fork_server(&server, pids), open[4], threads[4];
    /* What a worker has open is known once it has answered: it may still be getting ready before. */
    for (int i = 0; i < 4; i++) say(fds[i] = connect4(port), "first of its worker\n");
    for (int i = 0; i < 4; i++) open[i] = descriptors_of(pids[i]) - 1, threads[i] = threads_of(pids[i]) - 1;
    int open_in_primary = descriptors_of(server.pid);

    for (int i = 4; i < SESSIONS; i++) fds[i] = connect4(port);
    for (int i = SESSIONS - 1; i >= 0; i--) say(fds[i], "still here\n");
    for (int i = 0; i < SESSIONS; i++) close(fds[i]); /* without :exit */
    for (int i = 0; i < SESSIONS; i++) expect_line(&server, "Disconnected from 127.0.0.1:");
    for (int i = 0; i < 4; i++) {
        /* A session that is over has no thread that could spin. */
        WAIT_UNTIL(threads_of(pids[i]) == threads[i], ANSWER_MS);
        WAIT_UNTIL(descriptors_of(pids[i]) == open[i], ANSWER_MS);
    }
    WAIT_UNTIL(descriptors_of(server.pid) == open_in_primary, ANSWER_MS);
    CHECK_EQ(children_of(server.pid, &zombies), 4);
    CHECK_EQ(zombies, 0);
    stop(&server);
}

static void fork_server_replaces(void) {
    program_t server;
    int pids[4], zombies, port = start_fork_server(&server, pids);
    int fd = connect4(port);
    say(fd, "hello\n");
    for (int i = 0; i < 4; i++) SYS(kill(pids[i], SIGKILL));
    char one;
    CHECK(recv(fd, &one, 1, 0) <= 0);
    close(fd);
    fd = connect4(port); /* waits for the first replacement */
    say(fd, "hello again\n");
    close(fd);
    for (int i = 0; i < 4; i++) expect_line(&server, "[+]Worker");
    CHECK_EQ(children_of(server.pid, &zombies), 4);
    CHECK_EQ(zombies, 0);
    stop(&server);
}

/* -- hello ------------------------------------------------------------------------------------------------------- */

static void hello_takes_turns(void) {
    char address[32], line[64];
    int port = free_port(), fd, answers[5] = {0};
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    program_t server = START(example("hello"), address);
    WAIT_UNTIL((fd = try_connect4(port)) >= 0, ANSWER_MS); /* it prints nothing that could be waited for */
    for (int seen = 0; seen < 4; fd = connect4(port)) {
        int id = 0;
        CHECK(receive_all(fd, line, sizeof line) > 0);
        CHECK_EQ(sscanf(line, "hello from worker %d\n", &id), 1);
        CHECK(id >= 1 && id <= 4);
        seen += answers[id]++ == 0;
        CHECK(answers[id] < 1000);
        close(fd);
    }
    close(fd);
    stop(&server);
}

/* -- http_hello -------------------------------------------------------------------------------------------------- */

static const char get[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/* The id of the worker that answers; its slot and pid. */
static int http_answer(int fd, int *slot, int *pid) {
    char text[512];
    int id = 0, length = receive_all(fd, text, sizeof text);
    close(fd);
    if (length <= 0) check_fail(__FILE__, __LINE__, "no answer: %s", length < 0 ? strerror(-length) : "end of file");
    CHECK(strncmp(text, "HTTP/1.1 200 OK\r\n", 17) == 0);
    const char *body = strstr(text, "\r\n\r\n"), *size = strstr(text, "Content-Length: ");
    CHECK(body != NULL && size != NULL);
    CHECK_EQ(strlen(body + 4), atoi(size + 16));
    CHECK_EQ(sscanf(body + 4, "hello from worker %d, slot %d, pid %d", &id, slot, pid), 3);
    return id;
}

static int http_get(int port, int *slot, int *pid) {
    int fd = connect4(port);
    send_text(fd, get);
    return http_answer(fd, slot, pid);
}

static void http_hello_takes_turns(void) {
    program_t server = START(example("http_hello"), "127.0.0.1:0", "4");
    int slot, pid, pids[4], served[4] = {0}, port = await_workers(&server, 4, pids);
    for (int seen = 0; seen < 4;) { /* even turns, and not exact ones; a busy machine has them wait for each other */
        CHECK(http_get(port, &slot, &pid) > 0);
        CHECK(slot >= 0 && slot < 4);
        seen += served[slot]++ == 0;
        CHECK(served[slot] < 1000);
    }
    stop(&server);
}

static void http_hello_slow_clients(void) {
    program_t server = START(example("http_hello"), "127.0.0.1:0", "2");
    int slot, pid, port = await_workers(&server, 2, NULL);
    int silent = connect4(port), pieces = connect4(port);
    for (const char *at = get; *at != '\0'; at++) {
        char one[2] = {*at, '\0'};
        send_text(pieces, one);
        nap(1);
    }
    http_answer(pieces, &slot, &pid);
    for (int i = 0; i < 10; i++) http_get(port, &slot, &pid);
    expect_end(silent); /* its worker has lost patience */
    stop(&server);
}

static void http_hello_replaces(void) {
    program_t server = START(example("http_hello"), "127.0.0.1:0", "2");
    int slot, pid, pids[2], killed_slot, port = await_workers(&server, 2, pids);
    int id = http_get(port, &killed_slot, &pid);
    SYS(kill(pid, SIGKILL));
    expect_line(&server, "ended: code -1, signal 9");
    int replacement = 0;
    CHECK_EQ(await_workers(&server, 1, &pid), port);
    CHECK_EQ(sscanf(server.line, "worker %d", &replacement), 1);
    CHECK_EQ(replacement, 3);
    for (int i = 0; i < 4; i++)
        if (http_get(port, &slot, &pid) == replacement) CHECK_EQ(slot, killed_slot);
        else CHECK(slot != killed_slot);
    CHECK(id != replacement);
    stop(&server);
}

/* -- echo_epoll -------------------------------------------------------------------------------------------------- */

static void echo_epoll_many_clients(void) {
    enum { CLIENTS = 200 };
    program_t server = START(example("echo_epoll"), "127.0.0.1:0", "1");
    int fds[CLIENTS], worker, port = await_workers(&server, 1, &worker);
    char text[32];
    say(fds[0] = connect4(port), "hello\n"); /* from here on the worker is ready, with one client */
    int open = descriptors_of(worker) - 1;
    for (int i = 1; i < CLIENTS; i++) fds[i] = connect4(port);
    for (int i = CLIENTS - 1; i >= 0; i--) {
        snprintf(text, sizeof text, "I am %d\n", i);
        say(fds[i], text);
    }
    CHECK_EQ(descriptors_of(worker), open + CLIENTS);
    for (int i = 0; i < CLIENTS; i++) close(fds[i]);
    WAIT_UNTIL(descriptors_of(worker) == open, ANSWER_MS);
    stop(&server);
}

static void echo_epoll_sends_all(void) {
    program_t server = START(example("echo_epoll"), "127.0.0.1:0", "1");
    int port = await_workers(&server, 1, NULL);
    int other = connect4(port), fd = connect4(port);
    echo_much(fd, 16 << 20);
    say(other, "nobody waits for the big one\n");
    close(fd);
    close(other);
    stop(&server);
}

static void echo_epoll_no_descriptors(void) {
    enum { CLIENTS = 60 };
    program_t server = START(example("echo_epoll"), "127.0.0.1:0", "1");
    int fds[CLIENTS], worker, port = await_workers(&server, 1, &worker);
    say(fds[0] = connect4(port), "hello\n");
    struct rlimit few = {(rlim_t)descriptors_of(worker) + 20, (rlim_t)descriptors_of(worker) + 20};
    SYS(prlimit(worker, RLIMIT_NOFILE, &few, NULL));
    for (int i = 0; i < CLIENTS; i++) {
        if (i > 0) fds[i] = connect4(port);
        send_text(fds[i], "hello\n");
    }
    /* Every one that leaves makes room for one that waits. */
    for (int i = 0; i < CLIENTS; i++) {
        expect_bytes(fds[i], "hello\n");
        close(fds[i]);
    }
    stop(&server);
}

static void echo_epoll_last_clients(void) {
    program_t server = START(example("echo_epoll"), "127.0.0.1:0", "1");
    int fd = connect4(await_workers(&server, 1, NULL));
    say(fd, "before\n");
    SYS(kill(server.pid, SIGTERM));
    for (int i = 0; i < 20; i++) say(fd, "and after\n");
    close(fd);
    CHECK_EQ(end_of(&server), 0);
    if (strstr(server.said, "ended: code 0, signal 0") == NULL) check_fail(__FILE__, __LINE__, "%s", server.said);
}

/* -- messages ---------------------------------------------------------------------------------------------------- */

/* Moves *at behind this text, which must come after it. */
static void in_order(const char **at, const char *text, int a, int b) {
    char wanted[80];
    snprintf(wanted, sizeof wanted, text, a, b, b * b);
    const char *found = strstr(*at, wanted);
    if (found == NULL) check_fail(__FILE__, __LINE__, "\"%s\" is not where it should be", wanted);
    *at = found + strlen(wanted);
}

static void messages_in_order(void) {
    program_t program = START(example("messages"));
    int code = end_of(&program);
    for (int id = 1; id <= 2; id++) {
        const char *at = program.said;
        in_order(&at, "worker %d: fork, pid ", id, 0);
        in_order(&at, "worker %d: online\n", id, 0);
        for (int task = 1; task <= 4; task++)
            in_order(&at, "worker %d: message, %d squared is %d\n", id, 10 * id + task);
        in_order(&at, "worker %d: disconnect\n", id, 0);
        in_order(&at, "worker %d: exit, code 0, signal 0\n", id, 0);
    }
    CHECK(strstr(program.said, "8 answers, all right\n") != NULL);
    CHECK_EQ(code, 0);
}

/* -- same_port --------------------------------------------------------------------------------------------------- */

static void same_port_one_socket(void) {
    program_t program = START(example("same_port"));
    int code = end_of(&program);
    const char *at = program.said;
    in_order(&at, ": bind: Address already in use\n", 0, 0);
    in_order(&at, "2. Two workers", 0, 0);
    for (int i = 0; i < 4; i++) in_order(&at, ": answered by worker ", 0, 0);
    in_order(&at, "listening sockets: 1;", 0, 0);
    in_order(&at, "primary  (pid ", 0, 0);
    in_order(&at, "): yes\n", 0, 0);
    in_order(&at, "worker 1 (pid ", 0, 0);
    in_order(&at, "): no\n", 0, 0);
    in_order(&at, "worker 2 (pid ", 0, 0);
    in_order(&at, "): no\n", 0, 0);
    CHECK(strstr(program.said, "answered by worker 1") != NULL);
    CHECK(strstr(program.said, "answered by worker 2") != NULL);
    CHECK_EQ(code, 0);
}

/* -- demo -------------------------------------------------------------------------------------------------------- */

static program_t start_demo(const char *server, const char *connections) {
    return START(example("demo"), server, connections);
}

static void demo_passes(void) {
    program_t demo = start_demo(example("http_hello"), "1200");
    int code = end_of(&demo);
    const char *at = demo.said;
    in_order(&at, "100 %%  made ", 0, 0);
    in_order(&at, "killed at connection ", 0, 0);
    in_order(&at, "took its place after ", 0, 0);
    in_order(&at, "demo: passed\n", 0, 0);
    CHECK_EQ(code, 0);
}

static void demo_holds(void) {
    int slot, pid, port = 0;
    setenv("HOLD", "1", 1);
    program_t demo = start_demo(example("http_hello"), "300");
    unsetenv("HOLD");
    sscanf(expect_line(&demo, "The server stays up: "), "The server stays up: http://127.0.0.1:%d/", &port);
    http_get(port, &slot, &pid);
    SYS(kill(demo.pid, SIGINT));
    CHECK_EQ(end_of(&demo), 0);
    CHECK(strstr(demo.said, "demo: passed\n") != NULL);
    CHECK_EQ(try_connect4(port), -ECONNREFUSED);
}

/* One line, which names what is wrong. */
static void demo_refuses(const char *server, const char *why) {
    program_t demo = start_demo(server, "300");
    CHECK_EQ(end_of(&demo), 1);
    CHECK(strncmp(demo.said, "demo: FAILED: ", 14) == 0);
    CHECK(strstr(demo.said, why) != NULL);
    CHECK(strchr(demo.said, '\n') == demo.said + strlen(demo.said) - 1);
}

static void write_script(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
    SYS(chmod(path, 0755));
}

static void demo_needs_a_server(void) {
    const char *path = case_path("server");
    if (getenv("CHECK_WRAP") == NULL) /* valgrind's posix_spawn does not tell that the program is not there */
        demo_refuses("/nonexistent/http_hello", "No such file or directory");
    write_script(path, "#!/bin/sh\n"
                       "echo 'http_hello: no luck today' >&2\n"
                       "echo 'worker 1 (pid 1) ended: code 3, signal 0'\n");
    demo_refuses(path, "http_hello: no luck today");
}

/* A server whose workers say that they listen where nobody does: the demo must not pass. */
static void demo_sees_losses(void) {
    const char *path = case_path("server");
    char text[512];
    snprintf(text, sizeof text,
             "#!/bin/sh\nfor i in 1 2 3 4; do echo \"worker $i (pid $$) listens on 127.0.0.1 port %d\"; done\n"
             "exec tail -f /dev/null\n", free_port());
    write_script(path, text);
    program_t demo = start_demo(path, "300");
    CHECK_EQ(end_of(&demo), 1);
    CHECK(strstr(demo.said, "connection 1: Connection refused") != NULL);
    CHECK(strstr(demo.said, "demo: FAILED: connections were lost") != NULL);
}

/* -- header_only ------------------------------------------------------------------------------------------------ */

/* "process P listens on A, port X, ROLE": the port, and in *id the worker's id, 0 for one that is none. */
static int await_header_only(program_t *server, int *pid, int *id) {
    int port = 0;
    *id = 0;
    expect_line(server, " listens on ");
    CHECK(sscanf(server->line, "process %d listens on 127.0.0.1:0, port %d, as worker %d", pid, &port, id) >= 2);
    CHECK(*id > 0 || strstr(server->line, ", alone") != NULL);
    return port;
}

static int header_only_get(int port, int *pid) {
    char text[512];
    int fd = connect4(port), id = 0;
    send_text(fd, get);
    CHECK(receive_all(fd, text, sizeof text) > 0);
    close(fd);
    const char *body = strstr(text, "\r\n\r\n");
    CHECK(body != NULL && sscanf(body + 4, "hello from process %d, as worker %d", pid, &id) >= 1);
    return id;
}

static void header_only_alone(void) {
    program_t server = START(example("header_only"), "127.0.0.1:0");
    int pid, id, port = await_header_only(&server, &pid, &id);
    for (int i = 0; i < 5; i++) CHECK_EQ(header_only_get(port, &id), 0);
    CHECK_EQ(id, pid);
    CHECK_EQ(pid, server.pid);
    SYS(kill(server.pid, SIGTERM));
    CHECK_EQ(end_of(&server), 128 + SIGTERM);
}

static void header_only_workers(void) {
    char library[PATH_MAX];
    snprintf(library, sizeof library, "%s/lib", getenv("EXAMPLES"));
    SYS(setenv("LD_LIBRARY_PATH", library, 1));
    program_t server = START(example("header_only"), "127.0.0.1:0", "3");
    unsetenv("LD_LIBRARY_PATH");
    int pid, id, port = 0, served[5] = {0}, pids[5] = {0};
    for (int i = 0; i < 3; i++) {
        int at = await_header_only(&server, &pid, &id);
        CHECK(id >= 1 && id <= 3 && (port == 0 || port == at));
        port = at;
        pids[id] = pid;
    }
    for (int seen = 0; seen < 3;) {
        id = header_only_get(port, &pid);
        CHECK(id >= 1 && id <= 3 && pids[id] == pid);
        seen += served[id]++ == 0;
        CHECK(served[id] < 1000);
    }
    SYS(kill(pids[2], SIGKILL));
    expect_line(&server, "worker 2 ended: code -1, signal 9");
    CHECK_EQ(await_header_only(&server, &pid, &id), port);
    CHECK_EQ(id, 4);
    stop(&server);
}

/* A file of that name which is no library: what the system may have installed elsewhere is then not looked for. */
static void header_only_without_library(void) {
    FILE *file = fopen(case_path("libcluster.so.0"), "w");
    CHECK(file != NULL && fputs("no library\n", file) >= 0 && fclose(file) == 0);
    SYS(setenv("LD_LIBRARY_PATH", getenv("CHECK_DIR"), 1));
    program_t server = START(example("header_only"), "127.0.0.1:0", "3");
    unsetenv("LD_LIBRARY_PATH");
    expect_line(&server, "libcluster.so.0");
    int pid, id, port = await_header_only(&server, &pid, &id);
    CHECK_EQ(header_only_get(port, &pid), 0);
    SYS(kill(server.pid, SIGTERM));
    CHECK_EQ(end_of(&server), 128 + SIGTERM);
}

/* -- reload ------------------------------------------------------------------------------------------------------ */

/* Puts a program where the server's is, at once and whole, as `mv` does. */
static void deploy(const char *program) {
    char line[3 * PATH_MAX];
    const char *next = case_path("next");
    snprintf(line, sizeof line, "cp %s %s", program, next);
    CHECK_EQ(system(line), 0);
    SYS(rename(next, case_path("server")));
}

/* The version that answers, and the worker's id. */
static int version_at(int port, int *id) {
    char text[96];
    int version = 0, fd = connect4(port);
    CHECK(receive_all(fd, text, sizeof text) > 0);
    close(fd);
    CHECK_EQ(sscanf(text, "version %d from worker %d", &version, id), 2);
    return version;
}

static program_t start_reload(int *port) {
    deploy(example("reload"));
    program_t server = START(case_path("server"), "127.0.0.1:0");
    *port = await_workers(&server, 4, NULL);
    return server;
}

static void reload_deploys(void) {
    int id, port, zombies;
    program_t server = start_reload(&port);
    CHECK_EQ(version_at(port, &id), 1);
    load_begin(port);
    deploy(example("reload2"));
    SYS(kill(server.pid, SIGHUP));
    expect_line(&server, "generation 2: checking");
    expect_line(&server, "generation 2: rolling");
    expect_line(&server, "generation 2: done");
    /* The old ones serve what waits for them, and leave. */
    WAIT_UNTIL(version_at(port, &id) == 2 && id > 4, ANSWER_MS);
    load_await(10);

    write_script(case_path("broken"), "#!/bin/sh\nexit 7\n");
    deploy(case_path("broken"));
    SYS(kill(server.pid, SIGHUP));
    expect_line(&server, "generation 3: refused: worker 9 exited with code 7");
    load_await(10);
    load_end();
    WAIT_UNTIL(children_of(server.pid, &zombies) == 4 && zombies == 0, ANSWER_MS);
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(version_at(port, &id), 2);
        CHECK(id >= 5 && id <= 8);
    }
    stop(&server);
}

static void reload_scales(void) {
    int port, zombies;
    program_t server = start_reload(&port);
    SYS(kill(server.pid, SIGTTIN));
    await_workers(&server, 1, NULL);
    CHECK_EQ(children_of(server.pid, &zombies), 5);
    SYS(kill(server.pid, SIGTTOU));
    WAIT_UNTIL(children_of(server.pid, &zombies) == 4 && zombies == 0, ANSWER_MS);
    stop(&server);
}

/* As systemd starts it: the socket is descriptor 3, and stays systemd's. */
static program_t start_on(int socket) {
    SYS(dup3(socket, 3, 0));
    setenv("LISTEN_FDS", "1", 1);
    program_t server = START(case_path("server"), "fd:3");
    unsetenv("LISTEN_FDS");
    close(3);
    await_workers(&server, 4, NULL);
    return server;
}

/* SIGTERM to the primary and each of its workers, as systemd sends it with KillMode=control-group. */
static void stop_group(program_t *server) {
    char path[64], list[1024] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", server->pid, server->pid);
    int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    SYS(read(fd, list, sizeof list - 1));
    close(fd);
    for (char *pid = strtok(list, " "); pid != NULL; pid = strtok(NULL, " ")) SYS(kill(atoi(pid), SIGTERM));
    stop(server);
}

static void reload_primary_replaced(void) {
    enum { FROM = 20, ROUNDS = 4 };
    int id, made = plain_listener(0), port = system_port(made), held = SYS(fcntl(made, F_DUPFD_CLOEXEC, FROM));
    close(made);
    load_begin(port);
    for (int round = 0; round < ROUNDS; round++) {
        deploy(example(round % 2 == 0 ? "reload" : "reload2"));
        program_t server = start_on(held);
        load_await(50);
        CHECK_EQ(version_at(port, &id), round % 2 + 1);
        (round % 2 == 0 ? stop : stop_group)(&server);
        WAIT_UNTIL(readable_within(held, 0), ANSWER_MS); /* nobody serves, and they wait */
    }
    program_t last = start_on(held);
    load_await(50);
    load_end();
    stop(&last);
    close(held);
}

/* -- All servers ------------------------------------------------------------------------------------------------- */

static void servers_port_taken(void) {
    static const char *const names[] = {"fork_server", "http_hello", "echo_epoll", "header_only"};
    char address[32];
    int taken = plain_listener(0);
    snprintf(address, sizeof address, "127.0.0.1:%d", system_port(taken));
    for (int i = 0; i < 4; i++) {
        program_t server = START(example(names[i]), address);
        CHECK_EQ(end_of(&server), i < 3 ? 1 : 3);
        if (strstr(server.said, "in use") == NULL) check_fail(__FILE__, __LINE__, "%s says: %s", names[i], server.said);
    }
    close(taken);
}

static const check_case_t cases[] = {
    {"fork_server_as_before", fork_server_as_before},
    {"fork_server_sends_all", fork_server_sends_all},
    {"fork_server_many_sessions", fork_server_many_sessions},
    {"fork_server_replaces", fork_server_replaces},
    {"hello_takes_turns", hello_takes_turns},
    {"http_hello_takes_turns", http_hello_takes_turns},
    {"http_hello_slow_clients", http_hello_slow_clients},
    {"http_hello_replaces", http_hello_replaces},
    {"echo_epoll_many_clients", echo_epoll_many_clients},
    {"echo_epoll_sends_all", echo_epoll_sends_all},
    {"echo_epoll_no_descriptors", echo_epoll_no_descriptors},
    {"echo_epoll_last_clients", echo_epoll_last_clients},
    {"messages_in_order", messages_in_order},
    {"same_port_one_socket", same_port_one_socket},
    {"header_only_alone", header_only_alone},
    {"header_only_workers", header_only_workers},
    {"header_only_without_library", header_only_without_library},
    {"demo_passes", demo_passes},
    {"demo_holds", demo_holds},
    {"demo_needs_a_server", demo_needs_a_server},
    {"demo_sees_losses", demo_sees_losses},
    {"reload_deploys", reload_deploys},
    {"reload_scales", reload_scales},
    {"reload_primary_replaced", reload_primary_replaced},
    {"servers_port_taken", servers_port_taken},
};

int main(int argc, char **argv) {
    size_t count = sizeof cases / sizeof cases[0];
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < count; i++) puts(cases[i].name);
        return 0;
    }
    return check_main(argc, argv, cases, count);
}
