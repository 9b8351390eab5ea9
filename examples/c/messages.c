/* Messages both ways between a primary and its workers, and every event of their lives.
 *
 * build:  cc -o messages messages.c -lcluster
 * run:    ./messages
 * expect: fork, online, four tasks asked for and answered, disconnect and exit for each of two workers, then
 *         "8 answers, all right".
 */
#define _POSIX_C_SOURCE 200809L
#include <cluster.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WORKERS = 2, TASKS = 4 };

struct book {
    int answers, wrong;
};

/* A worker takes numbers and gives their squares back, until it is asked to leave. Messages keep their bounds and their
 * order; what is in them is the program's own affair. Both sides are one program here, so a plain int will do. */
static int worker_main(void) {
    int number, length;
    while ((length = cl_receive(&number, sizeof number, -1)) >= 0) {
        if (length != (int)sizeof number)
            continue;
        int answer[2] = {number, number * number};
        int code = cl_send(answer, sizeof answer);
        if (code < 0) {
            fprintf(stderr, "worker %d: %s\n", cl_worker_id(), cl_last_error());
            return 1;
        }
    }
    return length == -ESHUTDOWN ? 0 : 1; /* -EPIPE: the primary is gone */
}

static void give_tasks(int worker) {
    for (int task = 1; task <= TASKS; task++) {
        int number = 10 * worker + task;
        if (cl_worker_send(worker, &number, sizeof number) < 0)
            fprintf(stderr, "primary: %s\n", cl_last_error());
    }
}

static void on_event(const cl_event_t *event, void *user) {
    struct book *book = (struct book *)user;
    printf("worker %d: ", event->worker_id);
    switch (event->type) {
    case CL_EVENT_FORK:
        printf("fork, pid %d\n", event->pid);
        break;
    case CL_EVENT_ONLINE:
        printf("online\n");
        give_tasks(event->worker_id);
        break;
    case CL_EVENT_MESSAGE: {
        int answer[2] = {0, 0}; /* data is valid only in this call, and need not be aligned: copy it */
        if (event->length == sizeof answer)
            memcpy(answer, event->data, sizeof answer);
        printf("message, %d squared is %d\n", answer[0], answer[1]);
        book->answers++;
        book->wrong += answer[0] == 0 || answer[1] != answer[0] * answer[0];
        if (answer[0] == 10 * event->worker_id + TASKS)
            cl_worker_disconnect(event->worker_id); /* that was its last one */
        break;
    }
    case CL_EVENT_DISCONNECT:
        printf("disconnect\n");
        break;
    case CL_EVENT_EXIT:
        printf("exit, code %d, signal %d\n", event->exit_code, event->signal);
        break;
    default: /* later versions may tell more */
        printf("event %d\n", event->type);
    }
}

int main(void) {
    struct book book = {0, 0};
    setvbuf(stdout, NULL, _IOLBF, 0); /* nothing unwritten is in the buffer that cl_fork copies */
    cl_on_event(on_event, &book);

    for (int i = 0; i < WORKERS; i++) {
        int id = cl_fork();
        if (id == 0)
            return worker_main();
        if (id < 0) {
            fprintf(stderr, "messages: %s\n", cl_last_error());
            return 1; /* a worker that was already made sees -EPIPE and leaves */
        }
    }

    int code = cl_run(); /* until every worker is gone */
    if (code < 0)
        fprintf(stderr, "messages: %s\n", cl_last_error());
    if (book.answers == WORKERS * TASKS && book.wrong == 0)
        printf("%d answers, all right\n", book.answers);
    else
        printf("%d answers, %d wrong\n", book.answers, book.wrong);
    return code < 0 || book.wrong > 0 || book.answers != WORKERS * TASKS;
}
