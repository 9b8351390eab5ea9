//! The engine as a Rust program uses it: real processes, real sockets. What it does for C programs is tested in
//! `tests/c`; here are the parts that only Rust reaches: a `Primary` driven by hand, from a thread, and its counters.
//!
//! A harness of its own (see Cargo.toml). It understands `--list` and `--exact NAME`, as cargo-nextest asks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster_core::{
    Event, ExitStatus, Forked, Mechanism, MechanismKind, Primary, Settings, SocketOption, SpawnOptions, Worker,
    WorkerState, process,
};

const TESTS: [(&str, fn()); 4] = [
    ("messages_go_both_ways", messages_go_both_ways),
    ("serve_replaces_a_worker_and_stops", serve_replaces_a_worker_and_stops),
    ("the_example_echoes_in_turns_and_ends", the_example_echoes_in_turns_and_ends),
    ("the_example_reloads_and_says_how_that_ended", the_example_reloads_and_says_how_that_ended),
];

type TestOfEach = fn(Mechanism);

/// What every mechanism promises.
const TESTS_OF_EACH: [(&str, TestOfEach); 4] = [
    ("an_option_that_one_worker_sets_all_have", an_option_that_one_worker_sets_all_have),
    ("a_forked_worker_serves_and_leaves_when_asked", a_forked_worker_serves_and_leaves_when_asked),
    ("a_primary_is_driven_from_a_thread", a_primary_is_driven_from_a_thread),
    ("turns_are_even", turns_are_even),
];

/// What those promise that give each connection to a worker before that asks for it.
const TESTS_OF_GIVERS: [(&str, TestOfEach); 2] = [
    (
        "what_a_dead_worker_had_not_taken_is_served_and_counted_once",
        what_a_dead_worker_had_not_taken_is_served_and_counted_once,
    ),
    ("turns_are_exact", turns_are_exact),
];

const MECHANISMS: [(&str, Mechanism); 3] =
    [("passed", Mechanism::Passed), ("kernel", Mechanism::Kernel), ("rotation", Mechanism::Rotation)];

/// All of them, with those of each mechanism under a name for each.
fn tests() -> Vec<(String, Box<dyn Fn()>)> {
    let mut tests: Vec<(String, Box<dyn Fn()>)> = Vec::new();
    for (name, test) in TESTS {
        tests.push((name.to_string(), Box::new(test)));
    }
    for (kind, mechanism) in MECHANISMS {
        let of_givers = if mechanism == Mechanism::Rotation { &[][..] } else { &TESTS_OF_GIVERS };
        for (name, test) in TESTS_OF_EACH.iter().chain(of_givers).copied() {
            let test = move || {
                if is_allowed(mechanism) {
                    test(mechanism);
                }
            };
            tests.push((format!("{kind}::{name}"), Box::new(test)));
        }
    }
    tests
}

fn settings(mechanism: Mechanism) -> Settings {
    let mut settings = Settings::default();
    settings.mechanism = mechanism;
    // On a busy machine nobody is to lose a turn.
    settings.patience = PATIENCE;
    settings
}

/// Whether this machine lets this process have the mechanism.
fn is_allowed(mechanism: Mechanism) -> bool {
    let mut primary = Primary::new(Settings::default()).unwrap();
    primary.configure(settings(mechanism)).inspect_err(|error| eprintln!("left out: {error}")).is_ok()
}

fn main() {
    // Started by one of the tests below as a worker.
    if let Ok(Some(worker)) = process::worker() {
        std::process::exit(act_as_worker(&worker));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        if !arguments.iter().any(|argument| argument == "--ignored") {
            tests().iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return;
    }
    if arguments.iter().any(|argument| argument == SERVE_AND_STOP) {
        std::process::exit(serve_and_stop());
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let mut passed = 0;
    for (name, test) in tests().iter().filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str()))) {
        let before = open_descriptors();
        test();
        assert_eq!(open_descriptors(), before, "{name} left descriptors");
        assert_no_children(name);
        println!("test {name} ... ok");
        passed += 1;
    }
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
}

