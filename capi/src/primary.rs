#![allow(clippy::multiple_unsafe_ops_per_block)] // A pointer's step and its use are one thought.
//! Being the primary.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::mem::offset_of;
use std::time::Duration;

use cluster_core::process::{self, Side};
use cluster_core::{Error, ListenRule, Mechanism, Policy, Respawn, Result, Settings, SpawnOptions};

use crate::constants::*;
use crate::events::deliver;
use crate::guard::{bytes, check_size, guard, guard_in_handler, invalid, sized, text};
use crate::structs::{cl_settings_t, cl_spawn_options_t, cl_worker_info_t};

fn milliseconds(value: c_int, what: &str) -> Result<Option<Duration>> {
    match u64::try_from(value) {
        Ok(0) => Ok(None),
        Ok(value) => Ok(Some(Duration::from_millis(value))),
        Err(_) => Err(Error::new(-libc::EINVAL, format!("{what} is {value} ms; it cannot be negative"))),
    }
}

/// # Safety
/// `listen_allow` is NULL or points to strings with NULL behind the last.
unsafe fn merge(settings: &mut Settings, given: &cl_settings_t) -> Result<()> {
    let unknown = |what: &str, value: c_int| Error::new(-libc::EINVAL, format!("there is no {what} {value}"));
    settings.policy = match given.policy {
        0 => settings.policy,
        CL_SCHED_NONE => Policy::None,
        CL_SCHED_RR => Policy::RoundRobin,
        CL_SCHED_LEAST_LOADED => Policy::LeastLoaded,
        CL_SCHED_SOURCE_HASH => Policy::SourceHash,
        other => return Err(unknown("policy", other)),
    };
    settings.mechanism = match given.mechanism {
        CL_MECHANISM_AUTO => settings.mechanism,
        CL_MECHANISM_PASSED => Mechanism::Passed,
        CL_MECHANISM_KERNEL => Mechanism::Kernel,
        other => return Err(unknown("mechanism to choose", other)),
    };
    settings.respawn = match given.respawn {
        CL_RESPAWN_DEFAULT => settings.respawn,
        CL_RESPAWN_NEVER => Respawn::Never,
        CL_RESPAWN_ON_FAILURE => Respawn::OnFailure,
        CL_RESPAWN_ALWAYS => Respawn::Always,
        other => return Err(unknown("respawn", other)),
    };
    if given.flags & !(CL_HANDLE_SIGNALS | CL_WORKER_SIGNALS) != 0 {
        return Err(invalid("the settings' flags hold more than CL_HANDLE_SIGNALS and CL_WORKER_SIGNALS"));
    }
    settings.handle_signals |= given.flags & CL_HANDLE_SIGNALS != 0;
    settings.worker_signals |= given.flags & CL_WORKER_SIGNALS != 0;
    // A program of an older header has padding where the delay is now.
    if given.size >= offset_of!(cl_settings_t, ready_min) + size_of::<c_int>() {
        if let Some(delay) = milliseconds(given.drain_delay_ms, "the drain delay")? {
            settings.drain_delay = delay;
        }
        if given.ready_min != 0 {
            return Err(Error::new(-libc::EOPNOTSUPP, "ready_min is for a later version; leave it 0"));
        }
    }
    if let Some(deadline) = milliseconds(given.stop_deadline_ms, "the stop deadline")? {
        settings.stop_deadline = deadline;
    }
    if let Some(least) = milliseconds(given.restart_min_ms, "the first restart delay")? {
        settings.restart_delay.0 = least;
    }
    if let Some(most) = milliseconds(given.restart_max_ms, "the longest restart delay")? {
        settings.restart_delay.1 = most;
    }
    match u32::try_from(given.window) {
        Ok(0) => {}
        Ok(window) => settings.window = window,
        Err(_) => return Err(invalid("the window is negative")),
    }
    match u32::try_from(given.listen_max) {
        Ok(0) => {}
        Ok(most) => settings.listen_max = most,
        Err(_) => return Err(invalid("listen_max is negative")),
    }
    // SAFETY: passed on to the caller.
    if let Some(rules) = unsafe { list(given.listen_allow.cast()) } {
        let rule = |text: &std::ffi::OsString| {
            ListenRule::parse(text.to_str().ok_or_else(|| invalid("a rule in listen_allow is not UTF-8"))?)
        };
        settings.listen_allow = Some(rules.iter().map(rule).collect::<Result<_>>()?);
    }
    Ok(())
}

