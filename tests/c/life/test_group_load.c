/* A signal to everybody under load: who had connected is served, whichever of the processes heard it first. */
#include "primary.h"

enum { WORKERS = 3, CLIENTS = 4, STOPS = 12 };

static int policy = CL_SCHED_RR, ports[2];

static int serve_and_tell(void *unused) {
    (void)unused;
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener == -ESHUTDOWN) return 0;
    int port = bound_port(OK(listener));
    CHECK_EQ(write(ports[1], &port, sizeof port), sizeof port);
    return serve_listener(listener);
}

static pid_t start_cluster(void) {
    pid_t primary = SYS(fork());
    if (primary != 0) return primary;
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = policy;
    settings.stop_deadline_ms = 8000;
    SYS(setpgid(0, 0));
    OK(cl_setup_primary(&settings));
    _exit(cl_serve(WORKERS, serve_and_tell, NULL) == 0 ? 0 : 9);
}

static int next_port(void) {
    int port = 0;
    if (!readable_within(ports[0], 8000 * check_slow())) check_fail(__FILE__, __LINE__, "nobody listens");
    CHECK_EQ(read(ports[0], &port, sizeof port), sizeof port);
    return port;
}

/* One client after another until one is refused. Exits 0 if all others were served. */
static void be_clients(int port) {
    char text[96];
    for (int served = 0;; served++) {
        int client = try_connect4(port);
        if (client == -ECONNREFUSED) _exit(0);
        int n = client < 0 ? client : receive_all(client, text, sizeof text);
        if (n <= 0) {
            dprintf(2, "after %d: instead of an answer: %s\n", served, n < 0 ? strerror(-n) : "end of file");
            _exit(1);
        }
        close(client);
    }
}

/* The workers of a process, in no order. */
static int children_of(pid_t primary, pid_t *pids, int room) {
    char name[64], list[512];
    int count = 0;
    snprintf(name, sizeof name, "/proc/%d/task/%d/children", (int)primary, (int)primary);
    int fd = SYS(open(name, O_RDONLY | O_CLOEXEC));
    ssize_t n = SYS(read(fd, list, sizeof list - 1));
    close(fd);
    list[n] = '\0';
    for (char *pid = strtok(list, " "); pid != NULL && count < room; pid = strtok(NULL, " ")) pids[count++] = (pid_t)atoi(pid);
    return count;
}

enum { AT_ONCE, WORKERS_FIRST, PRIMARY_FIRST };

/* One by one is how systemd does it, which takes the main process first; a group's are signalled the newest first. */
static void signal_all(pid_t primary, int order) {
    pid_t workers[WORKERS];
    int count = order == AT_ONCE ? 0 : children_of(primary, workers, WORKERS);
    if (order == AT_ONCE) SYS(kill(-primary, SIGTERM));
    if (order == PRIMARY_FIRST) SYS(kill(primary, SIGTERM));
    for (int i = 0; i < count; i++) (void)kill(workers[i], SIGTERM);
    if (order == WORKERS_FIRST) SYS(kill(primary, SIGTERM));
}

static void under_load(int order) {
    SYS(pipe2(ports, O_CLOEXEC));
    for (int round = 0; round < STOPS; round++) {
        pid_t primary = start_cluster(), clients[CLIENTS];
        int port = next_port();
        for (int i = 1; i < WORKERS; i++) CHECK_EQ(next_port(), port);
        for (int i = 0; i < CLIENTS; i++)
            if ((clients[i] = SYS(fork())) == 0) be_clients(port);
        nap(5 + round);
        signal_all(primary, order);
        for (int i = 0; i < CLIENTS; i++) WAIT_SUCCESS(clients[i]);
        CHECK_EQ(wait_status(primary), 0);
    }
    close(ports[0]);
    close(ports[1]);
}

static void at_once(void) { under_load(AT_ONCE); }
static void at_once_passed(void) {
    use_mechanism("passed");
    under_load(AT_ONCE);
}
static void at_once_none(void) {
    policy = CL_SCHED_NONE;
    under_load(AT_ONCE);
}
static void workers_first(void) { under_load(WORKERS_FIRST); }
static void workers_first_passed(void) {
    use_mechanism("passed");
    under_load(WORKERS_FIRST);
}
static void workers_first_none(void) {
    policy = CL_SCHED_NONE;
    under_load(WORKERS_FIRST);
}
static void primary_first(void) { under_load(PRIMARY_FIRST); }

static const check_case_t cases[] = {
    {"at_once", at_once}, {"at_once_passed", at_once_passed}, {"at_once_none", at_once_none},
    {"workers_first", workers_first}, {"workers_first_passed", workers_first_passed},
    {"workers_first_none", workers_first_none}, {"primary_first", primary_first},
};
CHECK_MAIN(cases)
