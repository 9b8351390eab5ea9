#![allow(unsafe_code)] // fork(2), pidfds and waitid(2) have no safe wrapper that keeps all we need.
//! Child processes: making, watching, ending and reaping exactly our own.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use super::pid::Pid;
use super::poll::{Waited, wait_readable};
use super::{Sys, check, descriptor, retry};

/// A child, held by a pidfd so that its number cannot come to mean another process.
///
/// Where pidfd_open(2) is forbidden or missing (an old sandbox's filter, valgrind 3.19) it is held by its number alone, which stays its
/// own until we reap it. It must be polled for its end then.
pub(crate) struct Child {
    pid: Pid,
    pidfd: Option<OwnedFd>,
    /// We made it, so we reap it.
    ours: bool,
}

/// The number of a process that does not exist yet.
const NOT_YET: Pid = 0;

impl Child {
    /// `pidfd`: from clone(2), if it made one.
    pub(super) fn new(pid: Pid, pidfd: Option<OwnedFd>) -> Sys<Self> {
        let pidfd = match pidfd {
            Some(pidfd) => Some(pidfd),
            None => match self::pidfd(pid) {
                Ok(pidfd) => Some(pidfd),
                Err(Errno::ENOSYS | Errno::EPERM) => None,
                Err(errno) => {
                    let lost = Self { pid, pidfd: None, ours: true };
                    lost.abandon();
                    return Err(errno);
                }
            },
        };
        Ok(Self { pid, pidfd, ours: true })
    }

    /// A process that the program is about to start and will reap.
    pub(crate) fn of_the_program() -> Self {
        Self { pid: NOT_YET, pidfd: None, ours: false }
    }

    /// The program has started it. Without a pidfd the program must tell of its end.
    pub(crate) fn started(&mut self, pid: Pid) {
        self.pid = pid;
        self.pidfd = self::pidfd(pid).ok();
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable once it has exited, if there is a pidfd.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(|pidfd| pidfd.as_fd())
    }

    /// Sends it a signal; ESRCH when it is gone.
    pub(crate) fn signal(&self, signal: i32) -> Sys<()> {
        if self.pid == NOT_YET {
            return Err(Errno::ESRCH);
        }
        if let Some(pidfd) = &self.pidfd {
            // SAFETY: no siginfo is given, the rest are integers.
            match check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) }) {
                Err(Errno::ENOSYS) => {}
                outcome => return outcome.map(|_| ()),
            }
        }
        if self.ours && !self.is_unreaped() {
            return Err(Errno::ESRCH);
        }
        // SAFETY: integers only.
        check(unsafe { libc::kill(self.pid, signal) }).map(|_| ())
    }

    /// The number still is that of a child of ours. After the child is reaped, by us or the host, the number may be anybody's.
    fn is_unreaped(&self) -> bool {
        // SAFETY: siginfo_t is plain data for which all-zero is a valid value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: asks for one process, leaves it as it is, and fills our own siginfo.
        let outcome = retry(|| check(unsafe { libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut info, options) }));
        outcome != Err(Errno::ECHILD)
    }

    /// Reaps it if it has exited. Never touches another child. One that the program will reap is only looked at.
    pub(crate) fn reap(&self) -> Sys<Option<ExitStatus>> {
        if !self.ours {
            let ended = self.pidfd().map(|pidfd| wait_readable(&[pidfd], Some(Duration::ZERO)));
            if ended != Some(Ok(Waited::Ready)) {
                return Ok(None);
            }
            return Ok(Some(self.wait(libc::WNOWAIT).ok().flatten().unwrap_or(ExitStatus::Unknown)));
        }
        match self.wait(0) {
            Err(Errno::ECHILD) => Ok(Some(ExitStatus::Unknown)),
            outcome => outcome,
        }
    }

    fn wait(&self, more: libc::c_int) -> Sys<Option<ExitStatus>> {
        let (kind, id) = match &self.pidfd {
            Some(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
            None => (libc::P_PID, self.pid),
        };
        // SAFETY: siginfo_t is plain data for which all-zero is a valid value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        retry(|| {
            // SAFETY: asks for one process and fills our own siginfo.
            check(unsafe { libc::waitid(kind, id as libc::id_t, &mut info, libc::WEXITED | libc::WNOHANG | more) })
        })?;
        // SAFETY: waitid filled the fields of a child's end, or left the zeroes when there is none yet.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above.
        let status = unsafe { info.si_status() };
        Ok((pid != 0).then_some(if info.si_code == libc::CLD_EXITED {
            ExitStatus::Code(status)
        } else {
            ExitStatus::Signal(status)
        }))
    }

    /// Ends and reaps a child that nobody will keep.
    pub(crate) fn abandon(&self) {
        // waitpid(0) would reap a child of the program.
        if !self.ours || self.pid == NOT_YET {
            return;
        }
        let _ = self.signal(libc::SIGKILL);
        let mut status = 0;
        // SAFETY: waits for one child of our own, whose number is still its own; ECHILD where the host reaped it.
        let _ = retry(|| check(unsafe { libc::waitpid(self.pid, &mut status, 0) }));
    }
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// Somebody else reaped it (the program ignores SIGCHLD or waits for any child), so nobody can tell.
    Unknown,
}

/// Flushes stdio and Rust's standard output, or the child would write the buffered bytes once more. Like any write, it waits for room
/// in a pipe. What cannot be written stays; the program's next call reports it.
fn flush_streams() {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: NULL means all streams; there is no other thread that could hold one.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// fork(2): `None` in the child. The caller must have made sure that there are no other threads, and that the child waits for something
/// that is sent after this returns: the host might reap a child that ends before it has a pidfd.
pub(crate) fn fork() -> Sys<Option<Child>> {
    flush_streams();
    // SAFETY: the process has one thread, so the child may go on with everything the parent could do.
    match check(unsafe { libc::fork() })? {
        0 => Ok(None),
        pid => Child::new(pid, None).map(Some),
    }
}

/// A descriptor that stands for a process and becomes readable when it has exited (pidfd_open(2), Linux 5.3).
pub(crate) fn pidfd(pid: Pid) -> Sys<OwnedFd> {
    /// The kernel has no such call. It is not asked again.
    static MISSING: AtomicBool = AtomicBool::new(false);
    if MISSING.load(Ordering::Relaxed) {
        return Err(Errno::ENOSYS);
    }
    // SAFETY: integers only.
    let outcome = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    MISSING.store(outcome == Err(Errno::ENOSYS), Ordering::Relaxed);
    outcome.and_then(|fd| descriptor::take(fd as RawFd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_without_a_process_takes_nobody_elses_child() {
        let mut other = std::process::Command::new("true").spawn().unwrap();
        Child::of_the_program().abandon();
        assert!(other.wait().unwrap().success());
    }

    #[test]
    fn without_a_pidfd_nothing_is_sent_to_a_number_that_is_no_child_any_more() {
        // Of two sleepers the shell is a child of ours, and the other a stranger, as who gets the number of one that was reaped.
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 20 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let of = |pid: Pid| Child { pid, pidfd: None, ours: true };
        let (ours, stranger) = (of(shell.id() as Pid), of(line.trim().parse().unwrap()));
        assert_eq!(stranger.signal(0), Err(Errno::ESRCH));
        assert_eq!(ours.signal(0), Ok(()));
        assert_eq!(Child { ours: false, ..stranger }.signal(libc::SIGKILL), Ok(()));
        shell.wait().unwrap();
        assert_eq!(ours.signal(0), Err(Errno::ESRCH));
    }
}
