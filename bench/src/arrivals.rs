//! The load of the open-loop figures: requests that come at times of their own, whatever has become of those before, and are told
//! from when they should have begun. A closed loop of the same requests says how much a server can do.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::client::open;
use crate::crowd::await_some;
use crate::error::{Result, failed};
use crate::process::Ahead;

#[derive(Clone, Copy)]
pub enum Pace {
    /// So many a second on average, at times that are independent of each other (Poisson).
    PerSecond(f64),
    /// The next one when one is answered: so many at a time.
    AtOnce(usize),
}

pub struct Arrivals<'a> {
    pub port: u16,
    pub pace: Pace,
    /// So many connections that are kept, each request on one that is free; without it each has a connection of its own.
    pub kept: Option<usize>,
    /// What is asked, by a number from 0 to 1 that chance has chosen.
    pub request: &'a dyn Fn(f64) -> &'static [u8],
    /// How long requests come; those of the beginning are not counted.
    pub warm: Duration,
    pub counted: Duration,
    /// Times and requests are the same for the same seed.
    pub seed: u64,
}

/// What became of the requests.
#[derive(Default)]
pub struct Outcome {
    pub made: u64,
    pub answered: u64,
    /// Connections that were ended or reset before the answer, refused, or without an answer for PATIENCE.
    pub lost: u64,
    /// Of those counted, in milliseconds from the intended beginning to the whole answer; sorted.
    pub latencies: Vec<f64>,
    /// Of all: by how many milliseconds they began later than intended. Sorted.
    pub late: Vec<f64>,
}

/// How long is waited for the last answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two of the connections that are kept, so that a server takes each by itself.
const GAP: Duration = Duration::from_micros(500);

/// Its multiples, without what stands before the point, lie evenly between 0 and 1.
const GOLDEN: f64 = 0.618_033_988_749_894_8;

/// The value below which such a part of the sorted ones are.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * part) as usize).copied().unwrap_or(0.0)
}

/// Chance that is the same in every run (splitmix64).
struct Chance(u64);

impl Chance {
    /// Above 0 and at most 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 + f64::EPSILON / 2.0
    }
}

struct Asked {
    due: Instant,
    request: &'static [u8],
    sent: bool,
}

struct Connection {
    fd: OwnedFd,
    asked: Option<Asked>,
    answer: Vec<u8>,
}

struct Run<'a> {
    arrivals: &'a Arrivals<'a>,
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Kept connections without a request.
    idle: Vec<usize>,
    under_way: usize,
    count_from: Instant,
    outcome: Outcome,
    /// Which of the free connections is taken: apart from the requests, so that these do not depend on the answers.
    choice: Chance,
}

impl Arrivals<'_> {
    pub fn run(&self) -> Result<Outcome> {
        // On another machine, where clients usually are, the client would not wait for the servers' CPUs.
        let _ahead = Ahead::of_the_others();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create1"))?;
        let mut run = Run {
            arrivals: self,
            epoll,
            connections: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            under_way: 0,
            count_from: Instant::now(),
            outcome: Outcome::default(),
            choice: Chance(!self.seed),
        };
        for _ in 0..self.kept.unwrap_or(0) {
            let place = run.open().map_err(failed("a connection to keep"))?;
            run.idle.push(place);
            std::thread::sleep(GAP);
        }
        run.go()?;
        let Outcome { latencies, late, .. } = &mut run.outcome;
        latencies.sort_by(f64::total_cmp);
        late.sort_by(f64::total_cmp);
        Ok(run.outcome)
    }
}

