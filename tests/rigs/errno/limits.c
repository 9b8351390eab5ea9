/* Descriptors, memory and permissions run out while clients come: nobody is lost or cut off, nobody spins, and all is well
 * again as soon as there is enough.
 *
 *   limits SUBJECT passed|kernel|rotation|none quick|whole TRACED
 *
 * In the whole form figures are measured and held to their goals, one line each; in the quick form only what is promised whatever
 * else the machine does. FAULTS_RESULTS: the file for the figures (see tests/rigs/faults/README.md). */
#include "figures.h"
#include "trace.h"

enum { HUNG_MS = 4000 };

static const char *program, *way;
static int measuring, checked, failed, skipped;

/* -- What came out ------------------------------------------------------------------------------------------------- */

/* A number that must be no higher than its goal. */
static void hold(const char *row, double measured, const char *unit, double goal) {
    int met = measured <= goal;
    checked++;
    failed += !met;
    if (measuring || !met) printf("%s %s: %s: %.1f%s, goal %g%s\n", met ? "ok  " : "FAIL", way, row, measured, unit, goal, unit);
    fflush(stdout);
    if (!measuring) return;
    char value[48], wanted[48];
    snprintf(value, sizeof value, "%.*f%s", measured == (double)(long long)measured ? 0 : 1, measured, unit);
    snprintf(wanted, sizeof wanted, goal == 0 ? "0" : "<= %g%s", goal, unit);
    record(row, way, value, wanted, met);
}

/* The same for what depends on the machine: held only in the whole form; here it must not be absurd. */
static void hold_figure(const char *row, double measured, const char *unit, double goal, double absurd) {
    hold(row, measured, unit, measuring ? goal : absurd);
}

static int lost(const tally_t *tally) { return tally->hung + tally->broken + tally->refused; }

/* -- Parts of the cases -------------------------------------------------------------------------------------------- */

/* Leaves a process so many free places in its table; its limit before. */
static struct rlimit limit_descriptors(pid_t pid, int places) {
    struct rlimit before, now;
    SYS(prlimit(pid, RLIMIT_NOFILE, NULL, &before));
    now = before;
    now.rlim_cur = 0;
    /* The lowest number above all that are open, for the kernel gives the lowest that is free; those below are counted. */
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    for (int free = 0, fd = 0; free <= places; fd++) {
        char link[96];
        snprintf(link, sizeof link, "%s/%d", path, fd);
        free += access(link, F_OK) != 0 && readlink(link, (char[8]){0}, 8) < 0;
        now.rlim_cur = (rlim_t)fd;
    }
    SYS(prlimit(pid, RLIMIT_NOFILE, &now, NULL));
    return before;
}

static cluster_t start(int workers) {
    cluster_t cluster = start_cluster(program, "fork", workers, way, 0);
    tally_t first = drive(&cluster, "pppppppp", 1, HUNG_MS);
    if (lost(&first) > 0) check_fail(__FILE__, __LINE__, "the subject does not serve");
    nap(20); /* the last connection is closed */
    return cluster;
}

static void finish(cluster_t *cluster) {
    int code = end_cluster(cluster, 1);
    checked++;
    if (code == 0) return;
    failed++;
    printf("FAIL %s: the primary ended with %d\n", way, code);
}

static void add(tally_t *all, const tally_t *more) {
    all->answered += more->answered;
    all->hung += more->hung;
    all->broken += more->broken;
    all->refused += more->refused;
    for (int slot = 0; slot < WORKERS_MOST; slot++) all->by[slot] += more->by[slot];
}

/* About 500 clients a second for so long. */
static tally_t load_for(const cluster_t *cluster, int ms) {
    tally_t all;
    ZERO(all);
    for (long long end = now_ms() + ms; now_ms() < end; nap(8)) {
        tally_t four = drive(cluster, "pppp", 4, HUNG_MS);
        add(&all, &four);
    }
    return all;
}

