//! What the command line says.

use std::path::PathBuf;

use crate::contender;
use crate::error::{Result, fail, failed};
use crate::figures::{self, Figure};
use crate::plan::{FULL, Plan, QUICK, TINY};
use crate::verdict::BOUND;

pub const USAGE: &str = "\
usage: cluster-bench [option ...] [figure ...]
  figures: cost spread stall kill memory scale wakes idle lasting reload http block open open-node (all of them)
  --quick          the main contenders, few rounds; some 5 minutes
  --tiny           next to nothing: shows that the benchmark works
  --rounds N       instead of 9 (figures that give ratios) and 5 (those that count)
  --only A,B       these contenders, and the baselines of the ratios
  --against OLD    compares with another build of this project: OLD is the root of its checkout or its target/release.
                   Only libcluster and cluster-rs take part, each with both builds in every round. Ends with 1 if a row
                   is worse: bench/README.md says when. Nothing is recorded, unless --record is given too
  --bound N        how many times worse a row may be (1.03)
  --record         keeps results in bench/results, draws docs/charts and the results of docs/performance-figures.md anew;
                   for whole figures of the full plan only
  --draw           measures nothing; draws what was recorded
  --profile        measures nothing else; shows with perf(1) where the time of --only (passed,kernel) goes
  --help           prints this
  --root DIR       the project (.)        --library DIR  where libcluster.so is (target/release)
  --out DIR        for programs, and for results that are not recorded (target/bench)";

pub struct Options {
    pub plan: Plan,
    pub figures: Vec<&'static Figure>,
    /// Empty: all.
    pub only: Vec<&'static str>,
    /// The build to compare with.
    pub against: Option<PathBuf>,
    pub bound: f64,
    pub record: bool,
    pub draw: bool,
    pub profile: bool,
    pub root: PathBuf,
    pub library: PathBuf,
    pub out: PathBuf,
    /// As it was typed, for the record.
    pub command: String,
}

impl Options {
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self {
            plan: FULL,
            figures: Vec::new(),
            only: Vec::new(),
            against: None,
            bound: BOUND,
            record: false,
            draw: false,
            profile: false,
            root: ".".into(),
            library: "target/release".into(),
            out: "target/bench".into(),
            command: "cluster-bench".into(),
        };
        let mut rounds: Option<usize> = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().ok_or_else(|| failed(word)("a value is missing"));
            match word.as_str() {
                "--quick" => options.plan = QUICK,
                "--tiny" => options.plan = TINY,
                "--record" => options.record = true,
                "--draw" => options.draw = true,
                "--profile" => options.profile = true,
                "--against" => options.against = Some(value()?.into()),
                "--bound" => options.bound = value()?.parse().map_err(failed("--bound"))?,
                "--root" => options.root = value()?.into(),
                "--library" => options.library = value()?.into(),
                "--out" => options.out = value()?.into(),
                "--rounds" => rounds = Some(value()?.parse().map_err(failed("--rounds"))?),
                "--only" => {
                    for name in value()?.split(',') {
                        match contender::named(name) {
                            Some(contender) => options.only.push(contender.name),
                            None => return fail(format!("no contender '{name}'")),
                        }
                    }
                }
                name => match figures::named(name) {
                    Some(figure) => options.figures.push(figure),
                    None => return fail(format!("no figure and no option '{name}'")),
                },
            }
            // Where things are is not what was measured.
            if !matches!(word.as_str(), "--root" | "--library" | "--out" | "--record" | "--draw") {
                options.command.push_str(&format!(" {word}"));
                match word.as_str() {
                    "--rounds" => options.command.push_str(&format!(" {}", rounds.unwrap_or_default())),
                    "--only" => options.command.push_str(&format!(" {}", options.only.join(","))),
                    "--against" => options.command.push_str(" OLD"),
                    "--bound" => options.command.push_str(&format!(" {}", options.bound)),
                    _ => {}
                }
            }
        }
        if let Some(rounds) = rounds {
            if rounds == 0 {
                return fail("--rounds: at least one");
            }
            if options.record && rounds < options.plan.rounds {
                return fail("--record: not with fewer rounds than 9");
            }
            (options.plan.rounds, options.plan.trials) = (rounds, rounds);
        }
        if options.record && (options.plan.name != FULL.name || !options.only.is_empty()) {
            return fail("--record: only with the full plan and all contenders");
        }
        if options.against.is_some() && (options.draw || options.profile) {
            return fail("--against: not with --draw or --profile, which compare nothing");
        }
        if !(options.bound.is_finite() && options.bound >= 1.0) {
            return fail("--bound: a number from 1 on, such as 1.03");
        }
        if options.figures.is_empty() {
            options.figures = figures::ALL.to_vec();
        }
        for folder in [&mut options.root, &mut options.library, &mut options.out] {
            *folder = std::path::absolute(&*folder).map_err(failed("a folder"))?;
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
    fn nothing_means_everything() {
        let options = parse("").unwrap();
        assert_eq!(options.figures.len(), figures::ALL.len());
        assert_eq!(options.plan.rounds, 9);
    }

    #[test]
    fn what_was_asked_for_is_recorded_without_the_places() {
        let options = parse("--root /somewhere --quick --rounds 2 --only passed,single cost").unwrap();
        assert_eq!(options.command, "cluster-bench --quick --rounds 2 --only passed,single cost");
        assert_eq!((options.plan.rounds, options.plan.trials), (2, 2));
        assert_eq!(options.only, ["passed", "single"]);
        assert_eq!(
            parse("--against /somewhere --bound 1.1 cost").unwrap().command,
            "cluster-bench --against OLD --bound 1.1 cost"
        );
    }

    #[test]
    fn less_than_the_whole_is_not_recorded() {
        for text in
            ["--record --quick", "--record --rounds 3", "--record --only passed", "--rounds 0", "costs", "--only x"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_compares_nothing_is_not_taken() {
        for text in ["--against", "--against /x --draw", "--against /x --profile", "--bound 0.9", "--bound NaN"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
