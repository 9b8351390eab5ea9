//! Where the time goes: the same loads, with perf(1) looking at the processes of the server.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::contender::{Contender, Shape};
use crate::error::{Error, Result, fail, failed};
use crate::process;
use crate::server::Server;
use crate::workshop::{Workshop, version_of};

const LOOKS_PER_SECOND: &str = "5000";
const LENGTH: Duration = Duration::from_secs(4);

/// For one contender: under 64 outstanding connections, and while it drains queues.
pub fn of(shop: &Workshop, contender: &Contender, length: Duration) -> Result<String> {
    if version_of(Command::new("perf").arg("--version")).is_none() {
        return Err(Error::Unavailable("perf is not installed (package linux-perf)".into()));
    }
    let server = Server::start(shop, contender, Shape::workers(4))?;
    let target = server.target();
    target.ring(2_000, 64, |_| ())?;
    let mut text = String::new();
    for load in ["64 outstanding", "draining queues of 4,000"] {
        let data = shop.out.join("perf.data");
        let mut perf = record(&server.pids, &data)?;
        let begin = Instant::now();
        while begin.elapsed() < length {
            if load.starts_with("64") {
                target.ring(1_000, 64, |_| ())?;
            } else {
                process::stop(&server.pids)?;
                let queue = target.queue(4_000)?;
                process::go_on(&server.pids);
                target.await_all(&queue)?;
            }
        }
        process::signal(Pid::from_raw(perf.id() as i32), Signal::SIGINT);
        perf.wait().map_err(failed("perf record"))?;
        text += &format!("{}, {load}\n{}\n", contender.title, told(&data)?);
        let _ = std::fs::remove_file(&data);
    }
    server.stop()?;
    Ok(text)
}

pub fn all(shop: &Workshop, contenders: &[&'static Contender]) -> Result<String> {
    let mut text = String::new();
    for contender in contenders {
        match of(shop, contender, LENGTH) {
            Ok(one) => {
                println!("{one}");
                text += &one;
            }
            Err(Error::Unavailable(why)) => println!("  without {}: {why}", contender.name),
            Err(error) => return Err(error),
        }
    }
    Ok(text)
}

fn record(pids: &[Pid], data: &Path) -> Result<Child> {
    let list: Vec<String> = pids.iter().map(Pid::to_string).collect();
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-e", "cpu-clock", "-F", LOOKS_PER_SECOND, "-g", "-p", &list.join(",")]);
    command.arg("-o").arg(data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed("perf record"))?;
    // It has begun when its file is there.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !data.exists() {
        if Instant::now() > deadline || child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return fail("perf records nothing");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}

/// Each line of perf's report: a part in percent, and a symbol; the largest first.
fn report(data: &Path, how: &str) -> Result<Vec<(f64, String)>> {
    let part = if how == "--children" { "overhead_children" } else { "overhead" };
    let fields = format!("{part},sym");
    let mut command = Command::new("perf");
    command.args(["report", "--stdio", "-g", "none", how, "-F", &fields, "-i"]).arg(data);
    let output = command.stderr(Stdio::null()).output().map_err(failed("perf report"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (part, symbol) = line.trim().split_once('%')?;
        let symbol = symbol.trim().trim_start_matches("[k] ").trim_start_matches("[.] ");
        Some((part.parse().ok()?, symbol.split("  ").next()?.to_owned()))
    });
    let mut lines: Vec<(f64, String)> = lines.collect();
    lines.sort_by(|one, other| other.0.total_cmp(&one.0));
    Ok(lines)
}

/// The name of a system call, if the function is one; some show by their inner function only.
fn system_call(symbol: &str) -> Option<&str> {
    ["__x64_sys_", "__arm64_sys_", "__sys_"].into_iter().find_map(|prefix| symbol.strip_prefix(prefix))
}

/// The system calls with all that they cause, and the functions that the time was spent in.
fn told(data: &Path) -> Result<String> {
    let mut text = String::from("  in system calls, with all that they cause:\n");
    let mut told: Vec<String> = Vec::new();
    for (part, symbol) in report(data, "--children")? {
        let Some(call) = system_call(&symbol).filter(|call| part >= 1.0 && !told.iter().any(|other| other == call))
        else {
            continue;
        };
        text += &format!("    {part:5.1} %  {call}\n");
        told.push(call.to_owned());
    }
    text += "  most in:\n";
    for (part, symbol) in report(data, "--no-children")?.iter().take(12) {
        text += &format!("    {part:5.1} %  {symbol}\n");
    }
    Ok(text)
}
