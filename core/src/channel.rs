//! The primary's end of a packet socket whose other end is a worker's. Sending never blocks: what does not fit is kept, up to a
//! limit. What a worker sends cannot make the primary wait either: descriptors, which no worker may send, are refused or looked for
//! (see `sys::attached`).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::cmsg::Received;
use crate::sys::{Sys, attached, cmsg, descriptor, socket};

/// Bytes that may wait in memory for a worker that does not read.
const QUEUE_LIMIT: usize = 1 << 20;
/// Descriptors that may be kept for it, beside those that the socket holds: enough for the 64 unanswered listens that it may
/// have, with two each.
const FDS_LIMIT: usize = 128;

struct Queued {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A socket and what could not be sent on it yet.
pub(crate) struct Channel {
    socket: OwnedFd,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    queued_fds: usize,
    armed: bool,
    /// Nobody can attach a descriptor to what is received here.
    sealed: bool,
}

/// What is left after an attempt to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pending {
    Nothing,
    /// Room will be signalled (EPOLLOUT).
    Room,
    /// The kernel is short of something that no readiness tells about; try again later.
    Later,
}

impl Channel {
    /// For both directions.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let sealed = attached::refuse(socket.as_fd());
        Self::with(socket, sealed)
    }

    /// For what the primary sends. Nobody can put anything in on the other side.
    pub(crate) fn sending(socket: OwnedFd) -> Self {
        socket::finish_receiving(socket.as_fd());
        Self::with(socket, true)
    }

    fn with(socket: OwnedFd, sealed: bool) -> Self {
        Self { socket, queue: VecDeque::new(), queued_bytes: 0, queued_fds: 0, armed: false, sealed }
    }

    /// The next packet. One with descriptors stays where it is, with `fds_lost`; the channel is to be closed then.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Sys<Received> {
        if !self.sealed && attached::next_has_some(self.socket.as_fd())? {
            return Ok(Received { length: 0, fds: Default::default(), fds_lost: true, truncated: false });
        }
        cmsg::receive(self.socket.as_fd(), buffer, 0, 0)
    }

    /// Closes it, whatever lies in it unread. Apart from drop, because a forked worker drops its copy.
    pub(crate) fn close(self) {
        if !self.sealed {
            attached::close(self.socket);
        }
    }

    /// Sends or keeps a packet. EAGAIN when the limit is reached, EPIPE when the other end is gone.
    pub(crate) fn send(&mut self, parts: [&[u8]; 2], fds: &[BorrowedFd]) -> Sys<Pending> {
        if self.queue.is_empty() {
            match cmsg::send(self.socket.as_fd(), parts, fds) {
                Ok(()) => return Ok(Pending::Nothing),
                Err(errno) if pending(errno).is_some() => {}
                Err(Errno::ECONNRESET | Errno::ENOTCONN) => return Err(Errno::EPIPE),
                Err(errno) => return Err(errno),
            }
        }
        let length = parts[0].len() + parts[1].len();
        if self.queued_bytes + length > QUEUE_LIMIT || self.queued_fds + fds.len() > FDS_LIMIT {
            return Err(Errno::EAGAIN);
        }
        let fds = fds.iter().map(|fd| descriptor::duplicate(*fd)).collect::<Sys<Vec<_>>>()?;
        self.queued_bytes += length;
        self.queued_fds += fds.len();
        self.queue.push_back(Queued { bytes: parts.concat(), fds });
        self.flush()
    }

    /// Packets that wait for room.
    pub(crate) fn kept(&self) -> usize {
        self.queue.len()
    }

    /// Whether room is of interest, when that has changed since the last call.
    pub(crate) fn rearm(&mut self) -> Option<bool> {
        let wanted = !self.queue.is_empty();
        let changed = wanted != self.armed;
        self.armed = wanted;
        changed.then_some(wanted)
    }

    /// Descriptors that are kept.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn kept_fds(&self) -> usize {
        self.queued_fds
    }

    /// Room is of interest, as `rearm` said last.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Sends what was kept, as far as it goes.
    pub(crate) fn flush(&mut self) -> Sys<Pending> {
        while let Some(first) = self.queue.front() {
            let mut fds = [self.socket.as_fd(); cmsg::MAX_FDS];
            for (place, fd) in fds.iter_mut().zip(&first.fds) {
                *place = fd.as_fd();
            }
            match cmsg::send(self.socket.as_fd(), [&first.bytes, b""], &fds[..first.fds.len().min(cmsg::MAX_FDS)]) {
                Ok(()) => {
                    self.queued_bytes -= first.bytes.len();
                    self.queued_fds -= first.fds.len();
                    self.queue.pop_front();
                }
                Err(errno) => match pending(errno) {
                    Some(state) => return Ok(state),
                    None => {
                        // Nobody reads any more. Whoever kept it would be told of room for it without end.
                        self.queue.clear();
                        (self.queued_bytes, self.queued_fds) = (0, 0);
                        return Err(Errno::EPIPE);
                    }
                },
            }
        }
        Ok(Pending::Nothing)
    }
}

