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

impl Life {
    pub(super) fn stand(&mut self, who: usize, key: &str, stands: bool) -> TestCaseResult {
        let id = self.puppets[who].id;
        if !self.model.workers[&id].serves(key) {
            return Ok(());
        }
        let others_stand = self.others_stand(id, key);
        let Some(share) = self.puppets[who].shares.iter().find(|share| share.key == key && share.may_stand()) else {
            return Ok(());
        };
        let listener = share.listener;
        if stands {
            share.stand();
            self.puppets[who].say(FromWorker::Seat { listener }).unwrap();
            self.settle();
            return Ok(());
        }
        // A client comes, for whom it was woken; it steps out before it accepts.
        let (stood, bell) = (share.stands(), Bell::at(share));
        share.step_out();
        let waits = self.model.open.get(key).copied().flatten();
        self.come(key, 1)?;
        if let Some(waits) = waits {
            self.model.open.insert(key.to_owned(), Some(waits + 1));
        }
        bell.rang();
        self.puppets[who].say(FromWorker::Unseat { listener }).unwrap();
        self.settle();
        let share = self.puppets[who].shares.iter().find(|share| share.listener == listener).unwrap();
        let socket = share.socket.as_ref().unwrap().as_fd();
        let is_left = socket::listening_backlog(socket).ok().flatten().unwrap_or(0) > 0;
        prop_assert!(!(is_left && stood && others_stand) || bell.rang(), "somebody waits, and nobody was woken");
        Ok(())
    }

    fn others_stand(&self, id: u32, key: &str) -> bool {
        let others = self.puppets.iter().filter(|puppet| puppet.id != id && self.model.workers[&puppet.id].serves(key));
        others.flat_map(|puppet| &puppet.shares).any(|share| share.key == key && share.stands())
    }
}
