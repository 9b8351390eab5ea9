//! A worker's side of a shared address, and taking connections from it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use super::leaving::Leaving;
use super::own::Door;
use super::primary_gone;
use crate::bind::{Bound, ListenFlags};
use crate::error::{Context, Error, Result};
use crate::options::{self, SocketOption};
use crate::scoreboard::OwnBoard;
use crate::settings::MechanismKind;
use crate::sys::poll::{Interest, Poll, Waited, Wake, wait_readable};
use crate::sys::sockaddr::SockAddr;
use crate::sys::unix_path::SocketFile;
use crate::sys::{cmsg, pause_after, socket};
use crate::wire::{self, Parcel};

/// What a grant brought.
pub(super) struct Granted {
    pub(super) listener: u32,
    pub(super) mechanism: u32,
    pub(super) datagram: bool,
    pub(super) settable: bool,
    pub(super) name: SockAddr,
    pub(super) fds: (Option<OwnedFd>, Option<OwnedFd>),
}

enum Source {
    /// A listening socket of this process's own. `close` wakes whoever waits in accept: closing alone would not.
    Own { socket: OwnedFd, file: Option<SocketFile>, close: Wake, door: Door },
    /// The mailbox alone.
    Mailbox(OwnedFd),
    /// The mailbox, and a socket that the program accepts from in a way of its own.
    Taken { mailbox: OwnedFd, socket: EndsWithUs },
    /// A socket to accept from, and the mailbox.
    Both(Both),
    /// A datagram socket; the mailbox only says when to stop.
    Datagram { socket: OwnedFd, mailbox: Option<OwnedFd> },
}

/// A copy of a listening socket, by which it is shut down at the end of a process that has lost its primary.
struct EndsWithUs(Mutex<Option<OwnedFd>>);

impl EndsWithUs {
    fn new(socket: OwnedFd) -> Self {
        primary_gone::end_with_us(socket.as_fd());
        Self(Mutex::new(Some(socket)))
    }

    fn close(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            primary_gone::spare(socket.as_raw_fd());
        }
    }
}

impl Drop for EndsWithUs {
    fn drop(&mut self) {
        self.close();
    }
}

/// A socket to accept from, and the mailbox; polled through one descriptor.
struct Both {
    poll: Poll,
    socket: OwnedFd,
    /// The socket is of this worker's slot alone, not shared with others.
    own: bool,
    mailbox: OwnedFd,
    accepts: AtomicU32,
}

/// After how many accepts from a socket that is never empty the mailbox is looked into.
const ACCEPTS_PER_LOOK: u32 = 16;

impl Both {
    /// The mailbox's turn has come, and it is not empty.
    fn is_turn_of_mailbox(&self) -> bool {
        let turn = self.accepts.fetch_add(1, Ordering::Relaxed).is_multiple_of(ACCEPTS_PER_LOOK);
        turn && wait_readable(&[self.mailbox.as_fd()], Some(Duration::ZERO))
            .is_ok_and(|waited| waited != Waited::TimedOut)
    }
}

const MAILBOX: u64 = 0;
const SOCKET: u64 = 1;

/// A share in the primary's handle.
pub(super) struct Share {
    pub(super) listener: u32,
    /// Its socket options may be set later.
    pub(super) settable: bool,
    address: String,
    index: u32,
}

/// Something to accept connections from.
pub struct Listener {
    source: Source,
    share: Option<Share>,
    /// The socket is another's (`fd:N`).
    inherited: bool,
    name: SockAddr,
    /// For a socket of a worker's own, which no mailbox tells when to stop.
    leaving: Option<Arc<Leaving>>,
    /// Where a worker counts what it takes.
    board: Option<Arc<OwnBoard>>,
    waits: bool,
    /// The stop has been taken out of the mailbox.
    stopped: AtomicBool,
    /// Threads between a receive from the mailbox and having acted on it.
    receiving: AtomicU32,
    closed: AtomicBool,
    /// How many more calls expect an empty mailbox.
    empty_handed: AtomicU32,
    /// How many accepts in a row found descriptors or memory short.
    shortages: AtomicU32,
}

