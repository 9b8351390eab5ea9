/* A panic behind each function of cluster.h, at each place where the library has one prepared (the feature panic-injection), in a
 * primary and in a worker. It must come out as CL_EPANIC; the process goes on, with its errno, its signal mask and its
 * descriptors, and so do its other threads; and the cluster serves and stops afterwards.
 *
 *   panics names      the functions that are covered, one a line
 *   panics            everything; ends with "N functions, N panics" */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster.h"

int cl_test_panic_at(unsigned point);

#define COUNT(list) (sizeof(list) / sizeof(list)[0])

static void fail(const char *format, ...) {
    va_list list;
    va_start(list, format);
    fprintf(stderr, "panics: %s: ", cl_is_worker() == 1 ? "worker" : "primary");
    vfprintf(stderr, format, list);
    fprintf(stderr, ": %s\n", cl_last_error());
    va_end(list);
    _exit(1);
}

/* A part of this program as a worker. */
static int start(const char *part) {
    char *arguments[] = {(char *)"panics", (char *)part, NULL};
    cl_spawn_options_t options = {.size = sizeof options, .file = "/proc/self/exe", .argv = arguments};
    return cl_spawn(&options);
}

/* -- What the functions work on --------------------------------------------------------------------------------- */

static int listener = -1, client = -1, connection = -1, loop = -1, idle;

static void close_all(void) {
    if (client >= 0) close(client);
    if (connection >= 0) close(connection);
    if (listener >= 0) cl_close(listener);
    if (loop >= 0) close(loop);
    client = connection = listener = loop = -1;
}

static void listens(void) {
    listener = cl_listen("127.0.0.1:0", 0);
    if (listener < 0) fail("a listen");
}

static void has_client(void) {
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    listens();
    if (cl_getsockname(listener, (struct sockaddr *)&name, &length) < 0) fail("the name");
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(client, (struct sockaddr *)&name, sizeof name) < 0) fail("a client");
}

static void has_connection(void) {
    has_client();
    connection = cl_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0) fail("a connection");
}

static void has_loop(void) {
    listens();
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0) fail("an epoll");
}

static void is_watched(void) {
    has_loop();
    if (cl_listener_watch(listener, loop, 0) < 0) fail("watching");
}

static int ended(int result) {
    int status;
    if (result > 0) cl_worker_kill(result, SIGKILL);
    cl_stop(1);
    while ((status = cl_run()) == CL_EPANIC) {
    }
    return status;
}

static void on_event(const cl_event_t *event, void *user) {
    (void)event;
    (void)user;
}

static int serves(void *argument) {
    (void)argument;
    return 0;
}

/* -- The functions ---------------------------------------------------------------------------------------------- */

static int text(const char *text) { return strcmp(text, "a defect inside libcluster") == 0 ? CL_EPANIC : 0; }

static int do_is_primary(void) { return cl_is_primary(); }
static int do_is_worker(void) { return cl_is_worker(); }
static int do_worker_id(void) { return cl_worker_id(); }
static int do_worker_slot(void) { return cl_worker_slot(); }
static int do_listen(void) { return listener = cl_listen("127.0.0.1:0", 0); }
static int do_listen_with(void) {
    cl_listen_options_t options = {.size = sizeof options, .address = "127.0.0.1:0", .flags = CL_LISTEN_NONBLOCK};
    return listener = cl_listen_with(&options);
}
static int accepted(int connection) {
    if (connection >= 0) close(connection);
    return connection;
}
static int do_accept(void) { return accepted(cl_accept(listener, NULL, NULL)); }
static int do_accept4(void) { return accepted(cl_accept4(listener, NULL, NULL, SOCK_CLOEXEC)); }
static int do_getsockname(void) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    return cl_getsockname(listener, (struct sockaddr *)&name, &length);
}

static int do_setsockopt(void) {
    int on = 1;
    return cl_setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}