/* Until this worker answers somebody: milliseconds. */
static double time_until_it_serves(const cluster_t *cluster, pid_t pid) {
    long long start = now_ms();
    for (;;) {
        /* With the mechanism none the kernel decides whom a single client meets; of eight at a time nobody is left out for long. */
        int together = strcmp(way, "none") == 0 ? 8 : 1;
        tally_t some = drive(cluster, together == 8 ? "pppppppp" : "p", together, HUNG_MS);
        if (some.pid == pid || (together == 8 && pid == cluster->workers[1] && some.by[1] > 0)) return (double)(now_ms() - start);
        if (now_ms() - start > 5000) return 5000;
    }
}

/* Clients that nobody can serve yet. */
static void queue_up(const cluster_t *cluster, int *clients, int count) {
    for (int i = 0; i < count; i++) clients[i] = try_send(cluster->port, 'p');
}

/* From now on they can be served: milliseconds until the last was. */
static double collect(const int *clients, int count, tally_t *tally) {
    long long since = now_ms();
    ZERO(*tally);
    for (int i = 0; i < count; i++) {
        if (clients[i] < 0) tally->refused++;
        else take_answer(tally, clients[i], since, HUNG_MS);
    }
    return (double)(now_ms() - since);
}

/* Without bpf(2) there is no mechanism kernel, and all this was done with the other. */
static int can_be_had(void) {
    cluster_t cluster = start(1);
    int had = strcmp(way, "kernel") != 0 || cluster.mechanism == CL_MECHANISM_KERNEL;
    end_cluster(&cluster, 1);
    if (!had) printf("skip %s: this process may not use bpf(2)\n", way);
    return had;
}

/* -- The cases ----------------------------------------------------------------------------------------------------- */

/* F16: one of three workers has one place left in its table, and then none. */
static void worker_in_rotation(void) {
    cluster_t cluster = start(3);
    for (int places = 1; places >= 0; places--) {
        struct rlimit before = limit_descriptors(cluster.workers[1], places);
        tally_t all = load_for(&cluster, measuring ? 2000 : 600);
        hold(places ? "lost while a worker has one descriptor left" : "lost while a worker has no descriptor left", lost(&all), "", 0);
        SYS(prlimit(cluster.workers[1], RLIMIT_NOFILE, &before, NULL));
        hold_figure("a worker that had no descriptor serves again", time_until_it_serves(&cluster, cluster.workers[1]), " ms", 500, 2000);
    }
    int even = WITHIN(strcmp(way, "none") == 0 || is_even(&cluster, 12), 2000);
    hold("uneven turns after a worker had no descriptor", !even, "", 0);
    finish(&cluster);
}

/* F17: nobody else can serve, so the clients have to wait. `primary`: it is the one without descriptors. */
static void nobody_can_accept(int primary) {
    int clients[20];
    tally_t all;
    char row[96];
    const char *who = primary ? "the primary" : "the only worker";
    cluster_t cluster = start(1);
    pid_t pid = primary ? cluster.primary : cluster.workers[0];
    struct rlimit before = limit_descriptors(pid, 0);
    int ms = measuring ? 3000 : 500;
    long long ran = processor_of(pid), began = now_ms();
    queue_up(&cluster, clients, 20);
    nap(ms);
    snprintf(row, sizeof row, "%s without descriptors: processor", who);
    hold_figure(row, (double)(processor_of(pid) - ran) * 100 / (double)(now_ms() - began), " %", 2, 25);
    SYS(prlimit(pid, RLIMIT_NOFILE, &before, NULL));
    double took = collect(clients, 20, &all);
    snprintf(row, sizeof row, "%s without descriptors: cut off or lost", who);
    hold(row, lost(&all), "", 0);
    snprintf(row, sizeof row, "%s without descriptors: all served after it has some", who);
    hold_figure(row, took, " ms", 150, 2000);
    finish(&cluster);
}

