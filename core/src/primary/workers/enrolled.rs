//! Workers whose process the program starts itself, and whose listens it passes on: Node's own, for whom queries and
//! answers travel on Node's channel and only connections on ours.

use std::os::fd::OwnedFd;

use super::{Workers, no_such_worker};
use crate::bind::ListenFlags;
use crate::error::{Context, Error, Result};
use crate::sys::poll::{Interest, Poll};
use crate::sys::sockaddr::SockAddr;
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

impl Workers {
    /// The process of an enrolled worker runs.
    pub(crate) fn started(&mut self, id: u32, pid: i32, poll: &Poll) -> Result<()> {
        let entry = self.get_mut(id).ok_or_else(|| no_such_worker(id))?;
        entry.process.started(pid);
        if let Some(pidfd) = entry.process.pidfd() {
            poll.add(pidfd, Token::Process(id).pack(), Interest::Readable).context("watching a worker")?;
        }
        Ok(())
    }

    /// An enrolled worker can be told of a grant.
    pub(crate) fn check_speaks(&self, id: u32) -> Result<()> {
        let link = &self.named(id)?.link;
        if link.greeted && link.is_open() {
            return Ok(());
        }
        Err(Error::new(-libc::ENOTCONN, format!("worker {id} does not speak on its channel")))
    }
}
