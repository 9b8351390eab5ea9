#![allow(unsafe_code)] // clone(2) with shared memory, and what a child may do before exec, are beyond safe wrappers.
//! Starting a program as posix_spawn(3) does, or as another user.

use std::ffi::CString;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::child::Child;
use super::close_range::close_all_but;
use super::credentials::{self, Credentials};
use super::pid::own_pid;
use super::poll::{Waited, wait_readable};
use super::process::has_executed;
use super::step::Step;
use super::{Sys, check, descriptor, socket};

/// Everything a child needs between clone and exec, made beforehand: the child may not allocate.
pub(crate) struct Program {
    pub(crate) file: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: Option<CString>,
    pub(crate) credentials: Option<Credentials>,
    /// Descriptors that the program inherits besides 0, 1 and 2: our number, and its number. None of ours has a number of the program's
    /// for another one.
    pub(crate) inherit: Vec<(RawFd, RawFd)>,
    /// The armed lifeline. The child makes itself its owner.
    pub(crate) lifeline: RawFd,
    /// The signals it starts with blocked.
    pub(crate) mask: SignalMask,
}

/// A set of blocked signals.
#[derive(Clone, Copy)]
pub(crate) struct SignalMask(libc::sigset_t);

impl SignalMask {
    pub(crate) fn empty() -> Self {
        // SAFETY: sigset_t is plain data, and all zero is the empty set on Linux.
        Self(unsafe { mem::zeroed() })
    }

    pub(crate) fn of_this_thread() -> Self {
        let mut mask = Self::empty();
        // SAFETY: only asks, into a set of our own.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &mut mask.0) };
        mask
    }
}

/// A program could not be started.
pub(crate) struct SpawnError {
    pub(crate) step: &'static str,
    pub(crate) errno: Errno,
}

impl From<Errno> for SpawnError {
    fn from(errno: Errno) -> Self {
        Self { step: "making a process", errno }
    }
}

struct ChildTask<'a> {
    program: &'a Program,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    report: RawFd,
    keep: &'a [RawFd],
    /// Room for the groups that the kernel says the child has.
    groups: Vec<libc::gid_t>,
}

const CHILD_STACK: usize = 64 * 1024;

/// How long a child that changes its user may take to become the program. Until then, other processes of that user can stop it.
const CHANGE_WITHIN: Duration = Duration::from_secs(5);

