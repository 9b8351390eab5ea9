//! The constants of the interface. Integers, not enums: an unknown int from C is an error, not undefined behaviour.
#![allow(dead_code)] // Most are only for the header; the engine has its own names for the same numbers.

use std::ffi::{c_int, c_uint};

/// Policy: every worker accepts from one shared socket, and the kernel decides who gets a connection. Not fair.
pub const CL_SCHED_NONE: c_int = 1;
/// Policy: each worker in turn; one that is full or stuck is skipped. The default.
pub const CL_SCHED_RR: c_int = 2;
/// Policy: prefers the worker with the fewest connections waiting for it; then the lowest load reported with
/// cl_set_load() (0 before the first report), plus 1 per connection assigned since; ties go round-robin.
pub const CL_SCHED_LEAST_LOADED: c_int = 3;
/// Policy: connections from one client address (IPv4 or IPv6, any port) go to the same slot while that slot's worker is
/// there. When it ends, leaves, pauses or gets stuck, only its clients go to others, and they return to the slot's
/// replacement. A worker that is merely full keeps its clients. Up to 256 connections of an address then wait in the
/// primary, more in the kernel's backlog; with the mechanism kernel all wait in the slot's own socket. Unix:
/// CL_SCHED_RR.
pub const CL_SCHED_SOURCE_HASH: c_int = 4;

/// Mechanism: the best for the address. Under CL_SCHED_RR TCP gets rotation, if the first worker to ask runs as the primary's
/// user. If that has set CL_LISTEN_NONBLOCK, or more than 16 workers can run at a time, it gets kernel where the process has
/// CAP_BPF (Linux 5.14). So does TCP under CL_SCHED_SOURCE_HASH. Everything else gets passed. While the program leaves the
/// setting at this value, the environment variable CL_MECHANISM of the primary (auto, passed, kernel or rotation) decides.
pub const CL_MECHANISM_AUTO: c_int = 0;
/// Mechanism: the primary accepts each connection and passes it on. A UDP socket is shared by all workers.
pub const CL_MECHANISM_PASSED: c_int = 1;
/// Mechanism: the kernel gives each slot its connections, without the primary. cl_setup_primary() prepares what four
/// addresses at a time need under the policy of the same settings, which takes CAP_BPF; without it the call fails with
/// -EPERM. The process may drop the capability afterwards, on Linux before 5.19 only if
/// kernel.unprivileged_bpf_disabled is 0. Otherwise each new worker there needs another bpf(2), and where that is
/// refused the primary passes connections on (CL_EVENT_NOTICE). Unix sockets, fd:N and CL_SCHED_LEAST_LOADED are
/// passed. UDP needs no privilege: each slot has a socket of its own (see cl_listen()).
pub const CL_MECHANISM_KERNEL: c_int = 2;
/// Mechanism, in events only: all workers have one socket (CL_SCHED_NONE; UDP with CL_MECHANISM_PASSED or fd:N).
pub const CL_MECHANISM_SHARED: c_int = 3;
/// Mechanism: all workers accept from one socket, each in its turn, without the primary and without a privilege. For CL_SCHED_RR on TCP
/// and unix sockets, and for workers of the primary's own user; others get their connections by CL_MECHANISM_PASSED beside these. Turns
/// are even in the long run and not exact: a worker that is busy is passed over. A listener with CL_LISTEN_NONBLOCK takes part once
/// cl_listener_watch() says where its program waits.
pub const CL_MECHANISM_ROTATION: c_int = 4;

/// Flag of cl_settings_t: while cl_run() runs, SIGTERM and SIGINT are cl_stop(-1), and a second one is cl_stop(0). One
/// that comes less than 0.1 s after the last that counted is ignored, because timeout(1) signals its child and then the
/// group. When cl_run() returns, it restores the dispositions it found (SIG_IGN too) and the signal mask of its thread,
/// which has both unblocked meanwhile. SIGHUP is left alone.
pub const CL_HANDLE_SIGNALS: c_uint = 1;
/// Flag of cl_settings_t: while cl_run() or cl_serve() runs, SIGHUP is cl_reload(NULL), SIGTTIN and SIGTTOU are cl_scale() to one
/// worker more and one fewer (at least one), each only if its disposition was the default. What cannot be done is a
/// CL_EVENT_WARNING. When cl_run() returns, it restores dispositions and mask as with CL_HANDLE_SIGNALS.
pub const CL_HANDLE_RELOAD: c_uint = 8;
/// Flag of cl_settings_t: workers of cl_fork() and cl_spawn() hold a group's signals, as those of cl_serve() do.
/// SIGTERM, SIGINT and SIGHUP from anybody but the primary act as cl_disconnect(): the worker finishes what is in hand,
/// and if the cluster goes on it is replaced like any worker that ends with its code (cl_settings_t.respawn). It goes
/// on serving for 0.2 s, or to the end of a stop's delay: if the cluster is to stop too, the door is shut first. From
/// the primary (the deadline, cl_worker_kill(), kill(2) of its group) these signals end the worker.
///
/// The handlers are installed (SA_RESTART, and unblocked) where the disposition is SIG_DFL when the worker begins: in a
/// fork at once; in a spawned program with its first call, which finds CL_WORKER_SIGNALS=1 in its environment. Workers
/// started before the flag was set do not have them. A handler of the program's own, installed before or afterwards,
/// replaces them. poll(2), epoll_wait(2), sleep(3), and accept, recv and send on a socket with SO_RCVTIMEO or
/// SO_SNDTIMEO may return EINTR (signal(7)). docs/signals.md has the unit for systemd.
///
/// The primary itself dies of SIGHUP unless its program handles it; its workers are then gone within a second. A
/// primary in an outer pid namespace cannot be told from others there: the first signal from outside asks, the next
/// ends the worker.
pub const CL_WORKER_SIGNALS: c_uint = 16;

