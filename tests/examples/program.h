/* Starts an example as a user would, listens to what it prints, and sees it end. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "../c/net.h"

#define ANSWER_MS 5000

typedef struct {
    pid_t pid;
    int output;       /* its standard output and error */
    char line[512];   /* the line that expect_line found */
    char said[16384]; /* everything so far, as far as there is room */
} program_t;

static inline const char *example(const char *name) {
    static char path[2][PATH_MAX];
    static int turn;
    const char *folder = getenv("EXAMPLES");
    CHECK(folder != NULL);
    snprintf(path[++turn % 2], PATH_MAX, "%s/%s", folder, name);
    return path[turn % 2];
}

/* `arguments` begins with the program and ends with NULL. CHECK_WRAP is put before it word by word. */
static inline program_t start(const char *const *arguments) {
    const char *argv[24];
    char words[1024];
    int count = 0, ends[2];
    const char *wrap = getenv("CHECK_WRAP");
    snprintf(words, sizeof words, "%s", wrap != NULL ? wrap : "");
    for (char *word = strtok(words, " "); word != NULL && count < 12; word = strtok(NULL, " ")) argv[count++] = word;
    for (int i = 0; arguments[i] != NULL && count < 23; i++) argv[count++] = arguments[i];
    argv[count] = NULL;

    program_t program;
    ZERO(program);
    SYS(pipe2(ends, O_CLOEXEC));
    program.pid = SYS(fork());
    if (program.pid == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execvp(argv[0], (char *const *)argv);
        _exit(126);
    }
    close(ends[1]);
    program.output = ends[0];
    return program;
}

#define START(...) start((const char *const[]){__VA_ARGS__, NULL})

/* The next line the program prints, without its end; false at its end. */
static inline int next_line(program_t *program) {
    size_t length = 0, before = strlen(program->said);
    for (;;) {
        char one;
        if (!readable_within(program->output, ANSWER_MS * check_slow()))
            check_fail(__FILE__, __LINE__, "nothing more was printed after: %s", program->said);
        ssize_t n = read(program->output, &one, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        if (before + 1 < sizeof program->said) program->said[before++] = one;
        if (one == '\n') break;
        if (length + 1 < sizeof program->line) program->line[length++] = one;
    }
    program->line[length] = '\0';
    return 1;
}

/* Reads on to the line that has this text in it. */
static inline const char *expect_line(program_t *program, const char *text) {
    while (next_line(program)) {
        const char *found = strstr(program->line, text);
        if (found != NULL) return found;
    }
    check_fail(__FILE__, __LINE__, "\"%s\" is not in:\n%s", text, program->said);
    return NULL;
}

/* Reads to the end of what the program prints, and gives its exit code; 128 + n where signal n ended it. */
static inline int end_of(program_t *program) {
    while (next_line(program)) continue;
    close(program->output);
    if (!gone_within(program->pid, ANSWER_MS)) check_fail(__FILE__, __LINE__, "does not end: %s", program->said);
    int status = wait_status(program->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Asks it to end, as Ctrl-C or a service manager does, and checks that it does so well. */
static inline void stop(program_t *program) {
    SYS(kill(program->pid, SIGTERM));
    int code = end_of(program);
    if (code != 0) check_fail(__FILE__, __LINE__, "exit code %d after: %s", code, program->said);
}

/* Reads on to "worker N (pid P) listens on A port X", `count` times. The pids where asked for; the port. */
static inline int await_workers(program_t *program, int count, int *pids) {
    int id, pid, port = 0;
    for (int i = 0; i < count; i++) {
        expect_line(program, " listens on ");
        if (sscanf(program->line, "worker %d (pid %d) listens on 127.0.0.1 port %d", &id, &pid, &port) != 3)
            check_fail(__FILE__, __LINE__, "not understood: %s", program->line);
        if (pids != NULL) pids[i] = pid;
    }
    return port;
}

static inline int entries_of(int pid, const char *what) {
    char path[64];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", pid, what);
    DIR *folder = opendir(path);
    if (folder == NULL) check_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static inline int descriptors_of(int pid) { return entries_of(pid, "fd"); }
static inline int threads_of(int pid) { return entries_of(pid, "task"); }

/* How many children a process has; those that are dead and were not waited for, in *zombies. */
static inline int children_of(int pid, int *zombies) {
    char path[64], list[1024] = "", state;
    int count = 0;
    *zombies = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    int fd = SYS(open(path, O_RDONLY | O_CLOEXEC));
    SYS(read(fd, list, sizeof list - 1));
    close(fd);
    for (char *child = strtok(list, " "); child != NULL; child = strtok(NULL, " ")) {
        count++;
        snprintf(path, sizeof path, "/proc/%.20s/stat", child);
        FILE *file = fopen(path, "r");
        if (file != NULL && fscanf(file, "%*d (%*[^)]) %c", &state) == 1) *zombies += state == 'Z';
        if (file != NULL) fclose(file);
    }
    return count;
}

/* -- Clients of an echo server ---------------------------------------------------------------------------------- */

static inline void expect_bytes(int fd, const char *wanted) {
    char got[256] = "";
    size_t have = 0, length = strlen(wanted);
    while (have < length) {
        ssize_t n = recv(fd, got + have, length - have, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            check_fail(__FILE__, __LINE__, "\"%s\", then %s came instead of \"%s\"", got,
                       n == 0 ? "the end" : strerror(errno), wanted);
        have += (size_t)n;
    }
    CHECK(memcmp(got, wanted, length) == 0);
}

static inline void expect_end(int fd) {
    char one;
    CHECK_EQ(recv(fd, &one, 1, 0), 0);
    close(fd);
}

static inline void say(int fd, const char *text) {
    send_text(fd, text);
    expect_bytes(fd, text);
}

/* Sends far more than the sockets hold, reading only when nothing more goes out: the server must send in parts, keep
 * what it owes, and lose nothing. */
static inline void echo_much(int fd, size_t total) {
    static char out[65536], in[65536];
    size_t sent = 0, received = 0;
    for (size_t i = 0; i < sizeof out; i++) out[i] = (char)('a' + i % 23);
    SYS(fcntl(fd, F_SETFL, O_NONBLOCK));
    while (received < total) {
        ssize_t n = 0;
        if (sent < total) {
            size_t at = sent % sizeof out, length = sizeof out - at;
            n = send(fd, out + at, length < total - sent ? length : total - sent, MSG_NOSIGNAL);
            if (n > 0) sent += (size_t)n;
        }
        if (n > 0) continue;
        if (!readable_within(fd, ANSWER_MS * check_slow()))
            check_fail(__FILE__, __LINE__, "%zu bytes sent, and no more than %zu came back", sent, received);
        size_t at = received % sizeof out;
        n = recv(fd, in, sizeof in - at, 0);
        if (n <= 0) check_fail(__FILE__, __LINE__, "ended after %zu of %zu bytes", received, total);
        CHECK(memcmp(in, out + at, (size_t)n) == 0);
        received += (size_t)n;
    }
    SYS(fcntl(fd, F_SETFL, 0));
}

#endif
