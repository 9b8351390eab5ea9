/* The rig: a primary with three honest workers under load, and a hostile one beside them. The load comes from a process of
 * its own; each connection is answered, or it is one of those that the hostile worker took. */
#ifndef RIG_H
#define RIG_H

#include "primary.h"
#include "raw.h"
#include "clients.h"

enum { SIBLINGS = 3 };
/* The primary looks at what all share once a second; for so long there may be no service. */
#define OUTAGE_LIMIT_MS 1500
/* The same of those who wait, where few come. */
#define LOOKS_LIMIT_MS 2500
/* A turn of the primary that takes longer has waited for somebody, even on a busy machine; and one for which it works longer keeps
 * the others waiting. (Usual are 2 ms of work. But "flips" changes the flags of a file without a pause, and in a virtual machine,
 * where the kernel's spin locks are not fair, epoll_ctl(2) was seen to spin for 112 ms until it had that file's lock.) */
#define TURN_LIMIT_MS 1000
#define WORK_LIMIT_MS 400

/* Ended by the primary; alive at the end of the attack; stopped; gone by itself; or the one or the other. */
typedef enum { ENDED, LIVES, STOPS, EXITS, EITHER } fate_t;

typedef struct {
    const char *name;
    void (*body)(void);
    fate_t fate;
    int warnings; /* at most so many */
    int reach;
} attack_t;

/* With the mechanism none or rotation it hits all who serve the address, until the primary has mended it; with the mechanism kernel it hits
 * the clients of its own turns, who wait until TCP asks again, and is left out; or it resets some of these. */
enum { HITS_ALL = 1, HITS_ITS_TURNS = 2, LEAVES_ADDRESSES = 4 /* which wait for a successor */,
       STAYS_BEHIND = 8 /* a child goes on, and says when it has begun */,
       LOSES_A_WAKE_UP = 16 /* somebody waits until the primary looks */ };

static int siblings[SIBLINGS];
static pid_t client_pid;
static long long longest_turn_us, longest_work_us;
static const char *rig_mechanism = "";
static unsigned rig_window; /* 0: the usual one */
static long long longest_gap_ms;
static int warnings, exits, exit_signal, sibling_exits, hostile_id, events_of_hostile;
static char last_warning[256];
/* What the next hostile worker finds in the book. */
static int next_variant;

/* A result of make faults: a line in the file that FAULTS_RESULTS names. met: 1, 0, or -1 where there is no goal. */
static inline void tell_result(const char *row, const char *measured, const char *goal, int met) {
    const char *name = getenv("FAULTS_RESULTS");
    FILE *file = name != NULL ? fopen(name, "ae") : NULL;
    printf("%s, %s: %s, goal %s%s\n", row, rig_mechanism, measured, goal, met == 0 ? ", NOT MET" : "");
    if (file == NULL) return;
    fprintf(file, "{\"part\":\"hostile\",\"row\":\"%s\",\"contender\":\"libcluster %s\",\"measured\":\"%s\",\"goal\":\"%s\",\"met\":%s}\n",
            row, rig_mechanism, measured, goal, met < 0 ? "null" : met ? "true" : "false");
    fclose(file);
}

/* -- The primary ---------------------------------------------------------------------------------------------------- */

static inline void watch_event(const cl_event_t *event, void *user) {
    (void)user;
    if (event->worker_id == hostile_id && hostile_id != 0) events_of_hostile++;
    if (event->type == CL_EVENT_LISTENING && atomic_load(&book->port) == 0) atomic_store(&book->port, event->port);
    /* That a listen was refused is told once a second and address, and is no offence. */
    if (event->type == CL_EVENT_WARNING && (event->length < 16 || memcmp(event->data, "it cannot listen", 16) != 0)) {
        warnings++;
        snprintf(last_warning, sizeof last_warning, "%.*s", (int)event->length, (const char *)event->data);
    }
    if (event->type != CL_EVENT_EXIT) return;
    if (event->worker_id == hostile_id) {
        exits++;
        exit_signal = event->signal;
    }
    for (int i = 0; i < SIBLINGS; i++) sibling_exits += event->worker_id == siblings[i];
}

