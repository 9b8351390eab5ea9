//! Rotation among the puppets: who stands in line takes by itself, and for the others the primary does.

use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::life::Life;
use crate::fuzzing::puppet::{Share, elsewhere};
use crate::sys::socket;
use crate::wire::FromWorker;

/// What tells that all who wait at a socket are woken, or that somebody comes.
struct Bell(Epoll);

impl Bell {
    fn at(share: &Share) -> Self {
        let bell = Epoll(elsewhere(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap().0));
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        bell.add(share.socket.as_ref().unwrap(), EpollEvent::new(flags, 0)).unwrap();
        let bell = Self(bell);
        bell.rang();
        bell
    }

    /// Since it was last asked.
    fn rang(&self) -> bool {
        self.0.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO) == Ok(1)
    }
}

/// What one in line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// Stands at its end.
    Stand,
    /// It is woken for a client, steps out before it accepts, and says so.
    StepOut,
    /// It is woken for one, and says that it takes nothing for now.
    Pause,
    /// It is woken for one, and closes its share.
    Close,
}

impl Life {
    pub(super) fn in_line(&mut self, who: usize, key: &str, what: Move) -> TestCaseResult {
        let id = self.puppets[who].id;
        self.begin_late(who, key)?;
        let at = self.puppets[who].shares.iter().position(|share| share.key == key && share.may_stand());
        let Some(at) = at.filter(|_| self.model.workers[&id].serves(key)) else { return Ok(()) };
        let listener = self.puppets[who].shares[at].listener;
        if what == Move::Stand {
            self.puppets[who].shares[at].stand();
            self.puppets[who].say(FromWorker::Seat { listener }).unwrap();
            return Ok(());
        }
        let stands = self.puppets[who].shares[at].stands();
        if what != Move::StepOut && !(stands && self.others_stand(id, key)) {
            return Ok(());
        }
        let bell = Bell::at(&self.puppets[who].shares[at]);
        self.come(key, 1)?;
        if let Some(waits) = self.model.open.get_mut(key) {
            *waits = waits.map(|waits| waits + 1);
        }
        bell.rang();
        match what {
            Move::StepOut => {
                self.puppets[who].shares[at].step_out();
                self.puppets[who].say(FromWorker::Unseat { listener }).unwrap();
            }
            Move::Pause => self.puppets[who].say(FromWorker::Pause { listener }).unwrap(),
            _ => {
                drop(self.puppets[who].shares.remove(at));
                self.puppets[who].say(FromWorker::Close { listener }).unwrap();
                self.model.workers.entry(id).or_default().shares.remove(key);
                self.model.left_by.insert(key.to_owned(), id);
            }
        }
        self.settle();
        let mut line = self.puppets.iter().flat_map(|puppet| &puppet.shares).filter(|share| share.key == key);
        let one = line.find(|share| share.is_common()).and_then(|share| share.socket.as_ref());
        let left = one.and_then(|one| socket::listening_backlog(one.as_fd()).ok().flatten());
        let is_left = left.is_some_and(|left| left > 0);
        prop_assert!(
            !is_left || what == Move::StepOut || bell.rang(),
            "{:?}: somebody waits, and nobody was woken",
            what
        );
        if what == Move::Pause {
            self.puppets[who].say(FromWorker::Resume { listener }).unwrap();
        }
        Ok(())
    }

    /// One that has done something else since it has its place begins, whatever was taken out of its mailbox meanwhile.
    fn begin_late(&mut self, who: usize, key: &str) -> TestCaseResult {
        let waits =
            |life: &Self| life.puppets[who].shares.iter().any(|share| share.key == key && share.waits_for_begin());
        if !waits(self) || !self.model.workers[&self.puppets[who].id].serves(key) {
            return Ok(());
        }
        self.take_everything()?;
        prop_assert!(!waits(self), "it was never told to begin");
        Ok(())
    }

    /// A name without a file is taken for as long as somebody has its socket, also one who is about to leave the address that was given up.
    pub(super) fn close_given_up(&mut self) {
        for puppet in &mut self.puppets {
            let worker = &self.model.workers[&puppet.id];
            let is_name = |share: &Share| share.is_common() && share.key.starts_with("unix:@");
            puppet.shares.retain(|share| worker.has(&share.key) || !is_name(share));
        }
    }

    fn others_stand(&self, id: u32, key: &str) -> bool {
        let others = self.puppets.iter().filter(|puppet| puppet.id != id && self.model.workers[&puppet.id].serves(key));
        others.flat_map(|puppet| &puppet.shares).any(|share| share.key == key && share.stands())
    }
}