/// Chooses the cluster's settings. May be called any number of times; each adds to what was set before, and applies to
/// what is started and opened afterwards. Needless where the defaults are right.
///
/// @param settings  see cl_settings_t; NULL: change nothing. Not kept.
/// @return 0; -EINVAL: a value that is none, such as a rule in listen_allow, or a name in it that nobody knows; -ENOENT, -EACCES,
///         -ENOTDIR: a directory in listen_allow that cannot be opened; -E2BIG: a field of a later version is set; -EPERM: in a worker, or
///         CL_MECHANISM_KERNEL without the privilege it needs; -EINVAL, -ENOSYS: CL_MECHANISM_KERNEL on a kernel that lacks
///         it. Nothing is changed then.
///
/// Threads: any; names in listen_allow are looked up while the primary goes on serving in another thread. After fork(2): -ECHILD.
/// Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `settings` is NULL or points to as many readable bytes as its size says, and its listen_allow is NULL or a list of strings
/// with NULL behind the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_setup_primary(settings: *const cl_settings_t) -> c_int {
    guard(|| {
        if settings.is_null() {
            return process::with_primary(|_| Ok(0));
        }
        process::configure(|merged| {
            let least = offset_of!(cl_settings_t, mechanism);
            // SAFETY: passed on to the caller; not NULL.
            let given = unsafe { sized(settings, least, "cl_settings_t") }?;
            // SAFETY: passed on to the caller.
            unsafe { merge(merged, &given) }
        })?;
        Ok(0)
    })
}

/// Makes a worker, as fork(2) makes a process: returns twice.
///
/// The worker has a copy of everything the caller had, but none of the primary's descriptors. All stdio streams are flushed before
/// the fork (fflush(NULL); it waits where a pipe is full, as any write does), so that nothing is written twice. Handlers of atexit(3)
/// are copied, too, and run in each worker that calls exit() or returns from main. What only the primary is to do, it does with two lines:
///
///     static void remove_pid_file(void) {
///         if (getpid() != primary_pid) return; // primary_pid = getpid(), before the first worker
///         unlink(PID_FILE);
///     }
///
/// If it is to be replaced (cl_settings_t.respawn), the replacement returns from
/// cl_run() or cl_step() instead.
///
/// @return in the primary the worker's id > 0; in the worker 0.
///         CL_ETHREADS: the process has other threads, use cl_spawn(); -ESHUTDOWN: the cluster is being stopped;
///         -EPERM: in a worker; -EAGAIN, -ENOMEM: from fork(2); -EMFILE, -ENFILE.
///
/// Threads: the process's only one. After fork(2): -ECHILD. Signals: not in a handler. The worker has the mask and the dispositions that
/// the program had; with CL_WORKER_SIGNALS see there. pthread_cancel(3) of a thread in it takes effect when it has returned. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_fork() -> c_int {
    guard(|| match process::fork()? {
        Side::Primary(id) => Ok(number(id)),
        Side::Worker => Ok(0),
    })
}

