//! A worker's side: who it is, its channel, and the listeners it has a share of.

mod identity;
mod leaving;
mod listener;
mod own;
mod primary_gone;
mod set_option;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

pub(crate) use identity::{Found, adopt_from_environment, stray_channel, unjoined};
use leaving::Leaving;
pub use listener::{AcceptFlags, Listener};
pub(crate) use own::listen_alone;

use crate::address::{ADDRESS_MAX, Address};
use crate::bind::{ListenFlags, resolve};
use crate::error::{Context, EVERSION, Error, Result};
use crate::options::{self, SocketOption};
use crate::scoreboard::OwnBoard;
use crate::sys::poll::{Interest, Poll, Waited, wait_readable, wait_writable};
use crate::sys::{
    Sys, cmsg, descriptor, is_short_of_memory, lifeline, panics, patiently, pause_after, pid, watch_thread,
    worker_signals,
};
use crate::wire::{self, Answer, FromPrimary, FromWorker};

/// How long a worker that does not notice its primary's death lives on. With the time the kernel needs for both, it is
/// gone within a second.
const ORPHAN_GRACE_MS: i32 = 700;

/// For how long a worker that ends waits to learn whether its primary is dead. The kernel closes what a dying process has open
/// before it says that it is dead.
const DEATH_IS_CERTAIN: Duration = Duration::from_millis(100);
/// Said without memory, as a signal handler may be told it.
const NO_CHANNEL: &str = "the channel to the primary cannot be used; was its descriptor closed in this process, by closefrom(3) or a \
                          close(2) too many?";

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
    /// listen decides; the primary judges them (docs/socket-options.md). On a socket of this process's own the kernel's word is
    /// the only one.
    pub options: Vec<SocketOption>,
}

/// This process as a worker of a cluster.
pub struct Worker {
    id: u32,
    slot: u32,
    /// What is said where the primary's version of the protocol is not ours.
    foreign: Option<Error>,
    channel: OwnedFd,
    /// The channel and the sign to leave, polled through one descriptor; made when somebody asks for it.
    both: OnceLock<Poll>,
    /// The last question's number; held from a question to its answer, so that answers find their askers.
    listens: Mutex<u32>,
    /// Held while something is said of a listener that must not come behind its close.
    closing: Mutex<()>,
    lifeline: OwnedFd,
    leaving: Arc<Leaving>,
    /// `None` where there is no memory for it, or the primary has none.
    board: Option<Arc<OwnBoard>>,
    incoming: Mutex<Vec<u8>>,
    /// The indexes in use of each address.
    open: Mutex<BTreeMap<String, BTreeSet<u32>>>,
}

