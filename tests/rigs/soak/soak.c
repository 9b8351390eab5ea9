/* Many connections and many replacements of workers, and what is left of them in the primary: descriptors, zombies, memory.
 *
 *     soak passed|kernel|rotation CONNECTIONS REPLACEMENTS
 *
 * Four workers, two of them forked and two spawned, are replaced two at a time: one is killed, the other asked to leave. Meanwhile four
 * clients ask without a pause. Prints a line "what|measured|goal|met" for each figure. */
#include "../../c/primary.h"
#include <malloc.h>

enum { CLIENTS = 4, WORKERS = 4, WARM_UP = 200 };

typedef struct {
    int port, paused, resting[CLIENTS], over;
    long long answered, cut, reset, hung, refused;
} shared_t;
static shared_t *shared;

static int get(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
static void put(int *to, int value) { __atomic_store_n(to, value, __ATOMIC_SEQ_CST); }
static long long count_of(long long *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }

/* One connection after another. It is ended by a reset, so that no port is kept from the next for a minute. */
static void be_client(int number) {
    struct linger at_once = {1, 0};
    struct timeval limit = {2 * check_slow(), 0};
    while (!get(&shared->over)) {
        if (get(&shared->paused) || get(&shared->port) == 0) {
            put(&shared->resting[number], 1);
            nap(1);
            continue;
        }
        put(&shared->resting[number], 0);
        struct sockaddr_in address = address4(get(&shared->port));
        char byte;
        int fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        SYS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
        SYS(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
        /* Who dies with a connection in its hand ends it in order, as it has received nothing. So a reset says that nobody had taken
         * it; connect(2) itself may be the one to find it. */
        ssize_t n = connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ? -1 : recv(fd, &byte, 1, 0);
        long long *outcome = n == 1 ? &shared->answered : n == 0 ? &shared->cut : errno == EAGAIN ? &shared->hung
                             : errno == ECONNRESET ? &shared->reset : &shared->refused;
        __atomic_add_fetch(outcome, 1, __ATOMIC_SEQ_CST);
        close(fd);
    }
    _exit(0);
}

static int serve_byte(void) {
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener == -ESHUTDOWN) return 0;
    OK(listener);
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection < 0) break;
        (void)!send(connection, "x", 1, MSG_NOSIGNAL);
        close(connection);
    }
    OK(cl_close(listener));
    return 0;
}

/* What is there of the primary. */
typedef struct {
    int descriptors, zombies;
    long resident, heap;
} measure_t;

static int count_zombies(void) {
    int count = 0;
    char list[4096], name[64];
    snprintf(name, sizeof name, "/proc/self/task/%d/children", (int)getpid());
    int fd = SYS(open(name, O_RDONLY | O_CLOEXEC));
    ssize_t n = read(fd, list, sizeof list - 1);
    close(fd);
    list[n > 0 ? n : 0] = '\0';
    for (char *pid = strtok(list, " "); pid != NULL; pid = strtok(NULL, " ")) count += gone_now((pid_t)atoi(pid));
    return count;
}

