//! What the fleet wants, done: workers are made, take the places of others, and leave; and the program is told.

use std::time::{Duration, Instant};

use super::Primary;
use super::event::{Event, WorkerRef};
use super::reloading::{Reloaded, Reloading};
use super::workers::{Entry, Ordered, Plan, ReloadOptions, WorkerState};
use crate::error::Result;
use crate::fleet::{Action, Generation, News, Outcome, Phase, Proof};
use crate::handle::Handle;
use crate::recycle::RecycleOptions;
use crate::sys::reload_signals::Asked;

impl Primary {
    /// Begins to replace every worker by one of a new generation. [`Event::Reload`] tells each phase, and what comes of it.
    pub fn reload(&mut self, options: &ReloadOptions) -> Result<Reloading> {
        let program = options.program.as_ref().map(Plan::new).transpose()?;
        self.reload_planned(options, program)
    }

    /// The same where the program's options are ready.
    pub(crate) fn reload_planned(&mut self, options: &ReloadOptions, program: Option<Plan>) -> Result<Reloading> {
        self.check_may_start()?;
        self.clock.wake();
        let generation = self.workers.reload(options, program)?;
        Ok(self.reloadings.begin(generation))
    }

    /// Replaces every worker by one that is made as those before the last reload were. ENOENT: there are none such.
    pub fn roll_back(&mut self, options: &ReloadOptions) -> Result<Reloading> {
        self.check_may_start()?;
        self.clock.wake();
        let generation = self.workers.roll_back(options)?;
        Ok(self.reloadings.begin(generation))
    }

    /// Whose recipe that would be.
    pub fn goes_back_to(&self) -> Option<Generation> {
        self.workers.goes_back_to()
    }

    /// Nobody is replaced any more: what is under way is given up, as by another reload.
    pub fn cancel_reloads(&mut self) {
        self.workers.cancel_reloads();
        self.clock.wake();
    }

    /// Has so many slots, each with a worker. Of more the highest go first, and their workers leave.
    pub fn scale(&mut self, slots: usize) -> Result<()> {
        self.check_may_start()?;
        self.clock.wake();
        self.workers.scale(slots)
    }

    /// Replaces one worker by another that is made in the same way. EBUSY: that is under way.
    pub fn restart(&mut self, id: u32) -> Result<()> {
        self.check_may_start()?;
        self.clock.wake();
        self.workers.restart(id)
    }

    /// Does what signals have asked for. What cannot be done is said.
    pub(crate) fn obey(&mut self, asked: Asked) {
        if asked.reload
            && let Err(error) = self.reload(&ReloadOptions::default())
        {
            self.news.warn(None, format!("SIGHUP: nothing is reloaded: {}", error.sentence()));
        }
        if asked.more != 0 {
            let slots = self.workers.count_slots().saturating_add_signed(asked.more as isize).max(1);
            if let Err(error) = self.scale(slots) {
                self.news.warn(None, format!("SIGTTIN, SIGTTOU: the workers stay as many: {}", error.sentence()));
            }
        }
    }

    /// From here on workers that have done enough are replaced, one after the other. Without any limit nobody is.
    pub fn recycle(&mut self, options: RecycleOptions) -> Result<()> {
        self.check_own()?;
        let look = self.workers.recycle(options);
        self.clock.recycle_in(look);
        Ok(())
    }

    pub(super) fn look_for_recycling(&mut self) {
        let look = if self.workers.is_stopping() { None } else { self.workers.recycle_those_who_have_done_enough() };
        self.clock.recycle_in(look);
    }

    /// Looks who has become ready, and does what comes of that and of all that has happened.
    pub(super) fn run_fleet(&mut self, now: Instant) {
        if !self.workers.stirs() {
            return;
        }
        for (worker, predecessor, fewer) in self.workers.unready() {
            if let Some(proof) = self.proof(worker, predecessor.filter(|_| !fewer)) {
                self.workers.observe(worker, &proof, now);
            }
        }
        self.workers.tick(now);
        while let Some(action) = self.workers.next_action() {
            self.act(action);
        }
        if let Some(at) = self.workers.rest(now) {
            self.clock.fleet_by(at);
        }
    }

