//! One look of the watch: what a member is judged by, and what the look found.

use std::time::Duration;

use crate::sys::poll::Poll;
use crate::sys::process::ProcessorTime;

/// The longest interval between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// How often one is looked at while it seems to stand still, until that is certain; more often than that nobody is.
const LOOKS_OF_PATIENCE: u32 = 4;
/// What a look that came late is worth of one in time: the machine is then too busy to run even the primary.
const LATE: u32 = 4;

/// What `Look::part_of_running` is where any worker can serve any connection.
pub(crate) const PART_OF_RUNNING: u32 = 4;
/// Where a client's connections belong to one worker, which may know the client, nobody else takes them for less than this. It is
/// what a mailbox may stand still.
const PATIENCE_OF_OWNERS: Duration = Duration::from_millis(60);

/// One look at everybody.
pub(crate) struct Look<'a> {
    pub(crate) poll: &'a Poll,
    /// Since the look before, as it was planned, and as it was.
    pub(crate) interval: Duration,
    pub(crate) elapsed: Duration,
    /// It is not much later than that.
    pub(crate) in_time: bool,
    /// For how long an own socket may stand still.
    pub(crate) patience: Duration,
    /// A worker that ran for this part of that and took nothing has something else to do.
    pub(crate) part_of_running: u32,
    /// The poll is not asked about own sockets; an address that is calm is looked at now and then.
    pub(crate) calm: bool,
    /// How many more connections may wait in one own socket than where the least do.
    pub(crate) slack: u32,
    pub(crate) workers: &'a dyn Pulse,
}

impl Look<'_> {
    /// The same look at members that own their clients.
    pub(crate) fn at_owners(&self) -> Self {
        Self { patience: self.patience.max(PATIENCE_OF_OWNERS), part_of_running: 1, ..*self }
    }

    /// The shortest interval between two looks.
    pub(crate) fn soon(&self) -> Duration {
        (self.patience / LOOKS_OF_PATIENCE).min(LOOK)
    }

    /// For how long something stands still that has not moved since the look before.
    pub(crate) fn evidence(&self) -> Duration {
        if self.in_time { self.interval } else { self.interval / LATE }
    }
}

/// What shows whether a worker is busy, or only waits for its turn on a busy machine.
pub(crate) trait Pulse {
    /// A number that changes while it takes connections; `None` for one that gives no sign.
    fn sign_of_life(&self, worker: u32) -> Option<u64>;
    /// What it has had of the processors; `None` where the kernel does not say.
    fn processor_time(&self, worker: u32) -> Option<ProcessorTime>;
}

/// What a look found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watched {
    /// Another look is needed, after this.
    pub(crate) again: Option<Duration>,
    /// Somebody got stuck or came back or became quiet, so there may be something to pump or to tell the poll.
    pub(crate) changed: bool,
}

impl Watched {
    /// Both together.
    pub(crate) fn and(self, other: Watched) -> Watched {
        let again = match (self.again, other.again) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Watched { again, changed: self.changed || other.changed }
    }
}