// -- What the tests stand on ----------------------------------------------------------------------------------------

const PATIENCE: Duration = Duration::from_secs(20);

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn assert_no_children(name: &str) {
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
    assert_eq!(children, "", "{name} left children");
}

/// What a worker adds to its slot where the connection has TCP_NODELAY.
const AT_ONCE: u8 = 100;

/// Greets every connection with its slot. Ends when it is asked to leave.
fn act_as_worker(worker: &Worker) -> i32 {
    let listener = match worker.listen("127.0.0.1:0", Default::default()) {
        Ok(listener) => listener,
        Err(_) => return 1,
    };
    // A worker that is to hold its connections back says so in its slot's message.
    let mut order = [0; 16];
    let length = worker.receive(&mut order, Some(PATIENCE)).unwrap_or(0);
    if &order[..length] == b"set" {
        let one = 1_i32.to_ne_bytes().to_vec();
        let option = |name, value| SocketOption { level: libc::IPPROTO_TCP, name, value };
        worker.set_option(&listener, &option(libc::TCP_NODELAY, one.clone())).unwrap();
        let refused = worker.set_option(&listener, &option(libc::TCP_CONGESTION, one)).unwrap_err();
        assert_eq!(refused.code(), -libc::EACCES);
        let long = worker.set_option(&listener, &option(libc::TCP_NODELAY, vec![0; 257])).unwrap_err();
        assert_eq!(long.code(), -libc::EINVAL);
        worker.send(b"done").unwrap();
    }
    if &order[..length] == b"hold" {
        // Until it is killed.
        while worker.receive(&mut order, None).is_ok() {}
        return 2;
    }
    while let Ok((connection, _)) = listener.accept(Default::default()) {
        let mut stream = TcpStream::from(connection);
        let added = if stream.nodelay().unwrap_or(false) { AT_ONCE } else { 0 };
        stream.write_all(&[worker.slot() as u8 + added]).unwrap_or(());
    }
    0
}

/// Which slot answered.
fn ask(address: SocketAddr) -> u8 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut slot = [0];
    stream.read_exact(&mut slot).expect("an answer");
    slot[0]
}

/// Turns the primary until a condition on its events holds.
fn turn_until(primary: &mut Primary, mut is_done: impl FnMut(&Event) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let events = primary.turn(Some(Duration::from_millis(100))).unwrap();
        if events.iter().any(&mut is_done) {
            return;
        }
    }
    panic!("it did not happen in time");
}

fn port_of(event: &Event) -> Option<u16> {
    match event {
        Event::Listening { port, .. } => *port,
        _ => None,
    }
}

/// Forks a worker that runs `act_as_worker`.
fn fork_worker(primary: &mut Primary) -> u32 {
    match primary.fork().unwrap() {
        Forked::Primary(id) => id,
        Forked::Worker { channel, .. } => become_worker(channel),
    }
}

fn become_worker(channel: OwnedFd) -> ! {
    let code = Worker::adopt(channel).map_or(9, |worker| act_as_worker(&worker));
    std::process::exit(code)
}

/// A primary with workers that all listen, told to serve or to hold.
fn cluster(mechanism: Mechanism, orders: &[&[u8]]) -> (Primary, SocketAddr, Vec<u32>) {
    let mut primary = Primary::new(settings(mechanism)).unwrap();
    let ids: Vec<u32> = orders.iter().map(|_| fork_worker(&mut primary)).collect();
    let (mut listening, mut port) = (0, 0);
    turn_until(&mut primary, |event| {
        if let Some(found) = port_of(event) {
            (listening, port) = (listening + 1, found);
        }
        listening == orders.len()
    });
    for (id, order) in ids.iter().zip(orders) {
        primary.send(*id, order).unwrap();
    }
    (primary, SocketAddr::from(([127, 0, 0, 1], port)), ids)
}

