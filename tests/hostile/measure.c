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

/* The first is what the others are compared with: the machine is as busy with it as with them. */
static const char *const measured[] = {"computes", "small messages", "large messages", "loads", "pauses", "listens and closes",
                                       "into what nobody reads", "both sides full"};
enum { MEASURED = sizeof measured / sizeof measured[0], ROUNDS = 2, WARM_MS = 100, ROUND_MS = 900 };

/* The time within which 99 of 100 were answered, in us. */
static double p99(const unsigned *latency) {
    unsigned long all = 0, below = 0;
    for (int i = 0; i < LATENCIES; i++) all += latency[i];
    for (int i = 0; i < LATENCIES; i++)
        if ((below += latency[i]) * 100 >= all * 99) return (i + 1) * 50.0;
    return 0;
}

static void run_for(int ms) {
    for (long long end = now_ms() + ms; now_ms() < end;) rig_turn((int)(end - now_ms()));
}

static void floods(const char *mechanism) {
    static unsigned sums[MEASURED][LATENCIES];
    char text[128];
    double worst = 0;
    const char *worst_name = "";
    memset(sums, 1, sizeof sums);
    memset(sums, 0, sizeof sums);
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
            for (int k = 0; k < LATENCIES; k++) sums[i][k] += atomic_load(&book->latency[1][k]);
            (void)cl_worker_kill(id, SIGKILL);
            RIG_UNTIL(exits > 0, 3000);
        }
    long grown = peak_kb() - before;
    long unanswered = atomic_load(&book->failed) + atomic_load(&book->hung) + atomic_load(&book->refused);
    for (int i = 1; i < MEASURED; i++) {
        double more = (p99(sums[i]) / p99(sums[0]) - 1) * 100;
        printf("    %-24s p99 %6.0f us, a worker that computes %6.0f us: %+.0f %%\n", measured[i], p99(sums[i]), p99(sums[0]), more);
        if (i == 1 || more > worst) {
            worst = more;
            worst_name = measured[i];
        }
    }
    snprintf(text, sizeof text, "%+.0f %% (%s)", worst, worst_name);
    tell_result("siblings' p99 under the worst of 7 floods, against a worker that computes", text, "+20 %", worst <= 20);
    snprintf(text, sizeof text, "%ld of %ld", unanswered, atomic_load(&book->answered));
    tell_result("connections unanswered under floods", text, "0",
         unanswered == 0);
    snprintf(text, sizeof text, "%.1f ms of work, %.1f ms in all", (double)longest_work_us / 1000, (double)longest_turn_us / 1000);
    tell_result("the primary's longest turn under floods", text, "60 ms of work", longest_work_us <= 60000);
    snprintf(text, sizeof text, "+%ld kB, +%d", grown, most - descriptors);
    tell_result("the primary's memory and descriptors under floods", text, "+1,024 kB", grown <= 1024);
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
    const attack_t computing = {"computes", computes, LIVES, 0, 0};
    const char *name = getenv("HOSTILE_ATTACK");
    int floods = name != NULL && strcmp(name, "computes") != 0 && strcmp(name, "nothing") != 0;
    be_hostile(floods ? attack_called(name) : &computing, 1);
}

static const check_case_t cases[] = {{"none", measure_none}, {"passed", measure_passed}, {"kernel", measure_kernel}, {"_hostile", role}};

/* Not CHECK_MAIN: what it prints is the result. */
int main(int argc, char **argv) {
    int is_hostile = argc > 1 && argv[1][0] == '_';
    if (!is_hostile) own_network();
    SYS(setenv("HOSTILE_MS", "1200", 1));
    SYS(setenv("HOSTILE_APART", "1", 1));
    if (argc > 1 && argv[1][0] != '-')
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            if (strcmp(argv[1], cases[i].name) == 0) return run_here(&cases[i]);
    return 125;
}
