//! What is done to processes, and the record of when, which the oracle needs.

use std::process::Command;

use cluster_bench::error::{Result, fail, failed};
use cluster_bench::process;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::clock;
use crate::oracle::{Harm, Window};

#[derive(Debug, Default)]
pub struct Harmed {
    pub windows: Vec<Window>,
    /// Processes that are made to fail.
    pub doomed: Vec<u32>,
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid as i32)
}

impl Harmed {
    pub fn kill(&mut self, pid: u32) {
        self.windows.push(Window { pid, harm: Harm::Killed, begin: clock::now(), end: u64::MAX });
        process::signal(pid_of(pid), Signal::SIGKILL);
    }

    pub fn kills(&self) -> usize {
        self.windows.iter().filter(|window| window.harm == Harm::Killed).count()
    }

    pub fn was_killed(&self, pid: u32) -> bool {
        self.doomed.contains(&pid) || self.windows.iter().any(|window| window.pid == pid && window.harm == Harm::Killed)
    }

    /// Stopped until `go_on`.
    pub fn stop(&mut self, pid: u32) {
        self.windows.push(Window { pid, harm: Harm::HeldUp, begin: clock::now(), end: u64::MAX });
        process::signal(pid_of(pid), Signal::SIGSTOP);
    }

    pub fn go_on(&mut self, pid: u32) {
        process::signal(pid_of(pid), Signal::SIGCONT);
        let now = clock::now();
        for window in &mut self.windows {
            if window.pid == pid && window.harm == Harm::HeldUp && window.end == u64::MAX {
                window.end = now;
            }
        }
    }

    /// Makes it compute for as long as it was started to.
    pub fn keep_busy(&mut self, pid: u32, milliseconds: u64) {
        let begin = clock::now();
        // It may have been given no processor at once, and begins with the signal's arrival.
        let end = begin + (milliseconds + 200) * clock::MS;
        self.windows.push(Window { pid, harm: Harm::HeldUp, begin, end });
        process::signal(pid_of(pid), Signal::SIGUSR2);
    }
}

/// The soft limit of descriptors.
fn limit_of(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).map_err(failed("a process's limits"))?;
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    line.split_whitespace().nth(3).and_then(|word| word.parse().ok()).map_or_else(|| fail("no limit"), Ok)
}

fn set_limit(pid: u32, limit: u64) -> Result<()> {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={pid}")).arg(format!("--nofile={limit}:"));
    // A process that is gone has no limits, which is of no interest.
    let output = command.output().map_err(failed("prlimit"))?;
    if output.status.success() || process::state(pid_of(pid)).is_none_or(|state| state == 'Z') {
        return Ok(());
    }
    fail(format!("prlimit: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The lowest number that no descriptor has. Of a few looks the least, because a worker may have a connection in hand.
fn lowest_free(pid: u32) -> u64 {
    let look = || {
        let names = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let used: Vec<u64> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        (0..).find(|number| !used.contains(number)).unwrap_or(0)
    };
    let looks = (0..10).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        look()
    });
    looks.min().unwrap_or(0)
}

const NEARLY: u64 = 32;

/// While it is there, the process gets no further descriptor.
pub struct Shortage {
    pub pid: u32,
    before: u64,
}

impl Shortage {
    pub fn of(pid: u32) -> Result<Self> {
        let before = limit_of(pid)?;
        // A process that runs out of descriptors is short of them before. Those that are open stay, even above the limit.
        set_limit(pid, lowest_free(pid) + NEARLY)?;
        std::thread::sleep(std::time::Duration::from_millis(30));
        set_limit(pid, lowest_free(pid))?;
        Ok(Self { pid, before })
    }

    pub fn end(self) -> Result<()> {
        set_limit(self.pid, self.before)
    }
}
