/* The mechanism kernel among strangers, and with workers that do to their listening socket what they should not. */
#include "kernel.h"
#include <linux/bpf.h>
#include <linux/filter.h>

#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

/* -- Strangers ------------------------------------------------------------------------------------------------------ */

/* A listening socket of the same user that wants to share a port; -errno where it may not. */
static int stranger(int port, int reuse) {
    struct sockaddr_in address = address4(port);
    int yes = 1, fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes));
    if (reuse) SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes));
    int result = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 100) == 0 ? fd : -errno;
    if (result < 0) close(fd);
    return result;
}

static void strangers(void) {
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(4, 0);
    int one = OK(stranger(crew.port, 1)), two = OK(stranger(crew.port, 1));
    CHECK_EQ(stranger(crew.port, 0), -EADDRINUSE);
    drive(&crew, 1000, 10, 4);
    expect_spread(&crew, 1);
    OK(cl_worker_kill(crew.ids[2], SIGKILL));
    await_exit(crew.ids[2], 3000);
    drive(&crew, 300, 1, 4);
    /* Nor when nobody else is there: it waits for the next worker. */
    for (int i = 0; i < 4; i++) (void)cl_worker_kill(crew.ids[i], SIGKILL);
    PUMP_UNTIL(cl_worker_ids(NULL, 0) == 0, 3000);
    int clients[32];
    for (int i = 0; i < 32; i++) clients[i] = connect4(crew.port);
    crew = hire(2, 0);
    for (int i = 0; i < 32; i++) note(&crew, answered_by(clients[i]));
    CHECK(accept(one, NULL, NULL) < 0 && errno == EAGAIN);
    CHECK(accept(two, NULL, NULL) < 0 && errno == EAGAIN);
    close(one);
    close(two);
    finish();
}

static int refused_listen(void) {
    CHECK_EQ(cl_listen(served_address, 0), -EADDRINUSE);
    CHECK(strlen(cl_last_error()) > 10);
    return 7;
}

static void expect_refusal(void) {
    snprintf(served_address, sizeof served_address, "127.0.0.1:%s", getenv("CHECK_PORT"));
    primary_ready(refused_listen);
    int id = fork_worker();
    CHECK_EQ(await_exit(id, 5000)->exit_code, 7);
    CHECK_EQ(count_events(CL_EVENT_LISTENING, 0), 0);
    finish();
}

/* Another cluster of the same user does not share the port by chance, whichever its mechanism. */
static void _second(void) {
    expect_refusal();
}

static void second_cluster(void) {
    char text[16];
    begin_kernel();
    primary_ready(serve_address);
    crew_t crew = hire(2, 0);
    snprintf(text, sizeof text, "%d", crew.port);
    SYS(setenv("CHECK_PORT", text, 1));
    WAIT_SUCCESS(start_role("_second", -1));
    SYS(setenv("CL_MECHANISM", "passed", 1));
    WAIT_SUCCESS(start_role("_second", -1));
    drive(&crew, 100, 1, 4);
    expect_spread(&crew, 0);
    finish();
}

/* Nor does it join what was there before. */
static void stranger_first(void) {
    char text[16];
    begin_kernel();
    int port = free_port(), one = OK(stranger(port, 1));
    snprintf(text, sizeof text, "%d", port);
    SYS(setenv("CHECK_PORT", text, 1));
    WAIT_SUCCESS(start_role("_second", -1));
    close(one);
}

/* -- Workers that misuse their socket ------------------------------------------------------------------------------- */

static int attach_filter(int fd, int option) {
    struct sock_filter first[] = {{BPF_RET | BPF_K, 0, 0, 0}};
    struct sock_fprog program;
    int number = 0;
    program.len = 1;
    program.filter = first;
    if (option == SO_ATTACH_REUSEPORT_CBPF) return setsockopt(fd, SOL_SOCKET, option, &program, sizeof program);
    if (option == SO_DETACH_REUSEPORT_BPF) return setsockopt(fd, SOL_SOCKET, option, &number, sizeof number);
    /* A program that lets every packet through, loaded by the worker itself. */
    static const struct bpf_insn pass[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, SK_PASS}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_SK_REUSEPORT;
    attributes.insns = (unsigned long)pass;
    attributes.insn_cnt = 2;
    attributes.license = (unsigned long)"MIT";
    number = (int)SYS(syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes));
    int result = setsockopt(fd, SOL_SOCKET, option, &number, sizeof number), kept = errno;
    close(number);
    errno = kept;
    return result;
}

