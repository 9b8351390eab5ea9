//! Does harm to a cluster under load, and holds what clients saw against what workers took: see tests/rigs/faults/README.md.

mod chaos;
mod claims;
mod client;
mod clock;
mod contender;
mod harm;
mod invariants;
mod link;
mod options;
mod oracle;
mod random;
mod report;
mod result;
mod scenarios;
mod server;

use std::process::ExitCode;

use cluster_bench::error::Result;
use cluster_bench::namespace::Namespace;
use cluster_bench::workshop::Workshop;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::options::{Options, Task};
use crate::scenarios::Rig;

fn main() -> ExitCode {
    invariants::note_inherited();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(&words) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("cluster-faults: {error}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cluster-faults: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether everything that was promised was kept.
fn run(options: &Options) -> Result<bool> {
    let shop = || {
        let Options { root, library, out, .. } = options;
        Workshop::new(root.clone(), library.clone(), out.clone(), "tests/rigs/faults/workers")
    };
    match &options.task {
        Task::Note(row) => result::append(std::slice::from_ref(row)).map(|()| true),
        Task::Report(file) => report::report(&shop()?, file.as_deref(), "make faults").map(|()| true),
        Task::Perform(scenarios) => {
            let shop = shop()?;
            // Thousands of connections wait in some scenarios.
            if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
                let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
            }
            // Orphans of a primary that was killed become ours, so that none can get away.
            let _ = set_child_subreaper(true);
            let inside = Namespace::enter();
            match &inside {
                // More may wait there than the machine allows elsewhere.
                Ok(_) => drop(std::fs::write("/proc/sys/net/core/somaxconn", "16384")),
                Err(error) => println!("in the machine's own network: {error}"),
            }
            let mut rig = Rig::new(&shop, options.quick, options.seeds.clone(), options.only.clone());
            println!("seeds: {:?}", rig.seeds);
            for scenario in scenarios {
                rig.perform(scenario);
            }
            result::append(&rig.rows)?;
            println!("\n{} broken", rig.broken.len());
            rig.broken.iter().for_each(|what| println!("  {what}"));
            Ok(rig.broken.is_empty())
        }
    }
}
