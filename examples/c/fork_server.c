/* The classic echo server of the textbooks (socket, bind, listen, accept, one fork per connection), carried over to
 * libcluster. What it says and what goes over the wire is as before; what changed is who does the work:
 *
 *   - four workers are forked before the first client comes and take turns, one thread for each session;
 *   - recv() == 0 ends the session, so a client that closes without ":exit" does not leave a process spinning;
 *   - a message is what ends with a newline or is followed by a pause, whatever the pieces TCP brings it in;
 *   - everything is sent, also when send() takes only a part; a vanished client raises no SIGPIPE;
 *   - libcluster waits for the workers, so there are no zombies, and replaces one that dies.
 *
 * build:  cc -o fork_server fork_server.c -lcluster -pthread
 * run:    ./fork_server [address]                 (127.0.0.1:4444)
 *         nc 127.0.0.1 4444                       (or the classic's own client, as it is)
 * expect: "[+]Server Socket is created.", "[+]Bind to port 4444", "[+]Listening....", one line for each worker;
 *         every line typed into nc comes back, :exit ends the session; Ctrl-C ends the server.
 */
#define _DEFAULT_SOURCE
#include <cluster.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    WORKERS = 4,
    SESSIONS = 200,    /* at most, in one worker */
    PAUSE_MS = 50,     /* the classic client ends a message with nothing but a pause */
    CANNOT_LISTEN = 3, /* the exit code of a worker that no replacement could better */
};

struct session {
    int connection;
    struct sockaddr_storage peer;
    socklen_t peer_length;
};

static sem_t room; /* how many more sessions this worker may open */

static int send_all(int connection, const char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = send(connection, data, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return -1;
        data += sent;
        length -= (size_t)sent;
    }
    return 0;
}

/* Sends a message back. Returns false when the session is over. */
static int echo(int connection, const char *message, size_t length) {
    size_t text = length;
    while (text > 0 && (message[text - 1] == '\n' || message[text - 1] == '\r'))
        text--;
    if (text == 5 && memcmp(message, ":exit", 5) == 0)
        return 0;
    return send_all(connection, message, length) == 0;
}

static void converse(int connection) {
    char buffer[4096];
    size_t have = 0; /* the beginning of a message that is not complete yet */

    for (;;) {
        struct pollfd ready = {connection, POLLIN, 0};
        int count = poll(&ready, 1, have > 0 ? PAUSE_MS : -1);
        if (count < 0 && errno == EINTR)
            continue;
        if (count == 0) {
            if (!echo(connection, buffer, have))
                return;
            have = 0;
            continue;
        }

        ssize_t got = recv(connection, buffer + have, sizeof buffer - have, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) { /* the client has closed, and what it said last is still owed to it */
            if (have > 0)
                echo(connection, buffer, have);
            return;
        }
        have += (size_t)got;

        size_t start = 0;
        for (char *end; (end = (char *)memchr(buffer + start, '\n', have - start)) != NULL;) {
            size_t length = (size_t)(end + 1 - (buffer + start));
            if (!echo(connection, buffer + start, length))
                return;
            start += length;
        }
        if (start == 0 && have == sizeof buffer) { /* a line longer than the buffer goes back in pieces */
            if (!echo(connection, buffer, have))
                return;
            start = have;
        }
        have -= start;
        memmove(buffer, buffer + start, have);
    }
}

static void *session_main(void *argument) {
    struct session *session = (struct session *)argument;
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
    getnameinfo((struct sockaddr *)&session->peer, session->peer_length, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);

    printf("Connection accepted from %s:%s\n", host, port);
    converse(session->connection);
    close(session->connection);
    printf("Disconnected from %s:%s\n", host, port);
    free(session);
    sem_post(&room);
    return NULL;
}

static int open_session(int connection, const struct sockaddr_storage *peer, socklen_t peer_length) {
    struct session *session = (struct session *)malloc(sizeof *session);
    if (session == NULL)
        return -1;
    session->connection = connection;
    session->peer = *peer;
    session->peer_length = peer_length;

    pthread_t thread;
    if (pthread_create(&thread, NULL, session_main, session) != 0) {
        free(session);
        return -1;
    }
    pthread_detach(thread);
    return 0;
}

static void take_room(void) {
    while (sem_wait(&room) < 0)
        continue; /* EINTR */
}

static int worker_main(void *address) {
    int listener = cl_listen((const char *)address, 10);
    if (listener < 0) {
        fprintf(stderr, "[-]Error in binding: %s\n", cl_last_error());
        return CANNOT_LISTEN;
    }
    sem_init(&room, 0, SESSIONS);

    int connection;
    for (;;) {
        /* While there is no room this worker does not accept, and libcluster gives its share to the others. */
        take_room();
        struct sockaddr_storage peer;
        socklen_t peer_length = sizeof peer;
        connection = cl_accept4(listener, (struct sockaddr *)&peer, &peer_length, SOCK_CLOEXEC);
        if (connection < 0)
            break;
        if (open_session(connection, &peer, peer_length) < 0) {
            close(connection);
            sem_post(&room);
        }
    }
    sem_post(&room);

    /* The sessions under way may go on until libcluster's deadline. All room is back when all of them have ended. */
    for (int i = 0; i < SESSIONS; i++)
        take_room();
    cl_close(listener);
    return connection == -ESHUTDOWN ? 0 : 1;
}

static void on_event(const cl_event_t *event, void *user) {
    int *failed = (int *)user;
    static int greeted;
    switch (event->type) {
    case CL_EVENT_LISTENING:
        if (!greeted)
            printf("[+]Server Socket is created.\n[+]Bind to port %d\n[+]Listening....\n"
                   "[+]Type :exit in a client to end its session.\n", event->port);
        greeted = 1;
        printf("[+]Worker %d is ready, pid %d\n", event->worker_id, event->pid);
        break;
    case CL_EVENT_EXIT:
        printf("[-]Worker %d has ended, pid %d: exit code %d, signal %d\n", event->worker_id, event->pid,
               event->exit_code, event->signal);
        if (event->exit_code == CANNOT_LISTEN) {
            *failed = 1;
            cl_stop(0);
        }
        break;
    }
}

int main(int argc, char **argv) {
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:4444";
    cl_settings_t settings = {.size = sizeof settings, .stop_deadline_ms = 5000};
    int failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0); /* whole lines also into a pipe: several processes write here */
    int code = cl_setup_primary(&settings);
    if (code >= 0)
        code = cl_on_event(on_event, &failed);
    if (code >= 0)
        code = cl_serve(WORKERS, worker_main, (void *)address);
    if (code < 0)
        fprintf(stderr, "[-]Error: %s\n", cl_last_error());
    return code < 0 || failed;
}
