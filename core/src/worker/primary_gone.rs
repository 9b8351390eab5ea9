//! What happens in a worker at its primary's death.
//!
//! End of file on the channel and the mailboxes tells of it at once, unless another process holds copies of the primary's ends (a
//! child that the primary's program forked and that did not exec). The watch thread then makes the same end of file by shutting our
//! own ends down.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys::{cmsg, descriptor, socket};
use crate::wire;

/// How long it takes at most from the end of file to the end of the process.
pub(super) const DEATH_IS_CERTAIN: Duration = Duration::from_millis(100);

static GONE: AtomicBool = AtomicBool::new(false);
/// The process number of the primary that is watched, or 0.
static FOLLOWED: AtomicU32 = AtomicU32::new(0);
/// This process leaves when it has finished, with or without a primary.
static LEAVING: AtomicBool = AtomicBool::new(false);
static TO_WAKE: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
/// The watch says so. An end of file may also mean that the primary has done with this worker.
static CERTAIN: AtomicBool = AtomicBool::new(false);
/// Listening sockets that other workers have, too. What happens to them happens to all.
static SHARED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());
/// See `EndsWithUs`.
static TO_END: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// True once anybody in this process has seen it.
pub(crate) fn is_known() -> bool {
    GONE.load(Ordering::SeqCst)
}

/// An error once anybody in this process has seen it.
pub(crate) fn check() -> Result<()> {
    if is_known() { Err(seen()) } else { Ok(()) }
}

/// Somebody has seen it. From now on every call says so, whatever its own descriptor still shows.
pub(crate) fn seen() -> Error {
    let first = !GONE.swap(true, Ordering::SeqCst);
    // The watch thread may be too late: this process may end before it runs, and a child live on with copies. If a lock is taken,
    // another thread is here, or this is a signal handler that interrupted one.
    if let Ok(sockets) = TO_WAKE.try_lock() {
        shut_down(&sockets);
    }
    if let Ok(sockets) = SHARED.try_lock() {
        if first && !sockets.is_empty() {
            await_end(|| CERTAIN.load(Ordering::SeqCst));
        }
        if CERTAIN.load(Ordering::SeqCst) {
            shut_down(&sockets);
        }
    }
    Error::primary_gone()
}

/// A dying process's sockets are closed a moment before it has ended. Waits for that, or until `known`.
fn await_end(known: impl Fn() -> bool) {
    let late = Instant::now() + DEATH_IS_CERTAIN;
    while !known() && Instant::now() < late {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Wakes whoever waits on this socket when the primary dies.
pub(crate) fn wake_at_death(socket: BorrowedFd) {
    TO_WAKE.lock().unwrap_or_else(PoisonError::into_inner).push(socket.as_raw_fd());
}

/// The same for one that other workers have, too, once the death is certain.
pub(crate) fn wake_all_at_death(socket: BorrowedFd) {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner).push(socket.as_raw_fd());
}

/// Must be called before the socket is closed.
pub(crate) fn forget(socket: RawFd) {
    for known in [&TO_WAKE, &SHARED] {
        known.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| *known != socket);
    }
}

/// A copy of an own socket that the program accepts from by itself. It is shut down when a process that has lost its primary ends,
/// because a child of that process could keep it open.
pub(super) struct EndsWithUs(Mutex<Option<OwnedFd>>);

impl EndsWithUs {
    pub(super) fn new(socket: OwnedFd) -> Self {
        TO_END.lock().unwrap_or_else(PoisonError::into_inner).push(socket.as_raw_fd());
        Self(Mutex::new(Some(socket)))
    }

    pub(super) fn close(&self) {
        if let Some(socket) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let number = socket.as_raw_fd();
            TO_END.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| *known != number);
        }
    }
}

impl Drop for EndsWithUs {
    fn drop(&mut self) {
        self.close();
    }
}

/// False if that primary is watched already: several threads of a program may join one after the other, and one watch is enough.
pub(crate) fn follow(primary: u32) -> bool {
    FOLLOWED.swap(primary, Ordering::SeqCst) != primary
}

/// Takes `follow` back: the watch could not be started.
pub(crate) fn unfollow() {
    FOLLOWED.store(0, Ordering::SeqCst);
}

/// From here on this process goes on without a primary.
pub(crate) fn outlive() {
    LEAVING.store(true, Ordering::SeqCst);
}

/// The watch thread's last act before it ends the process. False if the process is to go on without a primary.
pub(crate) fn end() -> bool {
    let ends = !LEAVING.load(Ordering::SeqCst);
    if ends {
        shut_down(&TO_END.lock().unwrap_or_else(PoisonError::into_inner));
        if CERTAIN.load(Ordering::SeqCst) {
            shut_down(&SHARED.lock().unwrap_or_else(PoisonError::into_inner));
        }
        drop_untaken();
    }
    ends
}

/// The same in a process that ends by itself. One that learns of the death by itself may have done so before the watch thread, for
/// which it waits. Shutting sockets down earlier could cost a primary that lives what waits in them.
pub(crate) fn end_if_orphaned() {
    if follows() {
        let is_over =
            || TO_END.lock().unwrap_or_else(PoisonError::into_inner).is_empty() || LEAVING.load(Ordering::SeqCst);
        await_end(|| is_known() || is_over());
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

/// Runs on the watch thread of a process that learns of the death by itself.
pub(crate) fn note_death() {
    CERTAIN.store(true, Ordering::SeqCst);
    GONE.store(true, Ordering::SeqCst);
}

/// This process learns of its primary's death by itself.
pub(crate) fn follows() -> bool {
    FOLLOWED.load(Ordering::SeqCst) != 0
}

/// Connections still in the mailboxes would stay open in a child that has copies of them, and their clients would wait.
fn drop_untaken() {
    let known = TO_WAKE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for socket in known {
        descriptor::with_number(socket, empty);
    }
}

/// Other sockets than mailboxes have nothing, or something that nobody will read.
fn empty(socket: BorrowedFd) {
    let mut buffer = [0; wire::PARCEL_MAX];
    while cmsg::receive(socket, &mut buffer, 1, libc::MSG_CMSG_CLOEXEC).is_ok_and(|received| received.length > 0) {}
}

/// Runs on the watch thread.
pub(crate) fn on_death() {
    note_death();
    shut_down(&TO_WAKE.lock().unwrap_or_else(PoisonError::into_inner));
    shut_down(&SHARED.lock().unwrap_or_else(PoisonError::into_inner));
}
