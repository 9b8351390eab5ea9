//! The goals, and whether they are met.

mod list;

use std::fmt::Write as _;

use self::list::{Ask, Bound, GOALS, Goal};
use crate::figures::Figure;
use crate::report;
use crate::results::{Record, Spread};

use Ask::{Growth, Largest, Median, Ratio, TimesLess, WorstRow, WorstRowToBest};
use Bound::{AtLeast, AtMost};

type Records = [(&'static Figure, Record)];

/// A goal as it is shown: what, the bound, what was measured, the verdict.
struct Line {
    text: &'static str,
    bound: String,
    measured: String,
    verdict: &'static str,
}

fn ratio_of(one: Spread, other: Spread) -> f64 {
    one.median / other.median
}

impl Goal {
    /// The value that is judged, and how it is shown.
    fn measured(&self, record: &Record) -> Option<(f64, String)> {
        let of_ratios = |ratios: Vec<f64>| Spread::of(&ratios).map(|spread| (spread.median, report::ratio(spread)));
        match self.ask {
            WorstRow(one, other) => self.worst_row(record, |measure| {
                Some(ratio_of(record.spread(measure, one)?, record.spread(measure, other)?))
            }),
            WorstRowToBest(one) => self.worst_row(record, |measure| {
                let all = record.contenders(measure).into_iter().filter_map(|name| record.spread(measure, name));
                let best = all.min_by(|one, other| one.median.total_cmp(&other.median))?;
                Some(ratio_of(record.spread(measure, one)?, best))
            }),
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

    /// The largest value of all measures that begin like this goal's, and whose it is.
    fn worst_row(&self, record: &Record, of: impl Fn(&str) -> Option<f64>) -> Option<(f64, String)> {
        let rows = record.measures().into_iter().filter_map(|measure| measure.strip_prefix(self.measure));
        let values = rows.filter_map(|row| Some((of(&format!("{}{row}", self.measure))?, row)));
        let (value, row) = values.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
        Some((value, format!("{value:.2} ({row})")))
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
            let begins = matches!(goal.ask, WorstRow(..) | WorstRowToBest(_));
            let row = |measure: &crate::figures::Measure| measure.name.starts_with(goal.measure);
            assert!(known(goal.measure) || (begins && (figure.measures)(&FULL).iter().any(row)), "{}", goal.text);
            let names = match goal.ask {
                WorstRow(one, other) => vec![one, other],
                WorstRowToBest(of) => vec![of],
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
    fn of_many_rows_the_worst_counts() {
        let mut record = Record::default();
        let rows = [
            ("p99 one", "best", 1.0),
            ("p99 one", "rotation", 1.5),
            ("p99 two", "rotation", 4.0),
            ("p99 two", "best", 2.0),
        ];
        for (measure, contender, value) in rows {
            record.add(measure, contender, 0, value);
        }
        // Where it is the best itself it is no better than itself.
        record.add("p99 three", "rotation", 0, 1.0);
        record.add("p99.9 one", "rotation", 0, 900.0);
        let goal = |ask| Goal { text: "", figure: "open", measure: "p99 ", ask, bound: AtMost(1.05) };
        let measured = goal(WorstRowToBest("rotation")).measured(&record);
        assert_eq!(measured, Some((2.0, "2.00 (two)".into())));
        assert_eq!(goal(WorstRow("best", "rotation")).measured(&record).map(|(value, _)| value), Some(1.0 / 1.5));
        assert_eq!(goal(WorstRow("best", "nobody")).measured(&record), None);
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
