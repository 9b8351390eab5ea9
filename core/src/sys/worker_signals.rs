#![allow(unsafe_code)] // sigaction(2) and what runs inside a signal handler.
//! Makes SIGTERM, SIGINT and SIGHUP requests to leave, in a worker whose program asked for it, so that a signal to the whole process
//! group (Ctrl-C, systemd's KillMode=control-group, timeout(1)) cuts nothing short. A signal from the primary ends this process as it
//! would without a handler: it comes from the deadline, or from the program's own `kill`.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use super::Sys;
use super::pid::own_pid;

/// What the handler holds.
const HELD: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

static OWN: AtomicI32 = AtomicI32::new(0);
static CHANNEL: AtomicI32 = AtomicI32::new(-1);
/// The frame that asks to leave, as one word.
static REQUEST: AtomicU64 = AtomicU64::new(0);
/// The primary's process number in this process's namespace. 0: it is outside.
static PRIMARY: AtomicI32 = AtomicI32::new(0);
/// A signal came from outside the namespace, where the primary is as well.
static FROM_OUTSIDE: AtomicBool = AtomicBool::new(false);

/// Installs the handler for each of the three signals that has its default action, and returns which these are. The caller has to unblock
/// them. `channel` must stay open as long as the process; the handler sends `request` on it.
pub(crate) fn hold(channel: BorrowedFd, request: [u8; 8]) -> Sys<Vec<i32>> {
    // A socketpair(2)'s peer is who made it (unix(7), SO_PEERCRED).
    let primary = nix::sys::socket::getsockopt(&channel, nix::sys::socket::sockopt::PeerCredentials)?;
    PRIMARY.store(primary.pid(), Ordering::SeqCst);
    REQUEST.store(u64::from_ne_bytes(request), Ordering::SeqCst);
    CHANNEL.store(channel.as_raw_fd(), Ordering::SeqCst);
    OWN.store(own_pid(), Ordering::SeqCst);
    let mut ours = Vec::new();
    for signal in HELD {
        // SAFETY: sigaction is plain data.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: only asks.
        super::check(unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) })?;
        if action.sa_sigaction != libc::SIG_DFL {
            continue;
        }
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_SIGINFO | libc::SA_ONSTACK;
        action.sa_mask = set_of(&HELD);
        // SAFETY: the handler uses atomics and async-signal-safe calls only.
        super::check(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) })?;
        ours.push(signal);
    }
    Ok(ours)
}

/// Unblocks what `hold` gave, in the calling thread.
pub(crate) fn unblock(held: &[i32]) {
    // SAFETY: a set of our own.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &set_of(held), std::ptr::null_mut()) };
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain data.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: a set of our own and a signal that exists.
        unsafe { libc::sigaddset(&mut set, *signal) };
    }
    set
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let errno = nix::errno::Errno::last();
    // SAFETY: the kernel passes a siginfo_t (SA_SIGINFO).
    let info = unsafe { &*info };
    // SAFETY: set for what a process sent, and for nothing else looked at.
    let (code, sender) = (info.si_code, unsafe { info.si_pid() });
    // A copy of the worker made by fork(2) must not ask on the worker's behalf.
    if own_pid() != OWN.load(Ordering::SeqCst) || is_primary(code, sender) || !ask() {
        end_by(signal);
    }
    errno.set();
}

fn is_primary(code: libc::c_int, sender: libc::pid_t) -> bool {
    let sent = matches!(code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL);
    match PRIMARY.load(Ordering::SeqCst) {
        // Processes outside cannot be told apart: the first signal counts as one to the group.
        0 => sent && sender == 0 && FROM_OUTSIDE.swap(true, Ordering::SeqCst),
        primary => sent && sender == primary,
    }
}

/// Asks the primary to be disconnected, waiting for room. False if the channel cannot be used. A primary that is gone need not be asked:
/// this worker leaves within a second.
fn ask() -> bool {
    let channel = CHANNEL.load(Ordering::SeqCst);
    let frame = REQUEST.load(Ordering::SeqCst).to_ne_bytes();
    loop {
        // SAFETY: pointer and length describe 8 bytes of our own.
        let sent =
            unsafe { libc::send(channel, frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        if sent >= 0 {
            return true;
        }
        let mut room = libc::pollfd { fd: channel, events: libc::POLLOUT, revents: 0 };
        match nix::errno::Errno::last() as libc::c_int {
            libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN => return true,
            // SAFETY: one pollfd of our own.
            libc::EAGAIN => drop(unsafe { libc::poll(&mut room, 1, -1) }),
            // Memory comes back, but no readiness event tells when.
            // SAFETY: waits for nothing.
            libc::ENOMEM | libc::ENOBUFS => drop(unsafe { libc::poll(std::ptr::null_mut(), 0, 10) }),
            libc::EINTR => {}
            _ => return false,
        }
    }
}

/// What the signal does without a handler.
fn end_by(signal: libc::c_int) {
    let only = set_of(&[signal]);
    // SAFETY: sigaction is plain data, and all zero is SIG_DFL.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::sigaction(signal, &default, std::ptr::null_mut()) };
    // SAFETY: integers only; it waits until it is unblocked.
    unsafe { libc::raise(signal) };
    // SAFETY: a set of our own.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &only, std::ptr::null_mut()) };
}
