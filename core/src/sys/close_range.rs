#![allow(unsafe_code)] // close_range(2), getdents64(2) and what a child may do before exec have no safe wrapper.
//! Closing all descriptors but a few, in a child that may not allocate.

use std::os::fd::RawFd;

use super::{Sys, check};

/// Closes every descriptor above 2 that is not in the sorted list (close_range(2), Linux 5.9). If a filter refuses that, it closes one by
/// one what proc_pid_fd(5) lists, or else every number that the limit allows.
pub(super) fn close_all_but(keep: &[RawFd]) -> Sys<()> {
    let mut from: libc::c_uint = 3;
    for fd in keep.iter().map(|fd| *fd as libc::c_uint).filter(|fd| *fd >= 3) {
        if fd > from {
            close_between(from, fd - 1)?;
        }
        from = fd + 1;
    }
    close_between(from, libc::c_uint::MAX)
}

/// Async-signal-safe. The child has a descriptor table of its own (no CLONE_FILES) and uses only what is kept.
fn close_between(first: libc::c_uint, last: libc::c_uint) -> Sys<()> {
    // SAFETY: integers only; see above.
    match check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }) {
        Ok(_) => Ok(()),
        Err(_) => match close_listed(first, last) {
            Ok(()) => Ok(()),
            Err(_) => close_numbers(first, last),
        },
    }
}

/// Offsets of the name and the record length in a `struct linux_dirent64` (getdents64(2)).
const NAME: usize = 19;

const LENGTH: usize = 16;

fn close_listed(first: libc::c_uint, last: libc::c_uint) -> Sys<()> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is NUL-terminated.
    let directory = check(unsafe { libc::open(c"/proc/thread-self/fd".as_ptr(), flags) })?;
    let mut entries = [0_u8; 2048];
    let outcome = loop {
        // SAFETY: the kernel writes at most as many bytes as there are.
        let read = unsafe { libc::syscall(libc::SYS_getdents64, directory, entries.as_mut_ptr(), entries.len()) };
        let read = match check(read) {
            Ok(0) => break Ok(()),
            Ok(read) => read as usize,
            Err(errno) => break Err(errno),
        };
        let mut at = 0;
        while let Some(entry) = entries.get(at..read).filter(|entry| entry.len() > NAME) {
            let digits = entry[NAME..].iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(None, |number: Option<u32>, digit| {
                number.unwrap_or(0).checked_mul(10)?.checked_add(u32::from(digit - b'0'))
            });
            if let Some(number) = number.filter(|number| (first..=last).contains(number) && *number != directory as u32)
            {
                // SAFETY: see `close_between`.
                unsafe { libc::close(number as RawFd) };
            }
            at += usize::from(u16::from_ne_bytes([entry[LENGTH], entry[LENGTH + 1]])).max(NAME);
        }
    };
    // SAFETY: opened above.
    unsafe { libc::close(directory) };
    outcome
}

fn close_numbers(first: libc::c_uint, last: libc::c_uint) -> Sys<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills a struct of our own.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    let end = limit.rlim_cur.min(RawFd::MAX as libc::rlim_t) as libc::c_uint;
    for number in first..end.min(last.saturating_add(1)) {
        // SAFETY: see `close_between`.
        unsafe { libc::close(number as RawFd) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::descriptor;
    use super::*;

    #[test]
    fn descriptors_are_closed_also_without_close_range() {
        for close in [close_between, close_listed, close_numbers] {
            std::thread::spawn(move || {
                descriptor::own_descriptors();
                // SAFETY: the thread has a descriptor table of its own, in which nobody else closes anything.
                let made: Vec<RawFd> = (0..40).map(|_| unsafe { libc::dup(2) }).collect();
                let (first, last) = (made[3] as libc::c_uint, made[30] as libc::c_uint);
                close(first, last).unwrap();
                for (index, fd) in made.iter().enumerate() {
                    // SAFETY: only asks.
                    let open = unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0;
                    assert_eq!(open, !(3..=30).contains(&index), "{fd}");
                    if open {
                        // SAFETY: made above.
                        unsafe { libc::close(*fd) };
                    }
                }
            })
            .join()
            .unwrap();
        }
    }
}
