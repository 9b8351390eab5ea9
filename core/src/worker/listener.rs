//! A listener: a share of an address of the primary's, or a socket that this process has opened itself.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::accepting::{AcceptFlags, Accepting, accept_from, nothing_there};
use super::alone;
use super::leaving::Leaving;
use super::line::Line;
use super::mailbox::Mailbox;
use super::messages::Channel;
use super::source::{Grant, Socket, Source};
use super::watching::Watching;
use crate::address::Address;
use crate::bind::{ListenFlags, Shape};
use crate::error::{Error, Result};
use crate::options::{self, SocketOption};
use crate::scoreboard::OwnBoard;
use crate::sys::sockaddr::SockAddr;
use crate::sys::socket;
use crate::tally::Part;
use crate::wire::FromWorker;

/// How to listen, beside the address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenOptions {
    /// Connections that the kernel keeps waiting; 0 or less: 511. The first worker to listen decides.
    pub backlog: i32,
    /// See [`ListenFlags`].
    pub flags: ListenFlags,
    /// For port 0: which of the shared ports. 0: the next in order of this worker's listens; n: the n-th.
    pub index: u32,
    /// Options that every listening socket of the address gets, and accepted connections inherit; at most 32. The first worker to
    /// listen decides; the primary judges them (docs/socket-options.md). On a socket that this process opens itself only the
    /// kernel does.
    pub options: Vec<SocketOption>,
}

/// How a worker stands among those who accept in rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// How many connections more than the mean it has taken.
    pub ahead: u64,
    /// What all have taken. Another value whenever a connection is taken.
    pub taken: u64,
}

/// How many may wait in a socket whose kind does not tell: the most that net.core.somaxconn is by default.
const ROOM_UNKNOWN: u32 = 4096;

/// This worker's part in an address of the primary's.
pub(super) struct Share {
    pub(super) listener: u32,
    channel: Arc<Channel>,
    /// Its socket options may be set later.
    settable: bool,
    pub(super) address: String,
    pub(super) index: u32,
}

/// Something to accept connections from.
pub struct Listener {
    source: Source,
    share: Option<Share>,
    name: SockAddr,
    accepting: Accepting,
    watching: Watching,
}

impl Listener {
    /// Listens without a primary: in a process that is no worker, or in a worker that wants an exclusive socket.
    pub(crate) fn alone(address: Address, options: ListenOptions, worker: Option<Arc<Leaving>>) -> Result<Self> {
        let ListenOptions { backlog, flags, options, .. } = options;
        options::check_count(&options)?;
        let inherited = matches!(address, Address::Inherited(_));
        let bound = alone::open(address, &Shape { backlog, options }, flags)?;
        let name = bound.name;
        Ok(Self::new(Source::alone(bound, inherited, worker)?, None, name, flags))
    }

    pub(super) fn granted(
        grant: Grant,
        channel: &Arc<Channel>,
        (address, index): (&str, u32),
        flags: ListenFlags,
    ) -> Result<Self> {
        let Grant { listener, settable, name, .. } = grant;
        let share = Share { listener, channel: Arc::clone(channel), settable, address: address.to_owned(), index };
        let waits = !flags.contains(ListenFlags::NONBLOCK);
        Ok(Self::new(Source::granted(grant, address, waits)?, Some(share), name, flags))
    }

    /// A share that this process, a primary, holds for a worker (`Primary::relay`). Accepting from it does not wait.
    pub fn relaying(mailbox: OwnedFd, name: SockAddr) -> Self {
        let source = Source::Mailbox(Mailbox::relayed(mailbox), Socket::None);
        Self::new(source, None, name, ListenFlags::NONBLOCK)
    }

    fn new(source: Source, share: Option<Share>, name: SockAddr, flags: ListenFlags) -> Self {
        Self { source, share, name, accepting: Accepting::new(flags), watching: Watching::default() }
    }

    /// Counts what is taken from it on the worker's page of the scoreboard, if there is one.
    pub(super) fn counting_on(mut self, board: Option<&Arc<OwnBoard>>) -> Self {
        self.accepting.count_on(board);
        self
    }

    /// How many connections may wait in this worker's own socket, if it has one.
    pub fn backlog(&self) -> Option<u32> {
        socket::listening_room(self.source.own_socket()?).ok().flatten()
    }

    /// Hands out this worker's own socket, if it has one, for a program that accepts by itself. Only the mailbox is left here then.
    /// The program closes the socket when it closes the listener, and calls
    /// [`Worker::end_if_orphaned`](super::Worker::end_if_orphaned) when it ends: a copy stays here, to shut it down.
    pub fn take_socket(&mut self) -> Result<Option<OwnedFd>> {
        self.source.take_socket()
    }

    /// Closes this worker's own socket, if it has one that was not handed out.
    pub fn drop_socket(&mut self) -> Result<()> {
        self.source.drop_socket();
        Ok(())
    }

