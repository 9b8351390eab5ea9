/* For tests that measure as well: the figure goes to the results of `make faults`, if it is that which runs them. */
#ifndef FIGURE_H
#define FIGURE_H

#include "primary.h"

/* What is compared: the mechanism that an address of TCP has under `policy`. */
static inline const char *contender_of(int policy) {
    if (policy == CL_SCHED_NONE) return "libcluster none";
    switch (expected_mechanism()) {
    case CL_MECHANISM_KERNEL: return "libcluster kernel";
    case CL_MECHANISM_ROTATION: return "libcluster rotation";
    default: return "libcluster passed";
    }
}

/* One line of JSON (tests/rigs/faults/README.md); met: 1, 0, or -1 where there is no goal. */
static inline void figure(const char *part, const char *row, const char *contender, const char *measured, const char *goal, int met) {
    static const char *const words[] = {"null", "false", "true"};
    const char *file = getenv("FAULTS_RESULTS");
    char line[1024];
    if (file == NULL) return;
    int n = snprintf(line, sizeof line,
                     "{\"part\":\"%s\",\"row\":\"%s\",\"contender\":\"%s\",\"measured\":\"%s\",\"goal\":\"%s\",\"met\":%s}\n", part, row,
                     contender, measured, goal, words[met + 1]);
    CHECK(n > 0 && n < (int)sizeof line);
    int fd = SYS(open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
    CHECK_EQ(write(fd, line, (size_t)n), n);
    close(fd);
}

#endif