static int do_listener_watch(void) { return cl_listener_watch(listener, loop, 0); }
static int do_listener_unwatch(void) { return cl_listener_unwatch(listener); }
/* Nobody takes any here. */
static int do_hand_back(void) {
    int result = cl_hand_back(listener, connection);
    return result == -EOPNOTSUPP ? 0 : result;
}
static int do_close(void) { return cl_close(listener); }
static int do_setup_primary(void) {
    cl_settings_t settings = {.size = sizeof settings, .respawn = CL_RESPAWN_NEVER};
    return cl_setup_primary(&settings);
}
static int do_fork(void) {
    int id = cl_fork();
    if (id == 0 && cl_is_worker() == 1) _exit(0);
    return id;
}
static int do_spawn(void) { return start("idle"); }
static int do_serve(void) { return cl_serve(1, serves, NULL); }
static int do_run(void) { return cl_run(); }
static int do_step(void) { return cl_step(0); }
static int do_poll_fd(void) { return cl_poll_fd(); }
static int do_stop(void) { return cl_stop(1); }
static int do_on_event(void) { return cl_on_event(on_event, NULL); }
static int do_worker_ids(void) {
    int ids[4];
    return cl_worker_ids(ids, COUNT(ids));
}
static int do_worker_info(void) {
    cl_worker_info_t info = {.size = sizeof info};
    return cl_worker_info(idle, &info);
}
static int do_worker_send(void) { return cl_worker_send(idle, "x", 1); }
static int do_worker_disconnect(void) { return cl_worker_disconnect(idle); }
static int do_worker_kill(void) { return cl_worker_kill(idle, 0); }
static int do_send(void) { return cl_send("x", 1); }
static int do_receive(void) {
    char buffer[8];
    return cl_receive(buffer, sizeof buffer, 0);
}
static int do_channel_fd(void) { return cl_channel_fd(); }
static int do_disconnect(void) { return cl_disconnect(); }
static int do_set_load(void) { return cl_set_load(1); }
static int do_ready(void) { return cl_ready(); }
static int do_count(void) { return cl_count(CL_COUNT_REQUESTS, 1); }
static int do_took(void) { return cl_took(10); }
static int do_reload(void) {
    int result = cl_reload(NULL);
    return result > 0 ? 0 : result; /* a generation, and no worker */
}
static int do_rollback(void) {
    int result = cl_rollback();
    return result == -ENOENT ? 0 : result; /* nothing was reloaded */
}
static int do_scale(void) { return cl_scale(1); }
static int do_worker_restart(void) { return cl_worker_restart(idle); }
static int do_recycle(void) { return cl_recycle(NULL); }
static int do_strerror(void) { return text(cl_strerror(-EINVAL)); }
static int do_err_name(void) { return text(cl_err_name(-EINVAL)); }
static int do_last_error(void) { return text(cl_last_error()); }
static int do_version(void) { return cl_version() == NULL; }
static int do_version_number(void) { return cl_version_number() == 0; }

static void idles(void) {
    idle = start("idle");
    if (idle < 0) fail("a worker");
}

static void briefly(void) {
    if (start("brief") < 0) fail("a worker");
}

typedef struct {
    const char *name;
    int (*call)(void);
    void (*before)(void);      /* in a primary; in a worker too if it is about sockets */
    int (*after)(int result);  /* in a primary */
    int for_sockets;
} function_t;

