/* Starting and stopping workers, in figures: what the C tests promise is looked at here for as long, and with as many, as a quick test
 * cannot. Run by long/35-processes.sh. */
#include "figure.h"

static const char *const part = "processes";

static int by_number(const void *one, const void *two) {
    double a = *(const double *)one, b = *(const double *)two;
    return (a > b) - (a < b);
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* -- A worker that ends at once --------------------------------------------------------------------------------------- */

enum { GOOD = 3, STORM_MS = 10000, EVERY_MS = 5, MOST_ASKED = 4 * STORM_MS / EVERY_MS };

static int slot_three_ends_at_once(void) { return cl_worker_slot() == GOOD ? 1 : serve_any_port(); }

/* Asks one after the other for so long; the 99th percentile of the time until the answer, in microseconds. */
static double ask_for(int port, int ms) {
    static double took[MOST_ASKED];
    int count = 0;
    for (long long end = now_ms() + ms; now_ms() < end && count < MOST_ASKED;) {
        double start = now_us();
        ask(port);
        took[count++] = now_us() - start;
        pump_for(EVERY_MS);
    }
    qsort(took, (size_t)count, sizeof took[0], by_number);
    return took[count - 1 - count / 100];
}

static double seconds(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

static void restarts(void) {
    struct rusage before, after;
    cl_settings_t settings;
    char text[64];
    ZERO(settings);
    settings.size = sizeof settings;
    settings.respawn = CL_RESPAWN_ALWAYS;
    primary_ready(slot_three_ends_at_once);
    OK(cl_setup_primary(&settings));
    int port = 0;
    for (int i = 0; i < GOOD; i++) port = await_listening(fork_worker(), 1);
    double calm = ask_for(port, 4000);
    getrusage(RUSAGE_SELF, &before);
    long long begin = now_ms();
    fork_worker();
    double storm = ask_for(port, STORM_MS);
    long long took = now_ms() - begin;
    getrusage(RUSAGE_SELF, &after);
    int starts = count_events(CL_EVENT_FORK, 0) - GOOD;
    double cpu = seconds(after.ru_utime) + seconds(after.ru_stime) - seconds(before.ru_utime) - seconds(before.ru_stime);
    snprintf(text, sizeof text, "%d", starts);
    figure(part, "starts in 10 s of a worker that ends at once", contender_of(CL_SCHED_RR), text, "<= 8", starts <= 8);
    snprintf(text, sizeof text, "%.1f %%", cpu * 1e5 / (double)took);
    figure(part, "CPU of the primary and of its clients, one after the other, meanwhile", contender_of(CL_SCHED_RR), text, "<= 5 %", cpu * 20 <= (double)took / 1e3);
    snprintf(text, sizeof text, "%.0f us, calm %.0f us", storm, calm);
    figure(part, "p99 of the other workers' clients meanwhile", contender_of(CL_SCHED_RR), text, "", -1);
    if (starts < 4 || starts > 8) check_fail(__FILE__, __LINE__, "%d starts", starts);
    finish();
}

/* -- Workers that do not stop ----------------------------------------------------------------------------------------- */

enum { STUBBORN = 100, DEADLINE_MS = 500, ESCALATION_MS = 2000 };

static int ignores_everything(void) {
    signal(SIGTERM, SIG_IGN);
    OK(cl_send("ready", 5));
    for (;;) nap(1000);
    return 0;
}

/* After the last step, SIGKILL, each is gone and told within a tenth of a second. */
static void stubborn(void) {
    char text[64];
    int in_time = 0;
    long long last = 0;
    primary_ready(ignores_everything);
    for (int i = 0; i < STUBBORN; i++) fork_worker();
    PUMP_UNTIL(count_events(CL_EVENT_MESSAGE, 0) == STUBBORN, 20000);
    long long begin = now_ms();
    OK(cl_stop(DEADLINE_MS));
    while (count_events(CL_EVENT_EXIT, 0) < STUBBORN) {
        turn(5);
        long long late = now_ms() - begin - DEADLINE_MS - ESCALATION_MS;
        int gone = count_events(CL_EVENT_EXIT, 0);
        if (late < 0) CHECK_EQ(gone, 0);
        if (late <= 100) in_time = gone;
        if (gone == STUBBORN) last = late;
        if (late > 5000) check_fail(__FILE__, __LINE__, "%d of %d are gone", gone, STUBBORN);
    }
    for (int i = 0; i < STUBBORN; i++) CHECK_EQ(seen[find_event(CL_EVENT_EXIT, 0, i)].signal, SIGKILL);
    snprintf(text, sizeof text, "%d of %d, the last after %lld ms", in_time, STUBBORN, last);
    figure(part, "gone within 100 ms of SIGKILL, of workers that ignore the rest", contender_of(CL_SCHED_RR), text, "100 of 100", in_time == STUBBORN);
    CHECK_EQ(cl_run(), 0);
    finish();
}

static const check_case_t cases[] = {{"restarts", restarts}, {"stubborn", stubborn}};
CHECK_MAIN(cases)
