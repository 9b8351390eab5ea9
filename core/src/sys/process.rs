#![allow(unsafe_code)] // unshare(2), the auxiliary vector and the environment have no safe wrapper.
//! Facts about processes, and what this one was started with.

use std::ffi::{CStr, CString};
use std::time::Duration;

use nix::errno::Errno;

use super::pid::Pid;
use super::{Sys, attached, check};

/// The processor time of all threads of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessorTime {
    /// They ran.
    pub(crate) ran: Duration,
    /// They were ready to run and waited for a processor.
    pub(crate) waited: Duration,
    /// One is ready to run, or runs.
    pub(crate) ready: bool,
}

/// A process may have thousands of threads, and asking for all would take too long.
const THREADS_ASKED: usize = 32;

/// From proc_pid_schedstat(5) and proc_pid_stat(5) of its first threads. `None` where the kernel does not tell.
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

/// A number from 0 to 1.
pub(crate) fn random_share() -> f64 {
    (random() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The memory that a process has for itself, in KiB (RssAnon of proc_pid_status(5)). Nothing that walks an address space.
pub(crate) fn anonymous_kib(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// True if the program has more than one thread. Needs no descriptor, as there may be none left: the directory has a link for itself,
/// one from its parent and one for each thread. Without /proc, unshare(2) tells: it refuses CLONE_THREAD where there are others.
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

/// True once the process has called exec(2): PF_FORKNOEXEC (include/linux/sched.h) is gone from its flags (proc_pid_stat(5)).
pub(super) fn has_executed(pid: Pid) -> bool {
    let flags = || {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let behind_name = text.iter().rposition(|byte| *byte == b')')? + 2;
        let fields = std::str::from_utf8(text.get(behind_name..)?).ok()?;
        fields.split_ascii_whitespace().nth(6)?.parse::<u32>().ok()
    };
    flags().is_some_and(|flags| flags & 0x40 == 0)
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

/// True if the process has rights that its caller did not have (a set-user-ID program). Its environment must not be believed then.
pub(crate) fn is_secure_execution() -> bool {
    // SAFETY: only reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The path by which the running program was started. `None` where the kernel does not tell.
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
    use super::super::pid::own_pid;
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

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
