/* cl_spawn: another program or this one again, with its own arguments, environment, folder; and failures told. */
#include "primary.h"
#include <pthread.h>

/* Runs a shell line as a worker process; what it prints comes back through a file. */
static int run_shell(const char *line, char *const *envp, const char *cwd) {
    cl_spawn_options_t options;
    static char program[] = "/bin/sh", flag[] = "-c", text[1024];
    char *argv[] = {program, flag, text, NULL};
    snprintf(text, sizeof text, "%s", line);
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    options.envp = envp;
    options.cwd = cwd;
    return cl_spawn(&options);
}

static const char *contents(const char *name) {
    static char text[8192];
    int fd = SYS(open(case_path(name), O_RDONLY | O_CLOEXEC));
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    close(fd);
    return text;
}

static void expect_success(int id) {
    const seen_t *end = await_exit(OK(id), 5000);
    CHECK_EQ(end->signal, 0);
    CHECK_EQ(end->exit_code, 0);
}

static void arguments(void) {
    cl_spawn_options_t options;
    char other_name[] = "another name", role[] = "_arguments", one[] = "one", two[] = "two words", empty[] = "";
    char *argv[] = {other_name, role, one, two, empty, NULL};
    primary_ready(leave_at_once);
    ZERO(options);
    options.size = sizeof options;
    options.argv = argv; /* file NULL: this program */
    expect_success(cl_spawn(&options));
    finish();
}

static void arguments_here(void) {
    CHECK(worker_side());
    char text[256];
    int fd = SYS(open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC));
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    const char *wanted = "_arguments\0one\0two words\0";
    CHECK(n > 26 && memcmp(text + n - 26, wanted, 26) == 0);
}

static void same_again(void) {
    if (worker_side()) return;
    primary_ready(leave_at_once);
    expect_success(spawn_worker());
    expect_success(spawn_worker());
    finish();
}

static void environment(void) {
    char one[] = "ONE=1", two[] = "CHECK_WORDS=some words", place[PATH_MAX];
    char *envp[] = {one, two, place, NULL};
    snprintf(place, sizeof place, "CHECK_DIR=%s", getenv("CHECK_DIR"));
    setenv("ONLY_HERE", "yes", 1);
    primary_ready(leave_at_once);
    /* Its own environment, and what makes it a worker. */
    expect_success(run_shell("/usr/bin/env > \"$CHECK_DIR/env\"", envp, NULL));
    const char *text = contents("env");
    CHECK(strstr(text, "ONE=1\n") != NULL && strstr(text, "CHECK_WORDS=some words\n") != NULL);
    CHECK(strstr(text, "ONLY_HERE") == NULL);
    CHECK(strstr(text, "CL_WORKER_ID=2\n") != NULL);
    CHECK(strstr(text, "CL_WORKER_SLOT=0\n") != NULL);
    CHECK(strstr(text, "CL_CHANNEL_FD=") != NULL);
    /* The program's own where none is given; nothing of ours stays in that. */
    expect_success(run_shell("/usr/bin/env > \"$CHECK_DIR/env\"", NULL, NULL));
    text = contents("env");
    CHECK(strstr(text, "ONLY_HERE=yes\n") != NULL && strstr(text, "CL_WORKER_ID=3\n") != NULL);
    CHECK(getenv("CL_WORKER_ID") == NULL && getenv("CL_CHANNEL_FD") == NULL);
    /* A stale variable in the given environment does not win over the true one. */
    char stale[] = "CL_WORKER_ID=99";
    envp[0] = stale;
    expect_success(run_shell("/usr/bin/env > \"$CHECK_DIR/env\"", envp, NULL));
    CHECK(strstr(contents("env"), "CL_WORKER_ID=4\n") != NULL && strstr(contents("env"), "CL_WORKER_ID=99") == NULL);
    finish();
}

