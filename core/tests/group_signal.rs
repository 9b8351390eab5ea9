//! A signal to everybody, as Rust programs meet it: what a worker has in hand is finished, with `serve`, with `fork` and `run`, and in
//! programs that `spawn` started. The C programs of `tests/c/test_signals_*.c` have the rest.
//!
//! A harness of its own (see Cargo.toml). It understands `--list` and `--exact NAME`, as cargo-nextest asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use cluster_core::process::{self, Side};
use cluster_core::{Settings, SpawnOptions};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

const TESTS: [(&str, fn()); 5] = [
    ("serve_finishes_what_is_in_hand_at_sigterm", || finishes_what_is_in_hand("serve", Signal::SIGTERM)),
    ("serve_finishes_what_is_in_hand_at_sigint", || finishes_what_is_in_hand("serve", Signal::SIGINT)),
    ("forked_workers_finish_what_is_in_hand", || finishes_what_is_in_hand("fork", Signal::SIGTERM)),
    ("spawned_workers_finish_what_is_in_hand", || finishes_what_is_in_hand("spawn", Signal::SIGTERM)),
    ("one_that_is_signalled_alone_is_replaced", one_that_is_signalled_alone_is_replaced),
];

const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    if matches!(process::worker(), Ok(Some(_))) {
        std::process::exit(hold_connections());
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(kind) = arguments.iter().find_map(|argument| argument.strip_prefix("--cluster-of=")) {
        std::process::exit(be_cluster(kind));
    }
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return;
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let mut passed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str()))) {
        test();
        println!("test {name} ... ok");
        passed += 1;
    }
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
}

// -- The program ----------------------------------------------------------------------------------------------------

fn be_cluster(kind: &str) -> i32 {
    if kind == "serve" {
        return cluster_core::serve(Some(1), hold_connections, |_| ()).unwrap();
    }
    let mut settings = Settings::default();
    settings.handle_signals = true;
    settings.worker_signals = true;
    process::with_primary(|primary| primary.configure(settings)).unwrap();
    let is_worker = match kind {
        "fork" => process::fork().unwrap() == Side::Worker,
        _ => process::with_primary(|primary| primary.spawn(&SpawnOptions::default())).is_err(),
    };
    if is_worker || process::run(|_| ()).unwrap() == Side::Worker { hold_connections() } else { 0 }
}

/// Answers each connection when its client has said everything.
fn hold_connections() -> i32 {
    let Ok(listener) = cluster_core::listen("127.0.0.1:0", Default::default()) else { return 3 };
    println!("port {}", listener.name().to_inet().unwrap().port());
    while let Ok((connection, _)) = listener.accept(Default::default()) {
        let mut stream = TcpStream::from(connection);
        println!("hand {}", std::process::id());
        let mut said = String::new();
        // Goes on where the signal came (SA_RESTART).
        stream.read_to_string(&mut said).unwrap();
        stream.write_all(said.to_uppercase().as_bytes()).unwrap();
    }
    0
}

// -- The tests ------------------------------------------------------------------------------------------------------

struct Cluster {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Cluster {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(format!("--cluster-of={kind}"))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn expect(&mut self, word: &str) -> i32 {
        let line = self.lines.next().expect("the cluster says something").unwrap();
        let (found, number) = line.split_once(' ').unwrap();
        assert_eq!(found, word);
        number.parse().unwrap()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    fn expect_end(mut self) {
        let status = self.child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
        assert_eq!(self.lines.next().transpose().unwrap(), None, "nobody is left");
    }
}

/// A client whose words are under way, and what it says in the end.
fn connect(port: i32) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port as u16)).unwrap();
    stream.write_all(b"first ").unwrap();
    stream
}

fn finish(mut stream: TcpStream) {
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "neither cut nor answered");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"and last").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "FIRST AND LAST");
}

fn finishes_what_is_in_hand(kind: &str, signal: Signal) {
    let mut cluster = Cluster::start(kind);
    let client = connect(cluster.expect("port"));
    cluster.expect("hand");
    killpg(cluster.pid(), signal).unwrap();
    finish(client);
    cluster.expect_end();
}

fn one_that_is_signalled_alone_is_replaced() {
    let mut cluster = Cluster::start("serve");
    let port = cluster.expect("port");
    let client = connect(port);
    let worker = cluster.expect("hand");
    kill(Pid::from_raw(worker), Signal::SIGTERM).unwrap();
    finish(client);
    assert_eq!(cluster.expect("port"), port);
    let client = connect(port);
    assert_ne!(cluster.expect("hand"), worker);
    kill(cluster.pid(), Signal::SIGTERM).unwrap();
    finish(client);
    cluster.expect_end();
}
