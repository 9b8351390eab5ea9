//! Charts as SVG with text that stays text, readable on a light and on a dark page.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 250.0;
const RIGHT: f64 = 96.0;
const BAR: f64 = 18.0;
const STEP: f64 = 28.0;
const TOP: f64 = 62.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:15px}.quiet{fill:#59636e;font-size:12px}\
.page{fill:#fff}.axis{stroke:#d1d9e0}.whisker{stroke:#1f2328;stroke-width:1.2;opacity:.65}\
.ours{fill:#0969da}.ours2{fill:#80b8f5}.other{fill:#8c959f}.other2{fill:#c4cad1}\
.line{fill:none;stroke-width:2}.s0{stroke:#8c959f}.s1{stroke:#bc4c00}.s2{stroke:#0969da}.s3{stroke:#1a7f37}.d0{fill:#8c959f}.d1{fill:#bc4c00}.d2{fill:#0969da}.d3{fill:#1a7f37}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.quiet{fill:#9198a1}.page{fill:#0d1117}.axis{stroke:#3d444d}\
.whisker{stroke:#f0f6fc}.ours{fill:#4493f8}.ours2{fill:#1f4f8f}.other{fill:#848d97}.other2{fill:#4a5159}\
.s0{stroke:#848d97}.s1{stroke:#f0883e}.s2{stroke:#4493f8}.s3{stroke:#3fb950}.d0{fill:#848d97}.d1{fill:#f0883e}.d2{fill:#4493f8}.d3{fill:#3fb950}}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn begin(title: &str, note: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>\n\
         <text class=\"title\" x=\"16\" y=\"26\">{0}</text>\n<text class=\"quiet\" x=\"16\" y=\"45\">{1}</text>\n",
        escape(title),
        escape(note)
    )
}

pub struct Bar {
    pub label: String,
    pub value: f64,
    /// A part of the value, at the bar's beginning.
    pub part: f64,
    /// Quartiles.
    pub range: Option<(f64, f64)>,
    pub shown: String,
    /// Of this project.
    pub ours: bool,
}

pub fn bars(title: &str, note: &str, bars: &[Bar]) -> String {
    let height = TOP + STEP * bars.len() as f64 + 12.0;
    let most = bars.iter().map(|bar| bar.range.map_or(bar.value, |(_, high)| high.max(bar.value))).fold(0.0, f64::max);
    let scale = if most > 0.0 { (WIDTH - LABELS - RIGHT) / most } else { 0.0 };
    let mut svg = begin(title, note, height);
    let _ = writeln!(
        svg,
        "<line class=\"axis\" x1=\"{LABELS}\" y1=\"{}\" x2=\"{LABELS}\" y2=\"{}\"/>",
        TOP - 6.0,
        height - 8.0
    );
    for (i, bar) in bars.iter().enumerate() {
        let y = TOP + STEP * i as f64;
        let text = y + BAR * 0.75;
        let class = if bar.ours { "ours" } else { "other" };
        let width = (bar.value * scale).max(1.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>",
            LABELS - 8.0,
            escape(&bar.label)
        );
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{LABELS}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\"/>"
        );
        if bar.part > 0.0 {
            let part = bar.part * scale;
            let _ = writeln!(
                svg,
                "<rect class=\"{class}2\" x=\"{LABELS}\" y=\"{y:.1}\" width=\"{part:.1}\" height=\"{BAR}\"/>"
            );
        }
        let mut end = width;
        if let Some((low, high)) = bar.range {
            let (low, high, middle) = (LABELS + low * scale, LABELS + high * scale, y + BAR / 2.0);
            let (above, below) = (middle - 4.0, middle + 4.0);
            let _ = writeln!(
                svg,
                "<path class=\"whisker\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {above:.1}V{below:.1}M{high:.1} {above:.1}V{below:.1}\"/>"
            );
            end = end.max(high - LABELS);
        }
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{text:.1}\">{}</text>", LABELS + end + 8.0, escape(&bar.shown));
    }
    svg.push_str("</svg>\n");
    svg
}

pub struct Curve {
    pub label: String,
    /// Value for each of the steps; a step that was not measured has none.
    pub values: Vec<Option<f64>>,
}

/// At most four curves over steps that stand side by side whatever their distance.
pub fn curves(title: &str, note: &str, steps: &[String], curves: &[Curve]) -> String {
    const HEIGHT: f64 = 300.0;
    const LEFT: f64 = 56.0;
    const BOTTOM: f64 = 248.0;
    let most = curves.iter().flat_map(|curve| curve.values.iter().flatten()).copied().fold(0.0, f64::max).max(1e-9);
    let x = |i: usize| LEFT + 24.0 + (WIDTH - LEFT - 220.0) * i as f64 / (steps.len().max(2) - 1) as f64;
    let y = |value: f64| BOTTOM - (BOTTOM - TOP - 8.0) * value / most;
    let mut svg = begin(title, note, HEIGHT);
    for mark in [0.0, 0.5, 1.0] {
        let (at, value) = (y(mark * most), mark * most);
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>",
            WIDTH - 180.0
        );
        let _ = writeln!(
            svg,
            "<text class=\"quiet\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (i, step) in steps.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text class=\"quiet\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(i),
            BOTTOM + 20.0,
            escape(step)
        );
    }
    for (which, curve) in curves.iter().enumerate() {
        let points: Vec<(f64, f64)> =
            curve.values.iter().enumerate().filter_map(|(i, value)| Some((x(i), y((*value)?)))).collect();
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(svg, "<polyline class=\"line s{which}\" points=\"{}\"/>", path.join(" "));
        for (x, y) in &points {
            let _ = writeln!(svg, "<circle class=\"d{which}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
        }
        let at = TOP + 22.0 * which as f64 + 6.0;
        let _ = writeln!(svg, "<circle class=\"d{which}\" cx=\"{}\" cy=\"{:.1}\" r=\"5\"/>", WIDTH - 164.0, at - 4.0);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{at:.1}\">{}</text>", WIDTH - 152.0, escape(&curve.label));
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_nothing_is_not_a_number() {
        let bar = Bar { label: "a < b".into(), value: 0.0, part: 0.0, range: None, shown: "0".into(), ours: true };
        let svg = bars("R&D", "", &[bar]);
        assert!(svg.contains("a &lt; b") && svg.contains("R&amp;D"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let curve = Curve { label: "none".into(), values: vec![None] };
        let svg = curves("", "", &["1".into()], &[curve]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
