/*
 * cluster.h - several worker processes serve one port.
 *
 * One primary process owns the listening sockets. A worker that listens asks the primary for its share of an address
 * and gets connections from it. A worker that dies or hangs costs only the connection in its hand.
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
 * -4095, and cl_last_error() has the sentence for it. No call changes errno. A pointer may be NULL only where its
 * description says so. Structs that may grow begin with their size, and a zeroed field always means the default:
 * { .size = sizeof x } is a valid value of each. After fork(2), as opposed to cl_fork(), every call in the child
 * returns -ECHILD and touches nothing. pthread_cancel(3) of a thread inside a call takes effect when the call has
 * returned. The library waits for no child but its own. It prints nothing but the report of a defect (CL_EPANIC). It
 * installs no signal handler unless it is asked to: by CL_HANDLE_SIGNALS in the primary, by CL_WORKER_SIGNALS in
 * workers, by cl_serve() in both.
 *
 * Linux 5.10 or newer. Licence: MIT or Apache-2.0, as you like.
 *
 * This file is generated; the comments are written in the crate cluster-capi.
 */
#ifndef CLUSTER_H
#define CLUSTER_H

#include <stddef.h>
#include <sys/socket.h>

/* After either error the declarations follow all the same, so that the error is the only one. */
#ifndef __linux__
#error "cluster.h: libcluster needs Linux 5.10 or newer"
#undef CL_HEADER_ONLY
#elif defined(CL_HEADER_ONLY) && (!defined(__GLIBC__) || !defined(__GNUC__))
#error "cluster.h: CL_HEADER_ONLY needs Linux with glibc, and GCC or Clang; without it, link libcluster"
#undef CL_HEADER_ONLY
#endif

/* Warnings of -Weverything about what is meant here: C99's declarations and casts, in C++ too, names with two
 * underscores, which keep out of the program's way, and what padding a struct gets. */
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wunknown-warning-option"
#pragma clang diagnostic ignored "-Wpadded"
#pragma clang diagnostic ignored "-Wdeclaration-after-statement"
#pragma clang diagnostic ignored "-Wunsafe-buffer-usage"
#pragma clang diagnostic ignored "-Wreserved-identifier"
#pragma clang diagnostic ignored "-Wreserved-macro-identifier"
#ifdef __cplusplus
#pragma clang diagnostic ignored "-Wc++98-compat-pedantic"
#pragma clang diagnostic ignored "-Wold-style-cast"
#pragma clang diagnostic ignored "-Wzero-as-null-pointer-constant"
#endif
#elif defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpadded"
#ifdef __cplusplus
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wzero-as-null-pointer-constant"
#else
#pragma GCC diagnostic ignored "-Wdeclaration-after-statement"
#endif
#endif

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
 * Policy: every worker accepts from one shared socket, and the kernel decides who gets a connection. Not fair.
 */
#define CL_SCHED_NONE 1

/**
 * Policy: each worker in turn; one that is full or stuck is skipped. The default.
 */
#define CL_SCHED_RR 2

/**
 * Policy: prefers the worker with the fewest connections waiting for it; then the lowest load reported with
 * cl_set_load() (0 before the first report), plus 1 per connection assigned since; ties go round-robin.
 */
#define CL_SCHED_LEAST_LOADED 3

/**
 * Policy: connections from one client address (IPv4 or IPv6, any port) go to the same slot while that slot's worker is
 * there. When it ends, leaves, pauses or gets stuck, only its clients go to others, and they return to the slot's
 * replacement. A worker that is merely full keeps its clients. Up to 256 connections of an address then wait in the
 * primary, more in the kernel's backlog; with the mechanism kernel all wait in the slot's own socket. Unix:
 * CL_SCHED_RR.
 */
#define CL_SCHED_SOURCE_HASH 4

/**
 * Mechanism: the best for the address. Under CL_SCHED_RR TCP gets rotation, if the first worker to ask runs as the primary's
 * user. If that has set CL_LISTEN_NONBLOCK, or more than 16 workers can run at a time, it gets kernel where the process has
 * CAP_BPF (Linux 5.14). So does TCP under CL_SCHED_SOURCE_HASH. Everything else gets passed. While the program leaves the
 * setting at this value, the environment variable CL_MECHANISM of the primary (auto, passed, kernel or rotation) decides.
 */
#define CL_MECHANISM_AUTO 0

/**
 * Mechanism: the primary accepts each connection and passes it on. A UDP socket is shared by all workers.
 */
#define CL_MECHANISM_PASSED 1

/**
 * Mechanism: the kernel gives each slot its connections, without the primary. cl_setup_primary() prepares what four
 * addresses at a time need under the policy of the same settings, which takes CAP_BPF; without it the call fails with
 * -EPERM. The process may drop the capability afterwards, on Linux before 5.19 only if
 * kernel.unprivileged_bpf_disabled is 0. Otherwise each new worker there needs another bpf(2), and where that is
 * refused the primary passes connections on (CL_EVENT_NOTICE). Unix sockets, fd:N and CL_SCHED_LEAST_LOADED are
 * passed. UDP needs no privilege: each slot has a socket of its own (see cl_listen()).
 */
#define CL_MECHANISM_KERNEL 2

/**
 * Mechanism, in events only: all workers have one socket (CL_SCHED_NONE; UDP with CL_MECHANISM_PASSED or fd:N).
 */
#define CL_MECHANISM_SHARED 3

/**
 * Mechanism: all workers accept from one socket, each in its turn, without the primary and without a privilege. For CL_SCHED_RR on TCP
 * and unix sockets, and for workers of the primary's own user; others get their connections by CL_MECHANISM_PASSED beside these. Turns
 * are even in the long run and not exact: a worker that is busy is passed over. A listener with CL_LISTEN_NONBLOCK takes part once
 * cl_listener_watch() says where its program waits.
 */
#define CL_MECHANISM_ROTATION 4

/**
 * Flag of cl_settings_t: while cl_run() runs, SIGTERM and SIGINT are cl_stop(-1), and a second one is cl_stop(0). One
 * that comes less than 0.1 s after the last that counted is ignored, because timeout(1) signals its child and then the
 * group. When cl_run() returns, it restores the dispositions it found (SIG_IGN too) and the signal mask of its thread,
 * which has both unblocked meanwhile. SIGHUP is left alone.
 */
#define CL_HANDLE_SIGNALS 1

/**
 * Flag of cl_settings_t: while cl_run() or cl_serve() runs, SIGHUP is cl_reload(NULL), SIGTTIN and SIGTTOU are cl_scale() to one
 * worker more and one fewer (at least one), each only if its disposition was the default. What cannot be done is a
 * CL_EVENT_WARNING. When cl_run() returns, it restores dispositions and mask as with CL_HANDLE_SIGNALS.
 */
#define CL_HANDLE_RELOAD 8

/**
 * Flag of cl_settings_t: workers of cl_fork() and cl_spawn() hold a group's signals, as those of cl_serve() do.
 * SIGTERM, SIGINT and SIGHUP from anybody but the primary act as cl_disconnect(): the worker finishes what is in hand,
 * and if the cluster goes on it is replaced like any worker that ends with its code (cl_settings_t.respawn). It goes
 * on serving for 0.2 s, or to the end of a stop's delay: if the cluster is to stop too, the door is shut first. From
 * the primary (the deadline, cl_worker_kill(), kill(2) of its group) these signals end the worker.
 *
 * The handlers are installed (SA_RESTART, and unblocked) where the disposition is SIG_DFL when the worker begins: in a
 * fork at once; in a spawned program with its first call, which finds CL_WORKER_SIGNALS=1 in its environment. Workers
 * started before the flag was set do not have them. A handler of the program's own, installed before or afterwards,
 * replaces them. poll(2), epoll_wait(2), sleep(3), and accept, recv and send on a socket with SO_RCVTIMEO or
 * SO_SNDTIMEO may return EINTR (signal(7)). docs/signals.md has the unit for systemd.
 *
 * The primary itself dies of SIGHUP unless its program handles it; its workers are then gone within a second. A
 * primary in an outer pid namespace cannot be told from others there: the first signal from outside asks, the next
 * ends the worker.
 */
#define CL_WORKER_SIGNALS 16

/**
 * Flag of cl_settings_t: a worker is ready only when it has called cl_ready(); see cl_reload().
 */
#define CL_MANUAL_READY 2

/**
 * No limit, where 0 means the default: cl_reload_options_t.ready_timeout_ms and min_ready_ms.
 */
#define CL_NONE (-1)

/**
 * Flag of cl_reload_options_t: where another reload runs, this one begins when that has ended.
 */
#define CL_RELOAD_QUEUE 1

/**
 * Flag of cl_reload_options_t: where another reload runs, -EBUSY.
 */
#define CL_RELOAD_REFUSE_IF_BUSY 2

/**
 * Flag of cl_reload_options_t: new workers need not listen on all that the old ones do.
 */
#define CL_RELOAD_ALLOW_FEWER 4

/**
 * Flag of cl_reload_options_t: when a new worker fails after others have taken their place, these stay.
 */
#define CL_RELOAD_NO_ROLLBACK 8

/**
 * Phase of a reload: its first workers are being made and looked at.
 */
#define CL_RELOAD_CHECKING 1

/**
 * Phase of a reload: one has taken its predecessor's place.
 */
#define CL_RELOAD_ROLLING 2

/**
 * Phase of a reload, final: every slot has a new worker.
 */
#define CL_RELOAD_DONE 3

/**
 * Phase of a reload, final: a new worker has failed, and the old ones have lost nothing. With CL_RELOAD_NO_ROLLBACK
 * some may have been replaced; the event's sentence says how many.
 */
#define CL_RELOAD_REFUSED 4

/**
 * Phase of a reload, final: a new worker has failed after others had taken their place, and these have been replaced
 * by workers that are made as the old ones were.
 */
#define CL_RELOAD_ROLLED_BACK 5

/**
 * Phase of a reload, final: another one, or a stop, came before its end.
 */
#define CL_RELOAD_SUPERSEDED 6

/**
 * Counter of cl_count(): requests that were answered.
 */
#define CL_COUNT_REQUESTS 1

/**
 * Counter of cl_count(): those of them that failed.
 */
#define CL_COUNT_ERRORS 2

/**
 * Counter of cl_count(): requests that are under way. The only one that may fall.
 */
#define CL_COUNT_ACTIVE 3

/**
 * Flag of cl_spawn_options_t: the program starts with the caller's signal mask. Without it, no signal is blocked.
 */
#define CL_SPAWN_KEEP_MASK 1

/**
 * Respawn: cl_serve() replaces every worker, cl_run() none, as in Node.
 */
#define CL_RESPAWN_DEFAULT 0

/**
 * Respawn: no worker is replaced.
 */
#define CL_RESPAWN_NEVER 1

/**
 * Respawn: workers that end by a signal or with a code other than 0 are replaced.
 */
#define CL_RESPAWN_ON_FAILURE 2

/**
 * Respawn: every worker is replaced until the cluster is stopped.
 */
#define CL_RESPAWN_ALWAYS 3

/**
 * Listen flag: cl_accept() returns -EAGAIN instead of waiting.
 */
#define CL_LISTEN_NONBLOCK 1

/**
 * Listen flag: this worker binds the socket itself and shares it with nobody.
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
 * Event: a worker has said that it is online.
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
 * Event: a worker ended: exit_code (-1 if a signal ended it or the code is unknown) and signal (0 if none) are set.
 */
#define CL_EVENT_EXIT 6

/**
 * Event: something needs attention: data and length hold one sentence; worker_id is 0 if it concerns no worker.
 */
#define CL_EVENT_WARNING 7

/**
 * Event: something for the log, such as why the mechanism kernel is not used: data and length hold one sentence;
 * worker_id is 0.
 */
#define CL_EVENT_NOTICE 8

/**
 * Event: a worker is ready: it listens, and has called cl_ready() where CL_MANUAL_READY is set. generation is set.
 */
#define CL_EVENT_READY 9

/**
 * Event: a reload has come to another phase: generation and phase are set; data and length hold a sentence where it
 * has ended otherwise than well.
 */
#define CL_EVENT_RELOAD 10

/**
 * Event: a worker has taken the place of one that had done enough; see cl_recycle(). generation is set.
 */
#define CL_EVENT_RECYCLE 12

/**
 * State of a worker: started, and not online yet.
 */
#define CL_WORKER_STARTING 1

/**
 * State of a worker: has said that it is online.
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
 * State of a worker: its channel is closed, its process still runs.
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
 * A defect inside libcluster was caught; a message on standard error says where. Nothing unwinds into the caller. The
 * call may be half done: a connection in its hands is closed, an address it was opening may stay taken, a process it
 * was starting may end unseen. Other calls and threads go on, and so does the cluster, which can be stopped as usual.
 */
#define CL_EPANIC (-4099)

/**
 * The most bytes in one message.
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
     * The worker's id; 0 in a notice, and in a warning that concerns no worker.
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
     * CL_EVENT_MESSAGE, CL_EVENT_WARNING, CL_EVENT_NOTICE, CL_EVENT_RELOAD: the bytes; otherwise NULL.
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
    /**
     * CL_EVENT_READY, CL_EVENT_RELOAD, CL_EVENT_RECYCLE: which generation; otherwise 0.
     */
    int generation;
    /**
     * CL_EVENT_RELOAD: CL_RELOAD_*; otherwise 0.
     */
    int phase;
} cl_event_t;

/**
 * A function that is told what happens; see cl_on_event().
 */
typedef void (*cl_event_fn)(const struct cl_event_t *event, void *user);

/**
 * A cluster's settings; see cl_setup_primary(). A zeroed field keeps what was set before, at first the default.
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
     * CL_MECHANISM_*; default CL_MECHANISM_AUTO. For addresses that are opened from now on.
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
     * CL_HANDLE_SIGNALS, CL_HANDLE_RELOAD, CL_MANUAL_READY and CL_WORKER_SIGNALS. A bit stays set once it was set.
     */
    unsigned int flags;
    /**
     * Connections that may wait in a worker's mailbox, 1 to 256; default 12. A smaller window spreads a burst better
     * over slow workers; a larger one keeps fast workers from waiting.
     */
    int window;
    /**
     * Milliseconds before a worker with a short life is replaced, and up to a quarter more at random. A life is short
     * if it ended before the worker listened, or within a second and without a connection taken. The delay doubles
     * with each short life of a slot; a life of 10 s starts afresh. Other workers are replaced at once. While an
     * address has no worker, some slot is tried once a second, or each restart_min_ms if that is longer. In all, no
     * more replacements start in a second than there are slots, or 8 if that is more. Default 100.
     */
    int restart_min_ms;
    /**
     * The longest such delay, at least restart_min_ms. Default 10000.
     */
    int restart_max_ms;
    /**
     * What workers may listen on, whoever they are; NULL last. NULL: what was set before, at first anything for
     * workers of this process's own user, nothing for those that cl_spawn() started as another user. Each is one of:
     *
     *     host:port  host:low-high  host:*  TCP; the host is a name (looked up now), an address, nothing (the socket
     *                                       of all addresses) or * (any address); port 0 is one of the kernel's choice
     *     udp:...                           the same for datagrams
     *     unix:/path  unix:/directory/      that socket file; any in that directory or further down
     *     unix:@name  fd:N                  an abstract socket; what cl_listen("fd:N") takes from this process
     *
     * Paths are absolute and without "..". The directory is opened now and held, and links below it are not followed.
     * The directory that gets the socket file must belong to this process's user or root and, where others may write,
     * be sticky. A worker that asks for anything else gets -EACCES, and the program a CL_EVENT_WARNING (at most one a
     * second and worker). Only what is asked of the primary is judged: what a worker binds itself
     * (CL_LISTEN_EXCLUSIVE) it binds with its own rights.
     */
    const char *const *listen_allow;
    /**
     * How many addresses may be open for the workers at a time; more fail with -EMFILE. 0: what was set before, at
     * first any number, but 64 where a worker asks that cl_spawn() started as another user.
     */
    int listen_max;
    /**
     * Milliseconds that cl_stop() goes on serving before it closes anything, for balancers that learn slowly that this
     * server is going away. Default 0. The deadline of the stop begins after it.
     */
    int drain_delay_ms;
    /**
     * For a later version; anything but 0 is -EOPNOTSUPP.
     */
    int ready_min;
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
     * The program's file; without a slash it is looked for in PATH. NULL: this program.
     */
    const char *file;
    /**
     * Its arguments, its name first, NULL last. NULL: this program's own; if a file is given, its name alone.
     */
    char *const *argv;
    /**
     * Its environment, NULL last. NULL: this program's own. For another user NULL means only PATH, TERM, TZ, LANG,
     * LANGUAGE and LC_* of it (all but PATH only where they hold no path), and HOME, USER, LOGNAME and SHELL of that
     * user (without an account only HOME=/). CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD are added in any case.
     */
    char *const *envp;
    /**
     * The directory it starts in. NULL: the current one.
     */
    const char *cwd;
    /**
     * The user it runs as, by name or number. NULL: this program's own. With a user or group, no_new_privs is set, and
     * a user other than root keeps no capabilities. A worker of another user may listen only on what
     * cl_settings_t.listen_allow declares; one that changes its user by itself counts as this program's own.
     */
    const char *user;
    /**
     * The group it runs as, by name or number. NULL: the user's own groups.
     */
    const char *group;
    /**
     * Descriptors it inherits besides 0, 1 and 2, under the same numbers; all others are closed in it. They are
     * duplicated: replacements get the same open files, whatever the program has made of the numbers by then. The
     * primary holds its copies (and so a pipe open) until nobody can replace the worker any more: with
     * CL_RESPAWN_NEVER no longer than this call, else until cl_stop() or an end after which it is not replaced.
     */
    const int *inherit;
    /**
     * How many they are, at most 1024.
     */
    size_t inherit_count;
    /**
     * CL_SPAWN_* bits.
     */
    unsigned int flags;
} cl_spawn_options_t;

/**
 * How workers are replaced; see cl_reload(). A zeroed field means the default.
 */
typedef struct cl_reload_options_t {
    /**
     * sizeof (cl_reload_options_t)
     */
    size_t size;
    /**
     * The program of the new workers. NULL: each is made as its predecessor was, with file, user and group looked up
     * anew.
     */
    const struct cl_spawn_options_t *program;
    /**
     * How many slots are swapped at a time; default 1.
     */
    int parallel;
    /**
     * How many more processes there may be than slots, beside those that are leaving; default: parallel.
     */
    int extra;
    /**
     * Milliseconds that a new worker has to become ready; default 10000, CL_NONE: any time.
     */
    int ready_timeout_ms;
    /**
     * Milliseconds that it has to live after that, before it takes its predecessor's place; default 500, CL_NONE: none.
     */
    int min_ready_ms;
    /**
     * For a later version, as the four behind it; anything but 0 is -EOPNOTSUPP.
     */
    int canary_workers;
    /**
     * For a later version.
     */
    int canary_percent;
    /**
     * For a later version.
     */
    int canary_ms;
    /**
     * For a later version.
     */
    int max_errors_permille;
    /**
     * For a later version.
     */
    int max_latency_percent;
    /**
     * CL_RELOAD_* bits.
     */
    unsigned int flags;
} cl_reload_options_t;

/**
 * After how much a worker is replaced; see cl_recycle(). A zeroed limit is none.
 */
