//! Runs the cluster, from its start to its stop.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use cluster_core::Error;
use cluster_core::process::{self, Side};

use crate::convert::invalid;
use crate::events::tell;
use crate::guard::{guard, guard_in_handler};

/// Forks workers that each run a function, and runs as their primary until the cluster is stopped: by SIGTERM or SIGINT
/// (CL_HANDLE_SIGNALS is implied) or by cl_stop(). A worker that ends is replaced: at once if it had been serving, in a
/// crash loop after a delay that doubles (cl_settings_t.restart_min_ms). Stopping is graceful: see cl_stop().
///
/// A start that cannot succeed ends: when nothing has ever listened and every slot has failed three times running by
/// what the primary knows itself. Such a failure is a listen that it refused (the address is taken, not allowed, not of
/// this machine) to a worker that then ended, or a worker that ended before it said that it is online. Those that still
/// run are stopped first, with SIGTERM at once. Each refused listen is also a CL_EVENT_WARNING, at most one a second
/// and address. A worker that ends by itself before it listens is replaced again and again. Once something has listened
/// the primary never gives up.
///
/// In a process that was itself started as a worker (cl_spawn() of this program) it runs the function there.
///
/// Its workers finish what is in hand when SIGTERM or SIGINT comes to the whole process group (Ctrl-C, timeout(1),
/// systemd's KillMode=control-group) or to one of them: CL_WORKER_SIGNALS is implied while it runs. SIGHUP ends the
/// primary unless the program handles it; the workers then have less than a second.
///
/// Streams are flushed before each fork, and atexit(3) handlers run in every worker that returns: see cl_fork().
///
/// @param workers      how many; 0: one for each CPU this process may use (affinity and cgroup quota).
/// @param worker_main  runs in each worker, whose exit code is its result (exit(3): stdio is flushed). Not NULL.
/// @param argument     given to it.
/// @return in the primary 0 once the cluster was stopped; in a process that was started as a worker the function's
///         result. Never returns in a worker that it forked.
///         -EINVAL: fewer than 0 workers or no function. For a start that cannot succeed the refusal's own code, such
///         as -EADDRINUSE or -EACCES; -ENOTCONN: no worker ever said that it is online; CL_EVERSION: they speak another
///         version of the protocol. Otherwise as cl_fork(). No worker is left then, and cl_last_error() says why.
///
/// Threads: the process's only one. After fork(2): -ECHILD. Signals: not in a handler. pthread_cancel(3) takes no
/// effect while worker_main runs, which must not end with pthread_exit(3). Since 0.1.
///
/// # Safety
/// `worker_main` can be called with `argument`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_serve(
    workers: c_int,
    worker_main: Option<unsafe extern "C" fn(*mut c_void) -> c_int>,
    argument: *mut c_void,
) -> c_int {
    guard(|| {
        let worker_main = worker_main.ok_or_else(|| invalid("the worker's function is NULL"))?;
        let workers = usize::try_from(workers).map_err(|_| invalid("the number of workers is negative"))?;
        // SAFETY: passed on to the caller.
        let run = || unsafe { worker_main(argument) };
        process::serve((workers > 0).then_some(workers), run, tell)
    })
}

/// Runs the primary until every worker is gone and none is due to be replaced, or until a cl_stop() is complete.
/// Addresses are given up then. Calls the cl_on_event() callback. Where workers are replaced it also ends when the
/// start cannot succeed, as cl_serve() does.
///
/// @return 0 in the primary. 1 in a worker: the replacement of one made by cl_fork(), with cl_settings_t.respawn set.
///         -EPERM: in a worker; -EBUSY: in a callback, or another thread runs the primary. For a start that cannot
///         succeed the codes of cl_serve(); no worker is left then.
///
/// Threads: any, one at a time. After fork(2): -ECHILD. Signals: handles none, unless CL_HANDLE_SIGNALS is set; then
/// this thread has SIGTERM and SIGINT unblocked while it runs, and its mask back afterwards. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_run() -> c_int {
    guard(|| Ok((process::run(tell)? == Side::Worker).into()))
}

/// Takes one turn as the primary: waits, does what is due, and calls the cl_on_event() callback. For programs with a
/// loop of their own; see cl_poll_fd(). It never gives up a start: CL_EVENT_WARNING alone tells what cannot be had.
///
/// @param timeout_ms  milliseconds to wait for something to do; 0: not at all; less than 0: as long as it takes.
/// @return how many events there were, >= 0. In a replacement of a worker made by cl_fork() 0, and cl_is_worker() is 1.
///         -EPERM: in a worker; -EBUSY: in a callback, or another thread runs the primary.
///
/// Threads: any, one at a time. After fork(2): -ECHILD. Signals: one ends the wait early. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_step(timeout_ms: c_int) -> c_int {
    guard(|| {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        Ok(match process::step(timeout, tell)? {
            Side::Primary(events) => c_int::try_from(events).unwrap_or(c_int::MAX),
            Side::Worker => 0,
        })
    })
}

/// The primary's one descriptor: readable when cl_step() has something to do, timers included.
///
/// @return a descriptor >= 0 for poll(2) or epoll(7), the library's: do not close or read it. -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_poll_fd() -> c_int {
    guard(process::poll_fd)
}

/// Stops the cluster, in the turns that follow. First the door is shut: whoever comes from then on is refused at once
/// (ECONNREFUSED; TCP by SO_BINDTOIFINDEX, Linux 5.7, unix sockets by shutdown(2)). Whoever had connected by then is
/// served, and handshakes under way may end (3 s at most). When nobody waits any more, and at the latest after 3 s or
/// half of the deadline, whichever is shorter, every worker is asked to disconnect: it drains what waits for it, and
/// cl_accept() returns -ESHUTDOWN. After the deadline comes SIGTERM, 2 s later SIGKILL. Nobody is replaced. cl_run()
/// returns when all are gone. The listening sockets end with the address, whoever inherited them; the sockets of "fd:N"
/// are left as they are. A socket that a worker bound itself (CL_LISTEN_EXCLUSIVE, CL_LISTEN_REUSEPORT) is shut in the
/// same way by that worker's cl_accept(), once it sees that the worker was asked to disconnect. With CL_LISTEN_NONBLOCK
/// an empty queue ends it at once, and the close resets handshakes under way.
///
/// With cl_settings_t.drain_delay_ms all of that begins so much later, and the deadline with it; until then the cluster
/// serves as before, and replaces workers. A second call with a shorter deadline ends the delay or shortens the
/// deadline; 0 means no delay.
///
/// @param deadline_ms  milliseconds until SIGTERM; 0: at once; less than 0: cl_settings_t.stop_deadline_ms.
/// @return 0; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: async-signal-safe. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_stop(deadline_ms: c_int) -> c_int {
    let deadline = u64::try_from(deadline_ms).ok().map(Duration::from_millis);
    guard_in_handler(|| match process::stop(deadline) {
        Ok(()) => Ok(0),
        Err(code) => {
            process::check_not_forked()?;
            Err(Error::new(code, "this process is a worker; only a primary can do that"))
        }
    })
}
