/*
 * What libcluster costs, as ratios from one interleaved run.
 *
 * build / run:  make bench        (or: bench/bench [rounds] [connections a round])
 *
 * Contenders: a single process that accepts and closes (the baseline); the least that passing connections on can cost (a
 * process that accepts and sends each to one of 4 others in turn, nothing else); and libcluster with 4 workers that
 * accept and close, with each mechanism. Every round runs each contender once, in an order that alternates. CPU is that of the server
 * alone, all its processes, from /proc/PID/schedstat; the client is this process.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <cluster.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 4, OUTSTANDING = 64, PROCESSES_MAX = 128, MORE_PORTS = 2 };

struct shared {
    int port;                           /* of the server that runs now; 0 until it listens */
    int more_ports[MORE_PORTS];         /* of a server whose workers do not accept yet */
    int listening;                      /* workers that listen */
    unsigned served[PROCESSES_MAX];     /* by slot */
    int stalled;                        /* workers do not accept while it is set */
};
static struct shared *shared;

static void fail(const char *what) {
    fprintf(stderr, "bench: %s: %s\n", what, errno ? strerror(errno) : cl_last_error());
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* -- Servers ------------------------------------------------------------------------------------------------------ */

static int raw_server(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    __atomic_store_n(&shared->listening, WORKERS, __ATOMIC_SEQ_CST);
    __atomic_store_n(&shared->port, ntohs(address.sin_port), __ATOMIC_SEQ_CST);
    for (int connection; (connection = accept4(listener, NULL, NULL, 0)) >= 0; close(connection)) shared->served[0]++;
    return 1;
}

/* Listens on more addresses, accepts nothing until it is told to, and then serves them all. */
static int wait_then_serve(int first, int slot) {
    struct pollfd polled[1 + MORE_PORTS] = {{first, POLLIN, 0}};
    for (int i = 0; i < MORE_PORTS; i++) {
        cl_listen_options_t options = {sizeof options, "127.0.0.1:0", 4096, CL_LISTEN_NONBLOCK, 0};
        struct sockaddr_in address;
        socklen_t length = sizeof address;
        polled[1 + i] = (struct pollfd){cl_listen_with(&options), POLLIN, 0};
        if (cl_getsockname(polled[1 + i].fd, (struct sockaddr *)&address, &length)) return 1;
        __atomic_store_n(&shared->more_ports[i], ntohs(address.sin_port), __ATOMIC_SEQ_CST);
    }
    __atomic_add_fetch(&shared->listening, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&shared->stalled, __ATOMIC_SEQ_CST)) poll(NULL, 0, 1);
    for (;;) {
        poll(polled, 1 + MORE_PORTS, -1);
        for (int i = 0; i <= MORE_PORTS; i++) {
            if (!polled[i].revents) continue;
            int connection = cl_accept(polled[i].fd, NULL, NULL);
            if (connection == -ESHUTDOWN) return 0;
            if (connection >= 0) shared->served[slot]++, close(connection);
        }
    }
}

static int worker(void *unused) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int listener = cl_listen("127.0.0.1:0", 4096), slot = cl_worker_slot();
    (void)unused;
    if (listener < 0 || cl_getsockname(listener, (struct sockaddr *)&address, &length)) return 1;
    __atomic_store_n(&shared->port, ntohs(address.sin_port), __ATOMIC_SEQ_CST);
    if (shared->stalled) return wait_then_serve(listener, slot);
    __atomic_add_fetch(&shared->listening, 1, __ATOMIC_SEQ_CST);
    for (int connection; (connection = cl_accept(listener, NULL, NULL)) >= 0; close(connection)) shared->served[slot]++;
    return 0;
}

/* Takes connections out of a socket pair and closes them. */
static void bare_worker(int mailbox, int slot) {
    __atomic_add_fetch(&shared->listening, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        char byte, control[CMSG_SPACE(sizeof(int))];
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_LEN(sizeof(int))};
        int connection;
        if (recvmsg(mailbox, &message, 0) <= 0) _exit(0);
        memcpy(&connection, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof connection);
        shared->served[slot]++;
        close(connection);
    }
}

static int bare_server(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), mailboxes[WORKERS], next = 0;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    for (int slot = 0; slot < WORKERS; slot++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) fail("socketpair");
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            bare_worker(pair[1], slot);
        }
        mailboxes[slot] = pair[0];
        close(pair[1]);
    }
    __atomic_store_n(&shared->port, ntohs(address.sin_port), __ATOMIC_SEQ_CST);
    for (int connection; (connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(connection)) {
        char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec part = {&byte, 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        *CMSG_FIRSTHDR(&message) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &connection, sizeof connection);
        if (sendmsg(mailboxes[next], &message, 0) < 0) fail("sendmsg");
        next = (next + 1) % WORKERS;
    }
    return 1;
}

struct contender {
    const char *name;
    int policy, workers;
};

enum { RAW = 0, BARE = -1 };    /* policies that are none of libcluster's */

