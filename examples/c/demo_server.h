/* The server as demo.c sees it: a process in a group of its own that is started, listened to and ended, and the workers it tells of. */
#ifndef DEMO_SERVER_H
#define DEMO_SERVER_H

#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum {
    WORKERS = 4,
    SEEN = 64,    /* workers there is room for in the table: the four, their replacements, and a crash loop's worth */
    START_MS = 10000,
    STOP_MS = 10000,
};

struct worker {
    int id, slot, pid, listening;
    long served;
};

static struct {
    pid_t pid; /* 0: not running */
    int output, port;
    char address[64];
    char line[256]; /* the beginning of a line that is not complete yet */
    size_t have;
    char said[256]; /* the last line that was not about a worker: what is wrong, if something is */
} server;

static struct worker workers[SEEN];
static int worker_count;

static struct {
    int id, slot;
    long at; /* after so many connections; 0: nobody was killed yet */
    long long when, replaced_after;
    int replacement; /* worker id, 0: not yet */
} killed;

static volatile sig_atomic_t interrupted;

static void on_signal(int number) { interrupted = number; }

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Ends the server, politely at first. Returns false when it took force or did not end well. */
static int stop_server(void) {
    if (server.pid == 0)
        return 0;
    kill(server.pid, SIGTERM);
    char rest[512];
    struct pollfd output = {server.output, POLLIN, 0};
    int forced = 0, status = 0;
    for (long long deadline = now_ms() + STOP_MS;;) {
        pid_t gone = waitpid(server.pid, &status, WNOHANG);
        if (gone == server.pid)
            break;
        if (!forced && now_ms() > deadline) {
            kill(-server.pid, SIGKILL); /* the whole group: its workers too */
            forced = 1;
        }
        /* What it still says must be read, or it could wait for room in the pipe. At its end this only paces. */
        if (poll(&output, 1, 20) > 0 && read(server.output, rest, sizeof rest) <= 0)
            output.fd = -1;
    }
    close(server.output);
    server.pid = 0;
    return !forced && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#ifdef __GNUC__
__attribute__((noreturn, format(printf, 1, 2)))
#endif
static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fprintf(stderr, "demo: FAILED: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    stop_server();
    exit(1);
}

static struct worker *worker_of(int id) {
    for (int i = 0; i < worker_count; i++)
        if (workers[i].id == id)
            return &workers[i];
    if (worker_count == SEEN)
        fail("more than %d workers were started", SEEN);
    workers[worker_count].id = id;
    workers[worker_count].slot = -1;
    return &workers[worker_count++];
}

static int listening(void) {
    int count = 0;
    for (int i = 0; i < worker_count; i++)
        count += workers[i].listening;
    return count;
}

static void start_server(const char *path) {
    char address[] = "127.0.0.1:0", count[16];
    snprintf(count, sizeof count, "%d", WORKERS);
    char *arguments[] = {(char *)path, address, count, NULL};
    int pipes[2];
    if (pipe(pipes) < 0 || fcntl(pipes[0], F_SETFD, FD_CLOEXEC) < 0 || fcntl(pipes[0], F_SETFL, O_NONBLOCK) < 0)
        fail("pipe: %s", strerror(errno));

    /* A process group of its own: Ctrl-C is ours, and the server is then asked to end. */
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
    posix_spawn_file_actions_addclose(&actions, pipes[1]);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    int code = posix_spawn(&server.pid, path, &actions, &attributes, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(pipes[1]);
    server.output = pipes[0];
    if (code != 0) {
        server.pid = 0;
        fail("cannot start %s: %s", path, strerror(code));
    }
}

static void understand(const char *line) {
    int id, pid, port;
    char address[64];
    if (strncmp(line, "worker ", 7) != 0)
        snprintf(server.said, sizeof server.said, "%s", line);
    if (sscanf(line, "worker %d (pid %d) listens on %63s port %d", &id, &pid, address, &port) != 4)
        return;
    struct worker *worker = worker_of(id);
    worker->pid = pid;
    worker->listening = 1;
    server.port = port;
    strcpy(server.address, address);
    if (killed.at > 0 && killed.replacement == 0) {
        killed.replacement = id;
        killed.replaced_after = now_ms() - killed.when;
    }
}

/* Reads what the server says. Returns false when it has ended. */
static int hear_server(void) {
    char text[1024];
    ssize_t got = read(server.output, text, sizeof text);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    for (ssize_t i = 0; i < got; i++) {
        if (text[i] == '\n') {
            server.line[server.have] = '\0';
            understand(server.line);
            server.have = 0;
        } else if (server.have < sizeof server.line - 1) {
            server.line[server.have++] = text[i];
        }
    }
    return got > 0;
}

static void await_server(const char *path) {
    for (long long deadline = now_ms() + START_MS; listening() < WORKERS;) {
        struct pollfd output = {server.output, POLLIN, 0};
        if (interrupted)
            fail("interrupted");
        if (now_ms() > deadline)
            fail("%s: only %d of %d workers listen after %d s", path, listening(), WORKERS, START_MS / 1000);
        if (poll(&output, 1, 100) > 0 && !hear_server())
            fail("%s has ended before its workers listened. %s", path, server.said);
    }
}

#endif
