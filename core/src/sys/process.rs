#![allow(unsafe_code)] // fork(2), clone(2) and what a child may do before exec are beyond safe wrappers.
//! Processes: making, watching, ending and reaping exactly those that are ours.

use std::ffi::{CStr, CString};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;

use super::poll::{Waited, wait_readable};
use super::{Sys, attached, check, descriptor};

/// A process's number.
pub(crate) type Pid = libc::pid_t;

/// What a process's threads have had of the processors in all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessorTime {
    /// They ran.
    pub(crate) ran: Duration,
    /// They were ready to run and had no processor, each time until they had one.
    pub(crate) waited: Duration,
    /// One is ready to run, or runs.
    pub(crate) ready: bool,
}

/// A process may have thousands of threads, and asking must not hold the asker up.
const THREADS_ASKED: usize = 32;

/// From proc_pid_schedstat(5) and proc_pid_stat(5) of its threads, the first ones if they are many. `None` where the kernel
/// does not say.
pub(crate) fn processor_time(pid: Pid) -> Option<ProcessorTime> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let times = threads.take(THREADS_ASKED).filter_map(|thread| time_of_thread(&thread.ok()?.path()));
    times.reduce(|all, one| ProcessorTime {
        ran: all.ran + one.ran,
        waited: all.waited + one.waited,
        ready: all.ready || one.ready,
    })
}

fn time_of_thread(directory: &std::path::Path) -> Option<ProcessorTime> {
    let text = std::fs::read_to_string(directory.join("schedstat")).ok()?;
    let mut nanoseconds = text.split_ascii_whitespace().map_while(|field| field.parse().ok());
    let (ran, waited) = (nanoseconds.next()?, nanoseconds.next()?);
    let text = std::fs::read(directory.join("stat")).ok()?;
    let behind_name = text.iter().rposition(|byte| *byte == b')')?;
    let ready = text.get(behind_name + 2) == Some(&b'R');
    Some(ProcessorTime { ran: Duration::from_nanos(ran), waited: Duration::from_nanos(waited), ready })
}

pub(crate) fn own_pid() -> Pid {
    // SAFETY: getpid cannot fail.
    unsafe { libc::getpid() }
}

