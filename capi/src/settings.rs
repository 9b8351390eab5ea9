//! The cluster's settings.

use std::ffi::c_int;
use std::mem::offset_of;
use std::time::Duration;

use cluster_core::{Error, ListenRule, Mechanism, Policy, Respawn, Result, Settings, process};

use crate::constants::*;
use crate::convert::{invalid, list, sized};
use crate::guard::guard;
use crate::structs::cl_settings_t;

/// What a field asks for: 0 leaves what was set before.
fn merged<T>(before: T, given: c_int, what: &str, value: impl FnOnce(u32) -> T) -> Result<T> {
    match u32::try_from(given) {
        Ok(0) => Ok(before),
        Ok(given) => Ok(value(given)),
        Err(_) => Err(invalid(format!("{what} is {given}; it cannot be negative"))),
    }
}

fn milliseconds(value: u32) -> Duration {
    Duration::from_millis(value.into())
}

/// # Safety
/// `listen_allow` is NULL or points to strings with NULL behind the last.
unsafe fn merge(settings: &mut Settings, given: &cl_settings_t) -> Result<()> {
    let unknown = |what: &str, value: c_int| invalid(format!("there is no {what} {value}"));
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
        CL_MECHANISM_ROTATION => Mechanism::Rotation,
        other => return Err(unknown("mechanism to choose", other)),
    };
    settings.respawn = match given.respawn {
        CL_RESPAWN_DEFAULT => settings.respawn,
        CL_RESPAWN_NEVER => Respawn::Never,
        CL_RESPAWN_ON_FAILURE => Respawn::OnFailure,
        CL_RESPAWN_ALWAYS => Respawn::Always,
        other => return Err(unknown("respawn", other)),
    };
    if given.flags & !(CL_HANDLE_SIGNALS | CL_HANDLE_RELOAD | CL_MANUAL_READY | CL_WORKER_SIGNALS) != 0 {
        let known = "CL_HANDLE_SIGNALS, CL_HANDLE_RELOAD, CL_MANUAL_READY and CL_WORKER_SIGNALS";
        return Err(invalid(format!("the settings' flags hold more than {known}")));
    }
    settings.handle_reload |= given.flags & CL_HANDLE_RELOAD != 0;
    settings.manual_ready |= given.flags & CL_MANUAL_READY != 0;
    settings.handle_signals |= given.flags & CL_HANDLE_SIGNALS != 0;
    settings.worker_signals |= given.flags & CL_WORKER_SIGNALS != 0;
    // In a program built with an older header the delay lies in padding, so it only counts with the field behind it.
    if given.size >= offset_of!(cl_settings_t, ready_min) + size_of::<c_int>() {
        settings.drain_delay = merged(settings.drain_delay, given.drain_delay_ms, "drain_delay_ms", milliseconds)?;
        if given.ready_min != 0 {
            return Err(Error::new(-libc::EOPNOTSUPP, "ready_min is for a later version; leave it 0"));
        }
    }
    settings.stop_deadline = merged(settings.stop_deadline, given.stop_deadline_ms, "stop_deadline_ms", milliseconds)?;
    let (least, most) = settings.restart_delay;
    settings.restart_delay = (
        merged(least, given.restart_min_ms, "restart_min_ms", milliseconds)?,
        merged(most, given.restart_max_ms, "restart_max_ms", milliseconds)?,
    );
    settings.window = merged(settings.window, given.window, "window", u32::from)?;
    settings.listen_max = merged(settings.listen_max, given.listen_max, "listen_max", u32::from)?;
    // SAFETY: passed on to the caller.
    if let Some(rules) = unsafe { list(given.listen_allow.cast()) } {
        let rule = |text: &std::ffi::OsString| {
            ListenRule::parse(text.to_str().ok_or_else(|| invalid("a rule in listen_allow is not UTF-8"))?)
        };
        settings.listen_allow = Some(rules.iter().map(rule).collect::<Result<_>>()?);
    }
    Ok(())
}

/// Chooses the cluster's settings, if the defaults are not right. May be called any number of times: each call adds to
/// what was set before, and applies to what is started and opened afterwards.
///
/// @param settings  see cl_settings_t; NULL: change nothing. Not kept.
/// @return 0. On an error nothing is changed:
///         -EINVAL: a value out of its range, a bad rule in listen_allow, or a name in it that nobody knows;
///         -ENOENT, -EACCES, -ENOTDIR: a directory in listen_allow cannot be opened;
///         -E2BIG: a field of a later version is set; -EOPNOTSUPP: ready_min; -EPERM: in a worker;
///         -EPERM, -EINVAL, -ENOSYS: CL_MECHANISM_KERNEL without the privilege it needs, or on a kernel that lacks it.
///
/// Threads: any; the primary goes on serving in another thread while names in listen_allow are looked up. After
/// fork(2): -ECHILD. Signals: not in a handler. Since 0.1.
///
/// # Safety
/// `settings` is NULL or points to as many readable bytes as its size says, and its listen_allow is as for `merge`.
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
