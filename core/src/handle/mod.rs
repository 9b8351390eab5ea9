//! A handle: one shared address in the primary, with its sockets, its members, and the pump between them.
//!
//! Connections flow one way, from sources to sinks. The sources, in this order (`flow`): what could not be sent last time; the
//! mailboxes of members that are gone; what waits for members that are stuck; and the kernel's queue, if the mechanism lets the
//! primary accept. The sinks (`choosing`): the mailboxes of open members with room, in the policy's order. Without a sink nothing
//! is taken from any source, so connections wait in the kernel and cost the primary nothing. (Under SOURCE_HASH a few wait in the
//! primary; see `choosing`.)
//!
//! Each of these types has private fields and knows only those before it: `Member` (with `Standing` and `Pace`), `Members`,
//! `Sockets`, `Choosing`, `TurnsGiven`, `Flow`. Only the handle calls them all: in `pump`, `watch`, `audit` and `closing`, and here,
//! where members come and go.

mod attention;
mod audit;
#[cfg(any(test, feature = "fuzzing"))]
mod check;
mod choosing;
mod closing;
mod flow;
mod held;
mod member;
mod members;
mod moving;
mod pace;
mod pump;
mod returning;
mod rousing;
mod shut;
mod sockets;
mod standing;
mod succeeding;
mod turns;
mod watch;

use std::os::fd::BorrowedFd;
use std::time::Instant;

pub(crate) use attention::AUDIT;
use attention::Attention;
pub(crate) use audit::Audited;
use choosing::Choosing;
use flow::Flow;
pub use flow::HandleStats;
pub(crate) use member::Member;
use members::Members;
pub(crate) use pump::Pumped;
use rousing::Rousing;
use shut::Shut;
use sockets::Sockets;
use turns::TurnsGiven;

use crate::bind::{ListenFlags, Shape};
use crate::error::{Error, Result};
use crate::mechanism::{OwnSocket, Route};
use crate::options::{self, SocketOption};
use crate::policy::Policy;
use crate::settings::MechanismKind;
use crate::sys::Sys;
use crate::sys::poll::{Interest, Poll};
use crate::sys::sockaddr::SockAddr;
use crate::sys::unix_path::SocketFile;
use crate::token::Token;

#[cfg(test)]
mod tests;

pub(crate) struct Handle {
    pub(crate) id: u32,
    /// What makes two listens the same; see `key`.
    pub(crate) key: String,
    /// The address as it was asked for.
    pub(crate) address: String,
    pub(crate) name: SockAddr,
    pub(crate) datagram: bool,
    /// The sockets are not the program's (`fd:N`), and end with the address.
    pub(crate) ours: bool,
    file: Option<SocketFile>,
    /// How the socket of that file was made.
    made_with: Option<(ListenFlags, Shape)>,
    members: Members,
    sockets: Sockets,
    choosing: Choosing,
    turns: TurnsGiven,
    flow: Flow,
    rousing: Rousing,
    attention: Attention,
    /// Nobody new comes in.
    closing: Option<Shut>,
    /// When the program was last told of something that a worker may have brought about.
    warned_at: Option<Instant>,
}

impl Handle {
    pub(crate) fn new(
        id: u32,
        key: String,
        address: String,
        name: SockAddr,
        datagram: bool,
        route: Box<dyn Route>,
        file: Option<SocketFile>,
    ) -> Self {
        Self {
            id,
            key,
            address,
            name,
            datagram,
            ours: true,
            file,
            made_with: None,
            members: Members::default(),
            sockets: Sockets::new(route, Token::Listening(id)),
            choosing: Choosing::new(Policy::RoundRobin, 0, false),
            turns: TurnsGiven::default(),
            flow: Flow::default(),
            rousing: Rousing::default(),
            attention: Attention::default(),
            closing: None,
            warned_at: None,
        }
    }

    /// From now on connections are spread in this way. `seed` must not be known to clients.
    pub(crate) fn choose_by(&mut self, policy: Policy, seed: u32) {
        // Nothing tells apart the clients of a unix socket.
        let is_unix = self.name.to_inet().is_none();
        let policy = if policy == Policy::SourceHash && is_unix { Policy::RoundRobin } else { policy };
        self.choosing = Choosing::new(policy, seed, self.mechanism() == MechanismKind::Kernel);
    }

    /// Begins to watch the listening socket (for nothing, until somebody can take a connection).
    pub(crate) fn register(&self, poll: &Poll) -> Sys<()> {
        self.sockets.register(poll)
    }

    pub(crate) fn stats(&self) -> HandleStats {
        self.flow.stats(self.sockets.route().begun())
    }

    pub(crate) fn mechanism(&self) -> MechanismKind {
        self.sockets.route().kind()
    }