/* The same, and F18, counted: each accept fails, in each of these ways for a while. */
static void each_call_fails(const char *call, int primary, const char *what, const char *errors, double most) {
    char list[256], row[160];
    double highest = 0;
    int all_lost = 0;
    snprintf(list, sizeof list, "%s", errors);
    cluster_t cluster = start(1);
    for (char *error = strtok(list, " "); error != NULL; error = strtok(NULL, " ")) {
        trace_t trace;
        tally_t all;
        int clients[4];
        if (!begin_trace(&trace, primary ? cluster.primary : cluster.workers[0], 0, call, error, "1+"))
            check_fail(__FILE__, __LINE__, "strace could not attach itself");
        queue_up(&cluster, clients, 4);
        /* How quickly it asks again once it has seen that this goes on. */
        nap(400);
        int before = count_calls(&trace, call);
        long long began = now_ms();
        nap(400);
        double rate = (count_calls(&trace, call) - before) * 1000.0 / (double)(now_ms() - began);
        end_trace(&trace);
        collect(clients, 4, &all);
        if (rate > highest) highest = rate;
        if (rate > most || lost(&all) > 0) printf("%s: %.1f calls a second, %d lost\n", error, rate, lost(&all));
        all_lost += lost(&all);
    }
    snprintf(row, sizeof row, "%s of %s fails for %s: calls per second", call, primary ? "the primary" : "a worker", what);
    hold(row, highest, "", most);
    snprintf(row, sizeof row, "%s of %s fails for %s: lost", call, primary ? "the primary" : "a worker", what);
    hold(row, all_lost, "", 0);
    finish(&cluster);
}

/* The mailboxes are full and the primary has stopped accepting; it cannot tell the kernel to go on. */
static void interest_cannot_be_changed(void) {
    int clients[64];
    trace_t trace;
    tally_t all;
    cluster_t cluster = start(2);
    for (int i = 0; i < 2; i++) kill(cluster.workers[i], SIGSTOP);
    queue_up(&cluster, clients, 64);
    nap(100);
    if (!begin_trace(&trace, cluster.primary, 0, "epoll_ctl", "ENOMEM", "1+"))
        check_fail(__FILE__, __LINE__, "strace could not attach itself");
    for (int i = 0; i < 2; i++) kill(cluster.workers[i], SIGCONT);
    /* What had waited is moved first, which takes a traced process a while on a busy machine. One that spins never comes to rest. */
    double each_second = 0;
    for (int looks = 0; looks == 0 || (looks < 10 && each_second > 1000); looks++) {
        nap(300);
        int before = count_calls(&trace, NULL);
        nap(300);
        each_second = (count_calls(&trace, NULL) - before) / 0.3;
    }
    hold("epoll_ctl of the primary fails: calls per second", each_second, "", 1000);
    end_trace(&trace);
    collect(clients, 64, &all);
    tally_t later = drive(&cluster, "pppp", 4, HUNG_MS);
    add(&all, &later);
    hold("epoll_ctl of the primary fails with full mailboxes: lost", lost(&all), "", 0);
    finish(&cluster);
}

/* F19: a stranger of the same user has as many descriptors in flight as the user may. */
static void too_many_in_flight(void) {
    const uid_t user = 65534;
    int ready[2], clients[20];
    tally_t all;
    char byte = 'n';
    cluster_t cluster = start_cluster(program, "fork", 2, way, user);
    SYS(pipe2(ready, O_CLOEXEC));
    pid_t hog = SYS(fork());
    if (hog == 0) {
        int pairs[8][2], result = 0;
        become_user(user);
        for (int i = 0; i < 8 && result != -ETOOMANYREFS; i++) {
            SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pairs[i]));
            do result = send_descriptor(pairs[i][0], 0);
            while (result == 0);
        }
        byte = result == -ETOOMANYREFS ? 'y' : 'n';
        (void)!write(ready[1], &byte, 1);
        for (;;) pause();
    }
    (void)!read(ready[0], &byte, 1);
    close(ready[0]);
    close(ready[1]);
    if (byte == 'y') {
        queue_up(&cluster, clients, 20);
        nap(300);
    }
    kill(hog, SIGKILL);
    wait_status(hog);
    if (byte != 'y') {
        skipped++;
        printf("skip %s: too many in flight: there is no such limit here\n", way);
    } else {
        double took = collect(clients, 20, &all);
        hold("too many descriptors in flight (ETOOMANYREFS): lost", lost(&all), "", 0);
        hold_figure("too many descriptors in flight: all served after that ends", took, " ms", 200, 2000);
    }
    finish(&cluster);
}

