/* A server whose next version is deployed while it serves: at SIGHUP its workers are replaced by the program that the file is then.
 * build:  cc -o reload reload.c -lcluster              (and the next one with -DVERSION=2)
 * run:    ./reload            (127.0.0.1:8080; an argument is another address)
 * expect: `nc 127.0.0.1 8080` says "version 1 from worker 1", or 2, 3, 4. Put another version in its place (mv) and send SIGHUP to
 *         the primary, the first process: "generation 2: done", and version 2 answers. Nobody who connects meanwhile is refused.
 *         A program that does not come up: "generation 3: refused", with the reason, and version 2 goes on. SIGTTIN and SIGTTOU: one
 *         worker more, one fewer. Ctrl-C ends all. */
#include <cluster.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION 1
#endif

static int failed(void) {
    fprintf(stderr, "%s\n", cl_last_error());
    return 1;
}

static int serve(const char *address) {
    int listener = cl_listen(address, 0);
    if (listener == -ESHUTDOWN) return 0; /* asked to leave before it began */
    if (listener < 0) return failed();
    for (int fd; (fd = cl_accept(listener, NULL, NULL)) >= 0; close(fd)) {
        char line[64];
        send(fd, line, (size_t)sprintf(line, "version %d from worker %d\n", VERSION, cl_worker_id()), MSG_NOSIGNAL);
    }
    return 0;
}

static void tell(const cl_event_t *e, void *user) {
    static const char *const phases[] = {"", "checking", "rolling", "done", "refused", "rolled back", "superseded"};
    const char *text = e->length > 0 ? (const char *)e->data : "";
    (void)user;
    if (e->type == CL_EVENT_LISTENING)
        printf("worker %d (pid %d) listens on %s port %d\n", e->worker_id, e->pid, e->address, e->port);
    if (e->type == CL_EVENT_RELOAD)
        printf("generation %d: %s%s%.*s\n", e->generation, phases[e->phase], *text ? ": " : "", (int)e->length, text);
    if (e->type == CL_EVENT_WARNING) printf("warning: %.*s\n", (int)e->length, text);
}

int main(int argc, char **argv) {
    if (cl_is_worker()) return serve(argc > 1 ? argv[1] : "127.0.0.1:8080");

    cl_settings_t settings = {.size = sizeof settings, .respawn = CL_RESPAWN_ALWAYS,
                              .flags = CL_HANDLE_SIGNALS | CL_HANDLE_RELOAD | CL_WORKER_SIGNALS};
    cl_spawn_options_t program = {.size = sizeof program, .file = argv[0], .argv = argv};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (cl_setup_primary(&settings) < 0 || cl_on_event(tell, NULL) < 0) return failed();
    for (int i = 0; i < 4; i++)
        if (cl_spawn(&program) < 0) return failed();
    return cl_run() == 0 ? 0 : failed(); /* SIGHUP: cl_reload(), which looks the file up anew */
}
