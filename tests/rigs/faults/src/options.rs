//! What the command line says.

use std::path::PathBuf;

use cluster_bench::error::{Result, fail, failed};

use crate::contender::{self, Contender};
use crate::result::Row;
use crate::scenarios::{self, SCENARIOS, Scenario};

pub const USAGE: &str = "\
usage: cluster-faults [option ...] [scenario ...]
       cluster-faults [option ...] report [FILE]
       cluster-faults note PART ROW CONTENDER MEASURED GOAL met|missed|-
  scenarios: storm comeback chaos single stuck rolling hand queue resize orphans stops stops-link
             reloads refusals scales recycles slots rest sequences (all of them)
  --quick          little of each; what is promised must hold all the same
  --seed N         this seed alone        --seeds N      the seeds 1 to N (CL_FAULTS_SEEDS, else 10)
  --only A,B       of none, passed, kernel, rotation, passed-least, passed-hash, kernel-hash, cluster-rs-none, cluster-rs-passed,
                   cluster-rs-kernel, cluster-rs-rotation, node-rr, node-none
  report FILE      writes the results of FILE to tests/rigs/faults/results/last.jsonl, docs/reliability-figures.md and docs/charts;
                   without a FILE draws what was written last
  note             appends a result to the file that FAULTS_RESULTS names, for parts that are shell scripts
  --root DIR       the project (.)        --library DIR  where libcluster.so is (target/release)
  --out DIR        for programs and claims (target/faults)
  --help           prints this
It ends with another status than 0 when something promised was not kept, and says what, with the seed.";

pub enum Task {
    Perform(Vec<&'static Scenario>),
    Report(Option<PathBuf>),
    Note(Row),
}

pub struct Options {
    pub task: Task,
    pub quick: bool,
    pub seeds: Vec<u64>,
    /// Empty: those that scenarios name.
    pub only: Vec<Contender>,
    pub root: PathBuf,
    pub library: PathBuf,
    pub out: PathBuf,
}

impl Options {
    pub fn parse(words: &[String]) -> Result<Self> {
        let most = std::env::var("CL_FAULTS_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
        let mut options = Self {
            task: Task::Perform(SCENARIOS.iter().collect()),
            quick: false,
            seeds: (1..=most).collect(),
            only: Vec::new(),
            root: ".".into(),
            library: "target/release".into(),
            out: "target/faults".into(),
        };
        let mut rest: Vec<&str> = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().ok_or_else(|| failed(word)("a value is missing"));
            match word.as_str() {
                "--quick" => options.quick = true,
                "--seed" => options.seeds = vec![value()?.parse().map_err(failed("--seed"))?],
                "--seeds" => options.seeds = (1..=value()?.parse().map_err(failed("--seeds"))?).collect(),
                "--root" => options.root = value()?.into(),
                "--library" => options.library = value()?.into(),
                "--out" => options.out = value()?.into(),
                "--only" => {
                    for name in value()?.split(',') {
                        let known = contender::named(name);
                        options.only.push(known.ok_or_else(|| failed("no such contender")(name))?);
                    }
                }
                word if word.starts_with("--") => return fail(format!("no such option: {word}")),
                word => rest.push(word),
            }
        }
        if options.seeds.is_empty() {
            return fail("there is no seed");
        }
        match rest[..] {
            [] => {}
            ["report"] => options.task = Task::Report(None),
            ["report", file] => options.task = Task::Report(Some(file.into())),
            ["note", part, row, contender, measured, goal, met] => {
                let [part, row, contender, measured, goal] = [part, row, contender, measured, goal].map(str::to_owned);
                let met = match met {
                    "met" => Some(true),
                    "missed" => Some(false),
                    "-" => None,
                    other => return fail(format!("neither met nor missed: {other}")),
                };
                options.task = Task::Note(Row { part, row, contender, measured, goal, met });
            }
            _ => {
                let named: Option<Vec<_>> = rest.iter().map(|name| scenarios::named(name)).collect();
                let Some(named) = named else { return fail(format!("no such scenario in: {}", rest.join(" "))) };
                options.task = Task::Perform(named);
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn seeds_and_scenarios_are_read() {
        let options = parse("--quick --seed 7 --only passed,node-rr storm orphans").unwrap();
        assert_eq!((options.seeds, options.only.len(), options.quick), (vec![7], 2, true));
        assert!(matches!(options.task, Task::Perform(scenarios) if scenarios.len() == 2));
        assert_eq!(parse("--seeds 3").unwrap().seeds, [1, 2, 3]);
    }

    #[test]
    fn wrong_words_are_refused() {
        for words in ["--nothing", "nothing", "--seed", "--only nobody", "--seeds 0", "note a b", "note a b c d e f"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
