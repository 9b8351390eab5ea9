/*
 * cluster.h - several worker processes serve one port.
 *
 * One primary process owns the listening sockets; a worker that listens asks the primary for its share and gets
 * connections from it. A worker that dies or hangs costs only the connection in its hand.
 *
 *     static int serve(void *address) {
 *         int listener = cl_listen(address, 0);
 *         for (int fd; (fd = cl_accept(listener, NULL, NULL)) >= 0; close(fd))
 *             send(fd, "hello\n", 6, MSG_NOSIGNAL);
 *         return 0;
 *     }
 *     int main(void) { return cl_serve(4, serve, "127.0.0.1:8080"); }
 *
 * Link with -lcluster. Or define CL_HEADER_ONLY before the #include: then this file is all a worker needs, and the
 * primary's functions are looked up in libcluster.so.0 when one is first called.
 *
 * Conventions. A result >= 0 is success: a descriptor, an id, a count. A result < 0 is -errno or a CL_E* code below
 * -4095; cl_last_error() has the sentence for it. errno itself is left alone. Pointers may be NULL only where it says
 * so. Structs that may grow begin with their size, and a zeroed field always means the default: { .size = sizeof x }
 * is a valid value of each. After fork(2), as opposed to cl_fork(), every call in the child returns -ECHILD and
 * touches nothing. The library installs no signal handler, waits for no child but its own, and prints nothing, unless
 * it was asked to.
 *
 * Linux 5.10 or newer. Licence: MIT or Apache-2.0, as you like.
 *
 * This file is generated; the comments are written in the crate cluster-capi.
 */
#ifndef CLUSTER_H
#define CLUSTER_H

#ifndef __linux__
#error "cluster.h: libcluster needs Linux 5.10 or newer"
#endif

#include <stddef.h>
#include <sys/socket.h>

#define CL_VERSION_MAJOR 0
#define CL_VERSION_MINOR 1
#define CL_VERSION_PATCH 0
#define CL_VERSION "0.1.0"
#define CL_VERSION_NUMBER (CL_VERSION_MAJOR << 16 | CL_VERSION_MINOR << 8 | CL_VERSION_PATCH)

#if defined(__GNUC__)
#define CL_API __attribute__((visibility("default")))
#else
#define CL_API
#endif

/**
 * Policy: every worker accepts from one shared socket and the kernel decides who gets a connection. Not fair.
 */
#define CL_SCHED_NONE 1

/**
 * Policy: each worker in turn; one that is full or stuck is passed over. The default.
 */
#define CL_SCHED_RR 2

/**
 * Policy: a worker to which nothing waits before one to which something does; among those the one with the least load
 * told by cl_set_load() (0 before it is), to which each connection given since then adds 1; among equals each in turn.
 */
#define CL_SCHED_LEAST_LOADED 3

/**
 * Policy: connections from one client address (IPv4 or IPv6, whatever its port) meet the same slot while that slot's
 * worker is there. When it ends, leaves, pauses or gets stuck, only its clients meet others, and they come back to the
 * slot's replacement. One that is merely full keeps its clients: up to 256 connections of an address wait for it in the
 * primary, more in the kernel's backlog. On unix sockets it is CL_SCHED_RR.
 */
#define CL_SCHED_SOURCE_HASH 4

/**
 * Mechanism: the best that is to be had: kernel for TCP under CL_SCHED_RR where the process has CAP_BPF (Linux 5.14), else
 * passed. The environment variable CL_MECHANISM of the primary (auto, passed or kernel) counts where the program leaves it
 * at this.
 */
#define CL_MECHANISM_AUTO 0

/**
 * Mechanism: the primary accepts and passes each connection on.
 */
#define CL_MECHANISM_PASSED 1

/**
 * Mechanism: the kernel gives each slot its connections, without the primary. Needs CAP_BPF when cl_setup_primary() is
 * called with it, which makes ready what four addresses at a time need and fails with -EPERM otherwise; afterwards the process may give
 * the capability up. Addresses that it cannot serve (unix sockets, fd:N, other policies) are passed.
 */
#define CL_MECHANISM_KERNEL 2

/**
 * Mechanism, only in events: all workers accept from one socket (CL_SCHED_NONE).
 */
#define CL_MECHANISM_SHARED 3

/**
 * Flag of cl_settings_t: while cl_run() runs, SIGTERM and SIGINT are cl_stop(-1), a second one cl_stop(0). What was
 * installed for them before is restored when cl_run() returns.
 */
#define CL_HANDLE_SIGNALS 1

/**
 * Respawn: cl_serve() replaces every worker, cl_run() none, as in Node.
 */
#define CL_RESPAWN_DEFAULT 0

/**
 * Respawn: no worker is replaced.
 */
#define CL_RESPAWN_NEVER 1

/**
 * Respawn: workers that end with a code other than 0 or by a signal are replaced.
 */
#define CL_RESPAWN_ON_FAILURE 2

/**
 * Respawn: every worker is replaced until the cluster is stopped.
 */
#define CL_RESPAWN_ALWAYS 3

/**
 * Listen flag: cl_accept() does not wait but returns -EAGAIN.
 */
#define CL_LISTEN_NONBLOCK 1

/**
 * Listen flag: a socket of this worker's own, not shared through the primary.
 */
#define CL_LISTEN_EXCLUSIVE 2

/**
 * Listen flag: an IPv6 socket takes no IPv4 connections.
 */
#define CL_LISTEN_IPV6ONLY 4

/**
 * Listen flag: SO_REUSEPORT (socket(7)); implies CL_LISTEN_EXCLUSIVE.
 */
#define CL_LISTEN_REUSEPORT 8

/**
 * Listen flag, unix:/path only: every user may read the socket file.
 */
#define CL_LISTEN_READABLE_ALL 16

/**
 * Listen flag, unix:/path only: every user may connect.
 */
#define CL_LISTEN_WRITABLE_ALL 32

/**
 * Event: a worker was started.
 */
#define CL_EVENT_FORK 1

/**
 * Event: a worker speaks.
 */
#define CL_EVENT_ONLINE 2

/**
 * Event: a worker was granted a share of an address: address, port (-1 for unix sockets) and mechanism are set.
 */
#define CL_EVENT_LISTENING 3

/**
 * Event: a worker sent a message: data and length are set.
 */
#define CL_EVENT_MESSAGE 4

/**
 * Event: a worker's channel is closed.
 */
#define CL_EVENT_DISCONNECT 5

/**
 * Event: a worker ended: exit_code (-1 if a signal ended it or nobody can tell) and signal (0 if none) are set.
 */
#define CL_EVENT_EXIT 6

/**
 * Event: something that somebody should know: data and length hold one sentence; worker_id is 0 if it is about none.
 */
#define CL_EVENT_WARNING 7

/**
 * Event: something for the log, no cause for worry, such as why the mechanism kernel is not used: data and length hold one
 * sentence; worker_id is 0.
 */
#define CL_EVENT_NOTICE 8

/**
 * State of a worker: started, has not spoken yet.
 */
#define CL_WORKER_STARTING 1

/**
 * State of a worker: has spoken.
 */
#define CL_WORKER_ONLINE 2

/**
 * State of a worker: listens on something.
 */
#define CL_WORKER_LISTENING 3

/**
 * State of a worker: was asked to leave.
 */
#define CL_WORKER_DISCONNECTING 4

/**
 * State of a worker: its channel is closed; the process still runs.
 */
#define CL_WORKER_DISCONNECTED 5

/**
 * Header-only programs: no libcluster.so.0 was found at run time.
 */
#define CL_ENOLIB (-4096)

/**
 * cl_fork() was called in a process that has other threads.
 */
#define CL_ETHREADS (-4097)

/**
 * Primary and worker speak different versions of the protocol.
 */
#define CL_EVERSION (-4098)

/**
 * A defect inside libcluster was caught; a message on standard error says where. Nothing unwinds into the caller. What the call was
 * to do may be half done: a connection in its hands is closed, an address that it was to open may stay taken, a process that it
 * was to start may end unseen. Other calls and other threads go on, and so does the cluster, which can be stopped as ever.
 */
#define CL_EPANIC (-4099)

/**
 * The most bytes of one message.
 */
#define CL_MESSAGE_MAX 65536

/**
 * Something happened to a worker; see cl_on_event(). Pointers are valid during the callback only.
 */
typedef struct cl_event_t {
    /**
     * The size of this struct in the library that calls; fields behind it do not exist.
     */
    size_t size;
    /**
     * CL_EVENT_*
     */
    int type;
    /**
     * The worker's id; 0 in a warning that is about none, and in a notice.
     */
    int worker_id;
    /**
     * Its process.
     */
    int pid;
    /**
     * CL_EVENT_EXIT: its exit code, or -1.
     */
    int exit_code;
    /**
     * CL_EVENT_EXIT: the signal that ended it, or 0.
     */
    int signal;
    /**
     * CL_EVENT_LISTENING: the numeric host, or the text of a unix address; otherwise NULL.
     */
    const char *address;
    /**
     * CL_EVENT_LISTENING: the port, -1 for a unix socket.
     */
    int port;
    /**
     * CL_EVENT_MESSAGE, CL_EVENT_WARNING, CL_EVENT_NOTICE: the bytes; otherwise NULL.
     */
    const void *data;
    /**
     * How many they are.
     */
    size_t length;
    /**
     * CL_EVENT_LISTENING: CL_MECHANISM_*.
     */
    int mechanism;
} cl_event_t;

/**
 * A function that is told what happens; see cl_on_event().
 */
typedef void (*cl_event_fn)(const struct cl_event_t *event, void *user);

/**
 * A cluster's settings; see cl_setup_primary(). A zeroed field leaves what was set before, at first the default.
 */
typedef struct cl_settings_t {
    /**
     * sizeof (cl_settings_t)
     */
    size_t size;
    /**
     * CL_SCHED_*; default CL_SCHED_RR. For addresses that are opened from now on.
     */
    int policy;
    /**
     * CL_MECHANISM_*; default CL_MECHANISM_AUTO.
     */
    int mechanism;
    /**
     * CL_RESPAWN_*; default CL_RESPAWN_DEFAULT.
     */
    int respawn;
    /**
     * Milliseconds that a worker has to leave before SIGTERM; SIGKILL follows 2 s later. Default 30000.
     */
    int stop_deadline_ms;
    /**
     * CL_HANDLE_SIGNALS. Bits once set stay set.
     */
    unsigned int flags;
    /**
     * Connections that may wait in a worker's mailbox, 1 to 256; default 12. Fewer spread a burst better over workers
     * that are slow, more keep workers that are fast from waiting.
     */
    int window;
    /**
     * Milliseconds before a worker that ended is replaced; doubled for each that lived less than 10 s. Default 100.
     */
    int restart_min_ms;
    /**
     * The longest such delay. Default 10000.
     */
    int restart_max_ms;
    /**
     * What workers may listen on, whoever they are; NULL last. NULL: what was set before, at first anything for workers of this
     * process's own user and nothing for those that cl_spawn() started as another user. Each is one of
     *
     *     host:port  host:low-high  host:*    TCP; the host is a name (looked up now), an address, nothing (the socket of all
     *                                         addresses) or * (any address); port 0 is a free port of the kernel's choice
     *     udp:...                             the same for datagrams
     *     unix:/path  unix:/directory/        that socket file; any in that directory or further down
     *     unix:@name  fd:N                    an abstract socket; what cl_listen("fd:N") takes from this process
     *
     * Paths are absolute and without "..". The directory is opened now and held, links below it are not followed, and it must
     * belong to this process's user or root and, where others may write, be sticky. A worker that asks for anything else gets
     * -EACCES, and the program a CL_EVENT_WARNING (at most one a second and worker). Only what is asked of the primary is
     * judged: what a worker binds itself (CL_LISTEN_EXCLUSIVE) it binds with its own rights.
     */
    const char *const *listen_allow;
    /**
     * How many addresses may be open for the workers at a time; more are -EMFILE. 0: what was set before, at first any number,
     * but 64 where a worker asks that cl_spawn() started as another user.
     */
    int listen_max;
} cl_settings_t;

/**
 * A program to start as a worker; see cl_spawn(). A zeroed field means the default.
 */
typedef struct cl_spawn_options_t {
    /**
     * sizeof (cl_spawn_options_t)
     */
    size_t size;
    /**
     * The program's file; one without a slash is looked for in PATH. NULL: this program.
     */
    const char *file;
    /**
     * Its arguments, its name first, NULL last. NULL: this program's own; if a file is given, its name alone.
     */
    char *const *argv;
    /**
     * Its environment, NULL last. NULL: this program's own; for another user only PATH, TERM, TZ, LANG, LANGUAGE and LC_* of it
     * (these without paths in them), and HOME, USER, LOGNAME and SHELL of that user. CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD
     * are added in any case.
     */
    char *const *envp;
    /**
     * The directory it starts in. NULL: the current one.
     */
    const char *cwd;
    /**
     * The user it runs as, by name or number. NULL: this program's own. With a user or group, no_new_privs is set, and a user other
     * than root keeps no capabilities. Such a worker may listen only on what cl_settings_t.listen_allow declares; one that
     * changes its user by itself counts as this program's own.
     */
    const char *user;
    /**
     * The group it runs as, by name or number. NULL: the user's own groups.
     */
    const char *group;
    /**
     * Descriptors it inherits besides 0, 1 and 2, under the same numbers; all others are closed in it.
     */
    const int *inherit;
    /**
     * How many they are.
     */
    size_t inherit_count;
} cl_spawn_options_t;

