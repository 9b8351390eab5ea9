//! One life of one contender: started, asked what it served, ended, and nothing of it left behind.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::board::Board;
use crate::client::{HTTP, Target};
use crate::contender::{Contender, KERNEL, Kind, PASSED, ROTATION, SHARED, SOURCE_HASH, Shape};
use crate::error::{Error, Result, fail, failed};
use crate::nginx::{self, Nginx};
use crate::process;
use crate::workshop::Workshop;

const PATIENCE: Duration = Duration::from_secs(30);
/// What a server in C ends with that cannot do what it was asked for.
const UNAVAILABLE: i32 = 77;

/// Who counts what was served.
enum Counts {
    Board,
    /// The primary in Node, asked on its standard input; its answers.
    Node(Lines),
    /// nginx counts for all its workers together, on a unix socket of its own.
    Nginx(PathBuf),
}

/// CPU time in microseconds, how often a CPU was given to one of the processes, and how often one of them was woken.
#[derive(Default, Clone, Copy)]
pub struct Used {
    pub primary: f64,
    pub workers: f64,
    pub runs: f64,
    pub primary_wakes: f64,
    pub worker_wakes: f64,
}

impl Used {
    pub fn all(self) -> f64 {
        self.primary + self.workers
    }

    /// For each of so many connections.
    pub fn since(self, before: Self, connections: usize) -> Self {
        self.per(before, connections as f64)
    }

    /// For each of so many connections, requests or seconds.
    pub fn per(self, before: Self, units: f64) -> Self {
        let each = |now: f64, before: f64| (now - before) / units;
        Self {
            primary: each(self.primary, before.primary),
            workers: each(self.workers, before.workers),
            runs: each(self.runs, before.runs),
            primary_wakes: each(self.primary_wakes, before.primary_wakes),
            worker_wakes: each(self.worker_wakes, before.worker_wakes),
        }
    }
}

pub struct Server {
    child: Child,
    pub board: Board,
    counts: Counts,
    pub ports: Vec<u16>,
    workers: usize,
    http: bool,
    many_clients: bool,
    /// From the start of the program until all its workers listened.
    pub started_in: Duration,
    /// The primary, and behind it the workers.
    pub pids: Vec<Pid>,
}

impl Server {
    pub fn start(shop: &Workshop, contender: &Contender, shape: Shape) -> Result<Self> {
        let board = Board::new()?;
        board.hold(shape.held);
        let workers = contender.workers(shape.workers);
        let (mut command, nginx) = command_for(shop, contender, shape, &board)?;
        let begin = Instant::now();
        let child = command.spawn().map_err(failed(contender.name))?;
        let http = nginx.is_some() || shape.http;
        let mut server = Self {
            child,
            board,
            counts: Counts::Board,
            ports: Vec::new(),
            workers,
            http,
            many_clients: matches!(contender.kind, Kind::Cluster { policy: SOURCE_HASH, .. }),
            started_in: Duration::ZERO,
            pids: Vec::new(),
        };
        if let Some((port, socket)) = nginx {
            server.ports = vec![port];
            server.counts = Counts::Nginx(socket);
            server.await_nginx()?;
        } else if contender.is_node() {
            server.await_node(contender)?;
        } else {
            server.await_board(contender, shape)?;
        }
        server.started_in = begin.elapsed();
        let primary = Pid::from_raw(server.child.id() as i32);
        server.pids = [vec![primary], process::children(primary)].concat();
        let expected = if contender.kind == Kind::Raw("single") { 1 } else { workers + 1 };
        if server.pids.len() != expected {
            return fail(format!("{} processes instead of {expected}", server.pids.len()));
        }
        // LD_LIBRARY_PATH, for one, can put another build in the place of the one that is to be measured.
        if let Some(file) = file_of(shop, contender)?.filter(|file| !process::has_mapped(primary, file)) {
            return fail(format!("it does not use {} (LD_LIBRARY_PATH?)", file.display()));
        }
        Ok(server)
    }

