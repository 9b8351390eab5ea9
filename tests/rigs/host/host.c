/* The library in other people's programs: four ways of treating SIGCHLD and wait(2), and whatever else a host does. Nothing of
 * the host's world is changed, none of its children reaped, none of its programs gets anything of ours, and no death of a
 * worker is missed.
 *
 * HOST_TIMES says how many times as long as the quick run everything takes; HOST_FIGURES names a file that gets a line
 * "what|measured|goal|met" for each figure. */
#include "world.h"
#include <pthread.h>
#include <sys/mount.h>
#include <sys/utsname.h>

static int times(int quick) {
    const char *text = getenv("HOST_TIMES");
    return quick * (text != NULL && atoi(text) > 1 ? atoi(text) : 1);
}

static void figure(const char *what, const char *measured, const char *goal, int met) {
    char line[512];
    const char *path = getenv("HOST_FIGURES");
    int n = snprintf(line, sizeof line, "%s|%s|%s|%s\n", what, measured, goal, met ? "met" : "missed");
    if (path == NULL) return;
    int fd = SYS(open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
    CHECK_EQ(write(fd, line, (size_t)n), n);
    close(fd);
}

static int spawn_case(const char *name) {
    cl_spawn_options_t options;
    char *arguments[] = {(char *)(uintptr_t)check_self(), (char *)(uintptr_t)name, NULL};
    ZERO(options);
    options.size = sizeof options;
    options.file = check_self();
    options.argv = arguments;
    return OK(cl_spawn(&options));
}

/* -- Four styles ----------------------------------------------------------------------------------------------------- */

static int end_at_once(void) { _exit(5); }

static int wait_to_be_killed(void) {
    char byte;
    while (cl_receive(&byte, 1, -1) != -ESHUTDOWN) {}
    return 0;
}

static void ends(void) {
    CHECK(worker_side());
    _exit(5);
}

static void waits(void) {
    CHECK(worker_side());
    exit(wait_to_be_killed());
}

static volatile sig_atomic_t handled;
static void count_only(int number) {
    (void)number;
    handled++;
}

/* What a host's thread in waitpid(-1) found. */
enum { REAPED_MOST = 20000 };
static pid_t reaped[REAPED_MOST];
static int reaped_status[REAPED_MOST], reaped_count, reaping_is_over;

static void *reap_everything(void *argument) {
    while (!__atomic_load_n(&reaping_is_over, __ATOMIC_SEQ_CST)) {
        int status, at = reaped_count;
        pid_t pid = waitpid(-1, &status, 0);
        if (pid < 0) {
            nap(1);
            continue;
        }
        reaped[at % REAPED_MOST] = pid;
        reaped_status[at % REAPED_MOST] = status;
        __atomic_store_n(&reaped_count, at + 1, __ATOMIC_SEQ_CST);
    }
    return argument;
}

static int status_of_reaped(pid_t pid) {
    for (int i = __atomic_load_n(&reaped_count, __ATOMIC_SEQ_CST) - 1; i >= 0; i--)
        if (reaped[i % REAPED_MOST] == pid) return reaped_status[i % REAPED_MOST];
    return -1;
}

/* A child of the host's own, which ends now. */
static pid_t foreign_child(int code) {
    pid_t pid = SYS(fork());
    if (pid == 0) _exit(code);
    return pid;
}

static double latencies[20000];
static int latency_count;

static int by_size(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

typedef enum { DEFAULT, IGNORED, HANDLER, THREAD } style_t;
static const char *const style_names[] = {"SIGCHLD default", "SIGCHLD ignored", "own SIGCHLD handler", "a thread in waitpid(-1)"};
static world_t world_at_start;

/* With CL_HANDLE_SIGNALS two dispositions differ, and only as long as cl_run runs. */
static void look_inside_run(const cl_event_t *event, void *user) {
    remember_event(event, user);
    if (event->type == CL_EVENT_EXIT) *(int *)user = expect_world(&world_at_start, 1);
}

static void run_handling_signals(void) {
    int differing = -1;
    cl_settings_t settings;
    ZERO(settings);
    settings.size = sizeof settings;
    settings.flags = CL_HANDLE_SIGNALS;
    OK(cl_setup_primary(&settings));
    expect_world(&world_at_start, 0);
    OK(cl_on_event(look_inside_run, &differing));
    spawn_case("_ends");
    CHECK_EQ(cl_run(), 0);
    CHECK_EQ(differing, 2);
    expect_world(&world_at_start, 0);
    OK(cl_on_event(remember_event, NULL));
}

static void be_host(style_t style) {
    enum { WAVE = 8 };
    pthread_t thread;
    struct sigaction action;
    int missed = 0, foreign_lost = 0, lives = 0;
    ZERO(action);
    action.sa_handler = style == IGNORED ? SIG_IGN : style == HANDLER ? count_only : SIG_DFL;
    SYS(sigaction(SIGCHLD, &action, NULL));
    signal(SIGPIPE, SIG_DFL);
    setlocale(LC_ALL, "C");
    primary_ready(wait_to_be_killed);
    if (style == THREAD) CHECK_EQ(pthread_create(&thread, NULL, reap_everything, NULL), 0);
    look_at_world(&world_at_start);
    for (int wave = 0; wave < times(6); wave++) {
        int ids[WAVE];
        pid_t foreign = style != IGNORED ? foreign_child(40 + wave % 50) : 0;
        seen_count = 0;
        for (int i = 0; i < WAVE; i++) {
            /* Half of them end by themselves; with threads only cl_spawn starts workers. */
            worker_main = i % 2 == 0 ? wait_to_be_killed : end_at_once;
            ids[i] = style == THREAD || i % 4 < 2 ? spawn_case(i % 2 == 0 ? "_waits" : "_ends") : fork_worker();
            lives++;
        }
        for (int i = 0; i < WAVE; i += 2) {
            PUMP_UNTIL(find_event(CL_EVENT_ONLINE, ids[i], 0) >= 0, 5000);
            double killed = now_us();
            OK(cl_worker_kill(ids[i], SIGKILL));
            /* It is dead or about to be: SIGPIPE must not be the answer. */
            int result = cl_worker_send(ids[i], "anyone there?", 13);
            CHECK(result == 0 || result == -EPIPE || result == -ESRCH);
            await_exit(ids[i], 5000);
            latencies[latency_count++] = (now_us() - killed) / 1000;
        }
        for (int i = 1; i < WAVE; i += 2) await_exit(ids[i], 5000);
        for (int i = 0; i < WAVE; i++) {
            const seen_t *end = await_exit(ids[i], 1);
            int known = style == DEFAULT || style == HANDLER;
            missed += count_events(CL_EVENT_EXIT, ids[i]) != 1;
            if (i % 2 == 0) CHECK(end->signal == SIGKILL || (!known && end->signal == 0 && end->exit_code == -1));
            else CHECK(end->signal == 0 && (end->exit_code == 5 || (!known && end->exit_code == -1)));
        }
        int status = -1;
        if (style == THREAD) WAIT_UNTIL((status = status_of_reaped(foreign)) != -1, 5000);
        else if (style != IGNORED) CHECK_EQ(waitpid(foreign, &status, 0), foreign);
        if (style != IGNORED) foreign_lost += !WIFEXITED(status) || WEXITSTATUS(status) != 40 + wave % 50;
    }
    expect_world(&world_at_start, 0);
    if (style == HANDLER) CHECK(handled > 0);
    run_handling_signals();
    finish();
    expect_world(&world_at_start, 0);
    if (style == THREAD) {
        __atomic_store_n(&reaping_is_over, 1, __ATOMIC_SEQ_CST);
        foreign_child(0); /* so that it returns once more */
        CHECK_EQ(pthread_join(thread, NULL), 0);
        /* The thread may have returned of another one. */
        while (waitpid(-1, NULL, 0) > 0) {}
    }
    char what[200], measured[100];
    qsort(latencies, (size_t)latency_count, sizeof latencies[0], by_size);
    double p99 = latencies[(latency_count - 1) * 99 / 100];
    snprintf(what, sizeof what, "%s, %d workers: ends missed, foreign children reaped", style_names[style], lives);
    snprintf(measured, sizeof measured, "%d, %d", missed, foreign_lost);
    figure(what, measured, "0, 0", missed == 0 && foreign_lost == 0);
    snprintf(what, sizeof what, "%s: dispositions, mask, environment, umask, directory, limits, timers changed", style_names[style]);
    figure(what, "0 of 64, none", "0 of 64, none", 1);
    snprintf(what, sizeof what, "%s: from SIGKILL to the event, p99", style_names[style]);
    snprintf(measured, sizeof measured, "%.2f ms", p99);
    figure(what, measured, "10 ms", p99 <= 10);
    CHECK_EQ(missed, 0);
    CHECK_EQ(foreign_lost, 0);
}

static void style_default(void) { be_host(DEFAULT); }
static void style_ignored(void) { be_host(IGNORED); }
static void style_handler(void) { be_host(HANDLER); }
static void style_thread(void) { be_host(THREAD); }

/* -- No zombies ------------------------------------------------------------------------------------------------------ */

static void failing_starts(void) {
    cl_spawn_options_t options;
    char *arguments[] = {(char *)(uintptr_t)"x", NULL};
    static const char *const files[] = {"/nonexistent/program", "/etc/passwd", "/", "no-such-program-anywhere", "/bin/true"};
    primary_ready(leave_at_once);
    for (int i = 0; i < times(100); i++) {
        ZERO(options);
        options.size = sizeof options;
        options.file = files[i % 5];
        options.argv = arguments;
        if (i % 5 == 4) options.cwd = "/nonexistent";
        CHECK(cl_spawn(&options) < 0);
        CHECK(no_child_left()); /* a zombie would be one */
        CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    }
    CHECK_EQ(count_descriptors(), check_baseline);
    /* Programs that are gone before they have spoken. */
    for (int i = 0; i < times(20); i++) {
        ZERO(options);
        options.size = sizeof options;
        options.file = "/bin/true";
        seen_count = 0;
        CHECK_EQ(await_exit(OK(cl_spawn(&options)), 5000)->exit_code, 0);
        CHECK(no_child_left());
    }
    CHECK_EQ(count_descriptors(), check_baseline);
    finish();
    char what[100];
    snprintf(what, sizeof what, "zombies and descriptors after %d failing execs and %d early ends", times(100), times(20));
    figure(what, "0, +0", "0, +0", 1);
}

/* -- Numbers that somebody else has by now ------------------------------------------------------------------------------ */

static volatile sig_atomic_t hit;
static void count_hit(int number) {
    (void)number;
    hit++;
}

/* A process with the number that a worker had a moment ago; it tells how many signals reached it. */
static pid_t make_decoy(pid_t wanted, const int *gate) {
    char text[32];
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC), n = snprintf(text, sizeof text, "%d", (int)wanted - 1);
    if (fd < 0 || write(fd, text, (size_t)n) != n) check_skip("the last process number cannot be set here");
    close(fd);
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        struct sigaction action;
        ZERO(action);
        action.sa_handler = count_hit;
        for (int number = 1; number < 65; number++) (void)sigaction(number, &action, NULL);
        close(gate[1]);
        while (read(gate[0], &byte, 1) < 0) {}
        _exit(hit);
    }
    return SYS(pid);
}

