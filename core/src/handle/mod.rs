//! What a shared address is in the primary: a socket, its members' mailboxes, and the pump between them.
//!
//! Connections flow one way. Sources: what could not be sent last time, the mailboxes of listeners that are gone, the
//! mailboxes of members that are stuck, and last the kernel's queue, if the mechanism lets the primary accept. Sinks:
//! the mailboxes of open members with room, in the policy's order. With no sink nothing is taken from any source, so
//! that connections wait in the kernel and cost the primary nothing. (Under the policy SOURCE_HASH a few wait in the
//! primary; see `choosing`.)

#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod choosing;
mod closing;
mod held;
mod member;
mod options;
mod turns;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use choosing::Awaited;
use closing::Closing;
use held::Held;
pub(crate) use member::Member;

use crate::channel::pending;
use crate::mailbox::{Connection, Mailbox, TakenBack};
use crate::mechanism::{Accepted, OwnSocket, Retired, Turns, give_up};
// Where the primary looks for them until it names their own room.
pub(crate) use crate::mechanism::{
    Choice, Datagrams, Kernel, LOOK, Look, PART_OF_RUNNING, Passed, Pulse, Refused, Route as Mechanism, Selector,
    Shared, TABLE, Watched,
};
use crate::policy::{Chooser, Policy};
pub(crate) use crate::settings::MechanismKind;
use crate::sys::Sys;
use crate::sys::poll::{Interest, Poll};
use crate::sys::sockaddr::SockAddr;
use crate::sys::unix_path::SocketFile;
use crate::token::Token;

#[cfg(test)]
mod tests;

/// Connections moved in one turn of one handle, so that many handles share the primary.
const BATCH: usize = 32;
/// The first and the longest pause after a shortage.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// How often the program is told at most of what goes wrong at an address and is no one worker's offence.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What an audit found.
pub(crate) struct Audited {
    /// Workers that had taken others' connections.
    pub(crate) thieves: Vec<u32>,
    /// Workers that may be gone and whose former socket was made to receive again, by them or by a process that they left behind.
    pub(crate) risen: Vec<u32>,
    /// The program is to be told of those that are gone.
    pub(crate) tell: bool,
    /// What somebody had done to a socket that all have, if the program is to be told.
    pub(crate) spoiled: Option<&'static str>,
}

/// Counters of a handle since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandleStats {
    /// Connections that were accepted, or begun where the kernel gives them to the workers without the primary.
    pub accepted: u64,
    /// Connections taken back from a mailbox.
    pub reclaimed: u64,
}

pub(crate) struct Handle {
    pub(crate) id: u32,
    /// What makes two listens the same; see `key`.
    pub(crate) key: String,
    /// The address as it was asked for.
    pub(crate) address: String,
    pub(crate) name: SockAddr,
    pub(crate) datagram: bool,
    pub(crate) stats: HandleStats,
    mechanism: Box<dyn Mechanism>,
    file: Option<SocketFile>,
    /// Sorted by slot, like `slots`, which the policy reads.
    members: Vec<Member>,
    slots: Vec<u32>,
    chooser: Chooser,
    /// Connections that only one member may get and that has no room.
    held: Held<Connection>,
    unsent: VecDeque<Connection>,
    orphans: VecDeque<Mailbox>,
    retired: Retired,
    /// Nobody new comes in.
    closing: Option<Closing>,
    /// The sockets are not the program's (`fd:N`), and end with the address.
    pub(crate) ours: bool,
    /// Whose listener was the last to leave.
    last_left: Option<u32>,
    accepting: bool,
    paused_until: Option<Instant>,
    pause: Duration,
    /// When the program was last told of something that a worker may have brought about.
    told_at: Option<Instant>,
    told: turns::Told,
}

/// What a pump leaves to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// An event will tell.
    Done,
    /// Connections are left that no event tells about.
    Again,
    /// Something was short; pump again at this time.
    At(Instant),
}

impl Handle {
    pub(crate) fn new(
        id: u32,
        key: String,
        address: String,
        name: SockAddr,
        datagram: bool,
        mechanism: Box<dyn Mechanism>,
        file: Option<SocketFile>,
    ) -> Self {
        Self {
            id,
            key,
            address,
            name,
            datagram,
            stats: HandleStats::default(),
            mechanism,
            file,
            members: Vec::new(),
            slots: Vec::new(),
            chooser: Chooser::new(Policy::RoundRobin, 0),
            held: Held::default(),
            unsent: VecDeque::new(),
            orphans: VecDeque::new(),
            retired: Retired::default(),
            closing: None,
            ours: true,
            last_left: None,
            accepting: false,
            paused_until: None,
            pause: PAUSE.0,
            told_at: None,
            told: turns::Told::default(),
        }
    }

