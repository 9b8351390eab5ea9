//! A member's own queue in the kernel: the listening socket of its slot, from which its worker accepts, and the primary in
//! its stead; and whether the worker keeps up with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::Accepted;
use super::passed::accept_one;
use super::watch::{LOOK, Look, Watched};
use crate::sys::poll::{Interest, Poll, Waited, wait_readable};
use crate::sys::process::ProcessorTime;
use crate::sys::socket;
use crate::token::Token;

/// Connections that a member may be given between two looks; more are a reason to look sooner.
const BETWEEN_LOOKS: u64 = 8;

/// How many of its turns a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    Whole,
    Half,
    None,
}

pub(crate) struct Queue {
    socket: OwnedFd,
    /// Whose it is.
    worker: u32,
    /// What the poll was last told; `None`: it does not know the socket.
    watched: Option<(Token, Interest)>,
    /// Connections that were begun with the slot before it was this member's.
    assigned_before: u64,
    /// Those until the last look.
    assigned: u64,
    /// What the primary accepted in the worker's stead.
    rescued: u64,
    /// What waited at the last look, and whether that was much more than with others.
    depth: u32,
    share: Share,
    /// Connections come; else the poll tells when the next does.
    busy: bool,
    /// Nothing is left to be rescued, as far as is known.
    drained: bool,
    moved_here: MovedHere,
    spoiled: bool,
    standstill: Standstill,
}

/// Whether the kernel may have moved connections here from a queue that was closed. Before 2026 it woke nobody for these (Linux
/// 5.14 to 6.19; `tests/c/kernel/test_kernel_unwoken.c`), so that a worker that has nothing to do does not learn of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MovedHere {
    No,
    Perhaps,
    /// They wait, and the worker sleeps.
    Unnoticed,
}

/// Nothing is taken although something waits.
#[derive(Default)]
struct Standstill {
    /// What showed progress at the last look: connections taken, and the worker's sign of life; `None`: nothing waited then.
    /// Neither is enough alone. A SYN without a connection looks like one that was taken, and a worker that is alive may
    /// leave just this queue alone.
    signs: Option<(u64, Option<u64>)>,
    /// Nothing had moved between two looks; from then on it counts.
    suspected: bool,
    since: Duration,
    /// What the worker had had of the processors by then.
    before: Option<ProcessorTime>,
}

impl Standstill {
    /// True when it is not for want of a processor, and has lasted for too long.
    fn look(&mut self, look: &Look, worker: u32, taken: u64) -> bool {
        let alive = look.workers.sign_of_life(worker);
        let moved = self.signs.is_none_or(|(before, sign)| taken != before && (alive.is_none() || alive != sign));
        if moved {
            *self = Self { signs: Some((taken, alive)), ..Self::default() };
            return false;
        }
        // A file of /proc, and so only for one that is suspected.
        let now = look.workers.processor_time(worker);
        if !self.suspected {
            self.suspected = true;
            self.before = now;
            return false;
        }
        // One that is ready to run waits for a processor, which `waited` has only once it gets one.
        if !now.is_some_and(|now| now.ready) {
            // More than one look, in case it was the primary that stood still.
            self.since += look.elapsed.min(look.patience / 2);
        }
        let (ran, waited) = match (self.before, now) {
            (Some(before), Some(now)) => (now.ran.saturating_sub(before.ran), now.waited.saturating_sub(before.waited)),
            _ => (Duration::ZERO, Duration::ZERO),
        };
        ran >= look.patience / look.part_of_running || self.since.saturating_sub(waited) >= look.patience
    }

    /// Nothing moved between two looks, and the worker did not wait for a processor.
    fn is_asleep(&self) -> bool {
        self.suspected && !self.before.is_some_and(|then| then.ready)
    }
}

/// What a look at a queue found.
pub(super) enum Seen {
    /// The worker keeps up, as far as can be told.
    Moving(Watched),
    /// It sleeps in front of connections that it was not woken for.
    Unnoticed,
    /// It has stood still for too long.
    Stuck,
    /// Somebody shut the socket down, which only the worker can.
    Gone,
}

impl Queue {
    /// `assigned`: connections that were begun with the slot before.
    pub(super) fn new(socket: OwnedFd, assigned: u64) -> Self {
        Self {
            socket,
            worker: 0,
            watched: None,
            assigned_before: assigned,
            assigned,
            rescued: 0,
            depth: 0,
            share: Share::Whole,
            busy: false,
            drained: false,
            moved_here: MovedHere::No,
            spoiled: false,
            standstill: Standstill::default(),
        }
    }