static void reuse_numbers(void) {
    int decoys = 0, same = 0, hits = 0;
    struct sigaction quiet, none;
    ZERO(quiet);
    ZERO(none);
    quiet.sa_handler = SIG_IGN;
    none.sa_handler = SIG_DFL;
    SYS(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    SYS(mount("proc", "/proc", "proc", 0, NULL));
    primary_ready(wait_to_be_killed);
    for (int i = 0; i < times(20); i++) {
        int gate[2], status = 0;
        SYS(pipe2(gate, O_CLOEXEC));
        seen_count = 0;
        /* Reaped as soon as it is dead, so that its number is free before the primary has looked. */
        SYS(sigaction(SIGCHLD, &quiet, NULL));
        int id = fork_worker();
        pid_t number = pid_of(id);
        SYS(kill(number, SIGKILL));
        WAIT_UNTIL(kill(number, 0) != 0, 5000);
        SYS(sigaction(SIGCHLD, &none, NULL));
        pid_t decoy = make_decoy(number, gate);
        same += decoy == number;
        decoys++;
        cl_worker_kill(id, SIGTERM);
        cl_worker_kill(id, SIGKILL);
        cl_worker_disconnect(id);
        /* A stop sends SIGTERM and SIGKILL to whoever is still there. */
        OK(cl_stop(0));
        CHECK_EQ(cl_run(), 0);
        await_exit(id, 1);
        close(gate[0]);
        close(gate[1]);
        CHECK_EQ(waitpid(decoy, &status, 0), decoy);
        hits += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    char what[100], measured[32];
    snprintf(what, sizeof what, "decoys signalled that had a dead worker's number (%d of %d)", same, decoys);
    snprintf(measured, sizeof measured, "%d", hits);
    figure(what, measured, "0", hits == 0);
    CHECK_EQ(hits, 0);
    CHECK(same > decoys / 2);
    finish();
}

static void reused_numbers(void) {
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) check_skip("no process namespace of its own");
    pid_t pid = SYS(fork());
    if (pid == 0) {
        reuse_numbers();
        SYS(umount2("/proc", MNT_DETACH));
        exit(0);
    }
    WAIT_SUCCESS(pid);
}

/* -- Threads of the host ------------------------------------------------------------------------------------------------ */

static void *spawn_one(void *argument) {
    *(int *)argument = spawn_case("_waits");
    return NULL;
}

/* The threads that started workers end; the workers do not. */
static void starting_threads_end(void) {
    enum { MOST = 100 };
    int ids[MOST], count = times(10) < MOST ? times(10) : MOST, ended;
    primary_ready(leave_at_once);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, spawn_one, &ids[i]), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    for (int i = 0; i < count; i++) PUMP_UNTIL(find_event(CL_EVENT_ONLINE, ids[i], 0) >= 0, 10000);
    pump_for(200);
    ended = count_events(CL_EVENT_EXIT, 0);
    for (int i = 0; i < count; i++) CHECK(!gone_now(pid_of(ids[i])));
    CHECK_EQ(ended, 0);
    finish();
    char what[100];
    snprintf(what, sizeof what, "workers that ended with the thread that started them (of %d)", count);
    figure(what, "0", "0", 1);
}

