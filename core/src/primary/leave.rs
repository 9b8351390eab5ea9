//! How workers leave: asked, stopped, or dead.

use std::time::{Duration, Instant};

use super::clock::Timer;
use super::registry::{Entry, Escalation, WorkerState};
use super::{Event, Primary, no_such_worker};
use crate::error::Result;
use crate::sys::process::ExitStatus;
use crate::wire;

/// Between SIGTERM and SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// A signal to everybody has reached everybody by then, and who handles it has asked for the stop.
const GROUP_WITHIN: Duration = Duration::from_millis(200);

impl Primary {
    /// Asks a worker to leave: it gets no more connections, drains, and exits within the settings' deadline.
    pub fn disconnect(&mut self, id: u32) -> Result<()> {
        self.check_own()?;
        if self.registry.get(id).is_none() {
            return Err(no_such_worker(id));
        }
        self.ask_to_leave(id, Some(self.settings.stop_deadline));
        Ok(())
    }

    /// Asks every worker to leave.
    pub fn disconnect_all(&mut self) -> Result<()> {
        self.check_own()?;
        for id in self.registry.ids() {
            self.ask_to_leave(id, Some(self.settings.stop_deadline));
        }
        Ok(())
    }

    /// Asks a worker to leave: at once, or when those are served that only it can serve. A shorter deadline replaces a longer one.
    pub(super) fn ask_to_leave(&mut self, id: u32, deadline: Option<Duration>) {
        let Some(entry) = self.registry.get_mut(id) else {
            return;
        };
        let now = Instant::now();
        if let Some(deadline) = deadline {
            let at = now + deadline;
            if entry.escalation.is_none_or(|(before, step)| step == Escalation::Terminate && at < before) {
                entry.escalation = Some((at, Escalation::Terminate));
                self.clock.add(at, Timer::Escalate(id));
            }
        }
        if !entry.is_leaving() || self.farewells.contains_key(&id) {
            if entry.state < WorkerState::Disconnecting {
                entry.state = WorkerState::Disconnecting;
            }
            if !self.tell_later(id, deadline, now) {
                self.tell_to_leave(id);
            }
        }
        self.clock.wake();
    }

    /// A signal has asked a worker to leave. If it came to the whole group, this process will be told to stop as well, and in a
    /// stop the door is shut first: until that is known the worker goes on serving. Without any worker nobody would serve
    /// those who connect before the stop.
    pub(super) fn leave_soon(&mut self, id: u32) {
        if !self.stopping && self.signalled.insert(id) {
            self.clock.add(Instant::now() + GROUP_WITHIN, Timer::Signalled(id));
        }
    }

    pub(super) fn leave_by_signal(&mut self, id: u32) {
        self.signalled.remove(&id);
        // A stop that goes on serving for a while tells everybody when that is over.
        if !self.stopping && self.draining.is_none() {
            self.ask_to_leave(id, None);
        }
    }

    /// Takes a worker out of every rotation first, then tells it.
    pub(super) fn tell_to_leave(&mut self, id: u32) {
        if let Some(entry) = self.registry.get_mut(id) {
            for listener in entry.listeners.keys() {
                if let Some(handle) = self.handles.of_listener(*listener) {
                    // It stays out of the rotation even if the stop could not be sent; the deadline ends it then.
                    let _ = handle.stop_member(*listener);
                    let handle = handle.id;
                    self.handles.mark(handle);
                }
            }
            // Twice: where it stays readable, and then between its messages, so that whoever reads the second finds the
            // first. One whose channel is full or closed finds the stop in its mailboxes.
            let _ = self.on_grants(id, |entry| entry.grants.send([&wire::DISCONNECT, b""], &[]));
            let _ = self.send_frame(id, &wire::DISCONNECT, &[]);
        }
        self.clock.wake();
    }

    pub(super) fn escalate(&mut self, id: u32, now: Instant) {
        let Some(entry) = self.registry.get_mut(id) else {
            return;
        };
        let Some((at, step)) = entry.escalation else {
            return;
        };
        if at > now {
            return;
        }
        let (signal, next) = match step {
            Escalation::Terminate => (libc::SIGTERM, Some((now + KILL_AFTER, Escalation::Kill))),
            Escalation::Kill => (libc::SIGKILL, None),
        };
        entry.escalation = next;
        let _ = entry.process.signal(signal);
        if let Some((at, _)) = next {
            self.clock.add(at, Timer::Escalate(id));
        }
    }

