/*
 * libcluster as a C program uses it: workers that block in cl_accept and close, or that have an event loop. Further options: policy and mechanism, the
 * numbers of CL_SCHED_* and CL_MECHANISM_*.
 */
#define _GNU_SOURCE
#include "handlers.h"
#include <cluster.h>

static int policy;

#ifdef CL_MECHANISM_ROTATION
/* A build that this one is compared with may be without it. */
#pragma weak cl_listener_watch
#endif

/* How a listener gets into a program's own epoll. */
static void watch(int epoll, int listener) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = LISTENER | (uint64_t)listener};
#ifdef CL_MECHANISM_ROTATION
    if (cl_listener_watch) {
        if (cl_listener_watch(listener, epoll, event.data.u64)) fail_as(1, "cl_listener_watch", cl_last_error());
        return;
    }
#endif
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event)) fail("epoll_ctl");
}

static int take(int listener) {
    int connection = cl_accept(listener, NULL, NULL);
    if (connection == -ESHUTDOWN || connection == -EPIPE) _exit(0);
    return connection;
}

static void tell(int connections) { cl_set_load((unsigned)connections); }

/* Several addresses need an event loop, which the listeners are made for: each is a descriptor that can be polled. */
static void loop_over(const int *listeners, int slot) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) fail("epoll_create1");
    for (int i = 0; i < addresses; i++) watch(epoll, listeners[i]);
    if (http) speak_http(epoll, slot, take, policy == CL_SCHED_LEAST_LOADED ? tell : NULL);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < count; i++)
            for (int connection; (connection = take((int)(uint32_t)events[i].data.u64)) >= 0;) serve(connection, slot);
    }
}

static int worker(void *unused) {
    static int listeners[ADDRESSES];
    int slot = cl_worker_slot();
    (void)unused;
    for (int i = 0; i < addresses; i++) {
        struct sockaddr_in name;
        socklen_t length = sizeof name;
        cl_listen_options_t options = {.size = sizeof options, .address = "127.0.0.1:0", .backlog = BACKLOG,
                                       .flags = event_loop || http ? CL_LISTEN_NONBLOCK : 0};
        listeners[i] = cl_listen_with(&options);
        if (listeners[i] < 0) fail_as(1, "cl_listen", cl_last_error());
        if (cl_getsockname(listeners[i], (struct sockaddr *)&name, &length)) fail_as(1, "cl_getsockname", cl_last_error());
        board->ports[i] = ntohs(name.sin_port);
    }
    listening();
    if (event_loop || http) loop_over(listeners, slot);
    if (policy == CL_SCHED_LEAST_LOADED) {
        for (int fd; (fd = cl_accept(listeners[0], NULL, NULL)) >= 0; cl_set_load(0)) {
            cl_set_load(1);
            serve(fd, slot);
        }
        return 0;
    }
    for (int fd; (fd = cl_accept(listeners[0], NULL, NULL)) >= 0;) serve(fd, slot);
    return 0;
}

static void event(const cl_event_t *event, void *unused) {
    (void)unused;
    if (event->type == CL_EVENT_LISTENING) board->mechanism = (uint32_t)event->mechanism;
}

int main(int argc, char **argv) {
    begin(argc, argv);
    policy = option(argc, argv, "policy", CL_SCHED_RR);
    cl_settings_t settings = {.size = sizeof settings, .policy = policy, .stop_deadline_ms = 2000,
                              .mechanism = option(argc, argv, "mechanism", CL_MECHANISM_AUTO)};
    int code = cl_setup_primary(&settings);
    /* A policy or a mechanism that is not in this version, a mechanism that needs a privilege. */
    if (code == -EOPNOTSUPP || code == -EPERM || (code == -EINVAL && settings.mechanism > CL_MECHANISM_SHARED)) fail_as(UNAVAILABLE, "cl_setup_primary", cl_last_error());
    if (code < 0) fail_as(1, "cl_setup_primary", cl_last_error());
    if (cl_on_event(event, NULL) < 0 || cl_serve(workers, worker, NULL) < 0) fail_as(1, "cl_serve", cl_last_error());
    return 0;
}
