/* Random calls of every function of cluster.h, from several threads, with NULL, stale, closed, foreign and valid arguments:
 * in a process without workers, in a primary, in its workers, and in children of a plain fork(2) that is made while others
 * work. Nothing may crash, hang, panic, stay behind, or touch a descriptor that is the program's.
 *
 *     torture CALLS FORKS [SEED [WORKER]]
 *
 * A seed that is not given, or is 0, is drawn, and printed; a run of threads is not repeated exactly by it, but nearly. WORKER is
 * another build of this program for the workers (one under the thread sanitizer, whose primary is not). */
#include "calls.h"
#include "forks.h"


enum { THREADS = 8 };
static long long own_share;
static uint64_t own_seed;
static int threads_at_work, work_is_over;

static void *work(void *argument) {
    int thread = (int)(intptr_t)argument;
    dice_t dice = {own_seed * 1000003U + (uint64_t)thread * 7919U + 1, thread, 0};
    place_t *place = &places[thread];
    for (int i = 0; i < 16; i++) roll(&dice);
    /* A primary goes on until its workers, too, have done what is asked for. */
    long long share = own_share / THREADS / (role == PRIMARY ? 2 : 1);
    for (long long i = 0; i < share || (role == PRIMARY && __atomic_load_n(&tally->calls, __ATOMIC_RELAXED) < tally->target); i++) {
        int function = any_function(&dice);
        __atomic_store_n(&place->since, now_ms(), __ATOMIC_SEQ_CST);
        __atomic_store_n(&place->now, function, __ATOMIC_SEQ_CST);
        call(&dice, function);
        __atomic_store_n(&place->now, -1, __ATOMIC_SEQ_CST);
        if (i == share / 2) swap(&leaving_is_due, 1);
        if (i % 64 == 63) __atomic_add_fetch(&tally->calls, 64, __ATOMIC_RELAXED);
    }
    __atomic_sub_fetch(&threads_at_work, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Gives the listeners clients, and wakes who waits for nobody. */
static void *keep_going(void *argument) {
    dice_t dice = {own_seed + 99, THREADS_MOST - 2, 0};
    (void)argument;
    while (!load(&work_is_over)) {
        struct sockaddr_storage name;
        socklen_t length = sizeof name;
        int fd = load(&open_listeners[below(&dice, OPEN_MOST)]);
        if (cl_getsockname(fd, (struct sockaddr *)&name, &length) == 0 && length <= sizeof name) {
            int client = SYS(socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            (void)!connect(client, (struct sockaddr *)&name, length);
            close(client);
        }
        for (int i = 0; i < THREADS; i++) {
            int function = load(&places[i].now);
            long long late = now_ms() - __atomic_load_n(&places[i].since, __ATOMIC_SEQ_CST);
            if (function < 0 || late < 10) continue;
            if (late > 30000LL * check_slow()) {
                dprintf(2, "check failed: %s has not returned\n", function_names[function]);
                abort();
            }
            if ((function == F_accept || function == F_accept4) && (fd = load(&places[i].listener)) >= 0) cl_close(fd);
            if (function == F_run || function == F_serve) cl_stop(0);
        }
        /* A stop is over only when somebody has run it to its end. */
        if (role == PRIMARY && load(&threads_at_work) > 0 && cl_spawn(NULL) == -ESHUTDOWN) {
            cl_stop(0);
            cl_run();
        }
        nap(1);
    }
    return NULL;
}

static void close_listeners(void) {
    for (int i = 0; i < OPEN_MOST; i++) {
        int fd = swap(&open_listeners[i], -1);
        if (fd >= 0) cl_close(fd);
    }
    /* Those that a thread lost sight of. */
    for (int fd = 3; fd < 4096; fd++) cl_close(fd);
}

static void run_threads(void) {
    pthread_t threads[THREADS], keeper;
    for (int i = 0; i < THREADS_MOST; i++) places[i].now = places[i].listener = -1;
    for (int i = 0; i < OPEN_MOST; i++) open_listeners[i] = -1;
    memset(message, 'm', sizeof message);
    threads_at_work = THREADS;
    for (intptr_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    CHECK_EQ(pthread_create(&keeper, NULL, keep_going, NULL), 0);
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    swap(&work_is_over, 1);
    CHECK_EQ(pthread_join(keeper, NULL), 0);
}

/* What lasts as long as the process exists before descriptors are counted. */
static void warm_up(void) {
    cl_is_primary();
    (void)cl_poll_fd();
    (void)cl_channel_fd();
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener != -ESHUTDOWN && listener != -EPIPE) OK(cl_close(OK(listener)));
}

static void expect_descriptors(int wanted) {
    if (count_descriptors() == wanted) return;
    list_descriptors();
    check_fail(__FILE__, __LINE__, "%d descriptors at the end, %d at the start", count_descriptors(), wanted);
}

/* A worker's life, forked or spawned. Asked to leave, it makes its calls all the same: they have codes for that. */
static int live_as_worker(void) {
    role = WORKER;
    own_seed += (uint64_t)cl_worker_id() * 65537U;
    warm_up();
    open_foreign();
    int before = count_descriptors();
    run_threads();
    close_listeners();
    expect_foreign_untouched();
    expect_descriptors(before);
    close_foreign();
    return 0;
}

static void be_primary(void) {
    long long share = own_share;
    role = PRIMARY;
    warm_up();
    /* Without a library there is no primary, and this is a process without workers. */
    int have_library = cl_poll_fd() >= 0;
    if (have_library) {
        /* What lasts is made by a first worker. */
        int id = OK(cl_fork());
        if (id == 0) _exit(0);
        OK(cl_run());
    } else {
        role = ALONE;
    }
    int before = count_descriptors();
    /* cl_fork is possible only before there are threads. */
    for (int i = 0; i < 2 && have_library; i++) {
        own_share = share / 20;
        int id = OK(cl_fork());
        if (id == 0) exit(live_as_worker());
        __atomic_add_fetch(&tally->workers, 1, __ATOMIC_RELAXED);
    }
    own_share = share;
    cl_on_event(on_event, NULL);
    open_foreign();
    spawns_left = 40 + (int)(share / 20000);
    run_threads();
    cl_on_event(NULL, NULL); /* it would listen again */
    close_listeners();
    while (have_library && cl_worker_ids(NULL, 0) != 0) {
        cl_stop(300);
        CHECK(cl_run() <= 0);
    }
    if (have_library) {
        cl_stop(0);
        OK(cl_run());
    }
    CHECK(no_child_left());
    expect_foreign_untouched();
    close_foreign();
    expect_descriptors(before);
}

static int start(const char *name, long long calls, uint64_t seed, const char *program) {
    char numbers[3][32];
    snprintf(numbers[0], 32, "%llu", (unsigned long long)seed);
    snprintf(numbers[1], 32, "%lld", calls);
    snprintf(self_arguments[0], 32, "%s", name);
    char errors[300], text[8192];
    snprintf(errors, sizeof errors, "%s/errors", folder);
    long long began = now_ms();
    memset(tally, 0, sizeof *tally);
    tally->target = calls;
    int file = SYS(open(errors, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        dup2(file, 2);
        execl(check_self(), check_self(), name, numbers[0], numbers[1], program, folder, (char *)NULL);
        _exit(126);
    }
    int status = wait_status(pid), left = reap_leftovers();
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    close(file);
    int bad = status != 0 || length != 0 || left != 0;
    printf("%s %s: %lld calls, %lld connections, %lld workers in %.1f s\n", bad ? "FAIL" : "ok  ", name, tally->calls, tally->connections,
           tally->workers, (double)(now_ms() - began) / 1000);
    if (bad) printf("  status %#x\n%s\n", status, text);
    fflush(stdout);
    return bad;
}

static void report_functions(const long long *of_function, const long long *succeeded) {
    for (int i = 0; i < FUNCTION_COUNT; i++) printf("  %-22s %9lld calls, %9lld succeeded\n", function_names[i], of_function[i], succeeded[i]);
}

int main(int argc, char **argv) {
    struct rlimit limit;
    check_self(); /* which is not for threads the first time */
    if (argc == 6) {
        snprintf(folder, sizeof folder, "%s", argv[5]);
        own_seed = strtoull(argv[2], NULL, 10);
        own_share = atoll(argv[3]);
        char file[300];
        snprintf(file, sizeof file, "%s/tally", folder);
        int fd = SYS(open(file, O_RDWR | O_CLOEXEC));
        tally = (tally_t *)mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(tally != MAP_FAILED);
        close(fd);
        snprintf(worker_program, sizeof worker_program, "%s", argv[4]);
        snprintf(self_arguments[0], 32, "worker");
        snprintf(self_arguments[1], 32, "%s", argv[2]);
        snprintf(self_arguments[2], 32, "%lld", own_share / 10 > 800 ? own_share / 10 : 800);
        snprintf(self_arguments[3], 32, "-");
        if (strcmp(argv[1], "worker") == 0) return cl_is_worker() == 1 ? live_as_worker() : 5;
        if (strcmp(argv[1], "forks") == 0) return fork_children((int)own_share);
        if (cl_is_worker() == 1) return 0; /* the keeper's cl_spawn(NULL) */
        be_primary();
        return 0;
    }
    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: %s CALLS FORKS [SEED [WORKER]]\n", argv[0]);
        return 2;
    }
    long long calls = atoll(argv[1]), all[FUNCTION_COUNT] = {0}, good[FUNCTION_COUNT] = {0}, total = 0;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    if (seed == 0) seed = (uint64_t)now_ms() * 2654435761U % 1000000007U;
    const char *program = argc > 4 ? argv[4] : check_self();
    int bad = 0;
    strcpy(folder, "/tmp/torture-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    char file[300];
    snprintf(file, sizeof file, "%s/tally", folder);
    int fd = SYS(open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    SYS(ftruncate(fd, sizeof *tally));
    tally = (tally_t *)mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(tally != MAP_FAILED);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    if (limit.rlim_cur > 4096 && !under_valgrind()) limit.rlim_cur = 4096;
    SYS(setrlimit(RLIMIT_NOFILE, &limit));
    own_network();
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    if (calls > 0) {
        bad += start("primary", calls, seed, program);
        for (int i = 0; i < FUNCTION_COUNT; i++) {
            all[i] = tally->of_function[i];
            good[i] = tally->succeeded[i];
        }
        total = tally->calls;
    }
    if (atoll(argv[2]) > 0) bad += start("forks", atoll(argv[2]), seed, program);
    if (calls > 0) report_functions(all, good);
    printf("total %lld calls from %d threads each\n", total, THREADS);
    remove_tree(folder);
    return bad != 0;
}
