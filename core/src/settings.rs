//! What a program may choose about its cluster.

use std::time::Duration;

use crate::allow::ListenRule;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::restart::Respawn;

/// Which mechanism to use for policies other than `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Mechanism {
    /// The best that is to be had.
    #[default]
    Auto,
    /// The primary accepts and passes connections on.
    Passed,
    /// The kernel gives each slot its connections; an error where it is not to be had.
    Kernel,
    /// Workers accept from one socket in turn, where that can be: round-robin over a stream socket, workers of the primary's own
    /// user.
    Rotation,
}

impl Mechanism {
    /// By the name that environment and documents use.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Mechanism::Auto),
            "passed" => Some(Mechanism::Passed),
            "kernel" => Some(Mechanism::Kernel),
            "rotation" => Some(Mechanism::Rotation),
            _ => None,
        }
    }
}

/// How connections get to the workers. The numbers are those of the C interface and of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MechanismKind {
    /// The primary accepts and passes each connection on.
    Passed = 1,
    /// The kernel gives each slot its connections.
    Kernel = 2,
    /// All workers accept from one socket.
    Shared = 3,
    /// The same, each in its turn.
    Rotation = 4,
}

/// A cluster's settings; `Default` gives what a zeroed C struct means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Who gets the next connection.
    pub policy: Policy,
    /// How it gets there.
    pub mechanism: Mechanism,
    /// Which workers are replaced.
    pub respawn: Respawn,
    /// How long a worker that was asked to leave has until SIGTERM; SIGKILL follows 2 s later.
    pub stop_deadline: Duration,
    /// For how long a stop goes on serving before anything is closed. The deadline begins behind it.
    pub drain_delay: Duration,
    /// SIGTERM and SIGINT stop the cluster while `run` runs.
    pub handle_signals: bool,
    /// While `run` runs, SIGHUP reloads, and SIGTTIN and SIGTTOU start a worker more or end one, each if its disposition is the default.
    pub handle_reload: bool,
    /// Workers made by fork and spawn hold a group's signals, as those of `serve` do.
    pub worker_signals: bool,
    /// A worker is ready only when it has said so.
    pub manual_ready: bool,
    /// Connections that may wait in one mailbox.
    pub window: u32,
    /// What that may grow to while the worker keeps up; less than `window` means that it does not grow.
    pub window_most: u32,
    /// For how long a worker may take nothing from its own socket (mechanism kernel) until others are served in its stead.
    pub patience: Duration,
    /// How many more connections may wait in one worker's own socket than where the least do, before others have its turns.
    pub slack: u32,
    /// The first delay before a worker is replaced, and the longest.
    pub restart_delay: (Duration, Duration),
    /// How long an address whose last worker died stays open for a successor.
    pub keep_unattended: Duration,
    /// What workers may listen on. `None`: those of this process's own user anything, those that were started as another user
    /// nothing.
    pub listen_allow: Option<Vec<ListenRule>>,
    /// How many addresses may be open at a time. 0: any number, but none is opened beyond 64 for workers that were started as
    /// another user.
    pub listen_max: u32,
}

/// More could not be in flight for an ordinary user (RLIMIT_NOFILE counts descriptors in flight, unix(7)).
pub const WINDOW_MAX: u32 = 256;

/// Less would keep the primary busy with looking.
const PATIENCE_LEAST: Duration = Duration::from_millis(1);

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            mechanism: Mechanism::default(),
            respawn: Respawn::default(),
            stop_deadline: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            handle_signals: false,
            handle_reload: false,
            worker_signals: false,
            manual_ready: false,
            window: 12,
            window_most: 0,
            patience: Duration::from_millis(20),
            slack: 32,
            restart_delay: (Duration::from_millis(100), Duration::from_secs(10)),
            keep_unattended: Duration::from_secs(30),
            listen_allow: None,
            listen_max: 0,
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<()> {
        if self.window == 0 || self.window > WINDOW_MAX {
            return Err(Error::invalid(format!("the window is {}; it must be from 1 to {WINDOW_MAX}", self.window)));
        }
        if self.window_most > WINDOW_MAX {
            return Err(Error::invalid(format!(
                "the window may grow to {}; it must be at most {WINDOW_MAX}",
                self.window_most
            )));
        }
        if self.patience < PATIENCE_LEAST {
            return Err(Error::invalid(format!(
                "the patience is {:?}; it must be at least {PATIENCE_LEAST:?}, because the sockets are looked at four times in it",
                self.patience
            )));
        }
        if self.restart_delay.0 > self.restart_delay.1 {
            return Err(Error::invalid("the first restart delay is longer than the longest"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patience_that_would_keep_the_primary_busy_is_refused() {
        let mut settings = Settings::default();
        assert!(settings.check().is_ok());
        settings.patience = PATIENCE_LEAST;
        assert!(settings.check().is_ok());
        settings.patience = Duration::from_micros(999);
        assert_eq!(settings.check().map_err(|error| error.code()), Err(-libc::EINVAL));
    }
}