    fn await_board(&mut self, contender: &Contender, shape: Shape) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.board.listening() < self.workers || self.board.ports(shape.addresses).contains(&0) {
            let mut ended = self.child.try_wait().map_err(failed("waitpid"))?;
            let error = self.board.error();
            if ended.is_some() || error.is_some() {
                // Whoever writes why ends right after it; but one whose worker wrote it goes on, and replaces that worker.
                let deadline = Instant::now() + Duration::from_millis(500);
                while ended.is_none() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                    ended = self.child.try_wait().map_err(failed("waitpid"))?;
                }
                let why = error.or_else(|| self.board.error()).unwrap_or_else(|| "it ended at once".into());
                let refused = ended.is_some_and(|status| status.code() == Some(UNAVAILABLE));
                return Err(if refused { Error::Unavailable(why) } else { Error::Failed(why) });
            }
            if Instant::now() > deadline {
                return fail(format!(
                    "{}: {} of {} workers listen",
                    contender.name,
                    self.board.listening(),
                    self.workers
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        self.ports = self.board.ports(shape.addresses);
        if let Kind::Cluster { mechanism: wanted @ (PASSED | KERNEL | ROTATION), .. } = contender.kind {
            let deadline = Instant::now() + Duration::from_secs(2);
            while self.board.mechanism() == 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_micros(200));
            }
            let used = self.board.mechanism();
            if used != wanted {
                let name = match used {
                    PASSED => "passed",
                    KERNEL => "kernel",
                    SHARED => "shared",
                    ROTATION => "rotation",
                    _ => "unknown",
                };
                return Err(Error::Unavailable(format!("the mechanism used is {name}")));
            }
        }
        Ok(())
    }

    fn await_node(&mut self, contender: &Contender) -> Result<()> {
        let output = self.child.stdout.take().ok_or_else(|| Error::Failed("no output".into()))?;
        let mut lines = Lines { output: File::from(std::os::fd::OwnedFd::from(output)), kept: Vec::new() };
        let Some(line) = lines.next()? else {
            return fail("it ended before its workers listened");
        };
        if let Some(why) = line.strip_prefix("unavailable ") {
            return Err(Error::Unavailable(why.to_owned()));
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["ready", port, mechanism] = words[..] else {
            return fail(format!("it said '{line}'"));
        };
        let wanted = match contender.kind {
            Kind::Node { ours: Some("auto"), .. } => mechanism,
            Kind::Node { ours, .. } => ours.unwrap_or("stock"),
            _ => mechanism,
        };
        if mechanism != wanted {
            return Err(Error::Unavailable(format!("the mechanism used is {mechanism}")));
        }
        self.ports = vec![port.parse().map_err(failed("a port"))?];
        self.counts = Counts::Node(lines);
        Ok(())
    }

    fn await_nginx(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let primary = Pid::from_raw(self.child.id() as i32);
        // The socket for the counts is opened with the other one; the workers come after both.
        while process::children(primary).len() < self.workers || self.counts().is_err() {
            if let Some(status) = self.child.try_wait().map_err(failed("waitpid"))? {
                return Err(Error::Unavailable(format!("nginx does not start: {status}")));
            }
            if Instant::now() > deadline {
                return fail("nginx does not answer");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    pub fn target(&self) -> Target {
        Target {
            ports: self.ports.clone(),
            request: if self.http { HTTP } else { b"" },
            many_clients: self.many_clients,
        }
    }

    /// What each worker has served since the start.
    pub fn counts(&mut self) -> Result<Vec<u64>> {
        match &mut self.counts {
            Counts::Board => Ok(self.board.served(self.workers)),
            Counts::Node(lines) => {
                let input = self.child.stdin.as_mut().ok_or_else(|| Error::Failed("no input".into()))?;
                input.write_all(b"counts\n").map_err(failed("asking for the counts"))?;
                let line = lines.next()?.unwrap_or_default();
                let numbers = line.strip_prefix("counts ").unwrap_or_default().split(' ').map(str::parse);
                numbers.collect::<std::result::Result<_, _>>().map_err(|_| Error::Failed(format!("counts: '{line}'")))
            }
            Counts::Nginx(socket) => {
                let mut stream = std::os::unix::net::UnixStream::connect(socket).map_err(failed("nginx's counts"))?;
                stream.write_all(HTTP).map_err(failed("nginx's counts"))?;
                let mut text = String::new();
                stream.read_to_string(&mut text).map_err(failed("nginx's counts"))?;
                // "server accepts handled requests", and three numbers in the next line; those who ask are counted too.
                let numbers = text.lines().skip_while(|line| !line.starts_with("server accepts")).nth(1);
                let requests =
                    numbers.and_then(|line| line.split_whitespace().nth(2)).and_then(|word| word.parse().ok());
                requests.map(|count: u64| vec![count]).ok_or_else(|| Error::Failed("nginx has no stub_status".into()))
            }
        }
    }

    /// Fails unless exactly so many connections were served since `before`; gives what each worker served.
    pub fn check_served(&mut self, before: &[u64], made: u64) -> Result<Vec<u64>> {
        // nginx counts the question itself.
        let asked = u64::from(matches!(self.counts, Counts::Nginx(_)));
        let served: Vec<u64> =
            self.counts()?.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect();
        let total = served.iter().sum::<u64>().saturating_sub(asked);
        if total != made {
            return fail(format!("served {total} of {made} connections"));
        }
        Ok(served)
    }

    /// What the primary and the workers have used since they started. One process is all worker.
    pub fn used(&self) -> Result<Used> {
        let mut used = Used::default();
        for (i, pid) in self.pids.iter().enumerate() {
            let (cpu, runs) = process::used(*pid)?;
            let wakes = process::wakes(*pid)?;
            used.runs += runs;
            if i == 0 && self.pids.len() > 1 {
                used.primary += cpu;
                used.primary_wakes += wakes;
            } else {
                used.workers += cpu;
                used.worker_wakes += wakes;
            }
        }
        Ok(used)
    }

    /// Ends it, and fails if something of it is left.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let primary = Pid::from_raw(self.child.id() as i32);
        let pids = [self.pids.clone(), process::children(primary)].concat();
        process::go_on(&pids);
        self.board.hold(false);
        if matches!(self.counts, Counts::Node(_)) {
            self.child.stdin = None;
        } else {
            process::signal(primary, Signal::SIGTERM);
        }
        let gone = process::are_gone(&[primary], Duration::from_secs(8));
        if !gone {
            process::signal(primary, Signal::SIGKILL);
        }
        self.child.wait().map_err(failed("waitpid"))?;
        if !process::are_gone(&pids, Duration::from_secs(8)) {
            pids.iter()
                .filter(|pid| process::state(**pid).is_some())
                .for_each(|pid| process::signal(*pid, Signal::SIGKILL));
            return fail("a server left processes behind");
        }
        if !gone {
            return fail("a server did not end when it was asked to");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Also after a failure nothing may be left; what went wrong has been told already.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.end();
        }
    }
}

/// What a server prints, line by line, waited for with a deadline.
struct Lines {
    output: File,
    kept: Vec<u8>,
}

impl Lines {
    fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.kept.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            let mut polled = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, PATIENCE.as_millis() as u16).map_err(failed("poll"))? == 0 {
                return fail("a server says nothing");
            }
            let mut bytes = [0; 4096];
            let count = self.output.read(&mut bytes).map_err(failed("read"))?;
            if count == 0 {
                return Ok(None);
            }
            self.kept.extend_from_slice(&bytes[..count]);
        }
    }
}

