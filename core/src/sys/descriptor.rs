#![allow(unsafe_code)] // Descriptors come from the kernel as numbers.
//! Descriptors of any kind: owning new ones, copies, flags, and how many there are.
//!
//! None of ours is 0, 1 or 2. If a program was started with these closed, its own open(2) and dup2(2) decide what they become, and its
//! messages go there.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::{Sys, check, panics};

/// The first number that is not standard input, output or error.
const FIRST: RawFd = 3;

/// A descriptor that the kernel has just made, close-on-exec, for us alone.
pub(super) fn take(number: RawFd) -> Sys<OwnedFd> {
    // SAFETY: the caller has it from the kernel, and nobody else knows it.
    above_standard(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The same for one that is owned already.
pub(super) fn above_standard(fd: OwnedFd) -> Sys<OwnedFd> {
    if fd.as_raw_fd() >= FIRST { Ok(fd) } else { moved(&fd, true) }
}

/// A connection must not be lost: if no other number is free it keeps its own.
pub(super) fn connection(fd: OwnedFd, close_on_exec: bool) -> OwnedFd {
    if fd.as_raw_fd() >= FIRST {
        return fd;
    }
    moved(&fd, close_on_exec).unwrap_or(fd)
}

/// Moves a descriptor off these numbers, which will mean something else in a child.
pub(crate) fn clear_of(numbers: &[RawFd], mut fd: OwnedFd) -> Sys<OwnedFd> {
    // All keep their numbers until a good one is found.
    let mut held = Vec::new();
    while numbers.contains(&fd.as_raw_fd()) {
        let next = moved(&fd, true)?;
        held.push(std::mem::replace(&mut fd, next));
    }
    Ok(fd)
}

fn moved(fd: &OwnedFd, close_on_exec: bool) -> Sys<OwnedFd> {
    let command = if close_on_exec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
    // SAFETY: fcntl with integers only.
    let higher = check(unsafe { libc::fcntl(fd.as_raw_fd(), command, FIRST) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(higher) })
}

/// Duplicates a descriptor, close-on-exec.
pub(crate) fn duplicate(fd: BorrowedFd) -> Sys<OwnedFd> {
    panics::point();
    // SAFETY: fcntl with integers only.
    let copy = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) })?;
    take(copy)
}

/// A copy of a descriptor that is known only by number. EBADF when it is not open.
pub(crate) fn duplicate_number(number: i32) -> Sys<OwnedFd> {
    if number < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: the number is only used for the fcntl inside, which checks it.
    duplicate(unsafe { BorrowedFd::borrow_raw(number) })
}

/// EMFILE when the descriptor table is full. recvmsg(2) would succeed then and lose the descriptors it brings, so callers ask before each
/// receive. It costs two cheap system calls, and fewer cannot answer the question.
pub(crate) fn free_descriptor(any: BorrowedFd) -> Sys<()> {
    panics::point();
    duplicate(any).map(drop)
}

/// True if the descriptor table has room for `count` more, or for so many eighths of its size if that is less. Free numbers are
/// counted, since there may be none beyond the lowest.
pub(crate) fn has_room_for((count, eighths): (u64, u64), any: BorrowedFd) -> bool {
    let Ok((most, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) else { return true };
    let Ok(first) = duplicate(any).map(|next| next.as_raw_fd()) else { return false };
    let most = most.min(i32::MAX as u64);
    let wanted = count.min(most * eighths / 8);
    // The caller wants the first for itself.
    (first + 1..most as i32).filter(|number| !is_open(*number)).take(wanted as usize).count() as u64 == wanted
}

pub(super) fn is_open(number: i32) -> bool {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) }).is_ok()
}

/// The flag belongs to the open file, so another process that has the file may have changed it.
pub(crate) fn is_nonblocking(fd: BorrowedFd) -> Sys<bool> {
    // SAFETY: fcntl with integers only.
    Ok(check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })? & libc::O_NONBLOCK != 0)
}

pub(crate) fn set_nonblocking(fd: BorrowedFd) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: fcntl with integers only.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// The same for a new connection, which has no flags yet.
pub(crate) fn make_nonblocking(fd: BorrowedFd) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }).map(|_| ())
}

/// Takes O_NONBLOCK off a connection.
pub(crate) fn make_blocking(fd: BorrowedFd) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, 0) }).map(|_| ())
}

pub(crate) fn set_close_on_exec(fd: BorrowedFd) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) }).map(|_| ())
}

pub(crate) fn clear_close_on_exec(fd: BorrowedFd) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) }).map(|_| ())
}

/// Takes over a descriptor that is known only by number.
///
/// The caller vouches that nobody else will close it: it is our channel, which the environment names and the caller has verified.
pub(crate) fn adopt_number(number: i32) -> OwnedFd {
    // SAFETY: the caller has verified that the number is our channel, which the primary made for this process.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Calls `look` with a descriptor that is known only by number. `None`: no descriptor can have it.
pub(crate) fn with_number<T>(number: i32, look: impl FnOnce(BorrowedFd) -> T) -> Option<T> {
    // SAFETY: the number is only looked at; each call made with it checks it in the kernel.
    (number >= 0).then(|| look(unsafe { BorrowedFd::borrow_raw(number) }))
}

/// The open descriptors above 2, as proc_pid_fd(5) lists them. Without /proc, the lowest numbers that there may be.
pub(crate) fn open_numbers() -> Vec<RawFd> {
    const LOWEST: std::ops::Range<RawFd> = 3..64;
    let Ok(listed) = std::fs::read_dir("/proc/self/fd") else { return LOWEST.collect() };
    let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|number| *number > 2).collect()
}

/// Gives this thread a descriptor table of its own, with nothing in it but 0, 1 and 2, so that other tests do not disturb its counts.
#[cfg(test)]
pub(crate) fn own_descriptors() {
    // SAFETY: integers only; the caller is a new thread that has nothing open.
    check(unsafe { libc::unshare(libc::CLONE_FILES) }).unwrap();
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) }).unwrap();
}

/// Lowers the limit of descriptors for as long as it lives.
#[cfg(test)]
pub(crate) struct LimitedDescriptors((u64, u64));

#[cfg(test)]
impl LimitedDescriptors {
    pub(crate) fn to(count: u64) -> Self {
        let before = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, count, before.1).unwrap();
        Self(before)
    }
}

#[cfg(test)]
impl Drop for LimitedDescriptors {
    fn drop(&mut self) {
        let Self((soft, hard)) = *self;
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::super::socket;
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn room_is_counted_and_not_where_the_first_gap_is() {
        let thread = std::thread::spawn(|| {
            own_descriptors();
            let limit = LimitedDescriptors::to(128);
            let (one, _other) = socket::packet_pair().unwrap();
            let mut copies: Vec<OwnedFd> = std::iter::from_fn(|| duplicate(one.as_fd()).ok()).collect();
            assert!(!has_room_for((4, 2), one.as_fd()));
            copies.drain(2..6);
            assert!(has_room_for((3, 2), one.as_fd()), "the first of four is the asker's");
            assert!(!has_room_for((4, 2), one.as_fd()));
            copies.drain(40..80);
            assert!(
                has_room_for((32, 2), one.as_fd()) && has_room_for((1000, 2), one.as_fd()),
                "a quarter at most is asked for"
            );
            drop(limit);
        });
        thread.join().unwrap();
    }
}
