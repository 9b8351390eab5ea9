//! Workers whose process the program starts itself, and whose listens it passes on: Node's own, for whom queries and
//! answers travel on Node's channel and only connections on ours.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Instant;

use super::registry::Recipe;
use super::spawn::Seat;
use super::{Primary, no_such_worker};
use crate::address::{ABSTRACT_NAME_MAX, Address};
use crate::bind::{self, ListenFlags, Shape};
use crate::error::{Context, Error, Result};
use crate::mailbox::Connection;
use crate::sys::poll::Interest;
use crate::sys::process::{Child, ExitStatus};
use crate::sys::sockaddr::{self, SockAddr};
use crate::sys::socket;
use crate::token::Token;

/// A place for a worker whose process does not exist yet.
pub struct Enrolled {
    /// Its id.
    pub id: u32,
    /// Its slot.
    pub slot: u32,
    /// The descriptor it must inherit, under the number that CL_CHANNEL_FD names to it.
    pub channel: OwnedFd,
}

/// What an enrolled worker wants to listen on.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The address, as `cl_listen` takes it, with a numeric host. `fd:N` may name a socket that does not listen yet.
    pub address: &'a str,
    /// For port 0: which of the shared ports, from 1.
    pub index: u32,
    /// Connections that the kernel keeps waiting; 0 or less: 511.
    pub backlog: i32,
    /// See [`ListenFlags`].
    pub flags: ListenFlags,
    /// Fill an abstract name up with NULs to its greatest length, as libuv did before 1.47.
    pub pad_abstract: bool,
}

/// A share that was given to an enrolled worker.
#[derive(Debug, Clone, Copy)]
pub struct Granted {
    /// Names the address; also when the listener is closed.
    pub handle: u32,
    /// Names the listener; the worker finds its mailbox by it (`Worker::take_grant`).
    pub listener: u32,
    /// The address was opened for this share.
    pub is_new: bool,
    /// The bound address.
    pub name: SockAddr,
}

/// A share that this process holds in a worker's stead.
pub struct Relayed {
    /// What was granted.
    pub granted: Granted,
    /// What its connections wait in; see `Listener::relaying`.
    pub mailbox: OwnedFd,
}

impl Primary {
    /// Makes a place for a worker whose process the program is about to start. The program says when it has
    /// ([`enrolled_started`](Self::enrolled_started)) and when it has ended ([`enrolled_ended`](Self::enrolled_ended)).
    pub fn enroll(&mut self) -> Result<Enrolled> {
        self.check_may_start()?;
        let (id, slot) = (self.registry.next_id(), self.registry.free_slot());
        let (seat, channel) = Seat::new(id, slot)?;
        seat.greet(self.own_pidfd.as_ref())?;
        self.enter(id, slot, Child::of_the_program(), seat, Recipe::Enrolled)?;
        self.program_replaces = true;
        Ok(Enrolled { id, slot, channel })
    }

    /// The process of an enrolled worker runs.
    pub fn enrolled_started(&mut self, id: u32, pid: i32) -> Result<()> {
        let entry = self.registry.get_mut(id).ok_or_else(|| no_such_worker(id))?;
        entry.process.started(pid);
        if let Some(pidfd) = entry.process.pidfd() {
            self.poller.poll.add(pidfd, Token::Process(id).pack(), Interest::Readable).context("watching a worker")?;
        }
        Ok(())
    }

    /// The process of an enrolled worker has ended, or could not be started. What waited for it goes to others. `in_order`:
    /// it did not fail, and what only it served is given up. Returns whether it had taken a connection.
    pub fn enrolled_ended(&mut self, id: u32, in_order: bool) -> bool {
        if self.registry.get(id).is_some() {
            self.leave_books(id, ExitStatus::Unknown);
            self.poller.wake.wake();
        }
        if in_order {
            self.handles.close_left_by(id, &self.poller.poll);
        }
        // Its end may have been seen before the program told it.
        self.served.remove(&id)
    }

    /// Makes an enrolled worker a member of an address. Its mailbox is on its way to it when this returns. EAGAIN: a dead server's
    /// socket file cannot be replaced while another process holds the lock of its directory; worth another attempt in a moment.
    pub fn grant(&mut self, id: u32, wanted: Wanted) -> Result<Granted> {
        self.check_own()?;
        // It may have closed a listener of the same address just before, which is then still to be read.
        self.hear_out(id);
        let entry = self.registry.get(id).ok_or_else(|| no_such_worker(id))?;
        if !entry.greeted || entry.channel.is_none() {
            return Err(Error::new(-libc::ENOTCONN, format!("worker {id} does not speak on its channel")));
        }
        let granted = self.admit(id, wanted, true)?;
        self.send_grant(id, granted.listener, granted.listener).inspect_err(|_| {
            self.close_listener(id, granted.listener);
        })?;
        self.poller.wake.wake();
        Ok(granted)
    }

