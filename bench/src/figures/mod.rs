//! The figures: what is measured of whom, and how it is shown.

mod cost;
mod http;
mod kill;
mod memory;
mod scale;
mod spread;
mod stall;

use crate::contender::Contender;
use crate::error::Result;
use crate::plan::Plan;
use crate::results::Record;
use crate::workshop::Workshop;

/// How a measure is told: its sums over rounds mean something else than its medians.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Median and quartiles, and the ratio to the baseline in each round.
    Ratio,
    /// Median and quartiles.
    Median,
    /// The worst round.
    Largest,
}

#[derive(Debug)]
pub struct Measure {
    pub name: String,
    pub title: String,
    pub unit: &'static str,
    pub digits: usize,
    pub how: How,
}

pub fn measure(
    name: impl Into<String>,
    title: impl Into<String>,
    unit: &'static str,
    digits: usize,
    how: How,
) -> Measure {
    Measure { name: name.into(), title: title.into(), unit, digits, how }
}

/// What one contender gives in one round.
pub struct Round<'a> {
    pub shop: &'a Workshop,
    pub plan: &'a Plan,
    pub contender: &'static Contender,
    pub number: usize,
    pub record: &'a mut Record,
    /// Things that could not be measured here, said once each.
    pub remarks: &'a mut Vec<String>,
}

impl Round<'_> {
    pub fn note(&mut self, measure: &str, value: f64) {
        self.record.add(measure, self.contender.name, self.number, value);
    }

    pub fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.remarks.contains(&text) {
            println!("  {text}");
            self.remarks.push(text);
        }
    }
}

pub struct Figure {
    pub name: &'static str,
    pub title: &'static str,
    /// Whom the others are compared with.
    pub baseline: &'static str,
    /// Those that the goals need, and those that are good to know.
    pub contenders: &'static [&'static str],
    pub more: &'static [&'static str],
    pub rounds: fn(&Plan) -> usize,
    pub measures: fn(&Plan) -> Vec<Measure>,
    pub round: fn(&mut Round) -> Result<()>,
}

pub static ALL: [&Figure; 8] = [
    &cost::FIGURE,
    &spread::FIGURE,
    &stall::FIGURE,
    &kill::FIGURE,
    &memory::FIGURE,
    &scale::FIGURE,
    &http::CLOSE,
    &http::BLOCK,
];

pub fn named(name: &str) -> Option<&'static Figure> {
    ALL.into_iter().find(|figure| figure.name == name)
}