static void folder(void) {
    char wanted[PATH_MAX], line[PATH_MAX + 2], cwd[PATH_MAX], again[PATH_MAX];
    SYS(mkdir(case_path("folder"), 0700));
    CHECK(realpath(case_path("folder"), wanted) != NULL);
    CHECK(getcwd(cwd, sizeof cwd) != NULL);
    primary_ready(leave_at_once);
    expect_success(run_shell("pwd -P > here", NULL, case_path("folder")));
    snprintf(line, sizeof line, "%s\n", wanted);
    CHECK(strcmp(contents("folder/here"), line) == 0);
    CHECK(getcwd(again, sizeof again) != NULL && strcmp(cwd, again) == 0);
    finish();
}

/* What keeps a program from starting comes back as a code; nothing of the attempt remains. */
static void failures(void) {
    cl_spawn_options_t options;
    char plain_file[PATH_MAX], no_folder[PATH_MAX], text_file[PATH_MAX];
    if (under_valgrind()) check_skip("valgrind makes a fork of every vfork, so that no child can tell what failed");
    primary_ready(leave_at_once);
    snprintf(plain_file, sizeof plain_file, "%s", case_path("not-executable"));
    snprintf(no_folder, sizeof no_folder, "%s", case_path("no/such/program"));
    snprintf(text_file, sizeof text_file, "%s", case_path("text"));
    close(SYS(open(plain_file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
    int fd = SYS(open(text_file, O_CREAT | O_WRONLY | O_CLOEXEC, 0700));
    CHECK_EQ(write(fd, "\x7f" "ELF but not really", 19), 19);
    close(fd);
    ZERO(options);
    options.size = sizeof options;
    for (int round = 0; round < 30; round++) {
        options.file = no_folder;
        CHECK_EQ(cl_spawn(&options), -ENOENT);
        CHECK(strstr(cl_last_error(), "no/such/program") != NULL);
        options.file = plain_file;
        CHECK_EQ(cl_spawn(&options), -EACCES);
        options.file = text_file;
        CHECK_EQ(cl_spawn(&options), -ENOEXEC);
        options.file = getenv("CHECK_DIR");
        CHECK_EQ(cl_spawn(&options), -EACCES);
        options.file = NULL;
        options.cwd = no_folder;
        CHECK_EQ(cl_spawn(&options), -ENOENT);
        options.cwd = plain_file;
        CHECK_EQ(cl_spawn(&options), -ENOTDIR);
        options.cwd = NULL;
        options.user = "no-such-user-here";
        CHECK(cl_spawn(&options) < 0);
        CHECK(strstr(cl_last_error(), "no-such-user-here") != NULL);
        options.user = NULL;
        options.group = "no-such-group-here";
        CHECK(cl_spawn(&options) < 0);
        options.group = NULL;
    }
    CHECK(no_child_left());
    CHECK_EQ(cl_worker_ids(NULL, 0), 0);
    pump_for(50);
    CHECK_EQ(seen_count, 0); /* it never was, so there is nothing to tell */
    CHECK_EQ(count_descriptors(), check_baseline);
    finish();
}

/* -- A host with threads, and threads that come and go ----------------------------------------------------------- */

static volatile int storm_over;

/* Holds the locks of malloc and of the environment most of the time. The variables exist before: the array itself may
 * not change under a reader, as every program with threads must see to. */
static void *storm(void *argument) {
    const char *name = (const char *)argument;
    for (int i = 0; !storm_over; i++) {
        char *some = (char *)malloc(5000);
        if (some != NULL) memset(some, 1, 5000);
        setenv(name, i % 2 == 0 ? "one value" : "another", 1);
        free(some);
    }
    return NULL;
}

static void threaded_host(void) {
    static char names[3][16] = {"STORM_1", "STORM_2", "STORM_3"};
    pthread_t threads[3];
    if (worker_side()) exit(serve_any_port());
    for (int i = 0; i < 3; i++) setenv(names[i], "none", 1);
    primary_ready(leave_at_once);
    for (int i = 0; i < 3; i++) CHECK_EQ(pthread_create(&threads[i], NULL, storm, names[i]), 0);
    int port = 0, ids[6];
    for (int i = 0; i < 6; i++) ids[i] = spawn_worker();
    for (int i = 0; i < 6; i++) port = await_listening(ids[i], 1);
    for (int i = 0; i < 12; i++) CHECK(ask(port) > 0);
    for (int i = 0; i < 20; i++) expect_success(run_shell("exit 0", NULL, NULL));
    storm_over = 1;
    for (int i = 0; i < 3; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    finish();
}

static void *spawn_here(void *argument) {
    *(int *)argument = OK(cl_spawn(NULL));
    return NULL;
}

/* The thread that started a worker ends: the worker does not. */
static void starting_thread_ends(void) {
    pthread_t thread;
    int ids[4], port = 0;
    if (worker_side()) exit(serve_any_port());
    primary_ready(leave_at_once);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, spawn_here, &ids[i]), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    for (int i = 0; i < 4; i++) port = await_listening(ids[i], 1);
    pump_for(100);
    for (int i = 0; i < 8; i++) CHECK(ask(port) > 0);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 0);
    finish();
}

/* Calls about workers from other threads, while one is in cl_run. */
static void *run_primary(void *argument) {
    (void)argument;
    CHECK_EQ(cl_run(), 0);
    return NULL;
}

static void from_another_thread(void) {
    pthread_t thread;
    int ids[3];
    if (worker_side()) exit(serve_any_port());
    primary_ready(leave_at_once);
    for (int i = 0; i < 3; i++) ids[i] = spawn_worker();
    CHECK_EQ(pthread_create(&thread, NULL, run_primary, NULL), 0);
    for (int i = 0; i < 100; i++) {
        cl_worker_info_t info;
        int listed[8];
        ZERO(info);
        info.size = sizeof info;
        OK(cl_worker_send(ids[i % 3], "message", 7));
        OK(cl_worker_info(ids[i % 3], &info));
        CHECK(cl_worker_ids(listed, 8) >= 3);
    }
    int four = spawn_worker();
    OK(cl_worker_kill(ids[0], SIGKILL));
    OK(cl_worker_disconnect(ids[1]));
    WAIT_UNTIL(cl_worker_ids(NULL, 0) == 2, 5000);
    CHECK(gone_within(pid_of(four), 1) == 0);
    OK(cl_stop(2000));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(count_events(CL_EVENT_EXIT, 0), 4);
    finish();
}

/* -- Another thread of the host that forks, and whose children go on without exec -------------------------------------------- */

static volatile int forking = 1;

static void *fork_and_hold(void *argument) {
    pid_t *children = (pid_t *)argument;
    for (int i = 0; i < 100 && forking; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            pause();
            _exit(0);
        }
    }
    return NULL;
}

/* Whatever such a child has a copy of, cl_spawn does not wait for its end. */
static void spawn_beside_forks(const char *user) {
    static pid_t children[100];
    pthread_t thread;
    char program[] = "/bin/true";
    char *argv[] = {program, NULL};
    cl_spawn_options_t options;
    int ids[50];
    if (under_valgrind()) check_skip("valgrind makes a fork of every vfork");
    ZERO(options);
    options.size = sizeof options;
    options.file = program;
    options.argv = argv;
    options.user = user;
    primary_ready(leave_at_once);
    CHECK_EQ(pthread_create(&thread, NULL, fork_and_hold, children), 0);
    long long begin = now_ms();
    for (int i = 0; i < 50 && now_ms() - begin < 20000; i++) ids[i] = OK(cl_spawn(&options));
    forking = 0;
    pthread_join(thread, NULL);
    for (int i = 0; i < 100; i++) {
        if (children[i] <= 0) continue;
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    for (int i = 0; i < 50; i++) CHECK_EQ(await_exit(ids[i], 5000)->exit_code, 0);
    finish();
}

static void others_fork(void) { spawn_beside_forks(NULL); }

static void others_fork_user(void) {
    if (geteuid() != 0) check_skip("only root can give another user");
    spawn_beside_forks("nobody");
}

static const check_case_t cases[] = {
    {"others_fork", others_fork}, {"others_fork_user", others_fork_user},
    {"arguments", arguments},     {"_arguments", arguments_here},   {"same_again", same_again},
    {"environment", environment}, {"folder", folder},               {"failures", failures},
    {"threaded_host", threaded_host}, {"starting_thread_ends", starting_thread_ends},
    {"from_another_thread", from_another_thread},
};
CHECK_MAIN(cases)
