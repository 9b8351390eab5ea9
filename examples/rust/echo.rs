//! An echo server in Rust, on four processes.
//!
//! build:  cargo build --release --example echo
//! run:    target/release/examples/echo 127.0.0.1:7000 4
//! expect: a line for each worker that listens; `nc 127.0.0.1 7000` echoes what is typed and each new connection is
//!         greeted by the next worker. Kill a worker: it is replaced, and no waiting connection is lost.

use std::io::{Read, Write};
use std::net::TcpStream;

use cluster_core::{Event, worker};

fn main() -> cluster_core::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let workers = arguments.next().and_then(|number| number.parse().ok());
    let code = cluster_core::serve(workers, || serve_connections(&address), print_event)?;
    std::process::exit(code)
}

fn serve_connections(address: &str) -> i32 {
    let listener = match cluster_core::listen(address, Default::default()) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("worker: {error}");
            return 1;
        }
    };
    // Ends with an error once the worker was asked to leave and nothing is left for it.
    while let Ok((connection, _peer)) = listener.accept(Default::default()) {
        // A client that goes away in the middle is its own affair.
        let _ = echo(connection.into());
    }
    0
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let id = worker().ok().flatten().map_or(0, |worker| worker.id());
    writeln!(stream, "worker {id} (process {})", std::process::id())?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

fn print_event(event: Event) {
    match event {
        Event::Listening { worker, address, port, .. } => {
            println!("worker {} (process {}) listens on {address}:{}", worker.id, worker.pid, port.unwrap_or(0));
        }
        Event::Exit { worker, status } => println!("worker {} ended: {status:?}", worker.id),
        _ => {}
    }
}