/**
 * What is known of a worker; see cl_worker_info().
 */
typedef struct cl_worker_info_t {
    /**
     * sizeof (cl_worker_info_t), set by the caller.
     */
    size_t size;
    /**
     * The worker's id.
     */
    int id;
    /**
     * Its slot.
     */
    int slot;
    /**
     * Its process.
     */
    int pid;
    /**
     * CL_WORKER_*
     */
    int state;
    /**
     * Connections that it got: those passed to it and not taken back, or, where it accepts from a shared socket itself
     * (CL_SCHED_NONE), those that it says it has accepted.
     */
    unsigned long long delivered;
    /**
     * Connections that wait for it.
     */
    unsigned int waiting;
    /**
     * What it told last with cl_set_load(); as of this call.
     */
    unsigned int load;
} cl_worker_info_t;

/**
 * How to listen; see cl_listen_with(). A zeroed field means the default.
 */
typedef struct cl_listen_options_t {
    /**
     * sizeof (cl_listen_options_t)
     */
    size_t size;
    /**
     * The address, as for cl_listen(). NULL: ":0", a free port of all addresses.
     */
    const char *address;
    /**
     * Connections that the kernel keeps waiting; 0 or less: 511. The kernel's own limit is net.core.somaxconn.
     */
    int backlog;
    /**
     * CL_LISTEN_* bits.
     */
    unsigned int flags;
    /**
     * For port 0, which of the ports that all workers share: n is the n-th; 0 is the next in order of this worker's
     * listens on port 0 (the lowest number it has not open).
     */
    int index;
} cl_listen_options_t;

#ifndef CL_HEADER_ONLY

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What a code means.
 *
 * @param code  what a function returned: -errno or a CL_E* code; any other int is allowed.
 * @return static text, never NULL; "Unknown error" for a code that is none.
 *
 * Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
 */
CL_API const char *cl_strerror(int code);

/**
 * The name of a code, such as "EADDRINUSE" or "CL_ENOLIB".
 *
 * @param code  as for cl_strerror().
 * @return static text, never NULL; "UNKNOWN" for a code that is none.
 *
 * Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
 */
CL_API const char *cl_err_name(int code);

/**
 * What was wrong with this thread's last failed call, in one sentence for a person.
 *
 * @return text that stays valid until this thread's next failed call; "" if none has failed. Never NULL.
 *
 * Threads: each has its own. After fork(2): allowed. Signals: not to be called in a handler. Since 0.1.
 */
CL_API const char *cl_last_error(void);

/**
 * The version of the library that is running, such as "0.1.0".
 *
 * @return static text. Compare with CL_VERSION, which is the version this header belongs to.
 *
 * Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
 */
CL_API const char *cl_version(void);

/**
 * The version of the library that is running, as a number.
 *
 * @return major << 16 | minor << 8 | patch. Compare with CL_VERSION_NUMBER.
 *
 * Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
 */
CL_API unsigned int cl_version_number(void);

/**
 * Names the function that is told what happens; it replaces the one named before.
 *
 * @param callback  called by the thread that is in cl_step(), cl_run() or cl_serve(), in the order of events, with no
 *                  lock held: it may call any cl_ function but those three. NULL: none.
 * @param user      given to it.
 * @return 0; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_on_event(cl_event_fn callback, void *user);

/**
 * Tells whether this process is a primary: it is, unless a cluster started it as a worker.
 *
 * The first call of any cl_ function decides this once: it reads CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD,
 * removes them from the environment, and believes them only if the descriptor proves to be the channel. Make that
 * call before other threads use the environment (setenv(3)).
 *
 * @return 1 or 0; -ECHILD in a child of fork(2).
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_is_primary(void);

/**
 * Tells whether this process is a worker.
 *
 * @return 1 or 0; -ECHILD in a child of fork(2).
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_is_worker(void);

/**
 * This worker's id: 1, 2, ... in the order in which the primary started them; never used twice.
 *
 * @return the id; 0 in the primary; -ECHILD in a child of fork(2).
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_id(void);

/**
 * This worker's slot: 0 .. n-1; a replacement gets the slot of the worker it replaces.
 *
 * @return the slot; -1 in the primary; -ECHILD in a child of fork(2).
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_slot(void);

/**
 * Chooses the cluster's settings. May be called any number of times; each adds to what was set before, and applies to
 * what is started and opened afterwards. Needless where the defaults are right.
 *
 * @param settings  see cl_settings_t; NULL: change nothing. Not kept.
 * @return 0; -EINVAL: a value that is none, such as a rule in listen_allow, or a name in it that nobody knows; -ENOENT, -EACCES,
 *         -ENOTDIR: a directory in listen_allow that cannot be opened; -E2BIG: a field of a later version is set; -EPERM: in a worker, or
 *         CL_MECHANISM_KERNEL without the privilege it needs; -EINVAL, -ENOSYS: CL_MECHANISM_KERNEL on a kernel that lacks
 *         it. Nothing is changed then.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API
int cl_setup_primary(const struct cl_settings_t *settings);

/**
 * Makes a worker, as fork(2) makes a process: returns twice.
 *
 * The worker has a copy of everything the caller had, but none of the primary's descriptors; what stdio has buffered
 * is there twice, so flush first. If it is to be replaced (cl_settings_t.respawn), the replacement returns from
 * cl_run() or cl_step() instead.
 *
 * @return in the primary the worker's id > 0; in the worker 0.
 *         CL_ETHREADS: the process has other threads, use cl_spawn(); -ESHUTDOWN: the cluster is being stopped;
 *         -EPERM: in a worker; -EAGAIN, -ENOMEM: from fork(2); -EMFILE, -ENFILE.
 *
 * Threads: the process's only one. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_fork(void);

/**
 * Starts a program as a worker. It finds CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD in its environment and, if it
 * uses libcluster in any form, takes part; any other program runs too, and is ended when the primary dies.
 *
 * @param options  see cl_spawn_options_t; NULL: this program again with the same arguments. Not kept.
 * @return the worker's id > 0.
 *         -ENOENT, -EACCES, -ENOEXEC, ...: the program cannot be run (from execve(2), or the directory's from
 *         chdir(2)); -EPERM: in a worker, or the user cannot be set; -EINVAL: no such user or group, or a bad value;
 *         -ESHUTDOWN: the cluster is being stopped; -ETIMEDOUT: another process of the user stopped it before it was the
 *         program; -EAGAIN, -ENOMEM, -EMFILE, -ENFILE. No process is left then, and cl_last_error() names the step that failed.
 *
 * Threads: any; safe in a program with threads (the child runs only async-signal-safe code until exec). After
 * fork(2): -ECHILD. Signals: not in a handler. The program starts with the caller's signal mask; handlers are
 * reset, ignored signals stay ignored, as with posix_spawn(3). Since 0.1.
 */
CL_API
int cl_spawn(const struct cl_spawn_options_t *options);

/**
 * Forks workers that each run a function, and is their primary until the cluster is stopped: by SIGTERM or SIGINT
 * (CL_HANDLE_SIGNALS is implied) or by cl_stop(). A worker that ends is replaced after a delay that doubles
 * with each short life. Stopping is graceful: see cl_stop().
 *
 * In a process that was itself started as a worker (cl_spawn() of this program) it runs the function there.
 *
 * @param workers      how many; 0: one for each CPU this process may use (affinity and cgroup quota).
 * @param worker_main  runs in each worker, whose exit code is its result (exit(3): stdio is flushed). Not NULL.
 * @param argument     given to it.
 * @return in the primary 0 once the cluster was stopped; in a process that was started as a worker the function's
 *         result. Never returns in a worker that it forked.
 *         -EINVAL: fewer than 0 workers or no function; otherwise as cl_fork(): then no worker is left.
 *
 * Threads: the process's only one. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_serve(int workers, int (*worker_main)(void*), void *argument);

/**
 * Is the primary until every worker is gone and none is due to be replaced, or until a cl_stop() is complete. Addresses
 * are given up then. Calls the cl_on_event() callback.
 *
 * @return 0 in the primary. 1 in a worker: the replacement of one made by cl_fork(), with cl_settings_t.respawn set.
 *         -EPERM: in a worker; -EBUSY: in a callback, or another thread runs the primary.
 *
 * Threads: any, one at a time. After fork(2): -ECHILD. Signals: handles none, unless CL_HANDLE_SIGNALS is set. Since
 * 0.1.
 */
CL_API int cl_run(void);

/**
 * Takes one turn as the primary: waits, does what is due, calls the cl_on_event() callback. For programs with a loop
 * of their own; see cl_poll_fd().
 *
 * @param timeout_ms  how long to wait for something to do: 0 not at all, less than 0 as long as it takes.
 * @return how many events there were, >= 0. In a replacement of a worker made by cl_fork() 0, and cl_is_worker() is 1.
 *         -EPERM: in a worker; -EBUSY: in a callback, or another thread runs the primary.
 *
 * Threads: any, one at a time. After fork(2): -ECHILD. Signals: one ends the wait early. Since 0.1.
 */
CL_API int cl_step(int timeout_ms);

/**
 * The primary's one descriptor: readable when cl_step() has something to do, timers included.
 *
 * @return a descriptor >= 0 for poll(2) or epoll(7) that stays the library's: do not close or read it. -EPERM: in a
 *         worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_poll_fd(void);

/**
 * Stops the cluster, in the turns that follow: every worker is asked to disconnect (it gets no more connections,
 * drains what waits for it, and cl_accept() says -ESHUTDOWN), after the deadline comes SIGTERM, 2 s later SIGKILL.
 * Nobody is replaced. cl_run() returns when all are gone. A second call with a shorter deadline shortens it.
 *
 * @param deadline_ms  milliseconds until SIGTERM; 0: at once; less than 0: cl_settings_t.stop_deadline_ms.
 * @return 0; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: async-signal-safe. Since 0.1.
 */
CL_API int cl_stop(int deadline_ms);

/**
 * Lists the running workers in the order of their ids.
 *
 * @param ids       where they go; may be NULL if capacity is 0.
 * @param capacity  how many fit.
 * @return how many workers there are, which may be more than fit. -EINVAL: NULL; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_ids(int *ids, size_t capacity);

/**
 * Tells what is known of a worker.
 *
 * @param id    its id.
 * @param info  filled in; set info->size to sizeof *info first. Not NULL.
 * @return 0; -ESRCH: no such worker (any more); -EINVAL: NULL or a size that is none; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_info(int id, struct cl_worker_info_t *info);

/**
 * Sends a worker a message, which it gets from cl_receive(). Never waits: what the worker does not read is kept, up
 * to 1 MiB.
 *
 * @param id      the worker's id.
 * @param data    the bytes; copied. May be NULL if length is 0.
 * @param length  0 to CL_MESSAGE_MAX.
 * @return 0; -EAGAIN: 1 MiB is waiting for it; -EMSGSIZE: too long; -ESRCH: no such worker; -EPIPE: its channel is
 *         closed; -EINVAL: NULL; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_send(int id, const void *data, size_t length);

/**
 * Asks one worker to leave: it gets no more connections, drains what waits for it, and has
 * cl_settings_t.stop_deadline_ms until SIGTERM. It is replaced if cl_settings_t.respawn says so.
 *
 * @param id  the worker's id.
 * @return 0, at once; -ESRCH: no such worker; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_disconnect(int id);

/**
 * Sends a signal to a worker's process, and never to another that has got its number (pidfd_send_signal(2)).
 *
 * @param id      the worker's id.
 * @param signal  the signal; 0 only checks.
 * @return 0; -ESRCH: no such worker; -EINVAL: no such signal; -EPERM: in a worker, or not allowed.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_kill(int id, int signal);

/**
 * Listens on an address: in a worker on a share of the primary's socket, elsewhere on a socket of this process's own.
 *
 * In a worker the primary binds when the first worker asks; its error goes to that worker and is not remembered. The
 * same address twice in one worker is -EADDRINUSE. A worker waits here for the primary's answer.
 *
 * @param address  "host:port"; ":port" (all addresses, IPv6 and IPv4); "[v6]:port"; "unix:/path" (a file left by a
 *                 dead server is replaced, a live one is -EADDRINUSE; paths over 107 bytes work); "unix:@abstract";
 *                 "fd:N" (a listening socket that is descriptor N of the primary, or of this process if it is no
 *                 worker; it stays open, and is made non-blocking for all who have it); "udp:" before one of the first three: then the descriptor returned is the datagram socket
 *                 itself, shared by all workers, for recvfrom(2) and sendto(2). A host name is resolved here, which
 *                 may wait for a name server. Port 0: the n-th listen on port 0 is the same port in every worker, and
 *                 in the workers that replace them. Not NULL; not kept.
 * @param backlog  connections that the kernel keeps waiting, 0 or less: 511; at most net.core.somaxconn. The first
 *                 worker to listen on an address decides.
 * @return a descriptor >= 0 that is readable when cl_accept() has something to say, for poll(2) and epoll(7); close it
 *         with cl_close() only. It is close-on-exec.
 *         -EINVAL: the address is none (cl_last_error() says why); -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, ...: from
 *         bind(2); -ESHUTDOWN: this worker was asked to disconnect; -EPIPE: the primary is gone; CL_EVERSION.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler; interrupted waits go on. Since 0.1.
 */
