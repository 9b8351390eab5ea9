#![allow(unsafe_code)] // What the thread works with is given over to it and never freed.
//! A worker's small thread that waits for the primary's death.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::errno::Errno;

use super::{Sys, detached};

/// What the thread needs. Never freed, since the thread lives as long as the process.
struct Watch {
    primary: RawFd,
    /// The pipe's inode, if the descriptor is a pipe's.
    pipe: Option<u64>,
    on_death: fn(),
    /// Called before the process is ended, to act for the last time. False: the process is to live on.
    ends: fn() -> bool,
    grace_ms: libc::c_int,
}

/// What the thread works with. A static rather than its stack, because leak checkers must find it in a forked child, which does not have
/// the thread.
static GIVEN: AtomicPtr<Watch> = AtomicPtr::new(std::ptr::null_mut());

/// After a wait that failed.
const ASK_AGAIN_MS: libc::c_int = 100;

/// Starts a thread that, once `primary` (a pidfd, or a pipe that hangs up) says that the primary has exited, calls `on_death`, waits
/// `grace_ms` and, if `ends` says so, ends this process with SIGKILL. It blocks every signal, so the program's handlers never run on it.
///
/// A thread is needed because nothing else both lets a worker finish what it holds and ends one that never calls us:
/// PR_SET_PDEATHSIG kills at once, and also when only the thread that started the worker ends (prctl(2)).
pub(crate) fn start(primary: OwnedFd, on_death: fn(), ends: fn() -> bool, grace_ms: i32) -> Sys<()> {
    let pipe = pipe_inode(primary.as_raw_fd());
    let watch = Box::new(Watch { primary: primary.as_raw_fd(), pipe, on_death, ends, grace_ms });
    let argument = Box::into_raw(watch);
    GIVEN.store(argument, Ordering::SeqCst);
    // EAGAIN: there are too many threads or memory is short. That passes, and a worker needs this thread.
    let outcome = super::patiently(|| {
        // What `run` works with is set.
        match detached::start(run, std::ptr::null_mut()) {
            Err(Errno::EAGAIN) => Err(Errno::ENOMEM),
            outcome => outcome,
        }
    });
    if outcome.is_ok() {
        // The thread waits on it until the process ends.
        std::mem::forget(primary);
    } else {
        GIVEN.store(std::ptr::null_mut(), Ordering::SeqCst);
        // SAFETY: no thread was made, so the box is still ours.
        drop(unsafe { Box::from_raw(argument) });
    }
    outcome
}

extern "C" fn run(_: *mut libc::c_void) -> *mut libc::c_void {
    // SAFETY: `start` set it to a Watch that is never freed.
    let watch = unsafe { &*GIVEN.load(Ordering::SeqCst) };
    let mut waited = libc::pollfd { fd: watch.primary, events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one pollfd of our own.
        let ready = unsafe { libc::poll(&mut waited, 1, -1) };
        if ready > 0 {
            break;
        }
        // ENOMEM, or EINVAL where RLIMIT_NOFILE is 0: asking again at once would spin.
        // SAFETY: no descriptors, only the timeout is used.
        unsafe { libc::poll(std::ptr::null_mut(), 0, ASK_AGAIN_MS) };
    }
    // A program that calls closefrom(3) closes the descriptor under us, and the number may mean something else by now.
    let still_ours = match watch.pipe {
        Some(inode) => pipe_inode(watch.primary) == Some(inode),
        None => is_pidfd(watch.primary),
    };
    if !still_ours {
        return std::ptr::null_mut();
    }
    (watch.on_death)();
    // SAFETY: no descriptors, only the timeout is used.
    unsafe { libc::poll(std::ptr::null_mut(), 0, watch.grace_ms) };
    if !(watch.ends)() {
        return std::ptr::null_mut();
    }
    // SAFETY: ends the own process; SIGKILL because a handler or a loop must not keep an orphan alive.
    unsafe { libc::kill(super::pid::own_pid(), libc::SIGKILL) };
    std::ptr::null_mut()
}

fn pipe_inode(fd: RawFd) -> Option<u64> {
    // SAFETY: stat is plain data for which all-zero is a valid value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fills a struct of our own; a number that is not open is an error.
    let outcome = unsafe { libc::fstat(fd, &mut stat) };
    (outcome == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFIFO).then_some(stat.st_ino)
}

fn is_pidfd(fd: RawFd) -> bool {
    // SAFETY: signal 0 only checks; the other arguments are integers.
    let outcome = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, 0, 0) };
    outcome == 0 || !matches!(Errno::last(), Errno::EBADF | Errno::EINVAL)
}