/// Stops it and sees every worker out.
fn stop(mut primary: Primary) {
    primary.stop(PATIENCE);
    let deadline = Instant::now() + PATIENCE;
    while !primary.is_idle() {
        assert!(Instant::now() < deadline, "workers stay");
        primary.turn(Some(Duration::from_millis(100))).unwrap();
    }
}

/// Turns a primary on a thread of its own while the caller makes connections.
fn while_turning<T: Send>(primary: &mut Primary, work: impl FnOnce() -> T + Send) -> T {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let turning = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                primary.turn(Some(Duration::from_millis(5))).unwrap();
            }
        });
        let result = work();
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        turning.join().unwrap();
        result
    })
}

// -- The tests ------------------------------------------------------------------------------------------------------

fn a_forked_worker_serves_and_leaves_when_asked(mechanism: Mechanism) {
    let (mut primary, address, ids) = cluster(mechanism, &[b"serve"]);
    assert_eq!(while_turning(&mut primary, || ask(address)), 0);
    let info = primary.worker_info(ids[0]).unwrap();
    assert_eq!((info.worker.slot, info.state, info.delivered), (0, WorkerState::Listening, 1));
    primary.disconnect(ids[0]).unwrap();
    turn_until(&mut primary, |event| matches!(event, Event::Exit { status: ExitStatus::Code(0), .. }));
    assert_eq!(primary.worker_info(ids[0]).unwrap_err().code(), -libc::ESRCH);
    stop(primary);
}

fn an_option_that_one_worker_sets_all_have(mechanism: Mechanism) {
    let (mut primary, address, _) = cluster(mechanism, &[b"set", b"serve"]);
    turn_until(&mut primary, |event| matches!(event, Event::Message { data, .. } if data == b"done"));
    let mut answers = while_turning(&mut primary, || [(); 8].map(|()| ask(address)));
    answers.sort_unstable();
    // In rotation turns are even in the long run.
    let exact = mechanism != Mechanism::Rotation;
    assert!(answers.iter().all(|answer| *answer >= AT_ONCE), "{answers:?}");
    assert!(!exact || answers == [100, 100, 100, 100, 101, 101, 101, 101], "{answers:?}");
    // On a socket of one's own the kernel's word is the only one.
    let listener = process::listen("127.0.0.1:0", Default::default()).unwrap();
    let linger = [1_i32.to_ne_bytes(), 5_i32.to_ne_bytes()].concat();
    listener.set_option(&SocketOption { level: libc::SOL_SOCKET, name: libc::SO_LINGER, value: linger }).unwrap();
    process::close(&listener).unwrap();
    drop(listener);
    stop(primary);
}