CL_API
int cl_listen(const char *address,
              int backlog);

/**
 * Listens as cl_listen() does, with options.
 *
 * @param options  see cl_listen_options_t; not NULL; not kept.
 * @return as cl_listen(); also -EINVAL: an unknown flag, a negative index, or a size that is none; -E2BIG: a field
 *         of a later version is set.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_listen_with(const struct cl_listen_options_t *options);

/**
 * Takes one connection: cl_accept4() without flags.
 *
 * @param listener     from cl_listen().
 * @param peer         where the peer's address goes, or NULL.
 * @param peer_length  bytes at `peer`; set to the address's length, which may be more. NULL only if `peer` is.
 * @return as cl_accept4().
 *
 * Threads: any, also several on one listener. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_accept(int listener, struct sockaddr *peer, socklen_t *peer_length);

/**
 * Takes one connection, waiting for it unless the listener has CL_LISTEN_NONBLOCK.
 *
 * The connection is this process's from the moment the kernel hands it over; until then the primary can give it to
 * another worker, should this one die or hang. The primary closes its own copy a moment after it has passed it on. So
 * take a connection out of an epoll set (EPOLL_CTL_DEL) before you close it: epoll(7) forgets a descriptor by itself
 * only when no other process has it open.
 *
 * @param listener     from cl_listen().
 * @param peer         where the peer's address goes, or NULL.
 * @param peer_length  bytes at `peer`; set to the address's length, which may be more. NULL only if `peer` is.
 * @param flags        SOCK_NONBLOCK, SOCK_CLOEXEC (accept4(2)) or 0.
 * @return a connected socket >= 0 that the caller closes with close(2).
 *         -EAGAIN: CL_LISTEN_NONBLOCK and nothing is there;
 *         -ESHUTDOWN: this worker was asked to disconnect and nothing is left for it: finish and exit;
 *         -EPIPE: the primary is gone: finish within a second and exit;
 *         -EMFILE, -ENFILE: no descriptor is free; -ENOMEM, -ENOBUFS: memory is short. The connection waits, nothing is
 *         lost, and the program may simply call again: from the second time in a row on a call that may wait says so
 *         only after a pause of 4 to 100 ms, so that nobody spins;
 *         -EBADF: no listener, or closed by another thread meanwhile; -EOPNOTSUPP: a udp listener; -EINVAL: a flag.
 *
 * Threads: any, also several on one listener. After fork(2): -ECHILD. Signals: not in a handler; a wait that a signal
 * interrupts goes on, -EINTR is never returned. Since 0.1.
 */
CL_API int cl_accept4(int listener, struct sockaddr *peer, socklen_t *peer_length, int flags);

/**
 * Tells the address that a listener is bound to: the real port where 0 was asked for.
 *
 * @param listener     from cl_listen().
 * @param name         where the address goes; not NULL.
 * @param name_length  bytes at `name`; set to the address's length, which may be more; not NULL.
 * @return 0; -EBADF: no listener; -EINVAL: NULL.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_getsockname(int listener, struct sockaddr *name, socklen_t *name_length);

/**
 * Closes a listener. Connections that wait for it in the primary go to other workers; threads that wait in
 * cl_accept() on it return with -EBADF. The last worker to close an address gives it up. Take the listener out of an
 * epoll set (EPOLL_CTL_DEL) before: the primary has a copy of it, so that closing alone leaves it registered.
 *
 * @param listener  from cl_listen(); its number is free for other uses afterwards.
 * @return 0; -EBADF: no listener.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_close(int listener);

/**
 * Sends the primary a message, which it gets as CL_EVENT_MESSAGE. Waits while the primary does not read. So that no worker keeps it
 * from its connections, it reads 16,000 small messages of one in a second (each 4096 bytes count as another), and as many more
 * at once of one that was silent for a second.
 *
 * @param data    the bytes; copied. May be NULL if length is 0.
 * @param length  0 to CL_MESSAGE_MAX.
 * @return 0; -EMSGSIZE: too long; -EPIPE: the primary is gone; -EINVAL: NULL; -EPERM: this process is no worker.
 *
 * Threads: any; messages of one thread arrive in order. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API
int cl_send(const void *data,
            size_t length);

/**
 * Takes the next message of the primary's.
 *
 * @param buffer      where it goes. May be NULL if capacity is 0.
 * @param capacity    how many bytes fit; CL_MESSAGE_MAX are always enough.
 * @param timeout_ms  how long to wait: 0 not at all, less than 0 as long as it takes.
 * @return its length, >= 0.
 *         -EAGAIN: none is there and timeout_ms is 0; -ETIMEDOUT: none came; -EMSGSIZE: the next is longer than
 *         capacity, and is kept; -ESHUTDOWN: this worker was asked to disconnect and no message is left; -EPIPE: the
 *         primary is gone; -EINVAL: NULL; -EPERM: this process is no worker.
 *
 * Threads: any; each message goes to one of them. After fork(2): -ECHILD. Signals: not in a handler; interrupted waits
 * go on. Since 0.1.
 */
CL_API int cl_receive(void *buffer, size_t capacity, int timeout_ms);

/**
 * A descriptor that is readable when cl_receive() has something to say; for good once it says -ESHUTDOWN.
 *
 * @return a descriptor >= 0 for poll(2) or epoll(7) that stays the library's: do not close or read it. -EPERM: this
 *         process is no worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_channel_fd(void);

/**
 * In a worker: asks the primary to be disconnected; it gets no more connections, drains what waits for it, and then
 * cl_accept() says -ESHUTDOWN. In the primary: cl_worker_disconnect() for every worker.
 *
 * @return 0, at once; -EPIPE: the primary is gone.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_
 * function has been called before. Since 0.1.
 */
CL_API int cl_disconnect(void);

/**
 * Tells the primary this worker's present load, for CL_SCHED_LEAST_LOADED and cl_worker_info(). Costs no system call:
 * the load is written into memory that the primary reads when it next decides something; a primary that sleeps is
 * not woken, and one that is gone is not noticed. A worker that has no memory for that (RLIMIT_AS, a system call
 * filter) sends it instead, and then waits while the primary does not read.
 *
 * @param load  any unit that is the same in all workers; the newest counts. Best one in which a connection is about 1
 *              (open connections, requests in progress), because connections given since are counted as 1 each, for a
 *              second at most. Tell it at each change, or every 10 ms.
 * @return 0; -EPIPE: it had to be sent, and the primary is gone; -EPERM: this process is no worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_
 * function has been called before. Since 0.1.
 */
CL_API int cl_set_load(unsigned int load);

#ifdef __cplusplus
}
#endif

#else /* CL_HEADER_ONLY */

/*
 * Header-only mode: what follows is compiled where CL_HEADER_ONLY is defined, in place of the declarations above.
 * The worker's side of docs/protocol.md, the sockets of a process that is no worker, and a loader that finds the
 * primary's side in libcluster.so.0 when it is first asked for. There is nothing to link.
 *
 * Every function is static inline, but what a process has once (its channel, its listeners) is one object however
 * many translation units include this: the definitions are weak, and the linker keeps one of each.
 *
 * A call goes to the library as soon as the process has loaded it, with one exception: a listener that this code
 * opened stays with this code. A worker that this code serves never loads the library.
 */
#if !defined(__GLIBC__) || !defined(__GNUC__)
#error "cluster.h: CL_HEADER_ONLY needs Linux with glibc, and GCC or Clang"
#endif

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CL__FN static inline __attribute__((unused))
#define CL__ONE __attribute__((weak))

/* -- What the C library hides -----------------------------------------------------------------------------------------
 * Under -std=c99, and in part without _GNU_SOURCE, glibc hides names that are needed here, and by now the program may
 * have included headers that fixed the choice. So they are declared once more: functions as names of our own for the
 * same symbols, constants by value. No feature macro is needed, and none is forced on the program. */

#if defined(SIG_SETMASK) && defined(MAP_ANONYMOUS) && defined(SO_REUSEPORT)
#define CL__VISIBLE
#elif defined(__alpha__) || defined(__hppa__) || defined(__mips__) || defined(__sparc__)
#error "cluster.h: on this architecture CL_HEADER_ONLY needs _GNU_SOURCE, defined before the first #include"
#endif
enum {
    CL__AI_NUMERICHOST = 4, CL__AI_NUMERICSERV = 0x400, CL__CLOCK_MONOTONIC = 1, CL__F_DUPFD_CLOEXEC = 1030,
    CL__F_GET_SEALS = 1034, CL__F_SEAL_SHRINK = 2, CL__LOCK_EX_NB = 2 | 4, CL__MADV_WIPEONFORK = 18, CL__S_IFIFO = 0010000, CL__S_IFMT = 0170000,
    CL__S_IFSOCK = 0140000,
#ifdef CL__VISIBLE
    CL__MAP_ANONYMOUS = MAP_ANONYMOUS, CL__SIG_SETMASK = SIG_SETMASK, CL__SO_REUSEPORT = SO_REUSEPORT
#else
    CL__MAP_ANONYMOUS = 0x20, CL__SIG_SETMASK = 2, CL__SO_REUSEPORT = 15
#endif
};
struct cl__addrinfo {
    int flags, family, type, protocol;
    socklen_t length;
    struct sockaddr *address;
    char *canonical;
    struct cl__addrinfo *next;
};
extern int cl__os_accept4(int, struct sockaddr *, socklen_t *, int) __asm__("accept4");
extern void cl__os_freeaddrinfo(struct cl__addrinfo *) __asm__("freeaddrinfo");
extern const char *cl__os_gai_strerror(int) __asm__("gai_strerror");
extern int cl__os_getaddrinfo(const char *, const char *, const struct cl__addrinfo *, struct cl__addrinfo **)
    __asm__("getaddrinfo");
extern int cl__os_fchmod(int, mode_t) __asm__("fchmod");
extern int cl__os_madvise(void *, size_t, int) __asm__("madvise");
extern int cl__os_sigfillset(sigset_t *) __asm__("sigfillset");
extern int cl__os_sigprocmask(int, const sigset_t *, sigset_t *) __asm__("sigprocmask");
extern long cl__os_syscall(long, ...) __asm__("syscall");
extern int cl__os_unsetenv(const char *) __asm__("unsetenv");

/* Before glibc 2.34 these live in libraries of their own, and nobody shall have to link -ldl or -lpthread: a weak
 * reference is NULL where the program did not link them. The last two came with glibc 2.32. */
#define CL__WEAKLY(name) __attribute__((weakref(name), unused))
static void *cl__weak_dlopen(const char *, int) CL__WEAKLY("dlopen");
static void *cl__weak_dlsym(void *, const char *) CL__WEAKLY("dlsym");
static char *cl__weak_dlerror(void) CL__WEAKLY("dlerror");
static int cl__weak_stacksize(pthread_attr_t *, size_t) CL__WEAKLY("pthread_attr_setstacksize");
static int cl__weak_thread(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) CL__WEAKLY("pthread_create");
static const char *cl__weak_errno_name(int) CL__WEAKLY("strerrorname_np");
static const char *cl__weak_errno_text(int) CL__WEAKLY("strerrordesc_np");

/* -- Errors -------------------------------------------------------------------------------------------------------- */

struct cl__error {
    const char *sentence; /* of this thread's last failed call; NULL: none failed yet */
    int in_library;       /* that call was the library's, which has the sentence */
    char text[640];
};
CL__ONE __thread struct cl__error cl__error;

/* Every failure leaves through one of these two; the first costs two stores and is for what is usual in accepting. */
CL__FN int cl__say(int code, const char *sentence) {
    cl__error.sentence = sentence;
    cl__error.in_library = 0;
    return code;
}

__attribute__((format(printf, 2, 3))) CL__FN int cl__fail(int code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(cl__error.text, sizeof cl__error.text, format, list);
    va_end(list);
    return cl__say(code, cl__error.text);
}

CL__FN const char *cl_strerror(int code) {
    const char *text = NULL;
    if (code == 0) return "Success";
    if (code == CL_ENOLIB) return "libcluster.so.0 was not found at run time";
    if (code == CL_ETHREADS) return "cl_fork needs a process with one thread";
    if (code == CL_EVERSION) return "primary and worker speak different versions of the protocol";
    if (code == CL_EPANIC) return "a defect inside libcluster";
    if (code < 0 && code > -4096)
        text = cl__weak_errno_text ? cl__weak_errno_text(-code) : code > -134 ? strerror(-code) : NULL;
    return text != NULL ? text : "Unknown error";
}

