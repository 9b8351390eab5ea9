//! A turn: what was announced, what workers have said, what is due, and then the connections. Here talking, listening and living
//! meet; none of them knows another.

use std::time::{Duration, Instant};

use super::clock::Timer;
use super::poller::{Poller, Ready};
use super::session::{Next, Session};
use super::talk::{Heard, Judged, Said, UNITS_PER_TURN, units_of};
use super::{Event, Primary};
use crate::error::Result;
use crate::handle::{AUDIT, Pumped};
use crate::mechanism::{LOOK, Look, PART_OF_RUNNING};
use crate::settings::Mechanism;
use crate::token::Token;

/// How soon after epoll_ctl(2) failed everything is told to it again.
const WATCH_AGAIN: Duration = Duration::from_millis(20);
/// What is read of a worker that has ended is more than a channel holds (its buffer of 208 KiB counts 768 bytes for the smallest
/// frame), and no more: a child of it may go on to write.
const FRAMES_TO_HEAR_OUT: usize = 512;
const BYTES_TO_HEAR_OUT: usize = 256 << 10;

/// A turn in which a defect of ours made a panic leaves events that were taken and not heeded. There is another at once.
struct Unfinished<'a>(&'a Poller);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.interrupt();
        }
    }
}

/// What a frame took: units of its worker's allowance, and bytes.
struct Read {
    units: usize,
    bytes: usize,
}