typedef struct cl_recycle_options_t {
    /**
     * sizeof (cl_recycle_options_t)
     */
    size_t size;
    /**
     * Memory that it has for itself, in bytes (RssAnon of proc_pid_status(5)).
     */
    unsigned long long rss_bytes;
    /**
     * Connections that it has taken.
     */
    unsigned long long connections;
    /**
     * Requests that it has counted with cl_count() or cl_took().
     */
    unsigned long long requests;
    /**
     * Seconds since it was started.
     */
    int age_s;
    /**
     * Each worker's limits are higher by up to so many percent, at random, so that those that were started together are not
     * replaced together; default 20, CL_NONE: none.
     */
    int jitter_percent;
    /**
     * How many are replaced at a time; default 1.
     */
    int at_a_time;
} cl_recycle_options_t;

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
     * Connections that it got: given to it and not taken back, or accepted as it says itself, whichever is more.
     */
    unsigned long long delivered;
    /**
     * Connections that wait for it.
     */
    unsigned int waiting;
    /**
     * What it last reported with cl_set_load(), as of this call.
     */
    unsigned int load;
    /**
     * Which generation it belongs to; see cl_reload().
     */
    int generation;
    /**
     * 1: it is ready; see cl_reload().
     */
    int ready;
    /**
     * The memory that it has for itself, in KiB (RssAnon of proc_pid_status(5)); 0 where there is no /proc.
     */
    unsigned long long rss_kib;
    /**
     * The processor time that it has used, in milliseconds (its first 32 threads).
     */
    unsigned long long cpu_ms;
    /**
     * Requests that it has answered, as it says itself with cl_count() or cl_took().
     */
    unsigned long long requests;
    /**
     * Those of them that failed.
     */
    unsigned long long errors;
    /**
     * Requests that are under way, as it says itself.
     */
    unsigned int active;
    /**
     * How late its event loop is, in milliseconds, where it tells.
     */
    unsigned int late_ms;
    /**
     * Milliseconds since it was started.
     */
    unsigned long long age_ms;
} cl_worker_info_t;

/**
 * One socket option; see cl_listen_options_t.options and setsockopt(2).
 */
typedef struct cl_socket_option_t {
    /**
     * SOL_SOCKET, IPPROTO_TCP, ...
     */
    int level;
    /**
     * SO_KEEPALIVE, TCP_NODELAY, ...
     */
    int name;
    /**
     * The value. Not NULL.
     */
    const void *value;
    /**
     * Its length in bytes, at most 256.
     */
    socklen_t length;
} cl_socket_option_t;

/**
 * How to listen; see cl_listen_with(). A zeroed field means the default.
 */
typedef struct cl_listen_options_t {
    /**
     * sizeof (cl_listen_options_t)
     */
    size_t size;
    /**
     * The address, as for cl_listen(). NULL: ":0", a free port on all addresses.
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
     * For port 0: the n-th of the ports that all workers share, up to 65536. 0: the first that this worker has not
     * open.
     */
    int index;
    /**
     * Socket options of the listening socket, which accepted connections inherit. docs/socket-options.md lists those
     * that a worker may set. The first worker to open an address decides. NULL: none. Not kept.
     */
    const struct cl_socket_option_t *options;
    /**
     * The number of options, at most 32.
     */
    size_t option_count;
} cl_listen_options_t;

#ifndef CL_HEADER_ONLY

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What a code means.
 *
 * @param code  what a function returned: -errno or a CL_E* code; any other int is allowed.
 * @return static text, never NULL; "Unknown error" for what is no code.
 *
 * Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
 */
CL_API const char *cl_strerror(int code);

/**
 * The name of a code, such as "EADDRINUSE" or "CL_ENOLIB".
 *
 * @param code  as for cl_strerror().
 * @return static text, never NULL; "UNKNOWN" for what is no code.
 *
 * Threads: any. After fork(2): allowed. Signals: async-signal-safe. Since 0.1.
 */
CL_API const char *cl_err_name(int code);

/**
 * What was wrong with this thread's last failed call, in one sentence for a person.
 *
 * @return text that stays valid until this thread's next failed call; "" if none has failed. Never NULL.
 *
 * Threads: each has its own. After fork(2): allowed. Signals: not in a handler; what fails in a handler counts for its
 * thread. Since 0.1.
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
 * Names the function that is told what happens; it replaces the previous one.
 *
 * @param callback  called by the thread that is in cl_step(), cl_run() or cl_serve(), in the order of events and with
 *                  no lock held: it may call any cl_ function but those three. NULL: none.
 * @param user      given to it.
 * @return 0; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_on_event(cl_event_fn callback, void *user);

/**
 * Tells whether this process is a primary: it is, unless a cluster started it as a worker.
 *
 * The first cl_ call that needs to know decides this once: it reads CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD,
 * removes them from the environment, and believes them only if the descriptor proves to be the channel. Make that call
 * before other threads use the environment (setenv(3)).
 *
 * Once the channel is proven the process is a worker for good: if it cannot join its primary (no thread, no
 * descriptor, a filter of system calls), this stays 0, and each call that needs the primary says why. A process that
 * finds one of the variables but no channel (main() began with closefrom(3), or a wrapper closes descriptors) stays 1,
 * but cl_fork(), cl_spawn() and cl_serve() return -ENOTCONN in it: whatever it started would do the same, without end.
 * So do they in a worker that has run another program by exec(3); it leaves its pid in CL_WORKER_PROCESS, for this
 * process alone.
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
 * Chooses the cluster's settings, if the defaults are not right. May be called any number of times: each call adds to
 * what was set before, and applies to what is started and opened afterwards.
 *
 * @param settings  see cl_settings_t; NULL: change nothing. Not kept.
 * @return 0. On an error nothing is changed:
 *         -EINVAL: a value out of its range, a bad rule in listen_allow, or a name in it that nobody knows;
 *         -ENOENT, -EACCES, -ENOTDIR: a directory in listen_allow cannot be opened;
 *         -E2BIG: a field of a later version is set; -EOPNOTSUPP: ready_min; -EPERM: in a worker;
 *         -EPERM, -EINVAL, -ENOSYS: CL_MECHANISM_KERNEL without the privilege it needs, or on a kernel that lacks it.
 *
 * Threads: any; the primary goes on serving in another thread while names in listen_allow are looked up. After
 * fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_setup_primary(const struct cl_settings_t *settings);

/**
 * Makes a worker, as fork(2) makes a process: returns twice.
 *
 * The worker has a copy of everything the caller had, but none of the primary's descriptors. All stdio streams are
 * flushed before the fork, so that nothing is written twice (fflush(NULL); it waits where a pipe is full, as any write
 * does). Handlers of atexit(3) are copied too, and run in each worker that calls exit() or returns from main. This
 * keeps such a handler to the primary:
 *
 *     static void remove_pid_file(void) {
 *         if (getpid() != primary_pid) return; // primary_pid = getpid(), before the first worker
 *         unlink(PID_FILE);
 *     }
 *
 * A replacement of the worker (cl_settings_t.respawn) returns from cl_run() or cl_step() instead.
 *
 * @return in the primary the worker's id > 0; in the worker 0.
 *         CL_ETHREADS: the process has other threads, use cl_spawn(); -ESHUTDOWN: the cluster is being stopped;
 *         -EPERM: in a worker; -EAGAIN, -ENOMEM: from fork(2); -EMFILE, -ENFILE.
 *
 * Threads: the process's only one. After fork(2): -ECHILD. Signals: not in a handler. The worker has the mask and the
 * dispositions that the program had; CL_WORKER_SIGNALS says what it adds. Since 0.1.
 */
CL_API int cl_fork(void);

/**
 * Starts a program as a worker. It finds CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD in its environment (and
 * CL_WORKER_SIGNALS where that flag is set), and takes part if it uses libcluster in any form. Any other program runs
 * too, and is ended when the primary dies.
 *
 * @param options  see cl_spawn_options_t; NULL: this program again with the same arguments. Not kept.
 * @return the worker's id > 0.
 *         -ENOENT, -EACCES, -ENOEXEC, ...: from execve(2), or from chdir(2) to the directory;
 *         -EPERM: in a worker, or the user cannot be set; -EINVAL: no such user or group, or a bad value;
 *         -ESHUTDOWN: the cluster is being stopped; -ETIMEDOUT: another process of the user stopped it before exec;
 *         -EAGAIN, -ENOMEM, -EMFILE, -ENFILE. No process is left then, and cl_last_error() names the step that failed.
 *
 * Threads: any; safe in a program with threads (the child runs only async-signal-safe code until exec). After fork(2):
 * -ECHILD. Signals: not in a handler. The program starts with no signal blocked, so that the deadline's SIGTERM
 * reaches it; with CL_SPAWN_KEEP_MASK it and its replacements start with the caller's signal mask. Handlers are reset
 * and ignored signals stay ignored, as with posix_spawn(3). Since 0.1.
 */
CL_API int cl_spawn(const struct cl_spawn_options_t *options);

/**
 * Replaces every worker by a new one, so that nobody who connects notices. In each slot the new worker is started
 * beside the old one, and listens without getting connections. Once it is ready it gets the slot's turns, and its
 * clients under CL_SCHED_SOURCE_HASH; then the old one is asked to leave, as by cl_worker_disconnect(), and serves what
 * waits for it.
 *
 * A new worker is ready when it listens on everything that the old one does (CL_RELOAD_ALLOW_FEWER: on something), has
 * called cl_ready() where CL_MANUAL_READY is set, and has lived min_ready_ms since. One that ends before, or is not ready
 * in time, has failed. Before the first swap the reload is refused then, and the old workers have lost nothing; later
 * those that were swapped are replaced by workers that are made as the old ones were.
 *
 * While it runs, another one takes its place (CL_RELOAD_QUEUE and CL_RELOAD_REFUSE_IF_BUSY change that); slots that were
 * swapped stay so until they are swapped again. cl_stop() ends it. CL_EVENT_RELOAD tells each phase and the outcome.
 *
 * UDP: the new worker has its predecessor's socket from the beginning, and both may receive. A worker built with a header that
 * does not know of rotation gets connections under CL_SCHED_NONE as soon as it listens.
 *
 * @param options  see cl_reload_options_t; NULL: the defaults. Not kept.
 * @return the new workers' generation > 0, at once: generations are counted from 1, which is that of the first workers.
 *         -EBUSY: another runs, and CL_RELOAD_REFUSE_IF_BUSY; -ENOENT: there are no workers; -ESHUTDOWN: the cluster is
 *         being stopped; CL_ETHREADS: some were made by cl_fork(), and this process has other threads; -EOPNOTSUPP: a
 *         canary; -EINVAL, and what cl_spawn() returns: the program; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. New workers are made by cl_step() and cl_run(); where
 * they are forked, these return in them as for a replacement. Since 0.1.
 */
CL_API
int cl_reload(const struct cl_reload_options_t *options);

/**
 * Replaces every worker by one that is made as those before the last reload were; while one runs, as those before it.
 * Otherwise as cl_reload(NULL).
 *
 * @return the generation > 0. -ENOENT: no reload has been done; otherwise as cl_reload().
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_rollback(void);

/**
 * Changes how many workers there are. New ones are made as the first was, or by the program of the last reload; of too
 * many those of the highest slots leave, as by cl_worker_disconnect().
 *
 * @param workers  how many slots have one; 0: one for each CPU this process may use.
 * @return 0, at once. -ENOENT: no worker was ever made; -ESHUTDOWN: the cluster is being stopped; CL_ETHREADS: they are
 *         made by cl_fork(), and this process has other threads; -EINVAL: fewer than 0, or more than 4096; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API
int cl_scale(int workers);

/**
 * Replaces one worker by another that is made in the same way, as cl_reload() does with all. If the new one fails, the
 * old one stays, and CL_EVENT_WARNING says why.
 *
 * @param id  the worker's id.
 * @return 0, at once. -ESRCH: no such worker, or it is leaving; -EBUSY: it is being replaced; -ESHUTDOWN: the cluster is
 *         being stopped; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API
int cl_worker_restart(int id);

/**
 * From here on replaces workers that have done enough, one after the other, as cl_worker_restart() does: nobody is cut off.
 * What they have done is looked at each 5 seconds. CL_EVENT_RECYCLE tells of each.
 *
 * @param options  see cl_recycle_options_t; NULL: no more. Not kept.
 * @return 0; -EINVAL: a negative value, or a bad size; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API
int cl_recycle(const struct cl_recycle_options_t *options);

/**
 * Forks workers that each run a function, and runs as their primary until the cluster is stopped: by SIGTERM or SIGINT
 * (CL_HANDLE_SIGNALS is implied) or by cl_stop(). A worker that ends is replaced: at once if it had been serving, in a
 * crash loop after a delay that doubles (cl_settings_t.restart_min_ms). Stopping is graceful: see cl_stop().
 *
 * A start that cannot succeed ends: when nothing has ever listened and every slot has failed three times running by
 * what the primary knows itself. Such a failure is a listen that it refused (the address is taken, not allowed, not of
 * this machine) to a worker that then ended, or a worker that ended before it said that it is online. Those that still
 * run are stopped first, with SIGTERM at once. Each refused listen is also a CL_EVENT_WARNING, at most one a second
 * and address. A worker that ends by itself before it listens is replaced again and again. Once something has listened
 * the primary never gives up.
 *
 * In a process that was itself started as a worker (cl_spawn() of this program) it runs the function there.
 *
 * Its workers finish what is in hand when SIGTERM or SIGINT comes to the whole process group (Ctrl-C, timeout(1),
 * systemd's KillMode=control-group) or to one of them: CL_WORKER_SIGNALS is implied while it runs. SIGHUP ends the
 * primary unless the program handles it; the workers then have less than a second.
 *
 * Streams are flushed before each fork, and atexit(3) handlers run in every worker that returns: see cl_fork().
 *
 * @param workers      how many; 0: one for each CPU this process may use (affinity and cgroup quota).
 * @param worker_main  runs in each worker, whose exit code is its result (exit(3): stdio is flushed). Not NULL.
 * @param argument     given to it.
 * @return in the primary 0 once the cluster was stopped; in a process that was started as a worker the function's
 *         result. Never returns in a worker that it forked.
 *         -EINVAL: fewer than 0 workers or no function. For a start that cannot succeed the refusal's own code, such
 *         as -EADDRINUSE or -EACCES; -ENOTCONN: no worker ever said that it is online; CL_EVERSION: they speak another
 *         version of the protocol. Otherwise as cl_fork(). No worker is left then, and cl_last_error() says why.
 *
 * Threads: the process's only one. After fork(2): -ECHILD. Signals: not in a handler. pthread_cancel(3) takes no
 * effect while worker_main runs, which must not end with pthread_exit(3). Since 0.1.
 */
CL_API int cl_serve(int workers, int (*worker_main)(void*), void *argument);

/**
 * Runs the primary until every worker is gone and none is due to be replaced, or until a cl_stop() is complete.
 * Addresses are given up then. Calls the cl_on_event() callback. Where workers are replaced it also ends when the
 * start cannot succeed, as cl_serve() does.
 *
 * @return 0 in the primary. 1 in a worker: the replacement of one made by cl_fork(), with cl_settings_t.respawn set.
 *         -EPERM: in a worker; -EBUSY: in a callback, or another thread runs the primary. For a start that cannot
 *         succeed the codes of cl_serve(); no worker is left then.
 *
 * Threads: any, one at a time. After fork(2): -ECHILD. Signals: handles none, unless CL_HANDLE_SIGNALS is set; then
 * this thread has SIGTERM and SIGINT unblocked while it runs, and its mask back afterwards. Since 0.1.
 */
CL_API int cl_run(void);

/**
 * Takes one turn as the primary: waits, does what is due, and calls the cl_on_event() callback. For programs with a
 * loop of their own; see cl_poll_fd(). It never gives up a start: CL_EVENT_WARNING alone tells what cannot be had.
 *
 * @param timeout_ms  milliseconds to wait for something to do; 0: not at all; less than 0: as long as it takes.
 * @return how many events there were, >= 0. In a replacement of a worker made by cl_fork() 0, and cl_is_worker() is 1.
 *         -EPERM: in a worker; -EBUSY: in a callback, or another thread runs the primary.
 *
 * Threads: any, one at a time. After fork(2): -ECHILD. Signals: one ends the wait early. Since 0.1.
 */
CL_API int cl_step(int timeout_ms);

/**
 * The primary's one descriptor: readable when cl_step() has something to do, timers included.
 *
 * @return a descriptor >= 0 for poll(2) or epoll(7), the library's: do not close or read it. -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_poll_fd(void);

/**
 * Stops the cluster, in the turns that follow. First the door is shut: whoever comes from then on is refused at once
 * (ECONNREFUSED; TCP by SO_BINDTOIFINDEX, Linux 5.7, unix sockets by shutdown(2)). Whoever had connected by then is
 * served, and handshakes under way may end (3 s at most). When nobody waits any more, and at the latest after 3 s or
 * half of the deadline, whichever is shorter, every worker is asked to disconnect: it drains what waits for it, and
 * cl_accept() returns -ESHUTDOWN. After the deadline comes SIGTERM, 2 s later SIGKILL. Nobody is replaced. cl_run()
 * returns when all are gone. The listening sockets end with the address, whoever inherited them; the sockets of "fd:N"
 * are left as they are. A socket that a worker bound itself (CL_LISTEN_EXCLUSIVE, CL_LISTEN_REUSEPORT) is shut in the
 * same way by that worker's cl_accept(), once it sees that the worker was asked to disconnect. With CL_LISTEN_NONBLOCK
 * an empty queue ends it at once, and the close resets handshakes under way.
 *
 * With cl_settings_t.drain_delay_ms all of that begins so much later, and the deadline with it; until then the cluster
 * serves as before, and replaces workers. A second call with a shorter deadline ends the delay or shortens the
 * deadline; 0 means no delay.
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
 * @return 0; -ESRCH: no such worker (any more); -EINVAL: NULL or a bad size; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_info(int id, struct cl_worker_info_t *info);

/**
 * Sends a worker a message, which it gets from cl_receive(). Never waits: 1 MiB is kept for one that does not read.
 *
 * @param id      the worker's id.
 * @param data    the bytes; copied. May be NULL if length is 0.
 * @param length  bytes, 0 to CL_MESSAGE_MAX.
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
 * @return 0, without waiting for its end; -ESRCH: no such worker; -EPERM: in a worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_disconnect(int id);

/**
 * Sends a signal to a worker's process, and never to another process that has got its number (pidfd_send_signal(2)).
 *
 * @param id      the worker's id.
 * @param signal  the signal; 0 only checks.
 * @return 0; -ESRCH: no such worker; -EINVAL: no such signal; -EPERM: in a worker, or not allowed.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_worker_kill(int id, int signal);

/**
 * Listens on an address: in a worker with a share of the primary's, elsewhere with a socket that this process binds.
 *
 * In a worker the primary binds when the first worker asks; its error goes to that worker and is not remembered. The
 * same address twice in one worker is -EADDRINUSE. A worker waits here for the primary's answer.
 *
 * The address is one of
 *
 *     host:port  [v6]:port  a host name is resolved here, which may wait for a name server
 *     :port                 all addresses, IPv6 and IPv4
 *     unix:/path            a dead server's file is replaced, a live one's is -EADDRINUSE; paths over 107 bytes work. If a
 *                           worker removes the file, the next listen or end of a worker makes it anew; where that
 *                           cannot be (CL_SCHED_NONE), CL_EVENT_WARNING says that nobody can connect
 *     unix:@name            an abstract socket
 *     fd:N                  descriptor N of the primary; of this process if it is no worker or binds the socket itself
 *                           (CL_LISTEN_EXCLUSIVE). A listening socket, which stays open and is made non-blocking for
 *                           all who have it; or a bound udp socket, left as it is
 *     udp:...               with one of the first three behind it: the descriptor returned is the datagram socket,
 *                           for recvfrom(2) and sendto(2). Each slot has its own, and the kernel chooses by a hash of
 *                           both ends; with CL_SCHED_NONE, CL_MECHANISM_PASSED or fd:N all workers have the same one
 *
 * The n-th listen on port 0 of an address is the same port in every worker, and in the workers that replace them.
 *
 * @param address  see above. Not NULL; not kept.
 * @param backlog  connections that the kernel keeps waiting; 0 or less: 511; at most net.core.somaxconn. The first
 *                 worker to listen on an address decides.
 * @return a descriptor >= 0 that is readable when cl_accept() has something to say, for poll(2) and epoll(7). It is
 *         close-on-exec; close it with cl_close() only.
 *         -EINVAL: a bad address (cl_last_error() says why); -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, ...: from bind(2);
 *         -EACCES: not declared in cl_settings_t.listen_allow; -EMFILE: 256 listeners of this worker or
 *         cl_settings_t.listen_max addresses are open, or no descriptor is free; -ESHUTDOWN: this worker was asked to
 *         disconnect; -EPIPE: the primary is gone; CL_EVERSION.
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
 * @return as cl_listen(); also
 *         -EINVAL: an unknown flag, a bad index or size, more than 32 socket options, one without a value or with a
 *         value out of its bounds; also for any socket option if the primary is an older one, which knows none;
 *         -EACCES: a socket option that workers may not set (docs/socket-options.md has the list);
 *         -E2BIG: a field of a later version is set; -EOPNOTSUPP: socket options for "fd:N"; -ENOPROTOOPT, ...: from
 *         setsockopt(2).
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
 * Threads: any, several on one listener too; cl_close() wakes them. After fork(2): -ECHILD. Signals: not in a handler.
 * Since 0.1.
 */
