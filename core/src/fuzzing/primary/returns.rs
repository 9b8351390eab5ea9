//! What a worker hands back when it leaves: connections that it has, and what is none.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::Rig;
use crate::fuzzing::Choices;
use crate::handback::{Fit, fit};
use crate::sys::cmsg;
use crate::wire;

impl Rig {
    /// Whether it keeps to the rules is decided here.
    pub(super) fn hands_back(&mut self, who: usize, choices: &mut Choices) {
        let (what, which) = (choices.byte(), choices.byte());
        let puppet = &self.puppets[who];
        let expected = self.expected.get_mut(&puppet.id).expect("an expectation");
        let Some(returns) = &puppet.returns else { return };
        let share = puppet.shares.get(usize::from(which & 7));
        let (listener, name) = share.map_or((1 << 30, None), |share| (share.listener, Some(share.name)));
        let connection = self.taken.pop();
        let fits = |file: &OwnedFd| {
            name.is_some_and(|name| matches!(fit(file.as_fd(), &name), Fit::Connection(_) | Fit::Unconnected))
        };
        let is_own = expected.shares.contains(&listener) || expected.withdrawn.contains(&listener);
        let mut words = wire::handback(listener);
        let mut files: Vec<BorrowedFd> = connection.iter().map(AsFd::as_fd).collect();
        let mut breaks = !is_own || !connection.as_ref().is_some_and(fits);
        match what % 8 {
            // Its own socket.
            5 => (files, breaks) = (vec![returns.as_fd()], true),
            // One too many.
            6 => {
                files.push(returns.as_fd());
                breaks |= files.len() == 2;
            }
            7 => {
                words[usize::from(which) % words.len()] ^= 1 << (what >> 5);
                breaks = true;
            }
            _ => {}
        }
        match cmsg::send(returns.as_fd(), [&words, b""], &files) {
            // Another listener of its own may be meant by a bit that was turned.
            Ok(()) if breaks && what % 8 == 7 => expected.lost = true,
            Ok(()) if breaks => {
                expected.offended |= !expected.lost;
                expected.lost = true;
            }
            Ok(()) => {}
            // The primary takes no more, or not now.
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN | Errno::EAGAIN | Errno::ETOOMANYREFS) => {}
            Err(errno) => panic!("handing back failed otherwise than it may: {errno}"),
        }
    }
}