    /// Gives it to a worker.
    pub(super) fn belong_to(&mut self, worker: u32) {
        self.worker = worker;
    }

    /// Whose it is, or was last.
    pub(super) fn worker(&self) -> u32 {
        self.worker
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// What the worker gets a copy of.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Connections that nobody has accepted; `None` when the socket does not listen any more.
    pub(crate) fn waiting(&self) -> Option<u32> {
        socket::listening_backlog(self.socket.as_fd()).unwrap_or(None)
    }

    /// Connections the worker has been given, of so many that were begun with the slot.
    pub(super) fn given(&self, assigned: u64) -> u64 {
        assigned.saturating_sub(self.assigned_before).saturating_sub(self.rescued)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// What waited at the last look.
    pub(super) fn depth(&self) -> u32 {
        if self.busy { self.depth } else { 0 }
    }

    /// So much more waits than where the least does that others are to have turns of its. True if that is new.
    pub(super) fn compare(&mut self, least: u32, slack: u32) -> bool {
        let share = match self.depth() > least.saturating_add(slack) {
            false => Share::Whole,
            // To take all turns from the longer of two busy queues would only make the other one the longer.
            true if self.standstill.suspected => Share::None,
            true => Share::Half,
        };
        std::mem::replace(&mut self.share, share) != share
    }

    /// It has no turn: what waited at the last look is no measure of what will wait when it has one again.
    pub(super) fn out_of_turn(&mut self) {
        self.depth = 0;
    }

    pub(super) fn share(&self) -> Share {
        self.share
    }

    /// Something may be left in it for others to serve. `has_turn`: its worker has its turns.
    pub(super) fn is_source(&self, has_turn: bool) -> bool {
        !self.drained && (!has_turn || self.moved_here == MovedHere::Unnoticed)
    }

    /// Something may wait in it.
    pub(super) fn expect_some(&mut self) {
        self.busy = true;
        self.drained = false;
    }

    /// Another queue has been closed, and the kernel may have moved here what waited in it.
    pub(super) fn expect_moved(&mut self) {
        self.moved_here = MovedHere::Perhaps;
        self.expect_some();
    }

    /// Accepts in the worker's stead.
    pub(super) fn take(&mut self) -> Accepted {
        let accepted = if self.may_accept() { accept_one(self.socket.as_fd()) } else { Accepted::Nothing };
        match accepted {
            Accepted::Connection(ref connection) => {
                self.rescued += 1;
                // It has what the worker made of its socket.
                socket::do_not_linger(connection.socket.as_fd());
            }
            Accepted::Nothing => {
                self.drained = true;
                self.moved_here = MovedHere::No;
            }
            Accepted::Short => {}
        }
        accepted
    }

    /// Something waits, and to accept it cannot make the primary wait (rule R5). The open file is the worker's too, and with it
    /// O_NONBLOCK; to set it again here would only be a race with a worker that takes it off again. The socket of such a worker
    /// is shut down instead, and the kernel moves what waits in it.
    fn may_accept(&mut self) -> bool {
        let socket = self.socket.as_fd();
        let there = wait_readable(&[socket], Some(Duration::ZERO)).is_ok_and(|waited| waited != Waited::TimedOut);
        if there && (!socket::is_nonblocking(socket).unwrap_or(false) || self.waiting().is_none()) {
            self.spoiled = true;
        }
        there && !self.spoiled
    }

    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Its worker has made it useless: it does not listen any more, or would make the primary wait.
    pub(super) fn is_spoiled(&self) -> bool {
        self.spoiled
    }

    /// Its worker takes what belongs to all; see `socket::is_reuse_port`. From here on it does not, until it does it again.
    pub(super) fn is_stealing(&self) -> bool {
        let socket = self.socket.as_fd();
        let stealing = socket::is_reuse_port(socket) == Ok(false);
        if stealing {
            let _ = socket::set_reuse_port(socket);
        }
        stealing
    }

    /// One look of the watch, while its worker has its turns. `assigned`: connections begun with the slot.
    pub(super) fn look(&mut self, look: &Look, worker: u32, assigned: u64) -> Seen {
        if !self.busy {
            return Seen::Moving(Watched::default());
        }
        let waiting = match socket::listening_backlog(self.socket.as_fd()) {
            Ok(Some(waiting)) => waiting,
            Ok(None) => return Seen::Gone,
            // Not known for want of memory; the next look may know more.
            Err(_) => return Seen::Moving(Watched { again: Some(LOOK), changed: false }),
        };
        let fresh = assigned.saturating_sub(self.assigned);
        self.assigned = assigned;
        self.depth = waiting;
        if waiting == 0 {
            self.standstill = Standstill::default();
            self.moved_here = MovedHere::No;
            self.busy = fresh > 0;
        } else if self.standstill.look(look, worker, assigned.saturating_sub(waiting.into())) {
            self.standstill = Standstill::default();
            self.drained = false;
            self.out_of_turn();
            return Seen::Stuck;
        } else if self.moved_here == MovedHere::Perhaps && self.standstill.is_asleep() {
            self.moved_here = MovedHere::Unnoticed;
            self.drained = false;
            return Seen::Unnoticed;
        }
        let mut next = look.interval.mul_f64(BETWEEN_LOOKS as f64 / fresh.max(1) as f64);
        // Whoever lets something wait may have just begun to stand still.
        if waiting > 0 {
            next = look.soon();
        }
        let again = self.busy.then_some(next.clamp(look.soon(), LOOK));
        // One that has become quiet is left to the poll, which has to be told.
        Seen::Moving(Watched { again, changed: !self.busy })
    }

    /// Watches it, under a token that says whose it is.
    pub(super) fn watch(&mut self, poll: &Poll, token: Token, interest: Interest) {
        let told = match self.watched {
            None => poll.add(&self.socket, token.pack(), interest),
            Some(before) if before == (token, interest) => return,
            Some(_) => poll.modify(&self.socket, token.pack(), interest),
        };
        if told.is_ok() {
            self.watched = Some((token, interest));
        }
    }

    /// An event has come; one that comes once does not come again.
    pub(super) fn told(&mut self) {
        if let Some((_, interest @ Interest::ReadableOnce)) = &mut self.watched {
            *interest = Interest::None;
        }
        self.expect_some();
    }

    /// Must come before it is dropped: the worker may have a copy.
    pub(super) fn forget(&mut self, poll: &Poll) {
        if self.watched.take().is_some() {
            poll.remove(&self.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};

    use super::super::watch::{PART_OF_RUNNING, Pulse};
    use super::*;
    use crate::sys::{sockaddr, socket};

    /// A worker of which one thing is known at a time.
    #[derive(Default)]
    struct Known {
        sign: Option<u64>,
        time: Option<ProcessorTime>,
    }

    impl Pulse for Known {
        fn sign_of_life(&self, _worker: u32) -> Option<u64> {
            self.sign
        }

        fn processor_time(&self, _worker: u32) -> Option<ProcessorTime> {
            self.time
        }
    }

    const PATIENCE: Duration = Duration::from_millis(60);

    struct Rig {
        poll: Poll,
        queue: Queue,
        clients: Vec<TcpStream>,
        known: Known,
    }

    impl Rig {
        fn new(clients: usize) -> Self {
            let socket = socket::open(libc::AF_INET, false).unwrap();
            socket::bind(socket.as_fd(), &"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            socket::listen(socket.as_fd(), 16).unwrap();
            let at = sockaddr::local_name(socket.as_fd()).unwrap().to_inet().unwrap();
            let clients = (0..clients).map(|_| TcpStream::connect(at).unwrap()).collect();
            let mut queue = Queue::new(socket, 0);
            queue.expect_some();
            Self { poll: Poll::new().unwrap(), queue, clients, known: Known::default() }
        }

        fn look(&mut self) -> Seen {
            let look = Look {
                poll: &self.poll,
                interval: LOOK,
                elapsed: LOOK,
                in_time: true,
                patience: PATIENCE,
                part_of_running: PART_OF_RUNNING,
                slack: 2,
                workers: &self.known,
            };
            self.queue.look(&look, 1, self.clients.len() as u64)
        }

        fn ran(&mut self, ran: u64, waited: u64, ready: bool) {
            let of = Duration::from_millis;
            self.known.time = Some(ProcessorTime { ran: of(ran), waited: of(waited), ready });
        }

        /// How many looks it takes until it is stuck, of so many at most.
        fn looks_until_stuck(&mut self, most: usize) -> Option<usize> {
            (1..=most).find(|_| matches!(self.look(), Seen::Stuck))
        }
    }

    #[test]
    fn who_has_much_more_waiting_loses_half_its_turns_and_who_stands_still_all() {
        let mut rig = Rig::new(5);
        assert!(!rig.queue.compare(0, 2), "nothing is known yet");
        assert!(matches!(rig.look(), Seen::Moving(_)));
        assert_eq!(rig.queue.depth(), 5);
        assert!(!rig.queue.compare(3, 2), "as much more is no more than the slack");
        assert_eq!(rig.queue.share(), Share::Whole);
        assert!(rig.queue.compare(2, 2));
        assert_eq!(rig.queue.share(), Share::Half);
        assert!(!rig.queue.compare(2, 2), "it is new only once");
        // Nothing is taken until the next look.
        assert!(matches!(rig.look(), Seen::Moving(_)));
        assert!(rig.queue.compare(2, 2));
        assert_eq!(rig.queue.share(), Share::None);
        assert!(rig.queue.compare(5, 2));
        assert_eq!(rig.queue.share(), Share::Whole);
    }

    #[test]
    fn a_queue_from_which_nothing_is_taken_stands_still_after_its_patience() {
        let mut rig = Rig::new(1);
        // One look to see it, one to suspect, and three of 20 ms.
        assert_eq!(rig.looks_until_stuck(20), Some(5));
    }

    #[test]
    fn one_that_waits_for_a_processor_does_not_stand_still() {
        let mut rig = Rig::new(1);
        rig.ran(0, 0, true);
        assert_eq!(rig.looks_until_stuck(50), None);
        // It had waited all the time, as is known when it gets one.
        let mut rig = Rig::new(1);
        rig.ran(0, 0, false);
        for waited in 0..50 {
            rig.ran(0, 20 * waited, false);
            assert!(!matches!(rig.look(), Seen::Stuck), "after {waited}");
        }
    }

    #[test]
    fn one_that_runs_and_takes_nothing_does_something_else() {
        let mut rig = Rig::new(1);
        rig.ran(0, 0, true);
        assert_eq!(rig.looks_until_stuck(2), None);
        // A quarter of the patience is 15 ms.
        rig.ran(14, 0, true);
        assert_eq!(rig.looks_until_stuck(1), None);
        rig.ran(15, 0, true);
        assert_eq!(rig.looks_until_stuck(1), Some(1));
    }

    #[test]
    fn who_takes_and_gives_a_sign_of_life_does_not_stand_still() {
        let mut rig = Rig::new(4);
        for sign in 0..4 {
            rig.known.sign = Some(sign);
            assert_eq!(rig.looks_until_stuck(4), None);
            socket::accept(rig.queue.socket(), 0).unwrap();
        }
        // A sign alone is not enough: it may leave just this queue alone.
        let mut rig = Rig::new(1);
        for sign in 0..4 {
            rig.known.sign = Some(sign);
            assert!(!matches!(rig.look(), Seen::Stuck));
        }
        rig.known.sign = Some(4);
        assert!(matches!(rig.look(), Seen::Stuck));
    }

    #[test]
    fn nothing_is_accepted_where_that_could_make_the_primary_wait() {
        let mut rig = Rig::new(2);
        assert!(matches!(rig.queue.take(), Accepted::Connection(_)));
        socket::make_blocking(rig.queue.socket()).unwrap();
        assert!(matches!(rig.queue.take(), Accepted::Nothing));
        assert!(rig.queue.is_spoiled());
        // It might be taken off again between a look and the accept.
        socket::set_nonblocking(rig.queue.socket()).unwrap();
        assert!(matches!(rig.queue.take(), Accepted::Nothing));
        assert_eq!(rig.queue.waiting(), Some(1), "it waits for whom the kernel gives it to");
        assert_eq!(rig.queue.given(2), 1, "one was accepted in its stead");
    }

    #[test]
    fn a_socket_that_was_shut_down_is_noticed() {
        let mut rig = Rig::new(1);
        socket::stop_listening(rig.queue.socket());
        assert!(matches!(rig.look(), Seen::Gone));
        assert_eq!(rig.queue.waiting(), None);
    }

    #[test]
    fn a_queue_that_is_empty_is_quiet_at_the_second_look() {
        let mut rig = Rig::new(1);
        socket::accept(rig.queue.socket(), 0).unwrap();
        assert!(matches!(rig.look(), Seen::Moving(watched) if watched.again.is_some()), "one had come since");
        assert!(matches!(rig.look(), Seen::Moving(watched) if watched.again.is_none() && watched.changed));
        assert!(!rig.queue.is_busy());
    }
}