CL_API int cl_accept(int listener, struct sockaddr *peer, socklen_t *peer_length);

/**
 * Takes one connection, and waits for it unless the listener has CL_LISTEN_NONBLOCK.
 *
 * The connection is this process's from the moment the kernel hands it over; until then the primary can give it to
 * another worker, should this one die or hang. The primary closes its own copy a moment after it has passed the
 * connection on. Take a connection out of an epoll set (EPOLL_CTL_DEL) before you close it: epoll(7) forgets a
 * descriptor by itself only when no other process has it open.
 *
 * @param listener     from cl_listen().
 * @param peer         where the peer's address goes, or NULL.
 * @param peer_length  bytes at `peer`; set to the address's length, which may be more. NULL only if `peer` is.
 * @param flags        SOCK_NONBLOCK, SOCK_CLOEXEC (accept4(2)) or 0.
 * @return a connected socket >= 0 that the caller closes with close(2).
 *         -EAGAIN: CL_LISTEN_NONBLOCK, and nothing is there;
 *         -ESHUTDOWN: this worker was asked to disconnect and nothing is left for it: finish and exit;
 *         -EPIPE: the primary is gone: finish within a second and exit;
 *         -EMFILE, -ENFILE: no descriptor is free; -ENOMEM, -ENOBUFS: memory is short. The connection waits and the
 *         program may simply call again: from the second consecutive failure, a blocking call pauses 4 to 100 ms
 *         before it returns. A connection is lost only if another thread takes the last descriptor during this call;
 *         -EBADF: no listener, or closed by another thread meanwhile; -EOPNOTSUPP: a udp listener; -EINVAL: a flag.
 *
 * Threads: any, also several on one listener. After fork(2): -ECHILD. Signals: not in a handler; a wait that a signal
 * interrupts goes on, and -EINTR is never returned. cl_close() of the listener ends its wait. Since 0.1.
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
 * Sets a socket option of a listener's address, as setsockopt(2) does on a listening socket, with every mechanism.
 *
 * In a worker the primary judges the option and sets it on every socket of the address: for all workers that share it,
 * later ones included, and for as long as the address is open, whatever becomes of this worker. Connections that come
 * from now on inherit it; some of those that already wait to be accepted may not. A worker waits here for the
 * primary's answer. On a socket that this process bound itself (no worker, CL_LISTEN_EXCLUSIVE, CL_LISTEN_REUSEPORT)
 * this is setsockopt(2), and the kernel alone judges.
 *
 * setsockopt(2) on the listener's descriptor does something else with each mechanism: see docs/socket-options.md. It
 * also has the bounds of the options that a worker may set, each an int: SO_KEEPALIVE, SO_RCVBUF, SO_SNDBUF;
 * TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_MAXSEG, TCP_FASTOPEN, TCP_DEFER_ACCEPT;
 * IP_TOS; IPV6_TCLASS.
 *
 * @param listener  from cl_listen().
 * @param level     SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6, as for setsockopt(2).
 * @param name      the option, as for setsockopt(2).
 * @param value     its value; not NULL; not kept.
 * @param length    bytes at `value`, at most 256.
 * @return 0. On an error nothing is changed:
 *         -EBADF: no listener, or closed by another thread meanwhile; -EACCES: no option that workers may set;
 *         -EINVAL: NULL, a length that is not the option's, a value out of its bounds;
 *         -EOPNOTSUPP: a listener on "fd:N", whose options are its maker's, or an older primary, which sets none;
 *         also, as -ENOPROTOOPT and others, from setsockopt(2): a TCP option of a unix or udp socket;
 *         -ESHUTDOWN: this worker was asked to disconnect; -EPIPE: the primary is gone;
 *         -EMFILE, -ENFILE, -ENOMEM: the primary is short of it for the moment; CL_EVERSION.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler; interrupted waits go on. Since 0.1.
 */
CL_API int cl_setsockopt(int listener, int level, int name, const void *value, socklen_t length);

/**
 * Puts into an epoll of the program's what has to be watched for a listener, so that epoll_wait(2) tells when cl_accept() has
 * something to say.
 *
 * A program with an event loop calls this instead of epoll_ctl(2) with the listener's descriptor. With CL_MECHANISM_ROTATION, and under
 * CL_SCHED_NONE, it makes that one worker is woken for one connection (EPOLLEXCLUSIVE); the descriptor itself, in an epoll of the
 * program's, would wake every worker for each, so that under CL_MECHANISM_ROTATION such a listener gets its connections passed on by
 * the primary until it is watched. Everywhere else it does what epoll_ctl(2) would. The events are level-triggered. cl_accept() may
 * find nothing (-EAGAIN), so the listener should have CL_LISTEN_NONBLOCK. Take one or a few connections for an event: what is left is
 * told again, and another worker may be free for it. The epoll must not be nested in another one, and not be used after fork(2).
 *
 * @param listener  from cl_listen_with().
 * @param epoll_fd  from epoll_create1(2). The library keeps a duplicate until cl_listener_unwatch() or cl_close().
 * @param data      what the events have in `data.u64`. A listener may have more than one entry, all with the same data.
 * @return 0; -EBADF: no listener or no descriptor; -EEXIST: it is watched already; -EINVAL: no epoll; -EMFILE, -ENOMEM, -ENOSPC;
 *         -EPIPE: the primary is gone; CL_EVERSION.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1. EPOLLEXCLUSIVE: Linux 4.5.
 */
CL_API
int cl_listener_watch(int listener,
                      int epoll_fd,
                      unsigned long long data);

/**
 * Takes a listener out of the program's epoll again. With CL_MECHANISM_ROTATION the primary passes its connections on from then on.
 *
 * @param listener  from cl_listen().
 * @return 0; -EBADF: no listener; -ENOENT: it is not watched.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API
int cl_listener_unwatch(int listener);

/**
 * Hands an idle connection back when a worker leaves: another worker of the address gets it from cl_accept(), as if it were new.
 *
 * For keep-alive connections between two requests. Call it once the worker was asked to leave (cl_accept() or cl_receive() is
 * -ESHUTDOWN), before cl_close() of the listener, and only if no byte of a next request was read: what was read would be missing
 * there. Also not where the other worker would have to know what was said before (TLS, a login, a PROXY header). Before the call,
 * take the connection out of every epoll set (EPOLL_CTL_DEL). After it, no shutdown(2), and no copy of the descriptor may be
 * used. Socket options stay as they are; O_NONBLOCK does not, as every connection arrives in blocking mode. SO_LINGER is switched off.
 * It follows the policy: under CL_SCHED_SOURCE_HASH the client's slot gets it.
 *
 * @param listener    from cl_listen(): where the connection was accepted.
 * @param connection  from cl_accept(). After 0 it is closed here; after an error it is as before, and the caller's.
 * @return 0; -EAGAIN: no other worker has room now, so keep it, go on serving it, and try again in a few milliseconds;
 *         -EOPNOTSUPP: nobody takes it: the worker was not asked to leave, the cluster stops, no other worker serves the address,
 *         the worker runs as another user, the primary is of version 0.1 before this function, or the process is no worker;
 *         -ENOTSOCK, -EBADF: no socket; -EINVAL: not a connected stream socket, or of another address; -EBADF: no listener; -EPIPE:
 *         the primary is gone.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1. unix(7), SCM_RIGHTS.
 */
CL_API
int cl_hand_back(int listener,
                 int connection);

/**
 * Closes a listener. Connections that wait for it in the primary go to other workers; threads that wait in cl_accept()
 * on it return with -EBADF. The last worker to close an address gives it up. Take the listener out of an epoll set
 * (EPOLL_CTL_DEL) first: the primary has a copy of it, so closing alone leaves it registered.
 *
 * @param listener  from cl_listen(); its number is free for other uses afterwards.
 * @return 0; -EBADF: no listener.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_close(int listener);

/**
 * Sends the primary a message, which it gets as CL_EVENT_MESSAGE. Waits while the primary does not read. So that no
 * worker keeps it from its connections, the primary reads 16,000 small messages of one worker in a second (each 4096
 * bytes count as another), and as many more at once of one that was silent for a second.
 *
 * @param data    the bytes; copied. May be NULL if length is 0.
 * @param length  bytes, 0 to CL_MESSAGE_MAX.
 * @return 0; -EMSGSIZE: too long; -EPIPE: the primary is gone; -EINVAL: NULL; -EPERM: this process is no worker.
 *
 * Threads: any; messages of one thread arrive in order. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_send(const void *data, size_t length);

/**
 * Takes the next message from the primary.
 *
 * @param buffer      where it goes. May be NULL if capacity is 0.
 * @param capacity    how many bytes fit; CL_MESSAGE_MAX are always enough.
 * @param timeout_ms  milliseconds to wait; 0: not at all; less than 0: as long as it takes.
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
 * A descriptor that is readable when cl_receive() has something to say; for good once that returns -ESHUTDOWN.
 *
 * @return a descriptor >= 0 for poll(2) or epoll(7), the library's: do not close or read it. -EPERM: no worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
 */
CL_API int cl_channel_fd(void);

/**
 * In a worker: asks the primary to be disconnected. The worker gets no more connections and drains what waits for it,
 * and then cl_accept() returns -ESHUTDOWN. In the primary: cl_worker_disconnect() for every worker.
 *
 * @return 0, without waiting for the end; -EPIPE: the primary is gone.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
 * has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
 */
CL_API int cl_disconnect(void);

/**
 * Tells the primary this worker's present load, for CL_SCHED_LEAST_LOADED and cl_worker_info(). Costs no system call:
 * the load is written into memory that the primary reads when it next decides something. It does not wake a primary
 * that sleeps, nor notice one that is gone. A worker that has no memory for that (RLIMIT_AS, a system call filter)
 * sends the load instead, and then waits while the primary does not read.
 *
 * @param load  any unit that is the same in all workers; the newest counts. Best one in which a connection is about 1
 *              (open connections, requests in progress), because connections given since are counted as 1 each, for a
 *              second at most. Report it at each change, or every 10 ms.
 * @return 0; -EPIPE: it had to be sent, and the primary is gone; -EPERM: this process is no worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
 * has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
 */
CL_API int cl_set_load(unsigned int load);

/**
 * Says that this worker may take another's place, where CL_MANUAL_READY is set; see cl_reload(). More calls have no effect.
 *
 * @return 0, also in a process that is no worker; -ENOMEM: there was no memory for the page by which it would say so, and with
 *         CL_MANUAL_READY it takes nobody's place; -EPIPE: the primary is gone.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
 * has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
 */
CL_API
int cl_ready(void);

/**
 * Counts what this worker does, for cl_worker_info(). No system call.
 *
 * @param counter  CL_COUNT_*
 * @param by       how many more; fewer only for CL_COUNT_ACTIVE.
 * @return 0, also in a process that is no worker; -EINVAL: no such counter, or one that may not fall.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
 * has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
 */
CL_API int cl_count(int counter, long long by);

/**
 * Counts one more request of this worker, and the time that it took. No system call.
 *
 * @param microseconds  from its beginning to its answer.
 * @return 0, also in a process that is no worker.
 *
 * Threads: any. After fork(2): -ECHILD. Signals: in a worker it may be called in a handler once any other cl_ function
 * has been called before; it takes no memory and no lock, whatever it returns. Since 0.1.
 */
CL_API int cl_took(unsigned int microseconds);

#ifdef __cplusplus
}
#endif

#else /* CL_HEADER_ONLY */

/*
 * Header-only mode: with CL_HEADER_ONLY, what follows is compiled in place of the declarations above. It is the
 * worker's side of docs/protocol.md, the sockets of a process that is no worker, and a loader that finds the primary's
 * side in libcluster.so.0 on first use. There is nothing to link.
 *
 * Every function is static inline. What a process has once (its channel, its listeners) is defined weak, so that the
 * linker keeps one of each however many translation units include this. A program and the plugins that it loads with
 * dlopen(3) use one of these together, if they were built with the same version of this file.
 *
 * Once the process has loaded the library, for this code or before its first call for somebody else, every call goes
 * there, except for listeners that this code opened. A worker that this code serves never loads the library.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
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

#define CL__FN static inline
#define CL__ONE(...) \
    extern __VA_ARGS__ __attribute__((weak, visibility("hidden"))); \
    __VA_ARGS__

/* -- What the C library hides -----------------------------------------------------------------------------------------
 * Under -std=c99, and in part without _GNU_SOURCE, glibc hides names that are needed here, and headers that the program
 * has included already may have fixed that choice. So they are declared once more: functions under names of our own for
 * the same symbols, constants by value. The program needs no feature macro. */

#if defined(SIG_SETMASK) && defined(MAP_ANONYMOUS) && defined(SO_REUSEPORT)
#define CL__VISIBLE
#elif defined(__alpha__) || defined(__hppa__) || defined(__mips__) || defined(__sparc__)
#error "cluster.h: on this architecture CL_HEADER_ONLY needs _GNU_SOURCE, defined before the first #include"
#endif
enum {
    CL__AI_NUMERICHOST = 4, CL__AI_NUMERICSERV = 0x400, CL__CLOCK_MONOTONIC = 1, CL__F_DUPFD_CLOEXEC = 1030,
    CL__F_GET_SEALS = 1034, CL__F_SEAL_SHRINK = 2, CL__LOCK_EX_NB = 2 | 4, CL__MADV_WIPEONFORK = 18,
    CL__RTLD_NOLOAD = 4, CL__S_IFIFO = 0010000, CL__S_IFMT = 0170000, CL__S_IFSOCK = 0140000,
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
extern int cl__os_clock_gettime(int, long *) __asm__("clock_gettime");
extern void cl__os_freeaddrinfo(struct cl__addrinfo *) __asm__("freeaddrinfo");
extern const char *cl__os_gai_strerror(int) __asm__("gai_strerror");
extern int cl__os_getaddrinfo(const char *, const char *, const struct cl__addrinfo *, struct cl__addrinfo **)
    __asm__("getaddrinfo");
extern int cl__os_fchmod(int, mode_t) __asm__("fchmod");
extern int cl__os_madvise(void *, size_t, int) __asm__("madvise");
extern int cl__os_sigfillset(sigset_t *) __asm__("sigfillset");
extern int cl__os_sigaddset(sigset_t *, int) __asm__("sigaddset");
extern int cl__os_sigaction(int, const void *, void *) __asm__("sigaction");
extern int cl__os_sigprocmask(int, const sigset_t *, sigset_t *) __asm__("sigprocmask");
extern long cl__os_syscall(long, ...) __asm__("syscall");
extern int cl__os_dl_iterate_phdr(int (*)(void *, size_t, void *), void *) __asm__("dl_iterate_phdr");
extern int cl__os_unsetenv(const char *) __asm__("unsetenv");
extern int cl__os_setenv(const char *, const char *, int) __asm__("setenv");

/* Before glibc 2.34 these live in libraries of their own. The references are weak, so that nobody has to link -ldl or
 * -lpthread; without them they are NULL. The last two came with glibc 2.32. */
#define CL__WEAKLY(name) __attribute__((weakref(name)))
static void *cl__weak_dlopen(const char *, int) CL__WEAKLY("dlopen");
static void *cl__weak_dlsym(void *, const char *) CL__WEAKLY("dlsym");
static char *cl__weak_dlerror(void) CL__WEAKLY("dlerror");
static int cl__weak_stacksize(pthread_attr_t *, size_t) CL__WEAKLY("pthread_attr_setstacksize");
static int cl__weak_thread(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) CL__WEAKLY("pthread_create");
static const char *cl__weak_errno_name(int) CL__WEAKLY("strerrorname_np");
static const char *cl__weak_errno_text(int) CL__WEAKLY("strerrordesc_np");

/* -- Errors -------------------------------------------------------------------------------------------------------- */

struct cl__error {
    const char *sentence; /* of this thread's last failed call; NULL: none has failed */
    int in_library;       /* that call was the library's, which has the sentence */
};
/* In an object loaded by dlopen(3), a thread-local variable is made with malloc when a thread first touches it, which a
 * signal handler may not do. These two words are placed with the program's own instead. */
extern __thread struct cl__error cl__error __attribute__((weak, visibility("hidden"), tls_model("initial-exec")));
__thread struct cl__error cl__error;
CL__ONE(__thread char cl__error_text[640]);

/* Every failure leaves through one of these two. The first costs two stores: for what is common in accepting. */
CL__FN int cl__say(int code, const char *sentence) {
    cl__error.sentence = sentence;
    cl__error.in_library = 0;
    return code;
}

__attribute__((format(printf, 2, 3))) CL__FN int cl__fail(int code, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(cl__error_text, sizeof cl__error_text, format, list);
    va_end(list);
    return cl__say(code, cl__error_text);
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

/* A system call has failed. */
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
    CL__E(EADDRNOTAVAIL) CL__E(ENOTCONN) CL__E(ESHUTDOWN) CL__E(ETIMEDOUT)
#undef CL__N
#undef CL__E
    default: break;
    }
    if (code < 0 && code > -4096 && cl__weak_errno_name) name = cl__weak_errno_name(-code);
    return name != NULL ? name : code == 0 ? "OK" : "UNKNOWN";
}

CL__FN const char *cl_version(void) { return CL_VERSION; }
CL__FN unsigned cl_version_number(void) { return CL_VERSION_NUMBER; }

/* No call changes errno. pthread_cancel(3) of the thread waits until the call returns, because a cancelled thread would
 * unwind past everything that gives back what the call holds. */
struct cl__kept {
    int error, cancel;
};
CL__FN struct cl__kept cl__keep(void) {
    struct cl__kept kept = {errno, 0};
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &kept.cancel);
    return kept;
}
CL__FN int cl__put_back(struct cl__kept kept, int result) {
    pthread_setcancelstate(kept.cancel, NULL);
    errno = kept.error;
    return result;
}

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

/* -- What a process has once --------------------------------------------------------------------------------------- */

enum { CL__FREE = 0, CL__OPEN, CL__CLOSING };               /* a place in the table of listeners */
/* How connections come. BOUND: from a socket of this process, not the primary's; SHARED: from one that all have, or the
 * slot's own, and from a mailbox. */
enum { CL__BOUND = 1, CL__PASSED, CL__SHARED, CL__DATAGRAM };
enum {
    CL__HELLO = 1, CL__ONLINE, CL__LISTEN, CL__CLOSE, CL__MESSAGE, CL__LOAD, CL__DISCONNECT, CL__GRANT, CL__CONNECTION,
    CL__NOP, CL__STOP, CL__UNSEAT = 14, CL__RETURNS, CL__HANDBACK, CL__SETSOCKOPT, CL__SEAT, CL__BEGIN
};
enum { CL__PROTOCOL = 1, CL__LISTENERS = 256 };
/* In the number of ONLINE: this worker hands connections back; it accepts in rotation; it sets socket options later. In
 * a grant's kind: the primary accepts the latter; the socket that all have is to be left alone until BEGIN. Without
 * 64-bit atomics there is no counting in a page that others have. */
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
enum { CL__OFFERS_ROTATION = 2 };
#else
enum { CL__OFFERS_ROTATION = 0 };
#endif
enum { CL__OFFERS_HAND_BACK = 1, CL__OFFERS_OPTIONS = 4, CL__SETTABLE = 0x100, CL__WAITS = 0x200 };

