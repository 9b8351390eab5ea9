/*
 * What programs outside this project were compiled against: values, sizes, offsets and signatures.
 * It compiles or it does not; changing a line that stands here is an ABI break and moves the SONAME (docs/abi.md).
 * New constants and new fields at the end of a struct are added below the old ones.
 */
#include "cluster.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>

#define VALUE(name, value) static_assert((name) == (value), #name)

VALUE(CL_SCHED_NONE, 1);
VALUE(CL_SCHED_RR, 2);
VALUE(CL_SCHED_LEAST_LOADED, 3);
VALUE(CL_SCHED_SOURCE_HASH, 4);

VALUE(CL_MECHANISM_AUTO, 0);
VALUE(CL_MECHANISM_PASSED, 1);
VALUE(CL_MECHANISM_KERNEL, 2);
VALUE(CL_MECHANISM_SHARED, 3);

VALUE(CL_HANDLE_SIGNALS, 1);
VALUE(CL_WORKER_SIGNALS, 16);

VALUE(CL_SPAWN_KEEP_MASK, 1);

VALUE(CL_MECHANISM_ROTATION, 4);
VALUE(CL_MANUAL_READY, 2);
VALUE(CL_HANDLE_RELOAD, 8);
VALUE(CL_NONE, -1);
VALUE(CL_RELOAD_CHECKING, 1);
VALUE(CL_RELOAD_ROLLING, 2);
VALUE(CL_RELOAD_DONE, 3);
VALUE(CL_RELOAD_REFUSED, 4);
VALUE(CL_RELOAD_ROLLED_BACK, 5);
VALUE(CL_RELOAD_SUPERSEDED, 6);
VALUE(CL_RELOAD_QUEUE, 1);
VALUE(CL_RELOAD_REFUSE_IF_BUSY, 2);
VALUE(CL_RELOAD_ALLOW_FEWER, 4);
VALUE(CL_RELOAD_NO_ROLLBACK, 8);
VALUE(CL_COUNT_REQUESTS, 1);
VALUE(CL_COUNT_ERRORS, 2);
VALUE(CL_COUNT_ACTIVE, 3);
VALUE(CL_EVENT_READY, 9);
VALUE(CL_EVENT_RELOAD, 10);
VALUE(CL_EVENT_RECYCLE, 12);

VALUE(CL_RESPAWN_DEFAULT, 0);
VALUE(CL_RESPAWN_NEVER, 1);
VALUE(CL_RESPAWN_ON_FAILURE, 2);
VALUE(CL_RESPAWN_ALWAYS, 3);

VALUE(CL_LISTEN_NONBLOCK, 1);
VALUE(CL_LISTEN_EXCLUSIVE, 2);
VALUE(CL_LISTEN_IPV6ONLY, 4);
VALUE(CL_LISTEN_REUSEPORT, 8);
VALUE(CL_LISTEN_READABLE_ALL, 16);
VALUE(CL_LISTEN_WRITABLE_ALL, 32);

VALUE(CL_EVENT_FORK, 1);
VALUE(CL_EVENT_ONLINE, 2);
VALUE(CL_EVENT_LISTENING, 3);
VALUE(CL_EVENT_MESSAGE, 4);
VALUE(CL_EVENT_DISCONNECT, 5);
VALUE(CL_EVENT_EXIT, 6);
VALUE(CL_EVENT_WARNING, 7);

VALUE(CL_WORKER_STARTING, 1);
VALUE(CL_WORKER_ONLINE, 2);
VALUE(CL_WORKER_LISTENING, 3);
VALUE(CL_WORKER_DISCONNECTING, 4);
VALUE(CL_WORKER_DISCONNECTED, 5);

VALUE(CL_ENOLIB, -4096);
VALUE(CL_ETHREADS, -4097);
VALUE(CL_EVERSION, -4098);
VALUE(CL_EPANIC, -4099);

VALUE(CL_MESSAGE_MAX, 65536);

/* The sizes and offsets of every 64-bit Linux; a 32-bit one has its own, which nothing here has tested. */
#ifdef __LP64__

