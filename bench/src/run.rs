//! The run itself: every contender once in each round, in an order that is reversed every other round.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::contender::{self, Contender};
use crate::error::{Error, Result, failed};
use crate::figures::{self, Figure, Round};
use crate::options::Options;
use crate::plan::Plan;
use crate::results::Record;
use crate::workshop::Workshop;
use crate::{charts, goals, machine, profile, report};

const SOURCES: &str = "bench/contenders";

/// Says whether everything that was measured can be believed.
pub fn run(options: &Options) -> Result<bool> {
    if options.profile {
        let shop = Workshop::new(options.root.clone(), options.library.clone(), options.out.clone(), SOURCES)?;
        let names = if options.only.is_empty() { &["passed", "kernel"][..] } else { &options.only };
        let contenders: Vec<_> = names.iter().filter_map(|name| contender::named(name)).collect();
        let text = profile::all(&shop, &contenders)?;
        let file = options.out.join("profile.txt");
        std::fs::write(&file, text).map_err(failed("profile.txt"))?;
        println!("written to {}", shorten(&file, &options.root));
        return Ok(true);
    }
    let recorded = options.root.join("bench/results");
    let results = if options.record || options.draw { recorded } else { options.out.join("results") };
    let mut sound = true;
    if !options.draw {
        // Ten thousand connections wait in one of the figures.
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        let shop = Workshop::new(options.root.clone(), options.library.clone(), options.out.clone(), SOURCES)?;
        let circumstances = machine::circumstances(&shop, &options.command);
        circumstances.iter().for_each(|line| println!("{line}"));
        for figure in &options.figures {
            let mut record = Record { circumstances: circumstances.clone(), samples: Vec::new() };
            let whole = measure(&shop, &options.plan, figure, &options.only, &mut record);
            sound &= whole;
            report::print(figure, &options.plan, &record);
            if whole || !options.record {
                record.write(&results, figure.name)?;
            } else {
                println!("  not recorded");
            }
        }
    }
    let records = read_all(&results)?;
    // Without a record of it a run speaks of what it has measured itself.
    let shown: Vec<_> = records
        .into_iter()
        .filter(|(figure, _)| {
            options.record || options.draw || options.figures.iter().any(|own| own.name == figure.name)
        })
        .collect();
    println!("\n{}", goals::table(&shown));
    let drawn =
        if options.record || options.draw { options.root.join("docs/charts") } else { options.out.join("charts") };
    charts::draw(&shown, &drawn)?;
    if options.record || options.draw {
        report::write_page(&options.root.join("docs/performance-figures.md"), &shown)?;
    }
    println!("results: {}; charts: {}", shorten(&results, &options.root), shorten(&drawn, &options.root));
    Ok(sound)
}

fn shorten(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn read_all(folder: &Path) -> Result<Vec<(&'static Figure, Record)>> {
    let mut records = Vec::new();
    for figure in figures::ALL {
        if let Some(record) = Record::read(folder, figure.name)? {
            records.push((figure, record));
        }
    }
    Ok(records)
}

fn contenders_of(plan: &Plan, figure: &Figure, only: &[&str]) -> Vec<&'static Contender> {
    let more = if plan.everybody || !only.is_empty() { figure.more } else { &[] };
    let wanted: Vec<&str> = figure.contenders.iter().chain(more).copied().collect();
    let chosen =
        |name: &str| wanted.contains(&name) && (only.is_empty() || only.contains(&name) || name == figure.baseline);
    contender::ALL.iter().filter(|contender| chosen(contender.name)).collect()
}

fn measure(shop: &Workshop, plan: &Plan, figure: &'static Figure, only: &[&str], record: &mut Record) -> bool {
    let mut taking_part = contenders_of(plan, figure, only);
    let mut remarks = Vec::new();
    let mut sound = true;
    let rounds = (figure.rounds)(plan);
    println!("\n{}: {}; {rounds} rounds", figure.name, figure.title);
    let begin = Instant::now();
    for number in 0..rounds {
        let mut order = taking_part.clone();
        if number % 2 == 1 {
            order.reverse();
        }
        for contender in order {
            let samples = record.samples.len();
            let mut round = Round { shop, plan, contender, number, record, remarks: &mut remarks };
            match (figure.round)(&mut round) {
                Ok(()) => continue,
                Err(Error::Unavailable(why)) => println!("  without {}: {why}", contender.name),
                Err(Error::Failed(why)) => {
                    println!("  FAILED {}: {why}", contender.name);
                    sound = false;
                }
            }
            // Whoever cannot finish a round is not measured any further; half a round would be compared with nothing.
            record.samples.truncate(samples);
            taking_part.retain(|other| other.name != contender.name);
        }
        if let Err(error) = std::io::stdout().flush().map_err(failed("standard output")) {
            eprintln!("{error}");
        }
    }
    println!("  took {:.0} s", begin.elapsed().as_secs_f64());
    sound
}