struct cl__listener {
    int state;     /* CL__OPEN makes the rest valid */
    int users;     /* threads inside a call about it; the closer waits until it is the only one */
    int receiving; /* threads that receive from the mailbox and have not acted on it yet */
    int own;       /* the socket is the slot's own (mechanism kernel) */
    int accepts;   /* calls of cl_accept */
    int empty;     /* so many more calls expect to find nothing, and wait before they look */
    int shortages; /* how many in a row found descriptors or memory short */
    int stopped;   /* STOP was received */
    int plenty, half, asked, asked_since; /* see cl__room */
    int shut;      /* BOUND: when its door was shut, in ms and never 0; 0: it is open */
    int kind, fd, mailbox, socket;
    int wake;      /* eventfd by which cl_close wakes waiting threads; -1: nobody waits */
    int index;
    unsigned flags, number; /* number: the primary's name for it */
    int granted;            /* by the primary, which has to be told of its end */
    int settable;           /* the primary sets socket options for it */
    int watched;            /* the program's epoll that tells of it, by a descriptor of our own; -1: none */
    int line;               /* where it waits in line at a socket that all have: an epoll; -1: it does not */
    int place, fallen;      /* where it would; the kernel was short of memory for its entry */
    int seated;             /* the primary was told that it waits in line */
    int waits;              /* BEGIN is to come before it does */
    int lining;             /* a thread changes its place in the line */
    unsigned round;         /* the round of the page in which it took `took` connections */
    unsigned long long line_data, took; /* line_data: what the epoll tells of the socket */
    unsigned char *page;    /* of the address, where all accept in rotation; else NULL */
    char *text;             /* the address, for "the same address twice" */
    char *file;             /* the socket file to remove, if it is still this inode */
    dev_t device;
    ino_t inode;
    socklen_t name_length;
    struct sockaddr_storage name;
};

struct cl__process {
    unsigned char *member;     /* a page that reads 1 here, and 0 in a copy made by fork(2); NULL: not begun */
    int unwiped;               /* this process's pid, where a filter keeps the kernel from wiping that page; else 0 */
    int worker_id, slot;       /* worker_id 0: this process is no worker */
    int stray;                 /* started as a worker, but has no channel (2: has lost it by exec): may start none */
    int unjoined;              /* the code of what keeps this worker from its primary; 0: nothing */
    const char *step;          /* what was being done then */
    char why[200];             /* the sentence of that, ready for signal handlers */
    int channel, grants, lifeline, primary; /* primary: its pidfd, or a pipe that hangs up at its death */
    unsigned char *board;      /* this worker's page of the scoreboard; NULL: there is none */
    ino_t pipe;                /* the inode where `primary` is a pipe; 0: it is a pidfd */
    int self, sender;          /* for held signals: this process, and the primary (0: in an outer pid namespace) */
    int outside;               /* a held signal has come from an outer pid namespace */
    int gone, leaving;         /* the primary is gone; it asked this worker to disconnect */
    int dead;                  /* its process has ended; `gone` may also mean that it has done with this worker */
    int news;                  /* what cl_channel_fd returned; 0: nothing yet */
    int returns;               /* where connections are handed back; 0: not known yet */
    unsigned version, asked;   /* the primary's version of the protocol; the number of the last question */
    pthread_mutex_t begin, asking, reading, table, watching;
    struct cl__listener listeners[CL__LISTENERS];
    int places;                /* of `listeners` that were ever used */
    struct cl__library library;
};
CL__ONE(struct cl__process cl__own); /* all zero, as is PTHREAD_MUTEX_INITIALIZER on Linux */
CL__ONE(struct cl__process *cl__agreed);

CL__FN int cl__get(int *from) { return __atomic_load_n(from, __ATOMIC_SEQ_CST); }
CL__FN void cl__set(int *to, int value) { __atomic_store_n(to, value, __ATOMIC_SEQ_CST); }
CL__FN void cl__add(int *to, int value) { __atomic_add_fetch(to, value, __ATOMIC_SEQ_CST); }

/* -- One process of several objects -----------------------------------------------------------------------------------
 * The linker keeps one `cl__own` for a program or a shared object. Where several of these have this code, as a program
 * and its plugins, all use that of the object that was loaded first. They find each other by a note (elf(5), PT_NOTE),
 * which needs no exported symbol. Objects of other versions of this file are passed over. */

struct cl__card {
    unsigned version, size; /* of struct cl__process */
    struct cl__process *own;
};
extern const struct cl__card cl__card __attribute__((weak, visibility("hidden")));
__attribute__((used)) const struct cl__card cl__card = {CL_VERSION_NUMBER, sizeof(struct cl__process), &cl__own};

/* How far it is from the end of the note to the card. Assembler, because C has no way to say it without a relocation,
 * which would need a writable section. */
struct cl__note {
    unsigned name_size, size, type;
    char name[12];
    int distance;
};
__asm__(".pushsection .note.libcluster, \"a\", %note\n"
        ".balign 4\n"
        ".long 12, 4, 1\n"
        ".ascii \"libcluster\\0\\0\"\n"
        ".long cl__card - .\n"
        ".popsection");

/* The first members of glibc's struct dl_phdr_info. */
struct cl__object {
    ElfW(Addr) address;
    const char *name;
    const ElfW(Phdr) *headers;
    ElfW(Half) count;
};
struct cl__search {
    struct cl__process *wanted, *found; /* wanted: this one; NULL: the first */
    char *name;                         /* room for the name of the object that has it; "": the program; NULL: no matter */
};
enum { CL__NAME_ROOM = 4096 };

CL__FN void cl__note_name(struct cl__search *search, const struct cl__object *object) {
    if (search->name != NULL) snprintf(search->name, CL__NAME_ROOM, "%s", object->name != NULL ? object->name : "");
}

/* Tools that edit an object may leave a note's header that leads nowhere. */
CL__FN int cl__can_read(const struct cl__object *object, const ElfW(Phdr) *notes) {
    for (int i = 0; i < object->count; i++) {
        const ElfW(Phdr) *header = &object->headers[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_R) && notes->p_vaddr >= header->p_vaddr &&
            notes->p_memsz <= header->p_memsz && notes->p_vaddr - header->p_vaddr <= header->p_memsz - notes->p_memsz)
            return 1;
    }
    return 0;
}

CL__FN int cl__look_at(void *given, size_t size, void *into) {
    const struct cl__object *object = (const struct cl__object *)given;
    struct cl__search *search = (struct cl__search *)into;
    const struct cl__note wanted = {12, 4, 1, "libcluster", 0};
    (void)size;
    for (int i = 0; i < object->count; i++) {
        const ElfW(Phdr) *header = &object->headers[i];
        if (header->p_type != PT_NOTE || !cl__can_read(object, header)) continue;
        const char *notes = (const char *)(object->address + header->p_vaddr);
        for (size_t at = 0; at + sizeof wanted <= header->p_memsz; at += 4) {
            int distance;
            if (memcmp(notes + at, &wanted, offsetof(struct cl__note, distance)) != 0) continue;
            memcpy(&distance, notes + at + offsetof(struct cl__note, distance), sizeof distance);
            const void *place = notes + at + offsetof(struct cl__note, distance) + distance;
            const struct cl__card *card = (const struct cl__card *)place;
            if (card->version != cl__card.version || card->size != cl__card.size) continue;
            if (search->wanted != NULL && search->wanted != card->own) continue;
            search->found = card->own;
            cl__note_name(search, object);
            return 1;
        }
    }
    return 0;
}

CL__FN struct cl__process *cl__look_for(struct cl__process *wanted, char *name) {
    struct cl__search search = {wanted, NULL, name};
    if (name != NULL) name[0] = '\0';
    cl__os_dl_iterate_phdr(cl__look_at, &search);
    return search.found != NULL ? search.found : &cl__own;
}

/* What all objects of this process use. */
CL__FN struct cl__process *cl__this(void) {
    struct cl__process *agreed = __atomic_load_n(&cl__agreed, __ATOMIC_ACQUIRE);
    return agreed != NULL ? agreed : cl__look_for(NULL, NULL);
}

/* An object that is there, and that dlclose(3) does not take away from here on; NULL: the program, or there is no such. */
CL__FN void *cl__keep_object(const char *name) {
    return name[0] != '\0' && cl__weak_dlopen ? cl__weak_dlopen(name, RTLD_LAZY | CL__RTLD_NOLOAD) : NULL;
}

/* Before the first use that makes anything. What all use stays, and so does the code of this object, which the watch
 * runs. The object that was found might be gone before it is kept. */
CL__FN void cl__agree(void) {
    char name[CL__NAME_ROOM];
    struct cl__process *agreed;
    (void)cl__look_for(&cl__own, name);
    (void)cl__keep_object(name);
    do {
        agreed = cl__look_for(NULL, name);
        (void)cl__keep_object(name);
    } while (cl__look_for(NULL, NULL) != agreed);
    __atomic_store_n(&cl__agreed, agreed, __ATOMIC_RELEASE);
}

CL__FN int cl__look_at_library(void *given, size_t size, void *into) {
    const struct cl__object *object = (const struct cl__object *)given;
    const char *file = object->name != NULL ? strrchr(object->name, '/') : NULL;
    (void)size;
    if (file == NULL || strncmp(file, "/libcluster.so", 14) != 0) return 0;
    cl__note_name((struct cl__search *)into, object);
    return 1;
}

/* The library, if the program or another plugin has brought it into the process. */
CL__FN void *cl__library_here(void) {
    char name[CL__NAME_ROOM] = "";
    struct cl__search search = {NULL, NULL, name};
    cl__os_dl_iterate_phdr(cl__look_at_library, &search);
    return cl__keep_object(name);
}

/* Whether this is the process that made the page. */
CL__FN int cl__is_member(unsigned char *page) {
    if (!__atomic_load_n(page, __ATOMIC_RELAXED)) return 0;
    return cl__this()->unwiped == 0 || cl__this()->unwiped == (int)getpid();
}

/* The library, once it is loaded. */
CL__FN int cl__loaded(void) { return __atomic_load_n(&cl__this()->library.loaded, __ATOMIC_ACQUIRE); }

/* Remembers whose sentence cl_last_error has to return. */
CL__FN int cl__from_library(int result) {
    if (result < 0) cl__error.in_library = 1;
    return result;
}

CL__FN const char *cl_last_error(void) {
    if (cl__error.in_library) return cl__this()->library.last_error();
    return cl__error.sentence != NULL ? cl__error.sentence : "";
}

/* -- Descriptors, and waiting for them ----------------------------------------------------------------------------- */

CL__FN void cl__close_fd(int fd) {
    if (fd >= 0) close(fd); /* not again after EINTR: another thread may have the number by then */
}

CL__FN void cl__ring(int eventfd) {
    unsigned long long one = 1;
    if (eventfd >= 0 && write(eventfd, &one, sizeof one) < 0) return; /* full, so readable already */
}

/* Sleeps for 1, 2, 4 ... 100 ms: no readiness tells when what is short comes back. */
CL__FN void cl__pause(int failures) {
    long time[2] = {0, 1000000L * (failures < 7 ? 1 << failures : 100)};
    cl__os_syscall(SYS_nanosleep, time, NULL);
}
CL__FN int cl__is_short_of_memory(int code) { return code == ENOMEM || code == ENOBUFS; }

/* poll(2), with a pause where memory is short, so that a caller who waits again does not spin. */
CL__FN int cl__poll(struct pollfd *fds, int count, int timeout_ms) {
    int ready = poll(fds, (nfds_t)count, timeout_ms);
    if (ready < 0 && cl__is_short_of_memory(errno)) cl__pause(4);
    return ready;
}

/* Waits for `events` on the first, or until the second is readable; -1: none. May return early. */
CL__FN int cl__wait(int first, int events, int second, int timeout_ms) {
    struct pollfd fds[2] = {{first, (short)events, 0}, {second, POLLIN, 0}};
    return cl__poll(fds, 2, timeout_ms);
}

/* No descriptor of ours stays on 0, 1 or 2: a program that was started with these closed writes its messages there, or
 * calls dup2(2). If it cannot be moved, a descriptor of ours is closed, with errno set, and a connection stays. `flag`:
 * FD_CLOEXEC or 0. */
CL__FN int cl__moved(int fd, int flag) {
    return fcntl(fd, flag ? CL__F_DUPFD_CLOEXEC : F_DUPFD, 3);
}
CL__FN int cl__high(int fd) {
    if (fd < 0 || fd > 2) return fd;
    int moved = cl__moved(fd, FD_CLOEXEC), kept = errno;
    close(fd);
    errno = kept;
    return moved;
}
CL__FN int cl__high_connection(int fd, int flag) {
    int moved = fd < 0 || fd > 2 ? -1 : cl__moved(fd, flag);
    if (moved < 0) return fd;
    close(fd);
    return moved;
}

/* -- Packets ------------------------------------------------------------------------------------------------------- */

/* Receives one packet, without blocking, into `head` and then `body`; its length or -errno. `fds` gets the descriptors
 * it brought, -1 for each that it did not. The control buffer has exactly that room, so none can be left over. */
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
        /* ECONNRESET comes once if the primary died with something of ours unread; what it sent still waits. */
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    for (int i = 0; i < room; i++) fds[i] = -1;
    if (n < 0) return -errno;
    struct cmsghdr *header = fds != NULL ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
    for (int i = 0; i < room; i++) fds[i] = cl__high_connection(fds[i], flags & MSG_CMSG_CLOEXEC);
    return (int)n;
}

/* The same, tried for a quarter of a second while memory is short: a packet left there could be taken for another. */
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

/* The type of a frame of n bytes; 0: it is no frame. Type and zero are 16 bits each, in the host's order. */
CL__FN int cl__type(const unsigned char *frame, int n) {
    unsigned short type = 0;
    if (n >= 8) memcpy(&type, frame, sizeof type);
    return type;
}

CL__FN ino_t cl__pipe_inode(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 && (found.st_mode & CL__S_IFMT) == CL__S_IFIFO ? found.st_ino : 0;
}

/* 1: the primary's process has ended; waits for that. 0: not within that time; -1: that will never be known. */
CL__FN int cl__await_death(int timeout_ms) {
    int n = cl__wait(cl__this()->primary, POLLIN, -1, timeout_ms);
    if (n < 1) return 0;
    /* closefrom(3) in the program closes this descriptor too, and its number may mean anything by now. */
    if (cl__pipe_inode(cl__this()->primary) != cl__this()->pipe) return -1;
    if (cl__this()->pipe == 0 && cl__os_syscall(SYS_pidfd_send_signal, cl__this()->primary, 0, NULL, 0) < 0 &&
        (errno == EBADF || errno == EINVAL))
        return -1; /* signal 0 only checks that it is a pidfd */
    cl__set(&cl__this()->dead, 1);
    return 1;
}

/* A child of this process would keep the address open. Others have a listening socket, too, so it is shut down only when
 * the primary is dead. A socket of the program's (fd:N) is left as it is. */
CL__FN void cl__end_share(struct cl__listener *listener) {
    if (listener->mailbox < 0) return;
    shutdown(listener->mailbox, SHUT_RD);
    if (listener->kind == CL__SHARED && (listener->own || cl__get(&cl__this()->dead)) &&
        (listener->text == NULL || strncmp(listener->text, "fd:", 3) != 0))
        shutdown(listener->socket, SHUT_RD);
}

/* Not left to the watch thread alone: this process may end before that runs, and a child of it go on. Takes no lock,
 * like cl__hold: the caller may be a signal handler. */
CL__FN void cl__end_shares(void) {
    for (int i = 0; i < cl__get(&cl__this()->places); i++) {
        struct cl__listener *listener = &cl__this()->listeners[i];
        if (cl__get(&listener->state) != CL__OPEN) continue;
        cl__add(&listener->users, 1);
        if (cl__get(&listener->state) == CL__OPEN) cl__end_share(listener);
        cl__add(&listener->users, -1);
    }
}

/* Once one call has returned this, all do. A dying process's sockets are closed a moment before it has ended. */
CL__FN int cl__primary_gone(void) {
    int first = !cl__get(&cl__this()->gone);
    cl__set(&cl__this()->gone, 1);
    if (first && !cl__get(&cl__this()->dead)) (void)cl__await_death(100);
    cl__end_shares();
    return cl__say(-EPIPE, "the primary is gone");
}
CL__FN int cl__asked_to_leave(void) { return cl__say(-ESHUTDOWN, "this worker was asked to disconnect"); }

