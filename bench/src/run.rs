//! The run itself: figure by figure measured, told, recorded and judged.

use std::fmt::Write as _;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::{Result, failed};
use crate::figures::{self, Figure};
use crate::measuring::{Measuring, Side};
use crate::options::Options;
use crate::results::Record;
use crate::verdict::Comparison;
use crate::workshop::Workshop;
use crate::{against, charts, contender, goals, machine, profile, report, verdict};

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
    let sound = options.draw || measure(options, &results)?;
    if options.against.is_none() || options.record {
        show(options, &results)?;
    }
    Ok(sound)
}

fn measure(options: &Options, results: &Path) -> Result<bool> {
    // Ten thousand connections wait in one of the figures.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    let shop = Workshop::new(options.root.clone(), options.library.clone(), options.out.clone(), SOURCES)?;
    let mut circumstances = machine::circumstances(&shop, &options.command);
    let old = options.against.as_ref().map(|given| against::prepare(given, &shop)).transpose()?;
    circumstances.extend(old.iter().map(|(_, line)| line.clone()));
    circumstances.iter().for_each(|line| println!("{line}"));
    let side = |prefix, shop| Side {
        prefix,
        shop,
        record: Record { circumstances: circumstances.clone(), samples: Vec::new() },
    };
    let mut sound = true;
    let mut comparisons = Vec::new();
    let mut tables = circumstances.join("\n");
    for figure in &options.figures {
        let sides = [side("", &shop)].into_iter().chain(old.iter().map(|(shop, _)| side("old ", shop))).collect();
        let mut measuring = Measuring::new(options, figure, sides);
        println!("\n{}: {}; {} rounds", figure.name, figure.title, (figure.rounds)(&options.plan));
        let rounds = measuring.rounds();
        if let Some(comparison) = compare(options, figure, &mut measuring)? {
            let table = comparison.table(measuring.record(), measuring.old().unwrap_or(&Record::default()));
            print!("{table}");
            let _ = write!(tables, "\n\n{}: {}\n{table}", figure.name, figure.title);
            comparisons.push(comparison);
        } else {
            report::print(figure, &options.plan, measuring.record());
        }
        sound &= measuring.is_sound();
        if options.record && !measuring.is_sound() {
            println!("  not recorded");
        } else if options.record || old.is_none() {
            measuring.record().of_rounds(rounds).write(results, figure.name)?;
        }
    }
    if old.is_some() {
        let (text, no_worse) = verdict::summary(&comparisons);
        sound &= no_worse;
        let file = options.out.join("against/verdict.txt");
        std::fs::write(&file, format!("{tables}\n{text}")).map_err(failed("verdict.txt"))?;
        println!("\n{text}written to {}", shorten(&file, &options.root));
    }
    Ok(sound)
}

/// Goals, charts and pages, of what is recorded or was measured.
fn show(options: &Options, results: &Path) -> Result<()> {
    let records = read_all(results)?;
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
    println!("results: {}; charts: {}", shorten(results, &options.root), shorten(&drawn, &options.root));
    Ok(())
}

/// With a build to compare with: what the rounds say, once what seemed to be worse has been measured again.
fn compare(options: &Options, figure: &'static Figure, measuring: &mut Measuring) -> Result<Option<Comparison>> {
    loop {
        let Some(old) = measuring.old() else { return Ok(None) };
        let new = measuring.record();
        let comparison = Comparison::new(figure, &options.plan, options.bound, (new, old));
        let suspects = measuring.keep(|contender| comparison.suspects(contender));
        let folder = options.out.join("against");
        measuring.record().write(&folder.join("new"), figure.name)?;
        measuring.old().map_or(Ok(()), |old| old.write(&folder.join("old"), figure.name))?;
        if suspects.is_empty() || measuring.done() >= verdict::SURE_ROUNDS {
            return Ok(Some(comparison));
        }
        println!("  again, for what seems to be worse: {}", suspects.join(", "));
        measuring.rounds();
    }
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
