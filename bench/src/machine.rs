//! Under which circumstances was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::workshop::{Workshop, version_of};

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_else(|_| "unknown".into())
}

/// The load of the last minute: what else went on before the run.
pub fn load_average() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or("unknown").to_owned()
}

fn git(folder: &Path, words: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(words).stderr(std::process::Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Of the checkout that a folder is in.
pub fn commit(folder: &Path) -> String {
    let commit = git(folder, &["rev-parse", "--short=10", "HEAD"]).unwrap_or_else(|| "unknown".into());
    let changed = git(folder, &["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    format!("commit {commit}{}", if changed { " with changes" } else { "" })
}

/// A line each, for the head of a file of results.
pub fn circumstances(shop: &Workshop, command: &str) -> Vec<String> {
    let cpus = read("/proc/cpuinfo");
    let models: Vec<&str> = cpus.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().map_or("unknown CPU", |line| line.trim_start_matches([' ', '\t', ':']));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let version =
        |program: &str, word: &str| version_of(Command::new(program).arg(word)).unwrap_or_else(|| "none".into());
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let node = shop.node().map_or("none".into(), |node| version(&node, "--version"));
    let nginx = shop.nginx().map_or("none".into(), |file| version(&file.display().to_string(), "-v"));
    let libuv = version_of(Command::new("pkg-config").args(["--modversion", "libuv"])).unwrap_or_else(|| "none".into());
    let date = version_of(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"])).unwrap_or_default();
    let bpf = match nix::unistd::geteuid().is_root() {
        true => "run by root",
        false => "run without privilege",
    };
    vec![
        format!("command: {command}"),
        format!("date: {date}; load average before: {}", load_average()),
        format!("machine: {count} x {model}; Linux {}; {bpf}", read("/proc/sys/kernel/osrelease")),
        commit(&shop.root).replacen(' ', ": ", 1),
        format!("compilers: {}; {}", version(&compiler, "--version"), version("rustc", "--version")),
        format!("Node {node}; {}; libuv {libuv}", nginx.trim_start_matches("nginx version: ")),
    ]
}
