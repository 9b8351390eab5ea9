/* A socket that all workers accept from, which one of them has shut down: until the primary has mended it, who does not wait is told that
 * nothing is there, and who waits is served afterwards. */
#include "kernel.h"

static struct shared {
    int nonblocking, port, results[20], done;
} *shared;

static int serve(void) {
    cl_listen_options_t options;
    ZERO(options);
    options.size = sizeof options;
    options.address = "127.0.0.1:0";
    options.flags = shared->nonblocking ? CL_LISTEN_NONBLOCK : 0;
    int listener = OK(cl_listen_with(&options));
    shared->port = bound_port(listener);
    SYS(shutdown(SYS(tcp_descriptor(shared->port, 0)), SHUT_RD));
    for (int i = 0; shared->nonblocking && i < 20; i++) shared->results[i] = cl_accept(listener, NULL, NULL);
    __atomic_store_n(&shared->done, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        int connection = cl_accept(listener, NULL, NULL);
        if (connection == -ESHUTDOWN) break;
        if (connection == -EAGAIN) readable_within(listener, 20);
        else answer(OK(connection));
    }
    OK(cl_close(listener));
    return 0;
}

static void shut_down(int nonblocking) {
    void *page = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    shared = (struct shared *)page;
    shared->nonblocking = nonblocking;
    use_policy(CL_SCHED_NONE);
    primary_ready(serve);
    int id = fork_worker();
    await_listening(id, 1);
    /* The primary does nothing now, and mends nothing. */
    WAIT_UNTIL(__atomic_load_n(&shared->done, __ATOMIC_SEQ_CST), 5000);
    for (int i = 0; nonblocking && i < 20; i++) CHECK_EQ(shared->results[i], -EAGAIN);
    PUMP_UNTIL(count_events(CL_EVENT_WARNING, 0) > 0, 5000);
    for (int i = 0; i < 5; i++) CHECK_EQ(ask(shared->port), id);
    finish();
}

static void nonblocking(void) { shut_down(1); }
static void waiting(void) { shut_down(0); }

static const check_case_t cases[] = {{"nonblocking", nonblocking}, {"waiting", waiting}};
CHECK_MAIN(cases)