/// Starts a program as posix_spawn(3) does: the child borrows our memory until exec (CLONE_VM | CLONE_VFORK), so that
/// it is safe and quick in a large process with threads. A failure before or in exec comes back as an error.
///
/// A child that changes its user or group gets a copy of the memory instead (as fork(2) makes it, but it runs nothing of
/// the program's). With shared memory the kernel would take the change for our own and forbid core dumps and debuggers here
/// (PR_SET_DUMPABLE), and whoever stopped the child would stop us.
pub(crate) fn spawn(program: &Program) -> Result<Child, SpawnError> {
    let argv = pointers(&program.arguments);
    let envp = pointers(&program.environment);
    let (report_reader, report_writer) = socket::pipe()?;
    let mut keep: Vec<RawFd> = program.inherit.iter().map(|(_, number)| *number).collect();
    let report_writer = descriptor::clear_of(&keep, report_writer)?;
    keep.push(report_writer.as_raw_fd());
    keep.sort_unstable();
    keep.dedup();
    let mut task = ChildTask {
        program,
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        report: report_writer.as_raw_fd(),
        keep: &keep,
        groups: program.credentials.as_ref().map_or(Vec::new(), |credentials| vec![0; credentials.groups.len()]),
    };
    let mut stack = vec![0_u128; CHILD_STACK / mem::size_of::<u128>()];
    // SAFETY: sigset_t is plain data.
    let mut every: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: fills a set of our own.
    unsafe { libc::sigfillset(&mut every) };
    let mut before = SignalMask::empty();
    // A handler that ran in the child would run in our memory, so signals wait until the child has none.
    // SAFETY: both sets are ours.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &every, &mut before.0) };
    let mut made: RawFd = -1;
    let apart = program.credentials.is_some();
    // SAFETY: `stack` is one allocation of CHILD_STACK bytes; the stack grows down from its end.
    let top = unsafe { stack.as_mut_ptr().add(stack.len()) };
    // SAFETY: the parent is suspended until the child has left this memory, or the child has a copy of it, so `task` and `stack` outlive its use.
    let outcome = check(unsafe {
        let memory = if apart { 0 } else { libc::CLONE_VM | libc::CLONE_VFORK };
        let flags = memory | libc::CLONE_PIDFD | libc::SIGCHLD;
        libc::clone(child, top.cast(), flags, (&raw mut task).cast(), &raw mut made)
    });
    // SAFETY: puts back the mask found above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before.0, std::ptr::null_mut()) };
    drop(report_writer);
    let pid = outcome?;
    // Made with the process, so the host cannot reap the child first. Tools that turn the clone into a fork make none.
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd =
        (made >= 0).then(|| unsafe { OwnedFd::from_raw_fd(made) }).map(|pidfd| descriptor::connection(pidfd, true));
    let child = Child::new(pid, pidfd)?;
    let changed = if apart { await_change(&child, report_reader.as_fd()) } else { Ok(()) };
    if let Err(errno) = changed {
        child.abandon();
        return Err(SpawnError { step: "waiting for a process to change its user and become", errno });
    }
    // A pipe rather than the shared memory, because tools such as valgrind turn the clone into a fork. Only under those we must wait for
    // the end of the pipe, which children of other threads' forks may hold open for long.
    if apart || made >= 0 {
        descriptor::set_nonblocking(report_reader.as_fd()).inspect_err(|_| child.abandon())?;
    }
    let mut report = [0_u8; 8];
    match super::retry(|| nix::unistd::read(&report_reader, &mut report)) {
        Ok(length) if length == report.len() => {}
        _ => return Ok(child),
    }
    let mut status = 0;
    // SAFETY: waits for the child just made, which has left by itself; ECHILD where the host reaped it is as good.
    let _ = super::retry(|| check(unsafe { libc::waitpid(pid, &mut status, 0) }));
    let number = |part: &[u8]| part.try_into().map_or(0, u32::from_ne_bytes);
    let step = number(&report[..4]);
    Err(SpawnError {
        step: Step::ALL
            .iter()
            .find(|known| **known as u32 == step)
            .map_or("starting the program", |known| known.text()),
        errno: Errno::from_raw(number(&report[4..]) as i32),
    })
}

/// Waits until a child with a memory of its own has become the program, has said why not, or has ended. ETIMEDOUT: none of these happened
/// in time.
fn await_change(child: &Child, report: BorrowedFd) -> Sys<()> {
    let deadline = Instant::now() + CHANGE_WITHIN;
    let fds = [Some(report), child.pidfd()];
    let fds: Vec<BorrowedFd> = fds.into_iter().flatten().collect();
    while Instant::now() < deadline {
        // Usually the pipe says so at once, unless another thread's child has a copy of its other end.
        if wait_readable(&fds, Some(Duration::from_millis(50)))? == Waited::Ready || has_executed(child.pid()) {
            return Ok(());
        }
    }
    Err(Errno::ETIMEDOUT)
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What the child runs up to exec: async-signal-safe calls only, no allocation. The identity calls are raw, because glibc's wrappers would
/// apply them to the other threads of the parent, whose memory this is.
extern "C" fn child(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passed a ChildTask that outlives the child's use of this memory.
    let task = unsafe { &mut *argument.cast::<ChildTask>() };
    default_handlers();
    // SAFETY: the set is the one that the program is to start with; no handler is left that could run.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &task.program.mask.0, std::ptr::null_mut()) };
    let (step, errno) = match become_program(task) {
        Err(failure) => failure,
        Ok(never) => match never {},
    };
    let mut report = [0_u8; 8];
    report[..4].copy_from_slice(&(step as u32).to_ne_bytes());
    report[4..].copy_from_slice(&(errno as i32).to_ne_bytes());
    // SAFETY: the buffer is ours; a pipe takes 8 bytes whole.
    unsafe { libc::write(task.report, report.as_ptr().cast(), report.len()) };
    // SAFETY: leaves without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Signals that the parent handles get their default action back, as exec would do; those it ignores stay ignored.
fn default_handlers() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: sigaction is plain data.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        // SAFETY: only asks.
        let known = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) } == 0;
        if known && action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN {
            action.sa_sigaction = libc::SIG_DFL;
            // SAFETY: the child has a table of its own (no CLONE_SIGHAND).
            unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
        }
    }
}

