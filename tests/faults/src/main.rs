//! Does harm to a cluster under load, and holds what clients saw against what workers took: see tests/faults/README.md.

mod report;
mod result;

use std::path::PathBuf;
use std::process::ExitCode;

use cluster_bench::error::Result;
use cluster_bench::workshop::Workshop;

const USAGE: &str = "\
usage: cluster-faults [option ...] report [FILE] | note PART ROW CONTENDER MEASURED GOAL met|missed|-
  note             appends a result to the file that FAULTS_RESULTS names, for parts that are shell scripts
  report FILE      writes the results of FILE to tests/faults/results/last.jsonl, docs/reliability.md and docs/charts;
                   without a FILE draws what was written last
  --root DIR       the project (.)        --library DIR  where libcluster.so is (target/release)
  --out DIR        for programs (target/faults)";

fn run(words: &[String]) -> Result<()> {
    let (mut root, mut library, mut out) =
        (PathBuf::from("."), PathBuf::from("target/release"), PathBuf::from("target/faults"));
    let mut rest = Vec::new();
    let mut given = words.iter();
    while let Some(word) = given.next() {
        let place = match word.as_str() {
            "--root" => &mut root,
            "--library" => &mut library,
            "--out" => &mut out,
            _ => {
                rest.push(word.as_str());
                continue;
            }
        };
        *place = given.next().map(PathBuf::from).unwrap_or_default();
    }
    if let ["note", part, row, contender, measured, goal, met] = rest[..] {
        let [part, row, contender, measured, goal] = [part, row, contender, measured, goal].map(str::to_owned);
        let met = match met {
            "met" => Some(true),
            "missed" => Some(false),
            _ => None,
        };
        return result::append(&[result::Row { part, row, contender, measured, goal, met }]);
    }
    let shop = Workshop::new(root, library, out, "tests/faults/workers")?;
    match rest[..] {
        ["report"] => report::report(&shop, None, "make faults"),
        ["report", file] => report::report(&shop, Some(file.as_ref()), "make faults"),
        _ => cluster_bench::error::fail(USAGE),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster-faults: {error}");
            ExitCode::FAILURE
        }
    }
}