/* A system call failed. */
CL__FN int cl__os(const char *what) {
    int code = -errno;
    return cl__fail(code, "%s: %s", what, cl_strerror(code));
}

CL__FN const char *cl_err_name(int code) {
    const char *name = NULL;
    switch (code) {
#define CL__N(name) case name: return #name;
#define CL__E(name) case -name: return #name;
    CL__N(CL_ENOLIB) CL__N(CL_ETHREADS) CL__N(CL_EVERSION) CL__N(CL_EPANIC) CL__E(EPERM) CL__E(ENOENT) CL__E(ESRCH)
    CL__E(E2BIG) CL__E(EBADF) CL__E(ECHILD) CL__E(EAGAIN) CL__E(ENOMEM) CL__E(EACCES) CL__E(EBUSY) CL__E(EINVAL)
    CL__E(ENFILE) CL__E(EMFILE) CL__E(EPIPE) CL__E(ENOTSOCK) CL__E(EMSGSIZE) CL__E(EOPNOTSUPP) CL__E(EADDRINUSE)
    CL__E(EADDRNOTAVAIL) CL__E(ESHUTDOWN) CL__E(ETIMEDOUT)
#undef CL__N
#undef CL__E
    default: break;
    }
    if (code < 0 && code > -4096 && cl__weak_errno_name) name = cl__weak_errno_name(-code);
    return name != NULL ? name : code == 0 ? "OK" : "UNKNOWN";
}

CL__FN const char *cl_version(void) { return CL_VERSION; }
CL__FN unsigned cl_version_number(void) { return CL_VERSION_NUMBER; }

/* -- The library, where the process has loaded it ---------------------------------------------------------------------
 * X(name, parameters, arguments...). The primary's own functions load it; the others follow once it is there, those of
 * a listener unless the listener is ours. */
#define CL__PRIMARY_FUNCTIONS(X) \
    X(setup_primary, (const cl_settings_t *settings), settings) \
    X(fork, (void), ) \
    X(spawn, (const cl_spawn_options_t *options), options) \
    X(run, (void), ) \
    X(step, (int timeout_ms), timeout_ms) \
    X(poll_fd, (void), ) \
    X(stop, (int deadline_ms), deadline_ms) \
    X(on_event, (cl_event_fn callback, void *user), callback, user) \
    X(worker_ids, (int *ids, size_t capacity), ids, capacity) \
    X(worker_info, (int id, cl_worker_info_t *info), id, info) \
    X(worker_send, (int id, const void *data, size_t length), id, data, length) \
    X(worker_disconnect, (int id), id) \
    X(worker_kill, (int id, int signal), id, signal)
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
#define CL__LISTENER_FUNCTIONS(X) \
    X(accept4, (int fd, struct sockaddr *peer, socklen_t *length, int flags), fd, peer, length, flags) \
    X(getsockname, (int fd, struct sockaddr *name, socklen_t *length), fd, name, length) \
    X(close, (int fd), fd)

struct cl__library {
    int loaded;
#define CL__MEMBER(name, parameters, ...) int(*name) parameters;
    CL__PRIMARY_FUNCTIONS(CL__MEMBER)
    CL__EITHER_FUNCTIONS(CL__MEMBER)
    CL__LISTENER_FUNCTIONS(CL__MEMBER)
#undef CL__MEMBER
    int (*serve)(int, int (*)(void *), void *);
    const char *(*last_error)(void);
    unsigned (*version_number)(void);
};
CL__ONE struct cl__library cl__library;

CL__FN int cl__loaded(void) { return __atomic_load_n(&cl__library.loaded, __ATOMIC_ACQUIRE); }

/* Remembers whose sentence cl_last_error has to give. */
CL__FN int cl__from_library(int result) {
    if (result < 0) cl__error.in_library = 1;
    return result;
}

CL__FN const char *cl_last_error(void) {
    if (cl__error.in_library) return cl__library.last_error();
    return cl__error.sentence != NULL ? cl__error.sentence : "";
}

/* -- What a process has once --------------------------------------------------------------------------------------- */

enum { CL__FREE = 0, CL__OPEN, CL__CLOSING };               /* a place in the table of listeners */
enum { CL__OWN = 1, CL__PASSED, CL__SHARED, CL__DATAGRAM }; /* how connections come */
enum {
    CL__HELLO = 1, CL__ONLINE, CL__LISTEN, CL__CLOSE, CL__MESSAGE, CL__LOAD, CL__DISCONNECT, CL__GRANT, CL__CONNECTION,
    CL__NOP, CL__STOP
};
enum { CL__PROTOCOL = 1, CL__LISTENERS = 256 };

struct cl__listener {
    int state;     /* CL__OPEN makes the rest valid */
    int users;     /* threads inside a call about it; it is closed when the closer is the only one */
    int receiving; /* threads between a receive from the mailbox and having acted on it */
    int own;       /* the socket is this worker's alone, not shared with others */
    int accepts;   /* calls of cl_accept */
    int shortages; /* how many of them in a row found descriptors or memory short */
    int stopped;   /* STOP was received */
    int kind, fd, mailbox, socket;
    int wake;      /* eventfd by which cl_close wakes the threads that wait; -1: nobody may wait */
    int index;
    unsigned flags, number; /* number: the primary's name for it */
    int granted;            /* the primary knows it, and has to be told of its end */
    char *text;             /* the address, for "the same address twice" */
    char *file;             /* the socket file to remove, if it still is this inode */
    dev_t device;
    ino_t inode;
    socklen_t name_length;
    struct sockaddr_storage name;
};

struct cl__process {
    unsigned char *member;     /* a page that reads 1 here, and 0 in a copy made by fork(2); NULL: not begun */
    int worker_id, slot;       /* worker_id 0: this process is no worker */
    int channel, grants, lifeline, primary; /* primary: its pidfd, or a pipe that hangs up at its death */
    unsigned char *board;      /* this worker's page of the scoreboard; NULL: there is none */
    ino_t pipe;                /* then that pipe's inode; 0: a pidfd */
    int gone, leaving;         /* the primary is gone; it asked this worker to disconnect */
    int news;                  /* what cl_channel_fd gave; 0: nothing yet */
    unsigned version, asked;   /* the primary's version of the protocol; the number of the last LISTEN */
    pthread_mutex_t begin, asking, reading, table;
    struct cl__listener listeners[CL__LISTENERS];
    int places;                /* of `listeners` that were ever used */
};
CL__ONE struct cl__process cl__process; /* all zero, which on Linux is also what PTHREAD_MUTEX_INITIALIZER is */