/* SIZE is what the struct had when its last field was added; FIELD also says how wide the field is. */
#define SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#define FIELD(type, field, offset, bytes) \
    static_assert(offsetof(type, field) == (offset), #type "." #field " has moved"); \
    static_assert(sizeof(((type *)0)->field) == (bytes), #type "." #field " has another width")

SIZE(cl_listen_options_t, 48);
FIELD(cl_listen_options_t, size, 0, 8);
FIELD(cl_listen_options_t, address, 8, 8);
FIELD(cl_listen_options_t, backlog, 16, 4);
FIELD(cl_listen_options_t, flags, 20, 4);
FIELD(cl_listen_options_t, index, 24, 4);
FIELD(cl_listen_options_t, options, 32, 8);
FIELD(cl_listen_options_t, option_count, 40, 8);

SIZE(cl_socket_option_t, 24);
FIELD(cl_socket_option_t, level, 0, 4);
FIELD(cl_socket_option_t, name, 4, 4);
FIELD(cl_socket_option_t, value, 8, 8);
FIELD(cl_socket_option_t, length, 16, 4);

SIZE(cl_settings_t, 64);
FIELD(cl_settings_t, size, 0, 8);
FIELD(cl_settings_t, policy, 8, 4);
FIELD(cl_settings_t, mechanism, 12, 4);
FIELD(cl_settings_t, respawn, 16, 4);
FIELD(cl_settings_t, stop_deadline_ms, 20, 4);
FIELD(cl_settings_t, flags, 24, 4);
FIELD(cl_settings_t, window, 28, 4);
FIELD(cl_settings_t, restart_min_ms, 32, 4);
FIELD(cl_settings_t, restart_max_ms, 36, 4);
FIELD(cl_settings_t, listen_allow, 40, 8);
FIELD(cl_settings_t, listen_max, 48, 4);
/* Where a program of 0.1's first header had padding: it counts only behind a size that has the next field, too. */
FIELD(cl_settings_t, drain_delay_ms, 52, 4);
FIELD(cl_settings_t, ready_min, 56, 4);

SIZE(cl_spawn_options_t, 80);
FIELD(cl_spawn_options_t, size, 0, 8);
FIELD(cl_spawn_options_t, file, 8, 8);
FIELD(cl_spawn_options_t, argv, 16, 8);
FIELD(cl_spawn_options_t, envp, 24, 8);
FIELD(cl_spawn_options_t, cwd, 32, 8);
FIELD(cl_spawn_options_t, user, 40, 8);
FIELD(cl_spawn_options_t, group, 48, 8);
FIELD(cl_spawn_options_t, inherit, 56, 8);
FIELD(cl_spawn_options_t, inherit_count, 64, 8);
FIELD(cl_spawn_options_t, flags, 72, 4);

SIZE(cl_event_t, 80);
FIELD(cl_event_t, size, 0, 8);
FIELD(cl_event_t, type, 8, 4);
FIELD(cl_event_t, worker_id, 12, 4);
FIELD(cl_event_t, pid, 16, 4);
FIELD(cl_event_t, exit_code, 20, 4);
FIELD(cl_event_t, signal, 24, 4);
FIELD(cl_event_t, address, 32, 8);
FIELD(cl_event_t, port, 40, 4);
FIELD(cl_event_t, data, 48, 8);
FIELD(cl_event_t, length, 56, 8);
FIELD(cl_event_t, mechanism, 64, 4);
FIELD(cl_event_t, generation, 68, 4);
FIELD(cl_event_t, phase, 72, 4);

SIZE(cl_worker_info_t, 96);
FIELD(cl_worker_info_t, size, 0, 8);
FIELD(cl_worker_info_t, id, 8, 4);
FIELD(cl_worker_info_t, slot, 12, 4);
FIELD(cl_worker_info_t, pid, 16, 4);
FIELD(cl_worker_info_t, state, 20, 4);
FIELD(cl_worker_info_t, delivered, 24, 8);
FIELD(cl_worker_info_t, waiting, 32, 4);
FIELD(cl_worker_info_t, load, 36, 4);
FIELD(cl_worker_info_t, generation, 40, 4);
FIELD(cl_worker_info_t, ready, 44, 4);
FIELD(cl_worker_info_t, rss_kib, 48, 8);
FIELD(cl_worker_info_t, cpu_ms, 56, 8);
FIELD(cl_worker_info_t, requests, 64, 8);
FIELD(cl_worker_info_t, errors, 72, 8);
FIELD(cl_worker_info_t, active, 80, 4);
FIELD(cl_worker_info_t, late_ms, 84, 4);
FIELD(cl_worker_info_t, age_ms, 88, 8);

SIZE(cl_reload_options_t, 56);
FIELD(cl_reload_options_t, size, 0, 8);
FIELD(cl_reload_options_t, program, 8, 8);
FIELD(cl_reload_options_t, parallel, 16, 4);
FIELD(cl_reload_options_t, extra, 20, 4);
FIELD(cl_reload_options_t, ready_timeout_ms, 24, 4);
FIELD(cl_reload_options_t, min_ready_ms, 28, 4);
FIELD(cl_reload_options_t, canary_workers, 32, 4);
FIELD(cl_reload_options_t, canary_percent, 36, 4);
FIELD(cl_reload_options_t, canary_ms, 40, 4);
FIELD(cl_reload_options_t, max_errors_permille, 44, 4);
FIELD(cl_reload_options_t, max_latency_percent, 48, 4);
FIELD(cl_reload_options_t, flags, 52, 4);

SIZE(cl_recycle_options_t, 48);
FIELD(cl_recycle_options_t, size, 0, 8);
FIELD(cl_recycle_options_t, rss_bytes, 8, 8);
FIELD(cl_recycle_options_t, connections, 16, 8);
FIELD(cl_recycle_options_t, requests, 24, 8);
FIELD(cl_recycle_options_t, age_s, 32, 4);
FIELD(cl_recycle_options_t, jitter_percent, 36, 4);
FIELD(cl_recycle_options_t, at_a_time, 40, 4);

#endif

/* Assigning each function to a pointer of the type in the contract fails to compile when its signature has changed. */
static const struct signatures {
    int (*is_primary)(void);
    int (*is_worker)(void);
    int (*worker_id)(void);
    int (*worker_slot)(void);
    int (*listen)(const char *, int);
    int (*listen_with)(const cl_listen_options_t *);
    int (*accept)(int, struct sockaddr *, socklen_t *);
    int (*accept4)(int, struct sockaddr *, socklen_t *, int);
    int (*getsockname)(int, struct sockaddr *, socklen_t *);
    int (*close)(int);
    int (*setup_primary)(const cl_settings_t *);
    int (*fork)(void);
    int (*spawn)(const cl_spawn_options_t *);
    int (*serve)(int, int (*)(void *), void *);
    int (*run)(void);
    int (*step)(int);
    int (*poll_fd)(void);
    int (*stop)(int);
    int (*on_event)(void (*)(const cl_event_t *, void *), void *);
    int (*worker_ids)(int *, size_t);
    int (*worker_info)(int, cl_worker_info_t *);
    int (*worker_send)(int, const void *, size_t);
    int (*worker_disconnect)(int);
    int (*worker_kill)(int, int);
    int (*send)(const void *, size_t);
    int (*receive)(void *, size_t, int);
    int (*channel_fd)(void);
    int (*disconnect)(void);
    int (*set_load)(unsigned);
    const char *(*strerror)(int);
    const char *(*err_name)(int);
    const char *(*last_error)(void);
    const char *(*version)(void);
    unsigned (*version_number)(void);
    int (*setsockopt)(int, int, int, const void *, socklen_t);
    int (*listener_watch)(int, int, unsigned long long);
    int (*listener_unwatch)(int);
    int (*reload)(const cl_reload_options_t *);
    int (*rollback)(void);
    int (*scale)(int);
    int (*worker_restart)(int);
    int (*recycle)(const cl_recycle_options_t *);
    int (*ready)(void);
    int (*count)(int, long long);
    int (*took)(unsigned);
    int (*hand_back)(int, int);
} contract = {
    cl_is_primary, cl_is_worker, cl_worker_id, cl_worker_slot,
    cl_listen, cl_listen_with, cl_accept, cl_accept4, cl_getsockname, cl_close,
    cl_setup_primary, cl_fork, cl_spawn, cl_serve, cl_run, cl_step, cl_poll_fd, cl_stop, cl_on_event,
    cl_worker_ids, cl_worker_info, cl_worker_send, cl_worker_disconnect, cl_worker_kill,
    cl_send, cl_receive, cl_channel_fd, cl_disconnect, cl_set_load,
    cl_strerror, cl_err_name, cl_last_error, cl_version, cl_version_number,
    cl_setsockopt, cl_listener_watch, cl_listener_unwatch,
    cl_reload, cl_rollback, cl_scale, cl_worker_restart, cl_recycle, cl_ready, cl_count, cl_took,
    cl_hand_back,
};

int main(void)
{
    unsigned number = contract.version_number();
    char from_number[32];

    /* Run, not only compiled: the symbols resolve, and the two forms of the version agree. */
    snprintf(from_number, sizeof from_number, "%u.%u.%u", number >> 16, (number >> 8) & 255, number & 255);
    for (size_t i = 0; from_number[i] != '\0'; i++) {
        if (contract.version()[i] != from_number[i]) {
            printf("cl_version_number() is %s, cl_version() is %s\n", from_number, contract.version());
            return 1;
        }
    }
    return contract.is_primary() == 1 ? 0 : 1;
}
