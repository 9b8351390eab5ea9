//! Whether a build is worse than another one that was measured beside it. Pure: run.rs does the measuring.

use std::fmt::Write as _;
use std::ops::Range;

use crate::contender::{self, Contender};
use crate::figures::{Better, Figure, Measure};
use crate::plan::Plan;
use crate::report;
use crate::results::{Record, Spread};

/// How many times worse than the old build the new one may be (--bound).
pub const BOUND: f64 = 1.03;
/// With fewer rounds a row is told, but not judged.
pub const LEAST_ROUNDS: usize = 3;
/// A row that seems to be worse is measured again, so many times in all. It is worse if it is each time.
pub const LOOKS: usize = 3;

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

/// The median says how much worse it is. The quartile says whether that is more than noise: three rounds in four are worse.
fn judge(times: Spread, rounds: usize, bound: f64) -> Verdict {
    if rounds < LEAST_ROUNDS {
        Verdict::Open
    } else if times.median > bound && times.low > 1.0 {
        Verdict::Worse
    } else if times.median < 1.0 / bound && times.high < 1.0 {
        Verdict::Better
    } else {
        Verdict::NoWorse
    }
}

/// One contender in one measure.
struct Row {
    contender: &'static Contender,
    measure: Measure,
    looks: Vec<(Spread, Verdict)>,
}

impl Row {
    fn verdict(&self) -> Verdict {
        match self.looks[..] {
            [(_, first)] => first,
            // It was only measured again because it had seemed to be worse.
            [.., (_, Verdict::Worse)] => Verdict::Worse,
            _ => Verdict::NoWorse,
        }
    }

    fn is_suspect(&self) -> bool {
        self.verdict() == Verdict::Worse && self.looks.len() < LOOKS
    }

    fn looked(&self) -> String {
        self.looks.iter().map(|(times, _)| report::ratio(*times)).collect::<Vec<_>>().join(", again ")
    }
}

/// What one figure says of the two builds.
pub struct Comparison {
    figure: &'static Figure,
    bound: f64,
    rows: Vec<Row>,
}

impl Comparison {
    /// The first look, at some rounds of what was measured of the new build and of the old one.
    pub fn new(
        figure: &'static Figure,
        plan: &Plan,
        bound: f64,
        (new, old): (&Record, &Record),
        rounds: Range<usize>,
    ) -> Self {
        let mut rows = Vec::new();
        for contender in contender::ALL.iter().filter(|contender| contender.is_ours()) {
            for measure in (figure.measures)(plan) {
                rows.push(Row { contender, measure, looks: Vec::new() });
            }
        }
        let mut comparison = Self { figure, bound, rows };
        comparison.look(|_| true, (new, old), rounds);
        comparison.rows.retain(|row| !row.looks.is_empty());
        comparison
    }

    /// Looks again at the suspects, in other rounds.
    pub fn look_again(&mut self, records: (&Record, &Record), rounds: Range<usize>) {
        self.look(Row::is_suspect, records, rounds);
    }

    fn look(&mut self, at: impl Fn(&Row) -> bool, (new, old): (&Record, &Record), rounds: Range<usize>) {
        for row in self.rows.iter_mut().filter(|row| at(row)) {
            let times: Vec<f64> = new
                .pairs(old, &row.measure.name, row.contender.name)
                .filter(|(round, ..)| rounds.contains(round))
                .map(|(_, new, old)| times_worse(&row.measure, new, old))
                .collect();
            if let Some(spread) = Spread::of(&times) {
                row.looks.push((spread, judge(spread, times.len(), self.bound)));
            }
        }
    }

    /// Whether a contender has to be measured again.
    pub fn suspects(&self, contender: &Contender) -> bool {
        self.rows.iter().any(|row| row.contender == contender && row.is_suspect())
    }

    /// The rows that are worse, each with its name.
    fn worse(&self) -> impl Iterator<Item = String> {
        self.rows.iter().filter(|row| row.verdict() == Verdict::Worse).map(|row| {
            format!(
                "{}, {}, {}: {} times worse",
                self.figure.name,
                row.contender.title,
                row.measure.title,
                row.looked()
            )
        })
    }

