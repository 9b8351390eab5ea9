//! The worker's end of the channel: frames to the primary, and messages from it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use once_cell::sync::OnceCell;

use super::leaving::Leaving;
use super::primary_gone;
use crate::error::{Context, Error, Result};
use crate::sys::poll::{Interest, Poll, Waited, wait_readable, wait_writable};
use crate::sys::{cmsg, is_short_of_memory, lock, patiently, pause_after};
use crate::wire::{self, FromPrimary};

/// A constant, since a signal handler may get this error and must not allocate.
const NO_CHANNEL: &str = "the channel to the primary cannot be used; was its descriptor closed in this process, by closefrom(3) or a \
                          close(2) too many?";

pub(super) struct Channel {
    socket: OwnedFd,
    leaving: Arc<Leaving>,
    /// Polls the channel and the request to leave through one descriptor. Made on demand.
    both: OnceCell<Poll>,
    incoming: Mutex<Vec<u8>>,
    /// Locked while a frame is sent that must not follow a listener's close.
    closing: Mutex<()>,
}

impl Channel {
    pub(super) fn new(socket: OwnedFd, leaving: Arc<Leaving>) -> Self {
        Self { socket, leaving, both: OnceCell::new(), incoming: Mutex::new(Vec::new()), closing: Mutex::new(()) }
    }

    pub(super) fn leaving(&self) -> &Arc<Leaving> {
        &self.leaving
    }

    /// Until that is dropped no listener is closed.
    pub(super) fn hold_close(&self) -> MutexGuard<'_, ()> {
        lock(&self.closing)
    }

    /// Readable when `receive` has something to say; for good once this worker was asked to leave.
    pub(super) fn sign(&self) -> Result<BorrowedFd<'_>> {
        let both = self.both.get_or_try_init(|| {
            let both = Poll::new().context("epoll_create1")?;
            both.add(&self.socket, 0, Interest::Readable).context("epoll_ctl")?;
            both.add(self.leaving.grants(), 1, Interest::Readable).context("epoll_ctl")?;
            Ok(both)
        })?;
        Ok(both.as_fd())
    }

    /// Sends a frame, waiting for room. A long body is given apart, to save a copy. Async-signal-safe.
    pub(super) fn tell(&self, frame: &[u8], body: &[u8]) -> Result<()> {
        for failures in 0.. {
            primary_gone::check()?;
            match cmsg::send(self.as_fd(), [frame, body], &[]) {
                Ok(()) => break,
                Err(Errno::EAGAIN) => {
                    wait_writable(self.as_fd()).map_err(|errno| Error::bare(errno, NO_CHANNEL))?;
                }
                // No readiness event tells when memory is back.
                Err(errno) if is_short_of_memory(errno) => pause_after(failures),
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => {
                    return Err(primary_gone::seen());
                }
                Err(errno) => return Err(Error::bare(errno, NO_CHANNEL)),
            }
        }
        Ok(())
    }

    pub(super) fn receive(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<usize> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(length) = self.try_receive(buffer)? {
                return Ok(length);
            }
            if self.leaving.is_asked() {
                return Err(Error::shutdown());
            }
            let left = match (timeout, deadline) {
                (Some(Duration::ZERO), _) => {
                    return Err(Error::new(-libc::EAGAIN, "no message is there"));
                }
                (Some(_), Some(deadline)) => Some(deadline.saturating_duration_since(Instant::now())),
                _ => None,
            };
            let fds = [self.as_fd(), self.leaving.grants()];
            if wait_readable(&fds, left).context("poll of the channel")? == Waited::TimedOut {
                return Err(Error::new(-libc::ETIMEDOUT, "no message came in time"));
            }
        }
    }

    /// A message that is there already. Notes a request to leave on the way.
    fn try_receive(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        // A message takes two receives, so only one thread may do this at a time.
        let mut incoming = lock(&self.incoming);
        loop {
            let mut header = [0; 8];
            let next = match self.receive_frame(&mut header, libc::MSG_PEEK | libc::MSG_TRUNC)? {
                None => return Ok(None),
                Some(length) => length.saturating_sub(header.len()),
            };
            if header == wire::MESSAGE_HEADER && next > buffer.len() {
                return Err(Error::new(
                    -libc::EMSGSIZE,
                    format!("the next message has {next} bytes and the buffer only {}; it is kept", buffer.len()),
                ));
            }
            incoming.resize(wire::FRAME_MAX, 0);
            let Some(length) = self.receive_frame(&mut incoming, 0)? else {
                return Ok(None);
            };
            match FromPrimary::decode(&incoming[..length]) {
                Ok(FromPrimary::Message(message)) => {
                    buffer[..message.len()].copy_from_slice(message);
                    return Ok(Some(message.len()));
                }
                Ok(FromPrimary::Disconnect) => self.leaving.ask(),
                // A later version may send more; ignore what is unknown.
                Ok(FromPrimary::Hello(_)) | Err(_) => {}
            }
        }
    }

    fn receive_frame(&self, buffer: &mut [u8], flags: i32) -> Result<Option<usize>> {
        match patiently(|| cmsg::receive(self.as_fd(), buffer, 0, flags)) {
            Err(Errno::EAGAIN) => Ok(None),
            Ok(received) if received.length == 0 => Err(primary_gone::seen()),
            Ok(received) => Ok(Some(received.length)),
            Err(errno) => Err(Error::os("receiving from the primary", errno)),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        primary_gone::forget(self.socket.as_raw_fd());
    }
}