impl Primary {
    /// Waits and does what is due; returns what happened. For programs that need nothing else in between.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<Vec<Event>> {
        self.check_own()?;
        let ready =
            if self.news.is_empty() { self.poller.wait(timeout)? } else { self.poller.wait(Some(Duration::ZERO))? };
        self.dispatch(&ready);
        Ok(self.take_events())
    }

    /// Does what is due. Never waits. `take_events` and `take_due_fork` have what came of it.
    pub fn dispatch(&mut self, ready: &Ready) {
        if self.guard.is_forked() {
            return;
        }
        let poller = self.poller();
        let _unfinished = Unfinished(&poller);
        if !self.clock.begin_turn() {
            self.addresses.mark_all();
        }
        ready.0.tokens().filter_map(Token::unpack).for_each(|token| self.announced(token));
        if let Some(deadline) = self.stop.take() {
            self.ask_to_stop(deadline.unwrap_or(self.settings.stop_deadline));
        }
        let now = Instant::now();
        while let Some((at, timer)) = self.clock.due(now) {
            self.timer(timer, at, now);
        }
        self.run_restarts(now);
        self.run_fleet(now);
        self.pump(now);
        if self.poller.poll.take_failed() {
            self.clock.add(now + WATCH_AGAIN, Timer::Repair);
        }
        if self.addresses.has_marked() {
            // No event tells that these have more to move.
            self.clock.wake();
        }
        self.clock.end_turn();
    }

    fn announced(&mut self, token: Token) {
        match token {
            Token::Wake => self.poller.wake.clear(),
            Token::Alarm => self.clock.clear_alarm(),
            Token::Channel(worker) => self.channel_ready(worker),
            Token::Grants(worker) => self.flush(worker),
            Token::Process(worker) => self.process_ended(worker),
            Token::Listening(address) => {
                if let Some(handle) = self.addresses.touch(address) {
                    handle.announced(Instant::now());
                }
            }
            Token::Returns(worker) => self.take_returns(worker),
            Token::OwnSocket(listener) => {
                if let Some(handle) = self.addresses.touch_of(listener) {
                    handle.own_socket_announced(listener, &self.poller.poll);
                }
            }
            Token::Mailbox(listener) => {
                if let Some(handle) = self.addresses.touch_of(listener) {
                    handle.mailbox_changed(listener, &self.poller.poll);
                }
            }
        }
    }

    fn timer(&mut self, timer: Timer, at: Instant, now: Instant) {
        match timer {
            Timer::Watch => self.watch(at, now),
            Timer::Audit => self.audit(now),
            Timer::Pump(address) => self.addresses.mark(address),
            // Every turn looks whose turn it is, and who is ready.
            Timer::Restart | Timer::Fleet => {}
            Timer::Recycle => self.look_for_recycling(),
            Timer::Escalate(worker) => self.workers.escalate(worker, now, &mut self.clock),
            Timer::Ask(worker) => {
                self.process_ended(worker);
                self.workers.ask_again(worker, now, &mut self.clock);
            }
            Timer::Flush(worker) => self.flush(worker),
            Timer::Read(worker) => self.read_again(worker),
            Timer::Returns(worker) => self.take_returns(worker),
            Timer::Repair => {
                // What fails again comes back here.
                for entry in self.workers.iter() {
                    entry.link.watch_again(&self.poller.poll);
                    entry.returns.iter().for_each(|returns| returns.watch_again(&self.poller.poll));
                }
                self.addresses.mark_all();
            }
            Timer::Signalled(worker) => {
                if self.workers.leaves_by_signal(worker) {
                    self.ask_to_leave(worker, None);
                }
            }
            Timer::Listen => self.listen_again(),
            Timer::Closing => self.look_at_closing(now),
            Timer::Drained => {
                if let Some(deadline) = self.workers.drained() {
                    self.begin_stop(deadline);
                }
            }
            Timer::Unattended(address) => {
                let nobody_comes = self.workers.are_idle() || self.workers.are_replaced_by_the_program();
                let (_, addresses, _, mut ground) = self.parts();
                addresses.end_keeping(address, !nobody_comes, &mut ground);
            }
        }
    }

    fn pump(&mut self, now: Instant) {
        let mut marked = std::mem::take(&mut self.marked);
        self.addresses.take_marked(&mut marked);
        for id in marked.drain(..) {
            let Some(handle) = self.addresses.get_mut(id) else { continue };
            let pumped = handle.pump(&self.poller.poll, now);
            if let Some(at) = handle.take_alarm(now) {
                self.clock.add(at, Timer::Pump(id));
            }
            if handle.begins_to_want_audits() {
                self.clock.audit_by(now + AUDIT);
            }
            // To look takes a system call for each member in front of which nothing waits.
            if !self.clock.watches_within(LOOK, now)
                && let Some(wait) = handle.next_look(now)
            {
                self.clock.watch_in(wait, now);
            }
            match pumped {
                Pumped::Again => self.addresses.mark(id),
                Pumped::At(at) => self.clock.add(at, Timer::Pump(id)),
                Pumped::Done => {}
            }
        }
        self.marked = marked;
    }

    /// One look at every queue.
    fn watch(&mut self, at: Instant, now: Instant) {
        let (interval, late) = (self.clock.take_watch(), now.saturating_duration_since(at));
        let look = Look {
            poll: &self.poller.poll,
            interval,
            elapsed: interval + late,
            in_time: late < LOOK / 2,
            patience: self.settings.patience,
            part_of_running: PART_OF_RUNNING,
            slack: self.settings.slack,
            calm: false,
            workers: &self.workers,
        };
        if let Some(again) = self.addresses.watch(&look, now) {
            self.clock.watch_in(again, now);
        }
        if self.clock.take_audit() {
            self.audit(now);
        }
    }

    /// Looks at the sockets that workers have, too, and ends those who spoiled one for the others.
    fn audit(&mut self, now: Instant) {
        for (address, audited) in self.addresses.audit(&self.poller.poll, now) {
            if let Some(wait) = audited.again {
                self.clock.audit_by(now + wait);
            }
            for worker in audited.thieves {
                if let Some(mut session) = self.session(worker) {
                    session.end("it took its socket out of the group, and with it the others' connections,");
                }
            }
            for worker in audited.risen {
                if let Some(mut session) = self.session(worker) {
                    session.end("it made a socket receive again that is not its any more");
                } else if audited.tell {
                    let whose = format!(
                        "a process that worker {worker} left behind has made its socket of {address} receive again"
                    );
                    self.news.warn(None, format!("{whose}; it does not any more"));
                }
            }
            if let Some(what) = audited.spoiled {
                let text = format!(
                    "a worker has {what} the socket of {address} that all workers share; it was made as it was"
                );
                self.news.warn(None, text);
            }
        }
    }

    /// A worker, and what it may touch.
    pub(super) fn session(&mut self, worker: u32) -> Option<Session<'_>> {
        let mechanism = match self.settings.mechanism {
            Mechanism::Auto => self.mechanism,
            chosen => chosen,
        };
        let (workers, addresses, reader, ground) = self.parts();
        let (stopping, program_replaces) = (workers.is_stopping(), workers.are_replaced_by_the_program());
        let (count, takes_none_back) = (workers.count(), workers.all_leave());
        let worker = workers.get_mut(worker)?;
        let workers = count;
        Some(Session {
            worker,
            addresses,
            reader,
            ground,
            mechanism,
            workers,
            stopping,
            takes_none_back,
            program_replaces,
        })
    }

    fn flush(&mut self, worker: u32) {
        if let Some(mut session) = self.session(worker) {
            session.worker.link.flush(&mut session.ground);
        }
    }

    /// Reads what a worker has sent, but not more than is its due in a turn, and in the long run.
    fn channel_ready(&mut self, worker: u32) {
        let Some(mut session) = self.session(worker) else { return };
        session.worker.link.flush(&mut session.ground);
        if session.worker.link.resting {
            // There was room for what is kept for it.
            return;
        }
        let mut units = 0;
        while units < UNITS_PER_TURN
            && let Some(read) = self.hear(worker)
        {
            units += read.units;
        }
        if let Some(mut session) = self.session(worker) {
            session.worker.link.has_used(units, &mut session.ground);
        }
    }

    /// Reads what could not be read before.
    fn read_again(&mut self, worker: u32) {
        if let Some(entry) = self.workers.get_mut(worker) {
            entry.link.end_rest(&self.poller.poll);
        }
        self.channel_ready(worker);
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
            && let Some(read) = self.hear(worker)
        {
            frames += 1;
            bytes += read.bytes;
        }
    }

    /// Reads the next frame of a worker and does what it says. None when there is none for now.
    fn hear(&mut self, worker: u32) -> Option<Read> {
        let mut session = self.session(worker)?;
        let (said, bytes) = match session.reader.next(&mut session.worker.link, &mut session.ground) {
            Heard::Nothing => return None,
            Heard::Closed => {
                session.cut_off();
                return None;
            }
            Heard::Offence(offence) => {
                session.punish(offence);
                return None;
            }
            Heard::Said(said, bytes) => (said, bytes),
        };
        let units = units_of(&said, bytes, |listener| session.addresses.is_by_client(listener));
        let next = session.heard(said);
        self.go_on(worker, next);
        Some(Read { units, bytes })
    }

    /// Does what takes more than the worker that said something.
    fn go_on(&mut self, worker: u32, next: Judged<Next>) {
        match next {
            Ok(Next::Nothing) => {}
            Ok(Next::Leave) if self.workers.get(worker).is_some_and(|entry| entry.enrolled) => self.retire(worker),
            Ok(Next::Leave) => self.ask_to_leave(worker, None),
            Ok(Next::LeaveSoon) => self.workers.leave_soon(worker, &mut self.clock),
            Ok(Next::MakeWay(address, asked)) => {
                self.make_way(address);
                let next = self.session(worker).map(|mut session| session.heard(Said::Listen(asked)));
                next.into_iter().for_each(|next| self.go_on(worker, next));
            }
            Err(offence) => {
                if let Some(mut session) = self.session(worker) {
                    session.punish(offence);
                }
            }
        }
    }

    /// Looks again whether the locks are free that listens wait for.
    fn listen_again(&mut self) {
        for (worker, asked, until) in self.addresses.take_postponed() {
            if let Some(mut session) = self.session(worker)
                && session.worker.link.is_open()
                && !session.worker.ended
            {
                let next = session.listen(asked, until);
                self.go_on(worker, next);
            }
        }
    }
}
