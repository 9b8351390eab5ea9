//! A worker's side: who it is, its channel, and the listeners it has a share of.

mod accepting;
mod ask;
mod beside;
mod identity;
mod join;
mod leaving;
mod listener;
mod mailbox;
mod messages;
mod own;
mod primary_gone;
mod source;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

pub use accepting::AcceptFlags;
use ask::Questions;
pub(crate) use identity::{channel_in_environment, stray_channel, taken, unjoined};
use join::{Joined, Lifeline};
pub use listener::{ListenOptions, Listener};
use messages::Channel;

use crate::address::Address;
use crate::bind::{ListenFlags, resolve};
use crate::error::{Context, Error, Result};
use crate::options::{self, SocketOption};
use crate::scoreboard::OwnBoard;
use crate::sys::poll::wait_readable;
use crate::sys::{descriptor, worker_signals};
use crate::wire::{self, FromWorker};

/// For how long a worker that ends waits to learn whether its primary is dead. The kernel closes what a dying process has open
/// before it says that it is dead.
const DEATH_IS_CERTAIN: Duration = Duration::from_millis(100);

/// This process as a worker of a cluster.
pub struct Worker {
    id: u32,
    slot: u32,
    /// What is said where the primary's version of the protocol is not ours.
    foreign: Option<Error>,
    channel: Channel,
    questions: Questions,
    lifeline: Lifeline,
    /// `None` where there is no memory for it, or the primary has none.
    board: Option<Arc<OwnBoard>>,
}

impl From<Joined> for Worker {
    fn from(joined: Joined) -> Self {
        let Joined { id, slot, foreign, channel, lifeline, board } = joined;
        Self { id, slot, foreign, channel, questions: Questions::default(), lifeline, board }
    }
}

impl Worker {
    /// Takes the hello out of a channel, waiting for it, and answers it. From then on this process leaves by itself when
    /// the primary dies.
    pub fn adopt(channel: OwnedFd) -> Result<Self> {
        wait_readable(&[channel.as_fd()], None).context("poll of the channel")?;
        Self::adopt_waiting(channel)?.ok_or_else(join::no_hello)
    }

    /// The same where the hello was seen. `None`: another process that has the channel too has taken it.
    pub(crate) fn adopt_waiting(channel: OwnedFd) -> Result<Option<Self>> {
        Self::joining(channel, |joined, primary| joined.watch(primary))
    }

    fn joining(channel: OwnedFd, then: impl FnOnce(&Joined, OwnedFd) -> Result<()>) -> Result<Option<Self>> {
        let Some((joined, primary)) = Joined::take(channel)? else { return Ok(None) };
        then(&joined, primary)?;
        Ok(Some(joined.into()))
    }

    /// Like `adopt`, for a channel that is known only by number. `None` when it is not that of this worker.
    pub fn adopt_named(channel: RawFd, id: u32, slot: u32) -> Result<Option<Self>> {
        match identity::primary_of(channel, id, slot) {
            Some(_) => Self::adopt_waiting(descriptor::adopt_number(channel)),
            None => Ok(None),
        }
    }

    /// Like `adopt_enrolled`, for a process that learns of its primary's death in a way of its own, but may be too busy to follow, or
    /// stopped: it is ended 0.7 s after its primary, unless it was told to [`outlive`](Self::outlive) it.
    pub fn adopt_following(channel: RawFd, id: u32, slot: u32) -> Result<Option<Self>> {
        match identity::primary_of(channel, id, slot) {
            Some(number) => {
                Self::joining(descriptor::adopt_number(channel), |joined, primary| joined.follow(primary, number))
            }
            None => Ok(None),
        }
    }

    /// Like `adopt_named`, for a process that learns of its primary's death in a way of its own, and whose program asks
    /// for what it listens on in a way of its own.
    pub fn adopt_enrolled(channel: RawFd, id: u32, slot: u32) -> Result<Option<Self>> {
        match identity::primary_of(channel, id, slot) {
            Some(_) => Self::joining(descriptor::adopt_number(channel), |_, _| Ok(())),
            None => Ok(None),
        }
    }

    /// This worker was asked to leave: it ends when it has finished, whatever becomes of the primary.
    pub fn outlive(&self) {
        primary_gone::outlive();
        self.lifeline.let_go();
    }

    /// This process is about to end by itself, and maybe because its primary is dead: if so, the sockets that it has of
    /// [`Listener::take_socket`] are shut down, since a child of its own could keep them open. Where the program has learned of the
    /// death in a way of its own it may take up to 0.1 s until that is certain.
    pub fn end_if_orphaned(&self) {
        primary_gone::end_if_orphaned(if primary_gone::follows() { DEATH_IS_CERTAIN } else { Duration::ZERO });
    }

    /// The process number of the primary that started a worker of this id and slot with this channel, if the descriptor
    /// proves it. Takes nothing: whoever adopts the channel later finds the same.
    pub fn primary_of(channel: RawFd, id: u32, slot: u32) -> Option<u32> {
        identity::primary_of(channel, id, slot)
    }

