//! The sockets of an address that are no member's: what the route has, and own sockets whose member is gone.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::member::Member;
use super::members::Members;
use crate::mechanism::{OwnSocket, Retired, Route, Selector, give_up};
use crate::options::SocketOption;
use crate::sys::Sys;
use crate::sys::poll::{Interest, Poll};
use crate::token::Token;

pub(super) struct Sockets {
    route: Box<dyn Route>,
    retired: Retired,
    /// What the poll tells of them.
    token: Token,
    /// The poll tells when somebody comes to the primary's socket.
    accepting: bool,
    /// What it tells of own sockets in which nothing is known to wait.
    quiet: Interest,
    /// It tells of the next who comes to a socket that workers have, too.
    tells_of_next: bool,
}

impl Sockets {
    pub(super) fn new(route: Box<dyn Route>, token: Token) -> Self {
        Self {
            route,
            retired: Retired::default(),
            token,
            accepting: false,
            quiet: Interest::ReadableOnce,
            tells_of_next: false,
        }
    }

    pub(super) fn route(&self) -> &dyn Route {
        &*self.route
    }

    pub(super) fn route_mut(&mut self) -> &mut dyn Route {
        &mut *self.route
    }

    /// Begins to watch the primary's socket (for nothing, until somebody can take a connection).
    pub(super) fn register(&self, poll: &Poll) -> Sys<()> {
        match self.route.primary_socket() {
            Some(_) if self.route.is_in_line() => Ok(()),
            Some(socket) => poll.add(socket, self.token.pack(), Interest::None),
            None => Ok(()),
        }
    }

    /// Another route in place of one whose members have no own sockets; that one.
    pub(super) fn replace(&mut self, route: Box<dyn Route>, poll: &Poll) -> Sys<Box<dyn Route>> {
        if let Some(socket) = route.primary_socket() {
            poll.add(socket, self.token.pack(), Interest::None)?;
        }
        if let Some(socket) = self.route.primary_socket() {
            poll.remove(socket);
        }
        self.accepting = false;
        self.tells_of_next = false;
        Ok(std::mem::replace(&mut self.route, route))
    }

    /// True if it was the next who came to a socket that workers have, too.
    pub(super) fn announced(&mut self) -> bool {
        self.route.announced();
        self.retired.announced();
        self.tells_of_next
    }

    /// What the poll is to tell, from the next `watch` on, of own sockets in which nothing is known to wait.
    pub(super) fn watch_quiet_ones(&mut self, interest: Interest) {
        self.quiet = interest;
    }

    /// The poll is to tell of the next who comes to a socket that workers have, too, and that is no member's own. False: it cannot.
    pub(super) fn watch_common(&mut self, poll: &Poll) -> bool {
        self.leave_line(poll);
        self.tells_of_next = true;
        let mut all = true;
        self.route.each_common(&mut |socket| all &= poll.watch_once(socket, self.token.pack()).is_ok());
        all
    }

    /// An exclusive entry cannot be changed into another, nor another into one.
    fn leave_line(&mut self, poll: &Poll) {
        if self.route.is_in_line()
            && let Some(socket) = self.route.primary_socket()
        {
            poll.remove(socket);
            self.accepting = false;
        }
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.accepting
    }

    /// What the poll is to tell of all sockets. `accepting`: of those who come to the primary's. `wanted`: of what waits in others that
    /// somebody could serve.
    pub(super) fn watch(&mut self, accepting: bool, wanted: bool, members: &mut Members, poll: &Poll) {
        if self.tells_of_next && self.quiet != Interest::ReadableOnce {
            self.tells_of_next = false;
            self.leave_line(poll);
        }
        if let Some(socket) = self.route.primary_socket()
            && self.accepting != accepting
            && !(self.tells_of_next && self.route.is_in_line())
        {
            let token = self.token.pack();
            let told = match (self.route.is_in_line(), accepting) {
                (false, true) => poll.modify(socket, token, Interest::Readable),
                (false, false) => poll.modify(socket, token, Interest::None),
                (true, true) => poll.add_exclusive(socket, token),
                (true, false) => {
                    poll.remove(socket);
                    Ok(())
                }
            };
            if told.is_ok() {
                self.accepting = accepting;
            }
        }
        for member in members.iter_mut() {
            member.watch_own_socket(poll, self.quiet, wanted);
            member.watch_for_return(poll);
        }
        self.retired.watch(poll, self.token, wanted);
    }

    /// The primary has had its part of the line, and stands at its end from here on.
    pub(super) fn go_behind(&mut self, poll: &Poll) {
        if self.route.take_had_its_part()
            && self.accepting
            && let Some(socket) = self.route.primary_socket()
        {
            poll.remove(socket);
            self.accepting = poll.add_exclusive(socket, self.token.pack()).is_ok();
        }
    }