/// The file of this project that a contender loads.
fn file_of(shop: &Workshop, contender: &Contender) -> Result<Option<PathBuf>> {
    let file = match contender.kind {
        Kind::Cluster { .. } => shop.library.join("libcluster.so"),
        Kind::Node { ours: Some(_), .. } => shop.node_addon_file()?,
        _ => return Ok(None),
    };
    file.canonicalize().map(Some).map_err(failed("what is measured"))
}

fn command_for(shop: &Workshop, contender: &Contender, shape: Shape, board: &Board) -> Result<(Command, Nginx)> {
    let c = |program: &'static str, first: &[String]| -> Result<(Command, Nginx)> {
        let mut command = Command::new(shop.program(program)?);
        command.args(first).arg(format!("workers={}", shape.workers)).arg(format!("addresses={}", shape.addresses));
        command.arg(format!("answer={}", u8::from(shape.answers))).arg(format!("epoll={}", u8::from(shape.event_loop)));
        command.arg(format!("http={}", u8::from(shape.http)));
        command.env("BENCH_BOARD", board.path()).env_remove("CL_MECHANISM").stdin(Stdio::null());
        Ok((command, None))
    };
    match contender.kind {
        Kind::Raw(mode) => c("raw", &[mode.into()]),
        Kind::Uv => c("uv", &[]),
        Kind::Cluster { policy, mechanism } => {
            c("cluster", &[format!("policy={policy}"), format!("mechanism={mechanism}")])
        }
        Kind::Nginx { reuseport } => nginx::command(shop, reuseport, shape.workers),
        Kind::Node { policy, ours } => {
            let mut command = Command::new(shop.node()?);
            command.arg(shop.root.join("bench/contenders/server.cjs"));
            match ours {
                None => command.arg("node:cluster"),
                Some(_) => command.arg(shop.node_addon()?),
            };
            command.args([policy, if shape.http { "http" } else { "net" }, &shape.workers.to_string()]);
            command.arg(if shape.answers { "1" } else { "0" });
            command.env("NODE_CLUSTER_SCHED_POLICY", policy).env("CL_MECHANISM", ours.unwrap_or("auto"));
            command
                .env_remove("NODE_OPTIONS")
                .env_remove("CLUSTER_RS_ADDON")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            Ok((command, None))
        }
    }
}