/* F40: a signal in every millisecond for everybody. */
static void signals(void) {
    tally_t all;
    ZERO(all);
    cluster_t cluster = start(2);
    pid_t storm = SYS(fork());
    if (storm == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;; nap(1)) {
            kill(cluster.primary, SIGUSR1);
            for (int i = 0; i < 2; i++) kill(cluster.workers[i], SIGUSR1);
        }
    }
    for (long long end = now_ms() + (measuring ? 5000 : 700); now_ms() < end;) {
        tally_t some = drive(&cluster, "pppplmpp", 4, HUNG_MS);
        add(&all, &some);
        all.others += some.code != 0;
    }
    kill(storm, SIGKILL);
    wait_status(storm);
    hold("a signal in every millisecond: lost", lost(&all), "", 0);
    hold("a signal in every millisecond: calls that failed", all.others, "", 0);
    finish(&cluster);
}

/* F24: close says that it failed, and nobody closes again. */
static void closes_once(void) {
    SYS(setenv("LD_PRELOAD", getenv("CLOSE_ONCE"), 1));
    cluster_t cluster = start(2);
    unsetenv("LD_PRELOAD");
    int ends = 0, wrong = 0;
    for (int round = 0; round < (measuring ? 20 : 3); round++) {
        tally_t all = drive(&cluster, "pppplmlmpppp", 4, HUNG_MS);
        wrong += lost(&all) > 0 || all.code != 0;
        kill(cluster.workers[round % 2], SIGKILL);
        ends++;
        if (!WITHIN(complete(&cluster) && cluster.ends >= ends, 6000)) wrong++;
        wrong += cluster.ends != ends;
    }
    hold("close fails with EINTR or EIO: descriptors closed twice, clients lost", wrong, "", 0);
    finish(&cluster);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    program = argv[1];
    way = argv[2];
    measuring = strcmp(argv[3], "whole") == 0;
    int passed = strcmp(way, "passed") == 0, traced = atoi(argv[4]);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    own_network();
    if (!can_be_had()) return CHECK_SKIPPED;
    worker_in_rotation();
    if (passed) nobody_can_accept(1);
    nobody_can_accept(0);
    if (passed && geteuid() == 0) too_many_in_flight();
    signals();
    if (getenv("CLOSE_ONCE") != NULL) closes_once();
    if (traced) {
        /* 50 a second where something is short; a connection that failed is no reason to wait, until there are many. */
        each_call_fails("accept4", passed, "want of descriptors or memory", measuring ? "EMFILE ENFILE ENOBUFS ENOMEM" : "EMFILE", 50);
        each_call_fails("accept4", passed, "what is wrong with one connection",
                        measuring ? "ECONNABORTED EPROTO EPERM ENETDOWN ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH EOPNOTSUPP "
                                    "ENETUNREACH ETIMEDOUT" : "ECONNABORTED", 1000);
        if (passed) each_call_fails("fcntl", 0, "want of descriptors", "EMFILE", 50);
        if (passed) interest_cannot_be_changed();
    }
    int left = reap_leftovers();
    printf("%s: %d figures of what runs out, %d failed, %d skipped, %d processes left\n", way, checked, failed, skipped, left);
    return failed > 0 || left > 0 ? 1 : 0;
}