    /// Watches nothing: the next pump has the poll look at all of them anew.
    pub(super) fn unwatch(&mut self, members: &mut Members, poll: &Poll) {
        self.watch(false, false, members, poll);
    }

    /// An own socket for a slot, where the mechanism has such. `seated`: it gets what is begun with the slot.
    pub(super) fn enter(
        &mut self,
        slot: u32,
        seated: bool,
        members: &mut Members,
        poll: &Poll,
    ) -> Sys<Option<OwnSocket>> {
        let mut outcome = self.route.enter(slot);
        if outcome.is_err()
            && let Some(old) = self.retired.take_of(slot)
        {
            // To bind a new one is forbidden by now: the old one has to do.
            self.shut(slot, old, members, poll);
            outcome = self.route.enter(slot);
        }
        match outcome {
            Ok(Some(own)) if seated => self.seat(slot, own).map(Some),
            outcome => outcome,
        }
    }

    /// What is begun with a slot goes to this socket from here on. An error: it is given up.
    fn seat(&mut self, slot: u32, own: OwnSocket) -> Sys<OwnSocket> {
        self.route.seat(slot, &own).inspect_err(|_| give_up(own.socket()))?;
        Ok(own)
    }

    /// The same for that of a member, which keeps it if that can be done.
    pub(super) fn seat_member(&mut self, member: &mut Member, poll: &Poll) {
        let Some(own) = member.own_socket() else { return };
        if self.route.seat(member.slot, own).is_err()
            && let Some(mut own) = member.take_own_socket(self.route.assigned(member.slot), poll)
        {
            own.forget(poll);
            give_up(own.socket());
        }
    }

    /// A slot has no member any more, or one without its own socket. That goes on listening for a while (see `Retired`).
    pub(super) fn retire(&mut self, slot: u32, own: OwnSocket, members: &mut Members, poll: &Poll) {
        if own.is_spoiled() {
            self.shut(slot, own, members, poll);
            return;
        }
        if let Some((slot, oldest)) = self.retired.add(slot, own, Instant::now()) {
            self.shut(slot, oldest, members, poll);
        }
        self.unwatch(members, poll);
    }

    /// Shuts an own socket down. The kernel moves what waits in it to the others, and may wake nobody for that.
    fn shut(&mut self, slot: u32, mut own: OwnSocket, members: &mut Members, poll: &Poll) {
        own.forget(poll);
        let has_another = members.has_own_socket(slot);
        self.route.shut(slot, own, !has_another);
        members.own_sockets_mut().for_each(OwnSocket::expect_moved);
        self.unwatch(members, poll);
    }

    /// Shuts retired ones down whose time is over.
    pub(super) fn end_retired(&mut self, members: &mut Members, poll: &Poll, now: Instant) {
        while let Some((slot, own)) = self.retired.take_over(now) {
            self.shut(slot, own, members, poll);
        }
    }

    pub(super) fn retired(&self) -> &Retired {
        &self.retired
    }

    pub(super) fn retired_mut(&mut self) -> &mut Retired {
        &mut self.retired
    }

    /// Every own socket.
    pub(super) fn own<'a>(&'a self, members: &'a Members) -> impl Iterator<Item = &'a OwnSocket> {
        members.own_sockets().chain(self.retired.sockets())
    }

    /// Every socket to which somebody can come.
    pub(super) fn each(&self, members: &Members, see: &mut dyn FnMut(BorrowedFd<'_>)) {
        self.route.each_socket(see);
        self.own(members).for_each(|own| see(own.socket()));
    }

    /// Somebody waits in one that is no member's. `ours`: the primary's is not the program's own.
    pub(super) fn keep_waiting(&self, ours: bool) -> bool {
        (ours && self.route.has_waiting()) || self.retired.sockets().any(|own| own.waiting().unwrap_or(0) > 0)
    }

    /// Sets an option on every socket, and on those that are made from here on. An error: nothing has changed. How many there were.
    pub(super) fn set_option(&mut self, option: &SocketOption, members: &Members) -> Sys<usize> {
        let mut count = self.route.set_option(option)?;
        for own in self.own(members) {
            // A worker may have made its own one that takes no options any more. The others have theirs all the same.
            let _ = option.set_on(own.socket());
            count += 1;
        }
        Ok(count)
    }

    /// The poll is not to tell of them any more.
    pub(super) fn forget(&mut self, poll: &Poll) {
        if let Some(socket) = self.route.primary_socket() {
            poll.remove(socket);
        }
        self.route.each_common(&mut |socket| poll.remove(socket));
        for (_, mut own) in self.retired.take_all() {
            own.forget(poll);
            give_up(own.socket());
        }
    }

    /// What it took a privilege to make, if it can serve another address.
    pub(super) fn close(self) -> Option<Selector> {
        self.route.close()
    }
}