static inline long long work_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* One turn of the primary, timed; what it waits for is not part of it. */
static inline void rig_turn(int ms) {
    struct pollfd one;
    one.fd = OK(cl_poll_fd());
    one.events = POLLIN;
    one.revents = 0;
    if (poll(&one, 1, ms) <= 0) return;
    long long before = now_us(), worked = work_us();
    turn(0);
    long long took = now_us() - before;
    worked = work_us() - worked;
    if (took > longest_turn_us) longest_turn_us = took;
    if (worked > longest_work_us) longest_work_us = worked;
}

#define RIG_UNTIL(condition, ms)                                                                    \
    do {                                                                                            \
        long long deadline_ = now_ms() + (long long)(ms) * check_slow();                            \
        while (!(condition)) {                                                                      \
            if (now_ms() > deadline_) check_fail(__FILE__, __LINE__, "not within %d ms: %s", (int)(ms), #condition); \
            rig_turn(10);                                                                           \
        }                                                                                           \
    } while (0)

/* By its mailbox, for which in rotation the primary stands in line. */
static inline int serve_by_mailbox(void) {
    int listener = listen_flags("127.0.0.1:0", CL_LISTEN_NONBLOCK), connection;
    atomic_fetch_add(&book->online, 1);
    while (listener != -ESHUTDOWN && (connection = cl_accept(OK(listener), NULL, NULL)) != -ESHUTDOWN) {
        if (connection == -EPIPE) _exit(3);
        if (connection == -EAGAIN) (void)readable_within(listener, 60000);
        else answer(OK(connection));
    }
    return 0;
}

static inline int serve_honestly(void) {
    if (in_rotation() && cl_worker_slot() == 0) return serve_by_mailbox();
    int listener = cl_listen("127.0.0.1:0", 0);
    atomic_fetch_add(&book->online, 1);
    return listener == -ESHUTDOWN ? 0 : serve_listener(OK(listener));
}

/* The most memory that this process has had since the last call, in kB; and from here on it counts anew. */
static inline long peak_kb(void) {
    char text[4096];
    int fd = SYS(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *line = strstr(text, "VmHWM:");
    fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "5", 1) != 1) dprintf(2, "the peak of memory counts from the start\n");
    close(fd);
    return line != NULL ? atol(line + 6) : 0;
}

static inline int start_hostile(const char *attack) {
    static char program[] = "hostile", role[] = "_hostile";
    char *argv[] = {program, role, NULL};
    cl_spawn_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.argv = argv;
    SYS(setenv("HOSTILE_ATTACK", attack, 1));
    exits = warnings = events_of_hostile = 0;
    last_warning[0] = '\0';
    atomic_store(&book->ready, 0);
    atomic_store(&book->wanted, next_variant);
    hostile_id = 0;
    return hostile_id = OK(cl_spawn(&options));
}

/* Everybody who came was answered, but for those whom the hostile worker took. */
static inline void expect_service(const char *attack) {
    long failed = atomic_load(&book->failed), taken = atomic_load(&book->taken);
    /* What it had just taken when it was ended, each of its threads one, is not written down. */
    if (failed > taken + (taken > 0 ? 8 : 0) || atomic_load(&book->hung) > 0 || atomic_load(&book->refused) > 0)
        check_fail(attack, 0, "%ld failed, of which the worker took %ld; %ld hung, %ld refused", failed, taken,
                   atomic_load(&book->hung), atomic_load(&book->refused));
    if (sibling_exits > 0) check_fail(attack, 0, "%d siblings ended", sibling_exits);
    atomic_store(&book->failed, 0);
    atomic_store(&book->taken, 0);
}

