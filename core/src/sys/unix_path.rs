#![allow(unsafe_code)] // openat(2) with O_PATH keeps hold of an inode that a path alone could not name safely.
//! Socket files: binding them where nobody live is evicted, setting their mode, removing only our own.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::sockaddr::SockAddr;
use super::{Sys, check, socket};

/// A bound socket file: where it is, and which inode it was when it was ours.
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Removes the file if it still is the one that was bound.
    pub(crate) fn remove(&self) {
        let same = identity(&self.path).is_ok_and(|found| found == (self.device, self.inode));
        if same {
            let _ = nix::unistd::unlink(&self.path);
        }
    }
}

fn identity(path: &Path) -> Sys<(u64, u64)> {
    nix::sys::stat::lstat(path).map(|stat| (stat.st_dev, stat.st_ino))
}

/// Binds `socket` to a path and listens. A file left by a dead server is replaced; a live one is EADDRINUSE.
///
/// The directory is locked (flock(2), without a file of our own) from the probe to listen, so that two primaries that
/// find the same stale file cannot remove each other's new one.
pub(crate) fn bind_and_listen(socket: BorrowedFd, path: &Path, everybody: u32, backlog: i32) -> Sys<SocketFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let handle = open_path(directory, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let address = address_of(path, handle.as_fd(), name.as_bytes())?;
    // Kept to the end either way: the address may lead through it.
    let locked = lock(handle);
    // The file is made with these permissions less the umask: whatever that is, nobody else may write to (connect to) it
    // unless that was asked for.
    nix::sys::stat::fchmod(socket, nix::sys::stat::Mode::from_bits_truncate(0o755))?;
    match socket::bind(socket, &address) {
        Err(Errno::EADDRINUSE) if locked.is_ok() && is_stale(path, &address) => {
            nix::unistd::unlink(path)?;
            socket::bind(socket, &address)?;
        }
        outcome => outcome?,
    }
    // The inode is held open while its mode is set, so a path that is swapped in between is never touched.
    let bound = open_path(path, libc::O_PATH | libc::O_NOFOLLOW)?;
    let stat = nix::sys::stat::fstat(&bound)?;
    if everybody != 0 {
        let mode = nix::sys::stat::Mode::from_bits_truncate(stat.st_mode | everybody);
        nix::sys::stat::fchmodat(
            nix::fcntl::AT_FDCWD,
            &PathBuf::from(format!("/proc/self/fd/{}", bound.as_raw_fd())),
            mode,
            nix::sys::stat::FchmodatFlags::FollowSymlink,
        )?;
    }
    let file = SocketFile { path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino };
    if let Err(errno) = socket::listen(socket, backlog) {
        file.remove();
        return Err(errno);
    }
    Ok(file)
}

/// Locks a directory, but waits no longer than a tenth of a second: whoever may read it can hold the lock, and without
/// it only no file is taken for dead.
fn lock(mut directory: OwnedFd) -> Result<Flock<OwnedFd>, OwnedFd> {
    for _ in 0..20 {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((unlocked, Errno::EWOULDBLOCK)) => directory = unlocked,
            Err((unlocked, _)) => return Err(unlocked),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(directory)
}

fn open_path(path: &Path, flags: i32) -> Sys<OwnedFd> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the path is NUL-terminated.
    let fd = super::retry(|| check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// sun_path holds 107 bytes (unix(7)). A longer path is bound through a shorter one: relative to the current
/// directory, or through the open directory's entry in /proc.
fn address_of(path: &Path, directory: BorrowedFd, name: &[u8]) -> Sys<SockAddr> {
    if let Some(address) = SockAddr::unix(path.as_os_str().as_bytes()) {
        return Ok(address);
    }
    if let Some(relative) =
        std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned))
        && let Some(address) = SockAddr::unix(relative.as_os_str().as_bytes())
    {
        return Ok(address);
    }
    let mut through = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    through.extend_from_slice(name);
    SockAddr::unix(&through).ok_or(Errno::ENAMETOOLONG)
}

/// A socket file that refuses connections belongs to nobody any more. Asked with a datagram socket: a live stream socket
/// answers EPROTOTYPE, whether it listens yet or not, and finds no dead connection in its queue.
fn is_stale(path: &Path, address: &SockAddr) -> bool {
    let is_socket = nix::sys::stat::lstat(path).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFSOCK);
    if !is_socket {
        return false;
    }
    let Ok(probe) = socket::open(libc::AF_UNIX, true) else { return false };
    socket::connect(probe.as_fd(), address) == Err(Errno::ECONNREFUSED)
}
