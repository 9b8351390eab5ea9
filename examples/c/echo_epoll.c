/* An echo server for programs that have an event loop of their own: the listener is one more descriptor in it.
 *
 * cl_listener_watch puts a listener made with CL_LISTEN_NONBLOCK into the loop's epoll. That tells of it when a connection
 * waits, when this worker is asked to leave and when the primary is gone; cl_accept tells which. Everything else is plain
 * epoll.
 *
 * build:  cc -o echo_epoll echo_epoll.c -lcluster
 * run:    ./echo_epoll [address [workers]]        (127.0.0.1:4445, 2 workers)
 * expect: "worker 1 (pid 4711) listens on 127.0.0.1 port 4445" and the same for worker 2; what you type into
 *         any number of `nc 127.0.0.1 4445` comes back; after Ctrl-C the clients who are here have 5 more seconds.
 */
#define _POSIX_C_SOURCE 200809L
#include <cluster.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { CANNOT_LISTEN = 3 }; /* the exit code of a worker that no replacement could better */
enum { OF_LISTENER = 0 };   /* what events have that are no client's: a pointer that is NULL */

struct client {
    int fd;
    unsigned awaited; /* EPOLLIN or EPOLLOUT */
    size_t from, to;  /* what is still owed is buffer[from .. to] */
    char buffer[16384];
};

static int loop;
static int clients; /* how many are here */

static int watch(int operation, int fd, unsigned events, void *who) {
    struct epoll_event event = {0};
    event.events = events;
    event.data.ptr = who;
    return epoll_ctl(loop, operation, fd, &event);
}

static void welcome(int fd) {
    struct client *client = (struct client *)malloc(sizeof *client);
    if (client == NULL || watch(EPOLL_CTL_ADD, fd, EPOLLIN, client) < 0) {
        free(client);
        close(fd);
        return;
    }
    client->fd = fd;
    client->awaited = EPOLLIN;
    client->from = client->to = 0;
    clients++;
}

/* close alone takes a descriptor out of an epoll set only when no other process has the same connection open, and the
 * primary, which passed it on, may for a moment not have come to closing its own copy yet. So it is said explicitly:
 * otherwise an event could still come, with a pointer to what is freed here. */
static void part(struct client *client) {
    watch(EPOLL_CTL_DEL, client->fd, 0, NULL);
    close(client->fd);
    free(client);
    clients--;
}

/* One step for one client: send what is owed, and only then read more, so that a client that does not read costs one
 * buffer and no more. Returns false when the conversation is over. */
static int converse(struct client *client) {
    if (client->from == client->to) {
        ssize_t got = recv(client->fd, client->buffer, sizeof client->buffer, 0);
        if (got < 0)
            return errno == EAGAIN || errno == EINTR;
        if (got == 0)
            return 0;
        client->from = 0;
        client->to = (size_t)got;
    }

    ssize_t sent = send(client->fd, client->buffer + client->from, client->to - client->from, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return 0;
    if (sent > 0)
        client->from += (size_t)sent;

    unsigned awaited = client->from < client->to ? EPOLLOUT : EPOLLIN;
    if (awaited != client->awaited && watch(EPOLL_CTL_MOD, client->fd, awaited, client) < 0)
        return 0;
    client->awaited = awaited;
    return 1;
}

/* Takes what waits, at most a few at once so that the present clients have their turn, and other workers theirs.
 * Returns 0 or why there will be no more. */
static int accept_some(int listener) {
    for (int i = 0; i < 4; i++) {
        int fd = cl_accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd == -EAGAIN)
            return 0;
        if (fd < 0)
            return fd;
        welcome(fd);
    }
    return 0;
}

static int worker_main(void *address) {
    cl_listen_options_t options = {
        .size = sizeof options, .address = (const char *)address, .flags = CL_LISTEN_NONBLOCK};
    int listener = cl_listen_with(&options);
    if (listener < 0) {
        fprintf(stderr, "echo_epoll: %s\n", cl_last_error());
        return CANNOT_LISTEN;
    }
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || cl_listener_watch(listener, loop, OF_LISTENER) < 0) {
        fprintf(stderr, "echo_epoll: the loop: %s\n", loop < 0 ? strerror(errno) : cl_last_error());
        return 1;
    }

    int state = 0;   /* what accept_some said last; after -ESHUTDOWN only the clients who are here are served */
    int resting = 0; /* the listener is out of the loop until a descriptor may be free again */
    while (state == 0 || state == -EMFILE || clients > 0) {
        struct epoll_event events[64];
        int count = epoll_wait(loop, events, 64, resting ? 100 : -1);
        if (count < 0 && errno != EINTR) {
            perror("echo_epoll: epoll_wait");
            return 1;
        }
        if (resting)
            resting = cl_listener_watch(listener, loop, OF_LISTENER) < 0;

        for (int i = 0; i < count; i++) {
            struct client *client = (struct client *)events[i].data.ptr;
            if (client != NULL) {
                if (!converse(client))
                    part(client);
                continue;
            }
            state = accept_some(listener);
            if (state < 0)
                cl_listener_unwatch(listener);
            /* Without a free descriptor the listener would stay readable and this loop would spin. Nothing is lost
             * meanwhile: libcluster gives the connections to other workers. */
            resting = state == -EMFILE;
        }
    }
    close(loop);
    cl_close(listener);
    return state == -ESHUTDOWN ? 0 : 1; /* otherwise the primary is gone */
}

static void on_event(const cl_event_t *event, void *user) {
    int *failed = (int *)user;
    switch (event->type) {
    case CL_EVENT_LISTENING:
        printf("worker %d (pid %d) listens on %s port %d\n", event->worker_id, event->pid, event->address, event->port);
        break;
    case CL_EVENT_EXIT:
        printf("worker %d (pid %d) ended: code %d, signal %d\n", event->worker_id, event->pid, event->exit_code,
               event->signal);
        if (event->exit_code == CANNOT_LISTEN) {
            *failed = 1;
            cl_stop(0);
        }
        break;
    }
}

int main(int argc, char **argv) {
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:4445";
    int workers = argc > 2 ? atoi(argv[2]) : 2;
    cl_settings_t settings = {.size = sizeof settings, .stop_deadline_ms = 5000};
    int failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0); /* whole lines, also into a pipe */
    int code = cl_setup_primary(&settings);
    if (code >= 0)
        code = cl_on_event(on_event, &failed);
    if (code >= 0)
        code = cl_serve(workers, worker_main, (void *)address);
    if (code < 0)
        fprintf(stderr, "echo_epoll: %s\n", cl_last_error());
    return code < 0 || failed;
}
