/* strace(1) with its fault injection, attached to a process for a while. */
#ifndef TRACE_H
#define TRACE_H

#include "subject.h"

typedef struct {
    pid_t strace;
    int words;     /* what it says itself */
    char log[64];  /* what the traced call did */
    long long since;
} trace_t;

/* Lets a system call fail in a process (and, where wanted, in those it makes), from when this returns. 0: strace could not. */
static inline int begin_trace(trace_t *trace, pid_t pid, int children_too, const char *call, const char *error, const char *when) {
    char inject[160], number[16], only[64], text[256];
    int ends[2];
    ZERO(*trace);
    snprintf(trace->log, sizeof trace->log, "/tmp/errno-%d-%d", (int)getpid(), (int)pid);
    snprintf(inject, sizeof inject, "inject=%s:error=%s:when=%s", call, error, when);
    snprintf(only, sizeof only, "trace=%s", call);
    snprintf(number, sizeof number, "%d", (int)pid);
    SYS(pipe2(ends, O_CLOEXEC));
    trace->strace = SYS(fork());
    if (trace->strace == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], 2);
        execlp("strace", "strace", "-e", "signal=none", "-e", only, "-e", inject, "-o", trace->log, "-p", number,
               children_too ? "-f" : (char *)NULL, (char *)NULL);
        _exit(126);
    }
    close(ends[1]);
    trace->words = ends[0];
    size_t length = 0;
    for (;;) {
        if (!readable_within(trace->words, 5000)) return 0;
        ssize_t n = read(trace->words, text + length, sizeof text - 1 - length);
        if (n <= 0) return 0;
        length += (size_t)n;
        text[length] = '\0';
        if (strstr(text, " attached") != NULL) break;
    }
    trace->since = now_ms();
    return 1;
}

/* Lines of the log so far that hold a text; all where that is NULL. */
static inline int count_calls(const trace_t *trace, const char *with) {
    char line[4096];
    int count = 0;
    FILE *file = fopen(trace->log, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        count += strstr(line, "resumed>") == NULL && (with == NULL || strstr(line, with) != NULL);
    if (file != NULL) fclose(file);
    return count;
}

/* From when this returns nothing fails any more. Returns how often something did. */
static inline int end_trace(trace_t *trace) {
    kill(trace->strace, SIGTERM);
    wait_status(trace->strace);
    close(trace->words);
    int injected = count_calls(trace, "(INJECTED)");
    unlink(trace->log);
    return injected;
}

#endif
