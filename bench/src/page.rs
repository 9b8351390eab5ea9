//! Pages of docs/ of which a part is generated.

use std::path::Path;

use crate::error::{Result, fail, failed};

/// Puts the text between two marks; all else on the page is written by people.
pub fn write_between(page: &Path, begin: &str, end: &str, text: &str) -> Result<()> {
    let name = page.display().to_string();
    let old = std::fs::read_to_string(page).map_err(failed(&name))?;
    let parts = old.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
    let Some((before, after)) = parts else {
        return fail(format!("{name} has lost the marks around its results"));
    };
    std::fs::write(page, format!("{before}{begin}\n{text}\n{end}{after}")).map_err(failed(&name))
}

/// With its thousands grouped.
pub fn number(value: f64, digits: usize) -> String {
    // No "-0".
    let value = if value.abs() < 0.5 / 10f64.powi(digits as i32) { 0.0 } else { value };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (i, letter) in whole.chars().enumerate() {
        let left = whole.len() - i;
        if i > 0 && left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(letter);
    }
    rest.map_or(grouped.clone(), |rest| format!("{grouped}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1234567.0, 0), "1,234,567");
        assert_eq!(number(999.0, 0), "999");
        assert_eq!(number(-0.001, 2), "0.00");
        assert_eq!(number(-1234.56, 1), "-1,234.6");
    }
}