impl Run<'_> {
    fn go(&mut self) -> Result<()> {
        let mut chance = Chance(self.arrivals.seed);
        let begin = Instant::now();
        self.count_from = begin + self.arrivals.warm;
        let end = self.count_from + self.arrivals.counted;
        let mut next = begin;
        loop {
            let mut now = Instant::now();
            let wait = match self.arrivals.pace {
                Pace::PerSecond(rate) => {
                    while next <= now && next < end {
                        self.ask(next, (self.arrivals.request)(chance.next()));
                        next += Duration::from_secs_f64(-chance.next().ln() / rate);
                        now = Instant::now();
                    }
                    next.saturating_duration_since(now)
                }
                Pace::AtOnce(most) => {
                    while self.under_way < most && now < end {
                        // As evenly as can be: how much a server can do is to be no matter of chance.
                        let number = (self.outcome.made as f64 * GOLDEN).fract();
                        self.ask(now, (self.arrivals.request)(number));
                        now = Instant::now();
                    }
                    next = now;
                    Duration::from_millis(20)
                }
            };
            if next >= end && self.under_way == 0 {
                return Ok(());
            }
            if now > end + PATIENCE {
                self.outcome.lost += self.under_way as u64;
                return Ok(());
            }
            self.turn(wait.min(Duration::from_millis(20)))?;
        }
    }

    fn open(&mut self) -> nix::Result<usize> {
        let connection = Connection { fd: open(self.arrivals.port)?, asked: None, answer: Vec::new() };
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.epoll.add(&connection.fd, EpollEvent::new(EpollFlags::EPOLLIN, place as u64))?;
        self.connections[place] = Some(connection);
        Ok(place)
    }

    fn ask(&mut self, due: Instant, request: &'static [u8]) {
        self.outcome.made += 1;
        self.outcome.late.push(due.elapsed().as_secs_f64() * 1e3);
        let kept = if self.idle.is_empty() {
            None
        } else {
            let which = (self.choice.next() * self.idle.len() as f64) as usize;
            Some(self.idle.swap_remove(which.min(self.idle.len() - 1)))
        };
        let Some(place) = kept.map_or_else(|| self.open(), Ok).ok() else {
            self.outcome.lost += 1;
            return;
        };
        self.under_way += 1;
        if let Some(connection) = &mut self.connections[place] {
            connection.asked = Some(Asked { due, request, sent: false });
            connection.send();
            if !connection.is_sent() {
                self.watch(place, EpollFlags::EPOLLOUT);
            }
        }
    }

    fn watch(&mut self, place: usize, what: EpollFlags) {
        if let Some(connection) = &self.connections[place] {
            let _ = self.epoll.modify(&connection.fd, &mut EpollEvent::new(what, place as u64));
        }
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
        if !connection.is_sent() {
            connection.send();
            if connection.is_sent() {
                self.watch(place, EpollFlags::EPOLLIN);
            } else if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
                self.gone(place);
            }
            return;
        }
        let mut bytes = [0; 1024];
        loop {
            match recv(connection.fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(count) if count > 0 => connection.answer.extend_from_slice(&bytes[..count]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Ok(_) | Err(_) => {
                    self.answered(place);
                    return self.gone(place);
                }
            }
        }
        self.answered(place);
    }

    /// If it is whole now.
    fn answered(&mut self, place: usize) {
        let Some(connection) = &mut self.connections[place] else { return };
        let whole = connection.answer.starts_with(b"HTTP/1.1 200 ") && connection.answer.ends_with(b"\r\n\r\nok");
        let Some(asked) = connection.asked.take_if(|_| whole) else { return };
        connection.answer.clear();
        self.under_way -= 1;
        self.outcome.answered += 1;
        if asked.due >= self.count_from {
            self.outcome.latencies.push(asked.due.elapsed().as_secs_f64() * 1e3);
        }
        if self.arrivals.kept.is_some() {
            self.idle.push(place);
        }
    }

    /// The server has ended it.
    fn gone(&mut self, place: usize) {
        if self.connections[place].take().is_some_and(|connection| connection.asked.is_some()) {
            self.under_way -= 1;
            self.outcome.lost += 1;
        }
        self.idle.retain(|other| *other != place);
        self.free.push(place);
    }
}

impl Connection {
    fn is_sent(&self) -> bool {
        self.asked.as_ref().is_none_or(|asked| asked.sent)
    }

    /// The request is far smaller than any send buffer: it goes out whole or not at all. A failure is seen by the next read.
    fn send(&mut self) {
        let fd = self.fd.as_raw_fd();
        if let Some(asked) = self.asked.as_mut().filter(|asked| !asked.sent) {
            asked.sent = !matches!(send(fd, asked.request, MsgFlags::MSG_NOSIGNAL), Err(Errno::EAGAIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_even_and_the_same_each_time() {
        let draw = |seed| {
            let mut chance = Chance(seed);
            (0..100_000).map(|_| chance.next()).collect::<Vec<_>>()
        };
        let drawn = draw(1);
        assert_eq!(drawn, draw(1));
        assert_ne!(drawn, draw(2));
        assert!(drawn.iter().all(|value| *value > 0.0 && *value <= 1.0));
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        assert!((0.495..0.505).contains(&mean), "{mean}");
    }

    #[test]
    fn quantiles() {
        let sorted: Vec<f64> = (0..=1000).map(f64::from).collect();
        assert_eq!([quantile(&sorted, 0.5), quantile(&sorted, 0.999), quantile(&[], 0.5)], [500.0, 999.0, 0.0]);
    }
}
