/* One fault of each kind that a sanitizer is to find, beside the library, so that silence elsewhere means something:
 *
 *     planted leak|leak-in-worker|overflow|after-free|undefined|race */
#include "cluster.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int race;

static void *write_it(void *argument) {
    for (int i = 0; i < 1000; i++) race += i;
    return argument;
}

static void leak(void) {
    /* The library has worked in this process, and nothing else is lost. */
    int listener = cl_listen("127.0.0.1:0", 0);
    void *volatile lost = malloc(123);
    if (lost != NULL) memset(lost, 0, 123);
    lost = NULL;
    cl_close(listener);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    volatile int number = 2147483647;
    if (strcmp(what, "leak") == 0) {
        leak();
    } else if (strcmp(what, "leak-in-worker") == 0) {
        if (cl_fork() == 0) {
            leak();
            exit(0);
        }
        return cl_run();
    } else if (strcmp(what, "overflow") == 0) {
        /* Written by the library, which believes the length that it is given. */
        struct sockaddr *small = (struct sockaddr *)malloc(4);
        socklen_t length = 16;
        int listener = cl_listen("127.0.0.1:0", 0);
        cl_getsockname(listener, small, &length);
        free(small);
        cl_close(listener);
    } else if (strcmp(what, "after-free") == 0) {
        /* Read by the library. */
        char *address = (char *)malloc(32);
        strcpy(address, "127.0.0.1:0");
        free(address);
        cl_listen(address, 0);
    } else if (strcmp(what, "undefined") == 0) {
        number = number + 1;
    } else if (strcmp(what, "race") == 0) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, write_it, NULL);
        for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    }
    return number == 1;
}
