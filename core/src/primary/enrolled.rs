//! The public face for programs that start their workers' processes themselves, and pass on what these listen on: Node's primary.

use std::os::fd::{AsFd, RawFd};
use std::time::{Duration, Instant};

use super::Primary;
use super::listen::Request;
use super::session::{Denied, Grant, Session};
use super::workers::{Due, Enrolled, Granted, Relayed, Wanted, no_such_worker};
use crate::address::{ABSTRACT_NAME_MAX, Address};
use crate::bind::{self, Shape};
use crate::error::{Context, Error, Result};
use crate::mailbox::Connection;
use crate::sys::child::ExitStatus;
use crate::sys::sockaddr::{self, SockAddr};
use crate::sys::{descriptor, socket};

impl Primary {
    /// Makes a place for a worker whose process the program is about to start. The program says when it has
    /// ([`enrolled_started`](Self::enrolled_started)) and when it has ended ([`enrolled_ended`](Self::enrolled_ended)).
    pub fn enroll(&mut self) -> Result<Enrolled> {
        self.check_may_start()?;
        let (workers, _, _, mut ground) = self.parts();
        workers.enroll(&mut ground)
    }

    /// A worker that is to be enrolled, to take another's place.
    pub fn take_due_enrolled(&mut self) -> Option<Due> {
        self.workers.take_due_enrolled()
    }

    /// There is one.
    pub fn has_due_enrolled(&self) -> bool {
        self.workers.has_due_enrolled()
    }

    /// Makes the place for a worker that `take_due_enrolled` gave.
    pub fn enroll_due(&mut self, due: Due) -> Result<Enrolled> {
        self.check_own()?;
        let (workers, _, _, mut ground) = self.parts();
        workers.enroll_due(due, &mut ground)
    }

    /// Such a worker could not be enrolled, or its process not be started. In how long the next attempt is made, if one is.
    pub fn due_enrolled_failed(&mut self, due: Due, error: &Error) -> Option<Duration> {
        let deserted = self.addresses.has_deserted();
        let (workers, _, _, mut ground) = self.parts();
        workers.due_enrolled_failed(due, error, deserted, &mut ground)
    }

    /// From here on all workers are enrolled, and this replaces those of which the program says so
    /// ([`enrolled_is_followed`](Self::enrolled_is_followed)): it orders them by `take_due_enrolled`.
    pub fn replace_enrolled(&mut self) {
        self.workers.replace_enrolled();
    }

    /// From here on nobody is replaced, and nothing is ordered.
    pub fn replace_nobody(&mut self) {
        self.workers.replace_nobody();
        self.clock.wake();
    }

    /// An enrolled worker listens on something that the program has opened for it itself, under this name.
    pub fn enrolled_listens(&mut self, id: u32, name: &str) {
        if let Some(entry) = self.workers.get_mut(id) {
            entry.listens_elsewhere.insert(name.to_owned());
            self.clock.wake();
        }
    }

    /// An enrolled worker has told the program that it is ready.
    pub fn enrolled_is_ready(&mut self, id: u32) {
        if let Some(entry) = self.workers.get_mut(id) {
            entry.said_ready = true;
            self.clock.wake();
        }
    }

    /// The process of an enrolled worker runs.
    pub fn enrolled_started(&mut self, id: u32, pid: i32) -> Result<()> {
        self.workers.started(id, pid, &self.poller.poll)
    }

    /// The process of an enrolled worker has ended, or could not be started. What waited for it goes to others. `in_order`:
    /// it did not fail, and what only it served is given up. Returns whether it had taken a connection.
    pub fn enrolled_ended(&mut self, id: u32, in_order: bool) -> bool {
        if self.leave_books(id, ExitStatus::Unknown).is_some() {
            self.clock.wake();
        }
        if in_order {
            self.addresses.close_left_by(id, &self.poller.poll);
        }
        self.workers.take_leave(id)
    }

    /// The same for one that is replaced, not sooner than `least`: what it served is kept for its successor. Returns in how long
    /// that is ordered, if nobody is on the way already.
    pub fn enrolled_is_followed(&mut self, id: u32, least: Duration) -> Option<Duration> {
        self.leave_books(id, ExitStatus::Unknown);
        self.clock.wake();
        let deserted = self.addresses.has_deserted();
        let (workers, _, _, mut ground) = self.parts();
        workers.follow(id, least, deserted, &mut ground)
    }

    /// Makes an enrolled worker a member of an address. Its mailbox is on its way to it when this returns. EAGAIN: a dead server's
    /// socket file cannot be replaced while another process holds the lock of its directory; worth another attempt in a moment.
    pub fn grant(&mut self, id: u32, wanted: Wanted) -> Result<Granted> {
        self.check_own()?;
        // It may have closed a listener of the same address just before, which is then still to be read.
        self.hear_out(id);
        self.workers.check_speaks(id)?;
        self.admit(id, wanted, Grant::Unasked)
    }

