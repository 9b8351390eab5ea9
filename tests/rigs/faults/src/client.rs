//! The client: makes requests at a given rate, one thread with an event loop, and keeps a ledger of what became of each.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cluster_bench::client::open_between;
use cluster_bench::error::{Error, Result, failed};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, SockaddrIn, getsockname, recv, send};
use nix::sys::time::TimeSpec;

use crate::claims::long;
use crate::clock::{self, MS, SECOND};
use crate::oracle::{Entry, Outcome};

/// What is asked of the worker; the highest byte of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// An answer and the end.
    Plain = 0,
    /// That it keeps the connection and says nothing.
    Hold = 1,
    /// An answer, on so many connections that stay open.
    Keep = 2,
}

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub port: u16,
    /// Requests per second.
    pub rate: f64,
    /// At most.
    pub count: u64,
    pub wanted: Wanted,
    /// With `Wanted::Keep`: on how many connections.
    pub connections: usize,
    /// A request without an answer for so long hangs.
    pub patience: Duration,
    /// Ids are counted from here.
    pub first_id: u64,
    pub host: [u8; 4],
    /// Of more than one address, so that policies that look at it have something to tell apart.
    pub from: Option<Origins>,
}

/// Addresses that differ in their last number, and ports that nobody else uses; no two open connections have the same port.
#[derive(Debug, Clone, Copy)]
pub struct Origins {
    pub first: [u8; 4],
    pub addresses: u8,
    pub ports: (u16, u16),
}

impl Origins {
    fn nth(&self, n: u64) -> SockaddrIn {
        let [a, b, c, d] = self.first;
        let (first, count) = self.ports;
        SockaddrIn::new(a, b, c, d + (n % u64::from(self.addresses)) as u8, first + (n % u64::from(count)) as u16)
    }
}

const ANSWER: usize = 32;

impl Load {
    pub fn new(port: u16, rate: f64) -> Self {
        Self {
            port,
            rate,
            count: u64::MAX,
            wanted: Wanted::Plain,
            connections: 0,
            patience: Duration::from_secs(2),
            first_id: 1,
            host: [127, 0, 0, 1],
            from: None,
        }
    }

    pub fn count(self, count: u64) -> Self {
        Self { count, ..self }
    }

    pub fn start(self) -> Result<Running> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create1"))?;
        let client = Client {
            load: self,
            epoll,
            places: Vec::new(),
            free: Vec::new(),
            idle: VecDeque::new(),
            waiting: VecDeque::new(),
            ledger: Vec::new(),
            sent: 0,
            bound: 0,
            open: 0,
        };
        let thread = std::thread::spawn(move || client.run(&theirs));
        Ok(Running { shared, thread })
    }

    /// Makes `count` requests and waits for the end of each.
    pub fn run(self) -> Result<Vec<Entry>> {
        self.start()?.wait()
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    sent: AtomicU64,
    done: AtomicU64,
}

/// A client at work.
pub struct Running {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Vec<Entry>>>,
}

impl Running {
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Requests that came to some end.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Makes no more requests; waits for the end of those under way.
    pub fn finish(self) -> Result<Vec<Entry>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    pub fn wait(self) -> Result<Vec<Entry>> {
        self.thread.join().unwrap_or_else(|_| Err(Error::Failed("the client has panicked".into())))
    }
}

struct Place {
    fd: OwnedFd,
    port: u16,
    id: u64,
    begun: u64,
    /// What has come of the answer.
    answer: Vec<u8>,
    /// The id could not be sent yet.
    to_send: bool,
    /// Stands in the ledger already, as hung; it stays open so that its port is nobody else's.
    told: bool,
    idle: bool,
    /// Tells requests on one connection, and connections in one place, from another.
    turn: u64,
}

struct Client {
    load: Load,
    epoll: Epoll,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    idle: VecDeque<usize>,
    /// Place, its turn and when patience ends; in order.
    waiting: VecDeque<(usize, u64, u64)>,
    ledger: Vec<Entry>,
    sent: u64,
    bound: u64,
    /// Requests under way that are not told yet.
    open: usize,
}

impl Client {
    fn run(mut self, shared: &Shared) -> Result<Vec<Entry>> {
        let begin = clock::now();
        loop {
            let stopping = shared.stop.load(Ordering::Relaxed) || self.sent >= self.load.count;
            let mut wait = 20 * MS;
            if !stopping {
                let due = begin + (self.sent as f64 / self.load.rate * SECOND as f64) as u64;
                let now = clock::now();
                if due <= now {
                    self.request()?;
                    shared.sent.store(self.sent, Ordering::Relaxed);
                    wait = 0;
                } else {
                    wait = wait.min(due - now);
                }
            } else if self.open == 0 {
                return Ok(self.ledger);
            }
            self.turn(wait)?;
            self.give_up();
            shared.done.store(self.ledger.len() as u64, Ordering::Relaxed);
        }
    }