/// Starts a program as a worker. It finds CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD in its environment and, if it
/// uses libcluster in any form, takes part (with CL_WORKER_SIGNALS it finds that name there, too); any other program runs too, and is ended when the primary dies.
///
/// @param options  see cl_spawn_options_t; NULL: this program again with the same arguments. Not kept.
/// @return the worker's id > 0.
///         -ENOENT, -EACCES, -ENOEXEC, ...: the program cannot be run (from execve(2), or the directory's from
///         chdir(2)); -EPERM: in a worker, or the user cannot be set; -EINVAL: no such user or group, or a bad value;
///         -ESHUTDOWN: the cluster is being stopped; -ETIMEDOUT: another process of the user stopped it before it was the
///         program; -EAGAIN, -ENOMEM, -EMFILE, -ENFILE. No process is left then, and cl_last_error() names the step that failed.
///
/// Threads: any; safe in a program with threads (the child runs only async-signal-safe code until exec). After
/// fork(2): -ECHILD. Signals: not in a handler. The program starts with no signal blocked, so that the
/// deadline's SIGTERM reaches it; with CL_SPAWN_KEEP_MASK with the caller's signal mask, and its replacements with the same.
/// Handlers are reset, ignored signals stay ignored, as with posix_spawn(3). pthread_cancel(3) of a thread in it takes effect
/// when it has returned. Since 0.1.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its size says, and its pointers are NULL or lead to what
/// they should.
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
unsafe fn spawn_options(given: &cl_spawn_options_t) -> Result<SpawnOptions> {
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

/// # Safety
/// `list` is NULL or points to strings with NULL behind the last.
unsafe fn list(list: *const *mut c_char) -> Option<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStringExt;
    if list.is_null() {
        return None;
    }
    let mut entries = Vec::new();
    loop {
        // SAFETY: entries.len() is at most the index of the NULL at the end.
        let entry = unsafe { *list.add(entries.len()) };
        if entry.is_null() {
            return Some(entries);
        }
        // SAFETY: a string by this function's contract.
        let bytes = unsafe { std::ffi::CStr::from_ptr(entry) }.to_bytes().to_vec();
        entries.push(std::ffi::OsString::from_vec(bytes));
    }
}

/// Forks workers that each run a function, and is their primary until the cluster is stopped: by SIGTERM or SIGINT
/// (CL_HANDLE_SIGNALS is implied) or by cl_stop(). A worker that ends is replaced: at once if it had been serving, after a
/// delay that doubles with each if it is in a crash loop (cl_settings_t.restart_min_ms). Stopping is graceful: see cl_stop().
///
/// A start that cannot succeed ends: when nothing has ever listened and every slot has failed three times running by what the
/// primary knows itself. That is a listen which it refused (the address is taken, not allowed, not of this machine) to a worker
/// that then ended, or a worker that ended before it said that it is online. Those that still run are stopped first, with
/// SIGTERM at once. Each refused listen is a CL_EVENT_WARNING as well, at most one a second and address. A worker that ends by
/// itself before it listens is replaced again and again, and once something has listened the primary never gives up.
///
/// In a process that was itself started as a worker (cl_spawn() of this program) it runs the function there.
///
/// Its workers finish what is in hand when SIGTERM or SIGINT comes to the whole process group (Ctrl-C, timeout(1), systemd's
/// KillMode=control-group), or to one of them: see CL_WORKER_SIGNALS, which is implied while it runs. SIGHUP ends the primary, unless the
/// program handles it; then the workers have less than a second.
///
/// Streams are flushed before each fork, and atexit(3) handlers of the program run in every worker that returns: see cl_fork().
///
/// @param workers      how many; 0: one for each CPU this process may use (affinity and cgroup quota).
/// @param worker_main  runs in each worker, whose exit code is its result (exit(3): stdio is flushed). Not NULL.
/// @param argument     given to it.
/// @return in the primary 0 once the cluster was stopped; in a process that was started as a worker the function's
///         result. Never returns in a worker that it forked.
///         -EINVAL: fewer than 0 workers or no function. Of a start that cannot succeed the refusal's own code, such as
///         -EADDRINUSE or -EACCES; -ENOTCONN: no worker ever said that it is online; CL_EVERSION: they speak another version of
///         the protocol. Otherwise as cl_fork(). After any of these no worker is left, and cl_last_error() says why.
///
/// Threads: the process's only one. After fork(2): -ECHILD. Signals: not in a handler. pthread_cancel(3) of the thread in it takes effect when it has returned, so not while worker_main runs, which must not end with pthread_exit(3). Since 0.1.
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
        process::serve((workers > 0).then_some(workers), run, deliver)
    })
}

