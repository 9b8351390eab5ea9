//! The Rust side of the tests of several languages on one port: program.c in Rust, with a thread for each listener.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use cluster_core::process::with_primary;
use cluster_core::{Event, ExitStatus, Listener, MESSAGE_MAX, Policy, Respawn, SpawnOptions, Worker, process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const STOP_DEADLINE: Duration = Duration::from_secs(20);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (role, rest) = arguments.split_first().map_or(("", &[][..]), |(role, rest)| (role.as_str(), rest));
    let outcome = match role {
        "worker" => worker(rest),
        "primary" => primary(rest.first().map_or("rr", String::as_str), rest.len() > 1),
        _ => {
            Err("usage: program primary [rr | none | least-loaded | source-hash] [respawn] | worker ADDRESS ...".into())
        }
    };
    if let Err(error) = outcome {
        eprintln!("rust: {error}");
        std::process::exit(1);
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn worker(addresses: &[String]) -> Outcome {
    let worker = cluster_core::worker()?.ok_or("no cluster started this program")?;
    let listeners = addresses.iter().map(|address| worker.listen(address, Default::default()));
    let listeners = listeners.collect::<cluster_core::Result<Vec<Listener>>>()?;
    std::thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| {
                // Ends with an error once nothing will come any more.
                while let Ok((connection, _peer)) = listener.accept(Default::default()) {
                    // A unix socket's connection is read and written in the same way.
                    let _ = serve(TcpStream::from(connection), &worker);
                }
                worker.close(listener);
            });
        }
        answer_messages(&worker)
    })
}

fn answer_messages(worker: &Worker) -> Outcome {
    let mut message = vec![0; MESSAGE_MAX];
    loop {
        match worker.receive(&mut message, None) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&message[..length]);
                if let Some(load) = text.strip_prefix("load ") {
                    worker.set_load(load.parse()?)?;
                }
                worker.send(&message[..length])?
            }
            Err(error) if error.code() == -libc::ESHUTDOWN => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn serve(mut stream: TcpStream, worker: &Worker) -> std::io::Result<()> {
    let greeting = format!("rust {} {} {}\n", worker.id(), worker.slot(), std::process::id());
    stream.write_all(greeting.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    if let Some(path) = line.trim_end().strip_prefix("block ") {
        stream.write_all(b"blocked\n")?;
        File::open(path)?;
    }
    Ok(())
}

fn primary(policy: &str, respawn: bool) -> Outcome {
    let poller = with_primary(|primary| {
        let mut settings = primary.settings().clone();
        settings.policy = match policy {
            "none" => Policy::None,
            "least-loaded" => Policy::LeastLoaded,
            "source-hash" => Policy::SourceHash,
            _ => Policy::RoundRobin,
        };
        settings.respawn = if respawn { Respawn::Always } else { Respawn::Never };
        settings.handle_signals = true;
        settings.stop_deadline = STOP_DEADLINE;
        primary.configure(settings)?;
        Ok(primary.poller())
    })?;
    println!(r#"{{"did":"begin","code":0}}"#);
    let mut input = std::io::stdin().lock();
    let mut text = Vec::new();
    loop {
        let mut fds = [&input as &dyn AsFd, &*poller].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        poll(&mut fds, PollTimeout::NONE)?;
        let [asked, due] = fds.map(|fd| fd.any() == Some(true));
        if due {
            process::step(Some(Duration::ZERO), print_event)?;
        }
        if !asked {
            continue;
        }
        let arrived = input.fill_buf()?.to_vec();
        if arrived.is_empty() {
            return Ok(());
        }
        input.consume(arrived.len());
        text.extend(arrived);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            command(String::from_utf8_lossy(&line[..end]).split('\t').collect());
        }
    }
}

fn command(fields: Vec<&str>) {
    let number = fields.get(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    let did = fields[0];
    let outcome = match did {
        "info" => with_primary(|primary| primary.worker_info(number)).map(|info| {
            let (state, delivered, waiting) = (info.state as i32, info.delivered, info.waiting);
            println!(r#"{{"did":"info","code":0,"state":{state},"delivered":{delivered},"waiting":{waiting}}}"#);
            None
        }),
        "spawn" => spawn(&fields[1..]).map(Some),
        "send" => with_primary(|primary| primary.send(number, &bytes(fields.get(2).unwrap_or(&"")))).map(|()| Some(0)),
        "disconnect" => with_primary(|primary| primary.disconnect(number)).map(|()| Some(0)),
        "stop" => process::stop(Some(Duration::from_millis(number.into())))
            .map_or_else(|code| Ok(Some(code)), |()| Ok(Some(0))),
        "run" => process::run(print_event).map(|_| Some(0)),
        _ => Ok(Some(-libc::ENOSYS)),
    };
    match outcome {
        Ok(None) => {}
        Ok(Some(code)) => println!(r#"{{"did":"{did}","code":{code}}}"#),
        Err(error) => println!(r#"{{"did":"{did}","code":{}}}"#, error.code()),
    }
}

fn spawn(arguments: &[&str]) -> cluster_core::Result<i32> {
    let mut options = SpawnOptions::default();
    options.file = arguments.first().map(Into::into);
    options.arguments = Some(arguments.iter().map(Into::into).collect());
    with_primary(|primary| primary.spawn(&options)).map(|id| id as i32)
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).filter_map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn print_event(event: Event) {
    let (name, worker, more) = match event {
        Event::Fork(worker) => ("fork", Some(worker), String::new()),
        Event::Online(worker) => ("online", Some(worker), String::new()),
        Event::Listening { worker, address, port, .. } => {
            let port = port.map_or(-1, i32::from);
            ("listening", Some(worker), format!(r#","address":"{address}","port":{port}"#))
        }
        Event::Message { worker, data } => ("message", Some(worker), format!(r#","data":"{}""#, hex(&data))),
        Event::Disconnect(worker) => ("disconnect", Some(worker), String::new()),
        Event::Exit { worker, status } => {
            let (code, signal) = match status {
                ExitStatus::Code(code) => (code, 0),
                ExitStatus::Signal(signal) => (-1, signal),
                ExitStatus::Unknown => (-1, 0),
            };
            ("exit", Some(worker), format!(r#","code":{code},"signal":{signal}"#))
        }
        Event::Warning { worker, text } => ("warning", worker, format!(r#","data":"{}""#, hex(text.as_bytes()))),
        _ => return,
    };
    let (id, pid) = worker.map_or((0, 0), |worker| (worker.id, worker.pid));
    println!(r#"{{"event":"{name}","id":{id},"pid":{pid}{more}}}"#);
}
