//! One life of one contender: started, spoken with, ended, and nothing of it left behind.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster_bench::error::{Error, Result, fail, failed};
use cluster_bench::process;
use cluster_bench::workshop::Workshop;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::claims::{self, Claim};
use crate::clock::{self, wait_until};
use crate::contender::{Contender, Kind};

/// How it is started. `Default` is what most scenarios want.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub workers: usize,
    pub looping: bool,
    /// A client whose SYN finds it full asks again after 1 s and 3 s, which no server can help: room enough for the longest
    /// time in which nothing is accepted.
    pub backlog: u32,
    /// For how long the place of a worker that died stays empty. 0: as the library has it when nothing is set.
    pub gap_ms: u64,
    /// What each connection costs its worker.
    pub work_us: u64,
    pub busy_ms: u64,
    pub grandchildren: bool,
    pub host: [u8; 4],
    /// For how long a worker in C waits for an id.
    pub linger_ms: u64,
    /// The library replaces workers (workers/fleet.*), and not the program.
    pub fleet: bool,
    /// In C: its workers are made by the program, not by fork.
    pub spawns: bool,
    /// What a worker's memory grows by with each request.
    pub grow_kb: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            workers: 4,
            looping: false,
            backlog: 4096,
            gap_ms: 0,
            work_us: 0,
            busy_ms: 300,
            grandchildren: false,
            host: [127, 0, 0, 1],
            linger_ms: 2000,
            fleet: false,
            spawns: false,
            grow_kb: 0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Worker {
    pub pid: u32,
    /// Where that is told.
    pub slot: Option<u64>,
    pub generation: Option<u64>,
    /// When it was told.
    pub listening: Option<u64>,
    /// When, its code, its signal.
    pub ended: Option<(u64, i64, i64)>,
}

impl Worker {
    pub fn is_serving(&self) -> bool {
        self.listening.is_some() && self.ended.is_none()
    }
}

/// What the primary has told.
#[derive(Debug, Default)]
pub struct Told {
    pub workers: BTreeMap<u64, Worker>,
    pub port: u16,
    pub mechanism: String,
    pub replaced: Vec<u64>,
    pub resized: u64,
    /// Reloads that have ended: their outcome, why, and their generation.
    pub reloads: Vec<(String, String, u64)>,
    pub recycled: u64,
    /// What came of each command: 0, or a code of failure.
    pub asked: Vec<i64>,
    pub warnings: Vec<String>,
    pub unavailable: Option<String>,
    /// Its output has ended.
    pub silent: bool,
    /// When.
    pub ended: Option<u64>,
}

impl Told {
    pub fn serving(&self) -> Vec<(u64, Worker)> {
        self.workers.iter().filter(|(_, worker)| worker.is_serving()).map(|(id, worker)| (*id, *worker)).collect()
    }

    /// How many have not ended.
    pub fn living(&self) -> usize {
        self.workers.values().filter(|worker| worker.ended.is_none()).count()
    }

    fn take(&mut self, event: &Value) {
        let number = |name: &str| event[name].as_u64().unwrap_or(0);
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let (id, now) = (number("id"), clock::now());
        match event["event"].as_str().unwrap_or_default() {
            "fork" => {
                let pid = number("pid") as u32;
                let [slot, generation] = ["slot", "generation"].map(|name| event[name].as_u64());
                self.workers.insert(id, Worker { pid, slot, generation, listening: None, ended: None });
            }
            "listening" => {
                if self.port == 0 {
                    self.port = number("port") as u16;
                    self.mechanism = text("mechanism");
                }
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.listening.get_or_insert(now);
                }
            }
            "exit" => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    let value = |name: &str| event[name].as_i64().unwrap_or(0);
                    worker.ended = Some((now, value("code"), value("signal")));
                }
            }
            "replaced" => self.replaced.push(id),
            "resized" => self.resized = number("workers"),
            "reload" if !matches!(event["phase"].as_str(), Some("checking" | "rolling")) => {
                self.reloads.push((text("phase"), text("text"), number("generation")));
            }
            "recycled" => self.recycled += 1,
            "asked" => self.asked.push(event["code"].as_i64().unwrap_or(-1)),
            "unavailable" => self.unavailable = Some(text("text")),
            "warning" => self.warnings.push(text("text")),
            _ => {}
        }
    }
}