    /// Who gets the next connection, where the primary has a say in it.
    pub(crate) fn policy(&self) -> Policy {
        self.choosing.policy()
    }

    /// Its clients are told apart: that a member comes or goes changes a table.
    pub(crate) fn is_by_client(&self) -> bool {
        self.choosing.is_by_client()
    }

    /// How connections get to a member, and what its grant carries beside the mailbox: a socket, and a page.
    pub(crate) fn for_grant<'a>(&'a self, member: &'a Member) -> (MechanismKind, [Option<BorrowedFd<'a>>; 2]) {
        let own = member.own_socket().map(OwnSocket::socket);
        let route = self.sockets.route();
        match (route.kind(), own.or_else(|| route.worker_socket(member.slot))) {
            (MechanismKind::Kernel, None) => (MechanismKind::Passed, [None; 2]),
            (MechanismKind::Rotation, _) if !member.has_common_socket() => (MechanismKind::Passed, [None; 2]),
            (kind, socket) => (kind, [socket, route.worker_page()]),
        }
    }

    pub(crate) fn member(&self, listener: u32) -> Option<&Member> {
        self.members.iter().find(|member| member.listener == listener)
    }

    pub(crate) fn has_member_of(&self, worker: u32) -> bool {
        self.members.of_worker(worker).next().is_some()
    }

    /// Whose members there are.
    pub(crate) fn workers(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.worker)
    }

    pub(crate) fn is_unattended(&self) -> bool {
        self.members.is_empty()
    }

    /// Nobody takes connections any more; some may still be leaving.
    pub(crate) fn is_given_up(&self) -> bool {
        self.members.iter().all(Member::is_stopping)
    }

    /// Nobody is left, and this worker was the last.
    pub(crate) fn was_left_last_by(&self, worker: u32) -> bool {
        self.is_unattended() && self.members.last_left() == Some(worker)
    }

    /// Takes a listener in. `own`: it can have an own socket; if not, its mailbox alone serves it. An error of the second kind is only
    /// why it has none.
    pub(crate) fn join(&mut self, mut member: Member, own: bool, poll: &Poll) -> Sys<Sys<()>> {
        poll.add(member.mailbox.sender(), Token::Mailbox(member.listener).pack(), Interest::None)?;
        let seated = !member.is_proving();
        let entered = if own { self.sockets.enter(member.slot, seated, &mut self.members, poll) } else { Ok(None) };
        let outcome = entered.map(|own| own.into_iter().for_each(|own| member.give_own_socket(own)));
        if self.datagram
            && let Err(errno) = outcome
        {
            // There is no other way to it.
            poll.remove(member.mailbox.sender());
            return Err(errno);
        }
        if seated {
            // One that is leaving may still be there.
            self.lose_places(member.slot);
        }
        self.members.add(member);
        self.attention.wake_anew();
        self.give_turns();
        Ok(outcome)
    }

    /// Takes a listener out. What waits for it goes to the others. Returns how many connections it had taken.
    pub(crate) fn leave(&mut self, listener: u32, poll: &Poll) -> u64 {
        let Some(mut member) = self.members.remove(listener) else { return 0 };
        self.attention.wake_anew();
        self.give_turns();
        self.has_left_the_line(&member);
        poll.remove(member.mailbox.sender());
        let assigned = self.sockets.route().assigned(member.slot);
        let taken = member.taken(assigned);
        self.sockets.route_mut().leave(member.slot, member.worker);
        if let Some(own) = member.take_own_socket(assigned, poll) {
            self.sockets.retire(member.slot, own, &mut self.members, poll);
        }
        self.flow.inherit(member.mailbox);
        taken
    }

    /// A member gives up its own socket or its place in the line, and is served by its mailbox alone.
    pub(crate) fn give_up_own_socket(&mut self, listener: u32, poll: &Poll) {
        let Some(member) = self.members.by_listener(listener) else { return };
        if member.leave_line() {
            self.rousing.begin(Instant::now());
            self.give_turns();
            return;
        }
        let slot = member.slot;
        if let Some(own) = member.take_own_socket(self.sockets.route().assigned(slot), poll) {
            self.give_turns();
            self.sockets.retire(slot, own, &mut self.members, poll);
        }
    }

    /// From a socket that its worker spoiled the primary does not accept; the kernel gives to others what waits in it.
    fn give_up_spoiled(&mut self, poll: &Poll) {
        let spoiled = |member: &&Member| member.own_socket().is_some_and(OwnSocket::is_spoiled);
        while let Some(member) = self.members.iter().find(spoiled) {
            self.give_up_own_socket(member.listener, poll);
        }
    }

    /// A worker takes nothing for a while: what waits for it goes to others at once.
    pub(crate) fn pause_member(&mut self, listener: u32, paused: bool, poll: &Poll) {
        match self.members.by_listener(listener) {
            Some(member) if paused => {
                member.pause(poll);
                if member.is_in_line() {
                    self.rousing.begin(Instant::now());
                }
            }
            Some(member) => member.resume(poll),
            None => {}
        }
        self.turns.give_later();
    }

    /// No more connections for this listener, whose worker hears of it later.
    pub(crate) fn retire_member(&mut self, listener: u32) {
        if let Some(member) = self.members.by_listener(listener) {
            member.lose_turns();
            if member.is_in_line() {
                self.rousing.begin(Instant::now());
            }
        }
        self.give_turns();
    }

    /// The listening socket is readable.
    pub(crate) fn announced(&mut self, now: Instant) {
        if self.sockets.announced() {
            self.suspect(now);
        }
    }

    /// A member's own socket has a connection.
    pub(crate) fn own_socket_announced(&mut self, listener: u32, poll: &Poll) {
        let route = self.sockets.route();
        let Some(member) = self.members.by_listener(listener) else { return };
        let assigned = route.assigned(member.slot);
        if let Some(own) = member.own_socket_mut() {
            own.announced(assigned, poll);
            self.attention.announced(route.begun(), Instant::now());
        }
    }

    /// Room has appeared in a mailbox, or its worker moves again.
    pub(crate) fn mailbox_changed(&mut self, listener: u32, poll: &Poll) {
        if let Some(member) = self.members.by_listener(listener) {
            member.moved(poll);
        }
        self.turns.give_later();
    }

    /// When the next pump is due in any case, if that has not been said yet.
    pub(crate) fn take_alarm(&mut self, now: Instant) -> Option<Instant> {
        let retired = self.sockets.retired_mut().take_alarm(now);
        retired.or_else(|| self.rousing.take_alarm())
    }

    /// A member accepts from the shared socket from here on. False: it may not.
    pub(crate) fn stand_in_line(&mut self, listener: u32) -> bool {
        let is_open = self.closing.is_none() && self.sockets.route().is_in_line();
        let Some(member) = self.members.by_listener(listener) else { return true };
        if !member.may_stand_in_line() {
            return false;
        }
        if is_open {
            member.stand_in_line();
            self.give_turns();
        }
        true
    }

    fn has_left_the_line(&mut self, member: &Member) {
        if member.is_in_line() {
            self.rousing.begin(Instant::now());
        }
    }

    /// Looks whether somebody waits whom nobody was woken for.
    fn rouse(&mut self, now: Instant) {
        if !self.rousing.is_due(now) {
            return;
        }
        // The primary may stand there alone, behind a process that a worker has left behind.
        let anybody =
            self.sockets.is_accepting() || self.members.iter().any(|member| member.is_in_line() && member.has_turn());
        if self.closing.is_some() || !anybody {
            self.rousing.end();
            return;
        }
        let route = self.sockets.route();
        if self.rousing.look(route.has_unroused(), route.begun(), now) {
            route.rouse();
        }
    }

    /// Somebody may wait in front of one who was woken for him and does something else.
    fn suspect(&mut self, now: Instant) {
        let route = self.sockets.route();
        if route.has_unroused() {
            self.rousing.suspect(route.begun(), now);
        }
    }

    /// Connections that were accepted and are in nobody's mailbox.
    pub(crate) fn unserved(&self) -> u64 {
        self.flow.unserved() + self.choosing.held().len() as u64
    }

    /// Connections that wait for the members of a worker.
    pub(crate) fn waiting_for(&self, worker: u32) -> u32 {
        let held = |member: &Member| self.choosing.held().of(member.slot) as u32;
        self.members.of_worker(worker).map(|member| member.waiting().saturating_add(held(member))).sum()
    }

    /// Connections that the members of a worker have been given.
    pub(crate) fn given_to(&self, worker: u32) -> u64 {
        let route = self.sockets.route();
        self.members.of_worker(worker).map(|member| member.given(route.assigned(member.slot))).sum()
    }

    /// Sets an option on every socket of the address, and on those that are made from here on. An error: nothing has changed. How
    /// many sockets there were.
    pub(crate) fn set_option(&mut self, option: &SocketOption) -> Result<usize> {
        if !self.ours {
            return Err(options::of_another(&self.address));
        }
        let failed = |errno| Error::os(format_args!("setsockopt {} {}", option.called(), self.address), errno);
        let count = self.sockets.set_option(option, &self.members).map_err(failed)?;
        if let Some((_, shape)) = &mut self.made_with {
            shape.follow(option);
        }
        Ok(count)
    }

    fn give_turns(&mut self) {
        self.turns.give(&self.members, &mut self.choosing, self.sockets.route_mut());
    }
}