static int storm_is_over;

/* Holds the locks of malloc and of the environment most of the time. The variables exist before: the array itself may not change
 * under a reader, as every program with threads must see to. */
static void *storm(void *argument) {
    for (int i = 0; !__atomic_load_n(&storm_is_over, __ATOMIC_SEQ_CST); i++) {
        char *some = (char *)malloc(5000 + (size_t)i % 70000);
        if (some != NULL) memset(some, 1, 5000);
        setenv((const char *)argument, i % 2 == 0 ? "one value" : "another", 1);
        free(some);
        if (i % 64 == 0) sched_yield();
    }
    return NULL;
}

static void spawning_in_a_storm(void) {
    static char names[4][16] = {"STORM_1", "STORM_2", "STORM_3", "STORM_4"};
    pthread_t threads[4];
    cl_spawn_options_t options;
    double slowest = 0;
    for (int i = 0; i < 4; i++) setenv(names[i], "none", 1);
    primary_ready(leave_at_once);
    ZERO(options);
    options.size = sizeof options;
    options.file = "/bin/true";
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, storm, names[i]), 0);
    for (int i = 0; i < times(100); i++) {
        double start = now_us();
        seen_count = 0;
        int id = OK(cl_spawn(&options));
        double took = (now_us() - start) / 1000;
        if (took > slowest) slowest = took;
        CHECK_EQ(await_exit(id, 10000)->exit_code, 0);
    }
    __atomic_store_n(&storm_is_over, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    finish();
    char what[120], measured[64];
    snprintf(what, sizeof what, "%d programs started while 4 threads are in malloc and setenv: failed, slowest start", times(100));
    snprintf(measured, sizeof measured, "0, %.0f ms", slowest);
    figure(what, measured, "0, 1000 ms", slowest <= 1000);
}

