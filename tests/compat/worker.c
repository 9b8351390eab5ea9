/*
 * A worker that knows nothing but what its cluster.h had: tells every client its id and its process, until it is asked to leave. Compiled
 * with the header of 0.1 and with this one.
 */
#include <cluster.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    int listener = cl_listen("127.0.0.1:0", 0);
    if (listener == -ESHUTDOWN) return 0;
    if (listener < 0) {
        fprintf(stderr, "cannot listen: %s\n", cl_last_error());
        return 1;
    }
    for (;;) {
        char text[64];
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        if (connection < 0) return connection == -EPIPE ? 3 : 4;
        snprintf(text, sizeof text, "%d %d\n", cl_worker_id(), (int)getpid());
        if (send(connection, text, strlen(text), MSG_NOSIGNAL) < 0) return 5;
        close(connection);
    }
    return cl_close(listener) == 0 ? 0 : 6;
}
