//! The rounds of one figure: every contender once in each, in an order that is reversed every other round.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::Range;
use std::time::Instant;

use crate::contender::{self, Contender};
use crate::error::{Error, failed};
use crate::figures::{Figure, Round};
use crate::options::Options;
use crate::results::Record;
use crate::workshop::Workshop;

/// A build, and what was measured of it.
pub struct Side<'a> {
    /// What stands before the names of its contenders.
    pub prefix: &'static str,
    pub shop: &'a Workshop,
    pub record: Record,
}

pub struct Measuring<'a> {
    options: &'a Options,
    figure: &'static Figure,
    /// This build, and behind it the one that it is compared with.
    sides: Vec<Side<'a>>,
    /// Places in `sides`. The two builds of a contender stand next to each other.
    taking_part: Vec<(usize, &'static Contender)>,
    remarks: Vec<String>,
    known: BTreeMap<String, f64>,
    done: usize,
    sound: bool,
}

impl<'a> Measuring<'a> {
    pub fn new(options: &'a Options, figure: &'static Figure, sides: Vec<Side<'a>>) -> Self {
        let mut taking_part = Vec::new();
        for contender in contenders_of(options, figure) {
            // The others are the same program on both sides.
            let builds = if contender.is_ours() { sides.len() } else { 1 };
            taking_part.extend((0..builds).map(|side| (side, contender)));
        }
        Self { options, figure, sides, taking_part, remarks: Vec::new(), known: BTreeMap::new(), done: 0, sound: true }
    }

    pub fn record(&self) -> &Record {
        &self.sides[0].record
    }

    /// What was measured of the build that it is compared with.
    pub fn old(&self) -> Option<&Record> {
        self.sides.get(1).map(|side| &side.record)
    }

    /// Whether everything that was measured can be believed.
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// Goes on with these only, of which there are two builds; gives their names.
    pub fn keep(&mut self, whom: impl Fn(&Contender) -> bool) -> Vec<&'static str> {
        let kept: Vec<&Contender> = self
            .taking_part
            .iter()
            .filter(|(side, whose)| *side == 1 && whom(whose))
            .map(|(_, whose)| *whose)
            .collect();
        self.taking_part.retain(|(_, contender)| kept.contains(contender));
        kept.iter().map(|contender| contender.name).collect()
    }

    /// How many rounds there were.
    pub fn done(&self) -> usize {
        self.done
    }

    /// As many rounds as the figure wants; gives their numbers.
    pub fn rounds(&mut self) -> Range<usize> {
        let numbers = self.done..self.done + (self.figure.rounds)(&self.options.plan);
        self.done = numbers.end;
        let begin = Instant::now();
        for number in numbers.clone() {
            let mut order = self.taking_part.clone();
            if number % 2 == 1 {
                order.reverse();
            }
            for (side, contender) in order {
                // Its other build may have failed a moment ago.
                if self.taking_part.contains(&(side, contender)) {
                    self.once(side, contender, number);
                }
            }
            if let Err(error) = std::io::stdout().flush().map_err(failed("standard output")) {
                eprintln!("{error}");
            }
        }
        println!("  took {:.0} s", begin.elapsed().as_secs_f64());
        numbers
    }

    fn once(&mut self, place: usize, contender: &'static Contender, number: usize) {
        let Side { prefix, shop, record } = &mut self.sides[place];
        let samples = record.samples.len();
        let plan = &self.options.plan;
        let (remarks, known) = (&mut self.remarks, &mut self.known);
        let mut round = Round { shop, plan, contender, number, record, remarks, known };
        match (self.figure.round)(&mut round) {
            Ok(()) => return,
            Err(Error::Unavailable(why)) => println!("  without {prefix}{}: {why}", contender.name),
            Err(Error::Failed(why)) => {
                println!("  FAILED {prefix}{}: {why}", contender.name);
                self.sound = false;
            }
        }
        // Whoever cannot finish a round is not measured any further; half a round would be compared with nothing. Nor would
        // its other build be, but for the record.
        record.samples.truncate(samples);
        let recorded = self.options.record;
        self.taking_part.retain(|(side, other)| *other != contender || (recorded && *side != place));
    }
}

/// A comparison of builds leaves those out that are of neither, unless they are named or everything is recorded.
fn contenders_of(options: &Options, figure: &Figure) -> Vec<&'static Contender> {
    let Options { plan, only, .. } = options;
    let more = if plan.everybody || !only.is_empty() { figure.more } else { &[] };
    let wanted: Vec<&str> = figure.contenders.iter().chain(more).copied().collect();
    let between_builds = options.against.is_some() && !options.record;
    let chosen = |contender: &Contender| {
        let named = only.contains(&contender.name);
        let asked_for = if between_builds {
            named || (only.is_empty() && contender.is_ours())
        } else {
            named || only.is_empty() || contender.name == figure.baseline
        };
        asked_for && wanted.contains(&contender.name)
    };
    contender::ALL.iter().filter(|contender| chosen(contender)).collect()
}