    fn request(&mut self) -> Result<()> {
        let id = (self.load.wanted as u64) << 56 | (self.load.first_id + self.sent);
        if self.load.wanted == Wanted::Keep {
            while let Some(place) = self.idle.pop_front() {
                if let Some(at) = self.places[place].as_mut().filter(|at| at.idle) {
                    (at.id, at.begun, at.idle, at.to_send) = (id, clock::now(), false, true);
                    self.sent += 1;
                    self.begin(place);
                    return Ok(());
                }
            }
            if self.places.len() - self.free.len() >= self.load.connections {
                // All are under way: the rate is more than they can have.
                return Ok(());
            }
        }
        self.sent += 1;
        let begun = clock::now();
        let fd = match self.open() {
            Ok(fd) => fd,
            Err(errno) => {
                let outcome = if errno == Errno::ECONNREFUSED { Outcome::Refused } else { Outcome::Reset };
                self.ledger.push(Entry { id, port: 0, begun, ended: clock::now(), outcome });
                return Ok(());
            }
        };
        let port = getsockname::<SockaddrIn>(fd.as_raw_fd()).map_err(failed("getsockname"))?.port();
        let at = Place { fd, port, id, begun, answer: Vec::new(), to_send: true, told: false, idle: false, turn: 0 };
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let event = EpollEvent::new(EpollFlags::EPOLLIN, place as u64);
        self.epoll.add(&at.fd, event).map_err(failed("epoll_ctl"))?;
        self.places[place] = Some(at);
        self.begin(place);
        Ok(())
    }

    fn open(&mut self) -> nix::Result<OwnedFd> {
        let [a, b, c, d] = self.load.host;
        let to = SockaddrIn::new(a, b, c, d, self.load.port);
        let Some(from) = self.load.from else { return open_between(None, to) };
        loop {
            self.bound += 1;
            match open_between(Some(from.nth(self.bound)), to) {
                // One before it still has the port.
                Err(Errno::EADDRINUSE | Errno::EADDRNOTAVAIL) if self.bound < 1 << 40 => {}
                outcome => return outcome,
            }
        }
    }

    /// Sends the id of a request that was just made.
    fn begin(&mut self, place: usize) {
        let Some(at) = self.places[place].as_mut() else { return };
        at.turn = self.sent;
        at.answer.clear();
        self.open += 1;
        self.waiting.push_back((place, at.turn, at.begun + self.load.patience.as_nanos() as u64));
        self.send_id(place);
    }

    fn send_id(&mut self, place: usize) {
        let Some(at) = self.places[place].as_mut() else { return };
        let was_waiting = at.to_send;
        // Eight bytes go out whole or not at all. A failure is seen by the next read, but for one that is told only once.
        let sent = send(at.fd.as_raw_fd(), &at.id.to_ne_bytes(), MsgFlags::MSG_NOSIGNAL);
        if sent == Err(Errno::ECONNREFUSED) {
            return self.end(place, Outcome::Refused);
        }
        at.to_send = matches!(sent, Err(Errno::EAGAIN | Errno::ENOTCONN));
        let interest = if at.to_send { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        if was_waiting || at.to_send {
            let _ = self.epoll.modify(&at.fd, &mut EpollEvent::new(interest, place as u64));
        }
    }

    fn turn(&mut self, wait: u64) -> Result<()> {
        // epoll_wait knows milliseconds only.
        let mut polled = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut polled, Some(TimeSpec::from_duration(Duration::from_nanos(wait))), None) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(failed("ppoll")(errno)),
        }
        let mut events = [EpollEvent::empty(); 64];
        let count = self.epoll.wait(&mut events, 0u8).map_err(failed("epoll_wait"))?;
        for event in &events[..count] {
            self.progress(event.data() as usize, event.events());
        }
        Ok(())
    }

    fn progress(&mut self, place: usize, events: EpollFlags) {
        if self.places[place].as_ref().is_some_and(|at| at.to_send) && events == EpollFlags::EPOLLOUT {
            return self.send_id(place);
        }
        loop {
            let Some(at) = self.places[place].as_mut() else { return };
            let mut bytes = [0; 256];
            match recv(at.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(0) => return self.end(place, Outcome::Ended),
                Ok(count) => at.answer.extend_from_slice(&bytes[..count]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(Errno::ECONNREFUSED) => return self.end(place, Outcome::Refused),
                Err(_) => return self.end(place, Outcome::Reset),
            }
            let last = at.answer.get(24..28).is_some_and(|word| word != [0; 4]);
            if at.answer.len() >= ANSWER && !last && !at.idle {
                self.tell(place, None);
                if let Some(at) = self.places[place].as_mut() {
                    (at.idle, at.told) = (true, false);
                }
                self.idle.push_back(place);
            }
        }
    }

    /// The connection has ended in some way.
    fn end(&mut self, place: usize, outcome: Outcome) {
        self.tell(place, Some(outcome));
        self.places[place] = None;
        self.free.push(place);
    }

    /// Writes what became of the request into the ledger, once. A whole answer counts, whatever came behind it.
    fn tell(&mut self, place: usize, otherwise: Option<Outcome>) {
        let Some(at) = self.places[place].as_mut() else { return };
        if at.told || at.idle {
            return;
        }
        let answered = at.answer.len() >= ANSWER && long(&at.answer, 0) == at.id;
        let outcome = match otherwise {
            // The answer is there, and the end that was to follow it is not.
            Some(Outcome::Hung) => Outcome::Hung,
            _ if answered => {
                let pid = u32::from_ne_bytes([at.answer[12], at.answer[13], at.answer[14], at.answer[15]]);
                Outcome::Answered { pid, sent: long(&at.answer, 16) }
            }
            Some(outcome) => outcome,
            None => Outcome::Ended,
        };
        at.told = true;
        self.open -= 1;
        self.ledger.push(Entry { id: at.id, port: at.port, begun: at.begun, ended: clock::now(), outcome });
    }

    /// Those whose patience has ended.
    fn give_up(&mut self) {
        let now = clock::now();
        while let Some((place, turn, until)) = self.waiting.front().copied() {
            let is_over = self.places[place].as_ref().is_none_or(|at| at.turn != turn || at.told || at.idle);
            if !is_over && until > now {
                return;
            }
            self.waiting.pop_front();
            if !is_over {
                self.tell(place, Some(Outcome::Hung));
            }
        }
    }
}
