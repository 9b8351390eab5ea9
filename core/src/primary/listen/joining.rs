//! What a worker asks for, and its coming to an address that is open.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use super::addresses::{Addresses, Listeners};
use crate::address::Address;
use crate::bind::{ListenFlags, Shape};
use crate::error::{Error, Result};
use crate::handle::{Handle, Member};
use crate::mailbox::Mailbox;
use crate::options;
use crate::primary::event::Event;
use crate::primary::ground::Ground;
use crate::primary::talk::Asked;
use crate::primary::workers::Entry;
use crate::settings::MechanismKind;
use crate::wire::Answer;

/// Open listeners of one worker that asks for itself.
const LISTENERS_MAX: usize = 256;
/// The same where a program asks in a worker's stead, which may have its own ideas of how many.
const LISTENERS_OF_A_PROGRAM: usize = 4096;
/// The greatest index of a port 0.
const INDEX_MAX: u32 = 65536;

/// What is asked for, in a worker's frame or by the program in its stead.
pub(crate) struct Request {
    pub(crate) address: Address,
    pub(crate) index: u32,
    pub(crate) flags: ListenFlags,
    pub(crate) shape: Shape,
    /// It can have a socket of its own; if not, its mailbox alone serves it.
    pub(crate) own_socket: bool,
}

impl Request {
    /// What a worker's frame asks for.
    pub(crate) fn ask(asked: &Asked, worker: &Entry) -> Result<Self> {
        if worker.listeners.len() >= LISTENERS_MAX {
            return Err(Error::new(-libc::EMFILE, format!("a worker may have {LISTENERS_MAX} listeners")));
        }
        let (options, text) = options::split(&asked.address)?;
        options.iter().try_for_each(options::judge)?;
        Ok(Self {
            address: Address::parse(text)?,
            index: asked.index,
            flags: ListenFlags::from_bits(asked.flags)?,
            shape: Shape { backlog: asked.backlog, options },
            own_socket: true,
        })
    }

    /// Whether a worker may have any address now.
    pub(crate) fn check(&self, worker: &Entry, stopping: bool) -> Result<()> {
        if worker.was_asked_to_leave() || stopping {
            return Err(Error::shutdown());
        }
        if worker.listeners.len() >= LISTENERS_OF_A_PROGRAM {
            return Err(Error::new(-libc::EMFILE, format!("a worker may have {LISTENERS_OF_A_PROGRAM} listeners")));
        }
        if self.index > INDEX_MAX {
            return Err(Error::invalid(format!("the index {} is greater than {INDEX_MAX}", self.index)));
        }
        Ok(())
    }
}

/// An open address, and the book in which its listeners stand.
pub(crate) struct Place<'a> {
    pub(crate) handle: &'a mut Handle,
    listeners: &'a mut Listeners,
    ever_joined: &'a mut bool,
}

impl Addresses {
    /// An address that is about to get a listener.
    pub(crate) fn place(&mut self, id: u32) -> Result<Place<'_>> {
        self.mark(id);
        let handle = self.by_id.get_mut(&id).ok_or_else(Error::shutdown)?;
        Ok(Place { handle, listeners: &mut self.listeners, ever_joined: &mut self.ever_joined })
    }
}

impl Place<'_> {
    /// Makes a worker a member of the address; returns the listener's id.
    pub(crate) fn join(&mut self, worker: &mut Entry, own_socket: bool, ground: &mut Ground) -> Result<u32> {
        let Self { handle, listeners, ever_joined } = self;
        if handle.has_member_of(worker.id) {
            return Err(Error::new(-libc::EADDRINUSE, format!("this worker listens on {} already", handle.key)));
        }
        let (listener, slot) = (listeners.add(handle.id), worker.slot);
        let joined = Mailbox::new(ground.settings.window, Arc::clone(&worker.board)).and_then(|mailbox| {
            let mut member = Member::new(listener, worker.id, slot, mailbox, ground.settings.window_most);
            if own_socket && worker.may_share_sockets() && handle.mechanism() == MechanismKind::Rotation {
                member.allow_line();
            }
            if worker.proving {
                member.prove_first();
            }
            handle.join(member, own_socket, ground.poll)
        });
        match joined {
            Err(errno) => {
                listeners.forget(listener);
                return Err(Error::os("making a mailbox", errno));
            }
            Ok(Err(errno)) if handle.may_warn(Instant::now()) => ground.news.notice(format!(
                "{}: slot {slot} has no socket of its own, because that failed ({}); its connections are passed on",
                handle.key,
                errno.desc()
            )),
            Ok(_) => {}
        }
        **ever_joined = true;
        worker.joined(listener, handle.id);
        Ok(listener)
    }

    /// What tells a worker of its new listener, with the descriptors that go with it, and the program.
    pub(crate) fn grant(
        &self,
        listener: u32,
        number: u32,
        worker: &Entry,
    ) -> Option<(Answer<'_>, Vec<BorrowedFd<'_>>, Event)> {
        let handle = &self.handle;
        let member = handle.member(listener)?;
        let (mechanism, others) = handle.for_grant(member);
        let grant = Answer::Grant {
            number,
            listener,
            mechanism: mechanism as u32,
            datagram: handle.datagram,
            settable: worker.link.sets_options,
            // A worker that cannot wait accepts at once.
            waits: member.is_proving()
                && worker.link.rotates
                && !handle.datagram
                && matches!(mechanism, MechanismKind::Rotation | MechanismKind::Shared),
            name: handle.name,
        };
        let mut fds = vec![member.mailbox.receiver()];
        fds.extend(others.into_iter().flatten());
        let (address, port) = match handle.name.to_inet() {
            Some(inet) => (inet.ip().to_string(), Some(inet.port())),
            None => (handle.address.clone(), None),
        };
        Some((grant, fds, Event::Listening { worker: worker.reference(), address, port, mechanism }))
    }
}
