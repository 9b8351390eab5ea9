#![allow(unsafe_code)] // mmap(2), madvise(2) and a page that the kernel clears behind our back.
//! Notices that this process is a copy made by fork(2), at the cost of two memory loads.

use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// Which process this is: a mark in a private page that the kernel wipes in a forked child (MADV_WIPEONFORK, Linux 4.14). getpid(2) would
/// cost a system call for each connection, and pthread_atfork would miss clone(2).
///
/// All guards of a process share one page. A child's page has no mark until one of its own guards makes a new one, which no process
/// before it had.
pub(crate) struct ForkGuard {
    page: &'static AtomicU32,
    mark: AtomicU32,
}

static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
/// The last mark of this process and those it descends from.
static LAST: AtomicU32 = AtomicU32::new(WIPED);
/// If a filter keeps the kernel from wiping the page, the number of the process that is no copy; else 0.
static UNWIPED: AtomicI32 = AtomicI32::new(0);

const WIPED: u32 = 0;
const BYTES: usize = 4096;

/// This process's page. `None` only when the kernel has no memory left.
fn page() -> Option<&'static AtomicU32> {
    let known = PAGE.load(Ordering::Acquire);
    if !known.is_null() {
        // SAFETY: once set it is a page that is never unmapped, and zero (wiped) is a valid value.
        return Some(unsafe { &*known });
    }
    // SAFETY: a fresh anonymous mapping touches no existing memory.
    let made = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if made == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the page was mapped just above and is ours.
    if unsafe { libc::madvise(made, BYTES, libc::MADV_WIPEONFORK) } != 0 {
        UNWIPED.store(super::pid::own_pid(), Ordering::SeqCst);
    }
    let set = PAGE.compare_exchange(std::ptr::null_mut(), made.cast(), Ordering::AcqRel, Ordering::Acquire);
    if set.is_err() {
        // SAFETY: another thread was quicker, and nobody has seen this one.
        unsafe { libc::munmap(made, BYTES) };
    }
    // SAFETY: as above.
    Some(unsafe { &*PAGE.load(Ordering::Acquire) })
}

/// The calling process's mark. Makes one if there is none.
fn mark_of(page: &AtomicU32) -> u32 {
    let fresh = match page.load(Ordering::SeqCst) {
        WIPED => LAST.fetch_add(1, Ordering::SeqCst) + 1,
        mark => return mark,
    };
    match page.compare_exchange(WIPED, fresh, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => fresh,
        Err(mark) => mark,
    }
}

impl ForkGuard {
    /// A guard for the calling process. `None` only when the kernel has no memory left.
    pub(crate) fn new() -> Option<Self> {
        let page = page()?;
        Some(Self { page, mark: AtomicU32::new(mark_of(page)) })
    }

    /// True in a copy of the process for which `renew` was not called.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.page.load(Ordering::Relaxed) != self.mark.load(Ordering::Relaxed) || is_unwiped_copy()
    }

    /// Declares the calling process a member, in a child that the library itself made.
    pub(crate) fn renew(&self) {
        self.mark.store(mark_of(self.page), Ordering::SeqCst);
        if UNWIPED.load(Ordering::SeqCst) != 0 {
            UNWIPED.store(super::pid::own_pid(), Ordering::SeqCst);
        }
    }
}

#[inline]
fn is_unwiped_copy() -> bool {
    let owner = UNWIPED.load(Ordering::Relaxed);
    owner != 0 && owner != super::pid::own_pid()
}

/// Answers a question in a forked child. It may only read and write a few words.
#[cfg(test)]
pub(crate) fn in_a_child(question: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child does as said above and leaves with _exit.
    match unsafe { libc::fork() } {
        0 => {
            let code = if question() { 7 } else { 1 };
            // SAFETY: _exit never returns and runs nothing of ours.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(child, &mut status, 0) };
            libc::WEXITSTATUS(status) == 7
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_guard_is_not_forked_and_a_child_is() {
        let guard = ForkGuard::new().unwrap();
        assert!(!guard.is_forked());
        assert!(in_a_child(|| guard.is_forked()));
        assert!(!guard.is_forked());
    }

    #[test]
    fn a_guard_of_the_childs_own_leaves_the_others_as_they_are() {
        let (guard, renewed) = (ForkGuard::new().unwrap(), ForkGuard::new().unwrap());
        assert!(in_a_child(|| {
            let own = ForkGuard::new().unwrap();
            let before = guard.is_forked() && renewed.is_forked() && !own.is_forked();
            renewed.renew();
            let grandchild = in_a_child(|| own.is_forked() && renewed.is_forked() && guard.is_forked());
            before && grandchild && guard.is_forked() && !renewed.is_forked()
        }));
        assert!(!guard.is_forked() && !renewed.is_forked());
    }
}