    /// Makes this process a member of an address in a worker's stead: for a worker that gets its connections in
    /// another way.
    pub fn relay(&mut self, id: u32, wanted: Wanted) -> Result<Relayed> {
        self.check_own()?;
        let granted = self.admit(id, wanted, Grant::None)?;
        let mut session = self.session(id).ok_or_else(|| no_such_worker(id))?;
        let handle = session.addresses.get(granted.handle);
        let mailbox = match handle.and_then(|handle| handle.member(granted.listener)) {
            Some(member) => descriptor::duplicate(member.mailbox.receiver()).context("duplicating a mailbox"),
            None => Err(Error::shutdown()),
        }
        .inspect_err(|_| session.close_listener(granted.listener))?;
        session.worker.relayed.insert(granted.listener);
        Ok(Relayed { granted, mailbox })
    }

    /// Whether an enrolled worker may have an address that the program is about to open for it itself. An error says why not, and
    /// is told as it is when the engine is asked to open one.
    pub fn check_listen(&mut self, id: u32, wanted: &Wanted) -> Result<()> {
        self.check_own()?;
        self.permit(id, &Address::parse(wanted.address)?, wanted.index)
    }

    /// Gives back a connection that was taken for a worker which did not want it after all; another gets it, also when
    /// the worker is gone meanwhile. The descriptor is duplicated; the caller closes its own. ENOENT when the address was
    /// given up.
    pub fn put_back(&mut self, handle: u32, connection: RawFd) -> Result<()> {
        let gone = || Error::new(-libc::ENOENT, "the address of the connection was given up");
        let handle = self.addresses.touch(handle).ok_or_else(gone)?;
        let socket = descriptor::duplicate_number(connection).context("giving a connection back")?;
        // As every connection arrives in a mailbox, whatever its taker did with it.
        descriptor::make_blocking(socket.as_fd()).context("giving a connection back")?;
        let peer = sockaddr::peer_name(socket.as_fd()).unwrap_or(SockAddr::EMPTY);
        handle.put_back(Connection { socket, peer });
        self.clock.wake();
        Ok(())
    }

    /// A share of a worker's is no longer used. The last to close an address gives it up.
    pub fn close_share(&mut self, id: u32, listener: u32) {
        // What it said of the listener while it still had it is no offence.
        self.hear_out(id);
        if let Some(mut session) = self.session(id)
            && session.worker.listeners.contains_key(&listener)
        {
            session.close_listener(listener);
            self.clock.wake();
        }
    }

    /// Whether an address that was granted is still open, or closing. Its number is not used again.
    pub fn is_open(&self, handle: u32) -> bool {
        self.addresses.get(handle).is_some()
    }

    /// An enrolled worker leaves in an orderly way: it gets no more connections, and an address that only it served is
    /// given up at once, as in Node.
    pub fn retire(&mut self, id: u32) {
        let Some(entry) = self.workers.get(id) else { return };
        let addresses = entry.addresses();
        if !entry.is_leaving() {
            // Whoever has come is served before it is told.
            for address in &addresses {
                let handle = self.addresses.get(*address);
                if handle.is_some_and(|handle| self.workers.is_last(id, handle.workers())) {
                    self.addresses.shut_door(*address, &self.poller.poll, Instant::now());
                }
            }
        }
        self.ask_to_leave(id, None);
        for address in addresses {
            self.addresses.close_if_given_up(address, &self.poller.poll);
        }
    }

    /// The program is about to have every worker leave, one after the other: none of them hands its connections back to the next.
    pub fn take_nothing_back(&mut self) {
        self.workers.have_all_leave();
        self.end_returns();
    }

    /// Gives every address up; what waits in the workers' mailboxes stays theirs.
    pub fn give_up_all(&mut self) {
        self.addresses.close_all(&self.poller.poll);
    }

    fn permit(&mut self, id: u32, address: &Address, index: u32) -> Result<()> {
        let Session { worker, addresses, mut ground, .. } = self.session(id).ok_or_else(|| no_such_worker(id))?;
        addresses.permit(worker, (address, index), &mut ground).map(drop)
    }

    fn admit(&mut self, id: u32, wanted: Wanted, grant: Grant) -> Result<Granted> {
        // Whatever it comes to, whoever runs the primary may be asleep.
        self.clock.wake();
        let mut address = Address::parse(wanted.address)?;
        if let Address::UnixAbstract(name) = &mut address
            && wanted.pad_abstract
        {
            let missing = ABSTRACT_NAME_MAX.saturating_sub(name.len());
            name.extend(std::iter::repeat_n('\0', missing));
        }
        if let Address::Inherited(number) = address {
            self.permit(id, &address, wanted.index)?;
            // Node listens on what it inherits; on a socket that listens already this only sets the backlog. What it is
            // good for shows when it is opened.
            descriptor::with_number(number, |fd| socket::listen(fd, bind::backlog(wanted.backlog)).ok());
        }
        let request = Request {
            address,
            index: wanted.index,
            flags: wanted.flags,
            shape: Shape { backlog: wanted.backlog, ..Shape::default() },
            // Of a socket in the kernel nobody would accept for a worker in whose stead the program listens.
            own_socket: !matches!(grant, Grant::None),
        };
        loop {
            let mut session = self.session(id).ok_or_else(Error::shutdown)?;
            match session.join(&request, grant) {
                Ok(granted) => return Ok(granted),
                Err(Denied::Refused { error, .. } | Denied::Unsent(error)) => return Err(error),
                Err(Denied::InTheWay(address)) => self.make_way(address),
            }
        }
    }
}