/// True when the program has more than one thread. Asked without a descriptor, of which there may be none left: the
/// directory has a link for itself, one from its parent and one for each thread. Without /proc the kernel is asked whether this
/// thread could stop being one of several, which it cannot where there are others (unshare(2)).
pub(crate) fn has_other_threads() -> Sys<bool> {
    if let Ok(stat) = nix::sys::stat::stat("/proc/self/task") {
        return Ok(stat.st_nlink as usize > 3 + attached::closers());
    }
    // SAFETY: integers only; for a process with one thread it changes nothing.
    match check(unsafe { libc::unshare(libc::CLONE_THREAD) }) {
        Ok(_) => Ok(false),
        Err(Errno::EINVAL) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// The process has become a program of its own since it was made (PF_FORKNOEXEC of include/linux/sched.h is gone from its
/// flags, proc_pid_stat(5)).
pub(super) fn has_executed(pid: Pid) -> bool {
    let flags = || {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let behind_name = text.iter().rposition(|byte| *byte == b')')? + 2;
        let fields = std::str::from_utf8(text.get(behind_name..)?).ok()?;
        fields.split_ascii_whitespace().nth(6)?.parse::<u32>().ok()
    };
    flags().is_some_and(|flags| flags & 0x40 == 0)
}

/// A child, held by a pidfd so that its number cannot come to mean another process.
///
/// Where pidfd_open(2) is forbidden or missing (an old sandbox's filter, valgrind 3.19) it is held by its number alone,
/// which is its own until we reap it, and has to be asked from time to time whether it has ended.
pub(crate) struct Child {
    pid: Pid,
    pidfd: Option<OwnedFd>,
    /// We made it, so we reap it.
    ours: bool,
}

/// The number of a process that does not exist yet.
const NOT_YET: Pid = 0;

impl Child {
    /// `pidfd`: one that was made with the process.
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

    /// A process that the program is about to start, and that the program reaps.
    pub(crate) fn of_the_program() -> Self {
        Self { pid: NOT_YET, pidfd: None, ours: false }
    }

    /// The program has started it. Without a pidfd the program's own word has to tell its end.
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

    /// The number is still that of a child of this process; once it was reaped, by us or by the host, it may be anybody's.
    fn is_unreaped(&self) -> bool {
        // SAFETY: siginfo_t is plain data for which all-zero is a valid value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: asks for one process, leaves it as it is, and fills our own siginfo.
        let outcome =
            super::retry(|| check(unsafe { libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut info, options) }));
        outcome != Err(Errno::ECHILD)
    }

    /// Reaps it if it has exited. Never touches another child.
    pub(crate) fn reap(&self) -> Sys<Option<ExitStatus>> {
        if !self.ours {
            let ended = self.pidfd().map(|pidfd| wait_readable(&[pidfd], Some(Duration::ZERO)));
            return Ok((ended == Some(Ok(Waited::Ready))).then_some(ExitStatus::Unknown));
        }
        let (kind, id) = match &self.pidfd {
            Some(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
            None => (libc::P_PID, self.pid),
        };
        // SAFETY: siginfo_t is plain data for which all-zero is a valid value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        let outcome = super::retry(|| {
            // SAFETY: asks for one process and fills our own siginfo.
            check(unsafe { libc::waitid(kind, id as libc::id_t, &mut info, libc::WEXITED | libc::WNOHANG) })
        });
        match outcome {
            Ok(_) => {}
            Err(Errno::ECHILD) => return Ok(Some(ExitStatus::Unknown)),
            Err(errno) => return Err(errno),
        }
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

    /// Ends and reaps a child that could not be taken into the books.
    pub(crate) fn abandon(&self) {
        // waitpid(0) would take a child of the program's.
        if !self.ours || self.pid == NOT_YET {
            return;
        }
        let _ = self.signal(libc::SIGKILL);
        let mut status = 0;
        // SAFETY: waits for one child of our own, whose number is still its own; ECHILD where the host reaped it.
        let _ = super::retry(|| check(unsafe { libc::waitpid(self.pid, &mut status, 0) }));
    }
}

/// Writes what stdio and Rust's standard output hold, or the child would have it, too, and write it once more. As any write, it
/// waits where a pipe is full. What cannot be written stays; the program learns of it from its own next call.
fn flush_streams() {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    // SAFETY: NULL means all streams; there is no other thread that could hold one.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

/// fork(2): `None` in the child. The caller has made sure that there are no other threads, and that the child waits for
/// something that is sent after this returns: an ended child may be reaped by the host before it has a pidfd.
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
    /// The kernel has said that it has no such call; it is not asked again.
    static MISSING: AtomicBool = AtomicBool::new(false);
    if MISSING.load(Ordering::Relaxed) {
        return Err(Errno::ENOSYS);
    }
    // SAFETY: integers only.
    let outcome = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
    MISSING.store(outcome == Err(Errno::ENOSYS), Ordering::Relaxed);
    outcome.and_then(|fd| descriptor::take(fd as RawFd))
}

/// From here on this thread has descriptors of its own, and none yet: what it counts is not disturbed by others' tests.
#[cfg(test)]
pub(crate) fn own_descriptors() {
    // SAFETY: integers only; the caller is a new thread that has nothing open.
    check(unsafe { libc::unshare(libc::CLONE_FILES) }).unwrap();
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) }).unwrap();
}

/// While it lives, the process may have fewer descriptors.
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

/// fcntl(2); the libc crate lacks it.
const F_SETSIG: libc::c_int = 10;

