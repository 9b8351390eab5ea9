//! The queue of connections passed to one listener of one worker, as the primary sees it.
//!
//! It is a pair of packet sockets. The worker has a copy of the receiving end; the primary keeps one too, so that the
//! queue outlives its reader and what nobody has received can be taken back (rule R1). Who receives a packet first owns
//! the connection; the kernel decides.

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;

use crate::scoreboard::Board;
use crate::sys::sockaddr::SockAddr;
use crate::sys::{Sys, cmsg, descriptor, socket};
use crate::wire::{self, Parcel};

/// A connection on its way: accepted or taken back, and not yet in a mailbox.
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: SockAddr,
}

pub(crate) struct Mailbox {
    sender: OwnedFd,
    receiver: OwnedFd,
    window: u32,
    /// At least this many more connections fit; a lower bound, since the worker takes without telling.
    room: u32,
    /// Connections that are sent at the end of the turn.
    staged: VecDeque<Connection>,
    sent: u64,
    /// What `sent` was when the mailbox was last seen empty: it still is while that has not grown.
    empty_at: Cell<u64>,
    taken_back: u64,
    stop_sent: bool,
    /// The BEGIN is the parcel of this number, counted from 1; 0: there is none.
    begin: u64,
    /// It could not be sent, or was taken back with what others were to have.
    owes_begin: bool,
    /// Its worker's.
    pub(crate) board: Arc<Board>,
}

// What STOP and NOP may need beyond the window.
const CONTROL_PARCELS: u32 = 4;

impl Mailbox {
    /// A mailbox in which at most `window` connections wait, for the worker whose board it is.
    pub(crate) fn new(window: u32, board: Arc<Board>) -> Sys<Self> {
        let (sender, receiver) = socket::packet_pair()?;
        // What its worker sent there would lie unread, and what is attached to it would be closed with it (see `sys::attached`).
        socket::finish_receiving(sender.as_fd());
        // The kernel doubles what is asked. EPOLLOUT comes when the queue has fallen below a quarter of this.
        socket::set_send_buffer(sender.as_fd(), window as usize * parcel_cost() / 2)?;
        Ok(Self {
            sender,
            receiver,
            window,
            room: window,
            staged: VecDeque::new(),
            sent: 0,
            empty_at: Cell::new(0),
            taken_back: 0,
            stop_sent: false,
            begin: 0,
            owes_begin: false,
            board,
        })
    }

    /// How many connections may wait.
    pub(crate) fn window(&self) -> u32 {
        self.window
    }

    /// Changes how many connections may wait. What waits already stays.
    pub(crate) fn set_window(&mut self, window: u32) {
        if socket::set_send_buffer(self.sender.as_fd(), window as usize * parcel_cost() / 2).is_ok() {
            self.window = window;
            self.room = 0;
        }
    }

    /// Makes room for so many more than the window, as far as the system lets.
    pub(crate) fn make_room(&mut self, count: usize) {
        let all = self.waiting() as usize + count + CONTROL_PARCELS as usize;
        // Without it sending fails, which every sender has to expect.
        let _ = socket::set_send_buffer(self.sender.as_fd(), all * parcel_cost());
    }

    /// The end whose copy the worker gets.
    pub(crate) fn receiver(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// The end to watch for room.
    pub(crate) fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }

    /// How many more connections may be put in. Asks the kernel only when the last answer is used up.
    pub(crate) fn room(&mut self) -> u32 {
        if self.room == 0 {
            self.room = self.window.saturating_sub(self.waiting() + self.staged.len() as u32);
        }
        self.room
    }

    /// Sets a connection aside, to be sent in this turn, and a place for it.
    pub(crate) fn stage(&mut self, connection: Connection) {
        self.room = self.room.saturating_sub(1);
        self.staged.push_back(connection);
    }

    /// The next connection that was set aside.
    pub(crate) fn next_staged(&mut self) -> Option<Connection> {
        self.staged.pop_front()
    }