    pub(crate) fn stats(&self) -> HandleStats {
        HandleStats { accepted: self.stats.accepted + self.mechanism.begun(), ..self.stats }
    }

    pub(crate) fn mechanism(&self) -> MechanismKind {
        self.mechanism.kind()
    }

    /// How connections get to a member, and the socket that its grant carries beside the mailbox.
    pub(crate) fn granted<'a>(&'a self, member: &'a Member) -> (MechanismKind, Option<BorrowedFd<'a>>) {
        let own = member.queue().map(OwnSocket::socket);
        match (self.mechanism.kind(), own.or_else(|| self.mechanism.worker_socket(member.slot))) {
            (MechanismKind::Kernel, None) => (MechanismKind::Passed, None),
            granted => granted,
        }
    }

    /// Begins to watch the listening socket (for nothing, until somebody can take a connection).
    pub(crate) fn register(&self, poll: &Poll) -> Sys<()> {
        match self.mechanism.primary_socket() {
            Some(socket) => poll.add(socket, Token::Listening(self.id).pack(), Interest::None),
            None => Ok(()),
        }
    }

    pub(crate) fn member(&self, listener: u32) -> Option<&Member> {
        self.members.iter().find(|member| member.listener == listener)
    }

    pub(crate) fn has_member_of(&self, worker: u32) -> bool {
        self.members.iter().any(|member| member.worker == worker)
    }

    /// Whose members there are.
    pub(crate) fn workers(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.worker)
    }

    pub(crate) fn is_unattended(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes a listener in. `seated`: it can have a queue of its own; if not, its mailbox alone serves it. An error of the
    /// second kind is only why it has no queue.
    pub(crate) fn join(&mut self, mut member: Member, seated: bool, poll: &Poll) -> Sys<Sys<()>> {
        poll.add(member.mailbox.sender(), Token::Mailbox(member.listener).pack(), Interest::None)?;
        let queue = if seated { self.queue_for(member.slot, poll) } else { Ok(None) };
        let outcome = queue.map(|queue| {
            if let Some(queue) = queue {
                member.seat(queue);
            }
        });
        if self.datagram
            && let Err(errno) = outcome
        {
            // There is no other way to it.
            poll.remove(member.mailbox.sender());
            return Err(errno);
        }
        let index = self.slots.partition_point(|slot| *slot <= member.slot);
        self.slots.insert(index, member.slot);
        self.members.insert(index, member);
        self.give_turns();
        Ok(outcome)
    }

    /// A queue in the kernel for a slot, where the mechanism has such.
    fn queue_for(&mut self, slot: u32, poll: &Poll) -> Sys<Option<OwnSocket>> {
        let outcome = self.mechanism.enter(slot);
        if outcome.is_err()
            && let Some(queue) = self.retired.take_of(slot)
        {
            // To bind a new one is forbidden by now: the old one has to do.
            self.shut(slot, queue, poll);
            return self.mechanism.enter(slot);
        }
        outcome
    }

    /// Takes a listener out. What waits for it goes to the others. Returns how many connections it had taken.
    pub(crate) fn leave(&mut self, listener: u32, poll: &Poll) -> u64 {
        let Some(index) = self.members.iter().position(|member| member.listener == listener) else {
            return 0;
        };
        let mut member = self.members.remove(index);
        self.last_left = Some(member.worker);
        self.slots.remove(index);
        self.give_turns();
        poll.remove(member.mailbox.sender());
        let delivered = member.delivered(self.mechanism.assigned(member.slot));
        let queue = member.take_queue(poll);
        if self.datagram {
            self.mechanism.leave(member.slot, member.worker);
        } else {
            self.vacate(member.slot, queue, poll);
        }
        // An empty one is closed here; its listener takes nothing any more, so nothing can be missed.
        if member.mailbox.is_left_with_some() {
            self.orphans.push_back(member.mailbox);
        }
        delivered
    }

    /// A member gives its queue in the kernel up, and is served by its mailbox alone.
    pub(crate) fn unseat(&mut self, listener: u32, poll: &Poll) {
        if let Some(member) = self.members.iter_mut().find(|member| member.listener == listener) {
            let queue = member.unseat(self.mechanism.assigned(member.slot), poll);
            let slot = member.slot;
            self.give_turns();
            self.vacate(slot, queue, poll);
        }
    }

    /// From a queue that its worker spoiled the primary does not accept; the kernel gives to others what waits in it.
    fn unseat_spoiled(&mut self, poll: &Poll) {
        while let Some(member) = self.members.iter().find(|member| member.queue().is_some_and(OwnSocket::is_spoiled)) {
            self.unseat(member.listener, poll);
        }
    }

    /// The program was not told about this address of late. What a worker can bring about again and again, it is told only now and
    /// then.
    pub(crate) fn may_tell(&mut self, now: Instant) -> bool {
        let due = self.told_at.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN);
        if due {
            self.told_at = Some(now);
        }
        due
    }

    /// A worker has a socket that is not its alone, or in a group with those of others.
    pub(crate) fn wants_audit(&self) -> bool {
        let others_have_some = !self.members.is_empty() || self.mechanism.keeps_former();
        self.mechanism.kind() != MechanismKind::Passed && others_have_some && self.closing.is_none()
    }

    /// Undoes what workers did to such sockets.
    pub(crate) fn audit(&mut self, poll: &Poll, now: Instant) -> Audited {
        let mut thieves: Vec<u32> =
            self.members.iter_mut().filter_map(|member| member.catch_stealing().then_some(member.worker)).collect();
        self.unseat_spoiled(poll);
        let found = self.mechanism.audit();
        let of_slots = self.members.iter().filter(|member| found.thieves.contains(&member.slot));
        thieves.extend(of_slots.map(|member| member.worker));
        let tell = (found.spoiled.is_some() || !found.risen.is_empty()) && self.may_tell(now);
        Audited { thieves, risen: found.risen, tell, spoiled: found.spoiled.filter(|_| tell) }
    }

    /// A slot has no member any more, or one without its queue in the kernel. That goes on listening for a while (see `retired`).
    fn vacate(&mut self, slot: u32, queue: Option<OwnSocket>, poll: &Poll) {
        match queue {
            None => {}
            Some(queue) if queue.is_spoiled() => self.shut(slot, queue, poll),
            Some(queue) => {
                if let Some((slot, oldest)) = self.retired.add(slot, queue, Instant::now()) {
                    self.shut(slot, oldest, poll);
                }
                // The next pump has the poll look at it.
                self.accept_while(false, poll);
            }
        }
    }

    /// Gives a slot's queue back. The kernel moves what waits in it to the others, and may wake nobody for that.
    fn shut(&mut self, slot: u32, mut queue: OwnSocket, poll: &Poll) {
        queue.forget(poll);
        let has_another = self.members.iter().any(|member| member.slot == slot && member.queue().is_some());
        self.mechanism.shut(slot, queue, !has_another);
        self.members.iter_mut().for_each(Member::expect_moved);
        // The next pump has the poll look at the entrance anew.
        self.accept_while(false, poll);
    }

    /// Shuts retired queues down whose time is over.
    fn end_retired(&mut self, poll: &Poll, now: Instant) {
        while let Some((slot, queue)) = self.retired.take_over(now) {
            self.shut(slot, queue, poll);
        }
    }

    /// When the next pump is due in any case, if that has not been said yet.
    pub(crate) fn take_alarm(&mut self, now: Instant) -> Option<Instant> {
        self.retired.take_alarm(now)
    }

    /// Nobody takes connections any more; some may still be leaving.
    pub(crate) fn is_given_up(&self) -> bool {
        self.members.iter().all(Member::is_stopping)
    }

    /// Nobody is left, and this worker was the last.
    pub(crate) fn was_left_last_by(&self, worker: u32) -> bool {
        self.is_unattended() && self.last_left == Some(worker)
    }

    /// Connections that were accepted and are in nobody's mailbox.
    pub(crate) fn unserved(&self) -> u64 {
        let in_hand = (self.unsent.len() + self.held.len()) as u64;
        in_hand + self.orphans.iter().map(|orphan| u64::from(orphan.waiting())).sum::<u64>()
    }

    /// A connection that its taker did not want after all.
    pub(crate) fn put_back(&mut self, connection: Connection) {
        self.stats.reclaimed += 1;
        self.unsent.push_back(connection);
    }

    /// A worker takes nothing for a while: what waits for it goes to others at once.
    pub(crate) fn pause_member(&mut self, listener: u32, paused: bool, poll: &Poll) {
        if let Some(member) = self.members.iter_mut().find(|member| member.listener == listener) {
            member.pause(paused, poll);
        }
        self.give_turns_later();
    }

    /// No more connections for this listener, whose worker hears of it later.
    pub(crate) fn retire_member(&mut self, listener: u32) {
        if let Some(member) = self.members.iter_mut().find(|member| member.listener == listener) {
            member.leave_rotation();
        }
        self.give_turns();
    }

    /// No more connections for this listener; it learns so behind the last one.
    pub(crate) fn stop_member(&mut self, listener: u32) -> Sys<()> {
        let Some(index) = self.members.iter().position(|member| member.listener == listener) else {
            return Ok(());
        };
        if !self.members.iter().any(|member| member.listener != listener && member.has_turn()) {
            self.give_all_in_hand(index);
        }
        self.members[index].leave_rotation();
        // The kernel gives it nothing more before it learns of it.
        self.give_turns();
        self.members[index].stop()
    }

    /// The listening socket is readable.
    pub(crate) fn announced(&mut self) {
        self.mechanism.announced();
        self.retired.announced();
    }

    /// Room has appeared in a mailbox, or its worker moves again.
    pub(crate) fn mailbox_changed(&mut self, listener: u32, poll: &Poll) {
        if let Some(member) = self.members.iter_mut().find(|member| member.listener == listener) {
            member.moved(poll);
        }
        self.give_turns_later();
    }

    /// A member's queue in the kernel has a connection.
    pub(crate) fn queue_announced(&mut self, listener: u32) {
        if let Some(member) = self.members.iter_mut().find(|member| member.listener == listener) {
            member.queue_announced();
        }
    }

    /// Moves connections from the sources to the sinks.
    pub(crate) fn pump(&mut self, poll: &Poll, now: Instant) -> Pumped {
        self.give_turns_if_stale();
        self.end_retired(poll, now);
        if let Some(until) = self.paused_until {
            if now < until {
                return Pumped::At(until);
            }
            self.paused_until = None;
        }
        self.begin_turn(now);
        let mut moved = 0;
        let mut dry = false;
        while moved < BATCH {
            let Some(sink) = self.sink() else { break };
            match self.take() {
                Accepted::Connection(connection) => {
                    self.place(connection, sink);
                    moved += 1;
                }
                Accepted::Nothing => {
                    dry = true;
                    break;
                }
                Accepted::Short => {
                    self.rest(now);
                    break;
                }
            }
        }
        self.unseat_spoiled(poll);
        let short = self.send_staged();
        if short {
            self.rest(now);
        } else if moved > 0 && self.paused_until.is_none() {
            self.pause = PAUSE.0;
        }
        let Awaited { open, again } = self.await_room(poll, now);
        dry &= self.unsent.is_empty();
        self.accept_while(open && self.paused_until.is_none(), poll);
        match self.paused_until {
            Some(until) => Pumped::At(until),
            None if again || open && !dry && !(self.accepting && self.only_the_kernel_has_some()) => Pumped::Again,
            None => Pumped::Done,
        }
    }

    /// One look at every queue. A member whose queue does not fall is stuck and loses its turn; one that moves again
    /// gets it back.
    pub(crate) fn watch(&mut self, look: &Look) -> Watched {
        let look = match self.chooser {
            Chooser::SourceHash(_) => &look.at_owners(),
            _ => look,
        };
        let mut watched = Watched::default();
        for member in &mut self.members {
            watched = watched.and(member.look(look, self.mechanism.assigned(member.slot)));
        }
        self.unseat_spoiled(look.poll);
        let least = self.members.iter().filter_map(Member::depth).min().unwrap_or(0);
        let mut turns_changed = watched.changed;
        for member in &mut self.members {
            turns_changed |= member.compare(least, look.slack);
            if member.turns() != Turns::All {
                watched = watched.and(Watched { again: Some(look.soon()), changed: false });
            }
        }
        if turns_changed {
            self.give_turns();
        }
        watched
    }

    /// True when some member's queue should be looked at.
    pub(crate) fn has_waiting(&self) -> bool {
        self.members.iter().any(Member::wants_watch)
    }

    /// Connections that wait for the members of a worker.
    pub(crate) fn waiting_for(&self, worker: u32) -> u32 {
        let waiting = |member: &Member| member.waiting().saturating_add(self.held.of(member.slot) as u32);
        self.members.iter().filter(|member| member.worker == worker).map(waiting).sum()
    }

    /// Connections that the members of a worker have been given.
    pub(crate) fn delivered_to(&self, worker: u32) -> u64 {
        let members = self.members.iter().filter(|member| member.worker == worker);
        members.map(|member| member.given(self.mechanism.assigned(member.slot))).sum()
    }

    /// Gives the address up. Apart from drop, because a forked worker drops its copy of the handle.
    /// What it took a privilege to make is left, if it can serve another address.
    pub(crate) fn close(mut self, poll: &Poll) -> Option<Selector> {
        self.orphans.iter_mut().for_each(Mailbox::empty);
        if let Some(socket) = self.mechanism.primary_socket() {
            poll.remove(socket);
        }
        for member in &mut self.members {
            poll.remove(member.mailbox.sender());
            drop(member.take_queue(poll));
        }
        for (_, mut queue) in self.retired.take_all() {
            queue.forget(poll);
            give_up(queue.socket());
        }
        if let Some(file) = &self.file {
            file.remove();
        }
        self.end_for_all();
        // Sockets of members are open in their workers, too, and still listen.
        if self.members.is_empty() { self.mechanism.close() } else { None }
    }

    fn only_the_kernel_has_some(&self) -> bool {
        let ours = !self.unsent.is_empty() || !self.orphans.is_empty() || self.retired.has_some();
        !ours && !self.members.iter().any(Member::is_source)
    }

    /// The next connection of the first source that has one.
    fn take(&mut self) -> Accepted {
        if let Some(connection) = self.unsent.pop_front() {
            return Accepted::Connection(connection);
        }
        match self.take_left() {
            Accepted::Nothing => {}
            accepted => return accepted,
        }
        // What waits in the socket of others is theirs.
        let done = self.closing.is_some() && !self.ours;
        let accepted = if done { Accepted::Nothing } else { self.mechanism.accept() };
        self.stats.accepted += u64::from(matches!(accepted, Accepted::Connection(_)));
        accepted
    }

    /// The next that somebody else was given and has not taken.
    fn take_left(&mut self) -> Accepted {
        while let Some(orphan) = self.orphans.front_mut() {
            match orphan.take_back() {
                Ok(TakenBack::Connection(connection)) => {
                    self.stats.reclaimed += 1;
                    return Accepted::Connection(connection);
                }
                Ok(TakenBack::Empty) => {
                    self.orphans.pop_front();
                }
                Err(_) => return Accepted::Short,
            }
        }
        for member in self.members.iter_mut().filter(|member| member.is_source()) {
            match member.take_back() {
                Accepted::Connection(connection) => {
                    self.stats.reclaimed += 1;
                    return Accepted::Connection(connection);
                }
                Accepted::Nothing => {}
                Accepted::Short => return Accepted::Short,
            }
        }
        match self.retired.take() {
            Accepted::Connection(connection) => {
                self.stats.reclaimed += 1;
                Accepted::Connection(connection)
            }
            accepted => accepted,
        }
    }

    /// Sends what was staged, worker by worker, so that each is woken once. True when the kernel was short of
    /// something.
    fn send_staged(&mut self) -> bool {
        let mut short = false;
        for member in &mut self.members {
            let mut staged = member.take_staged();
            for connection in staged.drain(..) {
                if let Err(errno) = member.send(&connection) {
                    short |= pending(errno).is_some();
                    self.unsent.push_back(connection);
                }
            }
            member.keep_memory(staged);
        }
        short
    }

    fn rest(&mut self, now: Instant) {
        self.paused_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    fn accept_while(&mut self, wanted: bool, poll: &Poll) {
        // While it closes, it is looked at now and then; of a unix socket that is shut down the poll would tell without end.
        let accepting = wanted && self.closing.is_none();
        if let Some(socket) = self.mechanism.primary_socket()
            && self.accepting != accepting
        {
            let wanted = accepting;
            let interest = if wanted { Interest::Readable } else { Interest::None };
            if poll.modify(socket, Token::Listening(self.id).pack(), interest).is_ok() {
                self.accepting = wanted;
            }
        }
        for member in &mut self.members {
            member.watch_queue(poll, wanted);
            member.watch_for_return(poll);
        }
        self.retired.watch(poll, Token::Listening(self.id), wanted);
    }
}
