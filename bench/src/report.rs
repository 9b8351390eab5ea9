//! Results as tables: on the terminal, and in docs/performance-figures.md.

use std::fmt::Write as _;
use std::path::Path;

use crate::contender::{self, Contender};
use crate::error::Result;
use crate::figures::{Figure, How, Measure};
use crate::goals;
pub use crate::page::number;
use crate::page::write_between;
use crate::plan::{FULL, Plan};
use crate::results::{Record, Spread};

/// What one contender reached in one measure: the value, and the ratio to the baseline if that is of interest.
pub fn told(record: &Record, figure: &Figure, measure: &Measure, contender: &Contender) -> Option<(String, String)> {
    let values = record.values(&measure.name, contender.name);
    let spread = Spread::of(&values)?;
    let digits = measure.digits;
    let value = match measure.how {
        How::Largest => number(values.iter().copied().fold(f64::MIN, f64::max), digits),
        How::Ratio | How::Median => number(spread.median, digits),
    };
    let ratio = match measure.how {
        How::Ratio if contender.name == figure.baseline => String::new(),
        How::Ratio => {
            let ratios = record.ratios((&measure.name, contender.name), (&measure.name, figure.baseline));
            Spread::of(&ratios).map(ratio).unwrap_or_default()
        }
        How::Median => format!("[{} to {}]", number(spread.low, digits), number(spread.high, digits)),
        How::Largest => String::new(),
    };
    Some((value, ratio))
}

/// The median of ratios and the quartiles around it.
pub fn ratio(Spread { low, median, high }: Spread) -> String {
    format!("{median:.2} [{low:.2} to {high:.2}]")
}

/// A measure and its unit.
pub fn head(measure: &Measure) -> String {
    let unit = if measure.unit.is_empty() { String::new() } else { format!(", {}", measure.unit) };
    format!("{}{unit}", measure.title)
}

fn heading(figure: &Figure, measure: &Measure) -> String {
    let what = match measure.how {
        How::Ratio => {
            let baseline = contender::named(figure.baseline).map_or("", |contender| contender.title);
            format!("median; ratio to '{baseline}' within each round: median [quartiles]")
        }
        How::Median => "median [quartiles]".into(),
        How::Largest => "the worst round".into(),
    };
    format!("{} ({what})", head(measure))
}

pub fn print(figure: &Figure, plan: &Plan, record: &Record) {
    for measure in (figure.measures)(plan) {
        let lines: Vec<String> = contender::ALL
            .iter()
            .filter_map(|contender| {
                let (value, ratio) = told(record, figure, &measure, contender)?;
                Some(format!("    {:<36} {value:>12}   {ratio}", contender.title))
            })
            .collect();
        if !lines.is_empty() {
            println!("  {}\n{}", heading(figure, &measure), lines.join("\n"));
        }
    }
}

/// A table of one figure: a line for each contender, a column for each measure. The figure that grows with the number of
/// workers and addresses has its measures as lines.
fn markdown(figure: &Figure, record: &Record) -> String {
    let measures: Vec<Measure> = (figure.measures)(&FULL)
        .into_iter()
        .filter(|measure| record.measures().contains(&measure.name.as_str()))
        .collect();
    let contenders: Vec<&Contender> = contender::ALL
        .iter()
        .filter(|contender| record.samples.iter().any(|sample| sample.contender == contender.name))
        .collect();
    let cell = |measure: &Measure, contender: &Contender| match told(record, figure, measure, contender) {
        Some((value, ratio)) if ratio.is_empty() || measure.how == How::Median => value,
        Some((value, ratio)) => format!("{value}; {ratio}"),
        None => String::new(),
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    if measures.len() > 8 {
        rows.push(
            [vec![String::new()], contenders.iter().map(|contender| contender.title.to_owned()).collect()].concat(),
        );
        for measure in &measures {
            let cells = contenders.iter().map(|contender| cell(measure, contender)).collect();
            rows.push([vec![head(measure)], cells].concat());
        }
    } else {
        rows.push([vec![String::new()], measures.iter().map(head).collect()].concat());
        for contender in &contenders {
            let cells = measures.iter().map(|measure| cell(measure, contender)).collect();
            rows.push([vec![contender.title.to_owned()], cells].concat());
        }
    }
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if i == 0 {
            let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
        }
    }
    text
}

const BEGIN: &str = "<!-- results: written by make bench -->";
const END: &str = "<!-- end of results -->";

/// Puts the results between their marks.
pub fn write_page(page: &Path, records: &[(&'static Figure, Record)]) -> Result<()> {
    write_between(page, BEGIN, END, &section(records))
}

fn section(records: &[(&'static Figure, Record)]) -> String {
    let mut text = format!("\n### Goals\n\n{}", goals::markdown(records));
    for (figure, record) in records {
        let baseline = contender::named(figure.baseline).map_or("", |contender| contender.title);
        let title = figure.title[..1].to_uppercase() + &figure.title[1..];
        let _ = write!(text, "\n### {title}\n\n");
        for (chart, caption) in crate::charts::of(figure.name) {
            let _ = writeln!(text, "![{caption}](charts/{chart}.svg)\n");
        }
        let _ = write!(text, "{}", markdown(figure, record));
        let _ = writeln!(
            text,
            "\nMedians; where a second value stands, it is the ratio to *{baseline}* within each round, median [quartiles]. \
             Counts of what should not happen are those of the worst round. [All samples](../bench/results/{}.tsv).\n",
            figure.name
        );
        let _ = writeln!(text, "```\n{}\n```", record.circumstances.join("\n"));
    }
    text
}