/* -- What the host starts ------------------------------------------------------------------------------------------------ */

/* A program of the host's, which must find 0, 1 and 2 and nothing else. */
static void bare(void) { _exit(count_descriptors() == 3 ? 0 : 1); }

static int starters_left;
static void *start_bare(void *argument) {
    for (volatile int i = 0; i < times(10); i++) {
        pid_t pid = vfork();
        if (pid == 0) {
            execl(check_self(), check_self(), "_bare", (char *)NULL);
            _exit(2);
        }
        int status = wait_status(SYS(pid));
        if (status != 0) check_fail(__FILE__, __LINE__, "a program of the host inherited something (%#x)", status);
    }
    __atomic_sub_fetch(&starters_left, 1, __ATOMIC_SEQ_CST);
    return argument;
}

static void serves(void) {
    CHECK(worker_side());
    exit(serve_any_port());
}

/* Four threads of the host start programs while workers come and go and connections are passed. */
static void host_starts_others(void) {
    pthread_t threads[4];
    primary_ready(leave_at_once);
    starters_left = 4;
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, start_bare, NULL), 0);
    while (__atomic_load_n(&starters_left, __ATOMIC_SEQ_CST) > 0) {
        seen_count = 0;
        int id = spawn_case("_serves");
        int port = await_listening(id, 1);
        for (int i = 0; i < 20; i++) CHECK_EQ(ask(port), id);
        OK(cl_close(OK(cl_listen("127.0.0.1:0", 0))));
        OK(cl_worker_kill(id, SIGKILL));
        await_exit(id, 5000);
    }
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    finish();
    char what[120];
    snprintf(what, sizeof what, "of %d programs that 4 threads of the host started: those that found a descriptor of ours", 4 * times(10));
    figure(what, "0", "0", 1);
}

