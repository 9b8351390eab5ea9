//! Where a listener's connections come from.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::accepting::{AcceptFlags, Accepted, Accepting};
use super::alone::Alone;
use super::beside::{self, Beside};
use super::leaving::Leaving;
use super::line::Line;
use super::mailbox::Mailbox;
use super::primary_gone::EndsWithUs;
use crate::bind::Bound;
use crate::error::{Context, Error, Result};
use crate::options::{self, SocketOption};
use crate::settings::MechanismKind;
use crate::sys::poll::{Interest, Poll};
use crate::sys::sockaddr::SockAddr;
use crate::sys::{Sys, descriptor};
use crate::tally::Part;

/// What a grant brought.
pub(super) struct Grant {
    pub(super) listener: u32,
    pub(super) mechanism: u32,
    pub(super) datagram: bool,
    pub(super) settable: bool,
    /// Nothing is to be accepted from the socket before the primary says so.
    pub(super) waits_for_begin: bool,
    pub(super) name: SockAddr,
    /// The mailbox, the socket beside it, and the page of its address.
    pub(super) fds: [Option<OwnedFd>; 3],
}

pub(super) enum Source {
    /// A listening socket that this process has opened itself.
    Alone(Alone),
    /// A mailbox, and perhaps a socket beside it.
    Mailbox(Mailbox, Socket),
    /// A datagram socket. A share's mailbox only says when to stop.
    Datagram { socket: OwnedFd, inherited: bool, _mailbox: Option<Mailbox> },
}

pub(super) enum Socket {
    None,
    /// Connections come from it, too.
    Beside(Beside),
    /// The program accepts from it by itself.
    Taken(EndsWithUs),
}

impl Source {
    /// A socket that this process has opened itself.
    pub(super) fn alone(bound: Bound, inherited: bool, leaving: Option<Arc<Leaving>>) -> Result<Self> {
        Ok(match bound.datagram {
            true => Source::Datagram { socket: bound.socket, inherited, _mailbox: None },
            false => Source::Alone(Alone::new(bound, inherited, leaving)?),
        })
    }

    /// A share of an address. A socket of the primary's program (`fd:N`) is left alone when the primary dies.
    /// `waits`: accept does.
    pub(super) fn granted(grant: Grant, address: &str, waits: bool) -> Result<Self> {
        let incomplete = || Error::new(-libc::EPROTO, "the primary's grant came without its descriptors");
        let Grant { mechanism, datagram, waits_for_begin, fds: [mailbox, socket, page], .. } = grant;
        let mailbox = mailbox.ok_or_else(incomplete)?;
        if !datagram && mechanism == MechanismKind::Passed as u32 {
            return Ok(Source::Mailbox(Mailbox::new(mailbox), Socket::None));
        }
        let socket = socket.ok_or_else(incomplete)?;
        let mailbox = Mailbox::new(mailbox);
        if datagram {
            return Ok(Source::Datagram { socket, inherited: false, _mailbox: Some(mailbox) });
        }
        let own = mechanism == MechanismKind::Kernel as u32;
        let ends = own || !(address.is_empty() || address.starts_with("fd:"));
        let socket = if own {
            beside::Socket::Own(socket)
        } else if mechanism == MechanismKind::Rotation as u32 {
            let page = page.ok_or_else(incomplete)?;
            match Part::of(page.as_fd()) {
                Ok(part) => beside::Socket::shared(socket, Some(part), waits_for_begin),
                // Nobody could say whose turn it is. The mailbox alone serves it.
                Err(_) => return Ok(Source::Mailbox(mailbox, Socket::None)),
            }
        } else {
            beside::Socket::shared(socket, None, waits_for_begin)
        };
        let beside = Beside::new(&mailbox, socket, ends, waits)?;
        Ok(Source::Mailbox(mailbox, Socket::Beside(beside)))
    }