/// Counts the threads that are somewhere.
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

/// How many calls wait before they look, after one that looked and found nothing.
const LOOKS_AFTER: u32 = 8;

/// How often one looks again at a shared socket that does not listen, which the primary mends within a second.
const MENDED_SOON: Duration = Duration::from_millis(20);

/// What an accept may set on the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AcceptFlags {
    /// O_NONBLOCK.
    pub nonblocking: bool,
    /// FD_CLOEXEC.
    pub close_on_exec: bool,
    /// The peer's address is not wanted; none comes, where it would have to be asked for.
    pub without_peer: bool,
}

impl Listener {
    /// A socket of this process's own, in a worker if one is given.
    pub(super) fn alone(
        bound: Bound,
        inherited: bool,
        flags: ListenFlags,
        worker: Option<Arc<Leaving>>,
    ) -> Result<Self> {
        let source = match bound.datagram {
            true => Source::Datagram { socket: bound.socket, mailbox: None },
            false => {
                let close = Wake::new().context("eventfd")?;
                Source::Own { socket: bound.socket, file: bound.file, close, door: Door::default() }
            }
        };
        let mut listener = Self::new(source, None, bound.name, flags);
        listener.inherited = inherited;
        listener.leaving = worker;
        Ok(listener)
    }

    pub(super) fn granted(granted: Granted, address: &str, index: u32, flags: ListenFlags) -> Result<Self> {
        let incomplete = || Error::new(-libc::EPROTO, "the primary's grant came without its descriptors");
        let mailbox = granted.fds.0.ok_or_else(incomplete)?;
        let source = if granted.datagram {
            Source::Datagram { socket: granted.fds.1.ok_or_else(incomplete)?, mailbox: Some(mailbox) }
        } else if granted.mechanism == MechanismKind::Passed as u32 {
            Source::Mailbox(mailbox)
        } else {
            let socket = granted.fds.1.ok_or_else(incomplete)?;
            let poll = Poll::new().context("epoll_create1")?;
            poll.add(&mailbox, MAILBOX, Interest::Readable).context("epoll_ctl")?;
            poll.add_exclusive(&socket, SOCKET).context("epoll_ctl")?;
            let own = granted.mechanism == MechanismKind::Kernel as u32;
            Source::Both(Both { poll, socket, own, mailbox, accepts: AtomicU32::new(0) })
        };
        // Only what will be forgotten again, when the listener is dropped, may be woken.
        if let Source::Mailbox(mailbox)
        | Source::Both(Both { mailbox, .. })
        | Source::Datagram { mailbox: Some(mailbox), .. } = &source
        {
            primary_gone::wake_at_death(mailbox.as_fd());
        }
        // A child of this process's own would keep the address open. What is the program's (`fd:N`) is left as it is.
        if let Source::Both(Both { socket, own, .. }) = &source
            && (*own || !(address.is_empty() || address.starts_with("fd:")))
        {
            primary_gone::wake_at_death(socket.as_fd());
        }
        let Granted { listener, settable, .. } = granted;
        let share = Share { listener, settable, address: address.to_owned(), index };
        Ok(Self::new(source, Some(share), granted.name, flags))
    }

    /// A share that this process, a primary, holds in a worker's stead (`Primary::relay`). Accepting from it does not wait.
    pub fn relaying(mailbox: OwnedFd, name: SockAddr) -> Self {
        Self::new(Source::Mailbox(mailbox), None, name, ListenFlags::NONBLOCK)
    }

    fn new(source: Source, share: Option<Share>, name: SockAddr, flags: ListenFlags) -> Self {
        Self {
            source,
            share,
            inherited: false,
            name,
            leaving: None,
            board: None,
            waits: !flags.contains(ListenFlags::NONBLOCK),
            stopped: AtomicBool::new(false),
            receiving: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            empty_handed: AtomicU32::new(0),
            shortages: AtomicU32::new(0),
        }
    }

    /// Counts what is taken from it on the worker's page, if it has one.
    pub(super) fn counting_on(mut self, board: Option<&Arc<OwnBoard>>) -> Self {
        self.board = board.cloned();
        self
    }

