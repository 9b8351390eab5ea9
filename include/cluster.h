/* DRAFT written by hand so that other parts can compile; will be replaced by the generated header. */
#ifndef CLUSTER_H
#define CLUSTER_H
#include <stddef.h>
#include <sys/socket.h>
#ifdef __cplusplus
extern "C" {
#endif
#define CL_SCHED_NONE 1
#define CL_SCHED_RR 2
#define CL_SCHED_LEAST_LOADED 3
#define CL_SCHED_SOURCE_HASH 4
#define CL_MECHANISM_AUTO 0
#define CL_MECHANISM_PASSED 1
#define CL_MECHANISM_KERNEL 2
#define CL_MECHANISM_SHARED 3
#define CL_HANDLE_SIGNALS 1
#define CL_RESPAWN_DEFAULT 0
#define CL_RESPAWN_NEVER 1
#define CL_RESPAWN_ON_FAILURE 2
#define CL_RESPAWN_ALWAYS 3
#define CL_LISTEN_NONBLOCK 1
#define CL_LISTEN_EXCLUSIVE 2
#define CL_LISTEN_IPV6ONLY 4
#define CL_LISTEN_REUSEPORT 8
#define CL_LISTEN_READABLE_ALL 16
#define CL_LISTEN_WRITABLE_ALL 32
#define CL_EVENT_FORK 1
#define CL_EVENT_ONLINE 2
#define CL_EVENT_LISTENING 3
#define CL_EVENT_MESSAGE 4
#define CL_EVENT_DISCONNECT 5
#define CL_EVENT_EXIT 6
#define CL_EVENT_WARNING 7   /* data, length: one sentence of text */
#define CL_WORKER_STARTING 1
#define CL_WORKER_ONLINE 2
#define CL_WORKER_LISTENING 3
#define CL_WORKER_DISCONNECTING 4
#define CL_WORKER_DISCONNECTED 5
#define CL_ENOLIB (-4096)     /* no libcluster.so.0 found at run time (header-only) */
#define CL_ETHREADS (-4097)   /* cl_fork in a process with more than one thread */
#define CL_EVERSION (-4098)   /* primary and worker speak different protocol versions */
#define CL_EPANIC (-4099)     /* a defect inside libcluster */
#define CL_MESSAGE_MAX 65536

typedef struct { size_t size; const char *address; int backlog; unsigned flags; int index; } cl_listen_options_t;
typedef struct { size_t size; int policy; int mechanism; int respawn; int stop_deadline_ms; unsigned flags; int window; int restart_min_ms; int restart_max_ms; } cl_settings_t;
typedef struct { size_t size; const char *file; char *const *argv; char *const *envp; const char *cwd; const char *user; const char *group; const int *inherit; size_t inherit_count; } cl_spawn_options_t;
typedef struct { size_t size; int type; int worker_id; int pid; int exit_code; int signal; const char *address; int port; const void *data; size_t length; int mechanism; } cl_event_t;
typedef void (*cl_event_fn)(const cl_event_t *event, void *user);
typedef struct { size_t size; int id; int slot; int pid; int state; unsigned long long delivered; unsigned waiting; unsigned load; } cl_worker_info_t;

int cl_is_primary(void);
int cl_is_worker(void);
int cl_worker_id(void);
int cl_worker_slot(void);
int cl_listen(const char *address, int backlog);
int cl_listen_with(const cl_listen_options_t *options);
int cl_accept(int listener, struct sockaddr *peer, socklen_t *peer_length);
int cl_accept4(int listener, struct sockaddr *peer, socklen_t *peer_length, int flags);
int cl_getsockname(int listener, struct sockaddr *name, socklen_t *name_length);
int cl_close(int listener);
int cl_setup_primary(const cl_settings_t *settings);
int cl_fork(void);
int cl_spawn(const cl_spawn_options_t *options);
int cl_serve(int workers, int (*worker_main)(void *), void *argument);
int cl_run(void);
int cl_step(int timeout_ms);
int cl_poll_fd(void);
int cl_stop(int deadline_ms);
int cl_on_event(cl_event_fn callback, void *user);
int cl_worker_ids(int *ids, size_t capacity);
int cl_worker_info(int id, cl_worker_info_t *info);
int cl_worker_send(int id, const void *data, size_t length);
int cl_worker_disconnect(int id);
int cl_worker_kill(int id, int signal);
int cl_send(const void *data, size_t length);
int cl_receive(void *buffer, size_t capacity, int timeout_ms);
int cl_channel_fd(void);
int cl_disconnect(void);
int cl_set_load(unsigned load);
const char *cl_strerror(int code);
const char *cl_err_name(int code);
const char *cl_last_error(void);
const char *cl_version(void);
unsigned cl_version_number(void);
#ifdef __cplusplus
}
#endif
#endif