/// Flag of cl_settings_t: a worker is ready only when it has called cl_ready(); see cl_reload().
pub const CL_MANUAL_READY: c_uint = 2;

/// No limit, where 0 means the default: cl_reload_options_t.ready_timeout_ms and min_ready_ms.
pub const CL_NONE: c_int = -1;
/// Flag of cl_reload_options_t: where another reload runs, this one begins when that has ended.
pub const CL_RELOAD_QUEUE: c_uint = 1;
/// Flag of cl_reload_options_t: where another reload runs, -EBUSY.
pub const CL_RELOAD_REFUSE_IF_BUSY: c_uint = 2;
/// Flag of cl_reload_options_t: new workers need not listen on all that the old ones do.
pub const CL_RELOAD_ALLOW_FEWER: c_uint = 4;
/// Flag of cl_reload_options_t: when a new worker fails after others have taken their place, these stay.
pub const CL_RELOAD_NO_ROLLBACK: c_uint = 8;
/// Phase of a reload: its first workers are being made and looked at.
pub const CL_RELOAD_CHECKING: c_int = 1;
/// Phase of a reload: one has taken its predecessor's place.
pub const CL_RELOAD_ROLLING: c_int = 2;
/// Phase of a reload, final: every slot has a new worker.
pub const CL_RELOAD_DONE: c_int = 3;
/// Phase of a reload, final: a new worker has failed, and the old ones have lost nothing. With CL_RELOAD_NO_ROLLBACK
/// some may have been replaced; the event's sentence says how many.
pub const CL_RELOAD_REFUSED: c_int = 4;
/// Phase of a reload, final: a new worker has failed after others had taken their place, and these have been replaced
/// by workers that are made as the old ones were.
pub const CL_RELOAD_ROLLED_BACK: c_int = 5;
/// Phase of a reload, final: another one, or a stop, came before its end.
pub const CL_RELOAD_SUPERSEDED: c_int = 6;

/// Counter of cl_count(): requests that were answered.
pub const CL_COUNT_REQUESTS: c_int = 1;
/// Counter of cl_count(): those of them that failed.
pub const CL_COUNT_ERRORS: c_int = 2;
/// Counter of cl_count(): requests that are under way. The only one that may fall.
pub const CL_COUNT_ACTIVE: c_int = 3;

/// Flag of cl_spawn_options_t: the program starts with the caller's signal mask. Without it, no signal is blocked.
pub const CL_SPAWN_KEEP_MASK: c_uint = 1;

/// Respawn: cl_serve() replaces every worker, cl_run() none, as in Node.
pub const CL_RESPAWN_DEFAULT: c_int = 0;
/// Respawn: no worker is replaced.
pub const CL_RESPAWN_NEVER: c_int = 1;
/// Respawn: workers that end by a signal or with a code other than 0 are replaced.
pub const CL_RESPAWN_ON_FAILURE: c_int = 2;
/// Respawn: every worker is replaced until the cluster is stopped.
pub const CL_RESPAWN_ALWAYS: c_int = 3;

/// Listen flag: cl_accept() returns -EAGAIN instead of waiting.
pub const CL_LISTEN_NONBLOCK: c_uint = 1;
/// Listen flag: this worker binds the socket itself and shares it with nobody.
pub const CL_LISTEN_EXCLUSIVE: c_uint = 2;
/// Listen flag: an IPv6 socket takes no IPv4 connections.
pub const CL_LISTEN_IPV6ONLY: c_uint = 4;
/// Listen flag: SO_REUSEPORT (socket(7)); implies CL_LISTEN_EXCLUSIVE.
pub const CL_LISTEN_REUSEPORT: c_uint = 8;
/// Listen flag, unix:/path only: every user may read the socket file.
pub const CL_LISTEN_READABLE_ALL: c_uint = 16;
/// Listen flag, unix:/path only: every user may connect.
pub const CL_LISTEN_WRITABLE_ALL: c_uint = 32;