static pid_t start(const struct contender *contender) {
    memset(shared->served, 0, sizeof shared->served);
    shared->port = shared->listening = 0;
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) {
        if (contender->policy == RAW) _exit(raw_server());
        if (contender->policy == BARE) _exit(bare_server());
        cl_settings_t settings = {.size = sizeof settings, .policy = contender->policy, .stop_deadline_ms = 2000};
        if (cl_setup_primary(&settings) < 0) _exit(1);
        _exit(cl_serve(contender->workers, worker, NULL) != 0);
    }
    int wanted = contender->policy ? contender->workers : WORKERS;
    for (double end = now() + 10; __atomic_load_n(&shared->listening, __ATOMIC_SEQ_CST) < wanted; poll(NULL, 0, 1))
        if (now() > end) fail("a server that starts");
    return pid;
}

static void stop(pid_t pid) {
    kill(pid, SIGTERM);
    if (waitpid(pid, NULL, 0) != pid) fail("waitpid");
}

/* -- What the kernel says of them ---------------------------------------------------------------------------------- */

static int family_of(pid_t pid, pid_t *pids) {
    char path[64];
    int count = 0;
    pids[count++] = pid;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    FILE *file = fopen(path, "r");
    for (int child; file && count < PROCESSES_MAX && fscanf(file, "%d", &child) == 1;) pids[count++] = child;
    if (file) fclose(file);
    return count;
}

static double cpu_of(pid_t pid) {
    char path[64];
    unsigned long long nanoseconds = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%llu", &nanoseconds) != 1) fail(path);
    fclose(file);
    return nanoseconds / 1e3;
}

static long private_kb(pid_t pid) {
    char path[64], line[128];
    long total = 0, value;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Private_Clean: %ld", &value) == 1 || sscanf(line, "Private_Dirty: %ld", &value) == 1)
            total += value;
    if (file) fclose(file);
    return total;
}

static int descriptors_of(pid_t pid) {
    char command[64];
    int count = 0;
    snprintf(command, sizeof command, "ls /proc/%d/fd | wc -l", pid);
    FILE *pipe = popen(command, "r");
    if (!pipe || fscanf(pipe, "%d", &count) != 1) fail(command);
    pclose(pipe);
    return count;
}

/* -- Client --------------------------------------------------------------------------------------------------------- */

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Closed by reset: no TIME_WAIT uses up the ports. */
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    return fd;
}

/* Waits until the server has closed, so that every connection counted was served. */
static void wait_closed(int fd) {
    char byte;
    if (recv(fd, &byte, 1, 0) != 0) fail("a connection that was not served");
    close(fd);
}

static void drive(int port, int connections, int outstanding) {
    int ring[OUTSTANDING];
    for (int i = 0; i < connections; i++) {
        if (i >= outstanding) wait_closed(ring[i % outstanding]);
        ring[i % outstanding] = connect_to(port);
    }
    for (int i = 0; i < outstanding && i < connections; i++) wait_closed(ring[i]);
}

/* -- Measures ------------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, int count, double q) {
    qsort(values, count, sizeof *values, compare);
    return values[(int)((count - 1) * q + 0.5)];
}

enum load {
    STEADY,     /* 64 outstanding: a server that is often idle, and pays for being woken */
    DRAIN       /* a queue built while the server was stopped: what it can do */
};

/* Batches that a backlog of 4096 holds, made while every process of the server is stopped. */
static void build_and_drain(const pid_t *pids, int count, int port, int connections) {
    static int fds[4000];
    enum { BATCH = sizeof fds / sizeof *fds };
    for (int left = connections; left > 0; left -= BATCH) {
        int batch = left < BATCH ? left : BATCH;
        for (int i = 0; i < count; i++) kill(pids[i], SIGSTOP);
        for (int i = 0; i < batch; i++) fds[i] = connect_to(port);
        for (int i = count; i-- > 0;) kill(pids[i], SIGCONT);
        for (int i = 0; i < batch; i++) wait_closed(fds[i]);
    }
}

/* Server CPU per connection in microseconds: all of it, and the primary's. */
static double measure(const struct contender *contender, enum load load, int connections, double *primary,
                      unsigned *spread) {
    pid_t pid = start(contender), pids[PROCESSES_MAX];
    int count = family_of(pid, pids);
    double before[PROCESSES_MAX], total = 0;
    drive(shared->port, 512, OUTSTANDING);
    unsigned first[PROCESSES_MAX];
    memcpy(first, shared->served, sizeof first);
    for (int i = 0; i < count; i++) before[i] = cpu_of(pids[i]);
    if (load == STEADY) drive(shared->port, connections, OUTSTANDING);
    else build_and_drain(pids, count, shared->port, connections);
    for (int i = 0; i < count; i++) {
        double used = cpu_of(pids[i]) - before[i];
        total += used;
        if (i == 0) *primary = used / connections;
    }
    unsigned least = ~0u, most = 0, sum = 0;
    for (int slot = 0; slot < contender->workers; slot++) {
        unsigned served = shared->served[slot] - first[slot];
        sum += served;
        if (served < least) least = served;
        if (served > most) most = served;
    }
    if (sum != (unsigned)connections) {
        fprintf(stderr, "bench: %s served %u of %d\n", contender->name, sum, connections);
        exit(1);
    }
    *spread = most - least;
    stop(pid);
    return total / connections;
}

