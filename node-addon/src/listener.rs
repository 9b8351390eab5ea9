//! A share of an address, as JavaScript sees it: something to take connections from, one at a time.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use cluster_core::{AcceptFlags, SockAddr, Worker};
use napi::bindgen_prelude::{Function, Object};
use napi::{Env, Result};
use napi_derive::napi;

use crate::lines::{Line, Lines, SharedSocket};
use crate::loop_sockets::LoopSockets;
use crate::uv;
use crate::watch::{Watch, Watched};

/// The address a socket is bound to, as Node's handles tell it.
#[napi(object)]
pub struct SockName {
    /// The host.
    pub address: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The port.
    pub port: u16,
}

impl SockName {
    pub(crate) fn of(name: SockAddr) -> Option<Self> {
        let name = name.to_inet()?;
        let family = if name.is_ipv4() { "IPv4" } else { "IPv6" };
        Some(Self { address: name.ip().to_string(), family: family.into(), port: name.port() })
    }
}

/// libuv makes descriptors non-blocking when it opens them.
const ACCEPT: AcceptFlags = AcceptFlags { nonblocking: false, close_on_exec: true, without_peer: true };

/// A share of an address.
#[napi]
pub struct Listener {
    inner: Option<Arc<cluster_core::Listener>>,
    /// Whose share it is; `None` for one that the primary holds in a worker's stead.
    worker: Option<Arc<Worker>>,
    watch: Option<Watch>,
    /// Where libuv may accept, and the socket from which it does.
    sockets: Option<Rc<LoopSockets>>,
    own_socket: Option<i32>,
    lines: Option<Rc<Lines>>,
    in_turn: Option<InTurn>,
}

/// The socket that all workers have, while the event loop watches it.
struct InTurn {
    watch: Watch,
    line: Rc<Line>,
}

impl Listener {
    pub(crate) fn new(inner: cluster_core::Listener, worker: Option<Arc<Worker>>) -> Self {
        let inner = Some(Arc::new(inner));
        Self { inner, worker, watch: None, sockets: None, own_socket: None, lines: None, in_turn: None }
    }

    /// Where an event loop may accept.
    pub(crate) fn on_loop(mut self, sockets: &Rc<LoopSockets>, lines: &Rc<Lines>) -> Self {
        self.sockets = Some(Rc::clone(sockets));
        self.lines = Some(Rc::clone(lines));
        self
    }

    /// Stands in line again, at its end.
    fn come(&self) {
        if let (Some(in_turn), Some(lines)) = (&self.in_turn, &self.lines) {
            in_turn.watch.resume();
            in_turn.line.come(lines);
        }
    }
}

/// Hands connections of a listener back, in a worker that leaves.
#[napi]
pub struct Returns {
    worker: Arc<Worker>,
    listener: Arc<cluster_core::Listener>,
}

#[napi]
impl Returns {
    /// Somebody takes them.
    #[napi(getter)]
    pub fn are_open(&self) -> bool {
        self.worker.may_hand_back()
    }

    /// Hands one back, of which nobody here has read anything since its last request. 0, and then it is only to be closed; or a negative
    /// errno value.
    #[napi]
    pub fn give(&self, connection: i32) -> i32 {
        self.worker.hand_back_number(&self.listener, connection).map_or_else(|error| error.code(), |()| 0)
    }
}

