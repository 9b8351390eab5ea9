//! What happens in a worker at its primary's death.
//!
//! End of file on the channel and the mailboxes says so at once, unless some other process holds copies of the
//! primary's ends (a child that the primary's program forked and that did not exec). The watch thread then makes the
//! same end of file by shutting our own ends down.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys::{cmsg, descriptor, socket};
use crate::wire;

static GONE: AtomicBool = AtomicBool::new(false);
/// The process of the primary that is watched, or 0.
static FOLLOWED: AtomicU32 = AtomicU32::new(0);
/// This process leaves when it has finished, primary or not.
static LEAVING: AtomicBool = AtomicBool::new(false);
static TO_WAKE: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
/// Listening sockets that a loop of the program's own accepts from, and which are therefore shut down only when that loop has ended.
static TO_END: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// True once anybody here has seen it.
pub(crate) fn is_known() -> bool {
    GONE.load(Ordering::SeqCst)
}

/// An error if anybody here has seen it.
pub(crate) fn check() -> Result<()> {
    if is_known() { Err(seen()) } else { Ok(()) }
}

/// Somebody saw it: from now on every call says so, whatever its own descriptor still shows.
pub(crate) fn seen() -> Error {
    GONE.store(true, Ordering::SeqCst);
    // Not left to the watch thread: this process may have ended before that runs, and a child of its own go on. Somebody who has
    // the lock is another thread, or the one that a signal handler has interrupted here.
    if let Ok(sockets) = TO_WAKE.try_lock() {
        shut_down(&sockets);
    }
    Error::primary_gone()
}

/// Whoever waits on this socket is woken when the primary dies.
pub(crate) fn wake_at_death(socket: BorrowedFd) {
    TO_WAKE.lock().unwrap_or_else(PoisonError::into_inner).push(socket.as_raw_fd());
}

/// To be called before the socket is closed.
pub(crate) fn forget(socket: RawFd) {
    TO_WAKE.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| *known != socket);
}

/// This listening socket is shut down at the end of a process whose primary is dead: a child of its own could keep it open.
pub(crate) fn end_with_us(socket: BorrowedFd) {
    TO_END.lock().unwrap_or_else(PoisonError::into_inner).push(socket.as_raw_fd());
}

/// To be called before the socket is closed.
pub(crate) fn spare(socket: RawFd) {
    TO_END.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| *known != socket);
}

/// False if this process is ended with that primary already: a process may be its worker in several threads of a program, one
/// after the other, and they need one watch.
pub(crate) fn follow(primary: u32) -> bool {
    FOLLOWED.swap(primary, Ordering::SeqCst) != primary
}

/// The watch could not be started.
pub(crate) fn unfollow() {
    FOLLOWED.store(0, Ordering::SeqCst);
}

/// From here on this process goes on without a primary.
pub(crate) fn outlive() {
    LEAVING.store(true, Ordering::SeqCst);
}

/// The watch thread's last act in a process that it is about to end. False if that goes on without a primary.
pub(crate) fn end() -> bool {
    let ends = !LEAVING.load(Ordering::SeqCst);
    if ends {
        shut_down(&TO_END.lock().unwrap_or_else(PoisonError::into_inner));
        drop_untaken();
    }
    ends
}

/// The same in a process that ends by itself. One that has learned of its primary's death in a way of its own may be faster than
/// the watch thread, for which it waits up to `patience`: until then a primary that lives must not lose what waits in its sockets.
pub(crate) fn end_if_orphaned(patience: Duration) {
    let late = Instant::now() + patience;
    let is_over = || TO_END.lock().unwrap_or_else(PoisonError::into_inner).is_empty() || LEAVING.load(Ordering::SeqCst);
    while !is_known() && !is_over() && Instant::now() < late {
        std::thread::sleep(Duration::from_millis(1));
    }
    if is_known() {
        end();
    }
}

fn shut_down(sockets: &[RawFd]) {
    for socket in sockets {
        descriptor::with_number(*socket, socket::finish_receiving);
    }
}

/// Runs on the watch thread of a process that follows its primary by itself.
pub(crate) fn note_death() {
    GONE.store(true, Ordering::SeqCst);
}

/// This process learns of its primary's death in a way of its own.
pub(crate) fn follows() -> bool {
    FOLLOWED.load(Ordering::SeqCst) != 0
}

/// What this process has not taken out of its mailboxes would stay open in a child of its own that has copies of them, and the
/// clients would wait for it.
fn drop_untaken() {
    let known = TO_WAKE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for socket in known {
        descriptor::with_number(socket, empty);
    }
}

/// Those that are no mailboxes give nothing, or what nobody will read.
fn empty(socket: BorrowedFd) {
    let mut buffer = [0; wire::PARCEL_MAX];
    while cmsg::receive(socket, &mut buffer, 1, libc::MSG_CMSG_CLOEXEC).is_ok_and(|received| received.length > 0) {}
}

/// Runs on the watch thread.
pub(crate) fn on_death() {
    GONE.store(true, Ordering::SeqCst);
    shut_down(&TO_WAKE.lock().unwrap_or_else(PoisonError::into_inner));
}
