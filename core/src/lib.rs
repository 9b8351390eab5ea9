//! The engine of libcluster: several worker processes serve one port.
//!
//! One primary process owns the listening sockets. A worker that listens asks the primary for its share and gets
//! connections from it; a worker that dies or hangs costs only the connection in its hand, because every queue a
//! worker reads from is also held open by the primary.
//!
//! ```no_run
//! use std::io::Write;
//!
//! fn main() -> cluster_core::Result<()> {
//!     let code = cluster_core::serve(Some(4), || {
//!         let listener = cluster_core::listen("127.0.0.1:8080", Default::default()).expect("listen");
//!         while let Ok((connection, _peer)) = listener.accept(Default::default()) {
//!             let mut stream = std::net::TcpStream::from(connection);
//!             let _ = stream.write_all(b"hello\n");
//!         }
//!         0
//!     }, |event| eprintln!("{event:?}"))?;
//!     std::process::exit(code)
//! }
//! ```
//!
//! [`serve`], [`fork`](process::fork), [`run`](process::run) and [`listen`] act on this process's one primary or
//! worker. [`Primary`] itself can also be driven by a program: it has no thread, one descriptor to wait on
//! ([`Primary::poller`]) and one function that never waits ([`Primary::dispatch`]).
//!
//! # Replacing workers
//!
//! [`reload`](process::reload) starts a new worker beside each old one, which gets the slot's turns when it is ready, and returns a
//! [`Reloading`] to wait on. How it has ended is an [`Outcome`]: what was refused has taken nothing from the old workers.
//!
//! ```no_run
//! use cluster_core::{Outcome, ReloadOptions, SpawnOptions, process};
//!
//! fn main() -> cluster_core::Result<()> {
//!     if process::worker()?.is_some() {
//!         let listener = cluster_core::listen("127.0.0.1:8080", Default::default())?;
//!         while let Ok((_connection, _peer)) = listener.accept(Default::default()) {}
//!         return Ok(());
//!     }
//!     for _ in 0..4 {
//!         process::spawn(&SpawnOptions::default())?;
//!     }
//!     let running = std::thread::spawn(|| process::run(|event| eprintln!("{event:?}")));
//!     // Whenever another version of this program has taken the place of its file:
//!     let reloading = process::reload(&ReloadOptions::default())?;
//!     if let Some(reloaded) = reloading.wait(None) {
//!         match reloaded.outcome {
//!             Outcome::Done => eprintln!("{} workers replaced", reloaded.replaced),
//!             outcome => eprintln!("{outcome:?}: {}", reloaded.reason),
//!         }
//!     }
//!     running.join().unwrap().map(drop)
//! }
//! ```
//!
//! Beside it there are [`Primary::roll_back`], [`Primary::scale`], [`Primary::restart`] and [`Primary::recycle`]; in a worker
//! [`Worker::ready`], where [`Settings::manual_ready`] asks for it. `examples/rust/reload.rs` is the whole program.
//!
//! The design is in `docs/design/`, the protocol between the processes in `docs/protocol.md`. Linux 5.10 or newer.

#[cfg(not(target_os = "linux"))]
compile_error!("libcluster needs Linux 5.10 or newer: it is built on pidfds, SOCK_SEQPACKET pairs and epoll");

mod address;
mod allow;
mod bind;
mod channel;
mod env;
mod error;
mod fleet;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handback;
mod handle;
mod mailbox;
mod mechanism;
mod options;
mod policy;
mod primary;
pub mod process;
mod recycle;
mod restart;
mod scoreboard;
mod settings;
mod sys;
mod tally;
mod token;
mod wire;
mod worker;

pub use allow::ListenRule;
pub use bind::ListenFlags;
pub use error::{ENOLIB, EPANIC, ETHREADS, EVERSION, Error, Result};
pub use fleet::{Generation, Outcome, Phase, When};
pub use handle::HandleStats;
pub use options::SocketOption;
pub use policy::Policy;
pub use primary::{
    Due, Enrolled, Event, Forked, Granted, HandleInfo, Permits, Poller, Primary, Ready, Relayed, ReloadOptions,
    Reloaded, Reloading, SpawnOptions, StopRequest, Usage, Wanted, WorkerInfo, WorkerRef, WorkerState,
};
pub use process::{Identity, listen, serve, stop, worker};
pub use recycle::RecycleOptions;
pub use restart::Respawn;
pub use scoreboard::{Counter, Counts};
pub use settings::{Mechanism, MechanismKind, Settings, WINDOW_MAX};
pub use sys::child::ExitStatus;
#[cfg(feature = "panic-injection")]
#[doc(hidden)]
pub use sys::panics;
pub use sys::passing::{Coming, coming, discard_unread, refuse_descriptors};
pub use sys::sockaddr::{SOCKADDR_MAX, SockAddr};
pub use wire::MESSAGE_MAX;
pub use worker::{AcceptFlags, ListenOptions, Listener, Standing, Worker};
