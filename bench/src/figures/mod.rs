//! The figures: what is measured of whom, and how it is shown.

mod cost;
mod http;
mod idle;
mod kill;
mod lasting;
mod memory;
mod open;
mod reload;
mod scale;
mod spread;
mod stall;
mod wakes;

use std::collections::BTreeMap;

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

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
}

#[derive(Debug)]
pub struct Measure {
    pub name: String,
    pub title: String,
    pub unit: &'static str,
    pub digits: usize,
    pub how: How,
    pub better: Better,
    /// Two builds that differ by no more than this do not differ.
    pub grain: f64,
}

/// Less of it is better, and its grain is the last digit shown.
pub fn measure(
    name: impl Into<String>,
    title: impl Into<String>,
    unit: &'static str,
    digits: usize,
    how: How,
) -> Measure {
    let grain = 10f64.powi(-(digits as i32));
    Measure { name: name.into(), title: title.into(), unit, digits, how, better: Better::Less, grain }
}

/// The longest of thousands of connections is one that had to wait for a processor, so many milliseconds more or less.
const TICKS_MS: f64 = 10.0;

/// One connection may be in the hand of the worker as it stops; nobody can take it from there.
const ALL_BUT_ONE: &str = "the longest but for one";

fn longest_but_one(latencies: &[f64]) -> f64 {
    let mut sorted = latencies.to_vec();
    sorted.sort_by(|one, other| other.total_cmp(one));
    sorted.get(1).copied().unwrap_or(0.0)
}

impl Measure {
    pub fn more_is_better(self) -> Self {
        Self { better: Better::More, ..self }
    }

    pub fn grain(self, grain: f64) -> Self {
        Self { grain, ..self }
    }
}

/// What one contender gives in one round.
pub struct Round<'a> {
    pub shop: &'a Workshop,
    pub plan: &'a Plan,
    pub contender: &'static Contender,
    pub number: usize,
    pub record: &'a mut Record,
    /// What the first round found out, so that the others do the same.
    pub known: &'a mut BTreeMap<String, f64>,
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

pub static ALL: [&Figure; 14] = [
    &cost::FIGURE,
    &spread::FIGURE,
    &stall::FIGURE,
    &kill::FIGURE,
    &memory::FIGURE,
    &scale::FIGURE,
    &wakes::FIGURE,
    &idle::FIGURE,
    &lasting::FIGURE,
    &reload::FIGURE,
    &http::CLOSE,
    &http::BLOCK,
    &open::IN_C,
    &open::IN_NODE,
];

pub fn named(name: &str) -> Option<&'static Figure> {
    ALL.into_iter().find(|figure| figure.name == name)
}