/// Is the primary until every worker is gone and none is due to be replaced, or until a cl_stop() is complete. Addresses
/// are given up then. Calls the cl_on_event() callback. Where workers are replaced it ends also when the start cannot succeed,
/// as cl_serve() does.
///
/// @return 0 in the primary. 1 in a worker: the replacement of one made by cl_fork(), with cl_settings_t.respawn set.
///         -EPERM: in a worker; -EBUSY: in a callback, or another thread runs the primary. Of a start that cannot succeed the
///         codes of cl_serve(); no worker is left then.
///
/// Threads: any, one at a time. After fork(2): -ECHILD. Signals: handles none, unless CL_HANDLE_SIGNALS is set;
/// then this thread has SIGTERM and SIGINT unblocked while it runs, and its mask back afterwards. pthread_cancel(3) of a thread in it takes effect when it has returned. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_run() -> c_int {
    guard(|| {
        Ok(match process::run(deliver)? {
            Side::Primary(()) => 0,
            Side::Worker => 1,
        })
    })
}

/// Takes one turn as the primary: waits, does what is due, calls the cl_on_event() callback. For programs with a loop
/// of their own; see cl_poll_fd(). It never gives up a start: what cannot be had is told by CL_EVENT_WARNING alone.
///
/// @param timeout_ms  how long to wait for something to do: 0 not at all, less than 0 as long as it takes.
/// @return how many events there were, >= 0. In a replacement of a worker made by cl_fork() 0, and cl_is_worker() is 1.
///         -EPERM: in a worker; -EBUSY: in a callback, or another thread runs the primary.
///
/// Threads: any, one at a time. After fork(2): -ECHILD. Signals: one ends the wait early. pthread_cancel(3) of a thread in it takes effect when it has returned. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_step(timeout_ms: c_int) -> c_int {
    guard(|| {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        Ok(match process::step(timeout, deliver)? {
            Side::Primary(events) => c_int::try_from(events).unwrap_or(c_int::MAX),
            Side::Worker => 0,
        })
    })
}

/// The primary's one descriptor: readable when cl_step() has something to do, timers included.
///
/// @return a descriptor >= 0 for poll(2) or epoll(7) that stays the library's: do not close or read it. -EPERM: in a
///         worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_poll_fd() -> c_int {
    guard(process::poll_fd)
}

/// Stops the cluster, in the turns that follow. First the door is shut: whoever comes from then on is refused at once
/// (ECONNREFUSED; TCP by SO_BINDTOIFINDEX, Linux 5.7, unix sockets by shutdown(2)). Whoever had connected by then is served, and a
/// handshake under way may end (3 s at most). When nobody waits any more, after 3 s and half of the deadline at most, every worker
/// is asked to disconnect (it drains what waits for it, and cl_accept() says -ESHUTDOWN); after the deadline comes SIGTERM, 2 s
/// later SIGKILL. Nobody is replaced. cl_run() returns when all are gone. What was listened on ends with the address, whoever
/// inherited it; the sockets of "fd:N" are left as they are. A socket of a worker's own (CL_LISTEN_EXCLUSIVE, CL_LISTEN_REUSEPORT)
/// is shut in the same way by its worker's cl_accept(), once that sees that it was asked to disconnect; with CL_LISTEN_NONBLOCK an
/// empty queue ends it at once, and a handshake under way is reset by the close.
///
/// With cl_settings_t.drain_delay_ms all of that begins so much later, and the deadline with it; until then the cluster serves
/// as before, and replaces workers. A second call with a shorter deadline ends the delay, or shortens the deadline; with 0 there is
/// no delay.
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

