/* Unix sockets while others interfere: paths that are swapped, dead servers' files, and several who find the same one. */
#include "figure.h"
#include "nobody.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>

/* By several workers, because the primary opens no more than some hundred addresses a second for one. */
enum { ASKERS = 4, ATTEMPTS = 10000 };

/* -- Somebody else's files, which must stay as they are ------------------------------------------------------------------------ */

static struct stat victim_before;

static void make_victim(void) {
    SYS(mkdir(case_path("outside"), 0700));
    int file = SYS(open(case_path("outside/victim"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    CHECK_EQ(write(file, "mine", 4), 4);
    close(file);
    SYS(stat(case_path("outside/victim"), &victim_before));
}

static void expect_victim_unharmed(void) {
    struct stat now;
    int files = 0;
    SYS(stat(case_path("outside/victim"), &now));
    CHECK_EQ(now.st_mode, victim_before.st_mode);
    CHECK_EQ(now.st_ino, victim_before.st_ino);
    CHECK_EQ(now.st_size, 4);
    DIR *folder = opendir(case_path("outside"));
    CHECK(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) files += entry->d_name[0] != '.';
    closedir(folder);
    CHECK_EQ(files, 1);
}

/* -- A hostile worker under another user, which asks, and swaps what the path leads to --------------------------------------- */

static int ask_for(unsigned number, const char *path) {
    int code = ask_to_listen(number, unix_address(path), CL_LISTEN_READABLE_ALL | CL_LISTEN_WRITABLE_ALL);
    if (code == 0) close_granted();
    return code;
}

static void put_link(const char *name, const char *target) {
    unlink(case_path("sticky/new"));
    if (symlink(target, case_path("sticky/new")) == 0) rename(case_path("sticky/new"), case_path(name));
}

/* What a user can do where he may write: in a sticky directory with what is his own, and in his own directory. */
static void swap_for_ever(void) {
    char outside[PATH_MAX], victim[PATH_MAX];
    snprintf(outside, sizeof outside, "%s", case_path("outside"));
    snprintf(victim, sizeof victim, "%s", case_path("outside/victim"));
    for (;;) {
        put_link("sticky/socket", victim);
        put_link("sticky/way", outside);
        put_link("theirs/way", outside);
        unlink(case_path("sticky/socket"));
        unlink(case_path("sticky/way"));
        unlink(case_path("theirs/way"));
        mkdir(case_path("sticky/way"), 0755);
        mkdir(case_path("theirs/way"), 0755);
        close(open(case_path("sticky/socket"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        unlink(case_path("sticky/socket"));
        rmdir(case_path("sticky/way"));
        rmdir(case_path("theirs/way"));
    }
}

static void swap_and_ask(void) {
    static const char *const paths[] = {"sticky/socket", "sticky/way/socket", "theirs/way/socket"};
    int granted = 0;
    greet();
    pid_t swapper = SYS(fork());
    if (swapper == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        swap_for_ever();
    }
    for (int i = 0; i < ATTEMPTS / ASKERS; i++) {
        int code = ask_for((unsigned)i + 1, case_path(paths[i % 3]));
        /* What is in a directory of his own is never served; what is in the sticky one is when the name is free. */
        if (i % 3 != 0) CHECK(code < 0);
        granted += code == 0;
    }
    kill(swapper, SIGKILL);
    waitpid(swapper, NULL, 0);
    CHECK(granted > 0 && granted < ATTEMPTS / ASKERS);
}

static void swapped_paths(void) {
    char rule[PATH_MAX], report[64];
    if (getenv("CL_CHANNEL_FD") != NULL) {
        swap_and_ask();
        return;
    }
    need_nobody();
    struct passwd *nobody = getpwnam("nobody");
    make_victim();
    SYS(chmod(getenv("CHECK_DIR"), 0755));
    SYS(mkdir(case_path("sticky"), 0700));
    SYS(chmod(case_path("sticky"), 01777));
    SYS(mkdir(case_path("theirs"), 0755));
    SYS(chown(case_path("theirs"), nobody->pw_uid, nobody->pw_gid));
    snprintf(rule, sizeof rule, "unix:%s/", getenv("CHECK_DIR"));
    const char *allow[] = {rule, NULL};
    allow_only(allow);
    primary_ready(leave_at_once);
    int ids[ASKERS];
    for (int i = 0; i < ASKERS; i++) ids[i] = spawn_as_nobody("swapped_paths");
    for (int i = 0; i < ASKERS; i++) CHECK_EQ(await_exit(ids[i], 30000)->exit_code, 0);
    expect_victim_unharmed();
    snprintf(report, sizeof report, "0 of %d", ATTEMPTS);
    figure("policy", "sockets in a wrong place while the path is swapped", "libcluster", report, "0", 1);
    finish();
}

static int listener_of_calls;

/* Holds the other thread up where it opens what it has just bound, and puts a link of another file there meanwhile. */
static void *swap_meanwhile(void *argument) {
    struct pollfd ready;
    (void)argument;
    ready.fd = listener_of_calls;
    ready.events = POLLIN;
    while (poll(&ready, 1, 10000) == 1 && (ready.revents & POLLIN) != 0) {
        struct seccomp_notif call;
        struct seccomp_notif_resp answer;
        struct stat there;
        ZERO(call);
        ZERO(answer);
        if (ioctl(listener_of_calls, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) break;
        if (lstat(case_path("open/socket"), &there) == 0 && S_ISSOCK(there.st_mode)) {
            unlink(case_path("open/socket"));
            if (link(case_path("outside/victim"), case_path("open/socket")) != 0) break;
        }
        answer.id = call.id;
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        ioctl(listener_of_calls, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    return NULL;
}

static int watch_openings(void) {
    struct sock_fprog program;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    program.len = sizeof filter / sizeof filter[0];
    program.filter = filter;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void *listen_there(void *argument) {
    cl_listen_options_t options;
    int *ready = (int *)argument;
    listener_of_calls = watch_openings();
    CHECK_EQ(write(ready[1], "", 1), 1);
    if (listener_of_calls < 0) return NULL;
    ZERO(options);
    options.size = sizeof options;
    options.flags = CL_LISTEN_WRITABLE_ALL | CL_LISTEN_READABLE_ALL;
    options.address = unix_address(case_path("open/socket"));
    CHECK_EQ(cl_listen_with(&options), -ENOTSOCK);
    return NULL;
}

/* Where everybody may write, and without rules: somebody may take the socket's place at once, but the mode that is changed is only
 * ever a socket's. (Whose files may be linked, fs.protected_hardlinks says.) */
static void swapped_file(void) {
    pthread_t swapper, listening;
    int ready[2];
    char byte;
    if (under_valgrind()) check_skip("valgrind makes other system calls than the program");
    make_victim();
    SYS(mkdir(case_path("open"), 0777));
    SYS(pipe2(ready, O_CLOEXEC));
    CHECK_EQ(pthread_create(&listening, NULL, listen_there, ready), 0);
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    if (listener_of_calls < 0) check_skip("system calls cannot be watched here");
    CHECK_EQ(pthread_create(&swapper, NULL, swap_meanwhile, NULL), 0);
    pthread_join(listening, NULL); /* with the only thread that is watched the watch ends */
    pthread_join(swapper, NULL);
    close(listener_of_calls);
    close(ready[0]);
    close(ready[1]);
    struct stat now, there;
    SYS(stat(case_path("outside/victim"), &now));
    SYS(stat(case_path("open/socket"), &there));
    CHECK_EQ(there.st_ino, now.st_ino); /* it was swapped, and nobody removed it */
    CHECK_EQ(now.st_mode, victim_before.st_mode);
}

/* -- Dead servers ------------------------------------------------------------------------------------------------------------ */

/* One of several that want the same path: waits for the word, and serves until it is killed, if it may. */
static pid_t start_server(const char *path, int go, int other_end, int output) {
    pid_t pid = SYS(fork());
    if (pid != 0) return pid;
    char byte;
    close(other_end);
    CHECK_EQ(read(go, &byte, 1), 0); /* that end is closed for all at once */
    int listener = cl_listen(unix_address(path), 0);
    int said[2];
    said[0] = (int)getpid();
    said[1] = listener < 0 ? listener : 0;
    CHECK_EQ(write(output, said, sizeof said), (ssize_t)sizeof said);
    while (listener >= 0) {
        int connection = OK(cl_accept(listener, NULL, NULL));
        dprintf(connection, "%d\n", (int)getpid());
        close(connection);
    }
    _exit(0);
}

static int who_serves(const char *path) {
    char text[32];
    int client = try_connect_unix(path);
    if (client < 0) return client;
    int n = receive_line(client, text, sizeof text);
    close(client);
    return n > 0 ? atoi(text) : -1;
}

/* A server that is killed leaves its file, and the next takes the place, a hundred times. Of four that come at once one gets it,
 * and he who has it keeps it. */
static void killed_and_bound_again(void) {
    enum { ROUNDS = 100, CONTENDERS = 4 };
    char place[PATH_MAX], report[64];
    int results[2], rounds = under_valgrind() ? 4 : ROUNDS;
    snprintf(place, sizeof place, "%s", case_path("server"));
    SYS(pipe2(results, O_CLOEXEC));
    for (int round = 0; round < rounds; round++) {
        pid_t contenders[CONTENDERS], winner = 0;
        int go[2];
        SYS(pipe2(go, O_CLOEXEC));
        for (int i = 0; i < CONTENDERS; i++) contenders[i] = start_server(place, go[0], go[1], results[1]);
        close(go[0]);
        close(go[1]);
        for (int i = 0; i < CONTENDERS; i++) {
            int said[2];
            CHECK(readable_within(results[0], 5000 * check_slow()));
            CHECK_EQ(read(results[0], said, sizeof said), (ssize_t)sizeof said);
            if (said[1] != 0) CHECK_EQ(said[1], -EADDRINUSE);
            else if (winner != 0) check_fail(__FILE__, __LINE__, "round %d: both %d and %d have it", round, (int)winner, said[0]);
            else winner = said[0];
        }
        CHECK(winner != 0);
        CHECK_EQ(who_serves(place), winner);
        for (int i = 0; i < CONTENDERS; i++) {
            SYS(kill(contenders[i], SIGKILL));
            CHECK_EQ(waitpid(contenders[i], NULL, 0), contenders[i]);
        }
    }
    close(results[0]);
    close(results[1]);
    snprintf(report, sizeof report, "%d of %d", rounds, rounds);
    figure("policy", "servers killed whose unix socket was bound again by one of four", "libcluster", report, "100 of 100", 1);
}

static const check_case_t cases[] = {
    {"swapped_paths", swapped_paths}, {"swapped_file", swapped_file}, {"killed_and_bound_again", killed_and_bound_again},
};
CHECK_MAIN(cases)