/// Event: a worker was started.
pub const CL_EVENT_FORK: c_int = 1;
/// Event: a worker has said that it is online.
pub const CL_EVENT_ONLINE: c_int = 2;
/// Event: a worker was granted a share of an address: address, port (-1 for unix sockets) and mechanism are set.
pub const CL_EVENT_LISTENING: c_int = 3;
/// Event: a worker sent a message: data and length are set.
pub const CL_EVENT_MESSAGE: c_int = 4;
/// Event: a worker's channel is closed.
pub const CL_EVENT_DISCONNECT: c_int = 5;
/// Event: a worker ended: exit_code (-1 if a signal ended it or the code is unknown) and signal (0 if none) are set.
pub const CL_EVENT_EXIT: c_int = 6;
/// Event: something needs attention: data and length hold one sentence; worker_id is 0 if it concerns no worker.
pub const CL_EVENT_WARNING: c_int = 7;
/// Event: something for the log, such as why the mechanism kernel is not used: data and length hold one sentence;
/// worker_id is 0.
pub const CL_EVENT_NOTICE: c_int = 8;
/// Event: a worker is ready: it listens, and has called cl_ready() where CL_MANUAL_READY is set. generation is set.
pub const CL_EVENT_READY: c_int = 9;
/// Event: a reload has come to another phase: generation and phase are set; data and length hold a sentence where it
/// has ended otherwise than well.
pub const CL_EVENT_RELOAD: c_int = 10;
/// Event: a worker has taken the place of one that had done enough; see cl_recycle(). generation is set.
pub const CL_EVENT_RECYCLE: c_int = 12;

/// State of a worker: started, and not online yet.
pub const CL_WORKER_STARTING: c_int = 1;
/// State of a worker: has said that it is online.
pub const CL_WORKER_ONLINE: c_int = 2;
/// State of a worker: listens on something.
pub const CL_WORKER_LISTENING: c_int = 3;
/// State of a worker: was asked to leave.
pub const CL_WORKER_DISCONNECTING: c_int = 4;
/// State of a worker: its channel is closed, its process still runs.
pub const CL_WORKER_DISCONNECTED: c_int = 5;

/// Header-only programs: no libcluster.so.0 was found at run time.
pub const CL_ENOLIB: c_int = -4096;
/// cl_fork() was called in a process that has other threads.
pub const CL_ETHREADS: c_int = -4097;
/// Primary and worker speak different versions of the protocol.
pub const CL_EVERSION: c_int = -4098;
/// A defect inside libcluster was caught; a message on standard error says where. Nothing unwinds into the caller. The
/// call may be half done: a connection in its hands is closed, an address it was opening may stay taken, a process it
/// was starting may end unseen. Other calls and threads go on, and so does the cluster, which can be stopped as usual.
pub const CL_EPANIC: c_int = -4099;

/// The most bytes in one message.
pub const CL_MESSAGE_MAX: c_int = 65536;

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_core::{Counter, ListenFlags, MechanismKind, Policy, WorkerState};

    #[test]
    fn the_numbers_are_the_engines() {
        assert_eq!([CL_ENOLIB, CL_ETHREADS], [cluster_core::ENOLIB, cluster_core::ETHREADS]);
        assert_eq!([CL_EVERSION, CL_EPANIC], [cluster_core::EVERSION, cluster_core::EPANIC]);
        let counters = [Counter::Requests, Counter::Errors, Counter::Active];
        assert_eq!(counters.map(|counter| counter as c_int), [CL_COUNT_REQUESTS, CL_COUNT_ERRORS, CL_COUNT_ACTIVE]);
        assert_eq!(CL_MESSAGE_MAX as usize, cluster_core::MESSAGE_MAX);
        let flags = [ListenFlags::NONBLOCK, ListenFlags::EXCLUSIVE, ListenFlags::IPV6ONLY, ListenFlags::REUSEPORT];
        let ours = [CL_LISTEN_NONBLOCK, CL_LISTEN_EXCLUSIVE, CL_LISTEN_IPV6ONLY, CL_LISTEN_REUSEPORT];
        assert_eq!(flags.map(ListenFlags::bits), ours);
        let flags = [ListenFlags::READABLE_ALL, ListenFlags::WRITABLE_ALL];
        assert_eq!(flags.map(ListenFlags::bits), [CL_LISTEN_READABLE_ALL, CL_LISTEN_WRITABLE_ALL]);
        let policies = [Policy::None, Policy::RoundRobin, Policy::LeastLoaded, Policy::SourceHash];
        let ours = [CL_SCHED_NONE, CL_SCHED_RR, CL_SCHED_LEAST_LOADED, CL_SCHED_SOURCE_HASH];
        assert_eq!(policies.map(|policy| policy as c_int), ours);
        let mechanisms = [MechanismKind::Passed, MechanismKind::Kernel, MechanismKind::Shared, MechanismKind::Rotation];
        let ours = [CL_MECHANISM_PASSED, CL_MECHANISM_KERNEL, CL_MECHANISM_SHARED, CL_MECHANISM_ROTATION];
        assert_eq!(mechanisms.map(|mechanism| mechanism as c_int), ours);
        let states = [
            (CL_WORKER_STARTING, WorkerState::Starting),
            (CL_WORKER_ONLINE, WorkerState::Online),
            (CL_WORKER_LISTENING, WorkerState::Listening),
            (CL_WORKER_DISCONNECTING, WorkerState::Disconnecting),
            (CL_WORKER_DISCONNECTED, WorkerState::Disconnected),
        ];
        for (ours, engine) in states {
            assert_eq!(ours, engine as c_int);
        }
    }
}
