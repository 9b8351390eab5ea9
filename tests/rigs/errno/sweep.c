/* The errno sweep: every system call of the library fails in every plausible way, at the first, the tenth, each tenth time
 * and each time for a while, in the primary, in a worker, and while a worker is born; under load. Afterwards everything must be as before.
 *
 *   sweep SUBJECT fork|spawn passed|kernel|rotation|none [quick|whole] [CALL]
 *
 * While something fails no client is lost and nobody spins. Afterwards all are served, in turns where the policy says so, and
 * no descriptor and no process is left. strace makes everything slow, so no time is asserted beyond "not hung". */
#include "cases.h"
#include "figures.h"
#include "trace.h"

enum { WORKERS = 2 };
enum { CLIENT_MS = 4000, IDLE_MS = 50, IDLE_CALLS = 50, WHILE_MS = 150, MOST_PER_SECOND = 1000 };

typedef struct {
    const char *program, *made_by, *way;
    int whole;
    const char *only;
    cluster_t cluster;
    int running, descriptors[2]; /* of the primary, of a worker */
    int cases, reached, failed;
} sweep_t;

static void begin(sweep_t *sweep) {
    sweep->cluster = start_cluster(sweep->program, sweep->made_by, WORKERS, sweep->way, 0);
    if (strcmp(sweep->way, "kernel") == 0 && sweep->cluster.mechanism != CL_MECHANISM_KERNEL) {
        printf("skip %s: this process may not use bpf(2)\n", sweep->way);
        exit(CHECK_SKIPPED);
    }
    sweep->running = 1;
    /* What is opened on first use is open then. */
    tally_t first = drive(&sweep->cluster, "pppplmlmlmlm", 1, CLIENT_MS);
    if (!is_whole(&first) || first.code != 0) check_fail(__FILE__, __LINE__, "the subject does not serve: %d", first.code);
    /* The last connection may be about to be closed. */
    sweep->descriptors[0] = sweep->descriptors[1] = INT_MAX;
    for (int look = 0; look < 10; look++) {
        int primary = descriptors_of(sweep->cluster.primary), worker = descriptors_of(sweep->cluster.workers[0]);
        if (primary < sweep->descriptors[0]) sweep->descriptors[0] = primary;
        if (worker < sweep->descriptors[1]) sweep->descriptors[1] = worker;
        nap(5);
    }
}

static void end(sweep_t *sweep, int in_order) {
    int code = end_cluster(&sweep->cluster, in_order);
    sweep->running = 0;
    if (in_order && code != 0) {
        printf("FAIL %s %s: the primary ended with %d\n", sweep->way, sweep->made_by, code);
        sweep->failed++;
    }
}

static int replaced(cluster_t *cluster, int ends) { return complete(cluster) && cluster->ends >= ends; }

static const char *as_before(sweep_t *sweep) {
    cluster_t *cluster = &sweep->cluster;
    if (gone_now(cluster->primary)) return "the primary is gone";
    if (!WITHIN(complete(cluster), 4000)) return "a worker was not replaced";
    int even = 0;
    for (int tries = 0; tries < 40 && !even; tries++) {
        tally_t all = drive(cluster, "pppp", 4, CLIENT_MS);
        if (!is_whole(&all)) return "a client is lost after the end of it";
        even = strcmp(sweep->way, "none") == 0 || is_even(cluster, 8);
        if (!even) nap(20);
    }
    if (!even) return "the workers do not take turns any more";
    tally_t rest = drive(cluster, "lm", 1, CLIENT_MS);
    if (!is_whole(&rest) || rest.code != 0) return "a listen or a message fails after the end of it";
    if (!WITHIN(descriptors_of(cluster->primary) == sweep->descriptors[0], 3000)) return "the primary's descriptors differ";
    for (int i = 0; i < WORKERS; i++)
        if (!WITHIN(descriptors_of(cluster->workers[i]) == sweep->descriptors[1], 3000)) return "a worker's descriptors differ";
    if (!WITHIN(children_of(cluster->primary) == WORKERS, 3000)) return "the primary has other children than its workers";
    return NULL;
}

/* The load while it fails: what is wrong, if anything. */
static const char *disturb(sweep_t *sweep, int where, const char *error, trace_t *trace) {
    cluster_t *cluster = &sweep->cluster;
    int ends = cluster->ends, code = 0;
    for (int round = 0; round < (sweep->whole ? 3 : 1); round++) {
        tally_t all = drive(cluster, "pppppppppppp", TOGETHER, CLIENT_MS);
        if (!is_whole(&all)) return all.hung ? "a client hangs" : all.broken ? "a client was cut off" : "a client was refused";
        all = drive(cluster, "lmlm", 2, CLIENT_MS);
        if (!is_whole(&all)) return all.hung ? "a listen or a message hangs" : "a listen or a message cut the client off";
        if (all.others > 0) return "a listen or a message fails in several ways";
        if (all.code != 0) code = all.code;
        if (where == BIRTH && complete(cluster)) {
            ends = cluster->ends + 1;
            kill(cluster->workers[0], SIGKILL);
            if (!WITHIN(replaced(cluster, ends), 6000)) return "a worker is not replaced";
        }
    }
    if (where != BIRTH && cluster->ends != ends) return "a worker has ended";
    /* A call that cannot be repeated may say so to the program, and only so. */
    static char wrong[96];
    if (code != 0 && strstr(error, cl_err_name(code)) == NULL) {
        snprintf(wrong, sizeof wrong, "a listen or a message fails with %s", cl_err_name(code));
        return wrong;
    }
    int before = count_calls(trace, NULL);
    nap(IDLE_MS);
    if (count_calls(trace, NULL) - before > IDLE_CALLS) return "it spins";
    return NULL;
}