    /// The worker's end of the channel is closed; its process may live on. What waits for it goes to others.
    pub(super) fn channel_closed(&mut self, id: u32) {
        let Some(entry) = self.registry.get_mut(id) else {
            return;
        };
        let Some(channel) = entry.channel.take() else {
            return;
        };
        self.poller.poll.remove(&channel);
        channel.close();
        let in_order = entry.was_asked_to_leave();
        entry.state = WorkerState::Disconnected;
        let reference = entry.reference();
        let own = entry.listeners.iter().filter(|(listener, _)| !entry.relayed.contains(listener));
        let listeners: Vec<(u32, u32)> = own.map(|(listener, handle)| (*listener, *handle)).collect();
        self.news.push(Event::Disconnect(reference));
        for (listener, handle) in listeners {
            self.remove_listener(id, listener, in_order);
            self.keep_for_a_successor(handle);
        }
    }

    /// A worker closed a listener itself. The last to close an address gives it up, unless it was told to leave and
    /// we are to put another in its place.
    pub(super) fn close_listener(&mut self, worker: u32, listener: u32) {
        let Some(entry) = self.registry.get(worker) else {
            return;
        };
        let handle = entry.listeners.get(&listener).copied();
        let closing = handle.and_then(|handle| self.handles.get(handle)).is_some_and(|handle| handle.is_closing());
        let given_up = !entry.is_leaving() || self.stopping || closing;
        self.remove_listener(worker, listener, true);
        if let Some(handle) = handle
            && given_up
            && self.handles.get(handle).is_some_and(|handle| handle.is_unattended())
        {
            self.handles.close(handle, &self.poller.poll);
        } else if let Some(handle) = handle {
            self.keep_for_a_successor(handle);
        }
    }

    /// Takes a listener out of its handle. Its unread connections stay in their queue until somebody has room. The last
    /// to leave in an orderly way gives the address up, if only the program knows whether another comes.
    pub(super) fn remove_listener(&mut self, worker: u32, listener: u32, in_order: bool) {
        if let Some(handle) = self.handles.of_listener(listener) {
            let delivered = handle.leave(listener, &self.poller.poll);
            let id = handle.id;
            let is_of_the_program =
                self.registry.get(worker).is_some_and(|entry| self.registry.is_of_the_program(entry.slot));
            if let Some(entry) = self.registry.get_mut(worker) {
                entry.delivered_before += delivered;
                entry.took_uncounted |= delivered > 0 && is_of_the_program;
            }
            self.handles.mark(id);
            if in_order && self.program_replaces {
                self.close_if_given_up(id);
            }
        }
        self.handles.forget_listener(listener);
        if let Some(entry) = self.registry.get_mut(worker) {
            entry.listeners.remove(&listener);
            entry.relayed.remove(&listener);
        }
    }

    /// Closes an address from which everybody has been told to leave.
    pub(super) fn close_if_given_up(&mut self, handle: u32) {
        if self.handles.get(handle).is_some_and(|handle| handle.is_given_up() && !handle.is_closing()) {
            self.handles.close(handle, &self.poller.poll);
        }
    }

    /// A worker's process has ended.
    pub(super) fn process_ended(&mut self, id: u32) {
        let Some(entry) = self.registry.get(id) else {
            return;
        };
        let status = match entry.process.reap() {
            Ok(Some(status)) => status,
            // Not yet, after all: the pidfd stays readable and we come back.
            Ok(None) => return,
            Err(_) => ExitStatus::Unknown,
        };
        // What it said last is still in the channel.
        if let Some(entry) = self.registry.get_mut(id) {
            entry.ended = true;
        }
        self.hear_out(id);
        let Some(entry) = self.leave_books(id, status) else {
            return;
        };
        if self.stopping {
            self.handles.close_unattended(&self.poller.poll);
        } else {
            self.replace(&entry, status);
        }
    }

    /// Writes the end of a worker's process into the books.
    pub(super) fn leave_books(&mut self, id: u32, status: ExitStatus) -> Option<Entry> {
        let in_order = self.registry.get(id).is_some_and(Entry::was_asked_to_leave);
        self.channel_closed(id);
        // Those held in its stead, of which the end of the channel says nothing.
        let listeners: Vec<(u32, u32)> = match self.registry.get(id) {
            Some(entry) => entry.listeners.iter().map(|(listener, handle)| (*listener, *handle)).collect(),
            None => Vec::new(),
        };
        for (listener, handle) in listeners {
            self.remove_listener(id, listener, in_order);
            self.keep_for_a_successor(handle);
        }
        self.farewells.remove(&id);
        let entry = self.registry.remove(id)?;
        // The deadline may be far away, and workers be replaced often until then.
        if let Some((at, _)) = entry.escalation {
            self.clock.cancel(at, Timer::Escalate(id));
        }
        if let Some(pidfd) = entry.process.pidfd() {
            self.poller.poll.remove(pidfd);
        }
        self.poller.poll.remove(&entry.grants);
        self.news.push(Event::Exit { worker: entry.reference(), status });
        if self.registry.is_of_the_program(entry.slot) && entry.has_served() {
            self.served.insert(id);
        }
        Some(entry)
    }
}
