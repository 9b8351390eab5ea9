//! Replaces workers that run.

use std::ffi::c_int;
use std::mem::offset_of;
use std::time::Duration;

use cluster_core::{Error, RecycleOptions, ReloadOptions, Result, When, process};

use crate::constants::*;
use crate::convert::{invalid, number, sized};
use crate::guard::guard;
use crate::making::spawn_options;
use crate::structs::{cl_recycle_options_t, cl_reload_options_t, cl_spawn_options_t};
use crate::workers::worker_number;

/// Replaces every worker by a new one, so that nobody who connects notices. In each slot the new worker is started
/// beside the old one, and listens without getting connections. Once it is ready it gets the slot's turns, and its
/// clients under CL_SCHED_SOURCE_HASH; then the old one is asked to leave, as by cl_worker_disconnect(), and serves what
/// waits for it.
///
/// A new worker is ready when it listens on everything that the old one does (CL_RELOAD_ALLOW_FEWER: on something), has
/// called cl_ready() where CL_MANUAL_READY is set, and has lived min_ready_ms since. One that ends before, or is not ready
/// in time, has failed. Before the first swap the reload is refused then, and the old workers have lost nothing; later
/// those that were swapped are replaced by workers that are made as the old ones were.
///
/// While it runs, another one takes its place (CL_RELOAD_QUEUE and CL_RELOAD_REFUSE_IF_BUSY change that); slots that were
/// swapped stay so until they are swapped again. cl_stop() ends it. CL_EVENT_RELOAD tells each phase and the outcome.
///
/// UDP: the new worker has its predecessor's socket from the beginning, and both may receive. A worker built with a header that
/// does not know of rotation gets connections under CL_SCHED_NONE as soon as it listens.
///
/// @param options  see cl_reload_options_t; NULL: the defaults. Not kept.
/// @return the new workers' generation > 0, at once: generations are counted from 1, which is that of the first workers.
///         -EBUSY: another runs, and CL_RELOAD_REFUSE_IF_BUSY; -ENOENT: there are no workers; -ESHUTDOWN: the cluster is
///         being stopped; CL_ETHREADS: some were made by cl_fork(), and this process has other threads; -EOPNOTSUPP: a
///         canary; -EINVAL, and what cl_spawn() returns: the program; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. New workers are made by cl_step() and cl_run(); where
/// they are forked, these return in them as for a replacement. Since 0.1.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its size says, and its program is as for cl_spawn().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_reload(options: *const cl_reload_options_t) -> c_int {
    guard(|| {
        let mut wanted = ReloadOptions::default();
        if !options.is_null() {
            let least = offset_of!(cl_reload_options_t, parallel);
            // SAFETY: passed on to the caller; not NULL.
            let given = unsafe { sized(options, least, "cl_reload_options_t") }?;
            // SAFETY: passed on to the caller.
            wanted = unsafe { reload_options(&given) }?;
        }
        process::reload(&wanted).map(|reloading| number(reloading.generation()))
    })
}

/// Replaces every worker by one that is made as those before the last reload were; while one runs, as those before it.
/// Otherwise as cl_reload(NULL).
///
/// @return the generation > 0. -ENOENT: no reload has been done; otherwise as cl_reload().
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_rollback() -> c_int {
    guard(|| {
        let reloading = process::with_primary(|primary| primary.roll_back(&ReloadOptions::default()))?;
        Ok(number(reloading.generation()))
    })
}

/// Changes how many workers there are. New ones are made as the first was, or by the program of the last reload; of too
/// many those of the highest slots leave, as by cl_worker_disconnect().
///
/// @param workers  how many slots have one; 0: one for each CPU this process may use.
/// @return 0, at once. -ENOENT: no worker was ever made; -ESHUTDOWN: the cluster is being stopped; CL_ETHREADS: they are
///         made by cl_fork(), and this process has other threads; -EINVAL: fewer than 0, or more than 4096; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_scale(workers: c_int) -> c_int {
    guard(|| {
        let wanted = usize::try_from(workers).ok().filter(|workers| *workers <= SLOTS_MOST);
        let wanted =
            wanted.ok_or_else(|| invalid(format!("{workers} workers are not possible; 1 to {SLOTS_MOST} are")))?;
        let wanted = if wanted == 0 { process::usable_cpus() } else { wanted };
        process::with_primary(|primary| primary.scale(wanted)).map(|()| 0)
    })
}

const SLOTS_MOST: usize = 4096;

/// Replaces one worker by another that is made in the same way, as cl_reload() does with all. If the new one fails, the
/// old one stays, and CL_EVENT_WARNING says why.
///
/// @param id  the worker's id.
/// @return 0, at once. -ESRCH: no such worker, or it is leaving; -EBUSY: it is being replaced; -ESHUTDOWN: the cluster is
///         being stopped; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn cl_worker_restart(id: c_int) -> c_int {
    guard(|| process::with_primary(|primary| primary.restart(worker_number(id)?)).map(|()| 0))
}