/* Sends one frame to the primary, waiting for room. Async-signal-safe. */
CL__FN int cl__frame(int type, unsigned number, const void *first, size_t first_length, const void *second,
                     size_t second_length) {
    unsigned short kind[2] = {(unsigned short)type, 0};
    struct iovec parts[4] = {{kind, 4}, {&number, 4}, {NULL, first_length}, {NULL, second_length}};
    memcpy(&parts[2].iov_base, &first, sizeof first); /* sendmsg(2) does not write there */
    memcpy(&parts[3].iov_base, &second, sizeof second);
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = parts;
    message.msg_iovlen = 4;
    for (int failures = 0;; failures++) {
        if (cl__get(&cl__this()->gone)) return cl__primary_gone();
        if (sendmsg(cl__this()->channel, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return 0;
        if (errno == EPIPE || errno == ECONNRESET) return cl__primary_gone();
        if (errno == EAGAIN) cl__wait(cl__this()->channel, POLLOUT, cl__this()->primary, -1);
        else if (cl__is_short_of_memory(errno)) cl__pause(failures);
        else if (errno != EINTR)
            return cl__say(-errno, "the channel to the primary cannot be used; was its descriptor closed in this process, by "
                                   "closefrom(3) or a close(2) too many?");
    }
}

/* -- The primary's death ------------------------------------------------------------------------------------------- */

/* When the primary dies, whoever polls sees end of file and our calls return -EPIPE. A worker that does neither is
 * ended within a second: a handler or a busy loop must not keep an orphan alive. */
CL__FN void *cl__watch(void *unused) {
    (void)unused;
    int dead = 0;
    while ((dead = cl__await_death(-1)) == 0) poll(NULL, 0, 100);
    if (dead < 0) return NULL;
    cl__set(&cl__this()->gone, 1);
    cl__end_shares();
    shutdown(cl__this()->channel, SHUT_RD);
    shutdown(cl__this()->grants, SHUT_RD);
    poll(NULL, 0, 700);
    /* Connections that nobody took would stay open in a child of this process that has copies of the mailboxes. */
    for (int i = 0; i < cl__get(&cl__this()->places); i++) {
        struct cl__listener *listener = &cl__this()->listeners[i];
        char parcel[8 + sizeof(struct sockaddr_storage)];
        int fd;
        while (cl__get(&listener->state) == CL__OPEN && listener->kind != CL__BOUND &&
               cl__packet_at_once(listener->mailbox, parcel, sizeof parcel, NULL, 0, &fd, 1, MSG_CMSG_CLOEXEC) > 0)
            cl__close_fd(fd);
    }
    raise(SIGKILL);
    return NULL;
}

/* Starts the watch in an order that leaves no gap: until the thread runs, the kernel kills this worker with its
 * primary. Where no thread can be made, it stays at that. */
CL__FN void cl__start_watch(void) {
    sigset_t every, before;
    pthread_attr_t attributes;
    pthread_t thread;
    if (!cl__weak_thread || !cl__weak_stacksize || pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    cl__weak_stacksize(&attributes, 64 * 1024);
    /* The thread inherits the mask, so it never runs a handler of the program's. */
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
    if (!failed) fcntl(cl__this()->lifeline, __F_SETSIG, SIGCONT);
}

/* -- The scoreboard ------------------------------------------------------------------------------------------------ */

/* Maps the page of a file, and closes that; NULL: it cannot be. A file that could still shrink is not mapped: to touch
 * what is gone is SIGBUS. */
CL__FN unsigned char *cl__map(int fd) {
    struct stat found;
    void *page = MAP_FAILED;
    int seals = fd >= 0 ? fcntl(fd, CL__F_GET_SEALS) : -1;
    if (seals > 0 && (seals & CL__F_SEAL_SHRINK) && fstat(fd, &found) == 0 && found.st_size >= 4096)
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cl__close_fd(fd);
    return page != MAP_FAILED ? (unsigned char *)page : NULL;
}

/* This worker's page; NULL in a child made by fork(2), which counts nothing. */
CL__FN unsigned char *cl__board(void) {
    unsigned char *page = __atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE);
    return page != NULL && cl__is_member(page) ? cl__this()->board : NULL;
}

/* Shows that this worker has looked for connections, and whether it has taken one. No system call. The beat is no
 * count: of two threads that meet here one may go unseen. */
CL__FN void cl__show(int taken) {
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2 /* elsewhere this would need a library */
    unsigned char *board = cl__board();
    if (board == NULL) return;
    unsigned long long *count = (unsigned long long *)(void *)(board + 64), *beat = count + 1;
    if (taken) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    __atomic_store_n(beat, __atomic_load_n(beat, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
#else
    (void)taken;
#endif
}

/* -- A group's signals, as in core/src/sys/worker_signals.rs, which says why --------------------------------------- */

#if defined(SO_PEERCRED)
#define CL__SO_PEERCRED SO_PEERCRED
#elif defined(__powerpc__)
#define CL__SO_PEERCRED 21
#else
#define CL__SO_PEERCRED 17
#endif

/* glibc's struct sigaction, which it hides under -std=c99. */
struct cl__action {
#if defined(__mips__)
    int flags;
    void (*handler)(int, void *, void *);
    sigset_t mask;
#elif defined(__s390x__)
    void (*handler)(int, void *, void *);
    int reserved, flags;
    void (*restorer)(void);
    sigset_t mask;
#else
    void (*handler)(int, void *, void *);
    sigset_t mask;
    int flags;
    void (*restorer)(void);
#endif
    int room[4];
};
enum { CL__SIGHUP = 1, CL__SA_FLAGS = 0x10000000 | 0x08000000 | 4 }; /* SA_RESTART, SA_ONSTACK, SA_SIGINFO */
#if defined(__mips__)
#define CL__SIG_UNBLOCK 2
#else
#define CL__SIG_UNBLOCK 1
#endif

CL__FN int cl__held(int index) { return index == 0 ? SIGTERM : index == 1 ? SIGINT : CL__SIGHUP; }

/* Asks the primary to be disconnected; 0: there is no channel. Async-signal-safe, and leaves last errors alone. */
CL__FN int cl__ask_to_leave(void) {
    unsigned short frame[4] = {CL__DISCONNECT, 0, 0, 0};
    const unsigned by_signal = 1;
    memcpy(frame + 2, &by_signal, sizeof by_signal);
    for (;;) {
        if (send(cl__this()->channel, frame, sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return 1;
        if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return 1;
        if (errno == EAGAIN) cl__wait(cl__this()->channel, POLLOUT, -1, -1);
        else if (cl__is_short_of_memory(errno)) cl__pause(4);
        else if (errno != EINTR) return 0;
    }
}

CL__FN void cl__on_signal(int number, void *info, void *context) {
    int kept = errno, code = ((int *)info)[2], sender = ((int *)info)[sizeof(void *) == 8 ? 4 : 3];
    int sent = code == 0 || code == -1 || code == -6; /* SI_USER, SI_QUEUE, SI_TKILL */
    (void)context;
    int primary = cl__get(&cl__this()->sender);
    sent = sent && sender == primary && (primary != 0 || __atomic_exchange_n(&cl__this()->outside, 1, __ATOMIC_SEQ_CST));
    if (getpid() != cl__get(&cl__this()->self) || sent || !cl__ask_to_leave()) {
        sigset_t only;
        struct cl__action action;
        memset(&action, 0, sizeof action); /* SIG_DFL */
        memset(&only, 0, sizeof only);
        cl__os_sigaddset(&only, number);
        cl__os_sigaction(number, &action, NULL);
        raise(number);
        cl__os_sigprocmask(CL__SIG_UNBLOCK, &only, NULL);
    }
    errno = kept;
}

CL__FN void cl__hold_signals(void) {
    int primary[3] = {0, 0, 0}; /* struct ucred */
    socklen_t length = sizeof primary;
    struct cl__action action;
    sigset_t ours;
    if (getsockopt(cl__this()->channel, SOL_SOCKET, CL__SO_PEERCRED, primary, &length) != 0) return;
    cl__set(&cl__this()->sender, primary[0]);
    cl__set(&cl__this()->self, (int)getpid());
    memset(&ours, 0, sizeof ours);
    for (int i = 0; i < 3; i++) {
        memset(&action, 0, sizeof action);
        if (cl__os_sigaction(cl__held(i), NULL, &action) != 0 || action.handler != NULL) continue;
        memset(&action, 0, sizeof action);
        action.handler = cl__on_signal;
        action.flags = CL__SA_FLAGS;
        for (int j = 0; j < 3; j++) cl__os_sigaddset(&action.mask, cl__held(j));
        if (cl__os_sigaction(cl__held(i), &action, NULL) == 0) cl__os_sigaddset(&ours, cl__held(i));
    }
    cl__os_sigprocmask(CL__SIG_UNBLOCK, &ours, NULL);
}

/* -- Becoming a worker --------------------------------------------------------------------------------------------- */

/* A variable of the primary's as a number, or -1. Always removed: no program started from here is to believe it. */
CL__FN int cl__variable(const char *name) {
    const char *text = getenv(name);
    char *end = NULL;
    long value = text != NULL && text[0] >= '0' && text[0] <= '9' ? strtol(text, &end, 10) : -1;
    if (value < 0 || *end != '\0' || value > 0x7fffffff) value = -1;
    if (text != NULL) cl__os_unsetenv(name);
    return (int)value;
}

/* Whether a HELLO for just this worker waits in the descriptor. "Nothing there" is believed only the second time: a
 * worker that takes itself for none would start workers. */
CL__FN int cl__is_channel(int fd, int id, int slot, unsigned char *hello) {
    struct sockaddr_storage name;
    socklen_t name_length = sizeof name, type_length = sizeof(int);
    int type = 0;
    if (getsockname(fd, (struct sockaddr *)&name, &name_length) != 0 || name.ss_family != AF_UNIX) return 0;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) != 0 || type != SOCK_SEQPACKET) return 0;
    int n = cl__packet(fd, hello, 64, NULL, 0, NULL, 0, MSG_PEEK);
    if (n == -EAGAIN) n = cl__packet(fd, hello, 64, NULL, 0, NULL, 0, MSG_PEEK);
    return n == 40 && cl__type(hello, 40) == CL__HELLO && memcmp(hello + 2, "\0\0\0\0\0\0libclust", 14) == 0 &&
           cl__number(hello + 20) == (unsigned)id && cl__number(hello + 24) == (unsigned)slot;
}

/* Takes what HELLO brought and answers it. 0, or -errno and `step` says what failed; 1: another process has taken it.
 * From the HELLO on this process is a worker for good, and each of its calls says what failed here. */
CL__FN int cl__join(int fd, const unsigned char *seen) {
    unsigned char hello[64];
    int fds[4];
    unsigned online[2] = {CL__PROTOCOL, (unsigned)getpid()};
    cl__this()->step = "receiving the hello";
    int n = cl__packet(fd, hello, sizeof hello, NULL, 0, fds, 4, MSG_CMSG_CLOEXEC);
    if (n == -EAGAIN) n = cl__packet(fd, hello, sizeof hello, NULL, 0, fds, 4, MSG_CMSG_CLOEXEC);
    /* Another process may hold the channel and be as quick; only one of the two receives the HELLO. */
    if (n == -EAGAIN || (n >= 0 && (n != 40 || memcmp(seen, hello, 40) != 0))) {
        for (int i = 0; n >= 0 && i < 4; i++) cl__close_fd(fds[i]);
        return 1;
    }
    if (n < 0) return n;
    if (fds[2] < 0) {
        cl__this()->step = "receiving the hello, which came without its descriptors, as the process has too many open";
        for (int i = 0; i < 4; i++) cl__close_fd(fds[i]);
        return -EMFILE;
    }
    cl__this()->channel = fd;
    cl__this()->grants = fds[0];
    cl__this()->lifeline = fds[1];
    cl__this()->primary = fds[2];
    cl__this()->step = "making the channel close-on-exec";
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        int code = -errno;
        for (int i = 0; i < 4; i++) cl__close_fd(fds[i]);
        return code;
    }
    cl__this()->pipe = cl__pipe_inode(fds[2]);
    cl__this()->version = cl__number(hello + 16);
    if (cl__this()->version == CL__PROTOCOL) cl__this()->board = cl__map(fds[3]);
    else cl__close_fd(fds[3]);
    cl__start_watch();
    unsigned offers = (unsigned)CL__OFFERS_OPTIONS | (unsigned)CL__OFFERS_ROTATION | (unsigned)CL__OFFERS_HAND_BACK;
    (void)cl__frame(CL__ONLINE, offers, online, sizeof online, hello + 32, 8); /* with the nonce of the HELLO */
    return 0;
}

/* Becomes the worker that the environment names, if the descriptor named there proves to be its channel. Otherwise
 * nothing changes, but a process whose environment says that it was started as a worker may start none. */
CL__FN void cl__adopt(void) {
    int told = getenv("CL_WORKER_ID") != NULL || getenv("CL_WORKER_SLOT") != NULL || getenv("CL_CHANNEL_FD") != NULL;
    int id = cl__variable("CL_WORKER_ID"), slot = cl__variable("CL_WORKER_SLOT"), fd = cl__variable("CL_CHANNEL_FD");
    int holds = cl__variable("CL_WORKER_SIGNALS") == 1;
    int was = cl__variable("CL_WORKER_PROCESS");
    unsigned char seen[64];
    char own[16];
    if (getauxval(AT_SECURE)) return;
    /* A worker that has replaced its program by exec(3). A child of it has another pid. */
    if (!told && was == (int)getpid()) cl__this()->stray = 2;
    if (!told) return;
    cl__this()->stray = 1;
    if (id < 1 || slot < 0 || fd < 0 || !cl__is_channel(fd, id, slot, seen)) return;
    int code = cl__join(fd, seen);
    if (code > 0) return;
    cl__this()->stray = 0;
    snprintf(own, sizeof own, "%d", (int)getpid());
    cl__os_setenv("CL_WORKER_PROCESS", own, 1);
    if (code < 0)
        snprintf(cl__this()->why, sizeof cl__this()->why, "this worker could not join its primary: %s: %s", cl__this()->step,
                 cl_strerror(code));
    else if (cl__this()->version != CL__PROTOCOL) {
        code = CL_EVERSION;
        snprintf(cl__this()->why, sizeof cl__this()->why,
                 "the primary speaks version %u of the protocol and this worker version %d", cl__this()->version, CL__PROTOCOL);
    }
    cl__this()->unjoined = code;
    cl__this()->slot = slot;
    cl__this()->worker_id = id;
    if ((code == 0 || code == CL_EVERSION) && holds) cl__hold_signals();
}

CL__FN int cl__begin(void) {
    pthread_mutex_lock(&cl__this()->begin);
    if (cl__this()->member == NULL) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | CL__MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) {
            pthread_mutex_unlock(&cl__this()->begin);
            return cl__say(-ENOMEM, "no memory is left");
        }
        if (cl__os_madvise(page, 4096, CL__MADV_WIPEONFORK) != 0) cl__this()->unwiped = (int)getpid();
        *(unsigned char *)page = 1;
        cl__adopt();
        __atomic_store_n(&cl__this()->member, (unsigned char *)page, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&cl__this()->begin);
    return 0;
}

/* What every call does first: finds out once what this process is, and at the price of one memory read whether it still
 * is that process. getpid(2) would be a system call for each connection. */
CL__FN int cl__enter(void) {
    if (__atomic_load_n(&cl__agreed, __ATOMIC_ACQUIRE) == NULL) cl__agree();
    unsigned char *page = __atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE);
    if (page == NULL) return cl__begin();
    if (cl__is_member(page)) return 0;
    return cl__say(-ECHILD, "this process was made by fork(2) or daemon(3) after the first cl_ call, not by cl_fork, and is no member "
                            "of the cluster; call daemon(3) before the first cl_ call, or let the service manager put the program "
                            "into the background");
}

/* The same for what only a worker can do. */
CL__FN int cl__enter_worker(void) {
    int code = cl__enter();
    if (code == 0 && cl__this()->worker_id == 0) return cl__say(-EPERM, "only a worker can do this");
    return code == 0 && cl__this()->unjoined < 0 ? cl__say(cl__this()->unjoined, cl__this()->why) : code;
}

#define CL__WHO(name, value) \
    CL__FN int cl__##name(void) { \
        int code = cl__enter(); \
        return code < 0 ? code : (value); \
    }
CL__WHO(is_primary, cl__this()->worker_id == 0)
CL__WHO(is_worker, cl__this()->worker_id != 0)
CL__WHO(worker_id, cl__this()->worker_id)
CL__WHO(worker_slot, cl__this()->worker_id != 0 ? cl__this()->slot : -1)
#undef CL__WHO

/* -- Messages ------------------------------------------------------------------------------------------------------ */

CL__FN int cl__send(const void *data, size_t length) {
    int code = cl__enter_worker();
    if (code < 0) return code;
    if (data == NULL && length > 0) return cl__say(-EINVAL, "the message is NULL");
    if (length > CL_MESSAGE_MAX) return cl__fail(-EMSGSIZE, "a message has at most %d bytes", CL_MESSAGE_MAX);
    return cl__frame(CL__MESSAGE, 0, data, length, NULL, 0);
}

/* -ESHUTDOWN once the primary has asked this worker to disconnect, -EPIPE once it is gone; otherwise whether an answer
 * waits. The request comes on the channel, between the messages, and on the grants socket. There nobody takes it, so it
 * stays readable for every thread. */
CL__FN int cl__leaving(void) {
    unsigned char head[8];
    if (cl__get(&cl__this()->leaving)) return cl__asked_to_leave();
    int n = cl__packet(cl__this()->grants, head, sizeof head, NULL, 0, NULL, 0, MSG_PEEK);
    if (n == 0) return cl__primary_gone();
    if (cl__type(head, n) != CL__DISCONNECT && cl__type(head, n) != CL__RETURNS) return n > 0;
    cl__set(&cl__this()->leaving, 1);
    return cl__asked_to_leave();
}

/* Takes the next message out of the channel: its frame's length, 0: none, or a code. One that does not fit stays. */
CL__FN int cl__next_message(void *buffer, size_t capacity) {
    unsigned char head[8];
    int n, type;
    pthread_mutex_lock(&cl__this()->reading);
    for (;;) {
        n = cl__packet(cl__this()->channel, head, sizeof head, NULL, 0, NULL, 0, MSG_PEEK | MSG_TRUNC);
        type = cl__type(head, n);
        if (n <= 0 || type == CL__MESSAGE) break;
        recv(cl__this()->channel, head, sizeof head, MSG_DONTWAIT);
        if (type == CL__DISCONNECT) cl__set(&cl__this()->leaving, 1);
    }
    if (n == 0) n = cl__primary_gone();
    else if (n == -EAGAIN) n = 0;
    else if (n < 0) cl__fail(n, "the channel to the primary: %s", cl_strerror(n));
    else if ((size_t)n - 8 > capacity) n = cl__fail(-EMSGSIZE, "the next message has %d bytes; it is kept", n - 8);
    else n = cl__packet(cl__this()->channel, head, sizeof head, buffer, capacity, NULL, 0, 0);
    pthread_mutex_unlock(&cl__this()->reading);
    return n;
}

CL__FN long long cl__now_ms(void) {
    long now[2] = {0, 0};
    cl__os_clock_gettime(CL__CLOCK_MONOTONIC, now);
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
        cl__wait(cl__this()->channel, POLLIN, cl__this()->grants, left);
    }
}

/* What our own epolls tell of a descriptor. */
CL__FN unsigned long long cl__data_of(int fd) {
    epoll_data_t data;
    memset(&data, 0, sizeof data);
    data.fd = fd;
    return data.u64;
}

/* 0: from here on `epoll` tells `data` of a descriptor. */
CL__FN int cl__watch_with(int epoll, int fd, unsigned events, unsigned long long data) {
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = events;
    event.data.u64 = data;
    return epoll < 0 || (fd >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0);
}
CL__FN int cl__watch_for(int epoll, int fd, unsigned events) { return cl__watch_with(epoll, fd, events, cl__data_of(fd)); }

/* Both sockets in one descriptor: it stays readable when the request to leave was taken out of the channel. */
CL__FN int cl__channel_fd(void) {
    int code = cl__enter_worker(), epoll = -1;
    if (code < 0) return code;
    pthread_mutex_lock(&cl__this()->reading);
    if (cl__this()->news == 0) {
        epoll = cl__high(epoll_create1(EPOLL_CLOEXEC));
        if (cl__watch_for(epoll, cl__this()->channel, EPOLLIN) || cl__watch_for(epoll, cl__this()->grants, EPOLLIN)) {
            code = cl__os("epoll");
            cl__close_fd(epoll);
        } else {
            cl__this()->news = epoll;
        }
    }
    pthread_mutex_unlock(&cl__this()->reading);
    return code < 0 ? code : cl__this()->news;
}

CL__FN int cl__set_load(unsigned load) {
    int code = cl__enter_worker();
    if (code < 0) return code;
    if (cl__this()->board == NULL) return cl__frame(CL__LOAD, 0, &load, sizeof load, NULL, 0);
    unsigned *told = (unsigned *)(void *)(cl__this()->board + 80), *times = told + 1;
    __atomic_store_n(told, load, __ATOMIC_RELAXED);
    __atomic_fetch_add(times, 1, __ATOMIC_RELEASE);
    return 0;
}

/* A frame that every primary knows follows: one that sleeps looks at the page then. */
CL__FN int cl__ready(void) {
    int code = cl__enter();
    if (code < 0 || cl__this()->worker_id == 0 || (code = cl__enter_worker()) < 0) return code;
    if (cl__this()->board == NULL)
        return cl__say(-ENOMEM, "there was no memory for this worker's page of the scoreboard, by which it says so");
    __atomic_store_n((unsigned *)(void *)(cl__this()->board + 88), 1, __ATOMIC_RELEASE);
    unsigned load = __atomic_load_n((unsigned *)(void *)(cl__this()->board + 80), __ATOMIC_RELAXED);
    return cl__frame(CL__LOAD, 0, &load, sizeof load, NULL, 0);
}

/* Where the program counts on this worker's page. Requests and errors are counts of 64 bits at 128 and 136; those that
 * are under way stand at 144, and how long the others took at 192, by the power of two of their microseconds. */
CL__FN int cl__count(int counter, long long by) {
    int code = cl__enter();
    if (code < 0) return code;
    if (counter < CL_COUNT_REQUESTS || counter > CL_COUNT_ACTIVE) return cl__fail(-EINVAL, "there is no counter %d", counter);
    if (counter != CL_COUNT_ACTIVE && by < 0) return cl__say(-EINVAL, "only CL_COUNT_ACTIVE may fall");
    if (cl__this()->worker_id == 0 || (code = cl__enter_worker()) < 0) return code;
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
    unsigned char *board = cl__board();
    if (board == NULL) return 0;
    if (counter == CL_COUNT_ACTIVE)
        __atomic_fetch_add((unsigned *)(void *)(board + 144), (unsigned)by, __ATOMIC_RELAXED);
    else
        __atomic_fetch_add((unsigned long long *)(void *)(board + 128) + (counter - 1), (unsigned long long)by, __ATOMIC_RELAXED);
#endif
    return 0;
}

CL__FN int cl__took(unsigned microseconds) {
    int code = cl__count(CL_COUNT_REQUESTS, 1), bucket = 0;
    if (code < 0) return code;
    while (bucket < 23 && microseconds >> bucket > 1) bucket++;
    unsigned char *board = cl__board();
    if (board != NULL) __atomic_fetch_add((unsigned *)(void *)(board + 192) + bucket, 1, __ATOMIC_RELAXED);
    return 0;
}

CL__FN int cl__disconnect(void) {
    int code = cl__enter();
    /* A primary has workers only through the library. */
    if (code < 0 || cl__this()->worker_id == 0) return code;
    code = cl__enter_worker();
    return code < 0 ? code : cl__frame(CL__DISCONNECT, 0, NULL, 0, NULL, 0);
}

/* -- Addresses ----------------------------------------------------------------------------------------------------- */

struct cl__address {
    int family; /* AF_UNIX; AF_INET, AF_INET6; AF_UNSPEC: all addresses; -1: the descriptor `inherited` */
    int datagram, port, inherited;
    socklen_t length; /* of `name`; 0 for AF_UNSPEC, and for a path too long for it */
    struct sockaddr_storage name;
    char text[4097]; /* as it travels: host numeric, path absolute */
};
#define CL__FORMS \
    "write host:port, :port, [v6]:port, unix:/path, unix:@name, fd:N, or udp: before one of the first three"
