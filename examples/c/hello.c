/* A greeting from four processes on one port, in as few lines as will do.
 * build:  cc -o hello hello.c -lcluster
 * run:    ./hello            (127.0.0.1:8080; an argument is another address)
 * expect: `nc 127.0.0.1 8080` says "hello from worker 1", then 2, 3, 4, 1; kill one and it is replaced; Ctrl-C ends all. */
#include <cluster.h>
#include <stdio.h>
#include <unistd.h>

static int serve(void *address) {
    int listener = cl_listen((const char *)address, 0);
    if (listener < 0) return fprintf(stderr, "%s\n", cl_last_error()), 1;
    for (int fd; (fd = cl_accept(listener, NULL, NULL)) >= 0; close(fd)) {
        char line[64];
        send(fd, line, (size_t)sprintf(line, "hello from worker %d\n", cl_worker_id()), MSG_NOSIGNAL);
    }
    return 0; /* asked to leave, and everything is served */
}

int main(int argc, char **argv) {
    if (cl_serve(4, serve, argc > 1 ? argv[1] : (void *)"127.0.0.1:8080") == 0) return 0;
    return fprintf(stderr, "%s\n", cl_last_error()), 1;
}
