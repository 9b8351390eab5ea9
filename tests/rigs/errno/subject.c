/* What the sweep disturbs: a primary that replaces its workers, and two workers that serve whoever connects.
 *
 *   subject fork|spawn rr|none WORKERS      standard output is a socket, so that reporting is no write(2), which the library makes
 *
 * It says there, a line each: L id pid port mechanism (a worker listens), X id pid code signal (one has ended).
 * A client sends one letter and gets one line, "slot pid result": p nothing more; l the worker listens on another address
 * and closes it; m it sends the primary a message and waits for the answer. It answers with recv(2) and send(2), which the
 * library does not call.
 *
 * The server is a naive one: whatever accept says, it asks again at once. */
#include "../../c/net.h"

static void say(const char *format, ...) {
    char text[256];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    while (send(1, text, (size_t)n, MSG_NOSIGNAL) < 0 && errno == EINTR) continue;
}

static void on_event(const cl_event_t *event, void *user) {
    (void)user;
    if (event->type == CL_EVENT_LISTENING && strcmp(event->address, "127.0.0.1") == 0)
        say("L %d %d %d %d\n", event->worker_id, event->pid, event->port, event->mechanism);
    if (event->type == CL_EVENT_EXIT)
        say("X %d %d %d %d\n", event->worker_id, event->pid, event->exit_code, event->signal);
    if (event->type == CL_EVENT_MESSAGE) cl_worker_send(event->worker_id, event->data, event->length);
}

/* The second listener: what came of it. */
static int listen_again(void) {
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = "127.0.0.2:0";
    int listener = cl_listen_with(&options);
    return listener < 0 ? listener : cl_close(listener);
}

static int talk(void) {
    char text[16];
    int result = cl_send("hello", 5);
    if (result == 0) result = cl_receive(text, sizeof text, 2000);
    return result == 5 ? 0 : result >= 0 ? -EBADMSG : result;
}

static void serve(int connection) {
    char letter, text[64];
    ssize_t n;
    int result = 0;
    limit_waits(connection);
    do n = recv(connection, &letter, 1, 0);
    while (n < 0 && errno == EINTR);
    if (n == 1 && letter == 'l') result = listen_again();
    if (n == 1 && letter == 'm') result = talk();
    snprintf(text, sizeof text, "%d %d %d\n", cl_worker_slot(), (int)getpid(), result);
    while (n == 1 && send(connection, text, strlen(text), MSG_NOSIGNAL) < 0 && errno == EINTR) continue;
    close(connection);
}

static int be_worker(void) {
    int listener;
    /* A listen may fail for want of something, and be asked for again. */
    for (int tries = 0; (listener = cl_listen("127.0.0.1:0", 0)) < 0 && tries < 50; tries++) {
        if (listener == -ESHUTDOWN) return 0;
        nap(2);
    }
    if (listener < 0) return 5;
    for (;;) {
        int connection = cl_accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection == -ESHUTDOWN) break;
        if (connection == -EPIPE) _exit(3);
        if (connection == -EBADF || connection == -EINVAL) return 6;
        if (connection >= 0) serve(connection);
    }
    cl_close(listener);
    return 0;
}

static void ignore(int number) { (void)number; }

int main(int argc, char **argv) {
    cl_settings_t settings;
    struct sigaction action;
    if (argc != 4) return 2;
    /* A signal that somebody sends interrupts, and nothing else. */
    ZERO(action);
    action.sa_handler = ignore;
    SYS(sigaction(SIGUSR1, &action, NULL));
    if (cl_is_worker() == 1) return be_worker();
    /* One that does not know that it is a worker must not start others. */
    if (getenv("SUBJECT") != NULL) return 7;
    SYS(setenv("SUBJECT", "1", 1));
    ZERO(settings);
    settings.size = sizeof settings;
    settings.policy = strcmp(argv[2], "none") == 0 ? CL_SCHED_NONE : CL_SCHED_RR;
    settings.flags = CL_HANDLE_SIGNALS;
    settings.respawn = CL_RESPAWN_ALWAYS;
    settings.stop_deadline_ms = 3000;
    settings.restart_min_ms = 5;
    settings.restart_max_ms = 20;
    OK(cl_setup_primary(&settings));
    OK(cl_on_event(on_event, NULL));
    for (int i = 0; i < atoi(argv[3]); i++) {
        int id = strcmp(argv[1], "fork") == 0 ? OK(cl_fork()) : OK(cl_spawn(NULL));
        if (id == 0) return be_worker();
    }
    return OK(cl_run()) == 1 ? be_worker() : 0;
}