CL__FN int cl__get(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
CL__FN void cl__set(int *to, int value) { __atomic_store_n(to, value, __ATOMIC_SEQ_CST); }
CL__FN void cl__add(int *to, int value) { __atomic_add_fetch(to, value, __ATOMIC_SEQ_CST); }

CL__FN void cl__close_fd(int fd) {
    if (fd >= 0) close(fd); /* never again after EINTR: the number may be another thread's by then */
}

CL__FN void cl__ring(int eventfd) {
    unsigned long long one = 1;
    if (eventfd >= 0 && write(eventfd, &one, sizeof one) < 0) return; /* full, and so readable already */
}

/* Sleeps for 1, 2, 4 ... 100 ms: something is short that no readiness tells about. */
CL__FN void cl__pause(int failures) {
    long time[2] = {0, 1000000L * (failures < 7 ? 1 << failures : 100)};
    cl__os_syscall(SYS_nanosleep, time, NULL);
}
CL__FN int cl__is_short_of_memory(int code) { return code == ENOMEM || code == ENOBUFS; }

/* As poll(2), with a pause where memory is short, so that whoever simply waits again does not spin. */
CL__FN int cl__poll(struct pollfd *fds, int count, int timeout_ms) {
    int ready = poll(fds, (nfds_t)count, timeout_ms);
    if (ready < 0 && cl__is_short_of_memory(errno)) cl__pause(4);
    return ready;
}

/* Waits for `events` on the first or until the second is readable; -1 is none. May return early. */
CL__FN int cl__wait(int first, int events, int second, int timeout_ms) {
    struct pollfd fds[2] = {{first, (short)events, 0}, {second, POLLIN, 0}};
    return cl__poll(fds, 2, timeout_ms);
}

/* -- Packets ------------------------------------------------------------------------------------------------------- */

/* Receives one packet, without blocking, into `head` and then `body`; its length or -errno. `fds` gets the descriptors
 * it brought, -1 for each that it did not. The control buffer is exactly as long as that, so none can be left over. */
CL__FN int cl__packet_at_once(int socket, void *head, size_t head_length, void *body, size_t body_length, int *fds,
                              int room, int flags) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec parts[2] = {{head, head_length}, {body, body_length}};
    struct msghdr message;
    ssize_t n;
    do {
        memset(&message, 0, sizeof message);
        message.msg_iov = parts;
        message.msg_iovlen = 2;
        message.msg_control = room > 0 ? control.bytes : NULL;
        message.msg_controllen = room > 0 ? CMSG_LEN((size_t)room * sizeof(int)) : 0;
        n = recvmsg(socket, &message, flags | MSG_DONTWAIT);
        /* ECONNRESET is said once when the primary died with something of ours unread; what it sent still waits. */
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    for (int i = 0; i < room; i++) fds[i] = -1;
    if (n < 0) return -errno;
    struct cmsghdr *header = fds != NULL ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
    return (int)n;
}

/* The same, again for a quarter of a second while memory is short: what is left there could mean something else later. */
CL__FN int cl__packet(int socket, void *head, size_t head_length, void *body, size_t body_length, int *fds, int room,
                      int flags) {
    for (int failures = 0;; failures++) {
        int n = cl__packet_at_once(socket, head, head_length, body, body_length, fds, room, flags);
        if (!cl__is_short_of_memory(-n) || failures == 8) return n;
        cl__pause(failures);
    }
}

CL__FN unsigned cl__number(const unsigned char *at) {
    unsigned value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* The type of a frame of n bytes; 0 for what is none. Type and zero are 16 bits each, in the host's order. */
CL__FN int cl__type(const unsigned char *frame, int n) {
    unsigned short type = 0;
    if (n >= 8) memcpy(&type, frame, sizeof type);
    return type;
}

/* Once one call has said so they all do. */
CL__FN int cl__primary_gone(void) {
    cl__set(&cl__process.gone, 1);
    return cl__say(-EPIPE, "the primary is gone");
}
CL__FN int cl__asked_to_leave(void) { return cl__say(-ESHUTDOWN, "this worker was asked to disconnect"); }

/* Sends one frame to the primary, and waits for room where there is none. Async-signal-safe. */
CL__FN int cl__frame(int type, unsigned number, const void *first, size_t first_length, const void *second,
                     size_t second_length) {
    unsigned short kind[2] = {(unsigned short)type, 0};
    struct iovec parts[4] = {{kind, 4}, {&number, 4}, {(void *)first, first_length}, {(void *)second, second_length}};
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = parts;
    message.msg_iovlen = 4;
    for (int failures = 0;; failures++) {
        if (cl__get(&cl__process.gone)) return cl__primary_gone();
        if (sendmsg(cl__process.channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return 0;
        if (errno == EPIPE || errno == ECONNRESET) return cl__primary_gone();
        if (errno == EAGAIN) cl__wait(cl__process.channel, POLLOUT, cl__process.primary, -1);
        else if (cl__is_short_of_memory(errno)) cl__pause(failures);
        else if (errno != EINTR) return cl__os("the channel to the primary");
    }
}

/* -- Being a worker ------------------------------------------------------------------------------------------------ */

CL__FN ino_t cl__pipe_inode(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && (found.st_mode & CL__S_IFMT) == CL__S_IFIFO ? found.st_ino : 0;
}

/* The answer to the primary's death: whoever polls sees end of file, our calls return -EPIPE, and a worker that asks
 * neither is ended before the second is over, since a handler or a busy loop must not keep an orphan alive. */
CL__FN void *cl__watch(void *unused) {
    (void)unused;
    while (cl__wait(cl__process.primary, POLLIN, -1, -1) < 1) poll(NULL, 0, 100);
    /* A program that calls closefrom(3) closes this descriptor too, and its number may mean anything by now. */
    if (cl__pipe_inode(cl__process.primary) != cl__process.pipe) return NULL;
    if (cl__process.pipe == 0 && cl__os_syscall(SYS_pidfd_send_signal, cl__process.primary, 0, NULL, 0) < 0 &&
        (errno == EBADF || errno == EINVAL))
        return NULL; /* signal 0 only checks that it is a pidfd */
    cl__set(&cl__process.gone, 1);
    pthread_mutex_lock(&cl__process.table);
    for (int i = 0; i < cl__get(&cl__process.places); i++) {
        struct cl__listener *listener = &cl__process.listeners[i];
        if (cl__get(&listener->state) == CL__OPEN && listener->mailbox >= 0) shutdown(listener->mailbox, SHUT_RD);
    }
    pthread_mutex_unlock(&cl__process.table);
    shutdown(cl__process.channel, SHUT_RD);
    shutdown(cl__process.grants, SHUT_RD);
    poll(NULL, 0, 700);
    raise(SIGKILL);
    return NULL;
}

/* Takes the primary's death into our own hands, in the order that leaves no moment uncovered: until the thread is
 * there, the kernel kills this worker with its primary. Where there are no threads it stays at that. */
CL__FN void cl__start_watch(void) {
    sigset_t every, before;
    pthread_attr_t attributes;
    pthread_t thread;
    if (!cl__weak_thread || !cl__weak_stacksize || pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    cl__weak_stacksize(&attributes, 64 * 1024);
    /* The thread inherits the mask, and so never runs a handler of the program's. */
    cl__os_sigfillset(&every);
    cl__os_sigprocmask(CL__SIG_SETMASK, &every, &before);
    int failed = cl__weak_thread(&thread, &attributes, cl__watch, NULL);
    for (int failures = 0; failed == EAGAIN && failures < 8; failures++) {
        cl__pause(failures);
        failed = cl__weak_thread(&thread, &attributes, cl__watch, NULL);
    }
    /* The program's thread-local variables count as stack, and may need more. */
    if (failed == EINVAL && cl__weak_stacksize(&attributes, 8 * 1024 * 1024) == 0)
        failed = cl__weak_thread(&thread, &attributes, cl__watch, NULL);
    cl__os_sigprocmask(CL__SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!failed) fcntl(cl__process.lifeline, __F_SETSIG, SIGCONT);
}

/* Maps the scoreboard. What could shrink under us is not mapped, since to touch it then is SIGBUS. */
CL__FN void cl__map_board(int fd) {
    struct stat found;
    int seals = fd >= 0 ? fcntl(fd, CL__F_GET_SEALS) : -1;
    if (seals > 0 && (seals & CL__F_SEAL_SHRINK) && fstat(fd, &found) == 0 && found.st_size >= 4096) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED) cl__process.board = (unsigned char *)page;
    }
    cl__close_fd(fd);
}

/* This worker's page; NULL in a copy of it that fork(2) made, for whom nothing is counted. */
CL__FN unsigned char *cl__board(void) {
    unsigned char *page = __atomic_load_n(&cl__process.member, __ATOMIC_ACQUIRE);
    return page != NULL && __atomic_load_n(page, __ATOMIC_RELAXED) ? cl__process.board : NULL;
}

/* Shows that this worker has looked for connections, and has taken one. No system call. The beat is no count: of two
 * threads that meet here one may go unseen. */
CL__FN void cl__show(int taken) {
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2 /* elsewhere it would need a library to link */
    unsigned char *board = cl__board();
    if (board == NULL) return;
    unsigned long long *count = (unsigned long long *)(void *)(board + 64), *beat = count + 1;
    if (taken) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    __atomic_store_n(beat, __atomic_load_n(beat, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
#else
    (void)taken;
#endif
}

/* A variable of the primary's, as a number, or -1. It is removed in any case, so that no program that this one starts
 * can take itself for this worker. */
CL__FN int cl__variable(const char *name) {
    const char *text = getenv(name);
    char *end = NULL;
    long value = text != NULL && text[0] >= '0' && text[0] <= '9' ? strtol(text, &end, 10) : -1;
    if (value < 0 || *end != '\0' || value > 0x7fffffff) value = -1;
    if (text != NULL) cl__os_unsetenv(name);
    return (int)value;
}

/* Becomes the worker that the environment names, if the descriptor that it names proves to be a channel: a HELLO for
 * just this worker waits in it. Anything else is left as it was. */
CL__FN void cl__adopt(void) {
    int id = cl__variable("CL_WORKER_ID"), slot = cl__variable("CL_WORKER_SLOT"), fd = cl__variable("CL_CHANNEL_FD");
    unsigned char seen[64], hello[64];
    struct sockaddr_storage name;
    socklen_t name_length = sizeof name, type_length = sizeof(int);
    int type = 0, fds[4];
    unsigned online[2] = {CL__PROTOCOL, (unsigned)getpid()};
    if (id < 1 || slot < 0 || fd < 0 || getauxval(AT_SECURE)) return;
    if (getsockname(fd, (struct sockaddr *)&name, &name_length) != 0 || name.ss_family != AF_UNIX) return;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) != 0 || type != SOCK_SEQPACKET) return;
    /* Asked twice before it is believed that nothing is there: a worker that takes itself for none would start workers. */
    int n = cl__packet(fd, seen, sizeof seen, NULL, 0, NULL, 0, MSG_PEEK);
    if (n == -EAGAIN) n = cl__packet(fd, seen, sizeof seen, NULL, 0, NULL, 0, MSG_PEEK);
    if (n != 40 || cl__type(seen, 40) != CL__HELLO) return;
    if (memcmp(seen + 2, "\0\0\0\0\0\0libclust", 14) != 0) return;
    if (cl__number(seen + 20) != (unsigned)id || cl__number(seen + 24) != (unsigned)slot) return;
    /* Another process that holds the channel may be as quick; only one of the two receives the HELLO. */
    n = cl__packet(fd, hello, sizeof hello, NULL, 0, fds, 4, MSG_CMSG_CLOEXEC);
    if (n == -EAGAIN) n = cl__packet(fd, hello, sizeof hello, NULL, 0, fds, 4, MSG_CMSG_CLOEXEC);
    if (n != 40 || memcmp(seen, hello, 40) != 0 || fds[2] < 0) {
        for (int i = 0; i < 4; i++) cl__close_fd(fds[i]);
        return;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    cl__process.channel = fd;
    cl__process.grants = fds[0];
    cl__process.lifeline = fds[1];
    cl__process.primary = fds[2];
    cl__process.pipe = cl__pipe_inode(fds[2]);
    cl__process.version = cl__number(hello + 16);
    if (cl__process.version == CL__PROTOCOL) cl__map_board(fds[3]);
    else cl__close_fd(fds[3]);
    cl__process.worker_id = id;
    cl__process.slot = slot;
    cl__start_watch();
    (void)cl__frame(CL__ONLINE, 0, online, sizeof online, hello + 32, 8); /* with the nonce of the HELLO */
}

CL__FN int cl__begin(void) {
    pthread_mutex_lock(&cl__process.begin);
    if (cl__process.member == NULL) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | CL__MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) {
            pthread_mutex_unlock(&cl__process.begin);
            return cl__say(-ENOMEM, "no memory is left");
        }
        cl__os_madvise(page, 4096, CL__MADV_WIPEONFORK);
        *(unsigned char *)page = 1;
        cl__adopt();
        __atomic_store_n(&cl__process.member, (unsigned char *)page, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&cl__process.begin);
    return 0;
}

/* What every call does first: finds out, once, what this process is, and at the price of one load whether it still is
 * that process. A getpid(2) would be a system call for each connection. */
CL__FN int cl__enter(void) {
    unsigned char *page = __atomic_load_n(&cl__process.member, __ATOMIC_ACQUIRE);
    if (page == NULL) return cl__begin();
    if (__atomic_load_n(page, __ATOMIC_RELAXED)) return 0;
    return cl__say(-ECHILD, "this process was made by fork(2), not by cl_fork, and is no member of the cluster");
}

/* The same, for what only a worker can do. */
CL__FN int cl__enter_worker(void) {
    int code = cl__enter();
    if (code == 0 && cl__process.worker_id == 0) return cl__say(-EPERM, "only a worker can do this");
    if (code == 0 && cl__process.version != CL__PROTOCOL)
        return cl__fail(CL_EVERSION, "the primary speaks version %u of the protocol and this worker version %d",
                        cl__process.version, CL__PROTOCOL);
    return code;
}

#define CL__WHO(name, value) \
    CL__FN int cl__##name(void) { \
        int code = cl__enter(); \
        return code < 0 ? code : (value); \
    }
CL__WHO(is_primary, cl__process.worker_id == 0)
CL__WHO(is_worker, cl__process.worker_id != 0)
CL__WHO(worker_id, cl__process.worker_id)
CL__WHO(worker_slot, cl__process.worker_id != 0 ? cl__process.slot : -1)
#undef CL__WHO

/* -- Messages ------------------------------------------------------------------------------------------------------ */

CL__FN int cl__send(const void *data, size_t length) {
    int code = cl__enter_worker();
    if (code < 0) return code;
    if (data == NULL && length > 0) return cl__say(-EINVAL, "the message is NULL");
    if (length > CL_MESSAGE_MAX) return cl__fail(-EMSGSIZE, "a message has at most %d bytes", CL_MESSAGE_MAX);
    return cl__frame(CL__MESSAGE, 0, data, length, NULL, 0);
}

/* -ESHUTDOWN once the primary asked this worker to disconnect, -EPIPE once it is gone, otherwise whether an answer to
 * a LISTEN waits. The request comes on the channel, between the messages, and on the grants socket. There nobody takes
 * it, so that it stays readable for every thread. */
CL__FN int cl__leaving(void) {
    unsigned char head[8];
    if (cl__get(&cl__process.leaving)) return cl__asked_to_leave();
    int n = cl__packet(cl__process.grants, head, sizeof head, NULL, 0, NULL, 0, MSG_PEEK);
    if (n == 0) return cl__primary_gone();
    if (cl__type(head, n) != CL__DISCONNECT) return n > 0;
    cl__set(&cl__process.leaving, 1);
    return cl__asked_to_leave();
}

/* Takes the next message out of the channel: the length of its frame, 0 when there is none, or a code. One that the
 * buffer cannot hold stays. */
CL__FN int cl__next_message(void *buffer, size_t capacity) {
    unsigned char head[8];
    int n, type;
    pthread_mutex_lock(&cl__process.reading);
    for (;;) {
        n = cl__packet(cl__process.channel, head, sizeof head, NULL, 0, NULL, 0, MSG_PEEK | MSG_TRUNC);
        type = cl__type(head, n);
        if (n <= 0 || type == CL__MESSAGE) break;
        recv(cl__process.channel, head, sizeof head, MSG_DONTWAIT);
        if (type == CL__DISCONNECT) cl__set(&cl__process.leaving, 1);
    }
    if (n == 0) n = cl__primary_gone();
    else if (n == -EAGAIN) n = 0;
    else if (n < 0) cl__fail(n, "the channel to the primary: %s", cl_strerror(n));
    else if ((size_t)n - 8 > capacity) n = cl__fail(-EMSGSIZE, "the next message has %d bytes; it is kept", n - 8);
    else n = cl__packet(cl__process.channel, head, sizeof head, buffer, capacity, NULL, 0, 0);
    pthread_mutex_unlock(&cl__process.reading);
    return n;
}

CL__FN long long cl__now_ms(void) {
    long now[2] = {0, 0};
    cl__os_syscall(SYS_clock_gettime, CL__CLOCK_MONOTONIC, now);
    return now[0] * 1000LL + now[1] / 1000000;
}

CL__FN int cl__receive(void *buffer, size_t capacity, int timeout_ms) {
    int code = cl__enter_worker(), left = -1;
    if (code < 0) return code;
    if (buffer == NULL && capacity > 0) return cl__say(-EINVAL, "the buffer is NULL");
    long long deadline = timeout_ms > 0 ? cl__now_ms() + timeout_ms : 0;
    for (;;) {
        int n = cl__next_message(buffer, capacity);
        if (n != 0) return n < 0 ? n : n - 8;
        if ((code = cl__leaving()) < 0) return code;
        if (timeout_ms == 0) return cl__say(-EAGAIN, "no message waits");
        if (timeout_ms > 0) left = (int)(deadline - cl__now_ms());
        if (timeout_ms > 0 && left <= 0) return cl__say(-ETIMEDOUT, "no message came in time");
        cl__wait(cl__process.channel, POLLIN, cl__process.grants, left);
    }
}

CL__FN int cl__watch_for(int epoll, int fd, unsigned events) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.fd = fd;
    return epoll < 0 || (fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0);
}

/* Both sockets in one descriptor, which so stays readable when the request to leave was taken out of the channel. */
CL__FN int cl__channel_fd(void) {
    int code = cl__enter_worker(), epoll = -1;
    if (code < 0) return code;
    pthread_mutex_lock(&cl__process.reading);
    if (cl__process.news == 0) {
        epoll = epoll_create1(EPOLL_CLOEXEC);
        if (cl__watch_for(epoll, cl__process.channel, EPOLLIN) || cl__watch_for(epoll, cl__process.grants, EPOLLIN)) {
            code = cl__os("epoll");
            cl__close_fd(epoll);
        } else {
            cl__process.news = epoll;
        }
    }
    pthread_mutex_unlock(&cl__process.reading);
    return code < 0 ? code : cl__process.news;
}

CL__FN int cl__set_load(unsigned load) {
    int code = cl__enter_worker();
    if (code < 0) return code;
    if (cl__process.board == NULL) return cl__frame(CL__LOAD, 0, &load, sizeof load, NULL, 0);
    unsigned *told = (unsigned *)(void *)(cl__process.board + 80), *times = told + 1;
    __atomic_store_n(told, load, __ATOMIC_RELAXED);
    __atomic_fetch_add(times, 1, __ATOMIC_RELEASE);
    return 0;
}

CL__FN int cl__disconnect(void) {
    int code = cl__enter();
    /* A primary has its workers through the library; without it there are none. */
    if (code < 0 || cl__process.worker_id == 0) return code;
    code = cl__enter_worker();
    return code < 0 ? code : cl__frame(CL__DISCONNECT, 0, NULL, 0, NULL, 0);
}

/* -- Addresses ----------------------------------------------------------------------------------------------------- */

struct cl__address {
    int family; /* AF_UNIX; AF_INET, AF_INET6; AF_UNSPEC: all addresses; -1: the listening socket `inherited` */
    int datagram, port, inherited;
    socklen_t length; /* of `name`; 0 for AF_UNSPEC, and for a path too long for it */
    struct sockaddr_storage name;
    char text[4097]; /* as every worker writes it: host numeric, path absolute */
};
#define CL__FORMS \
    "write host:port, :port, [v6]:port, unix:/path, unix:@name, fd:N, or udp: before one of the first three"
#define CL__BAD(...) return cl__fail(-EINVAL, __VA_ARGS__)

/* The primary ends a worker that sends it text that is not UTF-8, so it is never sent any. */
CL__FN int cl__is_utf8(const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at != 0;) {
        int more = *at < 0x80 ? 0 : *at < 0xc2 ? -1 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf5 ? 3 : -1;
        int low = *at == 0xe0 ? 0xa0 : *at == 0xf0 ? 0x90 : 0x80, high = *at == 0xed ? 0x9f : *at == 0xf4 ? 0x8f : 0xbf;
        if (more < 0) return 0;
        for (at++; more > 0; more--, at++, low = 0x80, high = 0xbf)
            if (*at < low || *at > high) return 0;
    }
    return 1;
}