static inline void begin_rig(const char *mechanism) {
    rig_mechanism = mechanism;
    open_book();
    int none = strcmp(mechanism, "none") == 0;
    if (!none) use_mechanism(mechanism);
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = none ? CL_SCHED_NONE : CL_SCHED_RR;
    settings.window = rig_window;
    OK(cl_setup_primary(&settings));
    client_pid = fork();
    if (client_pid == 0) be_the_clients();
    primary_ready(serve_honestly);
    OK(cl_on_event(watch_event, NULL));
    for (int i = 0; i < SIBLINGS; i++) siblings[i] = fork_worker();
    /* Until everything that lasts has been made and touched once, a fourth slot among it. */
    start_hostile("nothing");
    RIG_UNTIL(exits > 0, 3000);
    RIG_UNTIL(atomic_load(&book->answered) > 100, 8000);
}

static inline void end_rig(void) {
    for (int i = 0; i < SIBLINGS; i++) siblings[i] = -1;
    atomic_store(&book->stop, 1);
    WAIT_SUCCESS(client_pid);
    finish();
}

static inline int is_stopped(pid_t pid) {
    char name[64], text[512];
    snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL && end[1] != '\0' && end[2] == 'T';
}

static inline int has_begun(const attack_t *attack, int id) {
    return attack->fate == STOPS ? is_stopped(pid_of(id)) : atomic_load(&book->ready);
}

/* A hostile worker does its worst beside three others; afterwards everything is as it was. */
static inline void suffer(const attack_t *attack) {
    int outage = attack->reach & HITS_ALL && (strcmp(rig_mechanism, "none") == 0 || in_rotation());
    if (attack->reach & HITS_ITS_TURNS && strcmp(rig_mechanism, "kernel") == 0) return;
    int descriptors = count_descriptors(), most = 0;
    peak_kb();
    long resident = peak_kb();
    long answered = atomic_load(&book->answered);
    longest_turn_us = longest_work_us = 0;
    atomic_store(&book->gap_us, 0);
    int id = start_hostile(attack->name);
    long long begun = now_ms(), deadline = begun + 6000LL * check_slow();
    int ends = attack->fate == ENDED || attack->fate == EXITS;
    while (exits == 0 && (ends || !has_begun(attack, id) || atomic_load(&book->answered) < answered + 40)) {
        rig_turn(10);
        if (count_descriptors() > most) most = count_descriptors();
        if (now_ms() > deadline)
            check_fail(attack->name, 0, "%s; %ld answers", ends ? "it did not end" : "no end is in sight",
                       atomic_load(&book->answered) - answered);
    }
    if ((attack->fate == LIVES || attack->fate == STOPS) && exits > 0)
        check_fail(attack->name, 0, "it ended by signal %d: %s", exit_signal, last_warning);
    if (attack->fate == ENDED && (exit_signal != SIGKILL || warnings == 0))
        check_fail(attack->name, 0, "it ended by signal %d with %d warnings", exit_signal, warnings);
    if (warnings > attack->warnings) check_fail(attack->name, 0, "%d warnings: %s", warnings, last_warning);
    if (exits == 0) (void)cl_worker_kill(id, SIGKILL);
    RIG_UNTIL(exits > 0, 3000);
    if (attack->reach & STAYS_BEHIND) RIG_UNTIL(atomic_load(&book->ready), 6000);
    answered = atomic_load(&book->answered);
    RIG_UNTIL(atomic_load(&book->answered) > answered + 20, 6000);
    long long gap_ms = atomic_load(&book->gap_us) / 1000;
    if (outage) {
        if (gap_ms > longest_gap_ms) longest_gap_ms = gap_ms;
        if (gap_ms > OUTAGE_LIMIT_MS * check_slow()) check_fail(attack->name, 0, "no service for %lld ms", gap_ms);
        atomic_store(&book->failed, 0);
        atomic_store(&book->refused, 0);
        atomic_store(&book->taken, 0);
    }
    if (gap_ms > (attack->reach & LOSES_A_WAKE_UP ? LOOKS_LIMIT_MS : HUNG_MS) * check_slow())
        check_fail(attack->name, 0, "nobody was answered for %lld ms", gap_ms);
    expect_service(attack->name);
    for (deadline = now_ms() + 2000 * check_slow(); count_descriptors() > descriptors && !(attack->reach & LEAVES_ADDRESSES); rig_turn(10))
        if (now_ms() > deadline) {
            list_descriptors();
            check_fail(attack->name, 0, "%d descriptors instead of %d", count_descriptors(), descriptors);
        }
    long peak = peak_kb();
    if (getenv("HOSTILE_VERBOSE") != NULL)
        dprintf(2, "%-28s %5lld ms, gap %4lld ms, turn %6lld us, work %5lld us, descriptors +%d, memory +%ld kB, %d warnings, %d events: %s\n", attack->name,
                now_ms() - begun, gap_ms, longest_turn_us, longest_work_us, most - descriptors, peak - resident, warnings, events_of_hostile, last_warning);
    if (longest_turn_us > TURN_LIMIT_MS * 1000LL * check_slow())
        check_fail(attack->name, 0, "a turn of the primary took %lld us", longest_turn_us);
    if (longest_work_us > WORK_LIMIT_MS * 1000LL * check_slow())
        check_fail(attack->name, 0, "the primary worked %lld us in one turn", longest_work_us);
    /* What addresses cost is the worker's to ask for, as many as it may have. */
    if (peak - resident > (attack->reach & LEAVES_ADDRESSES ? 16 : 1) * 1024) check_fail(attack->name, 0, "the primary grew by %ld kB", peak - resident);
}

