//! A reload: all slots, a few at a time, and what comes of it.

use super::Fleet;
use super::action::{Action, Generation, News, Outcome, Phase};
use super::coming::Why;
use super::run::{ReloadOptions, Run, When};

/// Why a reload was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// Another runs.
    Reload,
    Stop,
}

impl Fleet {
    /// Replaces all workers by those of a new generation, whose number this is.
    pub(crate) fn reload(&mut self, options: ReloadOptions) -> Result<Generation, Busy> {
        if self.stopping {
            return Err(Busy::Stop);
        }
        if self.run.is_some() && options.when == When::Idle {
            return Err(Busy::Reload);
        }
        self.last_generation += 1;
        let generation = self.last_generation;
        if let Some((other, _)) = self.queued.take() {
            self.tell_superseded(other);
        }
        if self.run.is_some() && options.when == When::Later {
            self.queued = Some((generation, options));
        } else {
            self.supersede("another reload was begun");
            self.begin(generation, options);
        }
        self.go_on();
        Ok(generation)
    }

    fn begin(&mut self, generation: Generation, options: ReloadOptions) {
        let todo = self.indices().filter(|slot| self.slots[*slot as usize].is_wanted()).collect();
        self.wanted.clear();
        self.run = Some(Run { generation, options, todo, swapped: Vec::new(), back: None, rolling: false });
        self.tell(Phase::Checking, "");
    }

    fn tell(&mut self, phase: Phase, reason: &str) {
        let Some(run) = &self.run else { return };
        let replaced = run.swapped.len();
        let (generation, reason) = (run.generation, reason.to_owned());
        self.actions.push_back(Action::Tell(News::Reload { generation, phase, replaced, reason }));
    }

    pub(super) fn tell_superseded(&mut self, generation: Generation) {
        let (phase, reason) = (Phase::Ended(Outcome::Superseded), "another reload was begun".to_owned());
        self.actions.push_back(Action::Tell(News::Reload { generation, phase, replaced: 0, reason }));
    }

    /// Ends what runs, for something else. What was swapped stays.
    pub(super) fn supersede(&mut self, reason: &str) {
        self.drop_comings(|why| matches!(why, Why::Reload | Why::Rollback));
        self.end(Outcome::Superseded, reason);
    }

    fn end(&mut self, outcome: Outcome, reason: &str) {
        self.tell(Phase::Ended(outcome), reason);
        if let Some(run) = self.run.take()
            && outcome == Outcome::Done
        {
            self.before = Some(std::mem::replace(&mut self.in_force, run.generation));
        }
    }

    /// A worker of the reload has failed.
    pub(super) fn give_up(&mut self, reason: &str) {
        let Some(run) = &mut self.run else { return };
        if run.back.is_some() {
            return;
        }
        if run.swapped.is_empty() || run.options.keep {
            let kept = run.swapped.len();
            let reason = match kept {
                0 => reason.to_owned(),
                kept => format!("{reason}; {kept} slots have the new workers, and keep them"),
            };
            self.drop_comings(|why| why == Why::Reload);
            self.end(Outcome::Refused, &reason);
            return;
        }
        // The newest first.
        run.todo = run.swapped.iter().rev().map(|(slot, _)| *slot).collect();
        run.back = Some((reason.to_owned(), run.swapped.len()));
        self.drop_comings(|why| why == Why::Reload);
    }

    /// Begins what can be begun, and ends what has ended.
    pub(super) fn go_on_with_run(&mut self) {
        loop {
            if self.run.is_none()
                && let Some((generation, options)) = self.queued.take()
            {
                self.begin(generation, options);
            }
            let Some(run) = &mut self.run else { return };
            let (back, parallel) = (run.back.is_some(), run.options.parallel.max(1));
            let why = if back { Why::Rollback } else { Why::Reload };
            let busy = self.slots.iter_mut().filter_map(|slot| slot.coming_mut()).filter(|coming| coming.why == why);
            let busy = busy.count();
            if busy >= parallel {
                return;
            }
            if let Some(slot) = run.todo.pop_front() {
                let (terms, generation) = (run.options.terms, run.generation);
                let before = run.swapped.iter().find(|(other, _)| *other == slot).map(|(_, before)| *before);
                let generation = if back { before.unwrap_or(generation) } else { generation };
                self.send_for(slot, (why, generation, terms));
                continue;
            }
            if busy > 0 {
                return;
            }
            match run.back.take() {
                None => self.end(Outcome::Done, ""),
                Some((reason, _)) => self.end(Outcome::RolledBack, &reason),
            }
        }
    }

    /// A slot was swapped for the run.
    pub(super) fn note_swapped(&mut self, slot: u32, before: Generation, why: Why) {
        let Some(run) = &mut self.run else { return };
        match why {
            Why::Reload => run.swapped.push((slot, before)),
            Why::Rollback => run.swapped.retain(|(other, _)| *other != slot),
            Why::Restart | Why::Recycle => return,
        }
        if why == Why::Reload && !std::mem::replace(&mut run.rolling, true) {
            self.tell(Phase::Rolling, "");
        }
    }

    /// A slot could not be put back, for this reason.
    pub(super) fn note_not_back(&mut self, reason: &str) {
        if let Some(Run { back: Some((told, _)), .. }) = &mut self.run {
            told.push_str("; not all could be put back: ");
            told.push_str(reason);
        }
    }
}