CL__FN int cl__parse_unix(struct cl__address *to, const char *text) {
    const char *path = text + 5;
    size_t length = strlen(path);
    struct sockaddr_un un;
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    to->family = AF_UNIX;
    to->port = -1;
    if (length == 0) CL__BAD("\"%s\" has no path; write unix:/path", text);
    if (path[0] == '@' && length == 1) CL__BAD("\"%s\" has no name; write unix:@name", text);
    if (path[0] == '@' && length > sizeof un.sun_path)
        CL__BAD("the abstract name in \"%s\" has %d bytes; at most 107 are possible", text, (int)length - 1);
    memcpy(to->text, "unix:", 5);
    if (path[0] != '/' && path[0] != '@') {
        if (getcwd(to->text + 5, sizeof to->text - 6) == NULL) return cl__os("the current directory");
        if (to->text[6] != '\0') strcat(to->text, "/");
    }
    if (strlen(to->text) + length >= sizeof to->text || !cl__is_utf8(to->text))
        CL__BAD("the path of the current directory is too long or not UTF-8; give an absolute path");
    strcat(to->text, path);
    if (path[0] == '@') {
        memcpy(un.sun_path + 1, path + 1, length - 1);
        to->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    } else if (length < sizeof un.sun_path) {
        memcpy(un.sun_path, path, length);
        to->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    }
    memcpy(&to->name, &un, sizeof un);
    return 0;
}

/* Fills in family and name. Only a host name can make it wait. */
CL__FN int cl__look_up(struct cl__address *to, const char *host, int family) {
    struct cl__addrinfo hints, *found = NULL;
    char port[16];
    memset(&hints, 0, sizeof hints);
    hints.family = family;
    hints.type = SOCK_STREAM;
    hints.flags = CL__AI_NUMERICSERV | (family != AF_UNSPEC ? CL__AI_NUMERICHOST : 0);
    snprintf(port, sizeof port, "%d", to->port);
    int problem = cl__os_getaddrinfo(host, port, &hints, &found);
    if (problem != 0) CL__BAD("\"%s\" cannot be resolved: %s", host, cl__os_gai_strerror(problem));
    to->family = found->family;
    to->length = found->length;
    memcpy(&to->name, found->address, found->length);
    cl__os_freeaddrinfo(found);
    return 0;
}