static const function_t functions[] = {
    {"cl_is_primary", do_is_primary, NULL, NULL, 0},
    {"cl_is_worker", do_is_worker, NULL, NULL, 0},
    {"cl_worker_id", do_worker_id, NULL, NULL, 0},
    {"cl_worker_slot", do_worker_slot, NULL, NULL, 0},
    {"cl_listen", do_listen, NULL, NULL, 1},
    {"cl_listen_with", do_listen_with, NULL, NULL, 1},
    {"cl_accept", do_accept, has_client, NULL, 1},
    {"cl_accept4", do_accept4, has_client, NULL, 1},
    {"cl_getsockname", do_getsockname, listens, NULL, 1},
    {"cl_setsockopt", do_setsockopt, listens, NULL, 1},
    {"cl_listener_watch", do_listener_watch, has_loop, NULL, 1},
    {"cl_listener_unwatch", do_listener_unwatch, is_watched, NULL, 1},
    {"cl_hand_back", do_hand_back, has_connection, NULL, 1},
    {"cl_close", do_close, listens, NULL, 1},
    {"cl_setup_primary", do_setup_primary, NULL, NULL, 0},
    {"cl_fork", do_fork, NULL, ended, 0},
    {"cl_spawn", do_spawn, NULL, ended, 0},
    {"cl_serve", do_serve, NULL, ended, 0},
    {"cl_run", do_run, briefly, ended, 0},
    {"cl_step", do_step, idles, ended, 0},
    {"cl_poll_fd", do_poll_fd, NULL, NULL, 0},
    {"cl_stop", do_stop, idles, ended, 0},
    {"cl_on_event", do_on_event, NULL, NULL, 0},
    {"cl_worker_ids", do_worker_ids, idles, ended, 0},
    {"cl_worker_info", do_worker_info, idles, ended, 0},
    {"cl_worker_send", do_worker_send, idles, ended, 0},
    {"cl_worker_disconnect", do_worker_disconnect, idles, ended, 0},
    {"cl_worker_kill", do_worker_kill, idles, ended, 0},
    {"cl_send", do_send, NULL, NULL, 0},
    {"cl_receive", do_receive, NULL, NULL, 0},
    {"cl_channel_fd", do_channel_fd, NULL, NULL, 0},
    {"cl_set_load", do_set_load, NULL, NULL, 0},
    {"cl_ready", do_ready, NULL, NULL, 0},
    {"cl_count", do_count, NULL, NULL, 0},
    {"cl_took", do_took, NULL, NULL, 0},
    {"cl_reload", do_reload, idles, ended, 0},
    {"cl_rollback", do_rollback, idles, ended, 0},
    {"cl_scale", do_scale, idles, ended, 0},
    {"cl_worker_restart", do_worker_restart, idles, ended, 0},
    {"cl_recycle", do_recycle, NULL, NULL, 0},
    {"cl_strerror", do_strerror, NULL, NULL, 0},
    {"cl_err_name", do_err_name, NULL, NULL, 0},
    {"cl_last_error", do_last_error, NULL, NULL, 0},
    /* Constants: there is nothing in them that could panic. */
    {"cl_version", do_version, NULL, NULL, 0},
    {"cl_version_number", do_version_number, NULL, NULL, 0},
    /* Last, because a worker that is asked to leave listens on nothing any more. */
    {"cl_disconnect", do_disconnect, NULL, ended, 0},
};

/* -- One after another ------------------------------------------------------------------------------------------ */

static int descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory) != NULL) count++;
    closedir(directory);
    return count;
}

/* After so many places not every one is tried: they are the same again, for each worker and each turn. */
enum { EACH = 60, SPARSE = 9, MOST = 600 };

/* A panic at each place of a function; how many there were. */
static int at_each_place(const function_t *function, int is_worker) {
    int panics = 0;
    for (unsigned place = 1; place < MOST; place += place < EACH ? 1 : SPARSE) {
        sigset_t mask_before = {0}, mask_after = {0};
        int before, result, left, error;
        if (function->before != NULL && (!is_worker || function->for_sockets)) function->before();
        before = descriptors();
        pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
        errno = 4242;
        cl_test_panic_at(place);
        result = function->call();
        left = cl_test_panic_at(0);
        error = errno;
        pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
        if (left == 0) {
            panics++;
            if (result != CL_EPANIC) fail("%s at %u gave %s", function->name, place, cl_err_name(result));
            if (error != 4242) fail("%s at %u changed errno to %d", function->name, place, error);
            if (memcmp(&mask_before, &mask_after, sizeof mask_before) != 0) fail("%s changed the signal mask", function->name);
            /* What a primary keeps of a worker that it has just made goes when that ends. */
            if (function->after == NULL && descriptors() > before) fail("%s at %u left %d descriptors", function->name, place, descriptors() - before);
        } else if (result < 0 && result != -EPERM && result != -EAGAIN) {
            /* Wrong in this role, or no message: all else works as if nothing had been. */
            fail("%s gave %s in the end", function->name, cl_err_name(result));
        }
        if (cl_is_worker() != is_worker) fail("%s changed what this process is", function->name);
        close_all();
        if (!is_worker && function->after != NULL && function->after(result) < 0) fail("%s at %u: no end", function->name, place);
        if (left != 0) return panics;
    }
    return panics;
}

static int everything(int is_worker) {
    int panics = 0;
    for (size_t index = 0; index < COUNT(functions); index++) {
        const function_t *function = &functions[index];
        int constant = strncmp(function->name, "cl_version", 10) == 0;
        int count = at_each_place(function, is_worker);
        if ((count == 0) != constant) fail("%s has %d places", function->name, count);
        panics += count;
    }
    return panics;
}

