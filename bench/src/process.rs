//! What the kernel says of the processes of a server.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Result, fail, failed};

/// The children of a process, whichever of its threads started them; oldest first.
pub fn children(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw));
    }
    found.sort_by_key(|pid: &Pid| pid.as_raw());
    found
}

/// CPU time of a process in microseconds, and how often it was given a CPU: all its threads (proc(5), schedstat).
pub fn used(pid: Pid) -> Result<(f64, f64)> {
    let (mut nanoseconds, mut runs) = (0, 0);
    let path = format!("/proc/{pid}/task");
    for task in fs::read_dir(&path).map_err(failed(&path))?.flatten() {
        // A thread that has ended between the two calls had nothing to do with what is measured.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if let [cpu, _waited, count] = numbers[..] {
            nanoseconds += cpu;
            runs += count;
        }
    }
    Ok((nanoseconds as f64 / 1e3, runs as f64))
}

/// How often a thread of the process went to sleep, and so how often one was woken (proc(5), status).
pub fn wakes(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/task");
    let of = |task: fs::DirEntry| -> Option<f64> {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    Ok(fs::read_dir(&path).map_err(failed(&path))?.flatten().filter_map(of).sum())
}

/// What the CPUs of the machine have done since it was started (proc(5), stat).
#[derive(Clone, Copy)]
pub struct Machine {
    at: Instant,
    /// In the kernel's unit: what it measured, and what of that was work.
    measured: f64,
    busy: f64,
}

impl Machine {
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").map_err(failed("/proc/stat"))?;
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what guests used is in the first two.
        let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        let measured = ticks.iter().sum();
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        Ok(Self { at: Instant::now(), measured, busy: measured - idle })
    }

    /// The part of the machine that others used, from 0 to 1, where we used so many microseconds of CPU.
    pub fn others_since(self, before: Self, own: f64) -> f64 {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let ours = own / ((self.at - before.at).as_secs_f64() * 1e6 * cpus);
        ((self.busy - before.busy) / (self.measured - before.measured).max(1.0) - ours).max(0.0)
    }
}

/// Memory that only this process uses, in kilobytes.
pub fn private_memory(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).map_err(failed(&path))?;
    let value = |line: &str| line.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    Ok(text.lines().filter(|line| line.starts_with("Private_")).map(value).sum())
}

pub fn descriptors(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&path).map_err(failed(&path))?.count() as f64)
}

/// How many of them are sockets.
pub fn sockets(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&path).map_err(failed(&path))?.flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(links.filter(|link| link.as_os_str().as_encoded_bytes().starts_with(b"socket:")).count() as f64)
}

/// Whether the process has mapped the file.
pub fn has_mapped(pid: Pid, file: &Path) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let wanted = file.display().to_string();
    text.lines().any(|line| line.split_once('/').is_some_and(|(_, path)| format!("/{path}") == wanted))
}

/// The kernel's own memory in slabs, of the whole machine, in kilobytes.
pub fn slab() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Slab:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// As long as it lives, this program is given a CPU before those that run with the same priority otherwise.
pub struct Ahead {
    usual: i32,
}

impl Ahead {
    const BY: i32 = 10;

    /// Where that is allowed.
    pub fn of_the_others() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let usual = text.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()?;
        Self::set(usual - Self::BY).then_some(Self { usual })
    }

    fn set(priority: i32) -> bool {
        let mut command = Command::new("renice");
        command.args(["-n", &priority.to_string(), "-p", &std::process::id().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        Self::set(self.usual);
    }
}

/// Sends a signal to a process of ours; that it may be gone already is for others to notice.
pub fn signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// Stops processes and waits until they do not run, which the kernel promises only for the calling process itself.
pub fn stop(pids: &[Pid]) -> Result<()> {
    for pid in pids {
        signal(*pid, Signal::SIGSTOP);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    for pid in pids {
        while !matches!(state(*pid), Some('T' | 'Z') | None) {
            if Instant::now() > deadline {
                return fail(format!("process {pid} does not stop"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(())
}

/// Lets them run again: workers first, so that a primary that hands over finds them awake.
pub fn go_on(pids: &[Pid]) {
    for pid in pids.iter().rev() {
        signal(*pid, Signal::SIGCONT);
    }
}

/// The letter of proc(5): R, S, T, Z, ...
pub fn state(pid: Pid) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

/// Waits until none of them runs any more; says whether that came to pass.
pub fn are_gone(pids: &[Pid], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while pids.iter().any(|pid| !matches!(state(*pid), None | Some('Z'))) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}
