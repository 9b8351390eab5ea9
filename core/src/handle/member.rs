//! One listener of one worker, seen from the handle: its mailbox, its queue in the kernel if it has one, and whether it
//! gets connections.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{Accepted, Queue};
use crate::channel::pending;
use crate::mailbox::{Connection, Mailbox, TakenBack};
use crate::sys::Sys;
use crate::sys::poll::{Interest, Poll};
use crate::token::Token;

/// For how long a mailbox stands still until its member is stuck. Longer than an interval of the watch, because on a busy
/// machine a healthy worker may well not run for one.
const STUCK: Duration = Duration::from_millis(60);
/// What a look that came late is worth of one in time: the machine is then too busy to run even the primary.
const LATE: u32 = 4;

/// The intervals between two looks, the shortest and the longest.
pub(crate) const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));
/// Connections that a member may be given between two looks; more are a reason to look sooner.
const BETWEEN_LOOKS: u64 = 8;

/// A worker that makes room in a full mailbox within the first of these keeps up, and its window may grow; one that needs
/// the second has fallen behind, and what waits behind it could be served by a neighbour.
const PACE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(5));

/// No count of connections.
const NOTHING: u64 = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// In the rotation.
    Open,
    /// Its queue did not fall; others are served, and what waits is taken back as far as others have room.
    Stuck { taken: u64, drained: bool },
    /// Its worker has said that it takes nothing for now. What waits is taken back.
    Paused { drained: bool },
    /// Its end of the mailbox was shut down. What waits is taken back; nothing is sent any more.
    Broken { drained: bool },
}

/// One look of the watch at everybody.
pub(crate) struct Look<'a> {
    pub(crate) poll: &'a Poll,
    /// Since the look before, as it was planned.
    pub(crate) interval: Duration,
    /// It is not much later than that.
    pub(crate) in_time: bool,
    /// For how long a queue in the kernel may stand still.
    pub(crate) patience: Duration,
    /// A number that changes while a worker is alive; `None` for one that gives no sign.
    pub(crate) sign_of_life: &'a dyn Fn(u32) -> Option<u64>,
}

impl Look<'_> {
    /// How much it proves that nothing has moved since the look before.
    fn evidence(&self) -> Duration {
        if self.in_time { self.interval } else { self.interval / LATE }
    }
}

/// What a look of the watch found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Watched {
    /// Another look is needed, after this.
    pub(crate) again: Option<Duration>,
    /// Somebody got stuck or came back, so there may be something to pump.
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

/// A member's queue in the kernel and what is known of it.
struct Own {
    queue: Queue,
    /// Connections that were begun with the slot before it was this member's.
    assigned_before: u64,
    /// Those until the last look.
    assigned: u64,
    /// What the primary accepted in the member's stead.
    rescued: u64,
    /// Connections come; else the poll tells when the next does.
    busy: bool,
    /// Nothing is left to be rescued, as far as is known.
    drained: bool,
    /// What showed progress at the last look while something waited, and for how long it has not changed.
    sign: Option<u64>,
    standing: Duration,
}

pub(crate) struct Member {
    pub(crate) listener: u32,
    pub(crate) worker: u32,
    pub(crate) slot: u32,
    pub(crate) mailbox: Mailbox,
    flow: Flow,
    stopping: bool,
    staged: Vec<Connection>,
    passed: u64,
    /// How much had been taken at the last look, while something waited (`NOTHING` if it did not), and the evidence since
    /// it was that much.
    seen: u64,
    standing: Duration,
    armed: bool,
    /// The least window and the most; see `PACE`.
    windows: (u32, u32),
    full_since: Option<Instant>,
    own: Option<Own>,
}

impl Member {
    /// `window_most`: what the mailbox's window may grow to.
    pub(crate) fn new(listener: u32, worker: u32, slot: u32, mailbox: Mailbox, window_most: u32) -> Self {
        let windows = (mailbox.window(), window_most);
        Self {
            listener,
            worker,
            slot,
            mailbox,
            flow: Flow::Open,
            stopping: false,
            staged: Vec::new(),
            passed: 0,
            seen: NOTHING,
            standing: Duration::ZERO,
            armed: false,
            windows,
            full_since: None,
            own: None,
        }
    }