/* -- Threads ---------------------------------------------------------------------------------------------------- */

static void *panics_on(void *user) {
    (void)user;
    for (int round = 0; round < 200; round++) {
        int own;
        cl_test_panic_at(1 + round % 7);
        cl_worker_ids(NULL, 0);
        own = cl_listen("127.0.0.1:0", 0);
        cl_step(0);
        cl_test_panic_at(0);
        if (own >= 0) cl_close(own);
    }
    return NULL;
}

static void *goes_on(void *user) {
    (void)user;
    for (int round = 0; round < 200; round++) {
        int own = cl_listen("127.0.0.1:0", 0);
        if (own < 0 || cl_worker_ids(NULL, 0) < 0 || cl_close(own) < 0) fail("another thread");
    }
    return NULL;
}

static void beside_other_threads(void) {
    pthread_t threads[4];
    for (size_t index = 0; index < COUNT(threads); index++)
        if (pthread_create(&threads[index], NULL, index < 2 ? panics_on : goes_on, NULL) != 0) fail("a thread");
    for (size_t index = 0; index < COUNT(threads); index++) pthread_join(threads[index], NULL);
}

/* -- The cluster afterwards ------------------------------------------------------------------------------------- */

static int port;

static void take_port(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_LISTENING) port = event->port;
}

static void still_serves(void) {
    struct sockaddr_in name = {.sin_family = AF_INET};
    char byte = 0;
    int status;
    cl_on_event(take_port, NULL);
    if (start("serve") < 0) fail("a worker");
    while (port == 0)
        if (cl_step(10000) < 0) fail("a turn");
    name.sin_port = htons((unsigned short)port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(client, (struct sockaddr *)&name, sizeof name) < 0) fail("a client");
    for (int turn = 0; turn < 100 && recv(client, &byte, 1, MSG_DONTWAIT) != 1; turn++) cl_step(100);
    if (byte != '!') fail("no answer");
    close_all();
    if (ended(0) < 0) fail("no end");
    /* A process that was just being made is in nobody's books. It ends by itself, because its channel is closed. */
    alarm(20);
    while (waitpid(-1, &status, 0) > 0) {
    }
    alarm(0);
}

static int in_a_worker, of_workers;

static void hear(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_MESSAGE && event->length == sizeof of_workers) memcpy(&of_workers, event->data, sizeof of_workers);
    if (event->type == CL_EVENT_WARNING) fprintf(stderr, "panics: warning: %.*s\n", (int)event->length, (const char *)event->data);
    if (event->type == CL_EVENT_EXIT) {
        fprintf(stderr, "panics: the worker ended with %d, signal %d\n", event->exit_code, event->signal);
        in_a_worker = event->exit_code == 0 && event->signal == 0;
    }
}

int main(int argc, char **argv) {
    const char *part = argc > 1 ? argv[1] : "";
    int panics, before;
    if (strcmp(part, "names") == 0) {
        for (size_t index = 0; index < COUNT(functions); index++) puts(functions[index].name);
        return 0;
    }
    if (cl_is_worker() == 1) {
        char buffer[8];
        if (strcmp(part, "idle") == 0) {
            while (cl_receive(buffer, sizeof buffer, -1) >= 0) {
            }
            return 0;
        }
        if (strcmp(part, "serve") == 0) {
            listens();
            while ((client = cl_accept(listener, NULL, NULL)) >= 0) {
                (void)!write(client, "!", 1);
                close(client);
            }
            return 0;
        }
        if (strcmp(part, "every") != 0) return 0;
        panics = everything(1);
        return cl_send(&panics, sizeof panics) < 0;
    }
    do_setup_primary();
    cl_worker_ids(NULL, 0);
    before = descriptors();
    panics = everything(0);
    cl_on_event(hear, NULL);
    if (start("every") < 0 || cl_run() < 0) fail("the worker");
    if (!in_a_worker || of_workers == 0) fail("the worker failed");
    still_serves();
    beside_other_threads();
    if (descriptors() != before) fail("%d descriptors are left", descriptors() - before);
    printf("%zu functions, %d panics in a primary and %d in a worker\n", COUNT(functions), panics, of_workers);
    return 0;
}
