//! Clusters are stopped while clients come: whoever had connected is served, whoever comes later is refused, nobody is reset.

use std::time::Duration;

use cluster_bench::error::Result;
use cluster_bench::page::number;

use super::{Rig, milliseconds, quantile};
use crate::client::{Load, Origins, Running};
use crate::clock::{self, ms, wait_until};
use crate::contender::Contender;
use crate::harm::Harmed;
use crate::link::{self, Link};
use crate::oracle::{Entry, Outcome, Verdict};
use crate::random::Random;
use crate::server::{Server, Shape};

/// A stop has its time, so that it is no deadline that cuts somebody off.
const DEADLINE_MS: u64 = 10_000;
const LIMIT: Duration = Duration::from_secs(20);

/// Where the clients are, and how much there is of everything.
struct Course<'a> {
    link: Option<&'a Link>,
    stops: usize,
    /// So many clusters side by side.
    at_once: usize,
    /// Connections per second to each of them.
    rate: f64,
    /// For how long they are served before the stop, milliseconds.
    served: (u64, u64),
    patience: Duration,
}

pub fn local(rig: &mut Rig, contender: Contender) -> Result<()> {
    let stops = if rig.quick { 8 } else { if contender.is_c() { 1000 } else { 100 } };
    let course = Course {
        link: None,
        stops,
        at_once: 2,
        rate: contender.rate() / 4.0,
        served: (5, 60),
        // Workers compute, more than two can on a machine that is busy with other things.
        patience: Duration::from_secs(10),
    };
    run(rig, contender, &course)?;
    idle(rig, contender)
}

pub fn over_a_link(rig: &mut Rig, contender: Contender) -> Result<()> {
    let link = Link::start(rig.shop, rig.seeds[0])?;
    let course = Course {
        link: Some(&link),
        stops: if rig.quick { 6 } else { 1000 },
        at_once: if rig.quick { 6 } else { 10 },
        rate: 40.0,
        served: (10, 50),
        // A packet that was lost again and again comes late, which is no hanging.
        patience: Duration::from_secs(30),
    };
    run(rig, contender, &course)?;
    println!("  {:<20} {}", contender.name, link.end());
    Ok(())
}

#[derive(Default)]
struct Sum {
    verdict: Verdict,
    refused: u64,
    longest: f64,
}

fn run(rig: &mut Rig, contender: Contender, course: &Course<'_>) -> Result<()> {
    let mut random = Random::new(rig.seeds[0]);
    let (mut sum, mut done) = (Sum::default(), 0);
    while done < course.stops {
        let count = course.at_once.min(course.stops - done);
        side_by_side(rig, contender, course, (done, count), &mut random, &mut sum)?;
        done += count;
    }
    let Sum { verdict, refused, longest } = sum;
    let cut = verdict.lost();
    let row =
        format!("reset or cut ({} stops, {} connections)", number(done as f64, 0), number(verdict.requests as f64, 0));
    rig.row(contender, &row, cut.to_string(), "0", cut == 0);
    rig.row(contender, "hung", verdict.hung.to_string(), "0", verdict.hung == 0);
    rig.row(contender, "refused before the stop began", verdict.refused.to_string(), "0", verdict.refused == 0);
    rig.row(
        contender,
        "answered by two, or by nobody who had taken it",
        odd(&verdict).to_string(),
        "0",
        odd(&verdict) == 0,
    );
    let [answered, refused] = [verdict.answered, refused].map(|count| number(count as f64, 0));
    rig.row(contender, "answered; refused after the stop began", format!("{answered}; {refused}"), "", true);
    rig.row(contender, "the longest stop, ms", milliseconds(longest), "", true);
    Ok(())
}

fn odd(verdict: &Verdict) -> u64 {
    verdict.breaches.len() as u64 - verdict.lost() - verdict.hung - verdict.refused
}