    fn act(&mut self, action: Action) {
        let deserted = self.addresses.has_deserted();
        match action {
            Action::Start { slot, generation, beside, order } => {
                let (workers, _, _, mut ground) = self.parts();
                workers.start_ordered(Ordered { slot, generation, beside, order }, &mut ground);
            }
            Action::Swap { old, new, .. } => self.swap(old, new),
            Action::Retire { worker } => self.have_leave(worker, self.settings.stop_deadline),
            Action::Hasten { worker } => self.have_leave(worker, Duration::ZERO),
            Action::Replace { slot } => {
                let (workers, _, _, mut ground) = self.parts();
                workers.want_replacement(slot, deserted, &mut ground);
            }
            Action::Tell(news) => self.tell_news(news),
        }
    }

    /// What is to be seen of a worker that is to be ready one day.
    fn proof(&self, worker: u32, predecessor: Option<u32>) -> Option<Proof> {
        let entry = self.workers.get(worker)?;
        let old = predecessor.and_then(|old| self.workers.get(old));
        let has = |address: &u32| entry.listeners.values().any(|other| other == address);
        let missing = old.into_iter().flat_map(|old| old.listeners.values()).find(|address| !has(address));
        let missing = missing.and_then(|address| self.addresses.get(*address)).map(Handle::called);
        let elsewhere =
            old.into_iter().flat_map(|old| old.listens_elsewhere.difference(&entry.listens_elsewhere)).next();
        // Who replaces one that listens on nothing need not listen either.
        let need_not = old.is_some_and(|old| !old.listens()) && entry.state >= WorkerState::Online;
        Some(Proof {
            missing: missing.or_else(|| elsewhere.cloned()),
            listens: entry.listens() || need_not,
            manual: self.settings.manual_ready,
            said: if entry.said_ready { Some(true) } else { entry.board.is_ready() },
        })
    }

    /// From here on a worker has the turns of its slot. Whoever had them is told to leave behind that.
    fn swap(&mut self, old: Option<u32>, new: u32) {
        if let Some(entry) = self.workers.get_mut(new) {
            entry.proving = false;
            let listeners = entry.listeners.clone();
            for (listener, address) in listeners {
                if let Some(handle) = self.addresses.touch(address) {
                    handle.take_place(listener, &self.poller.poll);
                }
            }
        }
        if let Some(entry) = self.workers.get(new).filter(|entry| entry.enrolled) {
            self.news.push(Event::Swapped { worker: entry.reference() });
        }
        if let Some(old) = old {
            self.have_leave(old, self.settings.stop_deadline);
        }
    }

    /// A worker is to leave. One that is enrolled is the program's to ask.
    fn have_leave(&mut self, worker: u32, deadline: Duration) {
        match self.workers.get(worker).filter(|entry| entry.enrolled) {
            Some(entry) => self.news.push(Event::Leave { worker: entry.reference(), at_once: deadline.is_zero() }),
            None => self.ask_to_leave(worker, Some(deadline)),
        }
    }

    fn tell_news(&mut self, news: News) {
        let reference = |worker: u32| self.workers.get(worker).map(Entry::reference);
        let event = match news {
            News::Reload { generation, phase, replaced, reason } => {
                if phase == Phase::Ended(Outcome::Done) {
                    // With `allow_fewer` there may be addresses that the new ones do not listen on.
                    let new = self.workers.iter().find(|entry| entry.generation == generation).map(|entry| entry.id);
                    new.into_iter().for_each(|new| self.addresses.close_given_up_before(new, &self.poller.poll));
                }
                if let Phase::Ended(outcome) = phase {
                    self.reloadings.end(generation, || Reloaded { outcome, replaced, reason: reason.clone() });
                }
                Some(Event::Reload { generation, phase, replaced, reason })
            }
            News::Ready { worker, generation } => {
                if let Some(entry) = self.workers.get_mut(worker) {
                    entry.ready = true;
                }
                let reference = self.workers.get(worker).map(Entry::reference);
                reference.map(|worker| Event::Ready { worker, generation })
            }
            News::Recycled { worker, generation } => {
                reference(worker).map(|worker: WorkerRef| Event::Recycled { worker, generation })
            }
            News::Kept { slot, reason } => {
                self.news.warn(None, format!("the worker of slot {slot} was to be replaced and stays: {reason}"));
                None
            }
        };
        event.into_iter().for_each(|event| self.news.push(event));
    }
}