/* The same where it fails each time: nobody can be served, but all who wait are as soon as it is over. */
static const char *disturb_for_a_while(sweep_t *sweep, trace_t *trace, int *injected) {
    int clients[4], ends = sweep->cluster.ends;
    tally_t all;
    ZERO(all);
    long long since = now_ms();
    for (int i = 0; i < 4; i++) clients[i] = try_send(sweep->cluster.port, 'p');
    nap(WHILE_MS);
    int calls = count_calls(trace, NULL);
    *injected = end_trace(trace);
    int most = (int)((now_ms() - since) * MOST_PER_SECOND / 1000);
    for (int i = 0; i < 4; i++) {
        if (clients[i] >= 0) take_answer(&all, clients[i], now_ms(), CLIENT_MS);
        else all.refused++;
    }
    listen_to(&sweep->cluster);
    if (sweep->cluster.ends != ends) return "a worker has ended";
    return !is_whole(&all) ? "a client that waited is lost" : calls > most ? "it spins" : NULL;
}

/* How often the call came to fail. */
static int run_case(sweep_t *sweep, int where, const char *call, const char *error, const char *when) {
    trace_t trace;
    if (!sweep->running) begin(sweep);
    complete(&sweep->cluster);
    pid_t target = where == WORKER ? sweep->cluster.workers[sweep->cases % WORKERS] : sweep->cluster.primary;
    sweep->cases++;
    const char *wrong = "strace could not attach itself";
    int injected = 0, attached = begin_trace(&trace, target, where == BIRTH, call, error, when);
    if (attached && strcmp(when, "1+") == 0) {
        wrong = disturb_for_a_while(sweep, &trace, &injected);
    } else {
        if (attached) wrong = disturb(sweep, where, error, &trace);
        injected = end_trace(&trace);
    }
    sweep->reached += injected > 0;
    if (wrong == NULL) wrong = as_before(sweep);
    if (wrong == NULL) return injected;
    sweep->failed++;
    printf("FAIL %s %s, %s of %s fails with %s, when=%s (%d times): %s\n", sweep->way, sweep->made_by, call,
           where == PRIMARY ? "the primary" : where == WORKER ? "a worker" : "all at a worker's birth", error, when, injected, wrong);
    fflush(stdout);
    end(sweep, 0);
    return injected;
}

/* In the quick set each call fails once in each place, with its first error in the first mechanism, the next in the next. */
static void sweep_call(sweep_t *sweep, const disturbed_t *one, int turn) {
    static const char *whens[] = {"1", "10", "10+10", "1+"};
    char errors[400];
    const char *names[32];
    int count = 0;
    snprintf(errors, sizeof errors, "%s", one->errors);
    for (char *name = strtok(errors, " "); name != NULL; name = strtok(NULL, " ")) names[count++] = name;
    for (int where = PRIMARY; where <= BIRTH; where *= 2) {
        if ((one->where & where) == 0) continue;
        if (where == BIRTH && (one->where & LOADER) && strcmp(sweep->made_by, "spawn") == 0) continue;
        if (!sweep->whole) {
            (void)run_case(sweep, where, one->call, names[turn % count], "1");
            continue;
        }
        for (int i = 0; i < count; i++) {
            /* These two ask to be called again, which for ever is no fault that there is. */
            int ends = strcmp(names[i], "EINTR") != 0 && strcmp(names[i], "EAGAIN") != 0;
            int reached = run_case(sweep, where, one->call, names[i], whens[0]);
            /* What is not called there does not fail in another way either. */
            if (reached == 0) break;
            for (int when = 1; when < (where == BIRTH ? 1 : 3 + ends); when++) run_case(sweep, where, one->call, names[i], whens[when]);
        }
    }
}

int main(int argc, char **argv) {
    static sweep_t sweep;
    if (argc < 4) return 2;
    sweep.program = argv[1];
    sweep.made_by = argv[2];
    sweep.way = argv[3];
    sweep.whole = argc > 4 && strcmp(argv[4], "whole") == 0;
    sweep.only = argc > 5 ? argv[5] : NULL;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    own_network();
    int turn = strcmp(sweep.way, "kernel") == 0 ? 1 : strcmp(sweep.way, "none") == 0 ? 2 : strcmp(sweep.way, "rotation") == 0 ? 3 : 0;
    for (size_t i = 0; i < sizeof disturbed / sizeof disturbed[0]; i++)
        if (sweep.only == NULL || strcmp(sweep.only, disturbed[i].call) == 0) sweep_call(&sweep, &disturbed[i], turn);
    if (sweep.running) end(&sweep, 1);
    int left = reap_leftovers();
    printf("%s %s: %d cases, in %d of which the call came to fail, %d failed, %d processes left\n", sweep.way, sweep.made_by,
           sweep.cases, sweep.reached, sweep.failed, left);
    if (sweep.whole) {
        char row[128], measured[32];
        snprintf(row, sizeof row, "a system call fails (errno sweep, workers made by %s%s): cases that lost, spun or left anything",
                 sweep.made_by, strstr(sweep.program, "header") != NULL ? ", header only" : "");
        snprintf(measured, sizeof measured, "%d of %d", sweep.failed + left, sweep.cases);
        record(row, sweep.way, measured, "0", sweep.failed + left == 0);
    }
    return sweep.failed > 0 || left > 0 || sweep.reached == 0 ? 1 : 0;
}
