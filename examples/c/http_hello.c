/* A web server in several processes on one port; each answer tells which process gave it.
 * build:  cc -o http_hello http_hello.c -lcluster
 * run:    ./http_hello [address [workers]]        (127.0.0.1:8080, one worker per usable CPU)
 * expect: "worker 1 (pid 4711) listens on 127.0.0.1 port 8080" and so on; `curl http://127.0.0.1:8080/` says
 *         "hello from worker 1, slot 0, pid 4711", then worker 2, ...; one you kill is replaced; Ctrl-C ends all. */
#include <cluster.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { CANNOT_LISTEN = 3 }; /* the exit code of a worker that no replacement could better */

static void say_hello(int connection) {
    char request[4096] = "", body[80], reply[256];
    struct timeval patience = {2, 0}; /* a client that says nothing does not hold this worker for ever */
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (size_t have = 0; strstr(request, "\r\n\r\n") == NULL;) {
        ssize_t got = recv(connection, request + have, sizeof request - 1 - have, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return; /* gone, silent, or more than we care to read */
        request[have += (size_t)got] = '\0';
    }
    int id = cl_worker_id(), slot = cl_worker_slot(), pid = (int)getpid();
    int size = snprintf(body, sizeof body, "hello from worker %d, slot %d, pid %d\n", id, slot, pid);
    int length = snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                          "Content-Length: %d\r\nConnection: close\r\n\r\n%s", size, body);
    send(connection, reply, (size_t)length, MSG_NOSIGNAL); /* the send buffer is empty: it takes all of this */
}

static int worker_main(void *address) {
    int connection, listener = cl_listen((const char *)address, 0);
    if (listener < 0) return fprintf(stderr, "http_hello: %s\n", cl_last_error()), CANNOT_LISTEN;
    while ((connection = cl_accept(listener, NULL, NULL)) >= 0) {
        say_hello(connection);
        close(connection);
    }
    return connection == -ESHUTDOWN ? 0 : 1; /* -ESHUTDOWN: we were asked to leave, and all is served */
}

static void on_event(const cl_event_t *e, void *failed) {
    if (e->type == CL_EVENT_LISTENING)
        printf("worker %d (pid %d) listens on %s port %d\n", e->worker_id, e->pid, e->address, e->port);
    if (e->type == CL_EVENT_EXIT)
        printf("worker %d (pid %d) ended: code %d, signal %d\n", e->worker_id, e->pid, e->exit_code, e->signal);
    if (e->type == CL_EVENT_EXIT && e->exit_code == CANNOT_LISTEN) *(int *)failed = 1, cl_stop(0);
}

int main(int argc, char **argv) {
    int failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0); /* whole lines, also into a pipe */
    cl_on_event(on_event, &failed);
    int code = cl_serve(argc > 2 ? atoi(argv[2]) : 0, worker_main, (void *)(argc > 1 ? argv[1] : "127.0.0.1:8080"));
    if (code < 0) fprintf(stderr, "http_hello: %s\n", cl_last_error());
    return code < 0 || failed;
}
