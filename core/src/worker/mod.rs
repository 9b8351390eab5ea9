//! A worker's side: who it is, its channel, and the listeners it has a share of.

mod accepting;
mod alone;
mod ask;
mod beside;
mod identity;
mod join;
mod leaving;
mod line;
mod listener;
mod mailbox;
mod messages;
mod primary_gone;
mod returning;
mod source;
mod watching;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

pub use accepting::AcceptFlags;
use ask::Questions;
pub(crate) use identity::{channel_in_environment, stray_channel, taken, unjoined};
use join::Joined;
pub use listener::{ListenOptions, Listener, Standing};

use crate::address::Address;
use crate::bind::{ListenFlags, resolve};
use crate::error::{Context, Error, Result};
use crate::options::{self, SocketOption};
use crate::scoreboard::Counter;
use crate::sys::poll::wait_readable;
use crate::sys::{descriptor, worker_signals};
use crate::wire::{self, FromWorker};

/// This process as a worker of a cluster.
pub struct Worker {
    joined: Joined,
    questions: Questions,
}

impl Worker {
    /// Takes the hello out of a channel, waiting for it, and answers it. From then on this process leaves by itself when
    /// the primary dies.
    pub fn adopt(channel: OwnedFd) -> Result<Self> {
        wait_readable(&[channel.as_fd()], None).context("poll of the channel")?;
        Self::adopt_waiting(channel)?.ok_or_else(join::no_hello)
    }

    /// The same where the hello was seen. `None`: another process that has the channel, too, took it.
    pub(crate) fn adopt_waiting(channel: OwnedFd) -> Result<Option<Self>> {
        Self::join(channel, |joined, primary| joined.watch(primary))
    }

    /// `then`: how it learns of the death of the primary, whose pidfd is given.
    fn join(channel: OwnedFd, then: impl FnOnce(&Joined, OwnedFd) -> Result<()>) -> Result<Option<Self>> {
        let Some((joined, primary)) = Joined::take(channel)? else { return Ok(None) };
        then(&joined, primary)?;
        Ok(Some(Self { joined, questions: Questions::default() }))
    }

    /// The same for a channel that is known only by number. `None` when it is not that of this worker.
    fn join_named(
        (channel, id, slot): (RawFd, u32, u32),
        then: impl FnOnce(&Joined, OwnedFd, u32) -> Result<()>,
    ) -> Result<Option<Self>> {
        let Some(number) = identity::primary_of(channel, id, slot) else { return Ok(None) };
        Self::join(descriptor::adopt_number(channel), |joined, primary| then(joined, primary, number))
    }

    /// Like `adopt`, for a channel that is known only by number. `None` when it is not that of this worker.
    pub fn adopt_named(channel: RawFd, id: u32, slot: u32) -> Result<Option<Self>> {
        Self::join_named((channel, id, slot), |joined, primary, _| joined.watch(primary))
    }

    /// Like `adopt_enrolled`, for a process that learns of its primary's death by itself, but may be too busy to act, or stopped: it is
    /// ended 0.7 s after its primary, unless it was told to [`outlive`](Self::outlive) it.
    pub fn adopt_following(channel: RawFd, id: u32, slot: u32) -> Result<Option<Self>> {
        Self::join_named((channel, id, slot), |joined, primary, number| joined.follow(primary, number))
    }

    /// Like `adopt_named`, for a process that learns of its primary's death by itself, and whose program asks by itself for what it
    /// listens on.
    pub fn adopt_enrolled(channel: RawFd, id: u32, slot: u32) -> Result<Option<Self>> {
        Self::join_named((channel, id, slot), |_, _, _| Ok(()))
    }

    /// This worker was asked to leave: it ends when it has finished, whatever becomes of the primary.
    pub fn outlive(&self) {
        self.joined.outlive();
    }

    /// For a process that is about to end. If its primary is dead, this shuts down the sockets that it has of
    /// [`Listener::take_socket`], because a child could keep them open. Where the program learns of the death by itself it may take
    /// up to 0.1 s until the death is certain.
    pub fn end_if_orphaned(&self) {
        primary_gone::end_if_orphaned();
    }

    /// The process number of the primary that started a worker of this id and slot with this channel, if the descriptor
    /// proves it. Takes nothing: whoever adopts the channel later finds the same.
    pub fn primary_of(channel: RawFd, id: u32, slot: u32) -> Option<u32> {
        identity::primary_of(channel, id, slot)
    }

    /// For a program that reads its environment itself and has not become a worker: an error (-ENOTCONN) if the values of
    /// CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD say that it was started as one. It may start no workers then. `usual`: what
    /// usually causes this and what to do about it, for the sentence.
    pub fn check_stray(id: Option<&str>, slot: Option<&str>, channel: Option<&str>, usual: &str) -> Result<()> {
        identity::stray_of([id, slot, channel], usual).map_or(Ok(()), Err)
    }

