//! What was measured: samples, what they say, and the files they are kept in.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use crate::error::{Result, fail, failed};

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub measure: String,
    pub contender: String,
    pub round: usize,
    pub value: f64,
}

/// All samples of one figure, and under which circumstances they were taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    pub circumstances: Vec<String>,
    pub samples: Vec<Sample>,
}

/// The median of some values, and the quartiles around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        // Between two values as far as the fraction says, so that the median of two is their mean.
        let at = |part: f64| {
            let place = part * (sorted.len() - 1) as f64;
            let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            low + (high - low) * place.fract()
        };
        Some(Self { low: at(0.25), median: at(0.5), high: at(0.75) })
    }
}

impl Record {
    pub fn add(&mut self, measure: &str, contender: &str, round: usize, value: f64) {
        self.samples.push(Sample { measure: measure.into(), contender: contender.into(), round, value });
    }

    fn of<'a>(&'a self, measure: &'a str, contender: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.measure == measure && sample.contender == contender)
    }

    pub fn values(&self, measure: &str, contender: &str) -> Vec<f64> {
        self.of(measure, contender).map(|sample| sample.value).collect()
    }

    pub fn spread(&self, measure: &str, contender: &str) -> Option<Spread> {
        Spread::of(&self.values(measure, contender))
    }

    /// One over the other, each pair of the same round.
    pub fn ratios(&self, (measure, contender): (&str, &str), (other_measure, other): (&str, &str)) -> Vec<f64> {
        let pairs = self.of(measure, contender).filter_map(|sample| {
            let base = self.of(other_measure, other).find(|base| base.round == sample.round)?;
            Some(sample.value / base.value)
        });
        pairs.collect()
    }

    /// A part of it: these rounds.
    pub fn of_rounds(&self, rounds: Range<usize>) -> Self {
        let samples = self.samples.iter().filter(|sample| rounds.contains(&sample.round)).cloned().collect();
        Self { circumstances: self.circumstances.clone(), samples }
    }

    /// What two records have of the same rounds.
    pub fn pairs<'a>(
        &'a self,
        other: &'a Self,
        measure: &'a str,
        contender: &'a str,
    ) -> impl Iterator<Item = (f64, f64)> + 'a {
        self.of(measure, contender).filter_map(move |sample| {
            let pair = other.of(measure, contender).find(|pair| pair.round == sample.round)?;
            Some((sample.value, pair.value))
        })
    }

    /// What was measured at all, in the order of the first samples.
    pub fn measures(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for sample in &self.samples {
            if !names.contains(&sample.measure.as_str()) {
                names.push(&sample.measure);
            }
        }
        names
    }

    /// Of whom there are samples of a measure.
    pub fn contenders(&self, measure: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.measure == measure) {
            if !names.contains(&sample.contender.as_str()) {
                names.push(&sample.contender);
            }
        }
        names
    }

    /// A line for the circumstances each, then one for each sample: measure, contender, round, value, with tabs between.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.circumstances {
            let _ = writeln!(text, "# {line}");
        }
        for Sample { measure, contender, round, value } in &self.samples {
            let _ = writeln!(text, "{measure}\t{contender}\t{round}\t{value:.4}");
        }
        text
    }

    pub fn from_text(text: &str) -> Result<Self> {
        let mut record = Self::default();
        for line in text.lines() {
            if let Some(circumstance) = line.strip_prefix("# ") {
                record.circumstances.push(circumstance.into());
                continue;
            }
            let fields: Vec<&str> = line.split('\t').collect();
            let [measure, contender, round, value] = fields[..] else {
                return fail(format!("no result: '{line}'"));
            };
            let round = round.parse().map_err(failed("a round"))?;
            record.add(measure, contender, round, value.parse().map_err(failed("a value"))?);
        }
        Ok(record)
    }

    pub fn read(folder: &Path, figure: &str) -> Result<Option<Self>> {
        match std::fs::read_to_string(folder.join(figure).with_extension("tsv")) {
            Ok(text) => Self::from_text(&text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(figure)(error)),
        }
    }

    pub fn write(&self, folder: &Path, figure: &str) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(failed("the folder for results"))?;
        std::fs::write(folder.join(figure).with_extension("tsv"), self.to_text()).map_err(failed(figure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quartiles() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!(spread, Some(Spread { low: 2.0, median: 3.0, high: 4.0 }));
        assert_eq!(Spread::of(&[1.0, 2.0]).map(|spread| spread.median), Some(1.5));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_pair_the_rounds() {
        let mut record = Record::default();
        for (round, ours, base) in [(0, 2.0, 1.0), (1, 9.0, 3.0)] {
            record.add("cpu", "ours", round, ours);
            record.add("cpu", "base", round, base);
        }
        record.add("cpu", "ours", 2, 7.0);
        assert_eq!(record.ratios(("cpu", "ours"), ("cpu", "base")), [2.0, 3.0]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut record = Record { circumstances: vec!["on a machine".into()], samples: Vec::new() };
        record.add("cpu", "kernel", 3, 4.25);
        record.add("drain", "kernel", 3, 123456.0);
        assert_eq!(Record::from_text(&record.to_text()).unwrap(), record);
        assert!(Record::from_text("cpu kernel 3").is_err());
    }
}
