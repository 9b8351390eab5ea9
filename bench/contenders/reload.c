/*
 * How long a reload takes: reload MECHANISM POLICY WORKERS PARALLEL START_MS MIN_READY_MS, the numbers of cluster.h; each worker needs
 * START_MS before it listens. Prints the milliseconds from cl_reload to the outcome, or ends with 77 where it cannot do that here.
 */
#include <cluster.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { UNAVAILABLE = 77, TRIES_MS = 30000 };

static int start_ms, listening, outcome;

static long long now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static int work(void) {
    struct timespec start = {.tv_sec = start_ms / 1000, .tv_nsec = start_ms % 1000 * 1000000L};
    nanosleep(&start, NULL);
    int listener = cl_listen("127.0.0.1:0", 0);
    for (int fd; (fd = cl_accept(listener, NULL, NULL)) >= 0;) close(fd);
    return 0;
}

static void event(const cl_event_t *event, void *unused) {
    (void)unused;
    listening += event->type == CL_EVENT_LISTENING;
    if (event->type == CL_EVENT_RELOAD && event->phase >= CL_RELOAD_DONE) outcome = event->phase;
}

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, cl_last_error());
    exit(1);
}

/* Turns until something is so. A worker that a turn has made does not return. */
static void turn_until(const int *value, int wanted, const char *what) {
    for (long long end = now_us() + TRIES_MS * 1000LL; *value < wanted;) {
        if (cl_step(100) < 0 || now_us() > end) fail(what);
        if (cl_is_worker()) exit(work());
    }
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    int number[7];
    for (int i = 1; i < 7; i++) number[i] = atoi(argv[i]);
    cl_settings_t settings = {.size = sizeof settings, .mechanism = number[1], .policy = number[2], .stop_deadline_ms = 5000};
    cl_reload_options_t options = {.size = sizeof options, .parallel = number[4], .min_ready_ms = number[6]};
    start_ms = number[5];
    int code = cl_setup_primary(&settings);
    if (code == -EPERM || code == -EOPNOTSUPP) return UNAVAILABLE;
    if (code < 0 || cl_on_event(event, NULL) < 0) fail("cl_setup_primary");
    for (int i = 0; i < number[3]; i++) {
        int id = cl_fork();
        if (id == 0) return work();
        if (id < 0) fail("cl_fork");
    }
    turn_until(&listening, number[3], "the first workers");
    long long begin = now_us();
    if (cl_reload(&options) < 0) fail("cl_reload");
    turn_until(&outcome, 1, "the reload");
    long long took = now_us() - begin;
    if (outcome != CL_RELOAD_DONE) fail("the outcome");
    printf("%.1f\n", (double)took / 1000);
    fflush(stdout);
    cl_stop(5000);
    return cl_run() < 0;
}