    /// How many connections may wait in the listening socket that is this worker's alone, if it has one.
    pub fn backlog(&self) -> Option<u32> {
        match &self.source {
            Source::Both(Both { own: true, socket, .. }) => socket::listening_room(socket.as_fd()).ok().flatten(),
            _ => None,
        }
    }

    /// Hands out the listening socket that is this worker's alone, if it has one, for a program that accepts from it in a way
    /// of its own. Connections come here from the mailbox alone then. The program closes the socket when it closes the listener, and
    /// calls [`Worker::end_if_orphaned`](super::Worker::end_if_orphaned) when it ends: a copy stays here, to shut it down.
    pub fn take_socket(&mut self) -> Result<Option<OwnedFd>> {
        let Source::Both(Both { own: true, mailbox, socket, .. }) = &self.source else { return Ok(None) };
        let kept = socket::duplicate(mailbox.as_fd()).context("duplicating a mailbox")?;
        let copy = socket::duplicate(socket.as_fd()).context("duplicating a listening socket")?;
        let given = socket::duplicate(socket.as_fd()).context("duplicating a listening socket")?;
        primary_gone::forget(mailbox.as_raw_fd());
        primary_gone::forget(socket.as_raw_fd());
        primary_gone::wake_at_death(kept.as_fd());
        self.source = Source::Taken { mailbox: kept, socket: EndsWithUs::new(copy) };
        Ok(Some(given))
    }

    /// Closes the listening socket that is this worker's alone, if it has one that was not taken.
    pub fn drop_socket(&mut self) -> Result<()> {
        let Source::Both(Both { own: true, mailbox, socket, .. }) = &self.source else { return Ok(()) };
        let kept = socket::duplicate(mailbox.as_fd()).context("duplicating a mailbox")?;
        primary_gone::forget(mailbox.as_raw_fd());
        primary_gone::forget(socket.as_raw_fd());
        primary_gone::wake_at_death(kept.as_fd());
        self.source = Source::Mailbox(kept);
        Ok(())
    }

    /// What the primary calls it, if it is a share of the primary's.
    pub(super) fn id(&self) -> Option<u32> {
        self.share.as_ref().map(|share| share.listener)
    }

    pub(super) fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// Sets an option of a socket that is this process's own.
    pub(crate) fn set_own_option(&self, option: &SocketOption) -> Result<()> {
        options::check_value(option)?;
        self.check_not_closed()?;
        let (Source::Own { socket, .. } | Source::Datagram { socket, .. }) = &self.source else {
            return Err(Error::new(-libc::EOPNOTSUPP, "the listener is another process's; it sets its options"));
        };
        if self.inherited {
            return Err(options::of_another("fd:N"));
        }
        option.set_on(socket.as_fd()).context(format_args!("setsockopt {}", option.called()))
    }

    /// The address it listens on.
    pub fn name(&self) -> SockAddr {
        self.name
    }

    /// Takes one connection. See `cl_accept4` for what the errors mean.
    pub fn accept(&self, flags: AcceptFlags) -> Result<(OwnedFd, SockAddr)> {
        let outcome = match &self.source {
            Source::Mailbox(mailbox) | Source::Taken { mailbox, .. } => self.accept_passed(mailbox.as_fd(), flags),
            Source::Both(both) => self.accept_both(both, flags),
            Source::Own { socket, close, door, .. } => self.accept_own(socket.as_fd(), close.as_fd(), door, flags),
            Source::Datagram { .. } => {
                Err(Error::new(-libc::EOPNOTSUPP, "a datagram socket has no connections to accept; receive from it"))
            }
        };
        if let Some(board) = &self.board {
            if outcome.is_ok() && self.share.is_some() {
                board.took();
            }
            board.beat();
        }
        match &outcome {
            Err(error) if self.waits && is_shortage(error) => self.slow_down(),
            _ if self.shortages.load(Ordering::Relaxed) > 0 => self.shortages.store(0, Ordering::Relaxed),
            _ => {}
        }
        outcome
    }

