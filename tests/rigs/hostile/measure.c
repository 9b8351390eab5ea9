/* Figures of a primary with a hostile worker: what its siblings' clients notice of floods, beside a worker that only computes;
 * what the primary does and grows by meanwhile. One JSON object a
 * line goes to the file that FAULTS_RESULTS names. */
#define HOSTILE_WITHOUT_MAIN
#include "test_floods.c"

static void computes(void) {
    volatile unsigned number = 0;
    greet();
    ATTACK for (int i = 0; i < 10000; i++) number += (unsigned)i;
}

static void sleeps(void) { greet(); }

/* The first two are honest, and what the others are compared with: as busy as one may be, and idle. (A flood that is held back
 * leaves the processors idle, and to wake one of a virtual machine takes longer than to preempt what it computes.) */
static const char *const measured[] = {"computes", "sleeps", "small messages", "large messages", "loads", "pauses", "listens and closes",
                                       "into what nobody reads", "both sides full"};
enum { MEASURED = sizeof measured / sizeof measured[0], ROUNDS = 7, WARM_MS = 200, ROUND_MS = 900, HONEST = 2 };

/* The time within which 99 of 100 were answered, in us. */
static double p99(const unsigned *latency) {
    unsigned long all = 0, below = 0;
    for (int i = 0; i < LATENCIES; i++) all += latency[i];
    for (int i = 0; i < LATENCIES; i++)
        if ((below += latency[i]) * 100 >= all * 99) return (i + 1) * (double)LATENCY_US;
    return 0;
}

static int compare(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* Of a figure of each round. */
static double median(const double *figures) {
    double sorted[ROUNDS];
    memcpy(sorted, figures, sizeof sorted);
    qsort(sorted, ROUNDS, sizeof sorted[0], compare);
    return sorted[ROUNDS / 2];
}

static void run_for(int ms) {
    for (long long end = now_ms() + ms; now_ms() < end;) rig_turn((int)(end - now_ms()));
}

static void floods(const char *mechanism) {
    static unsigned latency[LATENCIES];
    double figures[ROUNDS][MEASURED], ratios[ROUNDS], column[ROUNDS];
    char text[128];
    double worst = 0;
    const char *worst_name = "";
    begin_rig(mechanism);
    int descriptors = count_descriptors(), most = 0;
    peak_kb();
    long before = peak_kb();
    longest_work_us = longest_turn_us = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < MEASURED; i++) {
            int id = start_hostile(measured[i]);
            run_for(WARM_MS);
            for (int k = 0; k < LATENCIES; k++) atomic_store(&book->latency[1][k], 0);
            atomic_store(&book->phase, 1);
            run_for(ROUND_MS);
            atomic_store(&book->phase, 0);
            if (count_descriptors() > most) most = count_descriptors();
            for (int k = 0; k < LATENCIES; k++) latency[k] = atomic_load(&book->latency[1][k]);
            figures[round][i] = p99(latency);
            (void)cl_worker_kill(id, SIGKILL);
            RIG_UNTIL(exits > 0, 3000);
        }
    long grown = peak_kb() - before;
    long unanswered = atomic_load(&book->failed) + atomic_load(&book->hung) + atomic_load(&book->refused);
    for (int i = 0; i < MEASURED; i++) {
        for (int round = 0; round < ROUNDS; round++) {
            double *of = figures[round];
            ratios[round] = of[i] / (of[0] > of[1] ? of[0] : of[1]);
            column[round] = of[i];
        }
        double more = (median(ratios) - 1) * 100;
        printf("    %-24s p99 %6.0f us: %+.0f %%\n", measured[i], median(column), more);
        if (i == HONEST || (i > HONEST && more > worst)) {
            worst = more;
            worst_name = measured[i];
        }
    }
    snprintf(text, sizeof text, "%+.0f %% (%s)", worst, worst_name);
    tell_result("siblings' p99 under the worst of 7 floods, against an honest worker", text, "+20 %", worst <= 20);
    snprintf(text, sizeof text, "%ld of %ld", unanswered, atomic_load(&book->answered));
    tell_result("connections unanswered under floods", text, "0",
         unanswered == 0);
    snprintf(text, sizeof text, "%.1f ms of work, %.1f ms in all", (double)longest_work_us / 1000, (double)longest_turn_us / 1000);
    tell_result("the primary's longest turn under floods", text, "60 ms of work", longest_work_us <= 60000);
    snprintf(text, sizeof text, "+%ld kB, +%d", grown, most - descriptors);
    /* A worker may have so many listeners, and messages of one turn be waiting for the program. */
    tell_result("the primary's memory and descriptors under floods", text, "+2,048 kB", grown <= 2048);
    end_rig();
    /* What is promised; the others are goals. */
    CHECK_EQ(unanswered, 0);
    CHECK_EQ(sibling_exits, 0);
}

static void measure_none(void) { floods("none"); }
static void measure_passed(void) { floods("passed"); }
static void measure_kernel(void) {
    if (!may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    floods("kernel");
}
static void role(void) {
    static const attack_t honest[HONEST] = {{"computes", computes, LIVES, 0, 0}, {"sleeps", sleeps, LIVES, 0, 0}};
    const char *name = getenv("HOSTILE_ATTACK");
    for (int i = 0; i < HONEST; i++)
        if (name != NULL && strcmp(name, honest[i].name) == 0) be_hostile(&honest[i], 1);
    be_hostile(name == NULL || strcmp(name, "nothing") == 0 ? honest : attack_called(name), 1);
}

static const check_case_t cases[] = {{"none", measure_none}, {"passed", measure_passed}, {"kernel", measure_kernel}, {"_hostile", role}};

/* Not CHECK_MAIN: what it prints is the result. */
int main(int argc, char **argv) {
    int is_hostile = argc > 1 && argv[1][0] == '_';
    if (!is_hostile) own_network();
    SYS(setenv("HOSTILE_MS", "1400", 1));
    SYS(setenv("HOSTILE_APART", "1", 1));
    if (argc > 1 && argv[1][0] != '-')
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            if (strcmp(argv[1], cases[i].name) == 0) return run_here(&cases[i]);
    return 125;
}