static int obey(int port, const char *order) {
    int fd = tcp_descriptor(port, 0), off = 0;
    CHECK(fd >= 0);
    if (strcmp(order, "shutdown") == 0) return shutdown(fd, SHUT_RDWR);
    if (strcmp(order, "freeze") == 0) return shutdown(fd, SHUT_RDWR) | kill(getpid(), SIGSTOP);
    if (strcmp(order, "again") == 0) return shutdown(fd, SHUT_RD) == 0 ? listen(fd, 100) : -1;
    if (strcmp(order, "block") == 0) return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    if (strcmp(order, "unlock") == 0) return setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &off, sizeof off);
    if (strcmp(order, "detach") == 0) return attach_filter(fd, SO_DETACH_REUSEPORT_BPF);
    if (strcmp(order, "cbpf") == 0) return attach_filter(fd, SO_ATTACH_REUSEPORT_CBPF);
    if (strcmp(order, "ebpf") == 0) return attach_filter(fd, SO_ATTACH_REUSEPORT_EBPF);
    return -1;
}

/* Serves until it has an order, tells what came of it, and serves on. */
static int serve_and_obey(void) {
    int listener = OK(cl_listen(served_address, 0)), channel = OK(cl_channel_fd()), port = bound_port(listener);
    for (;;) {
        char text[32];
        int which = await_either(listener, channel);
        if ((which & 2) != 0) {
            int n = cl_receive(text, sizeof text - 1, 0);
            if (n > 0) {
                text[n] = '\0';
                int result = obey(port, text) == 0 ? 0 : errno;
                n = snprintf(text, sizeof text, "%d", result);
                OK(cl_send(text, (size_t)n));
            }
        }
        if ((which & 1) != 0) {
            int connection = cl_accept(listener, NULL, NULL);
            if (connection == -ESHUTDOWN) return 0;
            answer(OK(connection));
        }
    }
}

/* What came of it: 0 or an errno. */
static int order(int id, const char *text) {
    int before = count_events(CL_EVENT_MESSAGE, id);
    OK(cl_worker_send(id, text, strlen(text)));
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, id) > before, 3000);
    return atoi(seen[find_event(CL_EVENT_MESSAGE, id, before)].data);
}

/* Afterwards everybody is served and the primary sleeps; the slot's next worker has its turns as ever. */
static void expect_service(crew_t *crew, int at) {
    drive(crew, 300, 10, 4);
    expect_rest(200);
    (void)cl_worker_kill(crew->ids[at], SIGKILL);
    await_exit(crew->ids[at], 3000);
    crew->ids[at] = fork_worker();
    await_listening(crew->ids[at], 1);
    memset(crew->had, 0, sizeof crew->had);
    drive(crew, 120, 1, 4);
    expect_spread(crew, 1);
}

/* exact: it has changed nothing. */
static void obeys(const char *text, int wanted, int exact) {
    begin_kernel();
    primary_ready(serve_and_obey);
    crew_t crew = hire(3, 0);
    drive(&crew, 30, 1, 4);
    CHECK_EQ(order(crew.ids[1], text), wanted);
    if (exact) {
        drive(&crew, 300, 10, 4);
        expect_spread(&crew, 1);
    }
    expect_service(&crew, 1);
    finish();
}

static void shuts_down(void) { obeys("shutdown", 0, 0); }
static void shuts_down_and_listens(void) { obeys("again", 0, 0); }
static void attaches_classic(void) { obeys("cbpf", EPERM, 1); }
static void attaches_extended(void) { obeys("ebpf", EPERM, 1); }
static void unlocks(void) { obeys("unlock", EPERM, 1); }