    /// The table of the figure: for each measure the contenders, the values of both builds and how many times worse the new one is.
    pub fn table(&self, new: &Record, old: &Record) -> String {
        let mut text = String::new();
        let mut head = "";
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        let order = |row: &Row| self.rows.iter().position(|other| other.measure.name == row.measure.name);
        rows.sort_by_key(|row| order(row));
        for row in rows {
            if head != row.measure.name {
                head = &row.measure.name;
                let _ = writeln!(text, "  {} (new, old, times worse)", report::head(&row.measure));
            }
            let value = |record: &Record| {
                report::told(record, self.figure, &row.measure, row.contender).map_or(String::new(), |(value, _)| value)
            };
            let verdict = match row.verdict() {
                Verdict::Open => "not judged",
                Verdict::NoWorse => "",
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
            };
            let line = format!(
                "    {:<34} {:>10} {:>10}   {}   {verdict}",
                row.contender.title,
                value(new),
                value(old),
                row.looked()
            );
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// The last words of a run, and whether the new build is no worse than the old one.
pub fn summary(comparisons: &[Comparison]) -> (String, bool) {
    let rows = || comparisons.iter().flat_map(|comparison| &comparison.rows);
    let count = |verdict: Verdict| rows().filter(|row| row.verdict() == verdict).count();
    let all = rows().count();
    if all == 0 {
        return (
            "Nothing was compared: no contender of the chosen figures could be measured with both builds.\n".into(),
            false,
        );
    }
    let mut text = format!("{all} rows compared");
    for (verdict, word) in [(Verdict::Better, "better"), (Verdict::Worse, "WORSE")] {
        let _ = write!(text, ", {} {word}", count(verdict));
    }
    if count(Verdict::Open) > 0 {
        let _ = write!(text, ", {} not judged (fewer than {LEAST_ROUNDS} rounds)", count(Verdict::Open));
    }
    text.push('\n');
    for line in comparisons.iter().flat_map(Comparison::worse) {
        let _ = writeln!(text, "WORSE: {line}");
    }
    (text, count(Verdict::Worse) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures;
    use crate::plan::FULL;

    /// Of the figure `cost`: nine rounds for each look, in each the old value and the new one.
    fn compared(measure: &str, looks: &[(&[f64], &[f64])]) -> Comparison {
        let (mut new, mut old) = (Record::default(), Record::default());
        let mut comparison: Option<Comparison> = None;
        let mut begin = 0;
        for (before, after) in looks {
            for (i, (before, after)) in before.iter().zip(*after).enumerate() {
                old.add(measure, "passed", begin + i, *before);
                new.add(measure, "passed", begin + i, *after);
            }
            let rounds = begin..begin + before.len();
            begin = rounds.end;
            match &mut comparison {
                Some(comparison) => comparison.look_again((&new, &old), rounds),
                None => {
                    let figure = figures::named("cost").unwrap();
                    comparison = Some(Comparison::new(figure, &FULL, BOUND, (&new, &old), rounds));
                }
            }
        }
        comparison.unwrap()
    }

    const OLD: &[f64] = &[5.0, 5.2, 5.1, 4.9, 5.0, 5.3, 5.0, 5.1, 5.2];

    fn times(factor: f64) -> Vec<f64> {
        OLD.iter().map(|value| value * factor).collect()
    }

    #[test]
    fn a_slower_build_is_found_and_named() {
        let slower = times(1.05);
        let comparison = compared("cpu", &[(OLD, &slower), (OLD, &slower), (OLD, &slower)]);
        let (text, fine) = summary(&[comparison]);
        assert!(!fine);
        assert!(text.starts_with("1 rows compared, 0 better, 1 WORSE\n"), "{text}");
        assert!(
            text.contains("WORSE: cost, libcluster passed, round-robin, CPU per connection, 64 outstanding: 1.05"),
            "{text}"
        );
        // Where more is better, less is worse.
        let drained =
            compared("drain", &[(&[300e3; 9], &[280e3; 9]), (&[300e3; 9], &[280e3; 9]), (&[300e3; 9], &[280e3; 9])]);
        assert!(!summary(&[drained]).1);
        let drained = compared("drain", &[(&[280e3; 9], &[300e3; 9])]);
        assert_eq!(drained.rows[0].verdict(), Verdict::Better);
    }

    #[test]
    fn what_is_within_the_bound_is_no_worse() {
        for factor in [1.0, 1.029, 0.98] {
            let comparison = compared("cpu", &[(OLD, &times(factor))]);
            assert_eq!(comparison.rows[0].verdict(), Verdict::NoWorse, "{factor}");
            assert!(summary(&[comparison]).1);
        }
    }

    #[test]
    fn noise_is_not_worse() {
        // The median is 1.10, but three rounds say the opposite.
        let noisy = [1.3, 0.8, 1.1, 1.2, 0.7, 1.4, 1.1, 0.9, 1.05];
        let comparison = compared("cpu", &[(&[1.0; 9], &noisy)]);
        assert!(comparison.rows[0].looks[0].0.median > BOUND);
        assert!(!comparison.suspects(contender::named("passed").unwrap()));
        assert!(summary(&[comparison]).1);
    }

    #[test]
    fn only_what_is_worse_in_every_look_is_worse() {
        let passed = contender::named("passed").unwrap();
        let (slower, same) = (times(1.1), times(1.0));
        let mut comparison = compared("cpu", &[(OLD, &slower)]);
        assert!(comparison.suspects(passed) && !comparison.suspects(contender::named("kernel").unwrap()));
        comparison = compared("cpu", &[(OLD, &slower), (OLD, &slower), (OLD, &same)]);
        assert!(!comparison.suspects(passed));
        assert!(summary(&[comparison]).1);
        comparison = compared("cpu", &[(OLD, &slower), (OLD, &same), (OLD, &slower)]);
        assert_eq!(comparison.rows[0].looks.len(), 2, "nobody looks a third time");
        assert!(comparison.table(&Record::default(), &Record::default()).contains(", again 1.00"));
    }

    #[test]
    fn few_rounds_are_told_and_not_judged() {
        let comparison = compared("cpu", &[(&[1.0, 1.0], &[2.0, 2.0])]);
        assert!(!comparison.suspects(contender::named("passed").unwrap()));
        let (text, fine) = summary(&[comparison]);
        assert!(fine && text.contains("1 not judged"), "{text}");
    }

    #[test]
    fn a_comparison_of_nothing_is_no_success() {
        let comparison = compared("nothing that is measured", &[(OLD, OLD)]);
        assert!(!summary(&[comparison]).1);
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
