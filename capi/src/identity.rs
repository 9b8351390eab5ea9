//! Whether this process is a primary or a worker, and which.

use std::ffi::c_int;

use cluster_core::process;

use crate::convert::number;
use crate::guard::guard;

/// Tells whether this process is a primary: it is, unless a cluster started it as a worker.
///
/// The first cl_ call that needs to know decides this once: it reads CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD,
/// removes them from the environment, and believes them only if the descriptor proves to be the channel. Make that call
/// before other threads use the environment (setenv(3)).
///
/// Once the channel is proven the process is a worker for good: if it cannot join its primary (no thread, no
/// descriptor, a filter of system calls), this stays 0, and each call that needs the primary says why. A process that
/// finds one of the variables but no channel (main() began with closefrom(3), or a wrapper closes descriptors) stays 1,
/// but cl_fork(), cl_spawn() and cl_serve() return -ENOTCONN in it: whatever it started would do the same, without end.
/// So do they in a worker that has run another program by exec(3); it leaves its pid in CL_WORKER_PROCESS, for this
/// process alone.
///
/// @return 1 or 0; -ECHILD in a child of fork(2).
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_is_primary() -> c_int {
    guard(|| Ok(process::identity()?.is_none().into()))
}

/// Tells whether this process is a worker.
///
/// @return 1 or 0; -ECHILD in a child of fork(2).
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_is_worker() -> c_int {
    guard(|| Ok(process::identity()?.is_some().into()))
}

/// This worker's id: 1, 2, ... in the order in which the primary started them; never used twice.
///
/// @return the id; 0 in the primary; -ECHILD in a child of fork(2).
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_worker_id() -> c_int {
    guard(|| Ok(process::identity()?.map_or(0, |worker| number(worker.id))))
}

/// This worker's slot: 0 .. n-1; a replacement gets the slot of the worker it replaces.
///
/// @return the slot; -1 in the primary; -ECHILD in a child of fork(2).
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_worker_slot() -> c_int {
    guard(|| Ok(process::identity()?.map_or(-1, |worker| number(worker.slot))))
}