#define CL__BAD(...) return cl__fail(-EINVAL, __VA_ARGS__)

/* The primary ends a worker that sends text which is not UTF-8. */
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

/* Fills in family and name. Waits only for a host name. */
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

/* -- Sockets that this process binds itself ------------------------------------------------------------------------ */

/* Whether a socket file is a dead server's. The probe is of another type: a live server's socket then returns
 * EPROTOTYPE, even before it listens, and gets no connection into its queue. The file is held by descriptor, so that
 * the one probed is the one looked at; a symbolic link or another kind of file stays. */
CL__FN int cl__is_stale(const char *path) {
    struct sockaddr_un un;
    struct stat found;
    int stale = 0, probe = -1, file = cl__high(open(path, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC));
    if (file >= 0 && fstat(file, &found) == 0 && (found.st_mode & CL__S_IFMT) == CL__S_IFSOCK) {
        probe = cl__high(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        memset(&un, 0, sizeof un);
        un.sun_family = AF_UNIX;
        snprintf(un.sun_path, sizeof un.sun_path, "/proc/self/fd/%d", file);
        if (access(un.sun_path, F_OK) != 0) strncpy(un.sun_path, path, sizeof un.sun_path - 1); /* no /proc */
        stale = probe >= 0 && connect(probe, (struct sockaddr *)&un, sizeof un) != 0 && errno == ECONNREFUSED;
    }
    cl__close_fd(probe);
    cl__close_fd(file);
    return stale;
}

/* Binds to a path and listens; 0 or -errno. The directory is locked from the probe to listen(2), so that two servers
 * that find the same dead file cannot remove each other's new one. Anybody who can read a directory can lock it, so the
 * lock is waited for a second at most; without it no file is taken for dead. */
CL__FN int cl__bind_file(int socket, struct cl__address *at, unsigned flags, int backlog,
                         struct cl__listener *listener) {
    mode_t mode = (flags & CL_LISTEN_READABLE_ALL ? 0444 : 0) | (flags & CL_LISTEN_WRITABLE_ALL ? 0222 : 0);
    char through[64], *path = at->text + 5, *name = strrchr(path, '/');
    struct stat found;
    *name = '\0';
    int code = 0, file = -1, locked = 0, directory = cl__high(open(name == path ? "/" : path, O_RDONLY | __O_CLOEXEC));
    *name++ = '/';
    if (directory < 0) return -errno;
    if (at->length == 0) {
        /* sun_path holds 107 bytes (unix(7)); a longer path goes through the open directory. */
        struct sockaddr_un *un = (struct sockaddr_un *)&at->name;
        at->length = sizeof *un;
        if (strlen(name) > sizeof un->sun_path - 32) code = -ENAMETOOLONG;
        else snprintf(un->sun_path, sizeof un->sun_path, "/proc/self/fd/%d/%s", directory, name);
    }
    /* The file gets this mode less the umask; what the flags ask for is added below. */
    if (code == 0 && cl__os_fchmod(socket, 0755) != 0) code = -errno;
    for (int i = 0; i < 100 && !locked; i++)
        if (!(locked = flock(directory, CL__LOCK_EX_NB) == 0)) poll(NULL, 0, 10);
    if (code == 0 && bind(socket, (struct sockaddr *)&at->name, at->length) != 0) {
        code = -errno;
        if (code == -EADDRINUSE && locked && cl__is_stale(path) && unlink(path) == 0)
            code = bind(socket, (struct sockaddr *)&at->name, at->length) != 0 ? -errno : 0;
    }
    if (code == 0) {
        /* The inode is held while its mode is set, and must be a socket: what is swapped in is not touched. */
        int ours = 0;
        file = cl__high(open(path, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC));
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
    cl__close_fd(directory); /* releases the lock */
    return code;
}

/* A copy of the socket that the program has open under this number; or -errno, with its sentence. */
CL__FN int cl__inherit(int number, struct cl__address *at) {
    int listening = 0, type = 0, copy;
    socklen_t length = sizeof(int), type_length = sizeof(int);
    if (getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0)
        return cl__fail(-errno, "descriptor %d: %s", number, cl_strerror(-errno));
    struct sockaddr_in6 name; /* its port is where that of sockaddr_in is */
    socklen_t name_length = sizeof name;
    memset(&name, 0, sizeof name);
    int named = getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &type_length) == 0 &&
                getsockname(number, (struct sockaddr *)&name, &name_length) == 0;
    at->datagram = named && type == SOCK_DGRAM && (name.sin6_family == AF_INET || name.sin6_family == AF_INET6);
    if (!named || (type != SOCK_STREAM && !at->datagram))
        return cl__fail(-EINVAL, "descriptor %d is a socket, but no stream socket and no udp socket", number);
    if (at->datagram && name.sin6_port == 0)
        return cl__fail(-EINVAL, "descriptor %d is a socket that is not bound; call bind(2) on it first", number);
    if (!listening && !at->datagram)
        return cl__fail(-EINVAL, "descriptor %d is a socket that does not listen; call listen(2) on it first", number);
    copy = fcntl(number, CL__F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return cl__fail(-errno, "descriptor %d: %s", number, cl_strerror(-errno));
    if (!at->datagram) fcntl(copy, F_SETFL, fcntl(copy, F_GETFL) | O_NONBLOCK);
    return copy;
}

CL__FN int cl__check_value(const void *value, socklen_t length) {
    if (value == NULL) return cl__say(-EINVAL, "the value of a socket option is NULL");
    if (length <= 256) return 0;
    return cl__fail(-EINVAL, "the value of a socket option has %u bytes; at most 256 are possible", (unsigned)length);
}

CL__FN int cl__of_another(const char *address) {
    return cl__fail(-EOPNOTSUPP, "\"%s\" is another's socket, whose options are its maker's; set them before it is "
                                 "handed over", address);
}

/* Sets what accepted connections inherit, before listen(2): the size of a buffer decides what a handshake offers
 * (tcp(7)). 0, or -errno and `*failed` is the option that the kernel refused. */
CL__FN int cl__give_options(int fd, const cl_listen_options_t *options, int *failed) {
    for (*failed = 0; *failed < (int)options->option_count; ++*failed) {
        const cl_socket_option_t *one = &options->options[*failed];
        if (setsockopt(fd, one->level, one->name, one->value, one->length) != 0) return -errno;
    }
    *failed = -1;
    return 0;
}

/* A socket bound to a name, or -errno. A listening one never blocks; a datagram socket is the program's, and blocks. */
CL__FN int cl__bind(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener,
                    int *failed) {
    int backlog = options->backlog > 0 ? options->backlog : 511, on = 1, code = 0;
    int kind = (at->datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC;
    if (!at->datagram) kind |= SOCK_NONBLOCK;
    int fd = cl__high(socket(at->family, kind, 0));
    if (fd < 0) return -errno;
    if (at->family == AF_UNIX && at->text[5] != '@') {
        code = cl__give_options(fd, options, failed);
        if (code == 0) code = cl__bind_file(fd, at, options->flags, backlog, listener);
    } else {
        /* Set either way, so that the host's bindv6only setting does not decide. */
        int v6only = (options->flags & CL_LISTEN_IPV6ONLY) != 0;
        if (at->family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
        /* For datagrams SO_REUSEADDR would let a stranger of the same user take them over. */
        if (at->family != AF_UNIX && !at->datagram) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (options->flags & CL_LISTEN_REUSEPORT && setsockopt(fd, SOL_SOCKET, CL__SO_REUSEPORT, &on, sizeof on) != 0)
            code = -errno;
        if (code == 0 && bind(fd, (struct sockaddr *)&at->name, at->length) != 0) code = -errno;
        if (code == 0) code = cl__give_options(fd, options, failed);
        if (code == 0 && !at->datagram && listen(fd, backlog) != 0) code = -errno;
    }
    if (code == 0) return fd;
    close(fd);
    return code;
}

CL__FN int cl__listen_alone(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener) {
    int code, failed = -1, anywhere = at->family == AF_UNSPEC, has_file = at->family == AF_UNIX && at->text[5] != '@';
    if (options->flags & (CL_LISTEN_READABLE_ALL | CL_LISTEN_WRITABLE_ALL) && !has_file)
        return cl__fail(-EINVAL, "\"%s\" has no file that could be made readable or writable for all", at->text);
    if (at->family == -1 && options->option_count > 0)
        return cl__of_another(at->text);
    if (at->family == -1) {
        code = cl__inherit(at->inherited, at);
        if (code < 0) return code;
    } else {
        if (anywhere && (code = cl__look_up(at, "::", AF_INET6)) < 0) return code;
        code = cl__bind(at, options, listener, &failed);
        if (anywhere && !(options->flags & CL_LISTEN_IPV6ONLY) && (code == -EAFNOSUPPORT || code == -EADDRNOTAVAIL) &&
            cl__look_up(at, "0.0.0.0", AF_INET) == 0)
            code = cl__bind(at, options, listener, &failed);
        if (code < 0 && failed >= 0)
            return cl__fail(code, "setsockopt of the option %d of level %d for %s: %s", options->options[failed].name,
                            options->options[failed].level, at->text, cl_strerror(code));
        if (code < 0) return cl__fail(code, "bind %s: %s", at->text, cl_strerror(code));
    }
    listener->socket = code;
    cl__set(&listener->fd, code); /* cl__hold looks at every place that was ever used */
    listener->kind = at->datagram ? CL__DATAGRAM : CL__BOUND;
    listener->name_length = sizeof listener->name;
    getsockname(code, (struct sockaddr *)&listener->name, &listener->name_length);
    return 0;
}

/* -- The line of those who wait at a socket that all have, as in core/src/worker/line.rs and core/src/tally.rs ----- */

/* From here on only this thread changes the place in the line. 0: another does, and `patient` is 0. */
CL__FN int cl__hold_line(struct cl__listener *listener, int patient) {
    while (__atomic_exchange_n(&listener->lining, 1, __ATOMIC_ACQUIRE)) {
        if (!patient) return 0;
        sched_yield();
    }
    return 1;
}
CL__FN void cl__let_line(struct cl__listener *listener) { __atomic_store_n(&listener->lining, 0, __ATOMIC_RELEASE); }

/* 0: its entry is in the epoll `place`, or still is, as it could not be deleted. `lining` is held. */
CL__FN int cl__stand(struct cl__listener *listener) {
    int failed = cl__watch_with(listener->place, listener->socket, EPOLLIN | EPOLLEXCLUSIVE, listener->line_data);
    if (failed && errno == EEXIST) failed = 0;
    cl__set(&listener->fallen, failed != 0);
    cl__set(&listener->line, failed ? -1 : listener->place);
    return failed;
}

/* 0: it waits in this epoll from here on, at the end of the line, and nowhere else. Otherwise, with errno, it waits where
 * it did. */
CL__FN int cl__enter_line(struct cl__listener *listener, int epoll, unsigned long long data) {
    (void)cl__hold_line(listener, 1);
    int before = listener->place;
    unsigned long long told = listener->line_data;
    if (before >= 0) epoll_ctl(before, EPOLL_CTL_DEL, listener->socket, NULL);
    listener->place = epoll;
    listener->line_data = data;
    if (cl__get(&listener->waits)) {
        cl__let_line(listener);
        return 0;
    }
    int failed = cl__stand(listener), why = errno;
    if (failed) {
        cl__set(&listener->fallen, 0);
        listener->place = before;
        listener->line_data = told;
        if (before >= 0) (void)cl__stand(listener);
    }
    cl__let_line(listener);
    errno = why;
    return failed;
}

CL__FN void cl__leave_line(struct cl__listener *listener) {
    (void)cl__hold_line(listener, 1);
    if (listener->place >= 0) epoll_ctl(listener->place, EPOLL_CTL_DEL, listener->socket, NULL);
    listener->place = -1;
    cl__set(&listener->line, -1);
    cl__set(&listener->fallen, 0);
    cl__let_line(listener);
}

/* The primary learns whether it accepts in rotation, if that is something new. While `fallen` or in line only a thread
 * that uses the listener calls this, so no close comes before. */
CL__FN int cl__tell_place(struct cl__listener *listener) {
    int within = cl__get(&listener->line) >= 0;
    if (listener->page == NULL || __atomic_exchange_n(&listener->seated, within, __ATOMIC_SEQ_CST) == within) return 0;
    return cl__frame(within ? CL__SEAT : CL__UNSEAT, 0, &listener->number, sizeof listener->number, NULL, 0);
}

/* The primary has said that this worker has turns from here on: it enters where it was to. */
CL__FN void cl__begin_turns(struct cl__listener *listener) {
    (void)cl__hold_line(listener, 1);
    int waited = __atomic_exchange_n(&listener->waits, 0, __ATOMIC_SEQ_CST);
    if (waited && listener->place >= 0) (void)cl__stand(listener);
    cl__let_line(listener);
    if (waited) (void)cl__tell_place(listener); /* without a primary the next call says so */
}

/* 1: it has fallen out of the line, and there is memory now, so it stands there again. */
CL__FN int cl__come_back(struct cl__listener *listener) {
    (void)cl__hold_line(listener, 1);
    int back = listener->place >= 0 && listener->line < 0 && !cl__get(&listener->waits) && cl__stand(listener) == 0;
    cl__let_line(listener);
    return back;
}

/* To the end of the line, in this order: an entry that is deleted takes a wake-up for another thread with it, and one that
 * is added looks whether somebody waits. */
CL__FN void cl__go_behind(struct cl__listener *listener) {
    if (listener->page == NULL || !cl__hold_line(listener, 0)) return; /* another thread does the same */
    if (listener->line >= 0) {
        epoll_ctl(listener->line, EPOLL_CTL_DEL, listener->socket, NULL);
        if (cl__stand(listener)) (void)cl__stand(listener);
    }
    cl__let_line(listener);
}

/* Counts a connection that was taken. True: by that this worker has had its part, and others come first now. One that has
 * fallen far behind, as it was stopped, has no more than 1024 made up for. */
CL__FN int cl__has_had_its_part(struct cl__listener *listener) {
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
    unsigned long long *taken = (unsigned long long *)(void *)listener->page;
    unsigned *parts = (unsigned *)(void *)(listener->page + 64), *round = parts + 1;
    unsigned now = __atomic_load_n(round, __ATOMIC_ACQUIRE);
    if (__atomic_exchange_n(&listener->round, now, __ATOMIC_RELAXED) != now)
        __atomic_store_n(&listener->took, 0, __ATOMIC_RELAXED);
    unsigned long long all = __atomic_add_fetch(taken, 1, __ATOMIC_RELAXED);
    unsigned long long own = __atomic_add_fetch(&listener->took, 1, __ATOMIC_RELAXED);
    unsigned shares = __atomic_load_n(parts, __ATOMIC_RELAXED);
    if (shares == 0) shares = 1;
    unsigned long long mean = all / shares;
    if (mean > 1024 && own < mean - 1024) __atomic_store_n(&listener->took, mean - 1024, __ATOMIC_RELAXED);
    return own >= mean + (all % shares != 0);
#else
    (void)listener;
    return 0;
#endif
}

/* After a call that ended in this result. Who was asked to leave is not woken any more. Who is short of descriptors may
 * have been the only one to be woken, so it wakes the others. */
CL__FN void cl__stand_back(struct cl__listener *listener, int result) {
    if (result == -ESHUTDOWN) {
        cl__leave_line(listener);
        cl__set(&listener->seated, 0); /* the primary does not count on it any more */
    }
    if (result != -EMFILE && result != -ENFILE && !cl__is_short_of_memory(-result)) return;
    cl__go_behind(listener);
    if (cl__get(&listener->line) >= 0) shutdown(listener->socket, SHUT_WR); /* of one that listens it only wakes who waits */
}

/* What the grant of a listener in rotation has brought is put to use. A program that waits by itself may wait for our
 * epoll in one of its own. There an exclusive entry would wake everybody, so it comes in line by cl_listener_watch only. */
CL__FN int cl__take_part(struct cl__listener *listener) {
    if (listener->flags & CL_LISTEN_NONBLOCK) return 0;
    if (cl__enter_line(listener, listener->fd, cl__data_of(listener->socket))) return cl__os("epoll");
    (void)cl__tell_place(listener); /* without a primary the next call says so */
    return 0;
}

/* -- Shares of the primary's addresses ----------------------------------------------------------------------------- */

/* Options and address as one text: a line for each option, then the address. */
CL__FN int cl__write_options(char *text, size_t room, const char *address, const cl_listen_options_t *options) {
    size_t length = 0, need = strlen(address) + 1;
    for (size_t i = 0; i < options->option_count; i++) {
        const cl_socket_option_t *one = &options->options[i];
        if (length + 32 + 2 * one->length + need > room)
            return cl__fail(-EINVAL, "the address and its options have more bytes than the %d that are possible", (int)room - 1);
        length += (size_t)snprintf(text + length, room - length, "%d %d ", one->level, one->name);
        for (socklen_t byte = 0; byte < one->length; byte++)
            length += (size_t)snprintf(text + length, room - length, "%02x", ((const unsigned char *)one->value)[byte]);
        text[length++] = '\n';
    }
    memcpy(text + length, address, need);
    return 0;
}

/* Waits for the answer to the question just sent; its length, or a code with the primary's sentence. `code`: what
 * sending it returned. `asking` is locked, so the next answer is to this question. */
CL__FN int cl__await_answer(int code, unsigned char *answer, int room, int *fds) {
    for (;;) {
        if (code == 0) code = cl__leaving();
        if (code < 0) return code;
        if (code == 0) {
            cl__wait(cl__this()->grants, POLLIN, -1, -1);
            continue;
        }
        int n = cl__packet(cl__this()->grants, answer, (size_t)room - 1, NULL, 0, fds, 3, MSG_CMSG_CLOEXEC);
        if (n < 0) return cl__fail(n, "the primary's answer: %s", cl_strerror(n));
        if (n >= 12 && cl__type(answer, n) == CL__GRANT && cl__number(answer + 4) == cl__this()->asked) {
            answer[n] = '\0';
            if ((code = (int)cl__number(answer + 8)) >= 0) return n;
        }
        for (int i = 0; i < 3; i++) cl__close_fd(fds[i]);
        if (code < 0) return cl__fail(code, "%s", n > 12 ? (char *)answer + 12 : cl_strerror(code));
        code = 0;
    }
}

/* Asks the primary for a share and waits for the answer. */
CL__FN int cl__ask(struct cl__address *at, const cl_listen_options_t *options, struct cl__listener *listener) {
    unsigned asked[3] = {options->flags, (unsigned)options->backlog, (unsigned)listener->index};
    unsigned char grant[544];
    int n, fds[3];
    char text[sizeof at->text];
    int code = cl__write_options(text, sizeof text, at->text, options);
    if (code < 0) return code;
    code = cl__frame(CL__LISTEN, ++cl__this()->asked, asked, sizeof asked, text, strlen(text));
    n = cl__await_answer(code, grant, sizeof grant, fds);
    if (n < 0) return n;
    listener->mailbox = fds[0];
    listener->socket = fds[1];
    listener->page = cl__map(fds[2]);
    if (n < 24 || n > 24 + (int)sizeof listener->name) return cl__say(-EPROTO, "the primary's answer makes no sense");
    listener->number = cl__number(grant + 12);
    listener->granted = 1;
    int passed = cl__number(grant + 16) == CL_MECHANISM_PASSED, turns = cl__number(grant + 16) == CL_MECHANISM_ROTATION;
    if (fds[0] < 0 || (!passed && fds[1] < 0) || (turns && fds[2] < 0))
        return cl__say(-EMFILE, "no descriptor was left for what the primary sent");
    if (turns && listener->page == NULL) { /* nobody could say whose turn it is: the mailbox alone serves it */
        cl__close_fd(listener->socket);
        listener->socket = -1;
        passed = 1;
    }
    listener->name_length = (socklen_t)(n - 24);
    memcpy(&listener->name, grant + 24, (size_t)n - 24);
    listener->own = cl__number(grant + 16) == CL_MECHANISM_KERNEL;
    listener->settable = (cl__number(grant + 20) & CL__SETTABLE) != 0;
    unsigned kind = cl__number(grant + 20) & ~(unsigned)(CL__SETTABLE | CL__WAITS);
    listener->kind = passed ? CL__PASSED : kind == 2 ? CL__DATAGRAM : CL__SHARED;
    cl__set(&listener->waits, (cl__number(grant + 20) & CL__WAITS) != 0);
    cl__set(&listener->fd, passed ? fds[0] : fds[1]);
    /* A datagram socket blocks or not for everybody who has it, so it is left as it is. */
    if (listener->kind != CL__SHARED) return 0;
    fcntl(fds[1], F_SETFL, fcntl(fds[1], F_GETFL) | O_NONBLOCK);
    /* One descriptor to poll for mailbox and socket. For a connection the kernel wakes one worker, not all. */
    cl__set(&listener->fd, cl__high(epoll_create1(EPOLL_CLOEXEC)));
    if (cl__watch_for(listener->fd, fds[0], EPOLLIN) || cl__watch_for(listener->fd, listener->wake, EPOLLIN))
        return cl__os("epoll");
    if (turns) return cl__take_part(listener);
    if (listener->own) return cl__watch_for(listener->fd, fds[1], EPOLLIN | EPOLLEXCLUSIVE) ? cl__os("epoll") : 0;
    return cl__enter_line(listener, listener->fd, cl__data_of(fds[1])) ? cl__os("epoll") : 0;
}

/* -- The table of listeners ---------------------------------------------------------------------------------------- */

/* Gives back what a listener has, and its place in the table. `table` is locked. */
CL__FN void cl__dispose(struct cl__listener *listener) {
    struct stat found;
    int file = listener->file != NULL ? cl__high(open(listener->file, __O_PATH | __O_NOFOLLOW | __O_CLOEXEC)) : -1;
    if (file >= 0 && fstat(file, &found) == 0 && found.st_dev == listener->device && found.st_ino == listener->inode)
        unlink(listener->file);
    cl__close_fd(file);
    if (listener->fd != listener->mailbox && listener->fd != listener->socket) cl__close_fd(listener->fd);
    cl__close_fd(listener->mailbox);
    cl__close_fd(listener->socket);
    cl__close_fd(listener->wake);
    if (listener->page != NULL) munmap(listener->page, 4096);
    listener->page = NULL;
    free(listener->file);
    free(listener->text);
    listener->file = listener->text = NULL;
    cl__set(&listener->state, CL__FREE);
}

CL__FN int cl__is_open(const char *text, int index) {
    int found = 0;
    pthread_mutex_lock(&cl__this()->table);
    for (int i = 0; i < cl__this()->places && !found; i++) {
        struct cl__listener *other = &cl__this()->listeners[i];
        found = other->text != NULL && other->index == index && strcmp(other->text, text) == 0;
    }
    pthread_mutex_unlock(&cl__this()->table);
    return found;
}

/* `share`: of an address of the primary's. `asking` is locked, so a free place stays free. */
CL__FN int cl__open_listener(struct cl__address *at, const cl_listen_options_t *options, int share) {
    struct cl__listener *listener = cl__this()->listeners;
    int code = 0, index = share ? 0 : -1;
    while (listener < cl__this()->listeners + CL__LISTENERS && cl__get(&listener->state) != CL__FREE) listener++;
    if (listener == cl__this()->listeners + CL__LISTENERS)
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
    listener->mailbox = listener->socket = listener->wake = listener->line = listener->place = listener->watched = -1;
    listener->fallen = listener->seated = listener->waits = listener->stopped = listener->shut = 0;
    listener->own = listener->accepts = listener->empty = listener->shortages = 0;
    listener->plenty = listener->half = listener->asked = listener->asked_since = 0;
    listener->index = index;
    listener->flags = options->flags;
    listener->granted = listener->settable = 0;
    if (!(options->flags & CL_LISTEN_NONBLOCK) && !at->datagram) {
        listener->wake = cl__high(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (listener->wake < 0) code = cl__os("eventfd");
    }
    if (code == 0) code = share ? cl__ask(at, options, listener) : cl__listen_alone(at, options, listener);
    if (code < 0 && listener->granted)
        (void)cl__frame(CL__CLOSE, 0, &listener->number, sizeof listener->number, NULL, 0);
    pthread_mutex_lock(&cl__this()->table);
    listener->text = text;
    if (code == 0) {
        int place = (int)(listener - cl__this()->listeners);
        if (place >= cl__this()->places) cl__set(&cl__this()->places, place + 1);
        cl__set(&listener->state, CL__OPEN);
        /* If the primary died meanwhile, the watch did not find this listener. */
        if (cl__get(&cl__this()->gone)) cl__end_share(listener);
        code = listener->fd;
    } else {
        cl__dispose(listener);
    }
    pthread_mutex_unlock(&cl__this()->table);
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
    /* A newer program's struct is longer than the one known here. GCC 12 warns of its end (-Warray-bounds) where it sees
     * how long the program's is, so it is not to see that. */
    const char *bytes = (const char *)given;
    __asm__("" : "+r"(bytes));
    for (size_t i = sizeof options; i < given->size; i++)
        if (bytes[i] != 0) return cl__say(-E2BIG, "this version does not know all of the options");
    memset(&options, 0, sizeof options);
    memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    if (options.address == NULL) options.address = ":0";
    if (options.flags & ~63u) return cl__fail(-EINVAL, "the listen flags %#x hold unknown bits", options.flags);
    if (options.index < 0) return cl__say(-EINVAL, "the index is negative");
    if (options.option_count > 32)
        return cl__fail(-EINVAL, "there are %zu options; at most 32 are possible", options.option_count);
    if (options.option_count > 0 && options.options == NULL) return cl__say(-EINVAL, "the socket options are NULL");
    for (size_t i = 0; i < options.option_count; i++)
        if ((code = cl__check_value(options.options[i].value, options.options[i].length)) < 0) return code;
    if ((code = cl__parse(&at, options.address)) < 0) return code;
    if (cl__this()->worker_id != 0 && ((code = cl__enter_worker()) < 0 || (code = cl__leaving()) < 0)) return code;
    pthread_mutex_lock(&cl__this()->asking);
    code = cl__open_listener(&at, &options, cl__this()->worker_id != 0 &&
                                                !(options.flags & (CL_LISTEN_EXCLUSIVE | CL_LISTEN_REUSEPORT)));
    pthread_mutex_unlock(&cl__this()->asking);
    return code;
}

/* -- Accepting ----------------------------------------------------------------------------------------------------- */

/* The listener of that number, counted in `users`; NULL: none of ours. It needs no lock: a place in the table is never
 * freed, and whoever closes it waits for those inside. */
CL__FN struct cl__listener *cl__hold(int fd) {
    unsigned char *page = __atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE);
    if (page == NULL || !cl__is_member(page) || fd < 0) return NULL;
    for (int i = 0; i < cl__get(&cl__this()->places); i++) {
        struct cl__listener *listener = &cl__this()->listeners[i];
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

/* As accept(2) does: as much as there is room for, and the length of the whole. */
CL__FN void cl__give_name(struct sockaddr *to, socklen_t *room, const void *name, socklen_t length) {
    memcpy(to, name, length < *room ? length : *room);
    *room = length;
}

/* accept4(2), going on after errors of a single connection (there under "Error handling"). */
CL__FN int cl__accept_socket(int socket, struct sockaddr *peer, socklen_t *length, int flags) {
    socklen_t room = length != NULL ? *length : 0;
    /* No client can cause so many in a row; after that it is time to look at something else. */
    for (int failures = 0; failures < 16; failures++) {
        int fd = cl__os_accept4(socket, peer, length, flags);
        if (fd >= 0) return cl__high_connection(fd, flags & SOCK_CLOEXEC);
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

/* At most 20 ms ago. 0: never. */
CL__FN int cl__is_recent(int time, int now) {
    return time != 0 && (((unsigned)now - (unsigned)time) & 0x7fffffff) < 20;
}

/* Where the upper half of the numbers begins, if there are 1024 and none of some in that half is in use; 0: perhaps. */
CL__FN int cl__upper_half(void) {
    unsigned long limits[2] = {0, 0};
    if (cl__os_syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, NULL, limits) != 0 || sizeof(long) < 8) return 0;
    int limit = limits[0] > 0x7fffffff ? 0x7fffffff : (int)limits[0], half = limit / 2;
    if (limit < 1024) return 0;
    for (int i = 0; i < 8; i++)
        if (fcntl(limit - 1 - (limit - half - 1) / 7 * i, F_GETFD) >= 0) return 0;
    return half;
}

/* Whether a descriptor is free: a receive into a full table succeeds and loses the connection. Whoever receives many in
 * a short time asks once for those of 20 ms, while the table is nowhere near its limit (core/src/sys/room.rs). */
CL__FN int cl__room(struct cl__listener *listener) {
    int now = (int)(cl__now_ms() & 0x7fffffff);
    if (cl__is_recent(cl__get(&listener->plenty), now)) return 0;
    int fd = fcntl(listener->mailbox, CL__F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return cl__os("a place for a connection");
    close(fd);
    if (!cl__is_recent(cl__get(&listener->asked_since), now)) {
        cl__set(&listener->asked_since, now);
        cl__set(&listener->asked, 0);
    }
    int asked = cl__get(&listener->asked) + 1;
    cl__set(&listener->asked, asked);
    int half = asked >= 8 ? cl__upper_half() : 0;
    if (fd < half) cl__set(&listener->half, half);
    cl__set(&listener->plenty, fd < half ? now : 0);
    return 0;
}

/* Takes the next connection out of a mailbox; -EAGAIN: it is empty. Only one: what is received dies with us. */
CL__FN int cl__take(struct cl__listener *listener, struct sockaddr *peer, socklen_t *length, int flags) {
    unsigned char parcel[8 + sizeof(struct sockaddr_storage)];
    int n, type, fd, how = flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0;
    for (;;) {
        if (cl__get(&listener->stopped)) return cl__asked_to_leave();
        if ((n = cl__room(listener)) < 0) return n;
        cl__add(&listener->receiving, 1);
        n = cl__packet_at_once(listener->mailbox, parcel, sizeof parcel, NULL, 0, &fd, 1, how);
        type = cl__type(parcel, n);
        if (type == CL__STOP) {
            cl__set(&listener->stopped, 1);
            shutdown(listener->mailbox, SHUT_RD); /* one thread takes the STOP; end of file wakes the others */
        }
        cl__add(&listener->receiving, -1);
        if (type == CL__BEGIN) cl__begin_turns(listener);
        if (type == CL__CONNECTION && fd >= 0) {
            if (fd >= cl__get(&listener->half)) cl__set(&listener->plenty, 0);
            if (flags & SOCK_NONBLOCK) fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
            if (peer != NULL && n > 8) cl__give_name(peer, length, parcel + 8, (socklen_t)n - 8);
            else if (peer != NULL) getpeername(fd, peer, length);
            return fd;
        }
        cl__close_fd(fd);
        if (type == CL__CONNECTION)
            return cl__say(-EMFILE, "a connection was lost: another thread took the last descriptor at that moment");
        if (n == -EAGAIN) return cl__get(&cl__this()->gone) ? cl__primary_gone() : -EAGAIN;
        if (n < 0) return cl__fail(n, "the mailbox: %s", cl_strerror(n));
        if (n > 0) continue;
        /* End of file: behind a STOP, or because the primary is gone. Another thread may have taken the STOP and not
         * said so yet. It did so before us, so it is enough to wait for those inside. */
        while (cl__get(&listener->receiving) != 0) sched_yield();
        if (!cl__get(&listener->stopped)) return cl__primary_gone();
    }
}

/* This worker was asked to leave. Whoever comes to a socket that it bound itself is refused from here on; who had come
 * can still be accepted. Returns whether handshakes that had begun may still end, for 0.2 s. (In a SO_REUSEPORT group
 * others still get in while one socket of the group is open: the kernel chooses among all.) */
CL__FN int cl__shut_door(struct cl__listener *listener) {
    int nowhere = 0x7fffffff, now = (int)(cl__now_ms() & 0x7fffffff) | 1;
    if (listener->text != NULL && strncmp(listener->text, "fd:", 3) == 0) return 0;
    if (listener->name.ss_family == AF_UNIX) {
        if (cl__get(&listener->shut) == 0) shutdown(listener->socket, SHUT_RD);
        cl__set(&listener->shut, 1);
        return 0;
    }
    if (cl__get(&listener->shut) == 0) {
        setsockopt(listener->socket, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &nowhere, sizeof nowhere);
        cl__set(&listener->shut, now);
    }
    return (((unsigned)now - (unsigned)cl__get(&listener->shut)) & 0x7fffffff) < 200;
}

/* Waits for a reason to try again (0), or returns why there is none. `woken`: the shared socket was the reason. */
CL__FN int cl__wait_for_connection(struct cl__listener *listener, int *woken) {
    /* No STOP comes to a socket that the worker bound itself, so it looks for the request. */
    int bound = listener->kind == CL__BOUND && cl__this()->worker_id != 0, code = bound ? cl__leaving() : 0;
    int first = code == -ESHUTDOWN && cl__get(&listener->shut) == 0;
    if (code == -ESHUTDOWN && !(listener->flags & CL_LISTEN_NONBLOCK) && (cl__shut_door(listener) || first)) {
        cl__wait(listener->fd, POLLIN, listener->wake, 20);
        return cl__get(&listener->state) == CL__OPEN ? 0 : cl__say(-EBADF, "the listener was closed meanwhile");
    }
    if (code < 0) return code;
    if (listener->flags & CL_LISTEN_NONBLOCK) return cl__say(-EAGAIN, "no connection waits");
    cl__show(0);
    if (listener->kind == CL__SHARED) {
        struct epoll_event events[3]; /* poll(2) would wake all workers, despite EPOLLEXCLUSIVE */
        int n = epoll_wait(listener->fd, events, 3, -1);
        for (*woken = 0; n > 0; n--) *woken |= events[n - 1].data.fd == listener->socket;
    } else {
        struct pollfd fds[3] = {{listener->fd, POLLIN, 0}, {listener->wake, POLLIN, 0},
                                {bound ? cl__this()->grants : -1, POLLIN, 0}};
        cl__poll(fds, 3, -1);
    }
    return cl__get(&listener->state) == CL__OPEN ? 0 : cl__say(-EBADF, "the listener was closed meanwhile");
}

/* Looking in vain costs system calls. A program that is faster than its clients finds nothing at each call, so after one
 * that did the next ones wait first. */
CL__FN int cl__expects_nothing(struct cl__listener *listener) {
    int left = cl__get(&listener->empty);
    if (left <= 0 || (listener->flags & CL_LISTEN_NONBLOCK) || cl__get(&listener->watched) >= 0) return 0;
    cl__set(&listener->empty, left - 1);
    return 1;
}

CL__FN int cl__accept_any(struct cl__listener *listener, struct sockaddr *peer, socklen_t *length, int flags) {
    char any;
    int result = 0, woken = 0;
    /* The slot's own socket is tried first, and the mailbox now and then; so in rotation until the STOP. */
    int look = (!listener->own && (listener->page == NULL || cl__get(&listener->stopped))) ||
               __atomic_fetch_add(&listener->accepts, 1, __ATOMIC_RELAXED) % 16 == 0;
    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
        return cl__fail(-EINVAL, "the accept flags %#x hold unknown bits", (unsigned)flags);
    if (peer != NULL && length == NULL) return cl__say(-EINVAL, "the peer's address needs a length");
    if (listener->kind == CL__DATAGRAM)
        return cl__say(-EOPNOTSUPP, "a datagram socket has no connections; receive from the descriptor itself");
    if (peer == NULL) length = NULL;
    /* A socket that is never empty must not hide that this worker is to leave. */
    if (listener->kind == CL__BOUND && cl__this()->worker_id != 0 && cl__leaving() == -ESHUTDOWN)
        (void)cl__shut_door(listener);
    if (cl__get(&listener->fallen) && cl__come_back(listener)) (void)cl__tell_place(listener);
    if (cl__expects_nothing(listener)) {
        result = cl__wait_for_connection(listener, &woken);
        look = 1;
    }
    while (result == 0) {
        /* In rotation and outside of the line there is only the mailbox, and before BEGIN. */
        int alone = listener->kind == CL__PASSED || (listener->page != NULL && cl__get(&listener->line) < 0) ||
                    cl__get(&listener->waits);
        result = -EAGAIN;
        /* The mailbox comes first, except before a connection that this thread alone was woken for: if it left on a
         * STOP instead, nobody else would know that a connection waits. */
        if (alone || (listener->kind == CL__SHARED && !woken && look &&
            (cl__get(&listener->stopped) || recv(listener->mailbox, &any, 1, MSG_PEEK | MSG_DONTWAIT) >= 0)))
            result = cl__take(listener, peer, length, flags);
        if (result >= 0) __atomic_store_n(&listener->accepts, 0, __ATOMIC_RELAXED); /* more may be there, from before */
        if (result == -EAGAIN && !alone) {
            result = cl__accept_socket(listener->socket, peer, length, flags);
            if (listener->page != NULL && result >= 0 && cl__has_had_its_part(listener)) cl__go_behind(listener);
            if (listener->kind == CL__SHARED && result == -EAGAIN) cl__set(&listener->empty, 8);
        }
        if (listener->own && (result == -ESHUTDOWN || result == -EINVAL)) {
            /* What waits in the slot's own socket is this worker's even behind a STOP. EINVAL: the primary has taken
             * the socket away, because this worker is no member any more. */
            if (result == -ESHUTDOWN) result = cl__accept_socket(listener->socket, peer, length, flags);
            if (result == -EINVAL && cl__get(&cl__this()->gone) && !cl__get(&listener->stopped))
                return cl__primary_gone(); /* it was shut down here, as others may have it */
            if (result == -EAGAIN || result == -EINVAL) result = cl__asked_to_leave();
        }
        if (result == -EINVAL && listener->kind == CL__SHARED && cl__get(&listener->state) == CL__OPEN) {
            /* Another worker has shut the shared socket down; the primary repairs that within a second. */
            struct pollfd mailbox = {listener->mailbox, POLLIN, 0};
            if (listener->flags & CL_LISTEN_NONBLOCK) return cl__say(-EAGAIN, "no connection waits");
            poll(&mailbox, 1, 20);
            woken = 0;
            look = 1;
            result = 0;
            continue;
        }
        if (result != -EAGAIN) break;
        result = look ? cl__wait_for_connection(listener, &woken) : 0;
        look = 1;
    }
    if (listener->kind == CL__SHARED && !listener->own) cl__stand_back(listener, result);
    if (cl__get(&listener->fallen)) (void)cl__tell_place(listener); /* without a primary the next call says so */
    return result;
}

CL__FN int cl__accept4(struct cl__listener *listener, int fd, struct sockaddr *peer, socklen_t *length, int flags) {
    int result = cl__accept_any(listener, peer, length, flags);
    (void)fd;
    /* Where descriptors or memory are short, the connection stays where it is. A program that simply tries again must
     * not spin: from the second consecutive failure the call pauses before it returns. */
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

/* -- An epoll of the program's that tells of a listener ------------------------------------------------------------ */

/* Takes it out. (Closing would not do: others have copies.) A socket that takes no turns is our own epoll's again. The
 * caller has `watching` locked, or is the last that uses the listener. */
CL__FN void cl__end_watch(struct cl__listener *listener) {
    int epoll = listener->watched;
    if (listener->mailbox >= 0 && listener->kind != CL__DATAGRAM) epoll_ctl(epoll, EPOLL_CTL_DEL, listener->mailbox, NULL);
    if (listener->kind == CL__SHARED && !listener->own) {
        cl__leave_line(listener);
        if (listener->page == NULL && !cl__get(&listener->stopped))
            (void)cl__enter_line(listener, listener->fd, cl__data_of(listener->socket));
    } else if (listener->socket >= 0) {
        epoll_ctl(epoll, EPOLL_CTL_DEL, listener->socket, NULL);
    }
    cl__set(&listener->watched, -1);
    cl__close_fd(epoll);
}

/* 0: this epoll tells of everything that accept has something to say of. */
CL__FN int cl__begin_watch(struct cl__listener *listener, int epoll, unsigned long long data) {
    if (listener->kind == CL__BOUND) return cl__watch_with(epoll, listener->socket, EPOLLIN | EPOLLEXCLUSIVE, data);
    if (listener->kind == CL__DATAGRAM) return cl__watch_with(epoll, listener->socket, EPOLLIN, data);
    if (cl__watch_with(epoll, listener->mailbox, EPOLLIN, data)) return -1;
    if (listener->kind == CL__PASSED) return 0;
    if (!(listener->own ? cl__watch_with(epoll, listener->socket, EPOLLIN, data) : cl__enter_line(listener, epoll, data)))
        return 0;
    int why = errno;
    epoll_ctl(epoll, EPOLL_CTL_DEL, listener->mailbox, NULL);
    errno = why;
    return -1;
}

CL__FN int cl__listener_watch(struct cl__listener *listener, int fd, int epoll_fd, unsigned long long data) {
    int code = 0, epoll = fcntl(epoll_fd, CL__F_DUPFD_CLOEXEC, 3);
    (void)fd;
    if (epoll < 0 && errno == EBADF) return cl__fail(-EBADF, "%d is no descriptor", epoll_fd);
    if (epoll < 0) return cl__os("duplicating an epoll");
    pthread_mutex_lock(&cl__this()->watching);
    if (listener->watched >= 0)
        code = cl__say(-EEXIST, "the listener is watched already; end that first (cl_listener_unwatch)");
    else if (cl__begin_watch(listener, epoll, data))
        code = cl__os("epoll_ctl");
    if (code < 0) {
        cl__close_fd(epoll);
        (void)cl__tell_place(listener); /* it may stand elsewhere than before */
    } else {
        cl__set(&listener->watched, epoll);
        __atomic_store_n(&listener->accepts, 0, __ATOMIC_RELAXED);
        code = cl__tell_place(listener);
        if (code < 0) cl__end_watch(listener);
    }
    pthread_mutex_unlock(&cl__this()->watching);
    return code;
}

CL__FN int cl__listener_unwatch(struct cl__listener *listener, int fd) {
    int code = 0;
    (void)fd;
    pthread_mutex_lock(&cl__this()->watching);
    if (listener->watched < 0)
        code = cl__say(-ENOENT, "the listener is not watched");
    else
        cl__end_watch(listener);
    if (code == 0) code = cl__tell_place(listener);
    pthread_mutex_unlock(&cl__this()->watching);
    return code;
}

/* -- A listener's name, options and end ---------------------------------------------------------------------------- */

CL__FN int cl__getsockname(struct cl__listener *listener, int fd, struct sockaddr *name, socklen_t *length) {
    (void)fd;
    if (name == NULL || length == NULL) return cl__say(-EINVAL, "the name or its length is NULL");
    cl__give_name(name, length, &listener->name, listener->name_length);
    return 0;
}

/* Has the primary set it on all sockets of the address. Whoever closes the listener waits for this call: behind the
 * close it would be about a listener that is not this worker's. */
CL__FN int cl__ask_to_set(struct cl__listener *listener, int level, int name, const void *value, socklen_t length) {
    unsigned asked[3] = {listener->number, (unsigned)level, (unsigned)name};
    unsigned char answer[544];
    int fds[3], n;
    int code = cl__get(&listener->state) == CL__OPEN ? 0 : cl__say(-EBADF, "the listener was closed meanwhile");
    if (code == 0 && (code = cl__leaving()) > 0) code = 0;
    if (code == 0) code = cl__frame(CL__SETSOCKOPT, ++cl__this()->asked, asked, sizeof asked, value, length);
    if ((n = cl__await_answer(code, answer, sizeof answer, fds)) < 0) return n;
    for (int i = 0; i < 3; i++) cl__close_fd(fds[i]);
    return n == 12 ? 0 : cl__say(-EPROTO, "the primary's answer makes no sense");
}

CL__FN int cl__setsockopt(struct cl__listener *listener, int fd, int level, int name, const void *value,
                          socklen_t length) {
    (void)fd;
    int code = cl__check_value(value, length);
    if (code < 0) return code;
    if (listener->granted) {
        if (!listener->settable)
            return cl__say(-EOPNOTSUPP, "the primary is of an older version, which sets socket options at most when an "
                                        "address is opened; use the same libcluster in both, or set them on each "
                                        "connection");
        pthread_mutex_lock(&cl__this()->asking);
        code = cl__ask_to_set(listener, level, name, value, length);
        pthread_mutex_unlock(&cl__this()->asking);
        return code;
    }
    if (strncmp(listener->text, "fd:", 3) == 0)
        return cl__of_another(listener->text);
    if (setsockopt(listener->socket, level, name, value, length) == 0) return 0;
    return cl__fail(-errno, "setsockopt of the option %d of level %d: %s", name, level, cl_strerror(-errno));
}

CL__FN int cl__close(struct cl__listener *listener, int fd) {
    int open = CL__OPEN;
    if (!__atomic_compare_exchange_n(&listener->state, &open, CL__CLOSING, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return cl__no_listener(fd);
    cl__ring(listener->wake);
    while (cl__get(&listener->users) != 1) poll(NULL, 0, 1);
    if (listener->watched >= 0) cl__end_watch(listener);
    /* What waits in the mailbox goes to other workers: the primary holds a copy of it. */
    if (listener->granted) (void)cl__frame(CL__CLOSE, 0, &listener->number, sizeof listener->number, NULL, 0);
    pthread_mutex_lock(&cl__this()->table);
    cl__dispose(listener);
    pthread_mutex_unlock(&cl__this()->table);
    return 0;
}

/* -- Handing connections back, as in core/src/handback.rs and core/src/worker/leaving.rs --------------------------- */

/* What was accepted at `name` has the local name `local`. */
CL__FN int cl__is_at(const void *local, const void *name) {
    static const char by_descriptor[] = "/proc/self/fd/";
    struct sockaddr_in in[2];
    struct sockaddr_in6 in6[2];
    struct sockaddr_un un[2];
    struct in6_addr any;
    memcpy(&un[0], local, sizeof un[0]);
    memcpy(&un[1], name, sizeof un[1]);
    if (un[0].sun_family != un[1].sun_family) return 0;
    if (un[0].sun_family == AF_UNIX)
        return memcmp(un[0].sun_path, un[1].sun_path, sizeof un[0].sun_path) == 0 ||
               memcmp(un[0].sun_path, by_descriptor, sizeof by_descriptor - 1) == 0;
    if (un[0].sun_family == AF_INET) {
        memcpy(&in[0], local, sizeof in[0]);
        memcpy(&in[1], name, sizeof in[1]);
        return in[0].sin_port == in[1].sin_port &&
               (in[1].sin_addr.s_addr == 0 || in[0].sin_addr.s_addr == in[1].sin_addr.s_addr);
    }
    if (un[0].sun_family != AF_INET6) return 0;
    memset(&any, 0, sizeof any);
    memcpy(&in6[0], local, sizeof in6[0]);
    memcpy(&in6[1], name, sizeof in6[1]);
    return in6[0].sin6_port == in6[1].sin6_port &&
           (memcmp(&in6[1].sin6_addr, &any, sizeof any) == 0 ||
            memcmp(&in6[0].sin6_addr, &in6[1].sin6_addr, sizeof any) == 0);
}

/* 0: it is a connection that was accepted from this listener. */
CL__FN int cl__check_returned(struct cl__listener *listener, int connection) {
    struct sockaddr_storage local, peer;
    socklen_t length = sizeof(int);
    int kind = 0, listens = 0;
    memset(&local, 0, sizeof local);
    if (getsockopt(connection, SOL_SOCKET, SO_TYPE, &kind, &length) != 0) return cl__os("the connection");
    length = sizeof(int);
    if (getsockopt(connection, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0) return cl__os("the connection");
    if (listens || kind != SOCK_STREAM)
        return cl__say(-EINVAL, "it is no connection; only what was accepted from this listener can be handed back");
    length = sizeof peer;
    if (getpeername(connection, (struct sockaddr *)(void *)&peer, &length) != 0)
        return cl__say(-EINVAL, "it is not connected, or its client has gone; close it");
    length = sizeof local;
    if (getsockname(connection, (struct sockaddr *)(void *)&local, &length) != 0) return cl__os("the connection");
    if (!cl__is_at(&local, &listener->name))
        return cl__say(-EINVAL, "it is a connection of another address; only what was accepted from this listener can be handed "
                                "back");
    return 0;
}

CL__FN int cl__nobody_takes_any(void) {
    return cl__say(-EOPNOTSUPP, "the primary takes no connections back from this worker: it was not asked to leave, or nobody "
                                "else serves the address");
}

/* Where connections are handed back. A peek is enough to have it; it stays for others who want to know. */
CL__FN int cl__find_returns(void) {
    unsigned char head[8];
    int fd = -1, n, found;
    pthread_mutex_lock(&cl__this()->asking);
    found = cl__this()->returns;
    if (found == 0) {
        n = cl__packet(cl__this()->grants, head, sizeof head, NULL, 0, &fd, 1, MSG_PEEK | MSG_CMSG_CLOEXEC);
        if (cl__type(head, n) == CL__RETURNS && fd >= 0) {
            found = cl__this()->returns = fd;
        } else {
            found = cl__type(head, n) == CL__RETURNS ? -EMFILE : -EOPNOTSUPP;
            cl__close_fd(fd);
        }
    }
    pthread_mutex_unlock(&cl__this()->asking);
    if (found == -EMFILE) return cl__say(-EMFILE, "no descriptor is free for where connections are handed back");
    return found < 0 ? cl__nobody_takes_any() : found;
}

CL__FN int cl__hand_back(struct cl__listener *listener, int fd, int connection) {
    (void)fd;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    unsigned short kind[4] = {CL__HANDBACK, 0, 0, 0};
    struct iovec parts[2] = {{kind, sizeof kind}, {&listener->number, sizeof listener->number}};
    struct msghdr message;
    ssize_t sent;
    int code = cl__check_returned(listener, connection);
    if (code < 0) return code;
    if (!listener->granted)
        return cl__say(-EOPNOTSUPP, "the listener is this process's alone, and nobody else serves its address");
    if (cl__get(&cl__this()->gone)) return cl__primary_gone();
    int to = cl__find_returns();
    if (to < 0) return to;
    memset(&control, 0, sizeof control);
    memset(&message, 0, sizeof message);
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &connection, sizeof connection);
    do sent = sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        close(connection);
        return 0;
    }
    if (errno == EAGAIN || errno == ETOOMANYREFS || cl__is_short_of_memory(errno))
        return cl__say(-EAGAIN, "no other worker has room for it now");
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return cl__nobody_takes_any();
    return cl__os("handing a connection back");
}

/* -- The primary's side -------------------------------------------------------------------------------------------- */

CL__FN int cl__symbol(void *library, const char *name, void *to) {
    void *symbol = cl__weak_dlsym(library, name);
    memcpy(to, &symbol, sizeof symbol); /* ISO C converts no object's address to a function's */
    return symbol != NULL ? 0 : cl__fail(CL_ENOLIB, "the libcluster.so.0 that was found has no %s", name);
}

/* 0: from here on calls go to this library. */
CL__FN int cl__use_library(void *library) {
    struct cl__library found;
    int code = 0;
    memset(&found, 0, sizeof found);
#define CL__SYMBOL(name, parameters, ...) if (code == 0) code = cl__symbol(library, "cl_" #name, &found.name);
    CL__SYMBOL(version_number, , )
    if (code == 0 && found.version_number() >> 8 != cl_version_number() >> 8)
        code = cl__fail(CL_ENOLIB, "the libcluster.so.0 that was found is version %u.%u; this program was built for %s",
                        found.version_number() >> 16, found.version_number() >> 8 & 255, cl_version());
    CL__SYMBOL(last_error, , )
    CL__SYMBOL(serve, , )
    CL__STARTING_FUNCTIONS(CL__SYMBOL)
    CL__PRIMARY_FUNCTIONS(CL__SYMBOL)
    CL__STOP_FUNCTION(CL__SYMBOL)
    CL__EITHER_FUNCTIONS(CL__SYMBOL)
    CL__FIRST_LISTENER_FUNCTIONS(CL__SYMBOL)
#undef CL__SYMBOL
#define CL__SYMBOL(name, parameters, ...) if (code == 0 && cl__symbol(library, "cl_" #name, &found.name) < 0) cl__say(0, NULL);
    CL__LATER_LISTENER_FUNCTIONS(CL__SYMBOL)
    CL__LATER_PRIMARY_FUNCTIONS(CL__SYMBOL)
    CL__LATER_EITHER_FUNCTIONS(CL__SYMBOL)
#undef CL__SYMBOL
    if (code < 0) return code;
    cl__this()->library = found;
    __atomic_store_n(&cl__this()->library.loaded, 1, __ATOMIC_RELEASE);
    return 0;
}

CL__FN int cl__load_library(void) {
    if (!cl__weak_dlopen || !cl__weak_dlsym) return cl__say(CL_ENOLIB, "this program cannot load libraries; link -ldl");
    void *library = cl__weak_dlopen("libcluster.so.0", RTLD_NOW);
    if (library != NULL) return cl__use_library(library);
    const char *why = cl__weak_dlerror ? cl__weak_dlerror() : NULL;
    return cl__fail(CL_ENOLIB, "a primary needs libcluster.so.0: %s", why != NULL ? why : "it was not found");
}

/* Whether a call goes to the library. It does so, too, if the library was in the process before anything began here:
 * others have it, and it knows what this process is. One that cannot be used is as good as none. */
CL__FN int cl__in_library(void) {
    if (cl__loaded()) return 1;
    if (__atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE) != NULL) return 0;
    struct cl__kept kept = cl__keep();
    void *library = cl__library_here();
    if (library != NULL && cl__weak_dlsym) {
        cl__agree();
        pthread_mutex_lock(&cl__this()->begin);
        if (!cl__loaded() && cl__this()->member == NULL && cl__use_library(library) < 0) cl__say(0, NULL);
        pthread_mutex_unlock(&cl__this()->begin);
    }
    return cl__put_back(kept, cl__loaded());
}

/* 0: the call may go to the library. */
CL__FN int cl__need_library(void) {
    if (cl__in_library()) return 0;
    int code = cl__enter();
    if (code == 0 && cl__this()->worker_id != 0) code = cl__say(-EPERM, "only a primary can do this");
    if (code == 0) {
        pthread_mutex_lock(&cl__this()->begin);
        if (!cl__loaded() && (code = cl__load_library()) < 0) cl__set(&cl__this()->library.missing, 1);
        pthread_mutex_unlock(&cl__this()->begin);
    }
    return code;
}

/* The same for what starts workers. The library cannot know what the environment said, which is cleaned by then. */
CL__FN int cl__may_start(void) {
    int code = cl__in_library() ? 0 : cl__enter(); /* the library knows its own forks */
    if (code == 0 && cl__this()->stray == 2)
        return cl__say(-ENOTCONN, "this process was started as a worker, but has run another program since, which exec(3) took the "
                                  "channel from; let a child of the worker run that program, or call exec(3) before the first cl_ "
                                  "call. It may start no workers, as each of these would do the same");
    if (code == 0 && cl__this()->stray)
        return cl__say(-ENOTCONN, "this process was started as a worker (CL_WORKER_ID is set), but has no channel to its primary; "
                                  "closefrom(3) at the start of main, or a wrapper that closes descriptors, does this: call "
                                  "cl_is_worker() before it, or keep the descriptor that CL_CHANNEL_FD names. It may start no "
                                  "workers, as each of these would do the same");
    return code < 0 ? code : cl__need_library();
}

/* -- The functions of the contract --------------------------------------------------------------------------------- */

#define CL__IF(allowed, name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__kept kept_ = cl__keep(); \
        int code_ = allowed(); \
        return cl__put_back(kept_, code_ < 0 ? code_ : cl__from_library(cl__this()->library.name(__VA_ARGS__))); \
    }
#define CL__STARTING(name, parameters, ...) CL__IF(cl__may_start, name, parameters, __VA_ARGS__)
#define CL__PRIMARY(name, parameters, ...) CL__IF(cl__need_library, name, parameters, __VA_ARGS__)
#define CL__EITHER(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        if (cl__in_library()) return cl__from_library(cl__this()->library.name(__VA_ARGS__)); \
        struct cl__kept kept_ = cl__keep(); \
        return cl__put_back(kept_, cl__##name(__VA_ARGS__)); \
    }
#define CL__FOUND(name, ...) \
    (cl__this()->library.name == NULL ? cl__say(CL_ENOLIB, "the libcluster.so.0 that was found has no cl_" #name) \
                                      : cl__from_library(cl__this()->library.name(__VA_ARGS__)))
#define CL__LATER_PRIMARY(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__kept kept_ = cl__keep(); \
        int code_ = cl__need_library(); \
        return cl__put_back(kept_, code_ < 0 ? code_ : CL__FOUND(name, __VA_ARGS__)); \
    }
#define CL__LATER_EITHER(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__kept kept_ = cl__keep(); \
        return cl__put_back(kept_, cl__in_library() ? CL__FOUND(name, __VA_ARGS__) : cl__##name(__VA_ARGS__)); \
    }
#define CL__OF_LISTENER(name, parameters, ...) \
    CL__FN int cl_##name parameters { \
        struct cl__kept kept_ = cl__keep(); \
        struct cl__listener *held_ = cl__hold(fd); \
        if (held_ == NULL && cl__in_library()) { \
            int late_ = CL__FOUND(name, __VA_ARGS__); \
            return cl__put_back(kept_, late_); \
        } \
        int result_ = held_ != NULL ? cl__##name(held_, __VA_ARGS__) : cl__no_listener(fd); \
        if (held_ != NULL) cl__add(&held_->users, -1); \
        return cl__put_back(kept_, result_); \
    }
CL__STARTING_FUNCTIONS(CL__STARTING)
CL__PRIMARY_FUNCTIONS(CL__PRIMARY)
CL__EITHER_FUNCTIONS(CL__EITHER)
CL__LISTENER_FUNCTIONS(CL__OF_LISTENER)
CL__LATER_PRIMARY_FUNCTIONS(CL__LATER_PRIMARY)
CL__LATER_EITHER_FUNCTIONS(CL__LATER_EITHER)

/* Async-signal-safe: it does not load the library. Without the library there is no primary to stop. */
CL__FN int cl_stop(int deadline_ms) {
    if (cl__loaded()) return cl__from_library(cl__this()->library.stop(deadline_ms));
    if (__atomic_load_n(&cl__this()->member, __ATOMIC_ACQUIRE) == NULL) return 0;
    int code = cl__enter();
    if (code < 0) return code;
    if (cl__this()->worker_id != 0) return cl__say(-EPERM, "only a primary can do this");
    return cl__get(&cl__this()->library.missing) ? cl__say(CL_ENOLIB, "a primary needs libcluster.so.0, which was not found") : 0;
}

CL__FN int cl_accept(int listener, struct sockaddr *peer, socklen_t *peer_length) {
    return cl_accept4(listener, peer, peer_length, 0);
}

CL__FN int cl_listen(const char *address, int backlog) {
    cl_listen_options_t options = {sizeof options, address, backlog, 0, 0, NULL, 0};
    return address != NULL ? cl_listen_with(&options) : cl__say(-EINVAL, "the address is NULL");
}

CL__FN int cl_serve(int workers, int (*worker_main)(void *), void *argument) {
    /* A worker that was started as a program does here what forked ones do. */
    if (!cl__in_library() && worker_main != NULL && cl_is_worker() == 1) {
        int joined = cl__enter_worker();
        /* A worker of another version learns in its own calls what it cannot do. */
        if (joined < 0 && joined != CL_EVERSION) return joined;
        cl__hold_signals();
        return worker_main(argument);
    }
    struct cl__kept kept = cl__keep();
    int code = cl__may_start();
    return cl__put_back(kept, code < 0 ? code : cl__from_library(cl__this()->library.serve(workers, worker_main, argument)));
}

#ifdef __cplusplus
}
#endif

#endif /* CL_HEADER_ONLY */

#if defined(__clang__)
#pragma clang diagnostic pop
#elif defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#endif /* CLUSTER_H */