static void compare_cpu(enum load load, int rounds, int connections) {
    static const struct contender contenders[] = {
        {"single accept loop", RAW, 1},
        {"bare hand-over, 4 workers", BARE, WORKERS},
        {"libcluster passed RR, 4 workers", CL_SCHED_RR, WORKERS},
        {"libcluster shared NONE, 4 workers", CL_SCHED_NONE, WORKERS},
    };
    enum { N = sizeof contenders / sizeof *contenders };
    double cpu[N][64], primary[N][64], ratio[64];
    unsigned spread[N][64], worst;
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < N; i++) {
            int which = round % 2 ? N - 1 - i : i;
            cpu[which][round] = measure(&contenders[which], load, connections, &primary[which][round], &spread[which][round]);
        }
    printf("server CPU per connection, %s; %d rounds of %d connections, medians [quartiles]\n",
           load == STEADY ? "64 outstanding" : "drain of a queue built while it was stopped", rounds, connections);
    for (int i = 0; i < N; i++) {
        worst = 0;
        for (int round = 0; round < rounds; round++) {
            ratio[round] = cpu[i][round] / cpu[0][round];
            if (spread[i][round] > worst) worst = spread[i][round];
        }
        double low = quantile(ratio, rounds, .25), middle = quantile(ratio, rounds, .5), high = quantile(ratio, rounds, .75);
        double median = 0, copy[64];
        memcpy(copy, cpu[i], sizeof copy);
        median = quantile(copy, rounds, .5);
        memcpy(copy, primary[i], sizeof copy);
        printf("  %-36s %5.2f us, primary %5.2f us, %.2f x the single loop [%.2f-%.2f], spread at most %u\n", contenders[i].name,
               median, quantile(copy, rounds, .5), middle, low, high, worst);
    }
}

/* With no more outstanding than one mailbox holds, none is ever full. */
static void spread_over(int connections) {
    const struct contender rr = {"passed RR", CL_SCHED_RR, WORKERS};
    pid_t pid = start(&rr);
    unsigned least = ~0u, most = 0;
    drive(shared->port, connections, 10);
    for (int slot = 0; slot < WORKERS; slot++) {
        if (shared->served[slot] < least) least = shared->served[slot];
        if (shared->served[slot] > most) most = shared->served[slot];
    }
    printf("spread between %d workers after %d connections, passed RR, 10 outstanding: %u\n", WORKERS, connections,
           most - least);
    stop(pid);
}

static void memory_and_waiting(void) {
    const struct contender rr = {"passed RR", CL_SCHED_RR, WORKERS};
    pid_t pids[PROCESSES_MAX], pid;
    shared->stalled = 1;
    pid = start(&rr);
    int count = family_of(pid, pids);
    long most = 0;
    for (int i = 1; i < count; i++)
        if (private_kb(pids[i]) > most) most = private_kb(pids[i]);
    int descriptors = descriptors_of(pid), waiting = 0;
    long before = private_kb(pid);
    /* One backlog holds at most net.core.somaxconn, usually 4096, so they come to three addresses. */
    enum { WAITING = 10000, PER_PORT = WAITING / (1 + MORE_PORTS) + 1 };
    static int fds[WAITING];
    for (; waiting < WAITING; waiting++)
        fds[waiting] = connect_to(waiting < PER_PORT ? shared->port : shared->more_ports[waiting / PER_PORT - 1]);
    printf("idle worker of cl_serve: %ld kB private memory\n", most);
    printf("%d connections waiting on %d addresses: primary has %d descriptors more, %ld kB more\n", waiting, 1 + MORE_PORTS,
           descriptors_of(pid) - descriptors, private_kb(pid) - before);
    __atomic_store_n(&shared->stalled, 0, __ATOMIC_SEQ_CST);
    for (int i = 0; i < waiting; i++) wait_closed(fds[i]);
    stop(pid);
}

static void start_many(int workers) {
    struct contender many = {"64 workers", CL_SCHED_RR, workers};
    double begin = now();
    pid_t pid = start(&many);
    printf("%d workers listen after %.0f ms\n", workers, (now() - begin) * 1e3);
    stop(pid);
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 9, connections = argc > 2 ? atoi(argv[2]) : 20000;
    if (rounds < 1 || rounds > 64 || connections < OUTSTANDING) {
        fprintf(stderr, "usage: bench [rounds, 1 to 64] [connections a round, at least %d]\n", OUTSTANDING);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) fail("mmap");
    compare_cpu(DRAIN, rounds, connections);
    compare_cpu(STEADY, rounds, connections);
    spread_over(100000);
    memory_and_waiting();
    start_many(64);
    return 0;
}