    /// For the fuzzer and the tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn has_nothing_staged(&self) -> bool {
        self.staged.is_empty()
    }

    /// Parcels that the worker has not received.
    pub(crate) fn waiting(&self) -> u32 {
        if self.empty_at.get() == self.sent {
            return 0;
        }
        // Not known is not empty: what waits unseen would be taken back from nobody.
        let Ok(bytes) = socket::unread_by_peer(self.sender.as_fd()) else { return 1 };
        let waiting = parcels(bytes);
        if waiting == 0 {
            self.empty_at.set(self.sent);
        }
        waiting
    }

    /// Of these, what is neither BEGIN nor STOP.
    pub(crate) fn clients_waiting(&self) -> u32 {
        let waiting = self.waiting();
        let begin_waits = self.begin > self.sent.saturating_sub(waiting.into());
        waiting.saturating_sub(u32::from(self.stop_sent) + u32::from(begin_waits))
    }

    /// Parcels that the worker has received; grows while it is alive.
    pub(crate) fn taken(&self) -> u64 {
        self.sent.saturating_sub(self.taken_back).saturating_sub(self.waiting().into())
    }

    /// Puts a connection in. The caller closes its copy in the same turn, whatever comes (rule R2).
    pub(crate) fn send(&mut self, connection: &Connection) -> Sys<()> {
        let parts = [wire::CONNECTION_HEADER.as_slice(), connection.peer.as_bytes()];
        let outcome = cmsg::send(self.sender.as_fd(), parts, &[connection.socket.as_fd()]);
        match outcome {
            Ok(()) => {
                self.sent += 1;
                self.board.put();
            }
            Err(_) => self.room = 0,
        }
        outcome
    }

    /// Puts in a parcel that the worker takes and ignores; its disappearance shows that the worker is back.
    pub(crate) fn send_nop(&mut self) -> Sys<()> {
        if self.owes_begin() { self.send_begin() } else { self.send_control(&wire::NOP) }
    }

    pub(crate) fn owe_begin(&mut self) {
        self.owes_begin = true;
    }

    /// Its worker is still to be told that it has turns.
    pub(crate) fn owes_begin(&self) -> bool {
        self.owes_begin && !self.stop_sent
    }

    /// Puts in what lets the worker accept by itself from here on.
    pub(crate) fn send_begin(&mut self) -> Sys<()> {
        self.send_control(&wire::BEGIN)?;
        (self.begin, self.owes_begin) = (self.sent, false);
        Ok(())
    }

    /// Puts in the last parcel. Once only.
    pub(crate) fn send_stop(&mut self) -> Sys<()> {
        if self.stop_sent {
            return Ok(());
        }
        match self.send_control(&wire::STOP) {
            // Its worker has shut its end down already, which is the same to it.
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => return Ok(()),
            outcome => outcome?,
        }
        self.stop_sent = true;
        Ok(())
    }

    fn send_control(&mut self, parcel: &[u8]) -> Sys<()> {
        match cmsg::send(self.sender.as_fd(), [parcel, b""], &[]) {
            Err(Errno::EAGAIN) => {
                let room = (self.window + CONTROL_PARCELS) as usize * parcel_cost();
                socket::set_send_buffer(self.sender.as_fd(), room)?;
                cmsg::send(self.sender.as_fd(), [parcel, b""], &[])?;
            }
            outcome => outcome?,
        }
        self.sent += 1;
        self.room = self.room.saturating_sub(1);
        Ok(())
    }

    /// The receiving socket is the worker's, too: what it has the kernel add to each packet would leave no room for the descriptor.
    fn reclaim_plainly(&self) {
        socket::receive_plainly(self.receiver.as_fd());
    }

    /// Nobody reads from it any more: is there a connection in it? Parcels before the first one are thrown away.
    pub(crate) fn is_left_with_some(&mut self) -> bool {
        self.reclaim_plainly();
        loop {
            let mut header = [0; wire::CONNECTION_HEADER.len()];
            match cmsg::receive(self.receiver.as_fd(), &mut header, 0, libc::MSG_PEEK) {
                Ok(received) if received.length == header.len() && header != wire::CONNECTION_HEADER => {
                    let _ = cmsg::receive(self.receiver.as_fd(), &mut header, 0, 0);
                    self.taken_back += 1;
                }
                _ => return self.waiting() > 0,
            }
        }
    }

    /// Takes the oldest connection that the worker has not received. EMFILE before anything is lost.
    pub(crate) fn take_back(&mut self) -> Sys<Option<Connection>> {
        let outcome = self.take_oldest();
        if self.owes_begin() {
            // Its worker may be back before anything else is put in.
            let _ = self.send_begin();
        }
        if matches!(outcome, Ok(None)) && self.stop_sent && self.waiting() == 0 {
            // The queue was emptied down to its last parcel, which the worker still has to see.
            self.stop_sent = false;
            let _ = self.send_stop();
        }
        outcome
    }

    /// Drops what nobody is to have any more, one by one, so that none lingers: with the queue it would as its worker likes.
    pub(crate) fn empty(&mut self) {
        while let Ok(Some(_)) = self.take_oldest() {}
    }

    fn take_oldest(&mut self) -> Sys<Option<Connection>> {
        self.reclaim_plainly();
        loop {
            descriptor::free_descriptor(self.receiver.as_fd())?;
            let mut buffer = [0; wire::PARCEL_MAX];
            let mut received = match cmsg::receive(self.receiver.as_fd(), &mut buffer, 1, libc::MSG_CMSG_CLOEXEC) {
                Err(Errno::EAGAIN) => return Ok(None),
                outcome => outcome?,
            };
            if received.length == 0 {
                // The worker has shut its end down.
                return Ok(None);
            }
            self.taken_back += 1;
            self.room = 0;
            let parcel = Parcel::decode(&buffer[..received.length]);
            self.owes_begin |= matches!(parcel, Ok(Parcel::Begin));
            if let (Ok(Parcel::Connection(peer)), Some(socket)) = (parcel, received.take_fd(0)) {
                self.board.took_back();
                // The worker may have received it without taking it (MSG_PEEK).
                socket::do_not_linger(socket.as_fd());
                return Ok(Some(Connection { socket, peer }));
            }
        }
    }
}

/// How many parcels the kernel counts so many bytes for.
///
/// Rounded to the nearest: the kernel signals room while one byte of a freed packet is still counted (sock_wfree), and
/// whoever took that byte for a packet would wait for another signal for ever.
fn parcels(bytes: usize) -> u32 {
    let cost = parcel_cost();
    ((bytes + cost / 2) / cost) as u32
}

/// What the kernel counts for one parcel (`truesize`), the same for every length that we send. Measured once, since
/// it differs between kernels.
fn parcel_cost() -> usize {
    static COST: OnceLock<usize> = OnceLock::new();
    const USUAL: usize = 768;
    *COST.get_or_init(|| {
        let measure = || {
            let (sender, receiver) = socket::packet_pair()?;
            cmsg::send(sender.as_fd(), [&[0; wire::PARCEL_MAX], b""], &[receiver.as_fd()])?;
            socket::unread_by_peer(sender.as_fd())
        };
        measure().ok().filter(|cost| *cost > 0).unwrap_or(USUAL)
    })
}

#[cfg(test)]
mod tests;