pub struct Server {
    pub contender: Contender,
    pub shape: Shape,
    child: Child,
    input: Option<ChildStdin>,
    told: Arc<Mutex<Told>>,
    reader: Option<JoinHandle<()>>,
    claims: PathBuf,
    pub port: u16,
    /// How the primary ended, once that was waited for.
    status: Option<i32>,
}

/// Servers side by side have files of claims of their own, by which their processes are known.
static STARTED: AtomicU64 = AtomicU64::new(0);

const PATIENCE: Duration = Duration::from_secs(20);

impl Server {
    pub fn start(shop: &Workshop, contender: Contender, shape: Shape) -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let claims = shop.out.join(format!("claims-{}-{number}-{}", std::process::id(), contender.name));
        std::fs::write(&claims, b"").map_err(failed("the file of claims"))?;
        let mut command = command_for(shop, contender, shape.fleet)?;
        for (name, value) in [
            ("FAULTS_POLICY", contender.policy.to_owned()),
            ("FAULTS_MECHANISM", contender.mechanism.to_owned()),
            ("FAULTS_WORKERS", shape.workers.to_string()),
            ("FAULTS_LOOP", u8::from(shape.looping).to_string()),
            ("FAULTS_BACKLOG", shape.backlog.to_string()),
            ("FAULTS_GAP_MS", shape.gap_ms.to_string()),
            ("FAULTS_WORK_US", shape.work_us.to_string()),
            ("FAULTS_BUSY_MS", shape.busy_ms.to_string()),
            ("FAULTS_GRANDCHILDREN", u8::from(shape.grandchildren).to_string()),
            ("FAULTS_LINGER_MS", shape.linger_ms.to_string()),
            ("FAULTS_SPAWN", u8::from(shape.spawns).to_string()),
            ("FAULTS_GROW_KB", shape.grow_kb.to_string()),
            ("FAULTS_HOST", shape.host.map(|number| number.to_string()).join(".")),
        ] {
            command.env(name, value);
        }
        command.env("FAULTS_CLAIMS", std::path::absolute(&claims).map_err(failed("the file of claims"))?);
        for name in ["CL_MECHANISM", "CL_WORKER_ID", "CL_WORKER_SLOT", "CL_CHANNEL_FD", "NODE_OPTIONS"] {
            command.env_remove(name);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed(contender.name))?;
        let told = Arc::new(Mutex::new(Told::default()));
        let reader = child.stdout.take().map(|output| {
            let told = Arc::clone(&told);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                    if let Ok(event) = serde_json::from_str::<Value>(&line) {
                        told.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
                    }
                }
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                (told.silent, told.ended) = (true, Some(clock::now()));
            })
        });
        let input = child.stdin.take();
        let mut server = Self { contender, shape, child, input, told, reader, claims, port: 0, status: None };
        if !server.await_serving(shape.workers, PATIENCE) {
            if let Some(why) = server.told().unavailable.clone() {
                return Err(Error::Unavailable(why));
            }
            return fail(format!("{}: {} of {} workers listen", contender.name, server.serving().len(), shape.workers));
        }
        let (port, used) = {
            let told = server.told();
            (told.port, told.mechanism.clone())
        };
        server.port = port;
        let wanted = contender.mechanism;
        if matches!(wanted, "passed" | "kernel" | "rotation") && used != wanted {
            return Err(Error::Unavailable(format!("the mechanism used is {used}")));
        }
        Ok(server)
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn serving(&self) -> Vec<(u64, Worker)> {
        self.told().serving()
    }

    /// Waits until exactly so many serve; says whether that came to pass.
    pub fn await_serving(&self, count: usize, limit: Duration) -> bool {
        wait_until(limit, || {
            let told = self.told();
            told.serving().len() == count || told.silent
        }) && self.serving().len() == count
    }

    pub fn primary(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn command(&mut self, line: &str) -> Result<()> {
        let Some(input) = self.input.as_mut() else { return fail("the server was stopped") };
        writeln!(input, "{line}").map_err(failed("a command to the primary"))
    }

    pub fn claims(&self) -> Result<Vec<Claim>> {
        claims::read(&self.claims)
    }

    /// Forgets the claims so far, of which no worker may be in the middle.
    pub fn forget_claims(&self) -> Result<()> {
        std::fs::write(&self.claims, b"").map_err(failed("the file of claims"))
    }

    /// All processes of it that are known of.
    pub fn pids(&self) -> Vec<Pid> {
        let mut pids = vec![self.primary()];
        pids.extend(self.told().workers.values().map(|worker| Pid::from_raw(worker.pid as i32)));
        pids
    }

    /// Asks all to leave; fails if they do not, or if something of it is left.
    pub fn stop(mut self) -> Result<()> {
        process::go_on(&self.pids());
        let told = self.command("stop");
        self.await_end(Duration::from_secs(15));
        told.and(self.ended())
    }

    /// Waits for the primary's end. Of servers side by side all are waited for before any is asked how it `ended`.
    pub fn await_end(&mut self, limit: Duration) {
        if process::are_gone(&[self.primary()], limit) {
            self.status = self.child.wait().ok().and_then(|status| status.code());
        }
    }

    /// How it ended that was told to stop.
    pub fn ended(mut self) -> Result<()> {
        // Programs of a worker's own are killed with it, and take a moment to die.
        wait_until(Duration::from_secs(2), || self.running().is_empty());
        let left = self.clear_up();
        if self.status != Some(0) {
            let status = self.status;
            return fail(format!("{}: the primary did not end as it should: {status:?}", self.contender.name));
        }
        if !left.is_empty() {
            return fail(format!("{}: processes are left: {left:?}", self.contender.name));
        }
        Ok(())
    }

    /// Its processes that run, orphans among them.
    fn running(&self) -> Vec<Pid> {
        let is_running = |pid: &Pid| !matches!(process::state(*pid), None | Some('Z'));
        let ours: Vec<Pid> = [self.pids(), process::children(Pid::this())].concat();
        ours.into_iter().filter(is_running).filter(|pid| is_of(*pid, &self.claims)).collect()
    }

    /// Kills what is left of it; tells who that was. The rig inherits orphans and reaps them.
    pub fn clear_up(&mut self) -> Vec<i32> {
        self.input = None;
        let left = self.running();
        for pid in &left {
            process::signal(*pid, Signal::SIGKILL);
        }
        process::are_gone(&left, Duration::from_secs(5));
        let _ = self.child.wait();
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {}
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        left.into_iter().map(Pid::as_raw).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.clear_up();
        let _ = std::fs::remove_file(&self.claims);
    }
}

/// By its environment a process is known as one of this server, whatever number it has got.
fn is_of(pid: Pid, claims: &std::path::Path) -> bool {
    let name = claims.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(name.len().max(1)).any(|window| window == name)
}

fn command_for(shop: &Workshop, contender: Contender, fleet: bool) -> Result<Command> {
    match contender.kind {
        Kind::C => Ok(Command::new(shop.program(if fleet { "fleet" } else { "cluster" })?)),
        Kind::ClusterRs | Kind::Stock => {
            let name = if fleet { "fleet.cjs" } else { "node.cjs" };
            let program = shop.root.join("tests/rigs/faults/workers").join(name);
            if !program.exists() {
                return Err(Error::Unavailable("there is no program in Node".into()));
            }
            let mut command = Command::new(shop.node()?);
            command.arg(program);
            match contender.kind {
                Kind::Stock => command.env("FAULTS_MODULE", "node:cluster"),
                _ => command.env(
                    "FAULTS_MODULE",
                    std::path::absolute(shop.node_addon()?).map_err(failed("the addon's folder"))?,
                ),
            };
            Ok(command)
        }
    }
}