    pub(super) fn accept(&self, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        match self {
            Source::Alone(alone) => alone.accept(accepting, flags),
            Source::Mailbox(mailbox, Socket::Beside(beside)) => beside.accept(mailbox, accepting, flags),
            Source::Mailbox(mailbox, _) => mailbox.accept(accepting, flags),
            Source::Datagram { .. } => {
                Err(Error::new(-libc::EOPNOTSUPP, "a datagram socket has no connections to accept; receive from it"))
            }
        }
    }

    /// The slot's own socket, unless it was handed out.
    pub(super) fn own_socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Source::Mailbox(_, Socket::Beside(beside)) => beside.own(),
            _ => None,
        }
    }

    /// Hands the own socket out. A copy stays here, to shut it down.
    pub(super) fn take_socket(&mut self) -> Result<Option<OwnedFd>> {
        let Some(own) = self.own_socket() else { return Ok(None) };
        let copy = || descriptor::duplicate(own).context("duplicating a listening socket");
        let (given, kept) = (copy()?, copy()?);
        self.replace_socket(Socket::Taken(EndsWithUs::new(kept)));
        Ok(Some(given))
    }

    /// Closes the own socket.
    pub(super) fn drop_socket(&mut self) {
        if self.own_socket().is_some() {
            self.replace_socket(Socket::None);
        }
    }

    fn replace_socket(&mut self, new: Socket) {
        if let Source::Mailbox(_, socket) = self {
            *socket = new;
        }
    }

    /// The line of those who accept in rotation, if this one may stand there.
    pub(super) fn line(&self) -> Option<&Line> {
        match self {
            Source::Mailbox(_, Socket::Beside(beside)) => beside.line(),
            _ => None,
        }
    }

    /// An epoll of the program's tells `data` when accept has something to say.
    pub(super) fn watch(&self, poll: &Arc<Poll>, data: u64) -> Sys<()> {
        match self {
            Source::Alone(alone) => poll.add_exclusive(alone, data),
            Source::Datagram { socket, .. } => poll.add(socket, data, Interest::Readable),
            Source::Mailbox(mailbox, socket) => {
                poll.add(mailbox, data, Interest::Readable)?;
                let Socket::Beside(beside) = socket else { return Ok(()) };
                beside.watch(poll, data).inspect_err(|_| poll.remove(mailbox))
            }
        }
    }

    /// It does not any more. (Closing would not do: the primary has copies.)
    pub(super) fn unwatch(&self, poll: &Poll) {
        match self {
            Source::Alone(alone) => poll.remove(alone),
            Source::Datagram { socket, .. } => poll.remove(socket),
            Source::Mailbox(mailbox, socket) => {
                poll.remove(mailbox);
                if let Socket::Beside(beside) = socket {
                    beside.unwatch(poll);
                }
            }
        }
    }

    /// Sets an option of a socket that this process has opened itself.
    pub(super) fn set_option(&self, option: &SocketOption) -> Result<()> {
        let (socket, inherited) = match self {
            Source::Alone(alone) => (alone.as_fd(), alone.is_inherited()),
            Source::Datagram { socket, inherited, .. } => (socket.as_fd(), *inherited),
            Source::Mailbox(..) => {
                let sentence = "the listener is another process's; it sets its options";
                return Err(Error::new(-libc::EOPNOTSUPP, sentence));
            }
        };
        if inherited {
            return Err(options::of_another("fd:N"));
        }
        option.set_on(socket).context(format_args!("setsockopt {}", option.called()))
    }

    /// Wakes everybody who waits for a connection.
    pub(super) fn finish(&self) {
        match self {
            Source::Alone(alone) => alone.finish(),
            Source::Mailbox(mailbox, socket) => {
                if let Socket::Taken(taken) = socket {
                    taken.close();
                }
                mailbox.finish();
            }
            Source::Datagram { .. } => {}
        }
    }
}

impl AsFd for Source {
    /// Readable when `accept` has something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Alone(alone) => alone.as_fd(),
            Source::Mailbox(_, Socket::Beside(beside)) => beside.as_fd(),
            Source::Mailbox(mailbox, _) => mailbox.as_fd(),
            Source::Datagram { socket, .. } => socket.as_fd(),
        }
    }
}