static inline void suffer_all(const char *mechanism, const attack_t *attacks, size_t count, const char *kind) {
    const char *only = getenv("HOSTILE_ONLY");
    char row[128], text[64];
    if (strcmp(mechanism, "kernel") == 0 && !may_use_bpf()) check_skip("bpf(2) is not allowed here: it takes CAP_BPF");
    begin_rig(mechanism);
    for (size_t i = 0; i < count; i++)
        if (only == NULL || strcmp(only, attacks[i].name) == 0) suffer(&attacks[i]);
    end_rig();
    if (getenv("FAULTS_RESULTS") == NULL) return;
    /* Whoever comes to here has had every connection answered. */
    snprintf(row, sizeof row, "siblings' connections that a hostile worker left unanswered, %d ways (%s)", (int)count, kind);
    snprintf(text, sizeof text, "0 of %ld", atomic_load(&book->answered));
    tell_result(row, text, "0", 1);
    if (longest_gap_ms == 0) return;
    snprintf(text, sizeof text, "%.1f s", (double)longest_gap_ms / 1000);
    tell_result("no service while a socket that all share is spoiled, the worst way", text, "1.1 s", longest_gap_ms <= 1100);
}

static inline void be_hostile(const attack_t *attacks, size_t count) {
    const char *name = getenv("HOSTILE_ATTACK");
    open_book();
    if (name != NULL && strcmp(name, "nothing") == 0) {
        greet();
        join_siblings();
        exit(0);
    }
    for (size_t i = 0; i < count; i++)
        if (name != NULL && strcmp(name, attacks[i].name) == 0) attacks[i].body();
    done();
    stay();
}

#define HOSTILE_ROLE(attacks) \
    static void hostile_role(void) { be_hostile(attacks, sizeof(attacks) / sizeof(attacks)[0]); }
#define HOSTILE_CASE(name, mechanism, attacks, kind) \
    static void name(void) { suffer_all(mechanism, attacks, sizeof(attacks) / sizeof(attacks)[0], kind); }
/* The same attacks with each mechanism, and further cases. */
#define HOSTILE_MAIN(attacks, kind, ...)                                                                               \
    HOSTILE_CASE(none, "none", attacks, kind)                                                                          \
    HOSTILE_CASE(passed, "passed", attacks, kind)                                                                      \
    HOSTILE_CASE(kernel, "kernel", attacks, kind)                                                                      \
    HOSTILE_CASE(rotation, "rotation", attacks, kind)                                                                  \
    HOSTILE_ROLE(attacks)                                                                                              \
    static const check_case_t cases[] = {{"none", none}, {"passed", passed}, {"kernel", kernel},                       \
                                         {"rotation", rotation}, __VA_ARGS__};                                         \
    CHECK_MAIN(cases)

#endif
