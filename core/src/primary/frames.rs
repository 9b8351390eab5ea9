//! What workers say, and what is said to them. Nothing here waits for a worker or believes one (rule R5).

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::clock::Timer;
use super::handles::key;
use super::postponed::Asked;
use super::registry::{Entry, WorkerState};
use super::units::{UNITS_OF_A_CHOICE, UNITS_PER_TURN};
use super::{Event, FLUSH_AGAIN, Primary};
use crate::address::Address;
use crate::bind::{ListenFlags, Shape};
use crate::channel::Pending;
use crate::error::{Context, Error, Result};
use crate::handle::{MechanismKind, Member};
use crate::mailbox::Mailbox;
use crate::options::{self, SocketOption};
use crate::settings::Settings;
use crate::sys::poll::Interest;
use crate::sys::{Sys, is_short_of_memory, socket};
use crate::token::Token;
use crate::wire::{Answer, FRAME_MAX, FromWorker, Malformed, OFFERS_OPTIONS, VERSION};

/// What is read of a worker that has ended is more than a channel holds (its buffer of 208 KiB counts 768 bytes for the smallest
/// frame), and no more: a child of it may go on to write.
const FRAMES_TO_HEAR_OUT: usize = 512;
const BYTES_TO_HEAR_OUT: usize = 256 << 10;
/// Answers to a worker's listens that are kept for it when its grants socket is full; the protocol lets it ask so often without
/// reading the answers.
const ANSWERS_KEPT: usize = 64;
/// Open listeners of one worker.
const LISTENERS_MAX: usize = 256;
/// Descriptors that stay free whatever workers ask for, and which part of all at most, in eighths: for clients, and for workers to be
/// started. An address is opened only where some more are left, by which others may join it.
const DESCRIPTORS_KEPT: (u64, u64) = (64, 2);
const KEPT_BY_THE_FIRST: (u64, u64) = (128, 3);
/// The same where a program asks in a worker's stead, which may have its own ideas of how many.
const LISTENERS_OF_A_PROGRAM: usize = 4096;
/// It asks and asks and does not read: more than what we keep for it.
const UNREAD_ANSWERS: Malformed = Malformed("more questions than it reads answers");
/// The greatest index of a port 0.
const INDEX_MAX: u32 = 65536;

/// What a frame took: units of its worker's allowance, and bytes.
struct Read {
    units: usize,
    bytes: usize,
}

impl Primary {
    /// Reads what a worker has sent, but not more than is its due in a turn, and in the long run.
    pub(super) fn channel_ready(&mut self, worker: u32) {
        self.flush(worker);
        if self.registry.get(worker).is_none_or(|entry| entry.resting) {
            // There was room for what is kept for it, or it has ended.
            return;
        }
        let mut units = 0;
        while units < UNITS_PER_TURN
            && let Some(read) = self.read_frame(worker)
        {
            units += read.units;
        }
        let now = Instant::now();
        let rest = self.registry.get_mut(worker).and_then(|entry| {
            entry.allowance.take(units, now);
            entry.allowance.rest(now)
        });
        if let Some(rest) = rest {
            // Else one that floods would have the primary, and with it a processor, for itself.
            self.read_later(worker, rest);
        }
    }