fn a_primary_is_driven_from_a_thread(mechanism: Mechanism) {
    let (port, ready) = std::sync::mpsc::channel();
    let mut primary = Primary::new(settings(mechanism)).unwrap();
    let stopper = primary.stop_request();
    let driver = std::thread::spawn(move || {
        // From a process with threads workers are spawned; this one is the test program again.
        primary.spawn(&SpawnOptions::default()).unwrap();
        let mut seen = Vec::new();
        let poller = primary.poller();
        while !(primary.is_idle() && seen.contains(&"exit")) {
            let waited = poller.wait(Some(PATIENCE)).unwrap();
            primary.dispatch(&waited);
            for event in primary.take_events() {
                match event {
                    Event::Fork(_) => seen.push("fork"),
                    Event::Online(worker) => {
                        seen.push("online");
                        primary.send(worker.id, b"serve").unwrap();
                    }
                    Event::Listening { port: Some(found), mechanism: kind, .. } => {
                        let wanted = match mechanism {
                            Mechanism::Kernel => MechanismKind::Kernel,
                            Mechanism::Rotation => MechanismKind::Rotation,
                            _ => MechanismKind::Passed,
                        };
                        assert_eq!(kind, wanted);
                        seen.push("listening");
                        port.send(found).unwrap();
                    }
                    Event::Disconnect(_) => seen.push("disconnect"),
                    Event::Exit { status, .. } => {
                        assert_eq!(status, ExitStatus::Code(0));
                        seen.push("exit");
                    }
                    Event::Ready { generation: 1, .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        seen
    });
    let port = ready.recv_timeout(PATIENCE).unwrap();
    assert_eq!(ask(SocketAddr::from(([127, 0, 0, 1], port))), 0);
    stopper.stop(None);
    assert_eq!(driver.join().unwrap(), ["fork", "online", "listening", "disconnect", "exit"]);
}

fn what_a_dead_worker_had_not_taken_is_served_and_counted_once(mechanism: Mechanism) {
    let (mut primary, address, ids) = cluster(mechanism, &[b"hold"]);
    // They wait for a worker that takes none.
    let waiting: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
    let deadline = Instant::now() + PATIENCE;
    while primary.worker_info(ids[0]).unwrap().waiting < 6 {
        assert!(Instant::now() < deadline);
        primary.turn(Some(Duration::from_millis(10))).unwrap();
    }
    primary.kill(ids[0], libc::SIGKILL).unwrap();
    turn_until(&mut primary, |event| matches!(event, Event::Exit { status: ExitStatus::Signal(9), .. }));
    let successor = fork_worker(&mut primary);
    primary.send(successor, b"serve").unwrap();
    while_turning(&mut primary, || {
        for mut stream in waiting {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_exact(&mut [0]).expect("an answer from the successor");
        }
    });
    let stats = primary.handles()[0].stats;
    assert_eq!(stats.accepted, 6);
    // Where they waited in the kernel, it moved them by itself, or the primary took them out before the worker was killed.
    if mechanism == Mechanism::Passed {
        assert_eq!(stats.reclaimed, 6);
    }
    stop(primary);
}

/// Also where workers come to an address with which others began.
fn turns_are_even(mechanism: Mechanism) {
    let (mut primary, address, _) = cluster(mechanism, &[b"serve", b"serve", b"serve"]);
    let (before, counts) = while_turning(&mut primary, || {
        // A worker that has been told to serve may not stand in line yet, and those who do have the turns of now.
        let (mut all, mut before) = (BTreeSet::new(), 0);
        while all.len() < 3 {
            all.insert(ask(address));
            before += 1;
        }
        let mut counts = BTreeMap::new();
        for _ in 0..3000 {
            *counts.entry(ask(address)).or_insert(0_u32) += 1;
        }
        (before, counts)
    });
    assert!(counts.len() == 3 && counts.values().all(|count| (970..=1030).contains(count)), "{counts:?}");
    assert_eq!(primary.handles()[0].stats.accepted, before + 3000);
    stop(primary);
}

fn turns_are_exact(mechanism: Mechanism) {
    let (mut primary, address, _) = cluster(mechanism, &[b"serve", b"serve", b"serve"]);
    let counts = while_turning(&mut primary, || {
        let mut counts = BTreeMap::new();
        for _ in 0..300 {
            *counts.entry(ask(address)).or_insert(0) += 1;
        }
        counts
    });
    assert_eq!(counts, BTreeMap::from([(0, 100), (1, 100), (2, 100)]));
    stop(primary);
}

fn messages_go_both_ways() {
    let mut primary = Primary::new(Settings::default()).unwrap();
    let id = match primary.fork().unwrap() {
        Forked::Primary(id) => id,
        Forked::Worker { channel, .. } => {
            let worker = Worker::adopt(channel).unwrap();
            let mut buffer = vec![0; cluster_core::MESSAGE_MAX];
            let length = worker.receive(&mut buffer, Some(PATIENCE)).unwrap_or(0);
            worker.send(&buffer[..length]).unwrap();
            std::process::exit(0)
        }
    };
    let message = vec![7; cluster_core::MESSAGE_MAX];
    primary.send(id, &message).unwrap();
    let too_long = vec![0; cluster_core::MESSAGE_MAX + 1];
    assert_eq!(primary.send(id, &too_long).unwrap_err().code(), -libc::EMSGSIZE);
    let mut came_back = false;
    turn_until(&mut primary, |event| {
        came_back |= matches!(event, Event::Message { data, .. } if *data == message);
        matches!(event, Event::Exit { status: ExitStatus::Code(0), .. })
    });
    assert!(came_back);
    stop(primary);
}

/// In a program of its own, since `serve` makes the process's one primary, which lives as long as the process.
fn serve_replaces_a_worker_and_stops() {
    let status = std::process::Command::new(std::env::current_exe().unwrap()).arg(SERVE_AND_STOP).status().unwrap();
    assert!(status.success(), "{status}");
}

const SERVE_AND_STOP: &str = "--serve-and-stop";

/// Workers 1 and 2 end at once and are replaced; when 4 have been seen to listen the cluster is stopped.
fn serve_and_stop() -> i32 {
    let mut listening = 0;
    let worker_main = || {
        let worker = process::worker().unwrap().unwrap();
        let Ok(listener) = cluster_core::listen("127.0.0.1:0", Default::default()) else { return 3 };
        if worker.id() <= 2 {
            return 4;
        }
        while listener.accept(Default::default()).is_ok() {}
        0
    };
    let outcome = cluster_core::serve(Some(2), worker_main, |event| {
        if let Event::Listening { .. } = event {
            listening += 1;
            if listening == 4 {
                cluster_core::stop(None).unwrap();
            }
        }
    });
    match outcome {
        Ok(code) if listening == 4 => code,
        _ => 5,
    }
}

/// A program of examples/rust, which cargo builds with the tests.
fn example(name: &str, arguments: &[&str]) -> Child {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    let mut command = Command::new(program);
    // With turns that are exact.
    command.args(arguments).env("CL_MECHANISM", "passed").stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("cargo builds the examples with the tests")
}

/// The port that ends a line of the examples' about a worker that listens.
fn port_in(line: &str) -> u16 {
    assert!(line.contains("listens on 127.0.0.1:"), "{line}");
    line.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// examples/rust/echo.rs, as its first comment says to run it.
fn the_example_echoes_in_turns_and_ends() {
    let mut example = example("echo", &["127.0.0.1:0", "2"]);
    let mut lines = BufReader::new(example.stdout.take().unwrap()).lines().map(Result::unwrap);
    let listening: Vec<String> = lines.by_ref().take(2).collect();
    let port = listening.iter().map(|line| port_in(line)).next_back().unwrap();
    let mut greeted = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"typed").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (greeting, echo) = answer.split_once('\n').unwrap();
        assert_eq!(echo, "typed");
        greeted.push(greeting.chars().nth("worker ".len()).unwrap());
    }
    assert_eq!(greeted[..2], greeted[2..], "every other turn is the same worker's");
    assert_ne!(greeted[0], greeted[1]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(example.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(example.wait().unwrap().success());
}

/// examples/rust/reload.rs, as its first comment says to run it.
fn the_example_reloads_and_says_how_that_ended() {
    let mut example = example("reload", &["127.0.0.1:0"]);
    let mut input = example.stdin.take().unwrap();
    let mut lines = BufReader::new(example.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut line_of =
        |part: &str| lines.by_ref().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part}"));
    let port = (0..2).map(|_| port_in(&line_of("listens"))).next_back().unwrap();
    await_answers(port, ["worker 1\n", "worker 2\n"]);
    input.write_all(b"\n").unwrap();
    line_of("generation 2: done, 2 replaced");
    await_answers(port, ["worker 3\n", "worker 4\n"]);
    input.write_all(b"true\n").unwrap();
    line_of("generation 3: not done: ");
    await_answers(port, ["worker 3\n", "worker 4\n"]);
    drop(input);
    assert!(example.wait().unwrap().success());
}

/// Asks until both have answered.
fn await_answers(port: u16, both: [&str; 2]) {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = BTreeSet::new();
    while !both.iter().all(|one| seen.contains(*one)) {
        assert!(Instant::now() < deadline, "only {seen:?}");
        seen.insert(word_of(port));
    }
}

/// What a worker that speaks first says.
fn word_of(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
