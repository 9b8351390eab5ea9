//! The constants of the interface. Integers, not enums: an unknown int from C is an error, not undefined behaviour.
#![allow(dead_code)] // Most are only for the header; the engine has its own names for the same numbers.

use std::ffi::{c_int, c_uint};

/// Policy: every worker accepts from one shared socket and the kernel decides who gets a connection. Not fair.
pub const CL_SCHED_NONE: c_int = 1;
/// Policy: each worker in turn; one that is full or stuck is passed over. The default.
pub const CL_SCHED_RR: c_int = 2;
/// Policy: a worker to which nothing waits before one to which something does; among those the one with the least load
/// told by cl_set_load() (0 before it is), to which each connection given since then adds 1; among equals each in turn.
pub const CL_SCHED_LEAST_LOADED: c_int = 3;
/// Policy: connections from one client address (IPv4 or IPv6, whatever its port) meet the same slot while that slot's
/// worker is there. When it ends, leaves, pauses or gets stuck, only its clients meet others, and they come back to the
/// slot's replacement. One that is merely full keeps its clients: up to 256 connections of an address wait for it in the
/// primary, more in the kernel's backlog. On unix sockets it is CL_SCHED_RR.
pub const CL_SCHED_SOURCE_HASH: c_int = 4;

/// Mechanism: the best that is to be had: kernel for TCP under CL_SCHED_RR where the process has CAP_BPF (Linux 5.14), else
/// passed. The environment variable CL_MECHANISM of the primary (auto, passed or kernel) counts where the program leaves it
/// at this.
pub const CL_MECHANISM_AUTO: c_int = 0;
/// Mechanism: the primary accepts and passes each connection on.
pub const CL_MECHANISM_PASSED: c_int = 1;
/// Mechanism: the kernel gives each slot its connections, without the primary. Needs CAP_BPF when cl_setup_primary() is
/// called with it, which makes ready what four addresses at a time need under the policy of the same settings, and fails with -EPERM
/// otherwise. Afterwards the process may give the capability up, on Linux before 5.19 only if kernel.unprivileged_bpf_disabled is 0:
/// elsewhere each worker needs another bpf(2), and where that is refused the primary passes connections on (CL_EVENT_NOTICE). Addresses that it cannot serve (unix sockets, fd:N, other policies) are passed.
pub const CL_MECHANISM_KERNEL: c_int = 2;
/// Mechanism, only in events: all workers accept from one socket (CL_SCHED_NONE).
pub const CL_MECHANISM_SHARED: c_int = 3;

/// Flag of cl_settings_t: while cl_run() runs, SIGTERM and SIGINT are cl_stop(-1), a second one cl_stop(0); one that comes less than
/// 0.1 s after the one before is no second one, as timeout(1) signals its child and then the group. What was installed for them before,
/// SIG_IGN too, is restored when cl_run() returns, and so is the mask of its thread, which has them unblocked meanwhile. SIGHUP is left alone.
pub const CL_HANDLE_SIGNALS: c_uint = 1;
/// Flag of cl_settings_t: workers made by cl_fork() and cl_spawn() hold a group's signals as those of cl_serve() do. SIGTERM, SIGINT
/// and SIGHUP from anybody but the primary are cl_disconnect() there: what is in hand is finished, and if the cluster goes on the worker
/// is replaced as any that ends with its code (cl_settings_t.respawn). It serves for 0.2 s more before it is let go, or to the end of a stop's
/// delay: if the cluster is to stop as well, the door is shut first. From the primary (the deadline, cl_worker_kill(), kill(2) of its group)
/// they end the worker. Installed (SA_RESTART, and unblocked) where the disposition is SIG_DFL when the worker begins: in a fork at
/// once, in a spawned program with its first call, which finds CL_WORKER_SIGNALS=1 in its environment; one made after the flag was set. A
/// program's own handler, installed before or afterwards, replaces it. poll(2), epoll_wait(2), sleep(3), and accept, recv and send on a socket
/// with SO_RCVTIMEO or SO_SNDTIMEO may return EINTR (signal(7)). docs/signals.md has the unit for systemd. The primary itself dies of SIGHUP unless its program handles it; its workers are gone within a second then.
/// Where the primary is in an outer pid namespace it cannot be told from others there: the first signal from outside asks, the next ends.
pub const CL_WORKER_SIGNALS: c_uint = 16;

/// Flag of cl_spawn_options_t: the program starts with the caller's signal mask. Without it, it starts with no signal blocked.
pub const CL_SPAWN_KEEP_MASK: c_uint = 1;