#[napi]
impl Listener {
    /// Whether its connections are TCP, not those of a unix socket.
    #[napi(getter)]
    pub fn is_tcp(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.name().to_inet().is_some())
    }

    /// Where it is bound; not for unix sockets.
    #[napi(getter)]
    pub fn sockname(&self) -> Option<SockName> {
        self.inner.as_ref().and_then(|inner| SockName::of(inner.name()))
    }

    /// This worker is to take another's place, and has no turns before `accept` has found that it has taken it.
    #[napi(getter)]
    pub fn is_proving(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.waits_for_its_place())
    }

    /// How many connections may wait in this worker's own socket, if it has one.
    #[napi(getter)]
    pub fn backlog(&self) -> Option<u32> {
        self.inner.as_ref().and_then(|inner| inner.backlog())
    }

    /// This worker's own socket, from which libuv is to accept and which JavaScript closes: its descriptor, or -1 if there is none
    /// or too few descriptors are free. What the primary takes back from other workers still comes by `accept`, and everything once
    /// the program sets the server's maxConnections. To be called before `watch`.
    #[napi]
    pub fn take_socket(&mut self, env: Env, server: Object) -> i32 {
        let Ok(server) = uv::Server::new(&env, &server) else { return -1 };
        let Some(sockets) = &self.sockets else { return -1 };
        let Some(inner) = &mut self.inner else { return -1 };
        if !sockets.is_possible() {
            return -1;
        }
        let taken = Arc::get_mut(inner).and_then(|inner| inner.take_socket().ok().flatten());
        let Some(socket) = taken.map(IntoRawFd::into_raw_fd) else { return -1 };
        sockets.add(socket, Arc::downgrade(inner), server);
        self.own_socket = Some(socket);
        socket
    }

    /// This process is about to end. If its primary is dead nobody is to keep the address open. Takes up to 0.1 s.
    #[napi]
    pub fn end_if_orphaned(&self) {
        if let Some(worker) = &self.worker {
            worker.end_if_orphaned();
        }
    }

    /// From now on all connections are to come by `accept`, none by this worker's own socket.
    #[napi]
    pub fn leave_own_socket(&mut self) {
        if let (Some(sockets), Some(socket)) = (&self.sockets, self.own_socket) {
            sockets.leave(socket);
        }
        if let (Some(inner), Some(worker)) = (&mut self.inner, &self.worker) {
            // A socket that was not taken is closed.
            drop(Arc::get_mut(inner).map(cluster_core::Listener::drop_socket));
            // Without a primary nobody sends any.
            let _ = worker.unseat(inner);
        }
    }

    /// Takes one connection: its descriptor, or a negative errno value.
    #[napi]
    pub fn accept(&self) -> i32 {
        let Some(inner) = &self.inner else { return -libc::EBADF };
        match inner.accept(ACCEPT) {
            Ok((connection, _peer)) => connection.into_raw_fd(),
            Err(error) => error.code(),
        }
    }

    /// Calls `turn` on the event loop while a connection may be there, once in each turn of the loop, without keeping the loop
    /// alive. If a thread has to wait, because libuv is not found or `on_a_thread`, `scoped` is called instead.
    #[napi]
    pub fn watch(
        &mut self,
        env: Env,
        turn: Function<(), ()>,
        scoped: Function<(), ()>,
        on_a_thread: bool,
    ) -> Result<()> {
        if let (Some(inner), None) = (&self.inner, &self.watch) {
            let watched: Watched = inner.clone();
            self.watch = Some(Watch::start(&env, watched, &turn, &scoped, on_a_thread)?);
        }
        Ok(())
    }

    /// If this listener may accept in rotation: calls `turn` on the event loop while somebody may wait in the socket that all workers
    /// have. To be called after `watch`, and only where that needs no thread.
    #[napi]
    pub fn watch_in_turn(&mut self, env: Env, turn: Function<(), ()>) -> Result<()> {
        let (Some(inner), Some(lines), None) = (&self.inner, &self.lines, &self.in_turn) else { return Ok(()) };
        let Some(socket) = SharedSocket::of(inner) else { return Ok(()) };
        let Some(line) = lines.add(&env, inner, &socket) else { return Ok(()) };
        match Watch::start(&env, Arc::new(socket), &turn, &turn, false) {
            Ok(watch) => self.in_turn = Some(InTurn { watch, line }),
            Err(error) => {
                lines.forget(&line);
                return Err(error);
            }
        }
        self.come();
        Ok(())
    }

    /// Takes one connection from that socket: its descriptor, or a negative errno value.
    #[napi]
    pub fn accept_in_turn(&self) -> i32 {
        let Some(inner) = &self.inner else { return -libc::EBADF };
        match inner.accept_in_turn(ACCEPT) {
            Ok((connection, had_its_part)) => {
                if let (Some(in_turn), Some(lines)) = (&self.in_turn, &self.lines) {
                    in_turn.line.took(inner, had_its_part, lines);
                }
                connection.into_raw_fd()
            }
            Err(error) if [libc::EAGAIN, libc::EMFILE, libc::ENFILE, libc::EBADF].contains(&-error.code()) => {
                error.code()
            }
            Err(_) => {
                // A unix socket was shut down, for instance. The mailbox brings the rest.
                self.leave_line();
                if let (Some(in_turn), Some(worker)) = (&self.in_turn, &self.worker) {
                    in_turn.line.give_up(worker, inner);
                }
                -libc::EAGAIN
            }
        }
    }

    /// Accepts in rotation no more. How many of those who wait in the socket that all have are this worker's to take before it leaves.
    #[napi]
    pub fn leave_line(&self) -> u32 {
        let (Some(inner), Some(in_turn)) = (&self.inner, &self.in_turn) else { return 0 };
        in_turn.line.leave();
        in_turn.watch.pause();
        inner.last_part()
    }

    /// Takes nothing for a while. What waits, and what would come, goes to other workers.
    #[napi]
    pub fn pause(&self) {
        self.ignore();
        self.tell_paused(true);
    }

    /// Stops looking for connections. What waits stays where it is.
    #[napi]
    pub fn ignore(&self) {
        self.leave_line();
        if let Some(watch) = &self.watch {
            watch.pause();
        }
    }

    /// Takes connections again.
    #[napi]
    pub fn resume(&self) {
        self.tell_paused(false);
        if let Some(watch) = &self.watch {
            watch.resume();
        }
        self.come();
    }

    fn tell_paused(&self, paused: bool) {
        if let (Some(inner), Some(worker)) = (&self.inner, &self.worker) {
            // Without a primary nobody sends any.
            let _ = worker.pause(inner, paused);
        }
    }

    /// Where its connections are handed back when the worker leaves, also once it is closed. `null` if the primary holds it.
    #[napi]
    pub fn returns(&self) -> Option<Returns> {
        Some(Returns { worker: Arc::clone(self.worker.as_ref()?), listener: Arc::clone(self.inner.as_ref()?) })
    }

    /// Gives the share back. What waits goes to other workers.
    #[napi]
    pub fn close(&mut self) {
        if let (Some(sockets), Some(socket)) = (&self.sockets, self.own_socket.take()) {
            sockets.forget(socket);
        }
        if let (Some(in_turn), Some(lines)) = (self.in_turn.take(), &self.lines) {
            lines.forget(&in_turn.line);
            in_turn.watch.close();
        }
        if let Some(watch) = self.watch.take() {
            watch.close();
        }
        if let (Some(inner), Some(worker)) = (self.inner.take(), &self.worker) {
            worker.close(&inner);
        }
    }
}

/// Takes one connection from a listening socket: its descriptor, or a negative errno value.
#[napi]
pub fn accept_from(socket: i32) -> i32 {
    nix::sys::socket::accept4(socket, nix::sys::socket::SockFlag::SOCK_CLOEXEC).unwrap_or_else(|errno| -(errno as i32))
}

/// A unix socket that is connected to nothing: JavaScript learns from it the class of Node's handles for its kind.
#[napi]
pub fn unconnected_socket() -> Result<i32> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let made: nix::Result<OwnedFd> = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    made.map(OwnedFd::into_raw_fd).map_err(|errno| napi::Error::from_reason(format!("socket: {}", errno.desc())))
}
