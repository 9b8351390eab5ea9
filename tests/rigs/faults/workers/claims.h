/*
 * What the servers of the fault rig say of what they took, and what they answer: the layouts of tests/rigs/faults/README.md.
 */
#ifndef FAULTS_CLAIMS_H
#define FAULTS_CLAIMS_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { ACCEPTED = 1, READ = 2 };              /* kinds of claims */
enum { PLAIN = 0, HOLD = 1, KEEP = 2 };       /* the highest byte of an id */

struct claim {
    uint32_t kind, pid, worker, port;
    uint64_t time, id;
};

struct answer {
    uint64_t id;
    uint32_t worker, pid;
    uint64_t time;
    uint32_t last, unused;
};

_Static_assert(sizeof(struct claim) == 32 && sizeof(struct answer) == 32, "tests/rigs/faults/src reads and writes these");

static int claims_fd = -1;

static inline int option(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void open_claims(void) {
    const char *path = getenv("FAULTS_CLAIMS");
    claims_fd = path ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
}

/* One write: the kernel has it whole, whatever becomes of this process. Says whether it was written. */
static inline int claim(uint32_t kind, uint32_t worker, uint32_t port, uint64_t id) {
    struct claim record = {kind, (uint32_t)getpid(), worker, port, now_ns(), id};
    return write(claims_fd, &record, sizeof record) == (ssize_t)sizeof record;
}

#endif
