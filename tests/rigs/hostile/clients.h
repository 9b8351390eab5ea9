/* The load: a process that makes connections, some at a time. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include "raw.h"

#ifndef RIG_CLIENTS
#define RIG_CLIENTS 4 /* at a time */
#endif
enum { CLIENTS = RIG_CLIENTS };
/* A client that waits for longer has been hung. */
#define HUNG_MS 5000

static inline long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

typedef struct {
    int fd;
    long long begun, next;
    int length;
    char text[64];
} client_t;

static inline void client_ends(client_t *client, int phase) {
    long long took = (now_us() - client->begun) / LATENCY_US;
    client->text[client->length] = '\0';
    if (client->length > 0 && client->text[0] >= '1' && client->text[0] <= '9') {
        static long long before;
        long long now = now_us();
        if (before != 0 && now - before > atomic_load(&book->gap_us)) atomic_store(&book->gap_us, now - before);
        before = now;
        atomic_fetch_add(&book->answered, 1);
        atomic_fetch_add(&book->latency[phase][took < LATENCIES ? took : LATENCIES - 1], 1);
    } else {
        atomic_fetch_add(&book->failed, 1);
    }
    close(client->fd);
    client->fd = -1;
}

static inline void client_begins(client_t *client) {
    struct sockaddr_in address = address4(atomic_load(&book->port));
    client->fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    client->begun = now_us();
    client->length = 0;
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS) return;
    atomic_fetch_add(&book->refused, 1);
    close(client->fd);
    client->fd = -1;
}

static inline void client_looks(client_t *client, int phase) {
    ssize_t n = recv(client->fd, client->text + client->length, sizeof client->text - 1 - (size_t)client->length, 0);
    if (n > 0) {
        client->length += (int)n;
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (client->length == 0 && getenv("HOSTILE_VERBOSE") != NULL)
        dprintf(2, "a client after %lld us: %s\n", now_us() - client->begun, n < 0 ? strerror(errno) : "end of file");
    client_ends(client, phase);
}

/* Some connections at a time, each answered by whoever got it, one after another with a pause. */
static inline void be_the_clients(void) {
    static client_t clients[CLIENTS];
    struct pollfd polled[CLIENTS];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < CLIENTS; i++) clients[i].fd = -1;
    while (!atomic_load(&book->stop)) {
        int phase = atomic_load(&book->phase);
        for (int i = 0; i < CLIENTS; i++) {
            client_t *one = &clients[i];
            if (one->fd < 0 && atomic_load(&book->port) > 0 && now_us() >= one->next) client_begins(one);
            if (one->fd >= 0 && now_us() - one->begun > HUNG_MS * 1000LL * check_slow()) {
                atomic_fetch_add(&book->hung, 1);
                close(one->fd);
                one->fd = -1;
            }
            polled[i].fd = one->fd;
            polled[i].events = POLLIN;
            polled[i].revents = 0;
        }
        (void)poll(polled, CLIENTS, 3);
        for (int i = 0; i < CLIENTS; i++) {
            if (polled[i].revents == 0) continue;
            client_looks(&clients[i], phase);
            if (clients[i].fd < 0) clients[i].next = now_us() + 3000;
        }
    }
    _exit(0);
}

#endif
