//! The worker's end of a mailbox.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::errno::Errno;

use super::accepting::{AcceptFlags, Accepted, Accepting};
use super::primary_gone;
use crate::error::{Context, Error, Result};
use crate::sys::room::Room;
use crate::sys::{cmsg, descriptor, socket};
use crate::wire::{self, Parcel};

pub(super) struct Mailbox {
    socket: OwnedFd,
    /// The stop was taken out.
    stopped: AtomicBool,
    /// And what says that this worker has turns from then on.
    begun: AtomicBool,
    /// Threads that have received something and not yet acted on it.
    receiving: AtomicU32,
    /// For what is received.
    room: Room,
}

/// Counts a thread for as long as it lives.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn on(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Mailbox {
    /// A worker's. Whoever waits for it is woken when the primary dies.
    pub(super) fn new(socket: OwnedFd) -> Self {
        primary_gone::wake_at_death(socket.as_fd());
        Self::relayed(socket)
    }

    /// One that a primary holds for a worker.
    pub(super) fn relayed(socket: OwnedFd) -> Self {
        Self {
            socket,
            stopped: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            receiving: AtomicU32::new(0),
            room: Room::default(),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// This worker has its turns.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    fn check_open(&self, accepting: &Accepting) -> Result<()> {
        accepting.check_not_closed()?;
        if self.is_stopped() { Err(Error::shutdown()) } else { Ok(()) }
    }

    /// Accepts where connections come from nowhere else.
    pub(super) fn accept(&self, accepting: &Accepting, flags: AcceptFlags) -> Result<Accepted> {
        if accepting.waits() && accepting.expects_nothing() {
            self.check_open(accepting)?;
            accepting.wait(&[self.as_fd()])?;
        }
        loop {
            match self.take(accepting, flags)? {
                Some(taken) => return Ok(taken),
                None => {
                    accepting.found_nothing();
                    accepting.wait(&[self.as_fd()])?;
                }
            }
        }
    }

    /// Takes one parcel. `None`: nothing is there, or nothing for the caller.
    pub(super) fn take(&self, accepting: &Accepting, flags: AcceptFlags) -> Result<Option<Accepted>> {
        loop {
            self.check_open(accepting)?;
            self.room.ask(self.as_fd()).context("accepting a connection")?;
            let mut buffer = [0; wire::PARCEL_MAX];
            let close_on_exec = if flags.close_on_exec { libc::MSG_CMSG_CLOEXEC } else { 0 };
            let receiving = Counted::on(&self.receiving);
            // The kernel's dequeue is the claim (rule R3): nothing may come between it and the caller.
            let mut received = match cmsg::receive(self.as_fd(), &mut buffer, 1, close_on_exec) {
                Err(Errno::EAGAIN) => return Ok(None),
                outcome => outcome.context("receiving a connection")?,
            };
            if received.length == 0 {
                // Every waiting thread sees this end of file. Either one of them took a stop, perhaps without having said so yet,
                // or the primary is gone.
                drop(receiving);
                while self.receiving.load(Ordering::SeqCst) > 0 {
                    std::thread::yield_now();
                }
                self.check_open(accepting)?;
                return Err(primary_gone::seen());
            }
            match (Parcel::decode(&buffer[..received.length]), received.take_fd(0)) {
                (Ok(Parcel::Connection(peer)), Some(connection)) => {
                    self.room.received(connection.as_raw_fd());
                    if flags.nonblocking {
                        descriptor::make_nonblocking(connection.as_fd()).context("fcntl of a connection")?;
                    }
                    return Ok(Some((connection, peer)));
                }
                (Ok(Parcel::Begin), _) => self.begun.store(true, Ordering::SeqCst),
                (Ok(Parcel::Stop), _) => {
                    self.stopped.store(true, Ordering::SeqCst);
                    // Only one thread takes the stop. This makes an end of file that wakes the others.
                    self.finish();
                }
                (Ok(Parcel::Connection(_)), None) => {
                    // After `Room::ask` had found one.
                    let sentence = "another thread took the last descriptor, and a connection with it";
                    return Err(Error::new(-libc::EMFILE, sentence));
                }
                // A NOP, or something of a later version.
                _ => {}
            }
        }
    }

    /// Wakes everybody who waits for it.
    pub(super) fn finish(&self) {
        socket::finish_receiving(self.as_fd());
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        primary_gone::forget(self.socket.as_raw_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::ListenFlags;

    #[test]
    fn all_threads_learn_of_a_stop_behind_which_the_primary_closes_at_once() {
        for _ in 0..300 {
            let (sender, socket) = socket::packet_pair().unwrap();
            let (mailbox, accepting) = (Mailbox::new(socket), Accepting::new(ListenFlags::default()));
            let accept = || mailbox.accept(&accepting, AcceptFlags::default()).err().map(|error| error.code());
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(accept)).collect();
                cmsg::send(sender.as_fd(), [&wire::STOP, b""], &[]).unwrap();
                drop(sender);
                for thread in threads {
                    assert_eq!(thread.join().unwrap(), Some(-libc::ESHUTDOWN));
                }
            });
        }
    }
}
