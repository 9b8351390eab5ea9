#![allow(unsafe_code)] // mmap(2), madvise(2) and a page that the kernel clears behind our back.
//! Notices that this process is a copy made by fork(2), at the price of one memory load.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

const MEMBER: u32 = 1;

/// A private page that the kernel wipes in a forked child (MADV_WIPEONFORK, Linux 4.14). A getpid(2) on every call
/// would do the same and cost a system call on the path of each connection; pthread_atfork would miss clone(2).
pub(crate) struct ForkGuard {
    word: NonNull<AtomicU32>,
}

// SAFETY: the page is only touched through an atomic.
unsafe impl Send for ForkGuard {}
// SAFETY: as for Send.
unsafe impl Sync for ForkGuard {}

const PAGE: usize = 4096;

impl ForkGuard {
    /// A guard for the calling process. `None` only when the kernel has no memory left.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: a fresh anonymous mapping touches no existing memory.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the page was mapped just above and is ours.
        unsafe { libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) };
        let guard = Self { word: NonNull::new(page.cast())? };
        guard.renew();
        Some(guard)
    }

    /// True in a copy of the process for which `renew` was not called.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        // SAFETY: the mapping lives as long as the guard, and zero (wiped) is a valid value.
        unsafe { self.word.as_ref() }.load(Ordering::Relaxed) != MEMBER
    }

    /// Declares the calling process a member: in a new guard, and in a child that the library itself made.
    pub(crate) fn renew(&self) {
        // SAFETY: as in `is_forked`.
        unsafe { self.word.as_ref() }.store(MEMBER, Ordering::Relaxed);
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `new` with this length and no reference to it is left.
        unsafe { libc::munmap(self.word.as_ptr().cast(), PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_guard_is_not_forked_and_a_child_is() {
        let guard = ForkGuard::new().unwrap();
        assert!(!guard.is_forked());
        // SAFETY: the child only reads one word and leaves with _exit.
        match unsafe { libc::fork() } {
            0 => {
                let code = if guard.is_forked() { 7 } else { 1 };
                // SAFETY: _exit never returns and runs nothing of ours.
                unsafe { libc::_exit(code) }
            }
            child => {
                let mut status = 0;
                // SAFETY: waits for our own child.
                unsafe { libc::waitpid(child, &mut status, 0) };
                assert_eq!(libc::WEXITSTATUS(status), 7);
            }
        }
    }
}
