//! Whether a build is worse than another one that was measured beside it. Pure: run.rs does the measuring.

use std::fmt::Write as _;

use crate::contender::{self, Contender};
use crate::figures::{Better, Figure, Measure};
use crate::plan::Plan;
use crate::report;
use crate::results::{Record, Spread};

/// How many times worse than the old build the new one may be (--bound).
pub const BOUND: f64 = 1.03;
/// With fewer rounds a row is told, but not judged.
pub const LEAST_ROUNDS: usize = 3;
/// A row that seems to be worse is measured again until it has so many rounds or no longer seems so.
pub const SURE_ROUNDS: usize = 27;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Too few rounds.
    Open,
    NoWorse,
    Better,
    Worse,
}

/// How many times worse the new value is than the old one: more than 1 is worse, whatever is measured. What is less than the
/// grain counts as the grain, so that 2 in place of 0 is not without bounds.
fn times_worse(measure: &Measure, new: f64, old: f64) -> f64 {
    if (new - old).abs() <= measure.grain {
        return 1.0;
    }
    let (new, old) = (new.max(measure.grain), old.max(measure.grain));
    match measure.better {
        Better::Less => new / old,
        Better::More => old / new,
    }
}

/// One contender in one measure, over all its rounds.
struct Row {
    contender: &'static Contender,
    measure: Measure,
    times: Spread,
    rounds: usize,
}

impl Row {
    fn of(contender: &'static Contender, measure: Measure, (new, old): (&Record, &Record)) -> Option<Self> {
        let pairs = new.pairs(old, &measure.name, contender.name);
        let times: Vec<f64> = pairs.map(|(new, old)| times_worse(&measure, new, old)).collect();
        let rounds = times.len();
        Spread::of(&times).map(|times| Self { contender, measure, times, rounds })
    }

    /// The median says how much worse it is. The quartile says whether that is more than noise: three rounds in four are worse.
    fn verdict(&self, bound: f64) -> Verdict {
        if self.rounds < LEAST_ROUNDS {
            Verdict::Open
        } else if self.times.median > bound && self.times.low > 1.0 {
            Verdict::Worse
        } else if self.times.median < 1.0 / bound && self.times.high < 1.0 {
            Verdict::Better
        } else {
            Verdict::NoWorse
        }
    }
}

/// What one figure says of the two builds.
pub struct Comparison {
    figure: &'static Figure,
    bound: f64,
    rows: Vec<Row>,
}

impl Comparison {
    /// Of what was measured of the new build and of the old one, in the same rounds.
    pub fn new(figure: &'static Figure, plan: &Plan, bound: f64, records: (&Record, &Record)) -> Self {
        let mut rows = Vec::new();
        for measure in 0..(figure.measures)(plan).len() {
            for contender in contender::ALL.iter().filter(|contender| contender.is_ours()) {
                let measure = (figure.measures)(plan).swap_remove(measure);
                rows.extend(Row::of(contender, measure, records));
            }
        }
        Self { figure, bound, rows }
    }

    /// Whether a contender seems to be worse, and is once it has been for SURE_ROUNDS.
    pub fn suspects(&self, contender: &Contender) -> bool {
        self.rows.iter().any(|row| row.contender == contender && row.verdict(self.bound) == Verdict::Worse)
    }

    /// The rows that are worse, each with its name.
    fn worse(&self) -> impl Iterator<Item = String> {
        self.rows.iter().filter(|row| row.verdict(self.bound) == Verdict::Worse).map(|row| {
            let Row { contender, measure, times, rounds } = row;
            let times = report::ratio(*times);
            format!(
                "{}, {}, {}: {times} times worse, {rounds} rounds",
                self.figure.name, contender.title, measure.title
            )
        })
    }