    /// Gives it a queue in the kernel, with which so many connections were begun before.
    pub(crate) fn seat(&mut self, queue: Queue, assigned: u64) {
        self.own = Some(Own {
            queue,
            assigned_before: assigned,
            assigned,
            rescued: 0,
            busy: false,
            drained: false,
            sign: None,
            standing: Duration::ZERO,
        });
    }

    /// Its queue in the kernel.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.own.as_ref().map(|own| &own.queue)
    }

    /// Takes its queue away.
    pub(crate) fn take_queue(&mut self) -> Option<Queue> {
        self.own.take().map(|own| own.queue)
    }

    /// Must come before it is dropped.
    pub(crate) fn forget_queue(&mut self, poll: &Poll) {
        if let Some(own) = &mut self.own {
            own.queue.forget(poll);
        }
    }

    /// In the rotation.
    pub(crate) fn has_turn(&self) -> bool {
        self.flow == Flow::Open && !self.stopping
    }

    /// In the rotation, with room.
    pub(crate) fn is_open(&mut self) -> bool {
        self.flow == Flow::Open && !self.stopping && self.mailbox.room() > 0
    }

    /// Connections given to it and not taken back. `assigned`: those begun with its slot.
    pub(crate) fn given(&self, assigned: u64) -> u64 {
        let own = self.own.as_ref().map_or(0, |own| {
            assigned.saturating_sub(own.assigned_before).saturating_sub(own.rescued)
        });
        self.passed + own
    }

    /// Of those, what its worker has not taken.
    pub(crate) fn waiting(&self) -> u32 {
        let own = self.own.as_ref().and_then(|own| own.queue.waiting()).unwrap_or(0);
        self.mailbox.waiting().saturating_add(own)
    }

    /// Of those, what its worker has taken.
    pub(crate) fn delivered(&self, assigned: u64) -> u64 {
        self.given(assigned).saturating_sub(self.waiting().into())
    }

    /// Its queues can be taken from.
    pub(crate) fn is_source(&self) -> bool {
        let mailbox = matches!(
            self.flow,
            Flow::Stuck { drained: false, .. } | Flow::Paused { drained: false } | Flow::Broken { drained: false }
        );
        mailbox || (!self.has_turn() && self.own.as_ref().is_some_and(|own| !own.drained))
    }

    /// What the poll is to tell of its queue. `wanted`: somebody else could serve what waits in it.
    pub(crate) fn watch_queue(&mut self, poll: &Poll, wanted: bool) {
        let (has_turn, token) = (self.has_turn(), Token::Queue(self.listener));
        if let Some(own) = &mut self.own {
            let interest = match (has_turn, own.busy) {
                (true, false) => Interest::ReadableOnce,
                (false, _) if wanted => Interest::Readable,
                _ => Interest::None,
            };
            own.queue.watch(poll, token, interest);
        }
    }

    /// The poll has told of its queue.
    pub(crate) fn queue_announced(&mut self) {
        if let Some(own) = &mut self.own {
            own.queue.told();
        }
        self.expect_some();
    }

    /// Something may wait in its queue.
    fn expect_some(&mut self) {
        if let Some(own) = &mut self.own {
            own.busy = true;
            own.drained = false;
        }
    }

    pub(crate) fn stage(&mut self, connection: Connection) {
        self.mailbox.reserve();
        self.staged.push(connection);
    }

    pub(crate) fn take_staged(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.staged)
    }

    /// Takes the emptied list back, for its memory.
    pub(crate) fn keep_memory(&mut self, emptied: Vec<Connection>) {
        self.staged = emptied;
    }

    pub(crate) fn send(&mut self, connection: &Connection) -> Sys<()> {
        let outcome = self.mailbox.send(connection);
        match outcome {
            Ok(()) => self.passed += 1,
            Err(errno) if pending(errno).is_some() => {}
            Err(_) => self.flow = Flow::Broken { drained: false },
        }
        outcome
    }

    /// The oldest connection its worker has not received; `Nothing` once there is none, and then a NOP is left in the
    /// mailbox to show when the worker is back.
    pub(crate) fn take_back(&mut self) -> Accepted {
        // A stopping worker finds its last parcels in its mailbox; what waits in the kernel, anybody may serve.
        if self.flow != Flow::Open {
            match self.mailbox.take_back() {
                Ok(TakenBack::Connection(connection)) => {
                    self.passed = self.passed.saturating_sub(1);
                    return Accepted::Connection(connection);
                }
                Ok(TakenBack::Empty) => {}
                Err(_) => return Accepted::Short,
            }
        }
        if let Some(own) = &mut self.own {
            let accepted = own.queue.take();
            match accepted {
                Accepted::Nothing => own.drained = true,
                Accepted::Connection(_) => {
                    own.rescued += 1;
                    return accepted;
                }
                Accepted::Short => return accepted,
            }
        }
        self.is_empty();
        Accepted::Nothing
    }

    /// Nothing is left to be taken back.
    fn is_empty(&mut self) {
        match &mut self.flow {
            Flow::Stuck { drained, .. } => {
                *drained = true;
                if !self.stopping && self.mailbox.waiting() == 0 {
                    match self.mailbox.send_nop() {
                        Err(errno) if pending(errno).is_none() => self.flow = Flow::Broken { drained: true },
                        // Without a NOP the next look finds an empty queue and gives the member its turn back.
                        _ => {}
                    }
                }
            }
            Flow::Paused { drained } | Flow::Broken { drained } => *drained = true,
            Flow::Open => {}
        }
    }

    /// Its worker takes nothing until it says so again.
    pub(crate) fn pause(&mut self, paused: bool, poll: &Poll) {
        match self.flow {
            Flow::Broken { .. } => {}
            _ if paused => {
                self.flow = Flow::Paused { drained: false };
                self.expect_some();
                self.arm(false, poll);
            }
            Flow::Paused { .. } => {
                self.flow = Flow::Open;
                self.seen = NOTHING;
                self.expect_some();
            }
            _ => {}
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// No more connections.
    pub(crate) fn leave_rotation(&mut self) {
        self.stopping = true;
        self.expect_some();
    }

    /// Tells its worker so.
    pub(crate) fn stop(&mut self) -> Sys<()> {
        match self.mailbox.send_stop() {
            // It has shut its end down already, which is the same to it.
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Ok(()),
            outcome => outcome,
        }
    }

    /// Asks for an event when there is room again. True when there is room already.
    pub(crate) fn tell_when_room(&mut self, poll: &Poll, now: Instant) -> bool {
        if self.is_open() {
            return true;
        }
        if self.flow == Flow::Open && !self.stopping {
            // Room that appears before this call makes the event at once.
            self.arm(true, poll);
            self.full_since.get_or_insert(now);
        }
        false
    }

    /// The event came: its worker has taken something.
    pub(crate) fn moved(&mut self, poll: &Poll) {
        self.look_whether_back(self.mailbox.waiting(), poll);
        // A small window is full while the socket still counts as writable: such an event comes too early, and the next
        // one, an edge, when something is taken.
        if self.flow == Flow::Open && self.mailbox.room() > 0 {
            self.arm(false, poll);
            if let Some(since) = self.full_since.take() {
                self.follow_pace(since.elapsed());
            }
        }
    }

    /// Many small hand-overs cost more than a few larger ones, but only a worker that keeps up may have more waiting.
    fn follow_pace(&mut self, took: Duration) {
        let (least, most) = self.windows;
        let window = self.mailbox.window();
        if took <= PACE.0 && window < most {
            self.mailbox.set_window(window + 1);
        } else if took >= PACE.1 && window > least {
            self.mailbox.set_window(least);
        }
    }

    /// Something waits and may have to be taken back.
    pub(crate) fn wants_watch(&self) -> bool {
        let queue = self.has_turn() && self.own.as_ref().is_some_and(|own| own.busy);
        queue || self.mailbox_wants_watch()
    }

    fn mailbox_wants_watch(&self) -> bool {
        !matches!(self.flow, Flow::Stuck { drained: true, .. } | Flow::Paused { .. } | Flow::Broken { .. })
            && self.mailbox.waiting() > 0
    }

    /// One look of the watch. `assigned`: connections begun with its slot.
    pub(crate) fn look(&mut self, look: &Look, assigned: u64) -> Watched {
        let before = self.flow;
        let mailbox = Watched { again: self.look_at_mailbox(look).then_some(LOOKS.1), changed: false };
        let queue = self.look_at_queue(look, assigned);
        mailbox.and(queue).and(Watched { again: None, changed: self.flow != before })
    }

    fn look_at_mailbox(&mut self, look: &Look) -> bool {
        let waiting = self.mailbox.waiting();
        self.look_whether_back(waiting, look.poll);
        let taken = self.mailbox.taken();
        if waiting == 0 {
            self.seen = NOTHING;
            return false;
        }
        match self.seen == taken {
            true => {
                self.standing += look.evidence();
                self.follow_pace(PACE.1);
            }
            false => self.standing = Duration::ZERO,
        }
        self.seen = taken;
        if self.flow == Flow::Open && self.standing >= STUCK {
            self.get_stuck(look.poll);
        }
        self.mailbox_wants_watch()
    }

    fn look_at_queue(&mut self, look: &Look, assigned: u64) -> Watched {
        let Some(own) = &mut self.own else { return Watched::default() };
        if !own.busy || self.flow != Flow::Open || self.stopping {
            return Watched::default();
        }
        let Some(waiting) = own.queue.waiting() else {
            // Somebody shut it down, which only its worker can; from now on it is served by its mailbox alone.
            own.queue.forget(look.poll);
            self.passed = self.given(assigned);
            self.own = None;
            return Watched { again: None, changed: true };
        };
        let fresh = assigned.saturating_sub(own.assigned);
        own.assigned = assigned;
        let mut quiet = false;
        if waiting == 0 {
            own.sign = None;
            own.busy = fresh > 0;
            quiet = !own.busy;
        } else {
            let taken = assigned.saturating_sub(waiting.into());
            let sign = Some((look.sign_of_life)(self.worker).unwrap_or(taken));
            own.standing = if own.sign == sign { own.standing + look.evidence() } else { Duration::ZERO };
            own.sign = sign;
            if own.standing >= look.patience {
                own.sign = None;
                own.drained = false;
                self.get_stuck(look.poll);
                // It shows when the worker is back.
                let _ = self.mailbox.send_nop();
                return Watched::default();
            }
        }
        let sooner = LOOKS.1.min(look.interval.mul_f64(BETWEEN_LOOKS as f64 / fresh.max(1) as f64)).max(LOOKS.0);
        // One that has become quiet is left to the poll, which has to be told.
        Watched { again: own.busy.then_some(sooner), changed: quiet }
    }

    fn get_stuck(&mut self, poll: &Poll) {
        self.flow = Flow::Stuck { taken: self.mailbox.taken(), drained: false };
        self.arm(true, poll);
    }

    fn look_whether_back(&mut self, waiting: u32, poll: &Poll) {
        if let Flow::Stuck { taken, .. } = self.flow
            && (waiting == 0 || self.mailbox.taken() > taken)
        {
            self.flow = Flow::Open;
            self.seen = NOTHING;
            self.arm(false, poll);
            self.expect_some();
        }
    }

    fn arm(&mut self, wanted: bool, poll: &Poll) {
        if self.armed != wanted {
            let interest = if wanted { Interest::RoomAppears } else { Interest::None };
            if poll.modify(self.mailbox.sender(), Token::Mailbox(self.listener).pack(), interest).is_ok() {
                self.armed = wanted;
            }
        }
    }
}
