//! What LEAST_LOADED is worth against other ways, in a model: where the figures in docs/ come from.
//!
//! Handlers of 1 ms (exponential) occupy their worker, 1 % of them for 30 ms; the workers are busy for 70 % of the time
//! and tell how many handlers they have in progress every so often. `cargo test --test simulation -- --nocapture` prints the table.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use policy::{Burden, LeastLoaded, Load, RoundRobin, Told};

/// The engine's own, which is pure and no program's.
#[path = "../src/policy"]
mod policy {
    mod least_loaded;
    mod round_robin;

    pub(crate) use least_loaded::{Burden, LeastLoaded, Load, Told};
    pub(crate) use round_robin::RoundRobin;
}

const CONNECTIONS: usize = 20_000;
const WINDOW: usize = 12;
const BUSY: f64 = 0.7;
const USUAL_US: f64 = 1_000.0;
const SLOW_US: f64 = 30_000.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    InTurn,
    /// The least load that was told and nothing else, of all or of two at random.
    Told {
        of_two: bool,
    },
    /// As the engine knows it, of all or of two at random.
    Known {
        of_two: bool,
    },
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn share(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 31) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    fn handler(&mut self) -> f64 {
        if self.share() < 0.01 { SLOW_US } else { self.exponential(USUAL_US) }
    }
}

#[derive(Default)]
struct Worker {
    /// When each connection in its mailbox came.
    mailbox: VecDeque<u64>,
    busy: bool,
    told: Told,
    load: Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Done(usize),
    Report(usize),
}

struct Model {
    way: Way,
    workers: Vec<Worker>,
    slots: Vec<u32>,
    rotation: RoundRobin,
    policy: LeastLoaded,
    backlog: VecDeque<u64>,
    events: BinaryHeap<Reverse<(u64, usize, Event)>>,
    /// Of the arrivals, of the handlers and of the choices, so that all ways meet the same arrivals and handlers.
    random: [Random; 3],
    /// From arrival to answer, all together.
    waited_us: f64,
}

impl Model {
    fn plan(&mut self, at: u64, event: Event) {
        let number = self.events.len();
        self.events.push(Reverse((at, number, event)));
    }

    fn choose(&mut self, began: Instant) -> Option<usize> {
        let workers = &self.workers;
        let is_open = |index: usize| workers[index].mailbox.len() < WINDOW;
        let open: Vec<usize> = (0..workers.len()).filter(|index| is_open(*index)).collect();
        let pair = match self.way {
            Way::Told { of_two: true } | Way::Known { of_two: true } if !open.is_empty() => {
                Some([0; 2].map(|_| open[self.random[2].next() as usize % open.len()]))
            }
            _ => None,
        };
        let burden = |index: usize| {
            let takes_part = is_open(index) && pair.is_none_or(|pair| pair.contains(&index));
            takes_part.then(|| match self.way {
                Way::Known { .. } => workers[index].load.burden(),
                _ => told_alone(workers[index].told, began),
            })
        };
        match self.way {
            Way::InTurn => self.rotation.next(&self.slots, is_open),
            _ => self.policy.next(&self.slots, burden),
        }
    }

    fn turn(&mut self, now_us: u64, began: Instant) {
        let now = began + Duration::from_micros(now_us);
        for worker in &mut self.workers {
            worker.load.look(worker.told, worker.mailbox.len() as u32, now);
        }
        while !self.backlog.is_empty() {
            let Some(index) = self.choose(began) else { break };
            let arrived = self.backlog.pop_front().unwrap();
            self.rotation.served(self.slots[index]);
            self.policy.served(self.slots[index]);
            self.workers[index].load.give();
            self.workers[index].mailbox.push_back(arrived);
            self.take(index, now_us);
        }
    }

    fn take(&mut self, index: usize, now_us: u64) {
        if self.workers[index].busy {
            return;
        }
        if let Some(arrived) = self.workers[index].mailbox.pop_front() {
            let done = now_us + self.random[1].handler() as u64;
            self.workers[index].busy = true;
            self.waited_us += (done - arrived) as f64;
            self.plan(done, Event::Done(index));
        }
    }
}

fn told_alone(told: Told, now: Instant) -> Burden {
    let mut load = Load::default();
    load.look(told, 0, now);
    load.burden()
}

/// The mean time from a connection's arrival to its answer, in milliseconds.
fn mean_wait(way: Way, workers: usize, report_every: Duration) -> f64 {
    let began = Instant::now();
    let mut model = Model {
        way,
        workers: (0..workers).map(|_| Worker::default()).collect(),
        slots: (0..workers as u32).collect(),
        rotation: RoundRobin::default(),
        policy: LeastLoaded::default(),
        backlog: VecDeque::new(),
        events: BinaryHeap::new(),
        random: [1, 2, 3].map(Random),
        waited_us: 0.0,
    };
    let every = report_every.as_micros() as u64;
    for index in 0..workers {
        model.plan(every * index as u64 / workers as u64, Event::Report(index));
    }
    let between = (0.99 * USUAL_US + 0.01 * SLOW_US) / (workers as f64 * BUSY);
    let mut left = CONNECTIONS;
    model.plan(0, Event::Arrival);
    while let Some(Reverse((now, _, event))) = model.events.pop() {
        match event {
            Event::Arrival => {
                model.backlog.push_back(now);
                left -= 1;
                if left > 0 {
                    let next = now + model.random[0].exponential(between) as u64;
                    model.plan(next, Event::Arrival);
                }
            }
            Event::Done(index) => {
                model.workers[index].busy = false;
                model.take(index, now);
            }
            Event::Report(index) => {
                let worker = &mut model.workers[index];
                worker.told = Told { load: worker.busy.into(), reports: worker.told.reports + 1 };
                if left > 0 {
                    model.plan(now + every, Event::Report(index));
                }
            }
        }
        model.turn(now, began);
    }
    model.waited_us / CONNECTIONS as f64 / 1000.0
}

#[test]
fn the_least_of_all_by_what_is_known_beats_the_other_ways_however_old_the_loads_are() {
    let ways = [
        ("in turn", Way::InTurn),
        ("least load told", Way::Told { of_two: false }),
        ("lesser of two by load told", Way::Told { of_two: true }),
        ("lesser of two by all that is known", Way::Known { of_two: true }),
        ("LEAST_LOADED", Way::Known { of_two: false }),
    ];
    for workers in [4, 64] {
        for report_every in [1, 10, 100].map(Duration::from_millis) {
            let means: Vec<f64> = ways.iter().map(|(_, way)| mean_wait(*way, workers, report_every)).collect();
            for ((name, _), mean) in ways.iter().zip(&means) {
                println!("{workers:2} workers, told every {report_every:5?}: {mean:5.1} ms  {name}");
            }
            let own = means[ways.len() - 1];
            for ((name, _), other) in ways.iter().zip(&means).take(ways.len() - 1) {
                assert!(own < other * 1.1, "{workers} workers, {report_every:?}: {own} against {other} {name}");
            }
        }
    }
}