    /// Makes this process a member of an address in a worker's stead: for a worker that gets its connections in
    /// another way.
    pub fn relay(&mut self, id: u32, wanted: Wanted) -> Result<Relayed> {
        self.check_own()?;
        // Of a socket in the kernel nobody would accept.
        let granted = self.admit(id, wanted, false)?;
        let mailbox = self.handles.of_listener(granted.listener).and_then(|handle| {
            handle.member(granted.listener).map(|member| socket::duplicate(member.mailbox.receiver()))
        });
        let mailbox = match mailbox {
            Some(copied) => copied.context("duplicating a mailbox"),
            None => Err(Error::shutdown()),
        }
        .inspect_err(|_| self.close_listener(id, granted.listener))?;
        if let Some(entry) = self.registry.get_mut(id) {
            entry.relayed.insert(granted.listener);
        }
        self.handles.mark(granted.handle);
        self.poller.wake.wake();
        Ok(Relayed { granted, mailbox })
    }

    /// Whether an enrolled worker may have an address that the program is about to open for it itself. An error says why not, and
    /// is told as it is when the engine is asked to open one.
    pub fn check_listen(&mut self, id: u32, wanted: &Wanted) -> Result<()> {
        self.check_own()?;
        let address = Address::parse(wanted.address)?;
        self.permit(id, &address, wanted.index).map(drop)
    }

    /// Gives back a connection that was taken for a worker which did not want it after all; another gets it, also when
    /// the worker is gone meanwhile. The descriptor is duplicated; the caller closes its own. ENOENT when the address was
    /// given up.
    pub fn put_back(&mut self, handle: u32, connection: RawFd) -> Result<()> {
        let gone = || Error::new(-libc::ENOENT, "the address of the connection was given up");
        let handle = self.handles.get_mut(handle).ok_or_else(gone)?;
        let socket = socket::duplicate_number(connection).context("giving a connection back")?;
        // As every connection arrives in a mailbox, whatever its taker did with it.
        socket::make_blocking(socket.as_fd()).context("giving a connection back")?;
        let peer = sockaddr::peer_name(socket.as_fd()).unwrap_or(SockAddr::EMPTY);
        handle.put_back(Connection { socket, peer });
        let handle = handle.id;
        self.handles.mark(handle);
        self.poller.wake.wake();
        Ok(())
    }

    /// A share of a worker's is no longer used. The last to close an address gives it up.
    pub fn close_share(&mut self, id: u32, listener: u32) {
        // What it said of the listener while it still had it is no offence.
        self.hear_out(id);
        let own = self.registry.get(id).is_some_and(|entry| entry.listeners.contains_key(&listener));
        if own {
            self.close_listener(id, listener);
            self.poller.wake.wake();
        }
    }

    /// An enrolled worker leaves in an orderly way: it gets no more connections, and an address that only it served is
    /// given up at once, as in Node.
    pub fn retire(&mut self, id: u32) {
        let handles: Vec<u32> =
            self.registry.get(id).map(|entry| entry.listeners.values().copied().collect()).unwrap_or_default();
        // Whoever has come is served before it is told.
        let tellable = self.registry.get(id).is_some_and(|entry| !entry.is_leaving());
        for handle in &handles {
            if tellable && self.is_last(id, *handle) {
                self.handles.shut_door(*handle, &self.poller.poll, Instant::now());
            }
        }
        self.ask_to_leave(id, None);
        for handle in handles {
            self.close_if_given_up(handle);
        }
    }

    /// Gives every address up; what waits in the workers' mailboxes stays theirs.
    pub fn give_up_all(&mut self) {
        self.handles.close_all(&self.poller.poll);
    }

    fn admit(&mut self, id: u32, wanted: Wanted, seated: bool) -> Result<Granted> {
        // Whatever it comes to, whoever runs the primary may be asleep.
        self.poller.wake.wake();
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
            socket::with_number(number, |fd| socket::listen(fd, bind::backlog(wanted.backlog)).ok());
        }
        let shape = Shape { backlog: wanted.backlog, ..Shape::default() };
        let (listener, is_new) = self.join_address(id, wanted.flags, shape, wanted.index, &address, seated)?;
        let (handle, name) =
            self.handles.of_listener(listener).map_or((0, SockAddr::EMPTY), |handle| (handle.id, handle.name));
        Ok(Granted { handle, listener, is_new, name })
    }
}