    /// Descriptors or memory are short, and the connection stays where it is. A program that simply tries again must not
    /// spin: from the second time in a row it hears of it only after a pause. (The first time it may know what to close.)
    fn slow_down(&self) {
        let before = self.shortages.fetch_add(1, Ordering::Relaxed);
        if before > 0 {
            // From 4 ms on.
            pause_after(before.saturating_add(1));
        }
    }

    /// Begins to wait, which counts as a sign of life: from here on nothing is this worker's to do.
    fn show_idle(&self) {
        if let Some(board) = &self.board {
            board.beat();
        }
    }

    fn accept_passed(&self, mailbox: BorrowedFd, flags: AcceptFlags) -> Result<(OwnedFd, SockAddr)> {
        // A take that finds nothing costs three system calls in vain. While the program is faster than its clients the
        // mailbox is empty at each call, and waiting comes first.
        if self.waits && self.expects_nothing() {
            self.check_open()?;
            self.wait(&[mailbox])?;
        }
        loop {
            match self.take(mailbox, flags)? {
                Some(taken) => return Ok(taken),
                None => {
                    self.empty_handed.store(LOOKS_AFTER, Ordering::Relaxed);
                    self.wait(&[mailbox])?;
                }
            }
        }
    }

    /// True for some calls after one that found nothing.
    fn expects_nothing(&self) -> bool {
        let left = self.empty_handed.load(Ordering::Relaxed);
        if left > 0 {
            self.empty_handed.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }

    fn accept_both(&self, both: &Both, flags: AcceptFlags) -> Result<(OwnedFd, SockAddr)> {
        let mailbox = both.mailbox.as_fd();
        let mut looked = false;
        loop {
            self.check_not_closed()?;
            if self.stopped.load(Ordering::SeqCst) {
                return self.accept_last(both, flags);
            }
            // As with the mailbox alone, a look that finds nothing costs more than to ask first.
            let (mut from_mailbox, mut from_socket) = (both.is_turn_of_mailbox(), true);
            if self.expects_nothing() {
                (from_mailbox, from_socket) = (false, false);
                if self.waits {
                    self.show_idle();
                }
                let ready = both.poll.wait((!self.waits).then_some(Duration::ZERO)).context("epoll_wait")?;
                for token in ready.tokens() {
                    from_mailbox |= token == MAILBOX;
                    from_socket |= token == SOCKET;
                }
                if !from_mailbox && !from_socket && !self.waits {
                    return Err(nothing_there());
                }
            }
            // The mailbox first, so that a busy socket does not hide the stop.
            let taken = if from_mailbox { self.take(mailbox, flags) } else { Ok(None) };
            match taken {
                Ok(Some(taken)) => return Ok(taken),
                // Even behind a stop: this thread may be the only one that was woken for what waits in the socket.
                outcome if from_socket => {
                    if let Some(taken) = self.accept_mine(both, flags)? {
                        return Ok(taken);
                    }
                    self.empty_handed.store(LOOKS_AFTER, Ordering::Relaxed);
                    outcome?;
                    // A socket that was shut down stays readable, and is no reason to go on looking.
                    if !self.waits && std::mem::replace(&mut looked, true) {
                        return Err(nothing_there());
                    }
                }
                outcome => drop(outcome?),
            }
        }
    }

    /// Behind the stop: what waits in a queue of this worker's own is still its own.
    fn accept_last(&self, both: &Both, flags: AcceptFlags) -> Result<(OwnedFd, SockAddr)> {
        let last = if both.own { self.accept_mine(both, flags)? } else { None };
        last.ok_or_else(Error::shutdown)
    }

    /// A socket of this worker's own that does not listen any more was taken away by the primary: because it was closed here, or
    /// because this worker does not count as one any more. One that all workers share was shut down by another of them.
    fn accept_mine(&self, both: &Both, flags: AcceptFlags) -> Result<Option<(OwnedFd, SockAddr)>> {
        match accept_from(both.socket.as_fd(), flags) {
            Err(error) if error.is(libc::EINVAL) => self.check_not_closed()?,
            outcome => return outcome,
        }
        // Then it was shut down here, for the sake of others who have it.
        if primary_gone::is_known() && !self.stopped.load(Ordering::SeqCst) {
            return Err(primary_gone::seen());
        }
        if both.own {
            return Err(Error::shutdown());
        }
        if self.waits {
            wait_readable(&[both.mailbox.as_fd()], Some(MENDED_SOON)).context("poll of a mailbox")?;
        }
        Ok(None)
    }

    fn accept_own(
        &self,
        socket: BorrowedFd,
        close: BorrowedFd,
        door: &Door,
        flags: AcceptFlags,
    ) -> Result<(OwnedFd, SockAddr)> {
        // A socket that is never empty does not hide that this worker is to leave.
        if !self.inherited && self.leaving.as_ref().is_some_and(|leaving| leaving.is_asked()) {
            door.shut(socket, &self.name);
        }
        loop {
            self.check_open()?;
            if let Some(taken) = accept_from(socket, flags)? {
                return Ok(taken);
            }
            match &self.leaving {
                Some(leaving) if self.waits && !self.inherited && leaving.is_asked() => {
                    door.shut(socket, &self.name);
                    if door.is_quiet(&self.name) {
                        // What ended meanwhile is there now.
                        return accept_from(socket, flags)?.ok_or_else(Error::shutdown);
                    }
                    wait_readable(&[socket, close], Some(MENDED_SOON)).context("poll of a listener")?;
                }
                Some(leaving) => {
                    leaving.check()?;
                    self.wait(&[socket, close, leaving.sign()])?;
                }
                None => self.wait(&[socket, close])?,
            }
        }
    }

    /// Takes one parcel. `None`: nothing is there, or nothing for the caller.
    fn take(&self, mailbox: BorrowedFd, flags: AcceptFlags) -> Result<Option<(OwnedFd, SockAddr)>> {
        loop {
            self.check_open()?;
            socket::free_descriptor(mailbox).context("accepting a connection")?;
            let mut buffer = [0; wire::PARCEL_MAX];
            let close_on_exec = if flags.close_on_exec { libc::MSG_CMSG_CLOEXEC } else { 0 };
            let receiving = Counted::on(&self.receiving);
            // The kernel's dequeue is the claim (rule R3): nothing but its result lies between it and the caller.
            let mut received = match cmsg::receive(mailbox, &mut buffer, 1, close_on_exec) {
                Err(Errno::EAGAIN) => return Ok(None),
                outcome => outcome.context("receiving a connection")?,
            };
            if received.length == 0 {
                // Everybody who waits sees this end of file: behind a stop that one of us took, or the primary's. Who took
                // the stop did so before us, and may not have said so yet.
                drop(receiving);
                while self.receiving.load(Ordering::SeqCst) > 0 {
                    std::thread::yield_now();
                }
                self.check_open()?;
                return Err(primary_gone::seen());
            }
            match (Parcel::decode(&buffer[..received.length]), received.take_fd(0)) {
                (Ok(Parcel::Connection(peer)), Some(connection)) => {
                    if flags.nonblocking {
                        socket::make_nonblocking(connection.as_fd()).context("fcntl of a connection")?;
                    }
                    return Ok(Some((connection, peer)));
                }
                (Ok(Parcel::Stop), _) => {
                    self.stopped.store(true, Ordering::SeqCst);
                    // Only one thread takes the stop; the others are woken by the end of file this makes.
                    socket::finish_receiving(mailbox);
                }
                (Ok(Parcel::Connection(_)), None) => {
                    // Between the question above and the receive.
                    let sentence = "another thread took the last descriptor, and a connection with it";
                    return Err(Error::new(-libc::EMFILE, sentence));
                }
                // A NOP, or what a later version may send.
                _ => {}
            }
        }
    }

    pub(super) fn check_not_closed(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(-libc::EBADF, "the listener was closed"));
        }
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        self.check_not_closed()?;
        if self.stopped.load(Ordering::SeqCst) {
            return Err(Error::shutdown());
        }
        Ok(())
    }

    fn wait(&self, fds: &[BorrowedFd]) -> Result<()> {
        if !self.waits {
            return Err(nothing_there());
        }
        self.show_idle();
        wait_readable(fds, None).context("poll of a listener").map(|_| ())
    }

    /// Closes a listener that is no share of anything.
    pub(crate) fn close_alone(&self) {
        self.finish();
    }

    /// Makes every accept on it fail. Returns what the primary has to be told: the listener, its address and index.
    pub(super) fn finish(&self) -> Option<(u32, &str, u32)> {
        self.closed.store(true, Ordering::SeqCst);
        match &self.source {
            Source::Mailbox(mailbox) | Source::Both(Both { mailbox, .. }) => socket::finish_receiving(mailbox.as_fd()),
            Source::Taken { mailbox, socket } => {
                socket.close();
                socket::finish_receiving(mailbox.as_fd());
            }
            Source::Own { file, close, .. } => {
                close.wake();
                if let Some(file) = file {
                    file.remove();
                }
            }
            Source::Datagram { .. } => {}
        }
        self.share.as_ref().map(|share| (share.listener, share.address.as_str(), share.index))
    }
}

