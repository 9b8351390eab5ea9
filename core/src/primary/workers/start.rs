//! Making workers: by fork, from a program, or in a process that the program is about to start.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::due::{Due, For, Ordered};
use super::recipes::Recipe;
use super::{Enrolled, Entry, Plan, WorkerState, Workers};
use crate::error::{Context, Error, Result};
use crate::fleet::Fleet;
use crate::primary::clock::Timer;
use crate::primary::event::Event;
use crate::primary::ground::Ground;
use crate::primary::talk::NewLink;
use crate::sys::child::Child;
use crate::sys::poll::Interest;
use crate::sys::{child, lifeline, process};
use crate::token::Token;

/// How often a worker without a pidfd is asked whether it has ended.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What [`Primary::fork`](crate::Primary::fork) returns, once in each process.
pub enum Forked {
    /// In the primary: the worker's id.
    Primary(u32),
    /// In the worker. The `Primary` of this process is only a copy; drop it.
    Worker {
        /// The worker's id.
        id: u32,
        /// Its slot.
        slot: u32,
        /// Its end of the channel.
        channel: OwnedFd,
    },
}

fn take_due(due: &mut VecDeque<Due>, fleet: &Fleet) -> Option<Due> {
    while let Some(due) = due.pop_front() {
        if fleet.awaits(due.0.order) {
            return Some(due);
        }
    }
    None
}

impl Workers {
    /// From now on no worker can be started, for this reason.
    pub(crate) fn forbid(&mut self, reason: Error) {
        self.forbidden = Some(reason);
    }

    pub(crate) fn check_may_start(&self) -> Result<()> {
        if let Some(reason) = &self.forbidden {
            return Err(reason.clone());
        }
        if self.stopping {
            return Err(Error::new(-libc::ESHUTDOWN, "the cluster is being stopped; no worker can be started"));
        }
        Ok(())
    }

    /// The lowest slot that nobody sits in or is due to.
    pub(crate) fn free_slot(&self) -> u32 {
        self.fleet.free()
    }

    /// The program wants one more worker, which is made by fork.
    pub(crate) fn fork(&mut self, ground: &mut Ground) -> Result<Forked> {
        self.fork_for(For::Program, ground)
    }

    /// Makes one that was due.
    pub(crate) fn fork_due(&mut self, due: Due, ground: &mut Ground) -> Result<Forked> {
        self.fork_for(For::Fleet(due.0), ground)
    }

    /// The program wants one more worker, which is made from a program; its id.
    pub(crate) fn spawn(&mut self, plan: Plan, ground: &mut Ground) -> Result<u32> {
        let plan = Arc::new(plan);
        let id = self.spawn_for(For::Program, Arc::clone(&plan), ground)?;
        if !self.may_be_replaced(ground.settings.respawn) {
            plan.let_go();
        }
        Ok(id)
    }

    pub(super) fn spawn_ordered(&mut self, ordered: Ordered, plan: Arc<Plan>, ground: &mut Ground) -> Result<u32> {
        self.spawn_for(For::Fleet(ordered), plan, ground)
    }

    /// What the fleet wants is to be forked by the program.
    pub(super) fn want_fork(&mut self, ordered: Ordered) {
        self.due_forks.push_back(Due(ordered));
    }

    /// What the fleet wants is to be enrolled by the program.
    pub(super) fn want_enrolled(&mut self, ordered: Ordered) {
        self.due_enrolled.push_back(Due(ordered));
    }

    /// A worker that is to be made by fork.
    pub(crate) fn take_due_fork(&mut self) -> Option<Due> {
        take_due(&mut self.due_forks, &self.fleet)
    }

    /// One that is to be enrolled.
    pub(crate) fn take_due_enrolled(&mut self) -> Option<Due> {
        take_due(&mut self.due_enrolled, &self.fleet)
    }

    pub(crate) fn has_due_enrolled(&self) -> bool {
        !self.due_enrolled.is_empty()
    }

    /// One that was due could not be made.
    pub(crate) fn due_failed(&mut self, due: Due, error: &Error, ground: &mut Ground) {
        self.say_not_replaced(due.0, error, ground);
        self.could_not_start(due.0, error, ground);
    }

    fn slot_for(&self, whom: For) -> u32 {
        match whom {
            For::Program => self.free_slot(),
            For::Fleet(ordered) => ordered.slot,
        }
    }

    fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    fn fork_for(&mut self, whom: For, ground: &mut Ground) -> Result<Forked> {
        let threads = "counting this process's threads, which takes /proc or unshare(2)";
        if process::has_other_threads().context(threads)? {
            return Err(Error::new(
                crate::error::ETHREADS,
                "cl_fork needs a process with one thread: the others would not exist in the worker and what they \
                 hold would stay locked; start workers before threads, or use cl_spawn",
            ));
        }
        let (id, slot) = (self.next_id(), self.slot_for(whom));
        let (new, worker_end) = NewLink::new(id, slot)?;
        match child::fork().context("fork")? {
            // It waits for its hello, which comes when it is in the books: until then it cannot end unnoticed.
            None => Ok(Forked::Worker { id, slot, channel: worker_end }),
            Some(child) => {
                // ESRCH: it has been killed already, which its pidfd will tell.
                let _ = lifeline::set_owner(new.lifeline(), child.pid());
                new.greet(self.own_pidfd.as_ref()).inspect_err(|_| child.abandon())?;
                self.enter((id, slot), child, new, (whom, Recipe::Fork), ground)?;
                Ok(Forked::Primary(id))
            }
        }
    }

    fn spawn_for(&mut self, whom: For, plan: Arc<Plan>, ground: &mut Ground) -> Result<u32> {
        let (id, slot) = (self.next_id(), self.slot_for(whom));
        let (new, worker_end) = NewLink::new(id, slot)?;
        new.greet(self.own_pidfd.as_ref())?;
        let child = plan.start(id, slot, new.lifeline(), worker_end, ground.settings.worker_signals)?;
        self.enter((id, slot), child, new, (whom, Recipe::Program(plan)), ground)?;
        Ok(id)
    }

    /// Makes a place for a worker whose process does not exist yet.
    pub(crate) fn enroll(&mut self, ground: &mut Ground) -> Result<Enrolled> {
        self.enroll_for(For::Program, ground)
    }

    /// The same for one that was due.
    pub(crate) fn enroll_due(&mut self, due: Due, ground: &mut Ground) -> Result<Enrolled> {
        self.enroll_for(For::Fleet(due.0), ground)
    }

    fn enroll_for(&mut self, whom: For, ground: &mut Ground) -> Result<Enrolled> {
        let (id, slot) = (self.next_id(), self.slot_for(whom));
        let (new, channel) = NewLink::new(id, slot)?;
        new.greet(self.own_pidfd.as_ref())?;
        self.enter((id, slot), Child::of_the_program(), new, (whom, Recipe::Enrolled), ground)?;
        (self.program_replaces, self.all_leave) = (true, false);
        Ok(Enrolled { id, slot, channel })
    }

    /// Takes a process that was just made into the books.
    fn enter(
        &mut self,
        (id, slot): (u32, u32),
        child: Child,
        new: NewLink,
        (whom, recipe): (For, Recipe),
        ground: &mut Ground,
    ) -> Result<()> {
        let watched = child
            .pidfd()
            .map_or(Ok(()), |pidfd| ground.poll.add(pidfd, Token::Process(id).pack(), Interest::Readable))
            .and_then(|()| new.link.register(ground.poll));
        if let Err(errno) = watched {
            child.abandon();
            return Err(Error::os("watching a new worker", errno));
        }
        let enrolled = matches!(recipe, Recipe::Enrolled);
        if child.pidfd().is_none() && !enrolled {
            ground.clock.add(Instant::now() + ASK_AGAIN, Timer::Ask(id));
        }
        let (generation, proving) = match whom {
            For::Program => (self.fleet.in_force(), false),
            For::Fleet(ordered) => (ordered.generation, ordered.beside),
        };
        let entry = Entry {
            id,
            slot,
            process: child,
            link: new.link,
            state: WorkerState::Starting,
            started: Instant::now(),
            ended: false,
            listeners: Default::default(),
            relayed: Default::default(),
            listens_elsewhere: Default::default(),
            returns: None,
            said_ready: false,
            delivered_before: 0,
            board: new.board,
            escalation: None,
            confined: matches!(&recipe, Recipe::Program(plan) if plan.confined()),
            enrolled,
            refusals: Default::default(),
            generation,
            jitter: process::random_share(),
            ready: false,
            proving,
            listened: false,
            took_uncounted: false,
            refused: None,
        };
        ground.news.push(Event::Fork(entry.reference()));
        self.by_id.insert(id, entry);
        match whom {
            For::Program => {
                self.generations.note(generation, slot, recipe);
                self.fleet.seat(slot, id);
            }
            For::Fleet(ordered) => self.fleet.started(ordered.order, Ok(id), Instant::now()),
        }
        ground.clock.wake();
        Ok(())
    }
}