    /// For a program that reads its environment itself and has not become a worker: an error (-ENOTCONN) if the values of
    /// CL_WORKER_ID, CL_WORKER_SLOT and CL_CHANNEL_FD say that it was started as one. It may start no workers then. `usual`: what
    /// does this, and what to do, for the sentence.
    pub fn check_stray(id: Option<&str>, slot: Option<&str>, channel: Option<&str>, usual: &str) -> Result<()> {
        identity::stray_of([id, slot, channel], usual).map_or(Ok(()), Err)
    }

    /// The same for one whose environment says nothing: an error if some descriptor is the channel of a worker, which nobody has
    /// taken. Looks at every descriptor.
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
        self.id
    }

    /// Its slot: 0 .. n-1, reused by the worker that replaces it.
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// A descriptor that is readable when `receive` has something to say; for good once this worker was asked to leave.
    pub fn channel(&self) -> Result<BorrowedFd<'_>> {
        self.channel.sign()
    }

    /// An error where a primary cannot be asked.
    fn check_primary(&self) -> Result<()> {
        self.check_version()?;
        primary_gone::check()
    }

    fn check_version(&self) -> Result<()> {
        self.foreign.clone().map_or(Ok(()), Err)
    }

    fn tell(&self, frame: FromWorker) -> Result<()> {
        self.channel.tell(&frame.encode(), b"")
    }

    /// Listens on an address through the primary (or alone, if the flags say so).
    pub fn listen(&self, address: &str, options: ListenOptions) -> Result<Listener> {
        let address = Address::parse(address)?;
        let alone = ListenFlags::EXCLUSIVE.bits() | ListenFlags::REUSEPORT.bits();
        let listener = if options.flags.bits() & alone != 0 {
            Listener::alone(address, options, Some(Arc::clone(self.channel.leaving())))?
        } else {
            self.check_primary()?;
            self.questions.listen(&self.channel, &resolve(address)?, &options)?
        };
        Ok(listener.counting_on(self.board.as_ref()))
    }

    /// Takes the grant of a listener that the primary's program asked for in this worker's stead
    /// (`Primary::grant`). Accepting from it does not wait.
    pub fn take_grant(&self, listener: u32) -> Result<Listener> {
        Ok(self.questions.take_grant(&self.channel, listener)?.counting_on(self.board.as_ref()))
    }

    /// Sets a socket option of a listener's address; see [`Listener::set_option`].
    pub fn set_option(&self, listener: &Listener, option: &SocketOption) -> Result<()> {
        let Some(settable) = listener.settable() else { return listener.set_own_option(option) };
        options::check_value(option)?;
        self.check_primary()?;
        self.questions.set_option(&self.channel, (listener, settable?), option)
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
        self.channel.tell(&wire::MESSAGE_HEADER, data)
    }

    /// Tells the primary this worker's present load, in any unit. A primary that sleeps is not woken by it, and one that
    /// is gone not noticed. Without a system call and async-signal-safe, except in a worker that has no memory for its page
    /// of the scoreboard: it sends a frame.
    pub fn set_load(&self, load: u32) -> Result<()> {
        self.check_version()?;
        match &self.board {
            Some(board) => {
                board.tell_load(load);
                Ok(())
            }
            None => self.tell(FromWorker::Load(load)),
        }
    }

    /// Shows that this worker is alive while it accepts nothing: to be called in each turn of an event loop. Costs a store.
    pub fn beat(&self) {
        if let Some(board) = &self.board {
            board.beat();
        }
    }

    /// From here on SIGTERM, SIGINT and SIGHUP ask to leave where they have their default action; see `worker_signals`. Which
    /// these are: they have to be unblocked.
    pub(crate) fn hold_signals(&self) -> Result<Vec<i32>> {
        worker_signals::hold(self.channel.as_fd(), wire::SIGNALLED).context("sigaction")
    }

    /// Asks the primary to be disconnected. Async-signal-safe.
    pub fn disconnect(&self) -> Result<()> {
        self.channel.tell(&wire::DISCONNECT, b"")
    }

    /// The next message of the primary's, copied into `buffer`; its length. Waits up to `timeout`, `None` for as long
    /// as it takes. EMSGSIZE leaves a message that is longer than the buffer where it is.
    pub fn receive(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<usize> {
        self.channel.receive(buffer, timeout)
    }

    /// Says that nothing is taken from a listener for now, so that what waits for it goes to other workers at once; or
    /// that it is again.
    pub fn pause(&self, listener: &Listener, paused: bool) -> Result<()> {
        match listener.share().map(|share| share.listener) {
            None => Ok(()),
            Some(listener) if paused => self.tell(FromWorker::Pause { listener }),
            Some(listener) => self.tell(FromWorker::Resume { listener }),
        }
    }

    /// Says that connections are to come by the mailbox alone. What waits in the listening socket that was this worker's own
    /// goes to other workers; the program has closed it.
    pub fn unseat(&self, listener: &Listener) -> Result<()> {
        match listener.share().map(|share| share.listener) {
            None => Ok(()),
            Some(listener) => self.tell(FromWorker::Unseat { listener }),
        }
    }

    /// Gives a listener's share back; what waits for it goes to other workers.
    pub fn close(&self, listener: &Listener) {
        self.questions.close(&self.channel, listener);
    }
}