/* Without the program connections are dealt out by chance, until the primary changes the turns for whatever reason and puts
 * it back. What waits for one that dies is still others'. */
static void detaches(void) {
    int clients[200];
    begin_kernel();
    primary_ready(serve_and_obey);
    crew_t crew = hire(3, 0);
    CHECK_EQ(order(crew.ids[1], "detach"), 0);
    drive(&crew, 120, 10, 4);
    pid_t pid = pid_of(crew.ids[0]);
    SYS(kill(pid, SIGSTOP));
    for (int i = 0; i < 200; i++) clients[i] = try_connect4(crew.port);
    SYS(kill(pid, SIGKILL));
    for (int i = 0; i < 200; i++) CHECK(clients[i] >= 0 && answered_by(clients[i]) != crew.ids[0]);
    await_exit(crew.ids[0], 3000);
    crew.ids[0] = fork_worker();
    await_listening(crew.ids[0], 1);
    memset(crew.had, 0, sizeof crew.had);
    drive(&crew, 300, 10, 4);
    expect_spread(&crew, 1);
    CHECK_EQ(order(crew.ids[1], "detach"), 0);
    expect_service(&crew, 1);
    finish();
}

/* The primary must not wait in accept, whatever the flags of the file that it has in common with a worker. */
static void blocks(void) {
    int clients[40];
    begin_kernel();
    primary_ready(serve_and_obey);
    crew_t crew = hire(2, 0);
    CHECK_EQ(order(crew.ids[0], "block"), 0);
    OK(cl_worker_kill(crew.ids[0], SIGSTOP));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 40; i++) clients[i] = connect4(crew.port);
        for (int i = 0; i < 40; i++) CHECK_EQ(answered_by(clients[i]), crew.ids[1]);
    }
    OK(cl_worker_kill(crew.ids[0], SIGCONT));
    pump_for(50);
    expect_service(&crew, 0);
    finish();
}

/* The letter of /proc/PID/stat. */
static int state_of(pid_t pid) {
    char name[64], text[512];
    snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
    int fd = SYS(open(name, O_RDONLY | O_CLOEXEC));
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL && end[1] != '\0' ? end[2] : 0;
}

/* Shut down, and then it stands still, or stays when it is asked to leave: the others do not notice. */
static void shut_down_and(int leaving) {
    begin_kernel();
    primary_ready(serve_and_obey);
    crew_t crew = hire(3, 0);
    pid_t pid = pid_of(crew.ids[0]);
    CHECK_EQ(order(crew.ids[0], "block"), 0);
    OK(cl_worker_send(crew.ids[0], "freeze", 6));
    PUMP_UNTIL(state_of(pid) == 'T', 3000);
    if (leaving) OK(cl_worker_disconnect(crew.ids[0]));
    drive(&crew, 300, 10, 4);
    CHECK_EQ(crew.had[0], 0);
    expect_rest(300);
    /* A socket that does not listen any more means to a worker that it is to leave. */
    OK(cl_worker_kill(crew.ids[0], SIGCONT));
    CHECK_EQ(await_exit(crew.ids[0], 3000)->signal, 0);
    drive(&crew, 60, 1, 4);
    expect_rest(200);
    finish();
}

static void shut_down_and_stopped(void) { shut_down_and(0); }
static void shut_down_and_leaving(void) { shut_down_and(1); }

static const check_case_t cases[] = {
    {"strangers", strangers},
    {"_second", _second},
    {"second_cluster", second_cluster},
    {"stranger_first", stranger_first},
    {"shuts_down", shuts_down},
    {"shuts_down_and_listens", shuts_down_and_listens},
    {"attaches_classic", attaches_classic},
    {"attaches_extended", attaches_extended},
    {"unlocks", unlocks},
    {"detaches", detaches},
    {"blocks", blocks},
    {"shut_down_and_stopped", shut_down_and_stopped},
    {"shut_down_and_leaving", shut_down_and_leaving},
};
CHECK_MAIN(cases)
