/* A cluster in a process group of its own, for tests that signal all of it: what its processes say, and when they go on. */
#ifndef GROUP_H
#define GROUP_H

#include "primary.h"

/* What the cluster says to the case, what lets a worker go on, and the settings. To be prepared before it starts. */
static int notes[2], go[2];
static cl_settings_t group_settings;
static int group_workers = 1;

static inline void open_notes(void) {
    SYS(pipe2(notes, O_CLOEXEC));
    SYS(pipe2(go, O_CLOEXEC));
    ZERO(group_settings);
    group_settings.size = sizeof group_settings;
    check_ignore_descriptors = 1;
}

static inline void note(const char *word, int number) {
    char line[64];
    int n = snprintf(line, sizeof line, "%s %d\n", word, number);
    CHECK_EQ(write(notes[1], line, (size_t)n), n);
}

static inline int expect_note(const char *word) {
    char line[64], found[32] = "";
    int number = -1;
    if (!readable_within(notes[0], 8000 * check_slow())) check_fail(__FILE__, __LINE__, "nobody says \"%s\"", word);
    CHECK(receive_line(notes[0], line, sizeof line) > 0);
    CHECK_EQ(sscanf(line, "%31s %d", found, &number), 2);
    if (strcmp(found, word) != 0) check_fail(__FILE__, __LINE__, "\"%s\" instead of \"%s\"", line, word);
    return number;
}

static inline int no_note(int ms) { return !readable_within(notes[0], ms); }

static inline void let_go(void) { CHECK_EQ(write(go[1], "x", 1), 1); }

static inline void wait_for_go(void) {
    char byte;
    while (read(go[0], &byte, 1) < 0) CHECK_EQ(errno, EINTR);
}

/* Has its first connection in hand until it is told to go on. Says its port, and then its pid. */
static inline int hold_one(void *unused) {
    (void)unused;
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener == -ESHUTDOWN) return 0;
    note("port", bound_port(OK(listener)));
    int connection = cl_accept(listener, NULL, NULL);
    if (connection == -ESHUTDOWN) return 0;
    note("hand", (OK(connection), (int)getpid()));
    wait_for_go();
    answer(connection);
    return serve_listener(listener);
}

/* What cl_serve runs in a process of the group; its exit code is 0 for a stop in order. */
static inline int serve_group(int (*main_of_workers)(void *)) {
    OK(cl_setup_primary(&group_settings));
    int code = cl_serve(group_workers, main_of_workers, NULL);
    return code == 0 ? 0 : 9;
}

static inline pid_t start_group(int (*main_of_workers)(void *), void (*before)(void)) {
    pid_t primary = SYS(fork());
    if (primary != 0) {
        (void)setpgid(primary, primary);
        return primary;
    }
    SYS(setpgid(0, 0));
    if (before != NULL) before();
    _exit(serve_group(main_of_workers));
}

/* A client that is in a worker's hand, which is the result. */
static inline int take_in_hand(int port, int *client) {
    *client = connect4(port);
    return expect_note("hand");
}

static inline void expect_answer(int client) {
    char text[96];
    int n = receive_all(client, text, sizeof text);
    if (n <= 0) check_fail(__FILE__, __LINE__, "instead of an answer: %s", n < 0 ? strerror(-n) : "end of file");
    close(client);
}

/* The door is shut once the primary has begun to stop. */
static inline int is_refused(int port) {
    int client = try_connect4(port);
    if (client >= 0) close(client);
    return client == -ECONNREFUSED;
}

static inline void expect_signalled(int status, int number) {
    if (!WIFSIGNALED(status) || WTERMSIG(status) != number)
        check_fail(__FILE__, __LINE__, "ended with status %#x, not by signal %d", status, number);
}

static inline void tell_exits(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_EXIT) note("exit", event->signal * 1000 + event->exit_code);
}

static inline void with_exits(void) { OK(cl_on_event(tell_exits, NULL)); }

static inline void expect_stopped(pid_t primary) { CHECK_EQ(wait_status(primary), 0); }

static inline int number_in(const char *name) {
    const char *text = getenv(name);
    CHECK(text != NULL);
    return atoi(text);
}

/* Ends of the case's pipes in a program that was started with them. */
static inline void inherit_notes(void) {
    ZERO(group_settings);
    group_settings.size = sizeof group_settings;
    notes[1] = number_in("CHECK_NOTES");
    go[0] = number_in("CHECK_GO");
    check_ignore_descriptors = 1;
}

static inline void export_notes(void) {
    char text[16];
    snprintf(text, sizeof text, "%d", notes[1]);
    SYS(setenv("CHECK_NOTES", text, 1));
    snprintf(text, sizeof text, "%d", go[0]);
    SYS(setenv("CHECK_GO", text, 1));
}

static inline struct sigaction disposition(int number) {
    struct sigaction action;
    SYS(sigaction(number, NULL, &action));
    return action;
}

#endif
