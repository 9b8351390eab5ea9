/* -- The library, where the process has loaded it ---------------------------------------------------------------------
 * X(name, parameters, arguments...). The primary's functions load it. Once it is loaded the others go there too, those
 * of a listener unless this code opened it. */
#define CL__STARTING_FUNCTIONS(X) \
    X(fork, (void), ) \
    X(spawn, (const cl_spawn_options_t *options), options)
#define CL__PRIMARY_FUNCTIONS(X) \
    X(setup_primary, (const cl_settings_t *settings), settings) \
    X(run, (void), ) \
    X(step, (int timeout_ms), timeout_ms) \
    X(poll_fd, (void), ) \
    X(on_event, (cl_event_fn callback, void *user), callback, user) \
    X(worker_ids, (int *ids, size_t capacity), ids, capacity) \
    X(worker_info, (int id, cl_worker_info_t *info), id, info) \
    X(worker_send, (int id, const void *data, size_t length), id, data, length) \
    X(worker_disconnect, (int id), id) \
    X(worker_kill, (int id, int signal), id, signal)
/* An earlier library of this version lacks what is called later here, and is still used for the rest. */
#define CL__LATER_PRIMARY_FUNCTIONS(X) \
    X(reload, (const cl_reload_options_t *options), options) \
    X(rollback, (void), ) \
    X(scale, (int workers), workers) \
    X(worker_restart, (int id), id) \
    X(recycle, (const cl_recycle_options_t *options), options)
#define CL__STOP_FUNCTION(X) X(stop, (int deadline_ms), deadline_ms)
#define CL__EITHER_FUNCTIONS(X) \
    X(is_primary, (void), ) \
    X(is_worker, (void), ) \
    X(worker_id, (void), ) \
    X(worker_slot, (void), ) \
    X(listen_with, (const cl_listen_options_t *options), options) \
    X(send, (const void *data, size_t length), data, length) \
    X(receive, (void *buffer, size_t capacity, int timeout_ms), buffer, capacity, timeout_ms) \
    X(channel_fd, (void), ) \
    X(disconnect, (void), ) \
    X(set_load, (unsigned load), load)
#define CL__LISTENER_FUNCTIONS(X) CL__FIRST_LISTENER_FUNCTIONS(X) CL__LATER_LISTENER_FUNCTIONS(X)
#define CL__FIRST_LISTENER_FUNCTIONS(X) \
    X(accept4, (int fd, struct sockaddr *peer, socklen_t *length, int flags), fd, peer, length, flags) \
    X(getsockname, (int fd, struct sockaddr *name, socklen_t *length), fd, name, length) \
    X(close, (int fd), fd)
#define CL__LATER_EITHER_FUNCTIONS(X) \
    X(ready, (void), ) \
    X(count, (int counter, long long by), counter, by) \
    X(took, (unsigned microseconds), microseconds)
#define CL__LATER_LISTENER_FUNCTIONS(X) \
    X(setsockopt, (int fd, int level, int name, const void *value, socklen_t length), fd, level, name, value, length) \
    X(listener_watch, (int fd, int epoll_fd, unsigned long long data), fd, epoll_fd, data) \
    X(listener_unwatch, (int fd), fd) \
    X(hand_back, (int fd, int connection), fd, connection)

struct cl__library {
    int loaded, missing; /* missing: it was searched for and not found */
#define CL__MEMBER(name, parameters, ...) int(*name) parameters;
    CL__STARTING_FUNCTIONS(CL__MEMBER)
    CL__PRIMARY_FUNCTIONS(CL__MEMBER)
    CL__STOP_FUNCTION(CL__MEMBER)
    CL__EITHER_FUNCTIONS(CL__MEMBER)
    CL__LISTENER_FUNCTIONS(CL__MEMBER)
    CL__LATER_PRIMARY_FUNCTIONS(CL__MEMBER)
    CL__LATER_EITHER_FUNCTIONS(CL__MEMBER)
#undef CL__MEMBER
    int (*serve)(int, int (*)(void *), void *);
    const char *(*last_error)(void);
    unsigned (*version_number)(void);
};