/// Respawn: cl_serve() replaces every worker, cl_run() none, as in Node.
pub const CL_RESPAWN_DEFAULT: c_int = 0;
/// Respawn: no worker is replaced.
pub const CL_RESPAWN_NEVER: c_int = 1;
/// Respawn: workers that end with a code other than 0 or by a signal are replaced.
pub const CL_RESPAWN_ON_FAILURE: c_int = 2;
/// Respawn: every worker is replaced until the cluster is stopped.
pub const CL_RESPAWN_ALWAYS: c_int = 3;

/// Listen flag: cl_accept() does not wait but returns -EAGAIN.
pub const CL_LISTEN_NONBLOCK: c_uint = 1;
/// Listen flag: a socket of this worker's own, not shared through the primary.
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
/// Event: a worker speaks.
pub const CL_EVENT_ONLINE: c_int = 2;
/// Event: a worker was granted a share of an address: address, port (-1 for unix sockets) and mechanism are set.
pub const CL_EVENT_LISTENING: c_int = 3;
/// Event: a worker sent a message: data and length are set.
pub const CL_EVENT_MESSAGE: c_int = 4;
/// Event: a worker's channel is closed.
pub const CL_EVENT_DISCONNECT: c_int = 5;
/// Event: a worker ended: exit_code (-1 if a signal ended it or nobody can tell) and signal (0 if none) are set.
pub const CL_EVENT_EXIT: c_int = 6;
/// Event: something that somebody should know: data and length hold one sentence; worker_id is 0 if it is about none.
pub const CL_EVENT_WARNING: c_int = 7;
/// Event: something for the log, no cause for worry, such as why the mechanism kernel is not used: data and length hold one
/// sentence; worker_id is 0.
pub const CL_EVENT_NOTICE: c_int = 8;

/// State of a worker: started, has not spoken yet.
pub const CL_WORKER_STARTING: c_int = 1;
/// State of a worker: has spoken.
pub const CL_WORKER_ONLINE: c_int = 2;
/// State of a worker: listens on something.
pub const CL_WORKER_LISTENING: c_int = 3;
/// State of a worker: was asked to leave.
pub const CL_WORKER_DISCONNECTING: c_int = 4;
/// State of a worker: its channel is closed; the process still runs.
pub const CL_WORKER_DISCONNECTED: c_int = 5;

/// Header-only programs: no libcluster.so.0 was found at run time.
pub const CL_ENOLIB: c_int = -4096;
/// cl_fork() was called in a process that has other threads.
pub const CL_ETHREADS: c_int = -4097;
/// Primary and worker speak different versions of the protocol.
pub const CL_EVERSION: c_int = -4098;
/// A defect inside libcluster was caught; a message on standard error says where. Nothing unwinds into the caller. What the call was
/// to do may be half done: a connection in its hands is closed, an address that it was to open may stay taken, a process that it
/// was to start may end unseen. Other calls and other threads go on, and so does the cluster, which can be stopped as ever.
pub const CL_EPANIC: c_int = -4099;

/// The most bytes of one message.
pub const CL_MESSAGE_MAX: c_int = 65536;

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_core::{ListenFlags, MechanismKind, Policy, WorkerState};

    #[test]
    fn the_numbers_are_the_engines() {
        assert_eq!([CL_ENOLIB, CL_ETHREADS], [cluster_core::ENOLIB, cluster_core::ETHREADS]);
        assert_eq!([CL_EVERSION, CL_EPANIC], [cluster_core::EVERSION, cluster_core::EPANIC]);
        assert_eq!(CL_MESSAGE_MAX as usize, cluster_core::MESSAGE_MAX);
        let flags = [
            (CL_LISTEN_NONBLOCK, ListenFlags::NONBLOCK),
            (CL_LISTEN_EXCLUSIVE, ListenFlags::EXCLUSIVE),
            (CL_LISTEN_IPV6ONLY, ListenFlags::IPV6ONLY),
            (CL_LISTEN_REUSEPORT, ListenFlags::REUSEPORT),
            (CL_LISTEN_READABLE_ALL, ListenFlags::READABLE_ALL),
            (CL_LISTEN_WRITABLE_ALL, ListenFlags::WRITABLE_ALL),
        ];
        for (ours, engine) in flags {
            assert_eq!(ours, engine.bits());
        }
        let policies = [
            (CL_SCHED_NONE, Policy::None),
            (CL_SCHED_RR, Policy::RoundRobin),
            (CL_SCHED_LEAST_LOADED, Policy::LeastLoaded),
            (CL_SCHED_SOURCE_HASH, Policy::SourceHash),
        ];
        for (ours, engine) in policies {
            assert_eq!(ours, engine as c_int);
        }
        let mechanisms = [
            (CL_MECHANISM_PASSED, MechanismKind::Passed),
            (CL_MECHANISM_KERNEL, MechanismKind::Kernel),
            (CL_MECHANISM_SHARED, MechanismKind::Shared),
        ];
        for (ours, engine) in mechanisms {
            assert_eq!(ours, engine as c_int);
        }
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