static int grandchild_pipe[2];

static int start_a_grandchild(void) {
    int listener = OK(cl_listen("127.0.0.1:0", 0));
    pid_t pid = SYS(fork());
    if (pid == 0) {
        /* It lives on, with whatever it has inherited, until the test lets go of the pipe. */
        dup2(grandchild_pipe[0], 0);
        execl("/bin/cat", "cat", (char *)NULL);
        _exit(2);
    }
    return serve_listener(listener);
}

static void primary_of_grandchildren(void) {
    char line[64];
    /* Its pipe is descriptor 0, on which it was handed over. */
    grandchild_pipe[0] = 0;
    worker_main = start_a_grandchild;
    OK(cl_on_event(remember_event, NULL));
    int one = fork_worker(), two = fork_worker();
    int port = await_listening(one, 1);
    await_listening(two, 1);
    CHECK(ask(port) > 0);
    int n = snprintf(line, sizeof line, "%d %d %d\n", port, pid_of(one), pid_of(two));
    CHECK_EQ(write(1, line, (size_t)n), n);
    for (;;) turn(-1);
}

/* A program that a worker has started outlives the cluster; it has nothing of ours, so the port is free with our last process. */
static void port_is_free(void) {
    double longest = 0;
    for (int i = 0; i < times(2) && i < 20; i++) {
        int output[2], input[2], port, pids[2], free_now = 0;
        char line[64];
        SYS(pipe2(output, O_CLOEXEC));
        SYS(pipe2(input, O_CLOEXEC));
        pid_t primary = SYS(fork());
        if (primary == 0) {
            dup2(input[0], 0);
            dup2(output[1], 1);
            execl(check_self(), check_self(), "_primary_of_grandchildren", (char *)NULL);
            _exit(2);
        }
        close(output[1]);
        close(input[0]);
        CHECK_EQ(readable_within(output[0], 10000), 1);
        CHECK(receive_line(output[0], line, sizeof line) > 0);
        CHECK_EQ(sscanf(line, "%d %d %d", &port, &pids[0], &pids[1]), 3);
        SYS(kill(primary, SIGKILL));
        wait_status(primary);
        for (int j = 0; j < 2; j++) CHECK_EQ(gone_within(pids[j], 1500), 1);
        double start = now_us(), deadline = start + 2e6 * check_slow();
        while (!free_now && now_us() < deadline) {
            struct sockaddr_in address = address4(port);
            int yes = 1, fd = SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes));
            free_now = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0;
            close(fd);
            if (!free_now) nap(1);
        }
        double took = (now_us() - start) / 1000;
        if (took > longest) longest = took;
        CHECK(free_now);
        close(input[1]);
        close(output[0]);
    }
    char measured[64];
    snprintf(measured, sizeof measured, "%.1f ms", longest);
    figure("from the end of our last process until the port can be bound, with programs of the workers still there", measured, "100 ms", longest <= 100);
}

