//! The goals, and whether they are met.

use std::fmt::Write as _;

use crate::figures::Figure;
use crate::report;
use crate::results::{Record, Spread};

type Records = [(&'static Figure, Record)];

/// How the measured value of a goal is found.
enum Ask {
    /// The measure of one contender over that of another within a round, the median of all.
    Ratio(&'static str, &'static str),
    /// The other way round: how many times less.
    TimesLess(&'static str, &'static str),
    /// One measure over another of the same contender.
    Growth(&'static str, &'static str),
    Median(&'static str),
    /// The worst round.
    Largest(&'static str),
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Only shown, for comparison.
    None,
}

use Ask::{Growth, Largest, Median, Ratio, TimesLess};
use Bound::{AtLeast, AtMost};

struct Goal {
    text: &'static str,
    figure: &'static str,
    measure: &'static str,
    ask: Ask,
    bound: Bound,
}

const fn goal(text: &'static str, figure: &'static str, measure: &'static str, ask: Ask, bound: Bound) -> Goal {
    Goal { text, figure, measure, ask, bound }
}

/// In the order of what they are about; a line without a bound gives the value to compare with.
static GOALS: &[Goal] = &[
    goal("kernel / SO_REUSEPORT: CPU, 64 outstanding", "cost", "cpu", Ratio("kernel", "reuseport"), AtMost(1.03)),
    goal("kernel / SO_REUSEPORT: CPU, draining", "cost", "drain-cpu", Ratio("kernel", "reuseport"), AtMost(1.03)),
    goal("kernel / SO_REUSEPORT: drain", "cost", "drain", Ratio("kernel", "reuseport"), AtLeast(0.97)),
    goal("(SO_REUSEPORT, blocking accept4): CPU", "cost", "cpu", Ratio("reuseport-blocking", "reuseport"), Bound::None),
    goal(
        "(SO_REUSEPORT, blocking accept4): CPU, draining",
        "cost",
        "drain-cpu",
        Ratio("reuseport-blocking", "reuseport"),
        Bound::None,
    ),
    goal(
        "(SO_REUSEPORT, blocking accept4): drain",
        "cost",
        "drain",
        Ratio("reuseport-blocking", "reuseport"),
        Bound::None,
    ),
    goal("kernel: primary CPU per connection, us", "cost", "primary", Median("kernel"), AtMost(0.005)),
    goal("passed / SO_REUSEPORT: CPU, 64 outstanding", "cost", "cpu", Ratio("passed", "reuseport"), AtMost(1.25)),
    goal("passed / SO_REUSEPORT: CPU, draining", "cost", "drain-cpu", Ratio("passed", "reuseport"), AtMost(1.25)),
    goal("passed / single loop: CPU, 64 outstanding", "cost", "cpu", Ratio("passed", "single"), AtMost(1.3)),
    goal("passed / single loop: CPU, draining", "cost", "drain-cpu", Ratio("passed", "single"), AtMost(1.3)),
    goal("(bare hand-over / SO_REUSEPORT): CPU", "cost", "cpu", Ratio("handover", "reuseport"), Bound::None),
    goal(
        "(bare hand-over / SO_REUSEPORT): CPU, draining",
        "cost",
        "drain-cpu",
        Ratio("handover", "reuseport"),
        Bound::None,
    ),
    goal("passed / SO_REUSEPORT: drain", "cost", "drain", Ratio("passed", "reuseport"), AtLeast(0.85)),
    goal("kernel, times less CPU than node:cluster RR", "cost", "cpu", TimesLess("kernel", "node-rr"), AtLeast(11.0)),
    goal("kernel / node:cluster RR: drain", "cost", "drain", Ratio("kernel", "node-rr"), AtLeast(6.5)),
    goal("passed, times less CPU than node:cluster RR", "cost", "cpu", TimesLess("passed", "node-rr"), AtLeast(8.0)),
    goal("passed / node:cluster RR: drain", "cost", "drain", Ratio("passed", "node-rr"), AtLeast(5.5)),
    goal("kernel / node:cluster RR: latency p50", "cost", "latency", Ratio("kernel", "node-rr"), AtMost(0.25)),
    goal("passed / node:cluster RR: latency p50", "cost", "latency", Ratio("passed", "node-rr"), AtMost(0.35)),
    goal(
        "cluster-rs kernel / node:cluster NONE: HTTP CPU",
        "http",
        "cpu",
        Ratio("cluster-rs-kernel", "node-none"),
        AtMost(1.05),
    ),
    goal("(node:cluster NONE, times less than RR)", "http", "cpu", TimesLess("node-none", "node-rr"), Bound::None),
    goal("cluster-rs kernel, HTTP: spread", "http", "spread", Largest("cluster-rs-kernel"), AtMost(1.0)),
    goal(
        "cluster-rs passed, times less HTTP CPU than RR",
        "http",
        "cpu",
        TimesLess("cluster-rs-passed", "node-rr"),
        AtLeast(1.8),
    ),
    goal(
        "cluster-rs / RR: requests/s, 1 % compute 30 ms",
        "block",
        "burn rate",
        Ratio("cluster-rs", "node-rr"),
        AtLeast(1.3),
    ),
    goal(
        "cluster-rs / RR: requests/s, 1 % wait 30 ms",
        "block",
        "wait rate",
        Ratio("cluster-rs", "node-rr"),
        AtLeast(1.3),
    ),
    goal("kernel: spread, 10 outstanding", "spread", "calm", Largest("kernel"), AtMost(1.0)),
    goal("kernel: spread, 64 outstanding", "spread", "busy", Largest("kernel"), AtMost(1.0)),
    goal("kernel: spread, SYN cookies", "spread", "cookies", Largest("kernel"), AtMost(1.0)),
    goal("kernel: spread, stray packets", "spread", "strays", Largest("kernel"), AtMost(1.0)),
    goal("kernel: spread, SYN cookies and stray packets", "spread", "both", Largest("kernel"), AtMost(1.0)),
    goal("kernel: spread, SYN scan", "spread", "scan", Largest("kernel"), AtMost(1.0)),
    goal("passed: spread, 10 outstanding", "spread", "calm", Largest("passed"), AtMost(1.0)),
    goal("passed: spread, SYN cookies and stray packets", "spread", "both", Largest("passed"), AtMost(1.0)),
    goal("passed: spread, SYN scan", "spread", "scan", Largest("passed"), AtMost(1.0)),
    goal("kernel: over 100 ms, a worker stopped 1 s", "stall", "stopped", Largest("kernel"), AtMost(0.0)),
    goal("passed: over 100 ms, a worker stopped 1 s", "stall", "stopped", Largest("passed"), AtMost(0.0)),
    goal("(SO_REUSEPORT)", "stall", "stopped", Largest("reuseport"), Bound::None),
    goal("kernel: over 100 ms, a worker busy 1 s", "stall", "busy", Largest("kernel"), AtMost(0.0)),
    goal("passed: over 100 ms, a worker busy 1 s", "stall", "busy", Largest("passed"), AtMost(0.0)),
    goal("(SO_REUSEPORT)", "stall", "busy", Largest("reuseport"), Bound::None),
    // Each of the 24 clients may be with the worker once, as it stops; some more wait for a processor.
    goal("kernel: closed loop, a worker hung: over 40 ms", "stall", "loop", Largest("kernel"), AtMost(48.0)),
    goal("passed: closed loop, a worker hung: over 40 ms", "stall", "loop", Largest("passed"), AtMost(48.0)),
    goal("kernel: closed loop, a worker hung: served", "stall", "loop-kept", Median("kernel"), AtLeast(0.5)),
    goal("passed: closed loop, a worker hung: served", "stall", "loop-kept", Median("passed"), AtLeast(0.5)),
    goal("(SO_REUSEPORT)", "stall", "loop-kept", Median("reuseport"), Bound::None),
    goal(
        "cluster-rs kernel: over 100 ms, a worker stopped",
        "stall",
        "stopped",
        Largest("cluster-rs-kernel"),
        AtMost(0.0),
    ),
    goal(
        "cluster-rs passed: over 100 ms, a worker stopped",
        "stall",
        "stopped",
        Largest("cluster-rs-passed"),
        AtMost(0.0),
    ),
    goal("kernel: lost when a hung worker is killed", "kill", "lost", Largest("kernel"), AtMost(1.0)),
    goal("passed: lost when a hung worker is killed", "kill", "lost", Largest("passed"), AtMost(1.0)),
    goal("(SO_REUSEPORT)", "kill", "lost", Largest("reuseport"), Bound::None),
    goal("cluster-rs kernel: lost with a killed worker", "kill", "lost", Largest("cluster-rs-kernel"), AtMost(1.0)),
    goal("cluster-rs passed: lost with a killed worker", "kill", "lost", Largest("cluster-rs-passed"), AtMost(1.0)),
    goal("(node:cluster RR)", "kill", "lost", Largest("node-rr"), Bound::None),
    goal("kernel: CPU, 256 workers / 4", "scale", "cpu workers=256", Growth("kernel", "cpu workers=4"), AtMost(1.15)),
    goal("passed: CPU, 256 workers / 4", "scale", "cpu workers=256", Growth("passed", "cpu workers=4"), AtMost(1.15)),
    goal("(SO_REUSEPORT)", "scale", "cpu workers=256", Growth("reuseport", "cpu workers=4"), Bound::None),
    goal(
        "kernel: CPU, 256 addresses / 1",
        "scale",
        "cpu addresses=256",
        Growth("kernel", "cpu addresses=1"),
        AtMost(1.15),
    ),
    goal(
        "passed: CPU, 256 addresses / 1",
        "scale",
        "cpu addresses=256",
        Growth("passed", "cpu addresses=1"),
        AtMost(1.15),
    ),
    goal("(SO_REUSEPORT)", "scale", "cpu addresses=256", Growth("reuseport", "cpu addresses=1"), Bound::None),
];

/// A goal as it is shown: what, the bound, what was measured, the verdict.
struct Line {
    text: &'static str,
    bound: String,
    measured: String,
    verdict: &'static str,
}

impl Goal {
    /// The value that is judged, and how it is shown.
    fn measured(&self, record: &Record) -> Option<(f64, String)> {
        let of_ratios = |ratios: Vec<f64>| Spread::of(&ratios).map(|spread| (spread.median, report::ratio(spread)));
        match self.ask {
            Ratio(one, other) => of_ratios(record.ratios((self.measure, one), (self.measure, other))),
            TimesLess(one, other) => of_ratios(record.ratios((self.measure, other), (self.measure, one))),
            Growth(of, base) => of_ratios(record.ratios((self.measure, of), (base, of))),
            Median(of) => {
                record.spread(self.measure, of).map(|spread| (spread.median, format!("{:.3}", spread.median)))
            }
            Largest(of) => {
                let largest = record.values(self.measure, of).into_iter().reduce(f64::max)?;
                Some((largest, format!("{largest:.0}")))
            }
        }
    }

    /// Nothing for a value to compare with that was not measured.
    fn line(&self, records: &Records) -> Option<Line> {
        let record = records.iter().find(|(figure, _)| figure.name == self.figure).map(|(_, record)| record);
        let Some((value, measured)) = record.and_then(|record| self.measured(record)) else {
            let missing =
                Line { text: self.text, bound: self.bound.shown(), measured: String::new(), verdict: "not measured" };
            return (!matches!(self.bound, Bound::None)).then_some(missing);
        };
        let verdict = match self.bound {
            AtMost(bound) if value <= bound => "met",
            AtLeast(bound) if value >= bound => "met",
            AtMost(_) | AtLeast(_) => "MISSED",
            Bound::None => "",
        };
        Some(Line { text: self.text, bound: self.bound.shown(), measured, verdict })
    }
}

impl Bound {
    fn shown(&self) -> String {
        match self {
            // A primary that does nothing is measured with the resolution of what is printed.
            AtMost(bound) if *bound < 0.01 => "0".into(),
            AtMost(bound) => format!("<= {bound}"),
            AtLeast(bound) => format!(">= {bound}"),
            Bound::None => String::new(),
        }
    }
}

fn lines(records: &Records) -> impl Iterator<Item = Line> {
    GOALS
        .iter()
        .filter(|goal| records.iter().any(|(figure, _)| figure.name == goal.figure))
        .filter_map(|goal| goal.line(records))
}

/// For the terminal.
pub fn table(records: &Records) -> String {
    let mut text = format!("{:<50} {:>8}   {:<24} {}\n", "goal", "", "measured", "");
    for Line { text: goal, bound, measured, verdict } in lines(records) {
        let _ = writeln!(text, "{goal:<50} {bound:>8}   {measured:<24} {verdict}");
    }
    text
}

pub fn markdown(records: &Records) -> String {
    let mut text = String::from("| | goal | measured | |\n| --- | --- | --- | --- |\n");
    for Line { text: goal, bound, measured, verdict } in lines(records) {
        let verdict = if verdict == "MISSED" { "**missed**" } else { verdict };
        let _ = writeln!(text, "| {goal} | {bound} | {measured} | {verdict} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FULL;
    use crate::{contender, figures};

    #[test]
    fn goals_are_about_what_is_measured() {
        for goal in GOALS {
            let figure = figures::named(goal.figure).unwrap();
            let known = |name: &str| (figure.measures)(&FULL).iter().any(|measure| measure.name == name);
            assert!(known(goal.measure), "{}", goal.text);
            let names = match goal.ask {
                Ratio(one, other) | TimesLess(one, other) => vec![one, other],
                Growth(of, base) => {
                    assert!(known(base), "{}", goal.text);
                    vec![of]
                }
                Median(of) | Largest(of) => vec![of],
            };
            for name in names {
                assert!(contender::named(name).is_some(), "{name}");
                assert!(figure.contenders.iter().chain(figure.more).any(|other| *other == name), "{}", goal.text);
            }
        }
    }

    #[test]
    fn a_goal_is_judged_by_the_median_of_the_rounds() {
        let mut record = Record::default();
        for (round, kernel) in [(0, 1.0), (1, 1.02), (2, 9.0)] {
            record.add("cpu", "kernel", round, kernel);
            record.add("cpu", "reuseport", round, 1.0);
        }
        let judge = |record: &Record| GOALS[0].line(&[(figures::named("cost").unwrap(), record.clone())]).unwrap();
        let line = judge(&record);
        assert_eq!((line.verdict, line.measured.split(' ').next()), ("met", Some("1.02")));
        record.add("cpu", "kernel", 3, 8.0);
        record.add("cpu", "reuseport", 3, 1.0);
        assert_eq!(judge(&record).verdict, "MISSED");
        assert_eq!(judge(&Record::default()).verdict, "not measured");
    }
}
