//! What must hold all the time: of the primary looked at every 100 ms, of its workers every second. While a process is reaped, the
//! kernel waits for whoever reads its /proc, spinning (d_invalidate): looking at all workers every 100 ms on a busy machine
//! held up the primary that reaped them for a second and more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster_bench::process;
use nix::unistd::Pid;

const EVERY: Duration = Duration::from_millis(100);
/// Every so many looks the workers are looked at, too.
const LOOKS_AT_PRIMARY: u64 = 10;
/// Who was a zombie at so many of those has been forgotten.
const ZOMBIE_LOOKS: u32 = 3;

#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub looks: u64,
    /// The primary's: at the first look, the most, and at the last.
    pub descriptors: (u64, u64, u64),
    /// Resident memory in kilobytes, the same.
    pub memory: (u64, u64, u64),
    /// Children of the primary that ended and were not reaped for 2 s.
    pub zombies: u64,
    /// Descriptors that a program of a worker's own has beside 0, 1 and 2.
    pub leaked: Vec<String>,
}

/// What the rig itself was started with and passes on; taken note of once, at the start.
pub fn note_inherited() {
    INHERITED.get_or_init(|| links(nix::unistd::Pid::this()).into_iter().map(|(_, what)| what).collect());
}

static INHERITED: OnceLock<Vec<String>> = OnceLock::new();

/// Numbers of descriptors, and what they are of.
fn links(pid: Pid) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let link = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, std::fs::read_link(entry.path()).ok()?.display().to_string()))
    };
    entries.filter_map(link).collect()
}

pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

pub fn memory(pid: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

pub fn descriptors(pid: Pid) -> u64 {
    process::descriptors(pid).map_or(0, |count| count as u64)
}

impl Watch {
    pub fn start(primary: Pid) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut seen, mut zombies) = (Seen::default(), BTreeMap::new());
            loop {
                seen.look(primary, &mut zombies);
                if theirs.load(Ordering::Relaxed) {
                    return seen;
                }
                std::thread::sleep(EVERY);
            }
        });
        Self { stop, thread }
    }

    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

impl Seen {
    fn look(&mut self, primary: Pid, zombies: &mut BTreeMap<i32, u32>) {
        let update = |kept: &mut (u64, u64, u64), value: u64, first: bool| {
            *kept = (if first { value } else { kept.0 }, kept.1.max(value), value);
        };
        let first = self.looks == 0;
        self.looks += 1;
        update(&mut self.descriptors, descriptors(primary), first);
        update(&mut self.memory, memory(primary), first);
        if !self.looks.is_multiple_of(LOOKS_AT_PRIMARY) {
            return;
        }
        let children = process::children(primary);
        let dead: Vec<i32> =
            children.iter().filter(|pid| process::state(**pid) == Some('Z')).map(|pid| pid.as_raw()).collect();
        zombies.retain(|pid, _| dead.contains(pid));
        for pid in dead {
            let looks = zombies.entry(pid).or_insert(0);
            *looks += 1;
            self.zombies += u64::from(*looks == ZOMBIE_LOOKS);
        }
        // One worker at a time: all are made in the same way.
        let one = (self.looks / LOOKS_AT_PRIMARY) as usize % children.len().max(1);
        for program in children.get(one).into_iter().flat_map(|worker| process::children(*worker)) {
            // Before its exec it is a copy of the worker.
            let name = std::fs::read_to_string(format!("/proc/{program}/comm")).unwrap_or_default();
            if name.trim() != "sleep" {
                continue;
            }
            for (number, what) in links(program) {
                let is_known = INHERITED.get().is_some_and(|known| known.contains(&what));
                // A program that starts opens files of its own.
                let is_ours = !what.starts_with('/') || what.starts_with("/memfd:") || what.contains("claims-");
                if number > 2 && is_ours && !is_known && self.leaked.len() < 10 {
                    self.leaked.push(format!("{number} -> {what}"));
                }
            }
        }
    }

    /// What is wrong, in words.
    pub fn breaches(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.zombies > 0 {
            found.push(format!("{} zombies", self.zombies));
        }
        if !self.leaked.is_empty() {
            found.push(format!("descriptors in programs of workers: {}", self.leaked.join(", ")));
        }
        found
    }
}
