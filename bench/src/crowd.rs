//! The load of the figures in which some connections fare worse than others: an event loop with an outcome for each.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;

use crate::client::open;
use crate::error::{Result, failed};
use crate::process;

/// When the next connection is made.
#[derive(Clone, Copy)]
pub enum Pace {
    /// When one has ended: so many are open at a time.
    Open(usize),
    /// So many a second, whatever becomes of them.
    PerSecond(f64),
}

/// How connections ended.
#[derive(Default, Clone)]
pub struct Tally {
    pub opened: u64,
    /// The whole answer came, and the end of the connection.
    pub answered: u64,
    /// The server ended it without an answer, or after a part of one.
    pub cut: u64,
    pub reset: u64,
    pub refused: u64,
    /// Nothing came for as long as we waited.
    pub hung: u64,
    /// Of those answered, milliseconds from connect to the end, in the order in which they ended.
    pub latencies: Vec<f64>,
}

impl Tally {
    pub fn lost(&self) -> u64 {
        self.cut + self.reset + self.refused + self.hung
    }
}

struct Connection {
    fd: OwnedFd,
    begun: Instant,
    request: &'static [u8],
    answer: Vec<u8>,
}

pub struct Crowd<'a> {
    pub port: u16,
    pub pace: Pace,
    /// What the nth connection sends; empty: nothing.
    pub request: &'a dyn Fn(u64) -> &'static [u8],
    /// Whether an answer is whole.
    pub whole: &'a dyn Fn(&[u8]) -> bool,
    /// No connection is made after this.
    pub length: Duration,
    /// How long is waited for the last ones.
    pub patience: Duration,
}

struct Run<'a> {
    crowd: &'a Crowd<'a>,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    tally: Tally,
}

/// Waits for events, and gives how many there are. epoll_wait knows milliseconds only.
pub fn await_some(epoll: &Epoll, events: &mut [EpollEvent], wait: Duration) -> Result<usize> {
    let mut polled = [PollFd::new(epoll.0.as_fd(), PollFlags::POLLIN)];
    match ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None) {
        Ok(0) | Err(Errno::EINTR) => Ok(0),
        Ok(_) => epoll.wait(events, 0u8).map_err(failed("epoll_wait")),
        Err(errno) => Err(failed("ppoll")(errno)),
    }
}

/// Called at its time, once, with what is known by then.
pub type Moment<'a> = (Duration, Box<dyn FnMut(&Tally) -> Result<()> + 'a>);

/// A signal at its time.
pub fn sends<'a>(at: Duration, pid: Pid, signal: Signal) -> Moment<'a> {
    let send = move |_: &Tally| {
        process::signal(pid, signal);
        Ok(())
    };
    (at, Box::new(send))
}

impl Crowd<'_> {
    /// Makes the connections and waits for the end of each. The moments are in order.
    pub fn run(&self, moments: &mut [Moment<'_>]) -> Result<Tally> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create1"))?;
        let mut run = Run { crowd: self, epoll, connections: Vec::new(), free: Vec::new(), tally: Tally::default() };
        let begin = Instant::now();
        let mut past = 0;
        loop {
            let elapsed = begin.elapsed();
            while past < moments.len() && elapsed >= moments[past].0 {
                (moments[past].1)(&run.tally)?;
                past += 1;
            }
            let opening = elapsed < self.length;
            let mut wait = Duration::from_millis(20);
            if opening {
                match self.pace {
                    Pace::Open(at_once) => {
                        while run.open_now() < at_once && begin.elapsed() < self.length {
                            run.open_one();
                        }
                    }
                    Pace::PerSecond(rate) => {
                        // A machine that is too slow for the rate opens fewer, and not all it can for ever.
                        while begin.elapsed() < self.length
                            && (run.tally.opened as f64) <= begin.elapsed().as_secs_f64() * rate
                        {
                            run.open_one();
                        }
                        let next = Duration::from_secs_f64(run.tally.opened as f64 / rate);
                        wait = next.saturating_sub(begin.elapsed());
                    }
                }
            } else if run.open_now() == 0 && past == moments.len() {
                break;
            }
            if let Some((next, _)) = moments.get(past) {
                wait = wait.min(next.saturating_sub(begin.elapsed()));
            }
            run.turn(wait)?;
            if elapsed > self.length + self.patience {
                run.tally.hung += run.open_now() as u64;
                break;
            }
        }
        Ok(run.tally)
    }
}

impl Run<'_> {
    fn open_now(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    fn open_one(&mut self) {
        let request = (self.crowd.request)(self.tally.opened);
        self.tally.opened += 1;
        let begun = Instant::now();
        let fd = match open(self.crowd.port) {
            Ok(fd) => fd,
            Err(Errno::ECONNREFUSED) => return self.tally.refused += 1,
            Err(_) => return self.tally.reset += 1,
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let connection = Connection { fd, begun, request, answer: Vec::new() };
        let ready = connection.request.is_empty() || connection.ask();
        let interest = if ready { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT };
        if self.epoll.add(&connection.fd, EpollEvent::new(interest, place as u64)).is_err() {
            self.tally.reset += 1;
            return self.free.push(place);
        }
        self.connections[place] = Some(connection);
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = await_some(&self.epoll, &mut events, wait)?;
        for event in &events[..count] {
            self.progress(event.data() as usize, event.events());
        }
        Ok(())
    }

    fn progress(&mut self, place: usize, events: EpollFlags) {
        let Some(connection) = &mut self.connections[place] else { return };
        if !events.contains(EpollFlags::EPOLLIN) && events.contains(EpollFlags::EPOLLOUT) {
            if connection.ask() {
                let _ = self.epoll.modify(&connection.fd, &mut EpollEvent::new(EpollFlags::EPOLLIN, place as u64));
            }
            return;
        }
        let mut bytes = [0; 1024];
        loop {
            match recv(connection.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(0) if (self.crowd.whole)(&connection.answer) => {
                    self.tally.answered += 1;
                    self.tally.latencies.push(connection.begun.elapsed().as_secs_f64() * 1e3);
                }
                Ok(0) => self.tally.cut += 1,
                Ok(count) => {
                    connection.answer.extend_from_slice(&bytes[..count]);
                    continue;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                Err(Errno::ECONNREFUSED) => self.tally.refused += 1,
                Err(_) => self.tally.reset += 1,
            }
            break;
        }
        self.connections[place] = None;
        self.free.push(place);
    }
}

impl Connection {
    /// The request is far smaller than any send buffer: it goes out whole or not at all. A failure is seen by the next read.
    fn ask(&self) -> bool {
        !matches!(send(self.fd.as_raw_fd(), self.request, MsgFlags::MSG_NOSIGNAL), Err(Errno::EAGAIN))
    }
}
