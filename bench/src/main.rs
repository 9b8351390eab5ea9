//! What libcluster costs beside the alternatives, from one interleaved run: see bench/README.md.

mod against;
mod arrivals;
mod board;
mod charts;
mod contender;
mod crowd;
mod figures;
mod goals;
mod measuring;
mod nginx;
mod options;
mod plan;
mod profile;
mod report;
mod results;
mod run;
mod server;
mod verdict;

use std::process::ExitCode;

use cluster_bench::{chart, client, error, machine, namespace, page, process, workshop};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    let options = match options::Options::parse(&words) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("cluster-bench: {error}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match run::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cluster-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
