//! Results: one JSON object a line, appended by every part of `make faults` to the file that FAULTS_RESULTS names.

use std::io::Write as _;
use std::path::Path;

use cluster_bench::error::{Error, Result, failed};
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub part: String,
    pub row: String,
    pub contender: String,
    pub measured: String,
    pub goal: String,
    /// None where there is no goal.
    pub met: Option<bool>,
}

impl Row {
    pub fn from_json(value: &Value) -> Result<Self> {
        let text = |name: &str| match &value[name] {
            Value::String(text) => Ok(text.clone()),
            other => Err(Error::Failed(format!("a result whose {name} is {other}"))),
        };
        Ok(Self {
            part: text("part")?,
            row: text("row")?,
            contender: text("contender")?,
            measured: text("measured")?,
            goal: text("goal")?,
            met: value["met"].as_bool(),
        })
    }

    fn to_json(&self) -> Value {
        let Self { part, row, contender, measured, goal, met } = self;
        json!({"part": part, "row": row, "contender": contender, "measured": measured, "goal": goal, "met": met})
    }
}

/// Appends to the file that FAULTS_RESULTS names, if it names one.
pub fn append(rows: &[Row]) -> Result<()> {
    let Some(path) = std::env::var_os("FAULTS_RESULTS").filter(|path| !path.is_empty()) else { return Ok(()) };
    let mut file = std::fs::File::options().append(true).create(true).open(&path).map_err(failed("FAULTS_RESULTS"))?;
    for row in rows {
        writeln!(file, "{}", row.to_json()).map_err(failed("FAULTS_RESULTS"))?;
    }
    Ok(())
}

/// All rows of a file, and the circumstances if it tells them.
pub fn read(path: &Path) -> Result<(Vec<String>, Vec<Row>)> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(failed(&name))?;
    let (mut circumstances, mut rows) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line).map_err(failed(&name))?;
        match &value["circumstances"] {
            Value::Array(lines) => circumstances.extend(lines.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => rows.push(Row::from_json(&value)?),
        }
    }
    Ok((circumstances, rows))
}

pub fn write(path: &Path, circumstances: &[String], rows: &[Row]) -> Result<()> {
    let mut text = format!("{}\n", json!({"circumstances": circumstances}));
    for row in rows {
        text += &format!("{}\n", row.to_json());
    }
    std::fs::write(path, text).map_err(failed("the file of results"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let row = Row {
            part: "storm".into(),
            row: "hung".into(),
            contender: "libcluster \"kernel\"".into(),
            measured: "0".into(),
            goal: "0".into(),
            met: Some(true),
        };
        assert_eq!(Row::from_json(&row.to_json()).unwrap(), row);
        let none = Row { met: None, ..row };
        assert_eq!(Row::from_json(&none.to_json()).unwrap(), none);
        assert!(Row::from_json(&json!({"part": "storm", "row": 1})).is_err());
    }
}