/// Lists the running workers in the order of their ids.
///
/// @param ids       where they go; may be NULL if capacity is 0.
/// @param capacity  how many fit.
/// @return how many workers there are, which may be more than fit. -EINVAL: NULL; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `ids` has room for `capacity` ints.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_worker_ids(ids: *mut c_int, capacity: usize) -> c_int {
    guard(|| {
        if ids.is_null() && capacity > 0 {
            return Err(invalid("the list is NULL and its capacity is not 0"));
        }
        let workers = process::with_primary(|primary| Ok(primary.worker_ids()))?;
        for (index, id) in workers.iter().take(capacity).enumerate() {
            // SAFETY: index < capacity, for which the caller has room.
            unsafe { ids.add(index).write(number(*id)) };
        }
        Ok(c_int::try_from(workers.len()).unwrap_or(c_int::MAX))
    })
}

/// Tells what is known of a worker.
///
/// @param id    its id.
/// @param info  filled in; set info->size to sizeof *info first. Not NULL.
/// @return 0; -ESRCH: no such worker (any more); -EINVAL: NULL or a size that is none; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `info` is NULL or points to as many writable bytes as its size says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_worker_info(id: c_int, info: *mut cl_worker_info_t) -> c_int {
    guard(|| {
        if info.is_null() {
            return Err(invalid("the worker info is NULL"));
        }
        // SAFETY: not NULL; every such struct begins with its size.
        let size = unsafe { info.cast::<usize>().read_unaligned() };
        check_size(size, offset_of!(cl_worker_info_t, slot), "cl_worker_info_t")?;
        let known = process::with_primary(|primary| primary.worker_info(worker_number(id)?))?;
        let full = cl_worker_info_t {
            size,
            id: number(known.worker.id),
            slot: number(known.worker.slot),
            pid: known.worker.pid,
            state: known.state as c_int,
            delivered: known.delivered as c_ulonglong,
            waiting: known.waiting as c_uint,
            load: known.load as c_uint,
        };
        let length = size.min(size_of::<cl_worker_info_t>());
        // SAFETY: the caller has `size` writable bytes, and ours is a local of at least `length`.
        unsafe { std::ptr::copy_nonoverlapping((&raw const full).cast::<u8>(), info.cast::<u8>(), length) };
        Ok(0)
    })
}

/// Sends a worker a message, which it gets from cl_receive(). Never waits: what the worker does not read is kept, up
/// to 1 MiB.
///
/// @param id      the worker's id.
/// @param data    the bytes; copied. May be NULL if length is 0.
/// @param length  0 to CL_MESSAGE_MAX.
/// @return 0; -EAGAIN: 1 MiB is waiting for it; -EMSGSIZE: too long; -ESRCH: no such worker; -EPIPE: its channel is
///         closed; -EINVAL: NULL; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `data` has `length` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_worker_send(id: c_int, data: *const c_void, length: usize) -> c_int {
    guard(|| {
        process::with_primary(|primary| {
            // SAFETY: passed on to the caller.
            primary.send(worker_number(id)?, unsafe { bytes(data, length) }?)?;
            Ok(0)
        })
    })
}

/// Asks one worker to leave: it gets no more connections, drains what waits for it, and has
/// cl_settings_t.stop_deadline_ms until SIGTERM. It is replaced if cl_settings_t.respawn says so.
///
/// @param id  the worker's id.
/// @return 0, at once; -ESRCH: no such worker; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_worker_disconnect(id: c_int) -> c_int {
    guard(|| {
        process::with_primary(|primary| {
            primary.disconnect(worker_number(id)?)?;
            Ok(0)
        })
    })
}

/// Sends a signal to a worker's process, and never to another that has got its number (pidfd_send_signal(2)).
///
/// @param id      the worker's id.
/// @param signal  the signal; 0 only checks.
/// @return 0; -ESRCH: no such worker; -EINVAL: no such signal; -EPERM: in a worker, or not allowed.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_worker_kill(id: c_int, signal: c_int) -> c_int {
    guard(|| {
        process::with_primary(|primary| {
            primary.kill(worker_number(id)?, signal)?;
            Ok(0)
        })
    })
}

pub(crate) fn number(value: u32) -> c_int {
    c_int::try_from(value).unwrap_or(c_int::MAX)
}

fn worker_number(id: c_int) -> Result<u32> {
    u32::try_from(id).map_err(|_| Error::new(-libc::ESRCH, format!("there is no worker {id}")))
}
