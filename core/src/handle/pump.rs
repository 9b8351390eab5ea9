//! The pump: moves connections from the sources to the sinks. Each connection is taken once, placed once and sent once.

use std::time::Instant;

use super::Handle;
use super::choosing::Sink;
use super::flow::Sources;
use super::member::Member;
use super::members::Members;
use crate::mechanism::Accepted;
use crate::sys::Sys;
use crate::sys::poll::Poll;

/// Connections moved in one turn of one handle, so that many handles share the primary.
const BATCH: usize = 32;
/// What is handed out at most when the time is over, and to the last to leave.
const REST: usize = 4096;

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
    /// Moves connections from the sources to the sinks.
    pub(crate) fn pump(&mut self, poll: &Poll, now: Instant) -> Pumped {
        if self.turns.is_stale() {
            self.give_turns();
        }
        self.sockets.end_retired(&mut self.members, poll, now);
        self.rouse(now);
        if let Some(until) = self.flow.paused_until(now) {
            return Pumped::At(until);
        }
        self.flow.keep(self.choosing.begin_turn(&mut self.members, now));
        let (moved, end) = self.move_batch();
        self.give_up_spoiled(poll);
        if self.flow.send_staged(&mut self.members) || matches!(end, Some(Accepted::Short)) {
            self.flow.pause(now);
        } else if moved > 0 {
            self.flow.has_moved();
        }
        let given = !self.only_the_kernel_has_some();
        let (open, again) = self.choosing.await_room(&mut self.members, poll, given, now);
        let paused = self.flow.paused_until(now);
        let wanted = open && paused.is_none();
        self.sockets.watch_quiet_ones(self.attention.interest());
        // While it closes, it is looked at now and then; of a unix socket that is shut down the poll would tell without end.
        let may_accept = wanted && self.closing.is_none() && !self.sockets.route().is_spoiled();
        let accepting = may_accept && self.choosing.sink(&mut self.members, false).is_some();
        self.sockets.watch(accepting, wanted, &mut self.members, poll);
        self.sockets.go_behind(poll);
        let dry = matches!(end, Some(Accepted::Nothing)) && !self.flow.has_unsent();
        match paused {
            Some(until) => Pumped::At(until),
            None if again || open && !dry && !(self.sockets.is_accepting() && self.only_the_kernel_has_some()) => {
                Pumped::Again
            }
            None => Pumped::Done,
        }
    }

    /// How many were moved, and what the sources said if they ended it.
    fn move_batch(&mut self) -> (usize, Option<Accepted>) {
        for moved in 0..BATCH {
            // Those in line take from the kernel's queue by themselves, but not what somebody was given already. It goes to them in
            // their turn: of the others one may be left who gives it back each time.
            let given = self.sockets.route().is_in_line().then(|| self.take_for(true, Sources::Given));
            let (taken, sink) = match given {
                None | Some((None | Some(Accepted::Nothing), _)) => self.take_for(false, self.sources()),
                Some(given) => given,
            };
            match (taken, sink) {
                (Some(Accepted::Connection(connection)), Some(sink)) => {
                    self.flow.keep(self.choosing.place(connection, sink, &mut self.members));
                }
                (end, _) => return (moved, end),
            }
        }
        (BATCH, None)
    }

    /// The next connection, if there is a sink for it. `given`: those in line are sinks, too.
    fn take_for(&mut self, given: bool, from: Sources) -> (Option<Accepted>, Option<Sink>) {
        let sink = self.choosing.sink(&mut self.members, given);
        (sink.map(|_| self.flow.take(from, &mut self.members, &mut self.sockets)), sink)
    }

    fn sources(&self) -> Sources {
        // What waits in the socket of others is theirs.
        if self.closing.is_some() && !self.ours { Sources::Given } else { Sources::All }
    }

    fn only_the_kernel_has_some(&self) -> bool {
        let given = self.sockets.retired().has_some() || self.members.iter().any(Member::is_source);
        self.flow.is_empty() && !given
    }

    /// No more connections for this listener; it learns so behind the last one.
    pub(crate) fn stop_member(&mut self, listener: u32) -> Sys<()> {
        let Some(index) = self.members.index_of(listener) else { return Ok(()) };
        if !self.members.iter().any(|member| member.listener != listener && member.has_turn()) {
            // Nobody may come after it: what the primary has in its hands goes with it, and if it takes, so does what others have left
            // or stand still in front of.
            let from = if self.members[index].moves() { Sources::Given } else { Sources::InHand };
            self.hand_out(from, |members| members[index].can_be_sent().then_some(index));
        }
        // The kernel gives it nothing more before it learns of it.
        self.retire_member(listener);
        self.members[index].mailbox.send_stop()
    }

    /// The time is over: what nobody has been given yet goes to those who are there, before they are told to leave.
    pub(crate) fn hand_out_rest(&mut self) {
        self.pass_over_still();
        self.hand_out(self.sources(), |members| {
            let able = members.iter().enumerate().filter(|(_, member)| member.can_be_sent());
            able.min_by_key(|(_, member)| (!member.moves(), member.mailbox.waiting())).map(|(index, _)| index)
        });
    }

    /// Sends, beyond the windows, to whom `taker` names, until there is nobody or nothing more.
    fn hand_out(&mut self, from: Sources, taker: impl Fn(&Members) -> Option<usize>) {
        self.flow.keep(self.choosing.release_all());
        for _ in 0..REST {
            let Some(index) = taker(&self.members) else { return };
            let next = self.flow.take(from, &mut self.members, &mut self.sockets);
            let Accepted::Connection(connection) = next else { return };
            if self.members[index].send_beyond_window(&connection).is_err() {
                self.flow.keep_first(connection);
                return;
            }
        }
    }
}