/// A poisoned lock only means that another thread panicked; what the lock guards is valid at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    panics::point();
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// Takes the hello out of a channel, waiting for it, and answers it. From then on this process leaves by itself when
    /// the primary dies.
    pub fn adopt(channel: OwnedFd) -> Result<Self> {
        wait_readable(&[channel.as_fd()], None).context("poll of the channel")?;
        Self::adopt_waiting(channel)?
            .ok_or_else(|| Error::new(-libc::EPROTO, "the channel does not begin with a hello"))
    }

    /// The same where the hello was seen. `None`: another process that has the channel too has taken it.
    pub(crate) fn adopt_waiting(channel: OwnedFd) -> Result<Option<Self>> {
        let Some((worker, primary)) = Self::take_hello(channel)? else { return Ok(None) };
        worker.watch_primary(primary)?;
        Ok(Some(worker))
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
        let Some(pid) = identity::primary_of(channel, id, slot) else { return Ok(None) };
        let Some((worker, primary)) = Self::take_hello(descriptor::adopt_number(channel))? else { return Ok(None) };
        if primary_gone::follow(pid) {
            let watched = watch_thread::start(primary, primary_gone::note_death, primary_gone::end, ORPHAN_GRACE_MS);
            if watched.inspect_err(|_| primary_gone::unfollow()).is_err() {
                worker.leave_it_to_the_lifeline()?;
                return Ok(Some(worker));
            }
        }
        // It only wakes one that is stopped when the primary dies. Where it cannot be softened it would kill, and stays nobody's.
        let reader = worker.lifeline.as_fd();
        let _ = lifeline::set_signal(reader, libc::SIGCONT).and_then(|()| lifeline::set_owner(reader, pid::own_pid()));
        Ok(Some(worker))
    }

    /// This worker was asked to leave: it ends when it has finished, whatever becomes of the primary.
    pub fn outlive(&self) {
        primary_gone::outlive();
        // Nothing is to be woken any more. That it could not be told is no reason to stay.
        let _ = lifeline::set_owner(self.lifeline.as_fd(), 0);
    }

    /// This process is about to end by itself, and maybe because its primary is dead: if so, the sockets that it has of
    /// [`Listener::take_socket`] are shut down, since a child of its own could keep them open. Where the program has learned of the
    /// death in a way of its own it may take up to 0.1 s until that is certain.
    pub fn end_if_orphaned(&self) {
        primary_gone::end_if_orphaned(if primary_gone::follows() { DEATH_IS_CERTAIN } else { Duration::ZERO });
    }

    /// Like `adopt_named`, for a process that learns of its primary's death in a way of its own, and whose program asks
    /// for what it listens on in a way of its own.
    pub fn adopt_enrolled(channel: RawFd, id: u32, slot: u32) -> Result<Option<Self>> {
        match identity::primary_of(channel, id, slot) {
            Some(_) => Ok(Self::take_hello(descriptor::adopt_number(channel))?.map(|(worker, _)| worker)),
            None => Ok(None),
        }
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

    /// The worker, and the primary's pidfd. `None`: somebody else has taken the hello.
    fn take_hello(channel: OwnedFd) -> Result<Option<(Self, OwnedFd)>> {
        let mut buffer = [0; 256];
        let mut take = || patiently(|| cmsg::receive(channel.as_fd(), &mut buffer, 4, libc::MSG_CMSG_CLOEXEC));
        // Asked twice before it is believed that nothing is there, as in `identity`.
        let mut received = match take().or_else(|errno| if errno == Errno::EAGAIN { take() } else { Err(errno) }) {
            Err(Errno::EAGAIN) => return Ok(None),
            outcome => outcome.context("receiving the hello")?,
        };
        let hello = match FromPrimary::decode(&buffer[..received.length]) {
            Ok(FromPrimary::Hello(hello)) => hello,
            _ => {
                return Err(Error::new(-libc::EPROTO, "the channel does not begin with a hello"));
            }
        };
        let fds = (received.take_fd(0), received.take_fd(1), received.take_fd(2));
        let (Some(grants), Some(lifeline), Some(primary)) = fds else {
            return Err(Error::new(
                -libc::EMFILE,
                "the hello came without its descriptors; the process has too many open",
            ));
        };
        descriptor::set_close_on_exec(channel.as_fd()).context("fcntl of the channel")?;
        let same_version = hello.version == wire::VERSION;
        let board = received.take_fd(3).filter(|_| same_version).and_then(|file| OwnBoard::new(file.as_fd()).ok());
        let worker = Self {
            id: hello.worker_id,
            slot: hello.slot,
            foreign: (!same_version).then(|| foreign(hello.version)),
            channel,
            both: OnceLock::new(),
            listens: Mutex::new(0),
            closing: Mutex::new(()),
            lifeline,
            leaving: Arc::new(Leaving::new(grants)),
            board: board.map(Arc::new),
            incoming: Mutex::new(Vec::new()),
            open: Mutex::new(BTreeMap::new()),
        };
        let online = FromWorker::Online {
            offers: wire::OFFERS_OPTIONS,
            version: wire::VERSION,
            nonce: hello.nonce,
            pid: pid::own_pid() as u32,
        };
        // A primary that died meanwhile is noticed at the next call. One that lives believes nothing before this.
        let _ = worker.tell(&online.encode());
        Ok(Some((worker, primary)))
    }

    /// From here on this process leaves by itself when the primary dies.
    fn watch_primary(&self, primary: OwnedFd) -> Result<()> {
        primary_gone::wake_at_death(self.channel.as_fd());
        primary_gone::wake_at_death(self.leaving.grants());
        if watch_thread::start(primary, primary_gone::on_death, primary_gone::end, ORPHAN_GRACE_MS).is_err() {
            return self.leave_it_to_the_lifeline();
        }
        // Where that fails the kernel ends this process at once, as if there were no thread.
        let _ = lifeline::set_signal(self.lifeline.as_fd(), libc::SIGCONT);
        Ok(())
    }

    /// There is no thread to watch for the primary's death (too many, too little memory, a filter that refuses clone3(2)): the
    /// kernel ends this process with its primary, without a moment to finish.
    fn leave_it_to_the_lifeline(&self) -> Result<()> {
        let reader = self.lifeline.as_fd();
        lifeline::set_owner(reader, pid::own_pid())
            .and_then(|()| lifeline::kills(reader))
            .context("starting a thread to watch for the primary's death, and arming the lifeline in its stead")
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
        if let Some(both) = self.both.get() {
            return Ok(both.as_fd());
        }
        let both = Poll::new().context("epoll_create1")?;
        both.add(&self.channel, 0, Interest::Readable).context("epoll_ctl")?;
        both.add(self.leaving.sign(), 1, Interest::Readable).context("epoll_ctl")?;
        Ok(self.both.get_or_init(|| both).as_fd())
    }

    fn check_version(&self) -> Result<()> {
        self.foreign.clone().map_or(Ok(()), Err)
    }

    /// Listens on an address through the primary (or alone, if the flags say so).
    pub fn listen(&self, address: &str, options: ListenOptions) -> Result<Listener> {
        let address = Address::parse(address)?;
        let alone = ListenFlags::EXCLUSIVE.bits() | ListenFlags::REUSEPORT.bits();
        if options.flags.bits() & alone != 0 {
            let own = own::listen(address, options, Some(Arc::clone(&self.leaving)))?;
            return Ok(own.counting_on(self.board.as_ref()));
        }
        self.check_version()?;
        check_primary()?;
        let address = resolve(address)?;
        let text = address.to_string();
        options::check_count(&options.options)?;
        let whole = options::before(&text, &options.options);
        if whole.len() > ADDRESS_MAX {
            return Err(Error::invalid(format!(
                "the address and its options have {} bytes; at most {ADDRESS_MAX} are possible",
                whole.len()
            )));
        }
        let index = self.claim_index(&text, address.is_port_zero(), options.index)?;
        let listened = self.ask(&text, &whole, index, &options);
        if listened.is_err() {
            self.release_index(&text, index);
        }
        listened
    }

    fn claim_index(&self, text: &str, port_zero: bool, wanted: u32) -> Result<u32> {
        let mut open = lock(&self.open);
        let used = open.entry(text.to_owned()).or_default();
        let index = match (port_zero, wanted) {
            (false, _) => 0,
            (true, 0) => (1..).find(|index| !used.contains(index)).unwrap_or(u32::MAX),
            (true, wanted) => wanted,
        };
        if used.insert(index) {
            Ok(index)
        } else {
            Err(Error::new(-libc::EADDRINUSE, format!("this worker listens on {text} already")))
        }
    }

    fn release_index(&self, text: &str, index: u32) {
        let mut open = lock(&self.open);
        if let Some(used) = open.get_mut(text) {
            used.remove(&index);
            if used.is_empty() {
                open.remove(text);
            }
        }
    }

    /// Sends a listen and waits for its answer.
    fn ask(&self, text: &str, whole: &str, index: u32, options: &ListenOptions) -> Result<Listener> {
        let mut last = lock(&self.listens);
        *last = last.wrapping_add(1);
        let asked = *last;
        let (flags, backlog) = (options.flags.bits(), options.backlog);
        self.tell(&FromWorker::Listen { number: asked, flags, backlog, index, address: whole }.encode())?;
        self.await_grant(asked, text, index, options.flags)
    }

    /// Takes the grant of a listener that the primary's program asked for in this worker's stead
    /// (`Primary::grant`). Accepting from it does not wait.
    pub fn take_grant(&self, listener: u32) -> Result<Listener> {
        let _held = lock(&self.listens);
        self.await_grant(listener, "", 0, ListenFlags::NONBLOCK)
    }

    /// Waits for the grant with a number. The caller holds `listens`.
    fn await_grant(&self, asked: u32, text: &str, index: u32, flags: ListenFlags) -> Result<Listener> {
        self.await_answer(asked, |answer, received| {
            let Answer::Grant { listener, mechanism, datagram, settable, name, .. } = answer else {
                return Err(Error::new(-libc::EPROTO, "the primary's answer to a listen is none"));
            };
            let fds = (received.take_fd(0), received.take_fd(1));
            let granted = listener::Granted { listener, mechanism, datagram, settable, name, fds };
            let made = match received.fds_lost {
                true => Err(Error::os("receiving the descriptors of a listener", Errno::EMFILE)),
                false => Listener::granted(granted, text, index, flags)
                    .map(|listener| listener.counting_on(self.board.as_ref())),
            };
            // A share that could not be used is given back.
            made.inspect_err(|_| drop(self.tell(&FromWorker::Close { listener }.encode())))
        })
    }

    /// Waits for the answer with a number, and has it looked at unless it is a refusal. The caller holds `listens`.
    fn await_answer<T>(&self, asked: u32, look: impl FnOnce(Answer, &mut cmsg::Received) -> Result<T>) -> Result<T> {
        let grants = self.leaving.grants();
        loop {
            // Looked at before it is received, which only this thread does: the request to leave stays where it is, and no
            // answer that comes behind it is a grant.
            wait_readable(&[grants], None).context("poll of the grants socket")?;
            if self.leaving.is_asked() {
                return Err(Error::shutdown());
            }
            let mut buffer = [0; 1024];
            // An answer that is left there would be taken for one that nobody waits for.
            let mut received = match patiently(|| cmsg::receive(grants, &mut buffer, 2, libc::MSG_CMSG_CLOEXEC)) {
                Err(Errno::EAGAIN) => continue,
                outcome => outcome.context("receiving a grant")?,
            };
            if received.length == 0 {
                return Err(primary_gone::seen());
            }
            let answer = Answer::decode(&buffer[..received.length])
                .map_err(|malformed| Error::new(-libc::EPROTO, format!("the primary sent {}", malformed.0)))?;
            match answer {
                Answer::Refusal { number, code, sentence } if number == asked => {
                    return Err(match sentence {
                        "" => Error::new(code, "the primary refused it and did not say why"),
                        sentence => Error::new(code, sentence.to_owned()),
                    });
                }
                answer if answer.number() == asked => return look(answer, &mut received),
                // A share that nobody waits for any more.
                Answer::Grant { listener, .. } => drop(self.tell(&FromWorker::Close { listener }.encode())),
                Answer::Done { .. } | Answer::Refusal { .. } => {}
            }
        }
    }

    /// Sends a frame, waiting for room. Async-signal-safe.
    fn tell(&self, frame: &[u8]) -> Result<()> {
        self.tell_parts(frame, b"")
    }

    fn tell_parts(&self, header: &[u8], body: &[u8]) -> Result<()> {
        for failures in 0.. {
            check_primary()?;
            match cmsg::send(self.channel.as_fd(), [header, body], &[]) {
                Ok(()) => break,
                Err(Errno::EAGAIN) => {
                    wait_writable(self.channel.as_fd()).map_err(|errno| Error::bare(errno, NO_CHANNEL))?;
                }
                // No readiness tells of the end of that.
                Err(errno) if is_short_of_memory(errno) => pause_after(failures),
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => {
                    return Err(primary_gone::seen());
                }
                Err(errno) => return Err(Error::bare(errno, NO_CHANNEL)),
            }
        }
        Ok(())
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
        self.tell_parts(&wire::MESSAGE_HEADER, data)
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
            None => self.tell(&FromWorker::Load(load).encode()),
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
        self.tell(&wire::DISCONNECT)
    }

    /// The next message of the primary's, copied into `buffer`; its length. Waits up to `timeout`, `None` for as long
    /// as it takes. EMSGSIZE leaves a message that is longer than the buffer where it is.
    pub fn receive(&self, buffer: &mut [u8], timeout: Option<Duration>) -> Result<usize> {
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
            let fds = [self.channel.as_fd(), self.leaving.sign()];
            if wait_readable(&fds, left).context("poll of the channel")? == Waited::TimedOut {
                return Err(Error::new(-libc::ETIMEDOUT, "no message came in time"));
            }
        }
    }

    /// A message that is there already. Takes note of a request to leave on the way.
    fn try_receive(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        // Two receives make one message, so only one thread at a time.
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
                // A later version may say more; what we do not know is not for us.
                Ok(FromPrimary::Hello(_)) | Err(_) => {}
            }
        }
    }

    fn receive_frame(&self, buffer: &mut [u8], flags: i32) -> Result<Option<usize>> {
        let received: Sys<_> = patiently(|| cmsg::receive(self.channel.as_fd(), buffer, 0, flags));
        match received {
            Err(Errno::EAGAIN) => Ok(None),
            Ok(received) if received.length == 0 => Err(primary_gone::seen()),
            Ok(received) => Ok(Some(received.length)),
            Err(errno) => Err(Error::os("receiving from the primary", errno)),
        }
    }

    /// Says that nothing is taken from a listener for now, so that what waits for it goes to other workers at once; or
    /// that it is again.
    pub fn pause(&self, listener: &Listener, paused: bool) -> Result<()> {
        match listener.id() {
            None => Ok(()),
            Some(listener) if paused => self.tell(&FromWorker::Pause { listener }.encode()),
            Some(listener) => self.tell(&FromWorker::Resume { listener }.encode()),
        }
    }

    /// Says that connections are to come by the mailbox alone. What waits in the listening socket that was this worker's own
    /// goes to other workers; the program has closed it.
    pub fn unseat(&self, listener: &Listener) -> Result<()> {
        match listener.id() {
            None => Ok(()),
            Some(listener) => self.tell(&FromWorker::Unseat { listener }.encode()),
        }
    }

    /// Gives a listener's share back; what waits for it goes to other workers.
    pub fn close(&self, listener: &Listener) {
        let _last_word = lock(&self.closing);
        if let Some((id, text, index)) = listener.finish() {
            // Without a primary there is nobody to tell.
            let _ = self.tell(&FromWorker::Close { listener: id }.encode());
            self.release_index(text, index);
        }
    }
}

fn foreign(version: u32) -> Error {
    let text = format!(
        "the primary speaks version {version} of the protocol and this worker version {}; use the same libcluster in both",
        wire::VERSION
    );
    Error::new(EVERSION, text).lasting()
}

fn check_primary() -> Result<()> {
    if primary_gone::is_known() { Err(primary_gone::seen()) } else { Ok(()) }
}

impl Drop for Worker {
    fn drop(&mut self) {
        primary_gone::forget(self.channel.as_raw_fd());
        primary_gone::forget(self.leaving.grants().as_raw_fd());
    }
}
