#![allow(unsafe_code)] // openat(2) with O_PATH keeps hold of inodes that a path alone could not name safely.
//! Socket files: binding without evicting a live server, setting their mode, removing only our own.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmod, fchmodat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::sockaddr::SockAddr;
use super::{Sys, check, descriptor, retry, socket};

/// The place of a socket file: a directory that is held open, so that it stays the right one whatever happens to the path, and a name in
/// it.
pub(crate) struct Place {
    directory: OwnedFd,
    name: CString,
    path: PathBuf,
    /// Reached only through the open directory.
    held: bool,
}

/// A bound socket file: where it is, and which inode it was when it was ours.
pub(crate) struct SocketFile {
    directory: OwnedFd,
    name: CString,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// A client that comes to this place finds nothing, or another's file.
    pub(crate) fn is_lost(&self, place: &Place) -> bool {
        // Clients follow links.
        match fstatat(&place.directory, place.name.as_c_str(), AtFlags::empty()) {
            Ok(found) => (found.st_dev, found.st_ino) != (self.device, self.inode),
            Err(errno) => errno == Errno::ENOENT,
        }
    }

    /// Removes the file if it still is the one that was bound.
    pub(crate) fn remove(&self) {
        let same = look(self.directory.as_fd(), &self.name)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == (self.device, self.inode));
        if same {
            let _ = unlinkat(&self.directory, self.name.as_c_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

impl Place {
    /// Wherever the path leads, as the kernel follows it.
    pub(crate) fn at(path: &Path) -> Sys<Self> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        let directory = open_directory(directory)?;
        Ok(Self { directory, name: c_string(name.as_bytes())?, path: path.to_owned(), held: false })
    }

    /// In a directory that is held open, or further down: `rest` leads there from the open one, and `path` names the place. ENOTDIR where a
    /// link would have to be followed.
    pub(crate) fn below(directory: BorrowedFd, rest: &str, name: &str, path: &str) -> Sys<Self> {
        // Step by step: openat2(2) would do it at once, but some sandboxes do not have it.
        let step = |at: BorrowedFd, part: &str| {
            open_at(at, &c_string(part.as_bytes())?, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
        };
        let mut directory = step(directory, ".")?;
        for part in rest.split('/').filter(|part| !part.is_empty()) {
            if part == ".." {
                return Err(Errno::EXDEV);
            }
            directory = step(directory.as_fd(), part)?;
        }
        Ok(Self { directory, name: c_string(name.as_bytes())?, path: path.into(), held: true })
    }

    /// True if only this process's user and root can replace the socket file: the directory is theirs, and others may not write to it or
    /// can only remove their own files (the sticky bit).
    pub(crate) fn is_safe(&self) -> Sys<bool> {
        let directory = fstat(&self.directory)?;
        let ours = directory.st_uid == 0 || directory.st_uid == nix::unistd::geteuid().as_raw();
        Ok(ours && (directory.st_mode & 0o022 == 0 || directory.st_mode & libc::S_ISVTX != 0))
    }

    /// sun_path holds 107 bytes (unix(7)). A longer path is bound through a shorter one: relative to the current
    /// directory, or through the open directory's entry in /proc, which also cannot be led elsewhere.
    fn address(&self) -> Sys<SockAddr> {
        if !self.held {
            if let Some(address) = SockAddr::unix(self.path.as_os_str().as_bytes()) {
                return Ok(address);
            }
            if let Some(relative) =
                std::env::current_dir().ok().and_then(|here| self.path.strip_prefix(here).ok().map(Path::to_owned))
                && let Some(address) = SockAddr::unix(relative.as_os_str().as_bytes())
            {
                return Ok(address);
            }
        }
        if !has_proc() {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut through = through(self.directory.as_fd()).into_bytes();
        through.push(b'/');
        through.extend_from_slice(self.name.as_bytes());
        SockAddr::unix(&through).ok_or(Errno::ENAMETOOLONG)
    }

    /// Locks the directory without waiting, since everybody who may read it can hold the lock. EWOULDBLOCK: somebody does.
    fn lock(&self) -> Sys<Flock<OwnedFd>> {
        let directory = open_at(self.directory.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY)?;
        Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)
    }

    /// Removes the file that is there if it is a socket that refuses connections, and so belongs to nobody any more. The question is asked
    /// with a datagram socket: a live stream socket answers EPROTOTYPE, whether it listens yet or not, and gets no dead connection in its
    /// queue. The inode that was asked is the one that is removed.
    fn remove_stale(&self) -> bool {
        let Some(file) = self.stale_file() else { return false };
        let same = |one: FileStat, other: FileStat| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
        let still = look(self.directory.as_fd(), &self.name).and_then(|found| Ok(same(found, fstat(&file)?)));
        still == Ok(true) && unlinkat(&self.directory, self.name.as_c_str(), UnlinkatFlags::NoRemoveDir).is_ok()
    }

    fn stale_file(&self) -> Option<OwnedFd> {
        let file = self.open_file().ok()?;
        let probe = socket::open(libc::AF_UNIX, true).ok()?;
        // Without /proc, by its path, unless somebody else chose that.
        let address = match has_proc() {
            true => SockAddr::unix(through(file.as_fd()).as_bytes()),
            false => self.address().ok(),
        };
        (socket::connect(probe.as_fd(), &address?) == Err(Errno::ECONNREFUSED)).then_some(file)
    }

    /// The socket file itself, whatever the name comes to mean afterwards; ENOTSOCK where it is none.
    fn open_file(&self) -> Sys<OwnedFd> {
        let file = open_at(self.directory.as_fd(), &self.name, libc::O_PATH | libc::O_NOFOLLOW)?;
        let kind = fstat(&file)?.st_mode & libc::S_IFMT;
        if kind == libc::S_IFSOCK { Ok(file) } else { Err(Errno::ENOTSOCK) }
    }
}

/// Binds `socket` to a place and listens. A file left by a dead server is replaced; a live one is EADDRINUSE.
///
/// The directory is locked (flock(2), without a file of our own) from the probe to listen, so that two primaries that find the same stale
/// file cannot remove each other's new one. If somebody else has the lock, a file that seems stale is EWOULDBLOCK: its owner may be
/// another primary, which is ready in a moment.
pub(crate) fn bind_and_listen(socket: BorrowedFd, place: Place, everybody: u32, backlog: i32) -> Sys<SocketFile> {
    let address = place.address()?;
    let locked = place.lock();
    // The file gets these permissions less the umask. Whatever that is, nobody else may write to it, that is connect, unless the caller
    // wants that.
    fchmod(socket, Mode::from_bits_truncate(0o755))?;
    match socket::bind(socket, &address) {
        Err(Errno::EADDRINUSE) if locked.is_ok() && place.remove_stale() => socket::bind(socket, &address)?,
        Err(Errno::EADDRINUSE) if matches!(locked, Err(Errno::EWOULDBLOCK)) && place.stale_file().is_some() => {
            return Err(Errno::EWOULDBLOCK);
        }
        outcome => outcome?,
    }
    // Held open while its mode is set, and known to be a socket: a file that was swapped in is never touched.
    let bound = place.open_file()?;
    let stat = fstat(&bound)?;
    if everybody != 0 {
        let mode = Mode::from_bits_truncate(stat.st_mode | everybody);
        fchmodat(nix::fcntl::AT_FDCWD, through(bound.as_fd()).as_str(), mode, FchmodatFlags::FollowSymlink)?;
    }
    let Place { directory, name, .. } = place;
    let file = SocketFile { directory, name, device: stat.st_dev, inode: stat.st_ino };
    if let Err(errno) = socket::listen(socket, backlog) {
        file.remove();
        return Err(errno);
    }
    Ok(file)
}

/// proc(5) is mounted, and shows this process.
fn has_proc() -> bool {
    Path::new("/proc/self/fd").exists()
}

/// The path by which an open inode can be named.
fn through(fd: BorrowedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn look(directory: BorrowedFd, name: &CStr) -> Sys<FileStat> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn c_string(bytes: &[u8]) -> Sys<CString> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

/// A directory to hold, which needs no permission in it.
pub(crate) fn open_directory(path: &Path) -> Sys<OwnedFd> {
    let path = c_string(path.as_os_str().as_bytes())?;
    // SAFETY: AT_FDCWD is no descriptor that anybody could close.
    open_at(unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }, &path, libc::O_PATH | libc::O_DIRECTORY)
}

fn open_at(directory: BorrowedFd, path: &CStr, flags: i32) -> Sys<OwnedFd> {
    let at = directory.as_raw_fd();
    // SAFETY: the path is NUL-terminated.
    let fd = retry(|| check(unsafe { libc::openat(at, path.as_ptr(), flags | libc::O_CLOEXEC) }))?;
    descriptor::take(fd)
}