    /// For each measure the contenders, the values of both builds, and how many times worse the new one is.
    pub fn table(&self, new: &Record, old: &Record) -> String {
        let mut text = String::new();
        let mut head = "";
        for row in &self.rows {
            if head != row.measure.name {
                head = &row.measure.name;
                let _ = writeln!(text, "  {} (new, old, times worse)", report::head(&row.measure));
            }
            let value = |record: &Record| {
                report::told(record, self.figure, &row.measure, row.contender).map_or(String::new(), |(value, _)| value)
            };
            let (new, old, times) = (value(new), value(old), report::ratio(row.times));
            let verdict = match row.verdict(self.bound) {
                Verdict::Open => "not judged",
                Verdict::NoWorse => "",
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
            };
            let line = format!("    {:<34} {new:>10} {old:>10}   {times}   {verdict}", row.contender.title);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// The last words of a run, and whether the new build is no worse than the old one.
pub fn summary(comparisons: &[Comparison]) -> (String, bool) {
    let verdicts: Vec<Verdict> = comparisons
        .iter()
        .flat_map(|comparison| comparison.rows.iter().map(|row| row.verdict(comparison.bound)))
        .collect();
    if verdicts.is_empty() {
        let text = "Nothing was compared: no contender of the chosen figures could be measured with both builds.\n";
        return (text.into(), false);
    }
    let count = |wanted: Verdict| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let (better, worse, open) = (count(Verdict::Better), count(Verdict::Worse), count(Verdict::Open));
    let mut text = format!("{} rows compared, {better} better, {worse} WORSE", verdicts.len());
    if open > 0 {
        let _ = write!(text, ", {open} not judged (fewer than {LEAST_ROUNDS} rounds)");
    }
    text.push('\n');
    for line in comparisons.iter().flat_map(Comparison::worse) {
        let _ = writeln!(text, "WORSE: {line}");
    }
    (text, worse == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures;
    use crate::plan::FULL;

    /// Of the figure `cost`: the old value and the new one of each round.
    fn compared(measure: &str, old: &[f64], new: &[f64]) -> Comparison {
        let mut records = (Record::default(), Record::default());
        for (round, (old, new)) in old.iter().zip(new).enumerate() {
            records.0.add(measure, "passed", round, *new);
            records.1.add(measure, "passed", round, *old);
        }
        Comparison::new(figures::named("cost").unwrap(), &FULL, BOUND, (&records.0, &records.1))
    }

    fn verdict(comparison: &Comparison) -> Verdict {
        comparison.rows[0].verdict(comparison.bound)
    }

    fn passed() -> &'static Contender {
        contender::named("passed").unwrap()
    }

    const OLD: &[f64] = &[5.0, 5.2, 5.1, 4.9, 5.0, 5.3, 5.0, 5.1, 5.2];

    fn times(factor: f64) -> Vec<f64> {
        OLD.iter().map(|value| value * factor).collect()
    }

    #[test]
    fn a_slower_build_is_found_and_named() {
        let (text, fine) = summary(&[compared("cpu", OLD, &times(1.05)), compared("runs", OLD, OLD)]);
        assert!(!fine);
        assert!(text.starts_with("2 rows compared, 0 better, 1 WORSE\n"), "{text}");
        let line = "WORSE: cost, libcluster passed, round-robin, CPU per connection, 64 outstanding: 1.05 [1.05 to 1.05] times";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn where_more_is_better_less_is_worse() {
        assert_eq!(verdict(&compared("drain", &[300e3; 9], &[280e3; 9])), Verdict::Worse);
        assert_eq!(verdict(&compared("drain", &[280e3; 9], &[300e3; 9])), Verdict::Better);
    }

    #[test]
    fn what_is_within_the_bound_is_no_worse() {
        for factor in [1.0, 1.029, 0.98] {
            let comparison = compared("cpu", OLD, &times(factor));
            assert_eq!(verdict(&comparison), Verdict::NoWorse, "{factor}");
            assert!(!comparison.suspects(passed()) && summary(&[comparison]).1);
        }
    }

    #[test]
    fn noise_is_not_worse() {
        // The median is 1.10, but three rounds say the opposite.
        let comparison = compared("cpu", &[1.0; 9], &[1.3, 0.8, 1.1, 1.2, 0.7, 1.4, 1.1, 0.9, 1.05]);
        assert!(comparison.rows[0].times.median > BOUND);
        assert_eq!(verdict(&comparison), Verdict::NoWorse);
    }

    #[test]
    fn more_rounds_clear_a_suspect() {
        let looks = |looks: &[f64]| {
            compared("cpu", &OLD.repeat(looks.len()), &looks.iter().flat_map(|look| times(*look)).collect::<Vec<_>>())
        };
        assert!(looks(&[1.1]).suspects(passed()) && looks(&[1.1, 1.1]).suspects(passed()));
        assert!(!looks(&[1.1]).suspects(contender::named("kernel").unwrap()));
        assert!(!looks(&[1.1, 0.99]).suspects(passed()) && verdict(&looks(&[1.1, 0.99])) == Verdict::NoWorse);
    }

    #[test]
    fn few_rounds_are_told_and_not_judged() {
        let comparison = compared("cpu", &[1.0, 1.0], &[2.0, 2.0]);
        assert!(!comparison.suspects(passed()));
        let (text, fine) = summary(&[comparison]);
        assert!(fine && text.contains("1 not judged"), "{text}");
    }

    #[test]
    fn a_comparison_of_nothing_is_no_success() {
        assert!(!summary(&[compared("nothing that is measured", OLD, OLD)]).1);
        assert!(!summary(&[]).1);
    }

    #[test]
    fn less_than_the_grain_is_no_difference() {
        let lost = (figures::named("kill").unwrap().measures)(&FULL).remove(0);
        let times = |new: f64, old: f64| times_worse(&lost, new, old);
        assert_eq!([times(0.0, 0.0), times(1.0, 0.0), times(0.0, 1.0), times(301.0, 300.0)], [1.0; 4]);
        assert_eq!([times(2.0, 0.0), times(600.0, 300.0), times(0.0, 300.0)], [2.0, 2.0, 1.0 / 300.0]);
    }
}
