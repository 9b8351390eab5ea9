//! How much is measured.

/// Sizes of a run. Ratios that goals are judged by want 9 rounds.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: &'static str,
    /// Of the figures that give ratios.
    pub rounds: usize,
    /// Of the figures that count what must not happen.
    pub trials: usize,
    /// Connections with 64 outstanding, and before that to warm up.
    pub connections: usize,
    pub warm: usize,
    /// Connections that wait while the servers are stopped, and how often.
    pub queue: usize,
    pub drains: usize,
    /// Single connections for the latency.
    pub probes: usize,
    pub spread: usize,
    /// Seconds of load with one worker stopped, and how long it is stopped.
    pub stall_seconds: f64,
    pub stopped_seconds: f64,
    /// Connections that wait in `memory`.
    pub waiting: usize,
    pub worker_counts: &'static [usize],
    pub address_counts: &'static [usize],
    /// Seconds for which an idle cluster rests, and for which it is looked at then.
    pub rest_seconds: f64,
    pub idle_seconds: f64,
    /// Rounds of the open loop, each of which takes much longer than those of other figures.
    pub open_rounds: usize,
    /// Its requests for each load, as parts of the capacity in percent: at least so many, and for so many seconds.
    pub open_loads: &'static [usize],
    pub open_requests: usize,
    pub open_seconds: f64,
    pub open_warm: f64,
    /// Requests a second, numbers of workers and seconds of `wakes`.
    pub wakes_rates: &'static [usize],
    pub wakes_workers: &'static [usize],
    pub wakes_seconds: f64,
    /// Connections that stay.
    pub lasting: usize,
    /// How many are replaced in `reload`.
    pub reload_workers: u32,
    /// Seconds of HTTP, and before that to warm up.
    pub http_seconds: f64,
    pub http_warm: f64,
    /// Whether the contenders that no goal needs are measured too.
    pub everybody: bool,
}

pub const FULL: Plan = Plan {
    name: "full",
    rounds: 9,
    trials: 5,
    connections: 20_000,
    warm: 2_000,
    queue: 4_000,
    drains: 3,
    probes: 1_000,
    spread: 100_000,
    stall_seconds: 3.0,
    stopped_seconds: 1.0,
    waiting: 10_000,
    worker_counts: &[1, 2, 4, 16, 64, 256],
    address_counts: &[1, 16, 64, 256],
    rest_seconds: 5.0,
    idle_seconds: 10.0,
    open_rounds: 3,
    open_loads: &[30, 60, 80],
    open_requests: 3_000,
    open_seconds: 2.0,
    open_warm: 0.3,
    wakes_rates: &[10, 100, 1000],
    wakes_workers: &[4, 64],
    wakes_seconds: 3.0,
    lasting: 10_000,
    reload_workers: 64,
    http_seconds: 2.0,
    http_warm: 1.0,
    everybody: true,
};

pub const QUICK: Plan = Plan {
    name: "quick",
    rounds: 3,
    trials: 1,
    connections: 10_000,
    warm: 1_000,
    drains: 1,
    probes: 400,
    spread: 20_000,
    stall_seconds: 2.0,
    worker_counts: &[4, 64, 256],
    address_counts: &[1, 64, 256],
    rest_seconds: 1.0,
    idle_seconds: 2.0,
    open_rounds: 1,
    open_loads: &[80],
    open_requests: 0,
    open_seconds: 0.5,
    open_warm: 0.2,
    wakes_rates: &[100, 1000],
    wakes_workers: &[4, 64],
    wakes_seconds: 1.0,
    lasting: 4_000,
    http_seconds: 1.0,
    http_warm: 0.5,
    everybody: false,
    ..FULL
};

/// Shows that everything still works; the figures mean nothing.
pub const TINY: Plan = Plan {
    name: "tiny",
    rounds: 1,
    trials: 1,
    connections: 200,
    warm: 64,
    queue: 50,
    drains: 1,
    probes: 5,
    spread: 400,
    stall_seconds: 0.4,
    stopped_seconds: 0.1,
    waiting: 300,
    worker_counts: &[1, 4],
    address_counts: &[1, 2],
    rest_seconds: 0.2,
    idle_seconds: 0.3,
    open_rounds: 1,
    open_loads: &[80],
    open_requests: 0,
    open_seconds: 0.1,
    open_warm: 0.05,
    wakes_rates: &[100],
    wakes_workers: &[4],
    wakes_seconds: 0.2,
    lasting: 200,
    reload_workers: 8,
    http_seconds: 0.3,
    http_warm: 0.1,
    everybody: false,
};