    /// Reads the next frame of a worker. None when there is none for now.
    fn read_frame(&mut self, worker: u32) -> Option<Read> {
        let channel = self.registry.get(worker)?.channel.as_ref()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        // Empty at first, and after a panic in here.
        buffer.resize(FRAME_MAX + 1, 0);
        let outcome = match channel.receive(&mut buffer) {
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) if is_short_of_memory(errno) => {
                self.read_later(worker, FLUSH_AGAIN);
                Ok(None)
            }
            Err(_) => {
                self.channel_closed(worker);
                Ok(None)
            }
            Ok(received) if received.fds_lost => Err(Malformed("descriptors, which no worker may send")),
            Ok(received) if received.truncated => Err(Malformed("a frame that is too long")),
            Ok(received) if received.length == 0 => match self.is_hung_up(worker) {
                true => {
                    self.channel_closed(worker);
                    Ok(None)
                }
                false => Err(Malformed("an empty packet")),
            },
            Ok(received) => FromWorker::decode(&buffer[..received.length]).and_then(|frame| {
                let bytes = received.length;
                let units = self.units_of(&frame, bytes);
                self.frame(worker, frame).map(|()| Some(Read { units, bytes }))
            }),
        };
        self.buffer = buffer;
        outcome.unwrap_or_else(|offence| {
            self.punish(worker, offence);
            None
        })
    }

    /// Reads what a worker had sent by now. A process that goes on sending, perhaps a child of a worker that has ended, does
    /// not keep the primary here.
    pub(super) fn hear_out(&mut self, worker: u32) {
        // Between two turns nobody else would move what comes of it.
        self.clock.wake();
        self.flush(worker);
        let (mut frames, mut bytes) = (0, 0);
        while frames < FRAMES_TO_HEAR_OUT
            && bytes < BYTES_TO_HEAR_OUT
            && let Some(read) = self.read_frame(worker)
        {
            frames += 1;
            bytes += read.bytes;
        }
    }

    /// What it has sent is not to be received for now, and the channel must not announce it all the time.
    fn read_later(&mut self, worker: u32, pause: Duration) {
        if let Some(entry) = self.registry.get_mut(worker)
            && let Some(channel) = &entry.channel
            && !std::mem::replace(&mut entry.resting, true)
        {
            let _ = self.poller.poll.modify(channel, Token::Channel(worker).pack(), Interest::None);
            self.clock.add(Instant::now() + pause, Timer::Read(worker));
        }
    }

    /// Some worker has sent what was not its turn yet.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn has_unread(&self) -> bool {
        use crate::sys::poll::{Waited, wait_readable};
        let channels = self.registry.ids().into_iter().filter_map(|id| self.registry.get(id)?.channel.as_ref());
        channels
            .into_iter()
            .any(|channel| wait_readable(&[channel.as_fd()], Some(Duration::ZERO)) != Ok(Waited::TimedOut))
    }

    /// Reads what could not be read before.
    pub(super) fn read_again(&mut self, worker: u32) {
        if let Some(entry) = self.registry.get_mut(worker) {
            entry.resting = false;
        }
        self.watch_channel(worker);
        self.channel_ready(worker);
    }

    /// Tells the poll what a worker's sockets are watched for.
    fn watch_channel(&mut self, worker: u32) {
        let Some(entry) = self.registry.get(worker) else {
            return;
        };
        let poll = &self.poller.poll;
        if let Some(channel) = &entry.channel
            && !entry.resting
        {
            let interest = if channel.is_armed() { Interest::ReadableOrWritable } else { Interest::Readable };
            let _ = poll.modify(channel, Token::Channel(worker).pack(), interest);
        }
        let interest = if entry.grants.is_armed() { Interest::RoomAppears } else { Interest::None };
        let _ = poll.modify(&entry.grants, Token::Grants(worker).pack(), interest);
    }

    /// Something could not be told to the poll: everything is told again. What fails again comes back here.
    pub(super) fn watch_again(&mut self) {
        for worker in self.registry.ids() {
            self.watch_channel(worker);
        }
        self.handles.mark_all();
    }

    /// An empty packet reads like end of file; only the hang-up tells them apart.
    fn is_hung_up(&self, worker: u32) -> bool {
        let Some(channel) = self.registry.get(worker).and_then(|entry| entry.channel.as_ref()) else {
            return true;
        };
        crate::sys::poll::is_hung_up(channel.as_fd())
    }

    fn frame(&mut self, worker: u32, frame: FromWorker) -> std::result::Result<(), Malformed> {
        let Some(entry) = self.registry.get_mut(worker) else {
            return Ok(());
        };
        let reference = entry.reference();
        if !entry.greeted && !matches!(frame, FromWorker::Online { .. }) {
            return Err(Malformed("something before it said that it is online"));
        }
        match frame {
            FromWorker::Online { offers, version, nonce, .. } => {
                if entry.greeted {
                    return Err(Malformed("a second greeting"));
                }
                if nonce != entry.nonce {
                    return Err(Malformed("a greeting with a wrong nonce"));
                }
                if version != VERSION {
                    let _ = entry.process.signal(libc::SIGKILL);
                    let text = format!(
                        "it speaks version {version} of the protocol and this primary version {VERSION}; it was ended"
                    );
                    entry.refused = Some(Error::new(crate::error::EVERSION, text.clone()));
                    self.news.warn(Some(reference), text);
                    // What else is in it would be the same once more.
                    self.channel_closed(worker);
                    return Ok(());
                }
                entry.greeted = true;
                entry.sets_options = offers & OFFERS_OPTIONS != 0;
                if entry.state == WorkerState::Starting {
                    entry.state = WorkerState::Online;
                }
                self.news.push(Event::Online(reference));
            }
            // Nobody is there any more to whom an address would be of use.
            FromWorker::Listen { .. } if entry.ended => {}
            FromWorker::Listen { number, flags, backlog, index, address } => {
                return self.asked_to_listen(Asked {
                    worker,
                    number,
                    flags,
                    backlog,
                    index,
                    address: address.to_owned(),
                });
            }
            FromWorker::Close { listener } => match entry.listeners.contains_key(&listener) {
                true => self.close_listener(worker, listener),
                false => return Err(Malformed("the close of a listener that is not its own")),
            },
            FromWorker::Pause { listener } => return self.pause(worker, listener, true),
            FromWorker::Resume { listener } => return self.pause(worker, listener, false),
            FromWorker::Unseat { listener } => {
                if !entry.listeners.contains_key(&listener) {
                    return Err(Malformed("something about a listener that is not its own"));
                }
                if let Some(handle) = self.handles.of_listener(listener) {
                    handle.unseat(listener, &self.poller.poll);
                    let id = handle.id;
                    self.handles.mark(id);
                }
            }
            FromWorker::SetOption { number, listener, level, name, value } => {
                let option = SocketOption { level, name, value: value.to_vec() };
                return self.set_socket_option(worker, number, listener, &option);
            }
            FromWorker::Message(data) => {
                let data = data.to_vec();
                self.news.push(Event::Message { worker: reference, data });
            }
            FromWorker::Load(load) => entry.board.tell_load(load),
            FromWorker::Disconnect => self.ask_to_leave(worker, None),
            FromWorker::Signalled => self.leave_soon(worker),
        }
        Ok(())
    }

    /// A worker takes nothing for now, or again.
    fn pause(&mut self, worker: u32, listener: u32, paused: bool) -> std::result::Result<(), Malformed> {
        let entry = self.registry.get(worker);
        if !entry.is_some_and(|entry| entry.listeners.contains_key(&listener)) {
            return Err(Malformed("a pause of a listener that is not its own"));
        }
        if let Some(handle) = self.handles.of_listener(listener) {
            handle.pause_member(listener, paused, &self.poller.poll);
            let id = handle.id;
            self.handles.mark(id);
        }
        Ok(())
    }

    /// What a worker asks for itself; returns the listener's id.
    pub(super) fn listen(&mut self, worker: u32, flags: u32, backlog: i32, index: u32, text: &str) -> Result<u32> {
        let entry = self.registry.get(worker).ok_or_else(Error::shutdown)?;
        if entry.listeners.len() >= LISTENERS_MAX {
            return Err(Error::new(-libc::EMFILE, format!("a worker may have {LISTENERS_MAX} listeners")));
        }
        let (options, text) = options::split(text)?;
        options.iter().try_for_each(options::judge)?;
        let address = Address::parse(text)?;
        let flags = ListenFlags::from_bits(flags)?;
        let (listener, is_new) = self.join_address(worker, flags, Shape { backlog, options }, index, &address, true)?;
        if is_new
            && self.handles.of_listener(listener).is_some_and(|handle| handle.mechanism() == MechanismKind::Kernel)
            && let Some(entry) = self.registry.get_mut(worker)
        {
            entry.allowance.take(UNITS_OF_A_CHOICE, Instant::now());
        }
        Ok(listener)
    }

    /// Addresses that nobody serves any more are given up first.
    fn has_descriptors_to_spare(&mut self, is_new: bool) -> bool {
        let poller = &self.poller;
        let kept = if is_new { KEPT_BY_THE_FIRST } else { DESCRIPTORS_KEPT };
        let spare = || socket::has_room_for(kept, poller.wake.as_fd());
        spare() || {
            self.handles.close_unattended(&poller.poll);
            spare()
        }
    }

    /// Makes a worker a member of an address; returns the listener's id and whether the address was opened for it. `seated`:
    /// see [`Handle::join`](crate::handle::Handle::join).
    pub(super) fn join_address(
        &mut self,
        worker: u32,
        flags: ListenFlags,
        shape: Shape,
        index: u32,
        address: &Address,
        seated: bool,
    ) -> Result<(u32, bool)> {
        let entry = self.registry.get(worker).ok_or_else(Error::shutdown)?;
        if entry.was_asked_to_leave() || self.stopping {
            return Err(Error::shutdown());
        }
        if entry.listeners.len() >= LISTENERS_OF_A_PROGRAM {
            return Err(Error::new(-libc::EMFILE, format!("a worker may have {LISTENERS_OF_A_PROGRAM} listeners")));
        }
        let (slot, board) = (entry.slot, Arc::clone(&entry.board));
        if !self.has_descriptors_to_spare(!self.handles.has(address, index)) {
            return Err(Error::new(
                -libc::EMFILE,
                "the primary has no descriptors to spare for another listener; raise its limit (RLIMIT_NOFILE, ulimit -n)",
            ));
        }
        if index > INDEX_MAX {
            return Err(Error::invalid(format!("the index {index} is greater than {INDEX_MAX}")));
        }
        let permit = self.permit(worker, address, index)?;
        let address = permit.address.clone();
        let address = &address;
        let Settings { policy, window, window_most, .. } = self.settings;
        let mechanism = self.mechanism_in_force();
        self.make_way(&key(address, index));
        let poll = &self.poller.poll;
        let opened = self.handles.open(permit, index, shape, flags, (policy, mechanism), poll);
        if let Some(text) = self.handles.ladder.take_complaint() {
            self.news.warn(None, text);
            // The asker may be another thread than the one that takes the events.
            self.clock.wake();
        }
        let (id, is_new) = opened?;
        if self.handles.get(id).is_some_and(|handle| handle.has_member_of(worker)) {
            return Err(Error::new(
                -libc::EADDRINUSE,
                format!("this worker listens on {} already", key(address, index)),
            ));
        }
        let listener = self.handles.new_listener(id);
        let joined = Mailbox::new(window, board).and_then(|mailbox| match self.handles.get_mut(id) {
            Some(handle) => handle.join(Member::new(listener, worker, slot, mailbox, window_most), seated, poll),
            None => Err(Errno::ENOENT),
        });
        if is_new && let Some(text) = self.handles.ladder.take_notice() {
            self.news.notice(text);
        }
        if let Ok(Err(errno)) = &joined
            && self.handles.get_mut(id).is_some_and(|handle| handle.may_tell(Instant::now()))
        {
            let text = format!(
                "{}: slot {slot} has no socket of its own, because that failed ({}); its connections are passed on",
                key(address, index),
                errno.desc()
            );
            self.news.notice(text);
        }
        if let Err(errno) = joined {
            self.handles.forget_listener(listener);
            if is_new {
                self.handles.close(id, poll);
            }
            return Err(Error::os("making a mailbox", errno));
        }
        if let Some(entry) = self.registry.get_mut(worker) {
            entry.listeners.insert(listener, id);
        }
        self.has_listened(worker);
        Ok((listener, is_new))
    }

    /// Sends the grant, or why there is none.
    pub(super) fn answer(
        &mut self,
        worker: u32,
        number: u32,
        answer: Result<u32>,
    ) -> std::result::Result<(), Malformed> {
        let refused = match answer {
            Ok(listener) => match self.send_grant(worker, number, listener) {
                Ok(()) => return self.check_reads_answers(worker),
                Err(error) => {
                    self.close_listener(worker, listener);
                    if error.is(libc::EAGAIN) {
                        return Err(UNREAD_ANSWERS);
                    }
                    error
                }
            },
            Err(error) => error,
        };
        self.refuse(worker, number, &refused)
    }

    /// Says why something is not done.
    pub(super) fn refuse(&mut self, worker: u32, number: u32, why: &Error) -> std::result::Result<(), Malformed> {
        self.say(worker, &Answer::Refusal { number, code: why.code(), sentence: why.sentence() })
    }

    /// Sends an answer that comes without descriptors.
    pub(super) fn say(&mut self, worker: u32, answer: &Answer) -> std::result::Result<(), Malformed> {
        let answer = answer.encode();
        match self.on_grants(worker, |entry| entry.grants.send([&answer, b""], &[])) {
            Err(error) if error.is(libc::EAGAIN) => Err(UNREAD_ANSWERS),
            // It is gone, which its pidfd tells.
            _ => self.check_reads_answers(worker),
        }
    }

    fn check_reads_answers(&self, worker: u32) -> std::result::Result<(), Malformed> {
        match self.registry.get(worker) {
            Some(entry) if entry.grants.kept() > ANSWERS_KEPT => Err(UNREAD_ANSWERS),
            _ => Ok(()),
        }
    }

    pub(super) fn send_grant(&mut self, worker: u32, number: u32, listener: u32) -> Result<()> {
        let Some(handle) = self.handles.of_listener(listener) else {
            return Ok(());
        };
        let Some(member) = handle.member(listener) else {
            return Ok(());
        };
        let (mechanism, socket) = handle.granted(member);
        let grant = Answer::Grant {
            number,
            listener,
            mechanism: mechanism as u32,
            datagram: handle.datagram,
            settable: self.registry.get(worker).is_some_and(|entry| entry.sets_options),
            name: handle.name,
        }
        .encode();
        let mut fds = vec![member.mailbox.receiver()];
        fds.extend(socket);
        let id = handle.id;
        let (address, port) = match handle.name.to_inet() {
            Some(inet) => (inet.ip().to_string(), Some(inet.port())),
            None => (handle.address.clone(), None),
        };
        let Some(entry) = self.registry.get_mut(worker) else {
            return Ok(());
        };
        let state = entry.grants.send([&grant, b""], &fds).context("sending a grant")?;
        if entry.state == WorkerState::Online {
            entry.state = WorkerState::Listening;
        }
        let event = Event::Listening { worker: entry.reference(), address, port, mechanism };
        self.news.push(event);
        self.handles.mark(id);
        self.await_room(worker, state);
        Ok(())
    }

    /// Sends something on a worker's grants socket.
    pub(super) fn on_grants(&mut self, worker: u32, send: impl FnOnce(&mut Entry) -> Sys<Pending>) -> Result<()> {
        let Some(entry) = self.registry.get_mut(worker) else {
            return Ok(());
        };
        let state = send(entry).context("answering a worker")?;
        self.await_room(worker, state);
        Ok(())
    }

    /// Sends a frame on a channel, or keeps it until there is room.
    pub(super) fn send_frame(&mut self, worker: u32, header: &[u8], body: &[u8]) -> Result<()> {
        let gone = || Error::new(-libc::EPIPE, format!("the channel of worker {worker} is closed"));
        let channel = self.registry.get_mut(worker).and_then(|entry| entry.channel.as_mut()).ok_or_else(gone)?;
        match channel.send([header, body], &[]) {
            Ok(state) => {
                self.await_room(worker, state);
                Ok(())
            }
            Err(Errno::EAGAIN) => Err(Error::new(
                -libc::EAGAIN,
                format!("worker {worker} does not read; 1 MiB is waiting for it already"),
            )),
            Err(_) => Err(gone()),
        }
    }

    /// Sends what was kept for a worker.
    pub(super) fn flush(&mut self, worker: u32) {
        let Some(entry) = self.registry.get_mut(worker) else {
            return;
        };
        let channel = entry.channel.as_mut().map_or(Ok(Pending::Nothing), |channel| channel.flush());
        let grants = entry.grants.flush();
        for state in [channel, grants] {
            // An error means that the worker is gone, which its pidfd tells.
            self.await_room(worker, state.unwrap_or(Pending::Nothing));
        }
    }

    /// Arranges for another attempt, or for none.
    fn await_room(&mut self, worker: u32, state: Pending) {
        if self.registry.get(worker).is_none() {
            return;
        }
        if state == Pending::Later {
            self.clock.add(Instant::now() + FLUSH_AGAIN, Timer::Flush(worker));
        }
        let Some(entry) = self.registry.get_mut(worker) else { return };
        let poll = &self.poller.poll;
        // One that rests is watched for room again when it is read again.
        if let Some(channel) = &mut entry.channel
            && let Some(wanted) = channel.rearm()
            && !entry.resting
        {
            let interest = if wanted { Interest::ReadableOrWritable } else { Interest::Readable };
            let _ = poll.modify(&*channel, Token::Channel(worker).pack(), interest);
        }
        if let Some(wanted) = entry.grants.rearm() {
            let interest = if wanted { Interest::RoomAppears } else { Interest::None };
            let _ = poll.modify(&entry.grants, Token::Grants(worker).pack(), interest);
        }
    }

    /// Ends a worker that broke the rules; nobody else is affected.
    pub(super) fn punish(&mut self, worker: u32, offence: Malformed) {
        self.end(worker, &format!("it sent {}", offence.0));
    }

    /// Ends a worker, and says for what.
    pub(super) fn end(&mut self, worker: u32, offence: &str) {
        let Some(entry) = self.registry.get(worker) else {
            return;
        };
        let reference = entry.reference();
        let _ = entry.process.signal(libc::SIGKILL);
        self.news.warn(Some(reference), format!("{offence} and was ended"));
        self.channel_closed(worker);
    }
}
