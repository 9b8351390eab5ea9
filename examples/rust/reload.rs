//! A server in Rust whose primary replaces its workers, and waits for what comes of it.
//!
//! build:  cargo build --release --example reload
//! run:    target/release/examples/reload 127.0.0.1:7000
//! expect: a line for each of two workers; `nc 127.0.0.1 7000` says "worker 1" or "worker 2". Enter, typed into the server, replaces them:
//!         "generation 2: done, 2 replaced", and workers 3 and 4 answer. Any other line is the name of a program to replace them by: "true"
//!         is refused, with the reason, and 3 and 4 serve on. The end of the input (Ctrl-D) ends all.

use std::io::{BufRead, Write};
use std::net::TcpStream;
use std::thread;

use cluster_core::{Event, Outcome, ReloadOptions, Respawn, Result, SpawnOptions, process};

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    // A program with more than one thread cannot fork workers; it starts them, here as itself.
    if let Some(worker) = process::worker()? {
        return serve(&address, worker.id());
    }
    process::configure(|settings| {
        settings.respawn = Respawn::Always;
        Ok(())
    })?;
    for _ in 0..2 {
        process::spawn(&SpawnOptions::default())?;
    }
    let running = thread::spawn(|| process::run(print_event));
    for line in std::io::stdin().lock().lines().map_while(|line| line.ok()) {
        if let Err(error) = reload(&line) {
            println!("nothing is reloaded: {error}");
        }
    }
    process::stop(None).expect("this is the primary");
    running.join().expect("the primary's thread").map(drop)
}

/// Replaces the workers, by another program if one is named, and waits for the end of that.
fn reload(program: &str) -> Result<()> {
    let mut options = ReloadOptions::default();
    if !program.is_empty() {
        let mut other = SpawnOptions::default();
        other.file = Some(program.into());
        options.program = Some(other);
    }
    let reloading = process::reload(&options)?;
    let generation = reloading.generation();
    let reloaded = reloading.wait(None).expect("it waits for as long as it takes");
    match reloaded.outcome {
        Outcome::Done => println!("generation {generation}: done, {} replaced", reloaded.replaced),
        // Nothing was taken from the old ones, or they are back.
        Outcome::Refused | Outcome::RolledBack => println!("generation {generation}: not done: {}", reloaded.reason),
        Outcome::Superseded => println!("generation {generation}: another reload came before its end"),
    }
    Ok(())
}

fn serve(address: &str, id: u32) -> Result<()> {
    let listener = cluster_core::listen(address, Default::default())?;
    while let Ok((connection, _peer)) = listener.accept(Default::default()) {
        let _ = writeln!(TcpStream::from(connection), "worker {id}");
    }
    Ok(())
}

fn print_event(event: Event) {
    if let Event::Listening { worker, address, port, .. } = event {
        println!("worker {} (process {}) listens on {address}:{}", worker.id, worker.pid, port.unwrap_or(0));
    }
}
