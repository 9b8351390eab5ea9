//! The environment variables, named once.

use crate::error::{Error, Result};
use crate::settings::Mechanism;

/// The worker's id.
pub(crate) const WORKER_ID: &str = "CL_WORKER_ID";
/// The worker's slot.
pub(crate) const WORKER_SLOT: &str = "CL_WORKER_SLOT";
/// The number of the channel's descriptor.
pub(crate) const CHANNEL_FD: &str = "CL_CHANNEL_FD";

/// "1": the worker holds a group's signals.
pub(crate) const WORKER_SIGNALS: &str = "CL_WORKER_SIGNALS";

/// The process of whoever has been a worker: where it finds its own number, it has replaced its program by exec(3) since. A child has
/// another.
const WORKER_PROCESS: &str = "CL_WORKER_PROCESS";

/// The mechanism that a primary uses where its program leaves it open.
const MECHANISM: &str = "CL_MECHANISM";

const ALL: [&str; 3] = [WORKER_ID, WORKER_SLOT, CHANNEL_FD];

/// True for a `NAME=value` entry that names one of them.
pub(crate) fn is_ours(entry: &[u8]) -> bool {
    ALL.iter()
        .chain([&WORKER_SIGNALS, &WORKER_PROCESS])
        .any(|name| entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')))
}

/// Whether the environment says that this process was started as a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// It says nothing, or is not to be believed.
    Nothing,
    /// It says so, but not in full.
    Damaged,
    /// This process was a worker before its program was replaced.
    Replaced,
    /// It names a worker, its slot and its channel.
    Worker { id: u32, slot: u32, channel: i32 },
}

/// Takes all of them out of the environment.
pub(crate) fn take() -> Word {
    let secure = crate::sys::process::is_secure_execution();
    let values = ALL.map(taken);
    let was = taken(WORKER_PROCESS).is_some_and(|value| number(&value) == Some(crate::sys::pid::own_pid() as u32));
    match word(values.each_ref().map(Option::as_deref), secure) {
        Word::Nothing if was && !secure => Word::Replaced,
        word => word,
    }
}

fn taken(name: &str) -> Option<std::ffi::OsString> {
    let value = std::env::var_os(name)?;
    crate::sys::process::remove_variable(name);
    Some(value)
}

/// This process is a worker from here on, whatever program it runs.
pub(crate) fn mark_worker() {
    crate::sys::process::set_variable(WORKER_PROCESS, &crate::sys::pid::own_pid().to_string());
}

/// What the values of the three variables say. `secure`: they are not to be believed.
pub(crate) fn word(values: [Option<&std::ffi::OsStr>; 3], secure: bool) -> Word {
    if secure || values.iter().all(Option::is_none) {
        return Word::Nothing;
    }
    let [id, slot, channel] = values.map(|value| number(value?));
    match (id, slot, channel) {
        (Some(id @ 1..), Some(slot), Some(channel)) => Word::Worker { id, slot, channel: channel as i32 },
        _ => Word::Damaged,
    }
}

/// As the primary writes it: digits alone, within an `int`.
fn number(text: &std::ffi::OsStr) -> Option<u32> {
    let text = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse::<i32>().ok().map(|number| number as u32)
}

/// Takes it out of the environment: whether the primary wants this worker to hold a group's signals.
pub(crate) fn take_worker_signals() -> bool {
    taken(WORKER_SIGNALS).is_some_and(|value| value == "1") && !crate::sys::process::is_secure_execution()
}

/// What the environment wants; `Auto` where it says nothing.
pub(crate) fn mechanism() -> Result<Mechanism> {
    match std::env::var_os(MECHANISM).filter(|_| !crate::sys::process::is_secure_execution()) {
        None => Ok(Mechanism::Auto),
        // As a script leaves it that sets it from a variable of its own.
        Some(value) if value.is_empty() => Ok(Mechanism::Auto),
        Some(value) => value.to_str().and_then(Mechanism::from_name).ok_or_else(|| {
            let value = value.to_string_lossy();
            Error::invalid(format!("{MECHANISM} is \"{value}\"; it must be auto, passed, kernel or rotation"))
        }),
    }
}