fn become_program(task: &mut ChildTask) -> Result<std::convert::Infallible, (Step, Errno)> {
    let program = task.program;
    let at = |step: Step| move |errno: Errno| (step, errno);
    if program.lifeline >= 0 {
        // SAFETY: fcntl with integers only; the lifeline belongs to the program from before it runs.
        check(unsafe { libc::fcntl(program.lifeline, libc::F_SETOWN, own_pid()) }).map_err(at(Step::Inherit))?;
    }
    for (fd, number) in &program.inherit {
        let given = if fd == number {
            // SAFETY: clears close-on-exec in the child's own descriptor table.
            super::retry(|| check(unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) }))
        } else {
            // SAFETY: in the child's own descriptor table, where nothing of ours that is still needed has this number.
            super::retry(|| check(unsafe { libc::dup2(*fd, *number) }))
        };
        given.map_err(at(Step::Inherit))?;
    }
    close_all_but(task.keep).map_err(at(Step::Inherit))?;
    if let Some(directory) = &program.directory {
        // SAFETY: the path is a NUL-terminated string.
        check(unsafe { libc::chdir(directory.as_ptr()) }).map_err(at(Step::Directory))?;
    }
    if let Some(credentials) = &program.credentials {
        credentials::take(credentials, &mut task.groups)?;
    }
    // SAFETY: file, argv and envp are NUL-terminated and end with NULL; all were made before the clone.
    unsafe { libc::execve(program.file.as_ptr(), task.argv, task.envp) };
    Err((Step::Exec, Errno::last()))
}

#[cfg(test)]
mod tests {
    use super::super::child::ExitStatus;
    use super::*;

    fn program(file: &str, arguments: &[&str]) -> Program {
        Program {
            file: CString::new(file).unwrap(),
            arguments: arguments.iter().map(|argument| CString::new(*argument).unwrap()).collect(),
            environment: Vec::new(),
            directory: None,
            credentials: None,
            inherit: Vec::new(),
            lifeline: -1,
            mask: SignalMask::empty(),
        }
    }

    fn wait(child: Child) -> ExitStatus {
        super::super::poll::wait_readable(&[child.pidfd().unwrap()], None).unwrap();
        child.reap().unwrap().unwrap()
    }

    #[test]
    fn a_program_runs_and_its_status_is_known() {
        let child = spawn(&program("/bin/sh", &["sh", "-c", "exit 5"])).ok().unwrap();
        assert_eq!(wait(child), ExitStatus::Code(5));
    }

    #[test]
    fn a_program_that_cannot_be_started_is_an_error_and_leaves_no_child() {
        let error = spawn(&program("/nonexistent/program", &["program"])).err().unwrap();
        assert_eq!(error.errno, Errno::ENOENT);
        assert_eq!(error.step, "starting the program");
        let mut nowhere = program("/bin/sh", &["sh"]);
        nowhere.directory = Some(c"/nonexistent".to_owned());
        let error = spawn(&nowhere).err().unwrap();
        assert_eq!((error.errno, error.step), (Errno::ENOENT, "changing to the program's directory"));
    }

    #[test]
    fn a_program_inherits_only_what_it_should() {
        let (_leak, _other) = socket::packet_pair().unwrap();
        // Without close-on-exec, as a careless host would have it.
        // SAFETY: fcntl with integers only.
        unsafe { libc::fcntl(_leak.as_raw_fd(), libc::F_SETFD, 0) };
        let (kept, _peer) = socket::packet_pair().unwrap();
        let script = format!(
            "for f in /proc/$$/fd/*; do n=${{f##*/}}; case $n in 0|1|2|{}) ;; *) [ -e $f ] && exit 1 ;; esac; done; exit 0",
            kept.as_raw_fd()
        );
        // sh opens the script's own descriptors only for files, so /proc shows what was inherited.
        let mut lister = program("/bin/sh", &["sh", "-c", &script]);
        lister.inherit = vec![(kept.as_raw_fd(), kept.as_raw_fd())];
        let child = spawn(&lister).ok().unwrap();
        assert_eq!(wait(child), ExitStatus::Code(0));
    }
}