CL__FN int cl__parse_inet(struct cl__address *to, const char *text) {
    const char *rest = strncmp(text, "udp:", 4) == 0 ? text + 4 : text, *colon = strrchr(rest, ':'), *digit;
    char buffer[260], ip[INET6_ADDRSTRLEN], number[16] = "", *host = buffer, *scope = NULL;
    int code;
    to->datagram = rest != text;
    if (colon == NULL) CL__BAD("\"%s\" has no port; " CL__FORMS, text);
    for (digit = colon + 1; *digit >= '0' && *digit <= '9'; digit++)
        if (to->port <= 65535) to->port = to->port * 10 + (*digit - '0');
    if (digit == colon + 1 || *digit != '\0') CL__BAD("\"%s\" has no number for a port; " CL__FORMS, text);
    if (to->port > 65535) CL__BAD("the port in \"%s\" is not in the range 0 to 65535", text);
    size_t length = (size_t)(colon - rest);
    if (length >= sizeof buffer) CL__BAD("\"%s\" is no host name; " CL__FORMS, text);
    memcpy(host, rest, length);
    host[length] = '\0';
    if (length == 0 || strcmp(host, "*") == 0) {
        snprintf(to->text, sizeof to->text, "%s:%d", to->datagram ? "udp:" : "", to->port);
        return 0;
    }
    if (host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        host++;
        if ((scope = strchr(host, '%')) != NULL) *scope++ = '\0';
        if (cl__look_up(to, host, AF_INET6) < 0)
            CL__BAD("what stands in brackets in \"%s\" is no IPv6 address", text);
    } else {
        if (strchr(host, ':')) CL__BAD("an IPv6 address stands in brackets: [%s]:%d", host, to->port);
        if (strcspn(host, "[]/@ \t\n\r\f\v") != length) CL__BAD("\"%s\" is no host name; " CL__FORMS, host);
        if ((code = cl__look_up(to, host, AF_UNSPEC)) < 0) return code;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to->name;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&to->name;
    int is_v6 = to->family == AF_INET6;
    if (scope != NULL && (v6->sin6_scope_id = if_nametoindex(scope)) == 0)
        v6->sin6_scope_id = (unsigned)strtoul(scope, NULL, 10);
    if (scope != NULL && v6->sin6_scope_id == 0)
        return cl__fail(-ENODEV, "\"%s\" in \"%s\" is no network interface", scope, text);
    inet_ntop(to->family, is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr, ip, sizeof ip);
    if (is_v6 && v6->sin6_scope_id != 0 && scope == NULL) {
        snprintf(number, sizeof number, "%u", (unsigned)v6->sin6_scope_id);
        scope = number;
    }
    snprintf(to->text, sizeof to->text, "%s%s%s%s%s%s:%d", to->datagram ? "udp:" : "", is_v6 ? "[" : "", ip,
             scope != NULL ? "%" : "", scope != NULL ? scope : "", is_v6 ? "]" : "", to->port);
    return 0;
}

CL__FN int cl__parse(struct cl__address *to, const char *text) {
    memset(to, 0, sizeof *to);
    if (strlen(text) >= sizeof to->text) CL__BAD("the address is longer than the 4096 bytes that are possible");
    if (!cl__is_utf8(text)) CL__BAD("the address is not UTF-8");
    if (strncmp(text, "unix:", 5) == 0) return cl__parse_unix(to, text);
    if (strncmp(text, "fd:", 3) != 0) return cl__parse_inet(to, text);
    size_t digits = strspn(text + 3, "0123456789");
    if (digits == 0 || digits > 10 || text[3 + digits] != '\0' || strtoll(text + 3, NULL, 10) > 0x7fffffff)
        CL__BAD("\"%s\" names no descriptor; write fd: and a number from 0 up", text);
    to->family = to->port = -1;
    to->inherited = atoi(text + 3);
    snprintf(to->text, sizeof to->text, "fd:%d", to->inherited);
    return 0;
}

/* -- Sockets of one's own ------------------------------------------------------------------------------------------ */

/* A socket file that no socket is bound to belongs to nobody any more. The question is asked with another type: a live
 * server's socket says EPROTOTYPE then, also before it listens, and no connection comes into its queue. The file is
 * held by descriptor, so that what is asked is what was looked at; a symbolic link or another kind of file stays. */
CL__FN int cl__is_stale(const char *path) {
    struct sockaddr_un un;
    struct stat found;
    int stale = 0, probe = -1, file = open(path, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC);
    if (file >= 0 && fstat(file, &found) == 0 && (found.st_mode & CL__S_IFMT) == CL__S_IFSOCK) {
        probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        memset(&un, 0, sizeof un);
        un.sun_family = AF_UNIX;
        snprintf(un.sun_path, sizeof un.sun_path, "/proc/self/fd/%d", file);
        stale = probe >= 0 && connect(probe, (struct sockaddr *)&un, sizeof un) != 0 && errno == ECONNREFUSED;
    }
    cl__close_fd(probe);
    cl__close_fd(file);
    return stale;
}

/* Binds to a path and listens; 0 or -errno. The directory is locked from the probe to listen(2), so that two servers
 * that find the same dead file cannot remove each other's new one. Anybody may lock a directory he can read: it is
 * waited for no longer than a second, and without it no file is taken for dead. */
CL__FN int cl__bind_file(int socket, struct cl__address *at, unsigned flags, int backlog,
                         struct cl__listener *listener) {
    mode_t mode = (flags & CL_LISTEN_READABLE_ALL ? 0444 : 0) | (flags & CL_LISTEN_WRITABLE_ALL ? 0222 : 0);
    char through[64], *path = at->text + 5, *name = strrchr(path, '/');
    struct stat found;
    *name = '\0';
    int code = 0, file = -1, locked = 0, directory = open(name == path ? "/" : path, O_RDONLY | __O_CLOEXEC);
    *name++ = '/';
    if (directory < 0) return -errno;
    if (at->length == 0) {
        /* sun_path ends at 107 bytes (unix(7)); a longer path goes through the open directory. */
        struct sockaddr_un *un = (struct sockaddr_un *)&at->name;
        at->length = sizeof *un;
        if (strlen(name) > sizeof un->sun_path - 32) code = -ENAMETOOLONG;
        else snprintf(un->sun_path, sizeof un->sun_path, "/proc/self/fd/%d/%s", directory, name);
    }
    /* The file gets this mode, less the umask, at once; what the flags ask for is added below. */
    if (code == 0 && cl__os_fchmod(socket, 0755) != 0) code = -errno;
    for (int i = 0; i < 100 && !locked; i++)
        if (!(locked = flock(directory, CL__LOCK_EX_NB) == 0)) poll(NULL, 0, 10);
    if (code == 0 && bind(socket, (struct sockaddr *)&at->name, at->length) != 0) {
        code = -errno;
        if (code == -EADDRINUSE && locked && cl__is_stale(path) && unlink(path) == 0)
            code = bind(socket, (struct sockaddr *)&at->name, at->length) != 0 ? -errno : 0;
    }
    if (code == 0) {
        /* The inode is held while its mode is set, and a socket: a path swapped for another file's is never touched. */
        int ours = 0;
        file = open(path, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC);
        snprintf(through, sizeof through, "/proc/self/fd/%d", file);
        if (file >= 0 && fstat(file, &found) == 0 && !(ours = (found.st_mode & CL__S_IFMT) == CL__S_IFSOCK)) errno = ENOTSOCK;
        if (!ours || (mode != 0 && chmod(through, (found.st_mode & 07777) | mode) != 0) || listen(socket, backlog) != 0)
            code = -errno;
        if (code < 0) (void)(ours && unlink(path));
        else if ((listener->file = (char *)malloc(strlen(path) + 1)) != NULL) {
            strcpy(listener->file, path);
            listener->device = found.st_dev;
            listener->inode = found.st_ino;
        }
    }
    cl__close_fd(file);
    cl__close_fd(directory); /* and with it the lock */
    return code;
}

/* A copy of a listening socket that the program has open under this number; or -errno, and the sentence is there. */
CL__FN int cl__inherit(int number) {
    int listening = 0, type = 0, copy;
    socklen_t length = sizeof(int), type_length = sizeof(int);
    if (getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0)
        return cl__fail(-errno, "descriptor %d: %s", number, cl_strerror(-errno));
    if (getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &type_length) != 0 || type != SOCK_STREAM)
        return cl__fail(-EINVAL, "descriptor %d is a socket, but no stream socket", number);
    if (!listening)
        return cl__fail(-EINVAL, "descriptor %d is a socket that does not listen; call listen(2) on it first", number);
    copy = fcntl(number, CL__F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return cl__fail(-errno, "descriptor %d: %s", number, cl_strerror(-errno));
    fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
    return copy;
}

/* A socket bound to a name, or -errno. Accepting never blocks in the kernel; a datagram socket is the program's own to
 * work with, and as it was asked for. */
CL__FN int cl__bind(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener) {
    int backlog = options->backlog > 0 ? options->backlog : 511, on = 1, code = 0;
    int kind = (at->datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC;
    if (!at->datagram || options->flags & CL_LISTEN_NONBLOCK) kind |= SOCK_NONBLOCK;
    int fd = socket(at->family, kind, 0);
    if (fd < 0) return -errno;
    if (at->family == AF_UNIX && at->text[5] != '@') {
        code = cl__bind_file(fd, at, options->flags, backlog, listener);
    } else {
        /* Said either way, so that the host's bindv6only setting does not decide. */
        int v6only = (options->flags & CL_LISTEN_IPV6ONLY) != 0;
        if (at->family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
        /* For datagrams SO_REUSEADDR would let a stranger of the same user take them over. */
        if (at->family != AF_UNIX && !at->datagram) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (options->flags & CL_LISTEN_REUSEPORT && setsockopt(fd, SOL_SOCKET, CL__SO_REUSEPORT, &on, sizeof on) != 0)
            code = -errno;
        if (code == 0 && bind(fd, (struct sockaddr *)&at->name, at->length) != 0) code = -errno;
        if (code == 0 && !at->datagram && listen(fd, backlog) != 0) code = -errno;
    }
    if (code == 0) return fd;
    close(fd);
    return code;
}

CL__FN int cl__own_socket(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener) {
    int code, anywhere = at->family == AF_UNSPEC, has_file = at->family == AF_UNIX && at->text[5] != '@';
    if (options->flags & (CL_LISTEN_READABLE_ALL | CL_LISTEN_WRITABLE_ALL) && !has_file)
        return cl__fail(-EINVAL, "\"%s\" has no file that could be made readable or writable for all", at->text);
    if (at->family == -1) {
        code = cl__inherit(at->inherited);
        if (code < 0) return code;
    } else {
        if (anywhere && (code = cl__look_up(at, "::", AF_INET6)) < 0) return code;
        code = cl__bind(at, options, listener);
        if (anywhere && !(options->flags & CL_LISTEN_IPV6ONLY) && (code == -EAFNOSUPPORT || code == -EADDRNOTAVAIL) &&
            cl__look_up(at, "0.0.0.0", AF_INET) == 0)
            code = cl__bind(at, options, listener);
        if (code < 0) return cl__fail(code, "bind %s: %s", at->text, cl_strerror(code));
    }
    listener->socket = code;
    cl__set(&listener->fd, code); /* cl__hold looks at every place that was ever used */
    listener->kind = at->datagram ? CL__DATAGRAM : CL__OWN;
    listener->name_length = sizeof listener->name;
    getsockname(code, (struct sockaddr *)&listener->name, &listener->name_length);
    return 0;
}

/* -- Shares of the primary's sockets ------------------------------------------------------------------------------- */

/* Asks the primary for a share and waits for the answer. `asking` is locked, so the next answer is to this. */
CL__FN int cl__ask(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener) {
    unsigned flags = options->flags & ~(unsigned)CL_LISTEN_NONBLOCK;
    unsigned asked[3] = {flags, (unsigned)options->backlog, (unsigned)listener->index};
    unsigned char grant[544];
    int n, fds[2];
    int code = cl__frame(CL__LISTEN, ++cl__process.asked, asked, sizeof asked, at->text, strlen(at->text));
    for (;;) {
        if (code == 0) code = cl__leaving();
        if (code < 0) return code;
        if (code == 0) {
            cl__wait(cl__process.grants, POLLIN, -1, -1);
            continue;
        }
        n = cl__packet(cl__process.grants, grant, sizeof grant - 1, NULL, 0, fds, 2, MSG_CMSG_CLOEXEC);
        if (n < 0) return cl__fail(n, "the primary's answer: %s", cl_strerror(n));
        if (n >= 12 && cl__type(grant, n) == CL__GRANT && cl__number(grant + 4) == cl__process.asked) break;
        cl__close_fd(fds[0]);
        cl__close_fd(fds[1]);
        code = 0;
    }
    code = (int)cl__number(grant + 8);
    grant[n] = '\0';
    if (code < 0) return cl__fail(code, "%s", n > 12 ? (char *)grant + 12 : cl_strerror(code));
    listener->mailbox = fds[0];
    listener->socket = fds[1];
    if (n < 24 || n > 24 + (int)sizeof listener->name) return cl__say(-EPROTO, "the primary's answer makes no sense");
    listener->number = cl__number(grant + 12);
    listener->granted = 1;
    int passed = cl__number(grant + 16) == 1;
    if (fds[0] < 0 || (!passed && fds[1] < 0))
        return cl__say(-EMFILE, "no descriptor was left for what the primary sent");
    listener->name_length = (socklen_t)(n - 24);
    memcpy(&listener->name, grant + 24, (size_t)n - 24);
    listener->own = cl__number(grant + 16) == CL_MECHANISM_KERNEL;
    listener->kind = passed ? CL__PASSED : cl__number(grant + 20) == 2 ? CL__DATAGRAM : CL__SHARED;
    cl__set(&listener->fd, passed ? fds[0] : fds[1]);
    if (!passed && (listener->kind == CL__SHARED || options->flags & CL_LISTEN_NONBLOCK))
        fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) | O_NONBLOCK);
    if (listener->kind != CL__SHARED) return 0;
    /* One descriptor to poll for both places. For a connection the kernel shall wake one worker, not all of them. */
    cl__set(&listener->fd, epoll_create1(EPOLL_CLOEXEC));
    if (cl__watch_for(listener->fd, fds[0], EPOLLIN) || cl__watch_for(listener->fd, listener->wake, EPOLLIN) ||
        cl__watch_for(listener->fd, fds[1], EPOLLIN | EPOLLEXCLUSIVE))
        return cl__os("epoll");
    return 0;
}

/* Gives back what a listener has, and its place in the table. `table` is locked. */
CL__FN void cl__dispose(struct cl__listener *listener) {
    struct stat found;
    int file = listener->file != NULL ? open(listener->file, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC) : -1;
    if (file >= 0 && fstat(file, &found) == 0 && found.st_dev == listener->device && found.st_ino == listener->inode)
        unlink(listener->file);
    cl__close_fd(file);
    if (listener->fd != listener->mailbox && listener->fd != listener->socket) cl__close_fd(listener->fd);
    cl__close_fd(listener->mailbox);
    cl__close_fd(listener->socket);
    cl__close_fd(listener->wake);
    free(listener->file);
    free(listener->text);
    listener->file = listener->text = NULL;
    cl__set(&listener->state, CL__FREE);
}

CL__FN int cl__is_open(const char *text, int index) {
    int found = 0;
    pthread_mutex_lock(&cl__process.table);
    for (int i = 0; i < cl__process.places && !found; i++) {
        struct cl__listener *other = &cl__process.listeners[i];
        found = other->text != NULL && other->index == index && strcmp(other->text, text) == 0;
    }
    pthread_mutex_unlock(&cl__process.table);
    return found;
}

/* `share`: of the primary's socket. `asking` is locked, so a free place stays free. */
CL__FN int cl__open_listener(struct cl__address *at, const cl_listen_options_t *options, int share) {
    struct cl__listener *listener = cl__process.listeners;
    int code = 0, index = share ? 0 : -1;
    while (listener < cl__process.listeners + CL__LISTENERS && cl__get(&listener->state) != CL__FREE) listener++;
    if (listener == cl__process.listeners + CL__LISTENERS)
        return cl__fail(-EMFILE, "%d listeners are open; more are not possible", CL__LISTENERS);
    if (share && at->port == 0) {
        index = options->index > 0 ? options->index : 1;
        while (options->index == 0 && cl__is_open(at->text, index)) index++;
    }
    if (share && cl__is_open(at->text, index))
        return cl__fail(-EADDRINUSE, "this worker listens on %s already", at->text);
    char *text = (char *)malloc(strlen(at->text) + 1);
    if (text == NULL) return cl__say(-ENOMEM, "no memory is left");
    strcpy(text, at->text);
    cl__set(&listener->fd, -1);
    listener->mailbox = listener->socket = listener->wake = -1;
    listener->stopped = listener->own = listener->accepts = listener->shortages = 0;
    listener->index = index;
    listener->flags = options->flags;
    listener->granted = 0;
    if (!(options->flags & CL_LISTEN_NONBLOCK) && !at->datagram) {
        listener->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (listener->wake < 0) code = cl__os("eventfd");
    }
    if (code == 0) code = share ? cl__ask(at, options, listener) : cl__own_socket(at, options, listener);
    if (code < 0 && listener->granted)
        (void)cl__frame(CL__CLOSE, 0, &listener->number, sizeof listener->number, NULL, 0);
    pthread_mutex_lock(&cl__process.table);
    listener->text = text;
    if (code == 0) {
        int place = (int)(listener - cl__process.listeners);
        if (place >= cl__process.places) cl__set(&cl__process.places, place + 1);
        cl__set(&listener->state, CL__OPEN);
        /* If the primary has died meanwhile, its watch did not find this listener. */
        if (cl__get(&cl__process.gone) && listener->mailbox >= 0) shutdown(listener->mailbox, SHUT_RD);
        code = listener->fd;
    } else {
        cl__dispose(listener);
    }
    pthread_mutex_unlock(&cl__process.table);
    return code;
}

CL__FN int cl__listen_with(const cl_listen_options_t *given) {
    cl_listen_options_t options;
    struct cl__address at;
    int code = cl__enter();
    if (code < 0) return code;
    if (given == NULL) return cl__say(-EINVAL, "the options are NULL");
    if (given->size < offsetof(cl_listen_options_t, address) + sizeof given->address || given->size > 4096)
        return cl__say(-EINVAL, "the size of the options is not set; write sizeof(cl_listen_options_t) into it");
    for (size_t i = sizeof options; i < given->size; i++)
        if (((const char *)given)[i] != 0) return cl__say(-E2BIG, "this version does not know all of the options");
    memset(&options, 0, sizeof options);
    memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    if (options.address == NULL) options.address = ":0";
    if (options.flags & ~63u) return cl__fail(-EINVAL, "the listen flags %#x hold unknown bits", options.flags);
    if (options.index < 0) return cl__say(-EINVAL, "the index is negative");
    if ((code = cl__parse(&at, options.address)) < 0) return code;
    if (cl__process.worker_id != 0 && ((code = cl__enter_worker()) < 0 || (code = cl__leaving()) < 0)) return code;
    pthread_mutex_lock(&cl__process.asking);
    code = cl__open_listener(&at, &options, cl__process.worker_id != 0 &&
                                                !(options.flags & (CL_LISTEN_EXCLUSIVE | CL_LISTEN_REUSEPORT)));
    pthread_mutex_unlock(&cl__process.asking);
    return code;
}

/* -- Accepting ----------------------------------------------------------------------------------------------------- */

/* The listener of that number, counted in `users`; NULL for none of ours. It needs no lock: a place in the table is
 * never freed, and whoever closes it waits for those inside. */
CL__FN struct cl__listener *cl__hold(int fd) {
    unsigned char *page = __atomic_load_n(&cl__process.member, __ATOMIC_ACQUIRE);
    if (page == NULL || !__atomic_load_n(page, __ATOMIC_RELAXED) || fd < 0) return NULL;
    for (int i = 0; i < cl__get(&cl__process.places); i++) {
        struct cl__listener *listener = &cl__process.listeners[i];
        if (cl__get(&listener->fd) != fd || cl__get(&listener->state) != CL__OPEN) continue;
        cl__add(&listener->users, 1);
        if (cl__get(&listener->state) == CL__OPEN && cl__get(&listener->fd) == fd) return listener;
        cl__add(&listener->users, -1);
    }
    return NULL;
}

CL__FN int cl__no_listener(int fd) {
    int code = cl__enter();
    return code < 0 ? code : cl__fail(-EBADF, "descriptor %d is no listener", fd);
}

/* As accept(2) has it: as much as there is room for, and the length of the whole. */
CL__FN void cl__give_name(struct sockaddr *to, socklen_t *room, const void *name, socklen_t length) {
    memcpy(to, name, length < *room ? length : *room);
    *room = length;
}

/* accept4(2), going on after what concerns only the one connection that failed (there under "Error handling"). */
CL__FN int cl__accept_socket(int socket, struct sockaddr *peer, socklen_t *length, int flags) {
    socklen_t room = length != NULL ? *length : 0;
    /* No client can make so many of them in a row; then it is time to look at something else. */
    for (int failures = 0; failures < 16; failures++) {
        int fd = cl__os_accept4(socket, peer, length, flags);
        if (fd >= 0) return fd;
        if (length != NULL) *length = room;
        switch (errno) {
        case EAGAIN: return -EAGAIN;
        case EINTR: case ECONNABORTED: case EPERM: case EPROTO: case ENOPROTOOPT: break;
        case ENETDOWN: case ENETUNREACH: case EHOSTDOWN: case EHOSTUNREACH: case ENONET: case ETIMEDOUT: break;
        case EOPNOTSUPP: break;
        default: return cl__os("accept");
        }
    }
    cl__pause(5);
    return -EAGAIN;
}

/* Takes the next connection out of a mailbox; -EAGAIN when it is empty. One packet at a time: what is received is this
 * worker's, and dies with it. */
CL__FN int cl__take(struct cl__listener *listener, struct sockaddr *peer, socklen_t *length, int flags) {
    unsigned char parcel[8 + sizeof(struct sockaddr_storage)];
    int n, type, fd, how = flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0;
    for (;;) {
        if (cl__get(&listener->stopped)) return cl__asked_to_leave();
        /* A receive into a full descriptor table succeeds and loses the connection; this is the way to ask first. */
        fd = fcntl(listener->mailbox, CL__F_DUPFD_CLOEXEC, 0);
        if (fd < 0) return cl__os("a place for a connection");
        close(fd);
        cl__add(&listener->receiving, 1);
        n = cl__packet_at_once(listener->mailbox, parcel, sizeof parcel, NULL, 0, &fd, 1, how);
        type = cl__type(parcel, n);
        if (type == CL__STOP) {
            cl__set(&listener->stopped, 1);
            shutdown(listener->mailbox, SHUT_RD); /* one thread takes the STOP; this end of file wakes the others */
        }
        cl__add(&listener->receiving, -1);
        if (type == CL__CONNECTION && fd >= 0) {
            if (flags & SOCK_NONBLOCK) fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
            if (peer != NULL && n > 8) cl__give_name(peer, length, parcel + 8, (socklen_t)n - 8);
            else if (peer != NULL) getpeername(fd, peer, length);
            return fd;
        }
        cl__close_fd(fd);
        if (type == CL__CONNECTION)
            return cl__say(-EMFILE, "a connection was lost: another thread took the last descriptor at that moment");
        if (n == -EAGAIN) return cl__get(&cl__process.gone) ? cl__primary_gone() : -EAGAIN;
        if (n < 0) return cl__fail(n, "the mailbox: %s", cl_strerror(n));
        if (n > 0) continue;
        /* End of file: behind a STOP, or because the primary is gone. Another thread may have taken the STOP and not
         * have said so yet; it did so before us, so it is enough to wait for those inside. */
        while (cl__get(&listener->receiving) != 0) sched_yield();
        if (!cl__get(&listener->stopped)) return cl__primary_gone();
    }
}

/* Waits for a reason to try again (0), or says why there is no point in it. `woken`: for the shared socket. */
CL__FN int cl__wait_for_connection(struct cl__listener *listener, int *woken) {
    /* No STOP comes to a socket of the worker's own, so it listens to the request itself. */
    int own = listener->kind == CL__OWN && cl__process.worker_id != 0, code = own ? cl__leaving() : 0;
    if (code < 0) return code;
    if (listener->flags & CL_LISTEN_NONBLOCK) return cl__say(-EAGAIN, "no connection waits");
    cl__show(0);
    if (listener->kind == CL__SHARED) {
        struct epoll_event events[3]; /* poll(2) would wake all workers, as if there were no EPOLLEXCLUSIVE */
        int n = epoll_wait(listener->fd, events, 3, -1);
        for (*woken = 0; n > 0; n--) *woken |= events[n - 1].data.fd == listener->socket;
    } else {
        struct pollfd fds[3] = {{listener->fd, POLLIN, 0}, {listener->wake, POLLIN, 0},
                                {own ? cl__process.grants : -1, POLLIN, 0}};
        cl__poll(fds, 3, -1);
    }
    return cl__get(&listener->state) == CL__OPEN ? 0 : cl__say(-EBADF, "the listener was closed meanwhile");
}

CL__FN int cl__accept_any(struct cl__listener *listener, struct sockaddr *peer, socklen_t *length, int flags) {
    char any;
    int result, woken = 0;
    /* A socket that is this worker's alone is tried first, and the mailbox looked into now and then. */
    int look = !listener->own || __atomic_fetch_add(&listener->accepts, 1, __ATOMIC_RELAXED) % 16 == 0;
    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
        return cl__fail(-EINVAL, "the accept flags %#x hold unknown bits", (unsigned)flags);
    if (peer != NULL && length == NULL) return cl__say(-EINVAL, "the peer's address needs a length");
    if (listener->kind == CL__DATAGRAM)
        return cl__say(-EOPNOTSUPP, "a datagram socket has no connections; receive from the descriptor itself");
    if (peer == NULL) length = NULL;
    do {
        result = -EAGAIN;
        /* The mailbox comes first, except for the connection that this thread alone was woken for: if it left on a STOP
         * instead, nobody else would know that a connection waits. */
        if (listener->kind == CL__PASSED || (listener->kind == CL__SHARED && !woken && look &&
            (cl__get(&listener->stopped) || recv(listener->mailbox, &any, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)))
            result = cl__take(listener, peer, length, flags);
        if (result == -EAGAIN && listener->kind != CL__PASSED)
            result = cl__accept_socket(listener->socket, peer, length, flags);
        if (listener->own && (result == -ESHUTDOWN || result == -EINVAL)) {
            /* What waits in the worker's own socket is its own also behind a STOP. EINVAL: the primary has taken the socket
             * away, because this worker does not count as one any more. */
            if (result == -ESHUTDOWN) result = cl__accept_socket(listener->socket, peer, length, flags);
            if (result == -EAGAIN || result == -EINVAL) result = cl__asked_to_leave();
        }
        if (result == -EINVAL && listener->kind == CL__SHARED && cl__get(&listener->state) == CL__OPEN) {
            /* Another worker has shut the shared socket down; the primary mends that within a second. */
            struct pollfd mailbox = {listener->mailbox, POLLIN, 0};
            if (listener->flags & CL_LISTEN_NONBLOCK) return cl__say(-EAGAIN, "no connection waits");
            poll(&mailbox, 1, 20);
            woken = 0;
            look = 1;
            result = 0;
            continue;
        }
        if (result != -EAGAIN) return result;
        if (!look) {
            look = 1;
            result = 0;
            continue;
        }
        result = cl__wait_for_connection(listener, &woken);
    } while (result == 0);
    return result;
}

CL__FN int cl__accept4(struct cl__listener *listener, int fd, struct sockaddr *peer, socklen_t *length, int flags) {
    int result = cl__accept_any(listener, peer, length, flags);
    (void)fd;
    /* Where descriptors or memory are short, the connection stays where it is, and a program that simply tries again must not
     * spin: from the second time in a row on it hears of it after a pause. */
    if (result == -EMFILE || result == -ENFILE || cl__is_short_of_memory(-result)) {
        int before = cl__get(&listener->shortages);
        cl__set(&listener->shortages, before < 7 ? before + 1 : 7);
        if (before > 0 && !(listener->flags & CL_LISTEN_NONBLOCK)) cl__pause(before + 1);
    } else if (cl__get(&listener->shortages) != 0) {
        cl__set(&listener->shortages, 0);
    }
    cl__show(result >= 0 && listener->granted);
    return result;
}

CL__FN int cl__getsockname(struct cl__listener *listener, int fd, struct sockaddr *name, socklen_t *length) {
    (void)fd;
    if (name == NULL || length == NULL) return cl__say(-EINVAL, "the name or its length is NULL");
    cl__give_name(name, length, &listener->name, listener->name_length);
    return 0;
}

CL__FN int cl__close(struct cl__listener *listener, int fd) {
    int open = CL__OPEN;
    if (!__atomic_compare_exchange_n(&listener->state, &open, CL__CLOSING, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return cl__no_listener(fd);
    cl__ring(listener->wake);
    while (cl__get(&listener->users) != 1) poll(NULL, 0, 1);
    /* What waits in the mailbox goes to other workers: the primary has a copy of it. */
    if (listener->granted) (void)cl__frame(CL__CLOSE, 0, &listener->number, sizeof listener->number, NULL, 0);
    pthread_mutex_lock(&cl__process.table);
    cl__dispose(listener);
    pthread_mutex_unlock(&cl__process.table);
    return 0;
}

/* -- The primary's side -------------------------------------------------------------------------------------------- */

CL__FN int cl__symbol(void *library, const char *name, void *to) {
    void *symbol = cl__weak_dlsym(library, name);
    memcpy(to, &symbol, sizeof symbol); /* ISO C has no conversion from an object's address to a function's */
    return symbol != NULL ? 0 : cl__fail(CL_ENOLIB, "the libcluster.so.0 that was found has no %s", name);
}

CL__FN int cl__load_library(void) {
    struct cl__library found;
    int code = 0;
    if (!cl__weak_dlopen || !cl__weak_dlsym) return cl__say(CL_ENOLIB, "this program cannot load libraries; link -ldl");
    void *library = cl__weak_dlopen("libcluster.so.0", RTLD_NOW);
    if (library == NULL) {
        const char *why = cl__weak_dlerror ? cl__weak_dlerror() : NULL;
        return cl__fail(CL_ENOLIB, "a primary needs libcluster.so.0: %s", why != NULL ? why : "it was not found");
    }
    memset(&found, 0, sizeof found);
#define CL__SYMBOL(name, parameters, ...) if (code == 0) code = cl__symbol(library, "cl_" #name, &found.name);
    CL__SYMBOL(version_number, , )
    if (code == 0 && found.version_number() >> 8 != cl_version_number() >> 8)
        code = cl__fail(CL_ENOLIB, "the libcluster.so.0 that was found is version %u.%u; this program was built for %s",
                        found.version_number() >> 16, found.version_number() >> 8 & 255, cl_version());
    CL__SYMBOL(last_error, , )
    CL__SYMBOL(serve, , )
    CL__PRIMARY_FUNCTIONS(CL__SYMBOL)
    CL__EITHER_FUNCTIONS(CL__SYMBOL)
    CL__LISTENER_FUNCTIONS(CL__SYMBOL)
#undef CL__SYMBOL
    if (code < 0) return code;
    cl__library = found;
    __atomic_store_n(&cl__library.loaded, 1, __ATOMIC_RELEASE);
    return 0;
}

/* 0 when the call may go to the library. Once that is there this is one load, so that cl_stop is async-signal-safe. */
CL__FN int cl__need_library(void) {
    if (cl__loaded()) return 0;
    int kept = errno, code = cl__enter();
    if (code == 0 && cl__process.worker_id != 0) code = cl__say(-EPERM, "only a primary can do this");
    if (code == 0) {
        pthread_mutex_lock(&cl__process.begin);
        if (!cl__loaded()) code = cl__load_library();
        pthread_mutex_unlock(&cl__process.begin);
    }
    errno = kept;
    return code;
}

/* -- The functions of the contract ------------------------------------------------------------------------------------
 * Nothing here sets errno. */
#define CL__PRIMARY(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        int code_ = cl__need_library(); \
        return code_ < 0 ? code_ : cl__from_library(cl__library.name(__VA_ARGS__)); \
    }
#define CL__EITHER(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        if (cl__loaded()) return cl__from_library(cl__library.name(__VA_ARGS__)); \
        int kept_ = errno, result_ = cl__##name(__VA_ARGS__); \
        errno = kept_; \
        return result_; \
    }
#define CL__OF_LISTENER(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__listener *held_ = cl__hold(fd); \
        if (held_ == NULL && cl__loaded()) return cl__from_library(cl__library.name(__VA_ARGS__)); \
        int kept_ = errno, result_ = held_ != NULL ? cl__##name(held_, __VA_ARGS__) : cl__no_listener(fd); \
        if (held_ != NULL) cl__add(&held_->users, -1); \
        errno = kept_; \
        return result_; \
    }
CL__PRIMARY_FUNCTIONS(CL__PRIMARY)
CL__EITHER_FUNCTIONS(CL__EITHER)
CL__LISTENER_FUNCTIONS(CL__OF_LISTENER)

CL__FN int cl_accept(int listener, struct sockaddr *peer, socklen_t *peer_length) {
    return cl_accept4(listener, peer, peer_length, 0);
}

CL__FN int cl_listen(const char *address, int backlog) {
    cl_listen_options_t options;
    if (address == NULL) return cl__say(-EINVAL, "the address is NULL");
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.address = address;
    options.backlog = backlog;
    return cl_listen_with(&options);
}

CL__FN int cl_serve(int workers, int (*worker_main)(void *), void *argument) {
    /* A worker that was started as a program of its own does here what the forked ones do. */
    if (!cl__loaded() && worker_main != NULL && cl_is_worker() == 1) return worker_main(argument);
    int code = cl__need_library();
    return code < 0 ? code : cl__from_library(cl__library.serve(workers, worker_main, argument));
}

#ifdef __cplusplus
}
#endif

#endif /* CL_HEADER_ONLY */

#endif /* CLUSTER_H */