/* -- Environments that are out of date ------------------------------------------------------------------------------------- */

static void is_nobody(void) {
    CHECK_EQ(cl_is_primary(), 1);
    CHECK_EQ(cl_is_worker(), 0);
    CHECK_EQ(cl_send("x", 1), -EPERM);
    CHECK(getenv("CL_WORKER_ID") == NULL && getenv("CL_CHANNEL_FD") == NULL);
    check_ignore_descriptors = 1;
}

/* A program gets a worker's variables long after, while the number leads to something else. */
static void stale_environment(void) {
    int count = times(10) < 100 ? times(10) : 100;
    for (int i = 0; i < count; i++) {
        static const int types[] = {SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM};
        int pair[2], status[2];
        char number[16], byte;
        SYS(socketpair(AF_UNIX, types[i % 3], 0, pair));
        SYS(fcntl(pair[1], F_SETFD, FD_CLOEXEC));
        if (i % 2 == 0) CHECK_EQ(send(pair[1], "for somebody else", 17, 0), 17);
        status[0] = fcntl(pair[0], F_GETFL);
        snprintf(number, sizeof number, "%d", i % 5 == 4 ? 900 + i : pair[0]);
        setenv("CL_CHANNEL_FD", number, 1);
        setenv("CL_WORKER_ID", "3", 1);
        setenv("CL_WORKER_SLOT", "1", 1);
        WAIT_SUCCESS(start_role("_is_nobody", -1));
        status[1] = fcntl(pair[0], F_GETFL);
        CHECK_EQ(status[0], status[1]);
        CHECK(recv(pair[1], &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
        CHECK_EQ(recv(pair[0], &byte, 1, MSG_DONTWAIT), i % 2 == 0 ? 1 : -1);
        close(pair[0]);
        close(pair[1]);
    }
    unsetenv("CL_CHANNEL_FD");
    unsetenv("CL_WORKER_ID");
    unsetenv("CL_WORKER_SLOT");
    char what[100];
    snprintf(what, sizeof what, "programs with a copied environment (%d): taken for a worker, bytes written", count);
    figure(what, "0, 0", "0, 0", 1);
}

static const check_case_t cases[] = {
    {"style_default", style_default}, {"style_ignored", style_ignored}, {"style_handler", style_handler},
    {"style_thread", style_thread}, {"_ends", ends}, {"_waits", waits}, {"_serves", serves}, {"_bare", bare},
    {"failing_starts", failing_starts}, {"reused_numbers", reused_numbers}, {"starting_threads_end", starting_threads_end},
    {"spawning_in_a_storm", spawning_in_a_storm}, {"host_starts_others", host_starts_others},
    {"port_is_free", port_is_free}, {"_primary_of_grandchildren", primary_of_grandchildren},
    {"stale_environment", stale_environment}, {"_is_nobody", is_nobody},
};
CHECK_MAIN(cases)