    /// The same for a process whose environment says nothing: an error if some descriptor is the channel of a worker that nobody has
    /// joined. Looks at every descriptor.
    pub fn check_stray_channel(usual: &str) -> Result<()> {
        identity::stray_channel_by(usual).map_or(Ok(()), Err)
    }

    /// Lets the programs that this process starts inherit a channel that it does not adopt.
    pub fn pass_on(channel: RawFd) -> Result<()> {
        match descriptor::with_number(channel, descriptor::clear_close_on_exec) {
            Some(outcome) => outcome.context("fcntl of the channel"),
            None => Err(Error::os("the channel", Errno::EBADF)),
        }
    }

    /// Its id: 1, 2, ...
    pub fn id(&self) -> u32 {
        self.joined.id
    }

    /// Its slot: 0 .. n-1, reused by the worker that replaces it.
    pub fn slot(&self) -> u32 {
        self.joined.slot
    }

    /// A descriptor that is readable when `receive` has something to say, and for good once this worker was asked to leave.
    pub fn channel(&self) -> Result<BorrowedFd<'_>> {
        self.joined.channel.sign()
    }

    /// An error if the primary cannot be asked.
    fn check_primary(&self) -> Result<()> {
        self.check_version()?;
        primary_gone::check()
    }

    fn check_version(&self) -> Result<()> {
        self.joined.foreign.clone().map_or(Ok(()), Err)
    }

    fn tell(&self, frame: FromWorker) -> Result<()> {
        self.joined.channel.tell(&frame.encode(), b"")
    }

    /// Listens on an address through the primary (or alone, if the flags say so).
    pub fn listen(&self, address: &str, options: ListenOptions) -> Result<Listener> {
        let address = Address::parse(address)?;
        let alone = ListenFlags::EXCLUSIVE.bits() | ListenFlags::REUSEPORT.bits();
        let listener = if options.flags.bits() & alone != 0 {
            Listener::alone(address, options, Some(Arc::clone(self.joined.channel.leaving())))?
        } else {
            self.check_primary()?;
            self.questions.listen(&self.joined.channel, &resolve(address)?, &options)?
        };
        Ok(listener.counting_on(self.joined.board.as_ref()))
    }

    /// Takes the grant of a listener that the primary's program asked for on this worker's behalf (`Primary::grant`). Accepting from
    /// it does not wait.
    pub fn take_grant(&self, listener: u32) -> Result<Listener> {
        Ok(self.questions.take_grant(&self.joined.channel, listener)?.counting_on(self.joined.board.as_ref()))
    }

    /// Sets a socket option of a listener's address; see [`Listener::set_option`].
    pub fn set_option(&self, listener: &Listener, option: &SocketOption) -> Result<()> {
        let Some(settable) = listener.settable() else { return listener.set_option_alone(option) };
        options::check_value(option)?;
        self.check_primary()?;
        self.questions.set_option(&self.joined.channel, (listener, settable?), option)
    }

    /// Sends the primary a message, waiting for room.
    pub fn send(&self, data: &[u8]) -> Result<()> {
        if data.len() > wire::MESSAGE_MAX {
            return Err(Error::new(
                -libc::EMSGSIZE,
                format!("the message has {} bytes; at most {} fit", data.len(), wire::MESSAGE_MAX),
            ));
        }
        self.check_version()?;
        self.joined.channel.tell(&wire::MESSAGE_HEADER, data)
    }

    /// Tells the primary this worker's present load, in any unit. It neither wakes a primary that sleeps nor notices one that is gone.
    /// Async-signal-safe and without a system call, unless this worker had no memory for its page of the scoreboard: then it sends a
    /// frame.
    pub fn set_load(&self, load: u32) -> Result<()> {
        self.check_version()?;
        match &self.joined.board {
            Some(board) => {
                board.tell_load(load);
                Ok(())
            }
            None => self.tell(FromWorker::Load(load)),
        }
    }

    /// Says that this worker may take another's place, where the primary waits for that. Without effect elsewhere. ENOMEM: it has no
    /// page of the scoreboard, by which it would say so. Async-signal-safe.
    pub fn ready(&self) -> Result<()> {
        self.check_version()?;
        let board = self.joined.board.as_ref().ok_or_else(|| {
            Error::new(
                -libc::ENOMEM,
                "there was no memory for this worker's page of the scoreboard, by which it says so",
            )
        })?;
        board.tell_ready();
        // A frame that every primary knows: one that sleeps looks at the page then.
        self.tell(FromWorker::Load(board.own_load()))
    }

    /// Counts so many more, or fewer, on this worker's page. Async-signal-safe and without a system call.
    pub fn count(&self, counter: Counter, by: i64) {
        if let Some(board) = &self.joined.board {
            board.count(counter, by);
        }
    }

    /// Counts one more request, which took so many microseconds. Async-signal-safe and without a system call.
    pub fn took(&self, microseconds: u32) {
        if let Some(board) = &self.joined.board {
            board.answered(microseconds);
        }
    }

    /// Shows that this worker is alive while it accepts nothing. Call it in each turn of an event loop; it costs a store.
    pub fn beat(&self) {
        if let Some(board) = &self.joined.board {
            board.beat();
        }
    }

    /// Makes SIGTERM, SIGINT and SIGHUP ask to leave where they have their default action; see `worker_signals`. Returns which they
    /// are. The caller has to unblock them.
    pub(crate) fn hold_signals(&self) -> Result<Vec<i32>> {
        worker_signals::hold(self.joined.channel.as_fd(), wire::SIGNALLED).context("sigaction")
    }

    /// Asks the primary to be disconnected. Async-signal-safe.
    pub fn disconnect(&self) -> Result<()> {
        self.joined.channel.tell(&wire::DISCONNECT, b"")
    }

    /// The next message of the primary's, copied into `buffer`; its length. Waits up to `timeout`, `None` for as long
    /// as it takes. EMSGSIZE leaves a message that is longer than the buffer where it is.
    pub fn receive(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<usize> {
        self.joined.channel.receive(buffer, timeout)
    }

    /// Says that this worker takes nothing from a listener for now, so that what waits goes to other workers at once, or that it takes
    /// again.
    pub fn pause(&self, listener: &Listener, paused: bool) -> Result<()> {
        let say = |listener| if paused { FromWorker::Pause { listener } } else { FromWorker::Resume { listener } };
        self.tell_of(listener, say)
    }

    /// Says that the program has closed this worker's own socket. What waits in it goes to other workers, and connections come by the
    /// mailbox alone.
    pub fn unseat(&self, listener: &Listener) -> Result<()> {
        self.tell_of(listener, |listener| FromWorker::Unseat { listener })
    }

    /// Says that the program accepts in rotation, from [`Listener::socket_in_turn`]. `unseat` takes it back.
    pub fn seat(&self, listener: &Listener) -> Result<()> {
        self.tell_of(listener, |listener| FromWorker::Seat { listener })
    }

    /// Has an epoll of the program's tell `data` whenever accept has something to say, also where that takes turns with other workers.
    /// Not to be nested in another epoll.
    pub fn watch(&self, listener: &Listener, epoll: BorrowedFd, data: u64) -> Result<()> {
        let _before_close = self.joined.channel.hold_close();
        let watched = listener.watch(epoll, data);
        // Also where that failed it may stand elsewhere than before.
        let told = listener.tell_place();
        watched?;
        told.inspect_err(|_| _ = listener.unwatch())
    }

    /// It does not any more. False: it did not.
    pub fn unwatch(&self, listener: &Listener) -> Result<bool> {
        let _before_close = self.joined.channel.hold_close();
        let was_watched = listener.unwatch();
        listener.tell_place()?;
        Ok(was_watched)
    }

    /// Hands a connection back that was accepted from this listener and is idle: another worker of the address gets it, unread, as a new
    /// one. Only after this worker was asked to leave, and while others serve the address. The caller takes it out of every epoll first,
    /// and then only closes it, without shutdown(2).
    ///
    /// EAGAIN: no other worker has room, so keep it and try again; EOPNOTSUPP: nobody takes any, or not from this listener; ENOTSOCK, EBADF,
    /// EINVAL: it is no connection of the listener's address; EPIPE: the primary is gone.
    pub fn hand_back(&self, listener: &Listener, connection: BorrowedFd) -> Result<()> {
        listener.hand_back_by(self.joined.channel.leaving(), connection)
    }

    /// The same of a connection that is known by its number.
    pub fn hand_back_number(&self, listener: &Listener, connection: RawFd) -> Result<()> {
        let none = || Error::new(-libc::EBADF, format!("{connection} is no descriptor"));
        descriptor::with_number(connection, |connection| self.hand_back(listener, connection)).ok_or_else(none)?
    }

    /// Whether connections may be handed back now.
    pub fn may_hand_back(&self) -> bool {
        self.joined.channel.leaving().takes_returns()
    }

    fn tell_of(&self, listener: &Listener, say: impl FnOnce(u32) -> FromWorker<'static>) -> Result<()> {
        listener.share().map_or(Ok(()), |share| self.tell(say(share.listener)))
    }

    /// Gives a listener's share back; what waits for it goes to other workers.
    pub fn close(&self, listener: &Listener) {
        self.questions.close(&self.joined.channel, listener);
    }
}