/// Lets the kernel send `signal` once the last write end of the pipe is closed, to the owner that is named later.
pub(crate) fn arm_lifeline(reader: BorrowedFd, signal: i32) -> Sys<()> {
    let fd = reader.as_raw_fd();
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(fd, F_SETSIG, signal) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK) }).map(|_| ())
}

/// Names the process that an armed lifeline's signal goes to.
pub(crate) fn own_lifeline(reader: BorrowedFd, pid: Pid) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETOWN, pid) }).map(|_| ())
}

/// EINVAL where the kernel would not end the lifeline's owner.
pub(crate) fn lifeline_kills(reader: BorrowedFd) -> Sys<()> {
    const F_GETSIG: libc::c_int = 11;
    let fd = reader.as_raw_fd();
    // SAFETY: fcntl with integers only.
    let signal = check(unsafe { libc::fcntl(fd, F_GETSIG) })?;
    // SAFETY: as above.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    if signal == libc::SIGKILL && flags & libc::O_ASYNC != 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Changes which signal an armed lifeline sends.
pub(crate) fn soften_lifeline(reader: BorrowedFd, signal: i32) -> Sys<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(reader.as_raw_fd(), F_SETSIG, signal) }).map(|_| ())
}

/// The file a command without a slash names, looked for in PATH as execvp(3) does.
pub(crate) fn find_in_path(file: &CStr) -> CString {
    use std::os::unix::ffi::OsStrExt;
    if file.to_bytes().contains(&b'/') {
        return file.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|directory| directory.join(std::ffi::OsStr::from_bytes(file.to_bytes())))
        .find(|candidate| nix::unistd::access(candidate, nix::unistd::AccessFlags::X_OK).is_ok() && candidate.is_file())
        .and_then(|found| CString::new(found.as_os_str().as_bytes()).ok())
        .unwrap_or_else(|| file.to_owned())
}

/// True when the process runs with rights its caller did not have (a set-user-ID program): its environment is not
/// to be believed.
pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: only reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The path by which the running program was started; `None` where the kernel does not say.
pub(crate) fn started_by() -> Option<CString> {
    // SAFETY: only reads the auxiliary vector.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    // SAFETY: AT_EXECFN is NULL or a string that lives as long as the process (getauxval(3)).
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) }.to_owned())
}

/// Runs the exit handlers and ends the process, as a return from main does.
pub(crate) fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// The numbers of this process's open descriptors above 2, as proc_pid_fd(5) lists them; without /proc, the lowest that there may be.
pub(crate) fn open_numbers() -> Vec<RawFd> {
    const LOWEST: std::ops::Range<RawFd> = 3..64;
    let Ok(listed) = std::fs::read_dir("/proc/self/fd") else { return LOWEST.collect() };
    let numbers = listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|number| *number > 2).collect()
}

/// A number nobody can guess, from the keys the standard library draws from the kernel.
pub(crate) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Takes a variable out of the environment.
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: documented for the callers: the first call into the library comes before other threads use the
    // environment, as with every function that changes it (setenv(3)).
    unsafe { std::env::remove_var(name) };
}

/// Puts a variable into the environment.
pub(crate) fn set_variable(name: &str, value: &str) {
    // SAFETY: as above.
    unsafe { std::env::set_var(name, value) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

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

    #[test]
    fn the_time_of_a_process_is_that_of_all_its_threads() {
        let done = AtomicBool::new(false);
        let before = processor_time(own_pid()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            let ran = || processor_time(own_pid()).unwrap().ran.saturating_sub(before.ran);
            while ran() < Duration::from_millis(50) && Instant::now() < deadline {
                // Asking costs some time, too, but hardly a third of what is waited for.
                std::thread::park_timeout(Duration::from_millis(5));
            }
            let ran = ran();
            done.store(true, Ordering::Relaxed);
            assert!(ran >= Duration::from_millis(50), "a thread that computes has had {ran:?}");
        });
    }
}