impl AsFd for Listener {
    /// Readable when `accept` has something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Own { socket, .. } | Source::Datagram { socket, .. } => socket.as_fd(),
            Source::Mailbox(mailbox) | Source::Taken { mailbox, .. } => mailbox.as_fd(),
            Source::Both(both) => both.poll.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Source::Both(Both { socket, .. }) = &self.source {
            primary_gone::forget(socket.as_raw_fd());
        }
        match &self.source {
            Source::Mailbox(mailbox)
            | Source::Taken { mailbox, .. }
            | Source::Both(Both { mailbox, .. })
            | Source::Datagram { mailbox: Some(mailbox), .. } => primary_gone::forget(mailbox.as_raw_fd()),
            Source::Own { .. } | Source::Datagram { mailbox: None, .. } => {}
        }
    }
}

fn is_shortage(error: &Error) -> bool {
    [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS].into_iter().any(|errno| error.is(errno))
}

fn nothing_there() -> Error {
    Error::new(-libc::EAGAIN, "no connection is waiting")
}

/// Connections in a row that failed before they were accepted; after more it pauses, since no client can make so many.
const FAILURES_IN_A_ROW: u32 = 16;

/// accept4(2) as a server wants it: connections that failed before they were accepted are nobody's.
fn accept_from(listening: BorrowedFd, flags: AcceptFlags) -> Result<Option<(OwnedFd, SockAddr)>> {
    let mut bits = 0;
    if flags.nonblocking {
        bits |= libc::SOCK_NONBLOCK;
    }
    if flags.close_on_exec {
        bits |= libc::SOCK_CLOEXEC;
    }
    for _ in 0..FAILURES_IN_A_ROW {
        let accepted = match flags.without_peer {
            true => socket::accept_alone(listening, bits).map(|connection| (connection, SockAddr::EMPTY)),
            false => socket::accept(listening, bits),
        };
        match accepted {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) if socket::is_of_one_connection(errno) => {}
            Err(errno) => return Err(Error::os("accept4", errno)),
        }
    }
    pause_after(5);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener on a mailbox, and the primary's end of that.
    fn on_a_mailbox() -> (Listener, OwnedFd) {
        let (sender, mailbox) = socket::packet_pair().unwrap();
        (Listener::new(Source::Mailbox(mailbox), None, SockAddr::EMPTY, ListenFlags::default()), sender)
    }

    #[test]
    fn all_threads_learn_of_a_stop_behind_which_the_primary_closes_at_once() {
        for _ in 0..300 {
            let (listener, sender) = on_a_mailbox();
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| listener.accept(AcceptFlags::default()).err().map(|error| error.code())))
                    .collect();
                cmsg::send(sender.as_fd(), [&wire::STOP, b""], &[]).unwrap();
                drop(sender);
                for thread in threads {
                    assert_eq!(thread.join().unwrap(), Some(-libc::ESHUTDOWN));
                }
            });
        }
    }
}
