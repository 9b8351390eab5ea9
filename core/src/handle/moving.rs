//! A socket file whose name is gone. Whoever has come to it is served; whoever comes later finds another socket of that name.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::Handle;
use crate::bind::{Bound, ListenFlags, Shape};
use crate::mechanism::Passed;
use crate::settings::MechanismKind;
use crate::sys::Sys;
use crate::sys::door;
use crate::sys::poll::Poll;
use crate::sys::unix_path::{Place, SocketFile};

impl Handle {
    /// Clients who come to its place do not get here.
    pub(crate) fn is_lost(&self, place: &Place) -> bool {
        self.closing.is_none() && self.file.as_ref().is_some_and(|file| file.is_lost(place))
    }

    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Keeps how its socket was made, for another in its place.
    pub(crate) fn keep_making(&mut self, flags: ListenFlags, shape: &Shape) {
        self.made_with = self.has_file().then(|| (flags, shape.clone()));
    }

    /// How another socket is made in the place of the one it has; `None` where workers have that.
    pub(crate) fn made_with(&self) -> Option<(ListenFlags, &Shape)> {
        let can_move = matches!(self.mechanism(), MechanismKind::Passed | MechanismKind::Rotation);
        let (flags, shape) = self.made_with.as_ref().filter(|_| can_move)?;
        Some((*flags, shape))
    }

    /// Accepts from another socket from here on. An error: it has the old one as before.
    pub(crate) fn move_to(&mut self, bound: Bound, poll: &Poll) -> Sys<()> {
        match self.accept_from(bound.socket, poll) {
            Ok(()) => (self.name, self.file) = (bound.name, bound.file),
            Err(errno) => {
                bound.file.iter().for_each(SocketFile::remove);
                return Err(errno);
            }
        }
        Ok(())
    }

    fn accept_from(&mut self, socket: OwnedFd, poll: &Poll) -> Sys<()> {
        if !self.flow.take_all(self.sockets.route_mut()) {
            return Err(Errno::EMFILE);
        }
        let mut old = self.sockets.replace(Box::new(Passed::new(socket)), poll)?;
        // Somebody may have looked the name up before it went.
        old.each_socket(&mut |one| door::shut(one, false));
        old.accept_last();
        self.flow.take_all(&mut *old);
        self.flow.count_begun(old.begun());
        // Whoever has the old one takes no part in another.
        for member in self.members.iter_mut() {
            member.leave_line();
        }
        self.give_turns();
        Ok(())
    }
}
