#![allow(unsafe_code)] // mmap(2) and atomics in memory that another process writes too.
//! Memory that two processes share: one page of a sealed file without a name.

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

use super::{Sys, check, descriptor};

/// Bytes of the file, whatever the machine's pages are.
pub(crate) const PAGE: usize = 4096;

/// memfd_create(2), Linux 6.3. Where `vm.memfd_noexec` is 2 no file can be made without.
const MFD_NOEXEC_SEAL: libc::c_uint = libc::MFD_NOEXEC_SEAL;

/// A page in which another process reads and writes at the same time. It holds nothing but integers, for each of which
/// every value is possible.
pub(crate) struct SharedPage {
    start: NonNull<u8>,
}

// SAFETY: the page is only touched through atomics.
unsafe impl Send for SharedPage {}
// SAFETY: as for Send.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// A new page of zeroes, and the descriptor by which another process gets it. Nobody can shrink the file any more:
    /// touching what is not there would be SIGBUS.
    pub(crate) fn new(name: &CStr) -> Sys<(Self, OwnedFd)> {
        // Growing a file beyond this limit is SIGXFSZ, also one without a name.
        if getrlimit(Resource::RLIMIT_FSIZE)?.0 < PAGE as libc::rlim_t {
            return Err(Errno::EFBIG);
        }
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        let file = match memory_file(name, flags | MFD_NOEXEC_SEAL) {
            Err(Errno::EINVAL) => memory_file(name, flags),
            outcome => outcome,
        }?;
        nix::unistd::ftruncate(&file, PAGE as libc::off_t)?;
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: fcntl with integers only.
        check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
        Ok((Self::of(file.as_fd())?, file))
    }

    /// The page of a file from another process; EINVAL for one that is too short or may become so.
    pub(crate) fn of(file: BorrowedFd) -> Sys<Self> {
        // SAFETY: fcntl with integers only.
        let seals = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) })?;
        let length = nix::sys::stat::fstat(file)?.st_size;
        if seals & libc::F_SEAL_SHRINK == 0 || length < PAGE as libc::off_t {
            return Err(Errno::EINVAL);
        }
        // SAFETY: a fresh mapping touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Self { start: NonNull::new(start.cast()).ok_or(Errno::ENOMEM)? })
    }

    /// The integer at an offset.
    pub(crate) fn u32_at<const OFFSET: usize>(&self) -> &AtomicU32 {
        const { assert!(OFFSET.is_multiple_of(mem::align_of::<AtomicU32>()) && OFFSET + 4 <= PAGE) };
        // SAFETY: inside the mapping.
        let at = unsafe { self.start.add(OFFSET) };
        // SAFETY: aligned, and mapped for as long as we live; whoever else touches it is a process of its own, whose writes
        // may leave any value, each of which is valid.
        unsafe { at.cast::<AtomicU32>().as_ref() }
    }

    /// One of so many integers that begin at an offset, by its index; the last for a greater one.
    pub(crate) fn u32_among<const OFFSET: usize, const COUNT: usize>(&self, index: usize) -> &AtomicU32 {
        const { assert!(OFFSET.is_multiple_of(mem::align_of::<AtomicU32>()) && COUNT > 0 && OFFSET + 4 * COUNT <= PAGE) };
        // SAFETY: inside the mapping, as the index is below COUNT.
        let at = unsafe { self.start.add(OFFSET + 4 * index.min(COUNT - 1)) };
        // SAFETY: as in `u32_at`.
        unsafe { at.cast::<AtomicU32>().as_ref() }
    }

    /// As `u32_at`.
    pub(crate) fn u64_at<const OFFSET: usize>(&self) -> &AtomicU64 {
        const { assert!(OFFSET.is_multiple_of(mem::align_of::<AtomicU64>()) && OFFSET + 8 <= PAGE) };
        // SAFETY: as in `u32_at`.
        let at = unsafe { self.start.add(OFFSET) };
        // SAFETY: as in `u32_at`.
        unsafe { at.cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with this length, and no reference to it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), PAGE) };
    }
}

fn memory_file(name: &CStr, flags: libc::c_uint) -> Sys<OwnedFd> {
    // SAFETY: the name is NUL-terminated.
    let fd: RawFd = check(unsafe { libc::memfd_create(name.as_ptr(), flags) })?;
    descriptor::take(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn both_sides_see_one_page_that_nobody_can_resize_or_seal_further() {
        let (ours, file) = SharedPage::new(c"test").unwrap();
        let theirs = SharedPage::of(file.as_fd()).unwrap();
        ours.u64_at::<0>().store(7, Ordering::Relaxed);
        theirs.u32_at::<64>().store(8, Ordering::Relaxed);
        assert_eq!(theirs.u64_at::<0>().load(Ordering::Relaxed), 7);
        assert_eq!(ours.u32_at::<64>().load(Ordering::Relaxed), 8);
        assert_eq!(nix::unistd::ftruncate(&file, 0), Err(Errno::EPERM));
        assert_eq!(nix::unistd::ftruncate(&file, 2 * PAGE as i64), Err(Errno::EPERM));
        // SAFETY: fcntl with integers only.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
        assert_eq!(flags, libc::FD_CLOEXEC);
        // SAFETY: as above.
        let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE) };
        assert_eq!(sealed, -1, "a seal against writing would take the page from its other side");
        drop(theirs);
        assert_eq!(ours.u32_at::<64>().load(Ordering::Relaxed), 8);
    }

    #[test]
    fn a_page_that_its_other_side_takes_out_of_the_file_reads_as_zeroes() {
        let (ours, file) = SharedPage::new(c"test").unwrap();
        ours.u64_at::<64>().store(7, Ordering::Relaxed);
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: integers only.
        let punched = unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, PAGE as libc::off_t) };
        assert_eq!(punched, 0);
        assert_eq!(ours.u64_at::<64>().load(Ordering::Relaxed), 0);
        ours.u64_at::<64>().store(8, Ordering::Relaxed);
        assert_eq!(SharedPage::of(file.as_fd()).unwrap().u64_at::<64>().load(Ordering::Relaxed), 8);
    }

    #[test]
    fn a_file_that_could_shrink_is_not_mapped() {
        let file = memory_file(c"test", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING).unwrap();
        nix::unistd::ftruncate(&file, PAGE as i64).unwrap();
        assert_eq!(SharedPage::of(file.as_fd()).err(), Some(Errno::EINVAL));
        // SAFETY: fcntl with integers only.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) };
        assert!(SharedPage::of(file.as_fd()).is_ok());
        let (socket, _other) = super::super::socket::packet_pair().unwrap();
        assert!(SharedPage::of(socket.as_fd()).is_err());
    }
}
