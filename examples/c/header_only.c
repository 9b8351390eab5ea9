/* A web server from cluster.h alone: a plain server when it is started by hand, a worker under any cluster primary,
 * whatever language that is written in. Nothing is linked; only being a primary needs libcluster.so.0, at run time.
 * build:  cc -DCL_HEADER_ONLY -o header_only header_only.c
 * run:    ./header_only [address [workers]]       (127.0.0.1:8080, alone)
 * expect: "process 4711 listens on 127.0.0.1:8080, port 8080, alone"; `curl http://127.0.0.1:8080/` says "hello from
 *         process 4711, alone". With a number of workers: "... as worker 1", "... as worker 2" and so on, which answer in turn; one
 *         you kill is replaced; Ctrl-C ends all. Where there is no libcluster.so.0 it says so and serves alone. */
#ifndef CL_HEADER_ONLY
#define CL_HEADER_ONLY
#endif
#include <cluster.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { CANNOT_LISTEN = 3 }; /* the exit code of a worker that no replacement could better */

static const char *whoami(void) {
    static char text[32] = "alone";
    if (cl_is_worker() == 1) snprintf(text, sizeof text, "as worker %d", cl_worker_id());
    return text;
}

static void say_hello(int connection) {
    char request[4096] = "", body[80], reply[256];
    struct timeval patience = {2, 0}; /* a client that says nothing does not hold this process for ever */
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (size_t have = 0; strstr(request, "\r\n\r\n") == NULL;) {
        ssize_t got = recv(connection, request + have, sizeof request - 1 - have, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return; /* gone, silent, or more than we care to read */
        request[have += (size_t)got] = '\0';
    }
    int size = snprintf(body, sizeof body, "hello from process %d, %s\n", (int)getpid(), whoami());
    int length = snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                          "Content-Length: %d\r\nConnection: close\r\n\r\n%s", size, body);
    send(connection, reply, (size_t)length, MSG_NOSIGNAL); /* the send buffer is empty: it takes all of this */
}

/* The same code in every role: what cl_listen gives is this process's own socket, or its share of the primary's. */
static int serve(const char *address) {
    struct sockaddr_storage name;
    socklen_t name_length = sizeof name;
    int port = 0;
    int connection, listener = cl_listen(address, 0);
    if (listener < 0) return fprintf(stderr, "header_only: %s\n", cl_last_error()), CANNOT_LISTEN;
    cl_getsockname(listener, (struct sockaddr *)&name, &name_length);
    if (name.ss_family == AF_INET) port = ntohs(((struct sockaddr_in *)&name)->sin_port); /* never 0, if 0 was asked */
    printf("process %d listens on %s, port %d, %s\n", (int)getpid(), address, port, whoami());
    while ((connection = cl_accept(listener, NULL, NULL)) >= 0) {
        say_hello(connection);
        close(connection);
    }
    cl_close(listener);
    return connection == -ESHUTDOWN ? 0 : 1; /* -ESHUTDOWN: we were asked to leave, and all is served */
}

static void on_event(const cl_event_t *event, void *failed) {
    if (event->type != CL_EVENT_EXIT) return;
    printf("worker %d ended: code %d, signal %d\n", event->worker_id, event->exit_code, event->signal);
    if (event->exit_code == CANNOT_LISTEN) *(int *)failed = 1, cl_stop(0);
}

/* Starts this program again, `workers` times. The first call finds the library, or tells why not. */
static int supervise(int workers) {
    int failed = 0, code;
    cl_settings_t settings;
    memset(&settings, 0, sizeof settings);
    settings.size = sizeof settings;
    settings.flags = CL_HANDLE_SIGNALS;
    settings.respawn = CL_RESPAWN_ON_FAILURE;
    if ((code = cl_setup_primary(&settings)) < 0 || (code = cl_on_event(on_event, &failed)) < 0) return code;
    while (workers-- > 0)
        if ((code = cl_spawn(NULL)) < 0) return code;
    code = cl_run();
    return code < 0 ? code : failed;
}

int main(int argc, char **argv) {
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:8080";
    int workers = argc > 2 ? atoi(argv[2]) : 0, code = CL_ENOLIB;
    setvbuf(stdout, NULL, _IOLBF, 0); /* whole lines, also into a pipe */
    if (workers > 0 && cl_is_primary() == 1) {
        code = supervise(workers);
        if (code < 0) fprintf(stderr, "header_only: %s\n", cl_last_error());
        if (code != CL_ENOLIB) return code != 0;
    }
    return serve(address);
}
