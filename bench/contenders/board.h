/*
 * What the servers of the benchmark share with the program that measures them: one page of counters and wishes, mapped from the
 * file that BENCH_BOARD names. bench/src/board.rs reads and writes it by offset.
 *
 * Options are words name=value: workers, addresses (how many ports each worker listens on), answer (1: a byte is sent before a
 * connection is closed, so that a client can tell service from the end of the process), epoll (1: an event loop also for one
 * address), http (1: the workers of handlers.h). A server that cannot do what it is asked for writes why and ends with UNAVAILABLE; the benchmark goes on without it.
 */
#ifndef BENCH_BOARD_H
#define BENCH_BOARD_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 256, ADDRESSES = 256, BACKLOG = 4096, UNAVAILABLE = 77 };

struct slot {
    uint64_t served;
    uint64_t unused[7];             /* a cache line each, so that workers do not slow each other down */
};

struct board {
    uint32_t listening;             /* workers that listen on everything they will */
    uint32_t mechanism;             /* libcluster's word for what it uses */
    uint32_t hold;                  /* workers accept nothing while it is set */
    uint32_t busy;                  /* 1: whoever serves next is to compute for a while; it takes the wish away */
    uint32_t busy_ms;
    uint32_t unused[3];
    char error[480];
    uint32_t ports[ADDRESSES];
    struct slot slots[SLOTS];
};
_Static_assert(offsetof(struct board, error) == 32 && offsetof(struct board, ports) == 512 &&
               offsetof(struct board, slots) == 1536 && sizeof(struct slot) == 64, "bench/src/board.rs knows these");

static struct board *board;
static int workers, addresses, answer, event_loop, http;

static inline int option(int argc, char **argv, const char *name, int otherwise) {
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (!strncmp(argv[i], name, length) && argv[i][length] == '=') return atoi(argv[i] + length + 1);
    return otherwise;
}

__attribute__((noreturn)) static inline void fail_as(int code, const char *what, const char *why) {
    if (board && !board->error[0]) snprintf(board->error, sizeof board->error, "%s: %s", what, why);
    _exit(code);
}

__attribute__((noreturn)) static inline void fail(const char *what) { fail_as(1, what, strerror(errno)); }

static inline void begin(int argc, char **argv) {
    const char *path = getenv("BENCH_BOARD");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        fprintf(stderr, "%s is started by the benchmark, see bench/README.md\n", argv[0]);
        exit(2);
    }
    board = (struct board *)mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (board == MAP_FAILED) {
        board = NULL;
        exit(2);
    }
    close(fd);
    workers = option(argc, argv, "workers", 4);
    addresses = option(argc, argv, "addresses", 1);
    answer = option(argc, argv, "answer", 0);
    event_loop = option(argc, argv, "epoll", 0) || addresses > 1;
    http = option(argc, argv, "http", 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* The worker listens on everything; it accepts once the benchmark lets it. */
static inline void listening(void) {
    __atomic_add_fetch(&board->listening, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&board->hold, __ATOMIC_SEQ_CST)) poll(NULL, 0, 1);
}

static inline void compute(int milliseconds) {
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < milliseconds);
}

/* Called with no connection in hand: what is asked is who else has to wait. */
static inline void compute_if_wanted(void) {
    if (__builtin_expect(__atomic_load_n(&board->busy, __ATOMIC_RELAXED) != 0, 0) &&
        __atomic_exchange_n(&board->busy, 0, __ATOMIC_SEQ_CST))
        compute((int)board->busy_ms);
}

/* What every server does with a connection. */
static inline void serve(int connection, int slot) {
    if (answer) send(connection, "x", 1, MSG_NOSIGNAL);
    board->slots[slot].served++;
    close(connection);
    compute_if_wanted();
}

#endif