    pub(super) fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }

    /// The number by which the primary sets an option of it. `None`: it is no share. An error: the primary cannot set options later.
    pub(super) fn settable(&self) -> Option<Result<u32>> {
        let share = self.share()?;
        Some(match share.settable {
            true => Ok(share.listener),
            false => Err(Error::new(
                -libc::EOPNOTSUPP,
                "the primary is of an older version, which sets socket options at most when an address is opened; use the \
                 same libcluster in both, or set them on each connection",
            )),
        })
    }

    /// Sets an option of a socket that this process has opened itself.
    pub(crate) fn set_option_alone(&self, option: &SocketOption) -> Result<()> {
        options::check_value(option)?;
        self.check_not_closed()?;
        self.source.set_option(option)
    }

    /// The address it listens on.
    pub fn name(&self) -> SockAddr {
        self.name
    }

    /// Takes one connection. See `cl_accept4` for what the errors mean.
    pub fn accept(&self, flags: AcceptFlags) -> Result<(OwnedFd, SockAddr)> {
        let line = self.source.line();
        if let Some(line) = line.filter(|line| line.has_fallen()) {
            line.come_back();
            self.tell_place_unless_closed();
        }
        let outcome = loop {
            match self.source.accept(&self.accepting, flags) {
                Err(error) if error.is(libc::ERESTART) => self.tell_place_unless_closed(),
                outcome => break outcome,
            }
        };
        self.accepting.note(&outcome, self.share.is_some());
        if line.is_some_and(Line::has_fallen) {
            self.tell_place_unless_closed();
        }
        outcome
    }

    fn tell_place_unless_closed(&self) {
        if let Some(share) = &self.share {
            let _before_close = share.channel.hold_close();
            // Without a primary the next call says so.
            let _ = self.check_not_closed().and_then(|()| self.tell_place());
        }
    }

    /// Tells the primary whether this one accepts in rotation, if that is something new. The caller holds its close.
    pub(super) fn tell_place(&self) -> Result<()> {
        let (Some(share), Some(within)) = (&self.share, self.source.line().and_then(Line::take_news)) else {
            return Ok(());
        };
        let listener = share.listener;
        let frame = if within { FromWorker::Seat { listener } } else { FromWorker::Unseat { listener } };
        share.channel.tell(&frame.encode(), b"")
    }

    pub(super) fn check_not_closed(&self) -> Result<()> {
        self.accepting.check_not_closed()
    }

    /// For an event loop that keeps its place in the line by itself: the socket that all have, if this listener may accept in rotation.
    /// The loop watches it exclusively and apart from the listener, and says so with [`Worker::seat`](super::Worker::seat).
    pub fn socket_in_turn(&self) -> Option<BorrowedFd<'_>> {
        self.source.line().filter(|line| !line.waits_for_begin()).map(Line::socket)
    }

    /// This worker is to take another's place, and gets nothing from a socket that all have before `accept` has found that it has.
    pub fn waits_for_its_place(&self) -> bool {
        self.source.line().is_some_and(Line::waits_for_begin)
    }

    /// Takes one connection from that socket, without waiting. True: this worker has had its part by that, and belongs at the end of
    /// the line.
    pub fn accept_in_turn(&self, flags: AcceptFlags) -> Result<(OwnedFd, bool)> {
        self.check_not_closed()?;
        let line = self.source.line().ok_or_else(nothing_there)?;
        let outcome = accept_from(line.socket(), flags).and_then(|taken| taken.ok_or_else(nothing_there));
        self.accepting.note(&outcome, true);
        outcome.map(|(connection, _)| (connection, line.part().is_none_or(|part| part.took(1))))
    }

    /// How this worker stands among those who accept in rotation.
    pub fn standing(&self) -> Standing {
        let part = self.source.line().and_then(Line::part);
        part.map_or_else(Standing::default, |part| Standing { ahead: part.ahead(), taken: part.taken() })
    }

    /// How many of those who wait in the socket that all have are this worker's to take before it leaves. With the parts of the others
    /// these are all.
    pub fn last_part(&self) -> u32 {
        let Some(line) = self.source.line() else { return 0 };
        let room = socket::listening_room(line.socket()).ok().flatten().unwrap_or(ROOM_UNKNOWN);
        room.saturating_add(1).div_ceil(line.part().map_or(1, Part::parts))
    }

    pub(crate) fn watch(&self, epoll: BorrowedFd, data: u64) -> Result<()> {
        self.check_not_closed()?;
        self.watching.begin(&self.source, epoll, data)
    }

    /// False: it was not watched.
    pub(crate) fn unwatch(&self) -> bool {
        self.watching.end(&self.source)
    }

    /// Makes every accept on it fail.
    pub(crate) fn finish(&self) {
        self.accepting.close();
        self.watching.end(&self.source);
        self.source.finish();
    }
}

impl AsFd for Listener {
    /// Readable when `accept` has something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