/// Whether a failed send is worth another try, and what will tell when.
pub(crate) fn pending(errno: Errno) -> Option<Pending> {
    match errno {
        Errno::EAGAIN => Some(Pending::Room),
        // Too many descriptors of this user are in flight (unix(7)), or memory is short.
        Errno::ETOOMANYREFS | Errno::ENOBUFS | Errno::ENOMEM => Some(Pending::Later),
        _ => None,
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_kept_in_order_up_to_a_limit() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        let mut channel = Channel::new(ours);
        let mut accepted = 0_u32;
        loop {
            match channel.send([&accepted.to_ne_bytes(), &[0; 60000]], &[]) {
                Ok(_) => accepted += 1,
                Err(errno) => break assert_eq!(errno, Errno::EAGAIN),
            }
        }
        assert!(accepted as usize * 60000 > QUEUE_LIMIT);
        let mut buffer = vec![0; 70000];
        for expected in 0..accepted {
            channel.flush().unwrap();
            let received = cmsg::receive(theirs.as_fd(), &mut buffer, 0, 0).unwrap();
            assert_eq!(received.length, 60004);
            assert_eq!(buffer[..4], expected.to_ne_bytes());
        }
        assert_eq!(channel.flush(), Ok(Pending::Nothing));
        drop(theirs);
        assert_eq!(channel.send([b"x", b""], &[]), Err(Errno::EPIPE));
    }

    #[test]
    fn what_was_read_makes_room_for_as_much_again() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        let mut channel = Channel::new(ours);
        let mut buffer = vec![0; 70000];
        let fds = [theirs.as_fd()];
        for round in 0..3 {
            let mut kept = 0;
            while channel.send([b"", &[0; 60000]], &[]).is_ok() {
                kept = channel.kept();
            }
            assert_eq!(kept, QUEUE_LIMIT / 60000, "round {round}");
            let left = QUEUE_LIMIT % 60000;
            assert!(channel.send([&vec![0; left], b""], &fds).is_ok(), "to the last byte");
            assert_eq!(channel.send([b"x", b""], &[]), Err(Errno::EAGAIN));
            assert_eq!(channel.kept_fds(), 1);
            while channel.kept() > 0 {
                cmsg::receive(theirs.as_fd(), &mut buffer, 1, libc::MSG_CMSG_CLOEXEC).unwrap();
                channel.flush().unwrap();
            }
            assert_eq!(channel.kept_fds(), 0);
            while cmsg::receive(theirs.as_fd(), &mut buffer, 1, libc::MSG_CMSG_CLOEXEC).is_ok() {}
        }
    }

    #[test]
    fn descriptors_are_kept_up_to_a_limit_of_their_own() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        let mut channel = Channel::new(ours);
        while channel.kept() == 0 {
            channel.send([b"", &[0; 60000]], &[]).unwrap();
        }
        let fds = [theirs.as_fd(); 2];
        let kept = (0..).take_while(|_| channel.send([b"x", b""], &fds).is_ok()).count();
        assert_eq!((kept, channel.kept_fds()), (FDS_LIMIT / 2, FDS_LIMIT));
        assert!(channel.send([b"x", b""], &[]).is_ok(), "bytes alone still fit");
    }

    #[test]
    fn nothing_is_kept_for_one_that_receives_no_more() {
        let (ours, theirs) = socket::packet_pair().unwrap();
        let mut channel = Channel::new(ours);
        while channel.send([b"", &[0; 60000]], &[]).is_ok() {}
        assert!(channel.kept() > 0);
        assert!(channel.send([b"x", b""], &[theirs.as_fd()]).is_ok(), "a small one still fits");
        assert_eq!((channel.kept_fds(), channel.rearm()), (1, Some(true)));
        // Its buffer has room from here on, of which the poll would tell without end.
        socket::finish_receiving(theirs.as_fd());
        while cmsg::receive(theirs.as_fd(), &mut [0; 8], 0, 0).is_ok_and(|received| received.length > 0) {}
        assert_eq!(channel.flush(), Err(Errno::EPIPE));
        assert_eq!((channel.kept(), channel.kept_fds(), channel.rearm()), (0, 0, Some(false)));
    }
}