/// From here on replaces workers that have done enough, one after the other, as cl_worker_restart() does: nobody is cut off.
/// What they have done is looked at each 5 seconds. CL_EVENT_RECYCLE tells of each.
///
/// @param options  see cl_recycle_options_t; NULL: no more. Not kept.
/// @return 0; -EINVAL: a negative value, or a bad size; -EPERM: in a worker.
///
/// Threads: any. After fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `options` is NULL or points to as many readable bytes as its size says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cl_recycle(options: *const cl_recycle_options_t) -> c_int {
    guard(|| {
        let mut wanted = RecycleOptions::default();
        if !options.is_null() {
            let least = offset_of!(cl_recycle_options_t, connections);
            // SAFETY: passed on to the caller; not NULL.
            let given = unsafe { sized(options, least, "cl_recycle_options_t") }?;
            let limit = |value: u64| (value > 0).then_some(value);
            wanted.memory = limit(given.rss_bytes);
            wanted.connections = limit(given.connections);
            wanted.requests = limit(given.requests);
            wanted.age = count(given.age_s, "age_s")?.map(|seconds| Duration::from_secs(seconds as u64));
            if given.jitter_percent == CL_NONE {
                wanted.jitter_percent = 0;
            } else if let Some(percent) = count(given.jitter_percent, "jitter_percent")? {
                wanted.jitter_percent = percent as u32;
            }
            wanted.at_a_time = count(given.at_a_time, "at_a_time")?.unwrap_or(wanted.at_a_time);
        }
        process::with_primary(|primary| primary.recycle(wanted)).map(|()| 0)
    })
}

/// # Safety
/// `given.program` is NULL or as for cl_spawn().
unsafe fn reload_options(given: &cl_reload_options_t) -> Result<ReloadOptions> {
    let canary = [given.canary_workers, given.canary_percent, given.canary_ms];
    let verdict = [given.max_errors_permille, given.max_latency_percent];
    if canary.iter().chain(&verdict).any(|field| *field != 0) {
        return Err(Error::new(-libc::EOPNOTSUPP, "a canary is for a later version; leave its fields 0"));
    }
    if given.flags & !(CL_RELOAD_QUEUE | CL_RELOAD_REFUSE_IF_BUSY | CL_RELOAD_ALLOW_FEWER | CL_RELOAD_NO_ROLLBACK) != 0
    {
        return Err(invalid(format!("the reload's flags {:#x} hold unknown bits", given.flags)));
    }
    let has = |flag| given.flags & flag != 0;
    let mut options = ReloadOptions::default();
    if !given.program.is_null() {
        let least = offset_of!(cl_spawn_options_t, argv);
        // SAFETY: passed on to the caller; not NULL.
        let program = unsafe { sized(given.program, least, "cl_spawn_options_t") }?;
        // SAFETY: passed on to the caller.
        options.program = Some(unsafe { spawn_options(&program) }?);
    }
    options.parallel = count(given.parallel, "parallel")?.unwrap_or(options.parallel);
    options.extra = count(given.extra, "extra")?;
    options.ready_timeout = time(given.ready_timeout_ms, "ready_timeout_ms")?.unwrap_or(options.ready_timeout);
    options.min_ready = time(given.min_ready_ms, "min_ready_ms")?.map_or(options.min_ready, Option::unwrap_or_default);
    options.when = match (has(CL_RELOAD_QUEUE), has(CL_RELOAD_REFUSE_IF_BUSY)) {
        (false, false) => When::AtOnce,
        (true, false) => When::Later,
        (false, true) => When::Idle,
        (true, true) => return Err(invalid("CL_RELOAD_QUEUE and CL_RELOAD_REFUSE_IF_BUSY exclude each other")),
    };
    options.allow_fewer = has(CL_RELOAD_ALLOW_FEWER);
    options.no_rollback = has(CL_RELOAD_NO_ROLLBACK);
    Ok(options)
}

/// 0 is `None`: the default.
fn count(given: c_int, what: &str) -> Result<Option<usize>> {
    let given = usize::try_from(given).map_err(|_| invalid(format!("{what} is {given}; it cannot be negative")))?;
    Ok((given > 0).then_some(given))
}

/// The same for milliseconds; within that, CL_NONE is `None`.
fn time(given: c_int, what: &str) -> Result<Option<Option<Duration>>> {
    match (given, u64::try_from(given)) {
        (0, _) => Ok(None),
        (CL_NONE, _) => Ok(Some(None)),
        (_, Ok(milliseconds)) => Ok(Some(Some(Duration::from_millis(milliseconds)))),
        _ => Err(invalid(format!("{what} is {given}; CL_NONE is the only negative value"))),
    }
}
