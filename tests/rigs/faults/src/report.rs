//! `cluster-faults report`: results as the file that is kept, as tables of docs/reliability-figures.md, and as charts.

use std::fmt::Write as _;
use std::path::Path;

use cluster_bench::chart::{Bar, bars};
use cluster_bench::error::{Result, fail, failed};
use cluster_bench::machine;
use cluster_bench::page::write_between;
use cluster_bench::workshop::Workshop;

use crate::result::{self, Row};

const KEPT: &str = "tests/rigs/faults/results/last.jsonl";
const PAGE: &str = "docs/reliability-figures.md";
const BEGIN: &str = "<!-- results: written by make faults -->";
const END: &str = "<!-- end of results -->";

struct Chart {
    file: &'static str,
    title: &'static str,
    note: &'static str,
    /// The rows that it shows, of whatever part.
    row: &'static str,
}

/// The rows that charts are drawn of.
pub const HUNG: &str = "hung for over 2 s, of 10,000 connections";
pub const RECOVERY: &str = "the longest way back to the full rotation, ms";
pub const STUCK: &str = "the longest that a client waited for a stuck worker, ms";

static CHARTS: &[Chart] = &[
    Chart {
        file: "faults-storm",
        title: "Clients left hanging, of 10,000 connections",
        note: "a worker of four is killed every 150 ms (Node: 250); no answer, no reset and no end within 2 s",
        row: HUNG,
    },
    Chart {
        file: "faults-recovery",
        title: "From the end of a fault to the full rotation, ms",
        note: "the longest over all single faults; 5,000 stands for never",
        row: RECOVERY,
    },
    Chart {
        file: "faults-stuck",
        title: "The longest wait while one worker of four is stuck, ms",
        note: "stopped or computing for 10 s; connections that nobody had taken",
        row: STUCK,
    },
];

fn is_ours(contender: &str) -> bool {
    contender.starts_with("libcluster") || contender.starts_with("cluster-rs")
}

/// The first number of what was measured; "never" is as long as was waited.
fn value_of(measured: &str) -> Option<f64> {
    if measured.starts_with("never") {
        return Some(5000.0);
    }
    let digits: String =
        measured.chars().take_while(|c| c.is_ascii_digit() || ".,".contains(*c)).filter(|c| *c != ',').collect();
    digits.parse().ok()
}

fn chart(chart: &Chart, rows: &[Row]) -> Option<String> {
    let shown: Vec<Bar> = rows
        .iter()
        .filter(|row| row.row == chart.row)
        .filter_map(|row| {
            Some(Bar {
                label: row.contender.clone(),
                value: value_of(&row.measured)?,
                part: 0.0,
                range: None,
                shown: row.measured.clone(),
                ours: is_ours(&row.contender),
            })
        })
        .collect();
    (!shown.is_empty()).then(|| bars(chart.title, chart.note, &shown))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn table(rows: &[&Row]) -> String {
    let mut text = String::from("| | | measured | goal | |\n| --- | --- | --- | --- | --- |\n");
    for row in rows {
        let met = match row.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        };
        let [what, who, measured, goal] = [&row.row, &row.contender, &row.measured, &row.goal].map(|text| cell(text));
        let _ = writeln!(text, "| {what} | {who} | {measured} | {goal} | {met} |");
    }
    text
}

fn section(circumstances: &[String], rows: &[Row], charts: &[&Chart]) -> String {
    let mut text = String::from("\n");
    for chart in charts {
        let _ = writeln!(text, "![{}](charts/{}.svg)\n", chart.title, chart.file);
    }
    let mut parts: Vec<&str> = Vec::new();
    for row in rows {
        if !parts.contains(&row.part.as_str()) {
            parts.push(&row.part);
        }
    }
    for part in parts {
        let of_part: Vec<&Row> = rows.iter().filter(|row| row.part == part).collect();
        let title = part.chars().take(1).flat_map(char::to_uppercase).chain(part.chars().skip(1)).collect::<String>();
        let _ = writeln!(text, "### {title}\n\n{}", table(&of_part));
    }
    let _ = writeln!(text, "```\n{}\n```\n\n[The same as a file](../{KEPT}).", circumstances.join("\n"));
    text
}

/// Without new results draws what was kept.
pub fn report(shop: &Workshop, results: Option<&Path>, command: &str) -> Result<()> {
    let kept = shop.root.join(KEPT);
    let (circumstances, rows) = match results {
        Some(path) => (machine::circumstances(shop, command), result::read(path)?.1),
        None => result::read(&kept)?,
    };
    if rows.is_empty() {
        return fail("there are no results");
    }
    if results.is_some() {
        result::write(&kept, &circumstances, &rows)?;
    }
    let folder = shop.root.join("docs/charts");
    std::fs::create_dir_all(&folder).map_err(failed("docs/charts"))?;
    let mut drawn = Vec::new();
    for known in CHARTS {
        if let Some(svg) = chart(known, &rows) {
            std::fs::write(folder.join(known.file).with_extension("svg"), svg).map_err(failed("a chart"))?;
            drawn.push(known);
        }
    }
    write_between(&shop.root.join(PAGE), BEGIN, END, &section(&circumstances, &rows, &drawn))?;
    for row in rows.iter().filter(|row| row.met == Some(false)) {
        println!("missed: {}: {}, {}: {} (goal {})", row.part, row.row, row.contender, row.measured, row.goal);
    }
    println!("{} rows written to {KEPT} and {PAGE}", rows.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(part: &str, measured: &str, met: Option<bool>) -> Row {
        let text = |text: &str| text.to_owned();
        Row {
            part: text(part),
            row: text(HUNG),
            contender: text("node:cluster"),
            measured: text(measured),
            goal: text("0"),
            met,
        }
    }

    #[test]
    fn each_part_has_its_table_and_a_missed_goal_is_seen() {
        let rows = [row("storm", "a|b", None), row("soak", "1", Some(false)), row("storm", "2", Some(true))];
        let text = section(&["machine: none".into()], &rows, &[]);
        assert_eq!(text.matches("### Storm").count(), 1);
        assert!(text.contains("a\\|b") && text.contains("| 1 | 0 | **missed** |") && text.contains("machine: none"));
    }

    #[test]
    fn the_number_is_found_in_what_was_measured() {
        assert_eq!(value_of("1,234.5 ms"), Some(1234.5));
        assert_eq!(value_of("never"), Some(5000.0));
        assert_eq!(value_of("+0"), None);
        assert!(chart(&CHARTS[0], &[row("storm", "41.7", None)]).unwrap().contains("41.7"));
        assert!(chart(&CHARTS[1], &[row("storm", "41.7", None)]).is_none());
    }
}
