/*
 * Clients that keep their connections while all workers are replaced, several times: how many requests fail, and how many connections are
 * closed between two requests. Usage: kept passed|kernel|rotation|none REPLACEMENTS [closing]; "closing": workers that leave close what they have.
 */
#include "figure.h"
#include "keeping.h"

enum { CLIENTS_KEPT = 100, KEEPERS = 3, LONGEST_MS = 5000 };

typedef struct {
    int port, over, connects, answers, failed, closed;
} counts_t;
static counts_t *counts;

static int read_int(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
static void count_one(int *what) { __atomic_add_fetch(what, 1, __ATOMIC_SEQ_CST); }

typedef struct {
    int fd, is_waiting;
    long long due;
} kept_t;

static void open_one(kept_t *client) {
    client->fd = connect4(counts->port);
    client->is_waiting = 0;
    client->due = now_ms() + rand() % 55 + 5;
    count_one(&counts->connects);
}

static void lose(kept_t *client) {
    count_one(client->is_waiting ? &counts->failed : &counts->closed);
    close(client->fd);
    open_one(client);
}

/* Each asks 5 to 60 ms after its last answer, and repeats nothing. */
static void be_clients(void) {
    static kept_t clients[CLIENTS_KEPT];
    struct pollfd fds[CLIENTS_KEPT];
    for (int i = 0; i < CLIENTS_KEPT; i++) open_one(&clients[i]);
    while (!read_int(&counts->over)) {
        for (int i = 0; i < CLIENTS_KEPT; i++) {
            kept_t *client = &clients[i];
            if (!client->is_waiting && now_ms() >= client->due) {
                client->is_waiting = 1;
                client->due = now_ms() + LONGEST_MS;
                if (send(client->fd, "ping\n", 5, MSG_NOSIGNAL) != 5) lose(client);
            }
            if (client->is_waiting && now_ms() > client->due) lose(client);
            fds[i].fd = client->fd;
            fds[i].events = POLLIN;
            fds[i].revents = 0;
        }
        if (poll(fds, CLIENTS_KEPT, 3) < 0) continue;
        for (int i = 0; i < CLIENTS_KEPT; i++) {
            char text[64];
            if (fds[i].revents == 0) continue;
            ssize_t n = recv(clients[i].fd, text, sizeof text, MSG_DONTWAIT);
            if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (n <= 0 || !clients[i].is_waiting) {
                lose(&clients[i]);
                continue;
            }
            if (text[n - 1] != '\n') continue;
            count_one(&counts->answers);
            clients[i].is_waiting = 0;
            clients[i].due = now_ms() + rand() % 55 + 5;
        }
    }
    _exit(0);
}

static int all_new(int generation) {
    int ids[8], n = OK(cl_worker_ids(ids, 8));
    for (int i = 0; i < n; i++) {
        cl_worker_info_t info;
        ZERO(info);
        info.size = sizeof info;
        if (cl_worker_info(ids[i], &info) < 0 || info.generation != generation || info.state != CL_WORKER_LISTENING) return 0;
    }
    return n == KEEPERS;
}

int main(int argc, char **argv) {
    static const char *const names[] = {"", "passed", "kernel", "", "rotation"};
    if (argc < 3) return 2;
    int reloads = atoi(argv[2]) / KEEPERS, mechanism = 0;
    closes_all = argc > 3;
    for (int i = 1; i < 5; i++) if (strcmp(argv[1], names[i]) == 0) mechanism = i;
    counts = (counts_t *)mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(counts != MAP_FAILED);
    cl_settings_t settings;
    primary_ready(keep_serving);
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = mechanism == 0 ? CL_SCHED_NONE : CL_SCHED_RR;
    settings.mechanism = mechanism;
    settings.stop_deadline_ms = 5000;
    int result = cl_setup_primary(&settings);
    if (result == -EPERM && mechanism == CL_MECHANISM_KERNEL) return CHECK_SKIPPED;
    OK(result);
    int first = fork_worker();
    for (int i = 1; i < KEEPERS; i++) (void)fork_worker();
    counts->port = await_listening(first, 1);
    PUMP_UNTIL(all_new(1), 5000);
    pid_t client = SYS(fork());
    if (client == 0) be_clients();
    PUMP_UNTIL(read_int(&counts->answers) > 20 * CLIENTS_KEPT, 10000);
    for (int generation = 2; generation < 2 + reloads; generation++) {
        int answers = read_int(&counts->answers);
        CHECK_EQ(OK(cl_reload(NULL)), generation);
        PUMP_UNTIL(all_new(generation), 30000);
        PUMP_UNTIL(read_int(&counts->answers) > answers + 10 * CLIENTS_KEPT, 10000);
        seen_count = 0;
    }
    __atomic_store_n(&counts->over, 1, __ATOMIC_SEQ_CST);
    WAIT_SUCCESS(client);
    finish();
    char row[160], contender[64], text[96];
    /* Each connection has been with a worker that left, in each reload. */
    int moved = reloads * CLIENTS_KEPT;
    double stayed = 100.0 * (moved - counts->closed - counts->failed) / moved;
    snprintf(row, sizeof row, "%d clients that keep their connections, %d replacements in C%s: requests that failed, connections that were not closed",
             CLIENTS_KEPT, reloads * KEEPERS, closes_all ? ", closing at the end" : "");
    snprintf(contender, sizeof contender, "libcluster %s", argv[1]);
    snprintf(text, sizeof text, "%d of %d, %.1f %%", counts->failed, counts->answers + counts->failed, stayed);
    int met = counts->failed == 0 && stayed >= 99;
    printf("%s: %s: %s (%d closed, %d opened)\n", contender, row, text, counts->closed, counts->connects);
    figure("kept", row, contender, text, closes_all ? "" : "0, >= 99 %", closes_all ? -1 : met);
    return closes_all || met ? 0 : 1;
}