static long resident_kb(void) {
    char text[4096], *line;
    int fd = SYS(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    line = strstr(text, "VmRSS:");
    return line != NULL ? atol(line + 6) : -1;
}

static int ids[WORKERS];

static int all_listen(void) {
    if (OK(cl_worker_ids(ids, WORKERS)) != WORKERS) return 0;
    for (int i = 0; i < WORKERS; i++) {
        cl_worker_info_t info;
        ZERO(info);
        info.size = sizeof info;
        if (cl_worker_info(ids[i], &info) != 0 || info.state != CL_WORKER_LISTENING) return 0;
    }
    return 1;
}

/* As many as there are to be, half of them made in each way: what the primary keeps of a program is larger, and would count as growth. */
static void refill(const cl_spawn_options_t *options) {
    static int spawned[WORKERS / 2];
    for (int have = OK(cl_worker_ids(NULL, 0)); have < WORKERS; have++) {
        cl_worker_info_t info;
        int *gone = NULL;
        for (int i = 0; i < WORKERS / 2; i++) {
            ZERO(info);
            info.size = sizeof info;
            if (spawned[i] == 0 || cl_worker_info(spawned[i], &info) < 0) gone = &spawned[i];
        }
        if (gone == NULL) fork_worker();
        else *gone = OK(cl_spawn(options));
    }
}

/* Who was killed, and who was asked to leave. */
static int leaving[2];

/* A killed worker counts as listening until its end is seen, which may be after the other's successor listens. */
static int both_left(void) {
    cl_worker_info_t info;
    for (int i = 0; i < 2; i++) {
        ZERO(info);
        info.size = sizeof info;
        if (cl_worker_info(leaving[i], &info) == 0) return 0;
    }
    return 1;
}

/* With all workers there and nothing under way. */
static measure_t measure(const cl_spawn_options_t *options) {
    measure_t now;
    int resting = 0;
    PUMP_UNTIL(both_left() && (refill(options), all_listen()), 20000);
    put(&shared->paused, 1);
    while (resting != CLIENTS) {
        resting = 0;
        for (int i = 0; i < CLIENTS; i++) resting += get(&shared->resting[i]);
        turn(5);
    }
    pump_for(200);
    CHECK(all_listen());
    now.descriptors = count_descriptors();
    now.zombies = count_zombies();
    now.resident = resident_kb();
    now.heap = (long)mallinfo2().uordblks;
    put(&shared->paused, 0);
    return now;
}

static int figure(const char *mechanism, const char *what, const char *measured, const char *goal, int met) {
    printf("%s|%s|%s|%s|%s\n", mechanism, what, measured, goal, met ? "met" : "missed");
    return !met;
}

int main(int argc, char **argv) {
    cl_settings_t settings;
    char what[200], measured[200];
    if (argc == 2 && strcmp(argv[1], "worker") == 0) return cl_is_worker() == 1 ? serve_byte() : 5;
    if (argc != 4) {
        fprintf(stderr, "usage: %s passed|kernel|rotation CONNECTIONS REPLACEMENTS\n", argv[0]);
        return 2;
    }
    long long connections = atoll(argv[2]), replaced = 0, replacements = atoll(argv[3]), kills = 0;
    own_network();
    shared = (shared_t *)mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    pid_t clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = SYS(fork());
        if (clients[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            be_client(i);
        }
    }
    ZERO(settings);
    settings.size = sizeof settings;
    settings.mechanism = strcmp(argv[1], "kernel") == 0     ? CL_MECHANISM_KERNEL
                         : strcmp(argv[1], "rotation") == 0 ? CL_MECHANISM_ROTATION
                                                            : CL_MECHANISM_PASSED;
    /* The program replaces them: the library would start eight in a second. */
    settings.respawn = CL_RESPAWN_NEVER;
    OK(cl_on_event(remember_event, NULL));
    int result = cl_setup_primary(&settings);
    if (result == -EPERM && settings.mechanism == CL_MECHANISM_KERNEL) {
        put(&shared->over, 1);
        for (int i = 0; i < CLIENTS; i++) wait_status(clients[i]);
        return CHECK_SKIPPED;
    }
    OK(result);
    int at_start = count_descriptors();
    cl_spawn_options_t options;
    char *arguments[] = {(char *)(uintptr_t)check_self(), (char *)(uintptr_t) "worker", NULL};
    ZERO(options);
    options.size = sizeof options;
    options.file = check_self();
    options.argv = arguments;
    worker_main = serve_byte;
    refill(&options);
    PUMP_UNTIL(all_listen(), 10000);
    put(&shared->port, seen[find_event(CL_EVENT_LISTENING, 0, 0)].port);
    measure_t first;
    ZERO(first);
    while (replaced < replacements + WARM_UP || count_of(&shared->answered) < connections) {
        seen_count = 0;
        turn(replaced < replacements + WARM_UP ? 1 : 50);
        refill(&options);
        if (replaced >= replacements + WARM_UP || !all_listen()) continue;
        /* Each slot has its turn at both. */
        leaving[0] = ids[kills % WORKERS];
        leaving[1] = ids[(kills + 1 + kills / WORKERS % (WORKERS - 1)) % WORKERS];
        OK(cl_worker_kill(leaving[0], SIGKILL));
        OK(cl_worker_disconnect(leaving[1]));
        kills++;
        replaced += 2;
        if (first.descriptors == 0 && replaced >= WARM_UP) first = measure(&options);
    }
    measure_t last = measure(&options);
    put(&shared->over, 1);
    for (int i = 0; i < CLIENTS; i++) CHECK_EQ(wait_status(clients[i]), 0);
    OK(cl_stop(5000));
    CHECK_EQ(cl_run(), 0);
    CHECK(no_child_left());
    int missed = 0;
    const char *name = argv[1];
    snprintf(what, sizeof what, "descriptors of the primary after %lld connections and %lld replacements", count_of(&shared->answered), replaced - WARM_UP);
    snprintf(measured, sizeof measured, "%+d", last.descriptors - first.descriptors);
    missed += figure(name, what, measured, "+0", last.descriptors == first.descriptors);
    snprintf(measured, sizeof measured, "%d", last.zombies);
    missed += figure(name, "zombies then", measured, "0", last.zombies == 0 && first.zombies == 0);
    snprintf(measured, sizeof measured, "%+ld kB", last.resident - first.resident);
    missed += figure(name, "resident memory of the primary then", measured, "within 1024 kB", labs(last.resident - first.resident) <= 1024);
    /* A few bytes for each worker that was would be more than that. */
    long allowed = 2048 + (long)(replaced - WARM_UP);
    snprintf(what, sizeof what, "growth of the heap over %lld replacements", replaced - WARM_UP);
    snprintf(measured, sizeof measured, "%+ld bytes", last.heap - first.heap);
    char goal[64];
    snprintf(goal, sizeof goal, "+%ld bytes at most", allowed);
    missed += figure(name, what, measured, goal, last.heap - first.heap <= allowed);
    snprintf(what, sizeof what, "clients that hung over 2 s, were refused; were cut off in %lld kills", kills);
    snprintf(measured, sizeof measured, "%lld, %lld; %lld", shared->hung, shared->refused, shared->cut);
    missed += figure(name, what, measured, "0, 0; one for each kill at most", shared->hung == 0 && shared->refused == 0 && shared->cut <= kills);
    snprintf(what, sizeof what, "connections reset that nobody had taken, at %lld replacements", replaced);
    snprintf(measured, sizeof measured, "%lld", shared->reset);
    missed += figure(name, what, measured, "0", shared->reset == 0);
    /* Whatever was made ready for the kernel's addresses is given back with the stop. */
    snprintf(measured, sizeof measured, "%+d", count_descriptors() - at_start);
    missed += figure(name, "descriptors of the primary after the stop", measured, "+0 at most", count_descriptors() <= at_start);
    return missed != 0;
}