/// Starts them, lets them serve, stops one after the other, and looks at what became of each one's clients.
fn side_by_side(
    rig: &mut Rig,
    contender: Contender,
    course: &Course<'_>,
    (first, count): (usize, usize),
    random: &mut Random,
    sum: &mut Sum,
) -> Result<()> {
    let mut clusters = Vec::new();
    for at in 0..count {
        let shape = Shape {
            workers: 2,
            looping: random.below(2) == 0,
            // With the last there are queues when the stop comes.
            work_us: [0, 200, 1500][random.below(3) as usize],
            host: if course.link.is_some() { link::FAR } else { Shape::default().host },
            // An id that is lost on the way comes after 3 s, if the SYN before it was lost, too (RFC 6298).
            linger_ms: if course.link.is_some() { 6000 } else { Shape::default().linger_ms },
            ..Shape::default()
        };
        let start = || Server::start(rig.shop, contender, shape);
        let server = match course.link {
            Some(link) => link.at_far_end(start)?,
            None => start()?,
        };
        clusters.push((at, server));
    }
    let mut loads: Vec<Running> = Vec::new();
    for (at, server) in &clusters {
        let origins = Origins {
            first: if course.link.is_some() { link::NEAR } else { [127, 0, 0, 11] },
            addresses: 4,
            ports: (1100 + 2500 * *at as u16, 2500),
        };
        let load = Load {
            host: server.shape.host,
            patience: course.patience,
            from: Some(origins),
            ..Load::new(0, course.rate)
        };
        loads.push(Load { port: server.port, ..load }.start()?);
    }
    for load in &loads {
        wait_until(Duration::from_secs(5), || load.done() >= 5 || load.is_finished());
    }
    let mut begun = Vec::new();
    for (_, server) in &mut clusters {
        let (least, most) = course.served;
        std::thread::sleep(Duration::from_millis(random.between(least, most)));
        begun.push(clock::now());
        server.command(&format!("stop {DEADLINE_MS}"))?;
    }
    for (_, server) in &mut clusters {
        server.await_end(LIMIT);
    }
    for (((at, server), load), stop) in clusters.into_iter().zip(loads).zip(begun) {
        let mut entries = load.finish()?;
        let late = |entry: &Entry| entry.outcome == Outcome::Refused && entry.ended >= stop;
        let all = entries.len();
        entries.retain(|entry| !late(entry));
        sum.refused += (all - entries.len()) as u64;
        let what = format!("stop {} (loop {}, {} us)", first + at, server.shape.looping, server.shape.work_us);
        sum.verdict.add(rig.judge_silently(&server, &entries, &Harmed::default(), &what)?);
        sum.longest = sum.longest.max(took(&server, stop));
        if let Err(error) = server.ended() {
            rig.breach(contender, &format!("{what}: {error}"));
        }
    }
    Ok(())
}

fn took(server: &Server, stop: u64) -> f64 {
    wait_until(Duration::from_secs(1), || server.told().silent);
    server.told().ended.map_or(f64::INFINITY, |ended| ms(ended.saturating_sub(stop)))
}

/// From the command to the end of the primary's output, where nobody is connected.
fn idle(rig: &mut Rig, contender: Contender) -> Result<()> {
    let count = if rig.quick {
        3
    } else if contender.is_c() {
        200
    } else {
        20
    };
    let mut times = Vec::new();
    for _ in 0..count {
        let mut server = Server::start(rig.shop, contender, Shape::default())?;
        let stop = clock::now();
        server.command(&format!("stop {DEADLINE_MS}"))?;
        server.await_end(LIMIT);
        times.push(took(&server, stop));
        server.ended()?;
    }
    let [half, most] = [0.5, 1.0].map(|part| milliseconds(quantile(&mut times, part)));
    let row = format!("a stop of four workers without clients, median of {count} (longest), ms");
    rig.row(contender, &row, format!("{half} ({most})"), "", true);
    Ok(())
}
