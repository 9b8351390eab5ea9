//! Makes workers.

use std::ffi::{c_char, c_int};
use std::mem::offset_of;

use cluster_core::process::{self, Side};
use cluster_core::{Result, SpawnOptions};

use crate::constants::CL_SPAWN_KEEP_MASK;
use crate::convert::{invalid, list, number, sized, text};
use crate::guard::guard;
use crate::structs::cl_spawn_options_t;

/// Makes a worker, as fork(2) makes a process: returns twice.
///
/// The worker has a copy of everything the caller had, but none of the primary's descriptors. All stdio streams are
/// flushed before the fork, so that nothing is written twice (fflush(NULL); it waits where a pipe is full, as any write
/// does). Handlers of atexit(3) are copied too, and run in each worker that calls exit() or returns from main. This
/// keeps such a handler to the primary:
///
///     static void remove_pid_file(void) {
///         if (getpid() != primary_pid) return; // primary_pid = getpid(), before the first worker
///         unlink(PID_FILE);
///     }
///
/// A replacement of the worker (cl_settings_t.respawn) returns from cl_run() or cl_step() instead.
///
/// @return in the primary the worker's id > 0; in the worker 0.
///         CL_ETHREADS: the process has other threads, use cl_spawn(); -ESHUTDOWN: the cluster is being stopped;
///         -EPERM: in a worker; -EAGAIN, -ENOMEM: from fork(2); -EMFILE, -ENFILE.
///
/// Threads: the process's only one. After fork(2): -ECHILD. Signals: not in a handler. The worker has the mask and the
/// dispositions that the program had; CL_WORKER_SIGNALS says what it adds. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_fork() -> c_int {
    guard(|| match process::fork()? {
        Side::Primary(id) => Ok(number(id)),
        Side::Worker => Ok(0),
    })
}

/// Starts a program as a worker. It finds CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD in its environment (and
/// CL_WORKER_SIGNALS where that flag is set), and takes part if it uses libcluster in any form. Any other program runs
/// too, and is ended when the primary dies.
///
/// @param options  see cl_spawn_options_t; NULL: this program again with the same arguments. Not kept.
/// @return the worker's id > 0.
///         -ENOENT, -EACCES, -ENOEXEC, ...: from execve(2), or from chdir(2) to the directory;
///         -EPERM: in a worker, or the user cannot be set; -EINVAL: no such user or group, or a bad value;
///         -ESHUTDOWN: the cluster is being stopped; -ETIMEDOUT: another process of the user stopped it before exec;
///         -EAGAIN, -ENOMEM, -EMFILE, -ENFILE. No process is left then, and cl_last_error() names the step that failed.
///
/// Threads: any; safe in a program with threads (the child runs only async-signal-safe code until exec). After fork(2):
/// -ECHILD. Signals: not in a handler. The program starts with no signal blocked, so that the deadline's SIGTERM
/// reaches it; with CL_SPAWN_KEEP_MASK it and its replacements start with the caller's signal mask. Handlers are reset
/// and ignored signals stay ignored, as with posix_spawn(3). Since 0.1.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its size says, and its pointers are NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_spawn(options: *const cl_spawn_options_t) -> c_int {
    guard(|| {
        let mut wanted = SpawnOptions::default();
        if !options.is_null() {
            let least = offset_of!(cl_spawn_options_t, argv);
            // SAFETY: passed on to the caller; not NULL.
            let given = unsafe { sized(options, least, "cl_spawn_options_t") }?;
            // SAFETY: passed on to the caller.
            wanted = unsafe { spawn_options(&given) }?;
        }
        process::spawn(&wanted).map(number)
    })
}

/// # Safety
/// The pointers in `given` are NULL or lead to strings, NULL-terminated lists of strings, and `inherit_count` ints.
pub(crate) unsafe fn spawn_options(given: &cl_spawn_options_t) -> Result<SpawnOptions> {
    let optional = |pointer: *const c_char, what| {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: passed on to the caller.
        unsafe { text(pointer, what) }.map(|text| Some(text.to_owned()))
    };
    let mut options = SpawnOptions::default();
    options.file = optional(given.file, "the file")?.map(Into::into);
    // SAFETY: passed on to the caller.
    options.arguments = unsafe { list(given.argv) };
    // SAFETY: passed on to the caller.
    options.environment = unsafe { list(given.envp) };
    options.directory = optional(given.cwd, "the directory")?.map(Into::into);
    options.user = optional(given.user, "the user")?;
    options.group = optional(given.group, "the group")?;
    if given.inherit_count > 0 {
        if given.inherit.is_null() || given.inherit_count > INHERIT_MAX {
            return Err(invalid("the list of descriptors to inherit is NULL or too long"));
        }
        // SAFETY: not NULL, and as long as the caller says.
        options.inherit = unsafe { std::slice::from_raw_parts(given.inherit, given.inherit_count) }.to_vec();
    }
    if given.flags & !CL_SPAWN_KEEP_MASK != 0 {
        return Err(invalid("the spawn options' flags hold more than CL_SPAWN_KEEP_MASK"));
    }
    options.keep_mask = given.flags & CL_SPAWN_KEEP_MASK != 0;
    Ok(options)
}

const INHERIT_MAX: usize = 1024;
