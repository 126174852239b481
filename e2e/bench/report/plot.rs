//! A plot of a table, as SVG: a panel for each metric, in it a bar for each path.

use std::fmt::Write;

use crate::paths::Kind;
use crate::report::{Metric, Table};

const LABEL: f64 = 150.0;
const BARS: f64 = 380.0;
const WIDTH: f64 = LABEL + BARS + 110.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const HEAD: f64 = 26.0;
const GAP: f64 = 14.0;

/// The whole file.
pub(super) fn svg(table: &Table) -> String {
    let rows = table.rows();
    let mut body = String::new();
    let mut top = 34.0;
    for metric in table.load.plotted {
        let bars: Vec<(Kind, f64)> =
            rows.iter().filter_map(|(kind, figures)| Some((*kind, figures.get(*metric)?))).collect();
        body += &panel(*metric, &bars, top);
        top += HEAD + STEP * bars.len() as f64 + GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" viewBox=\"0 0 {WIDTH} {top}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{top}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\" font-weight=\"bold\" fill=\"#1f2328\">{}</text>\n{body}</svg>\n",
        table.load.title
    )
}

fn panel(metric: Metric, bars: &[(Kind, f64)], top: f64) -> String {
    let most = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = String::new();
    let better = if metric == Metric::Rate { "more is better" } else { "less is better" };
    line(
        &mut text,
        &format!(
            "<text x=\"10\" y=\"{:.0}\" fill=\"#59636e\">{} ({better})</text>",
            top + 12.0,
            metric.title()
        ),
    );
    for (place, (kind, value)) in bars.iter().enumerate() {
        let y = top + HEAD + STEP * place as f64;
        let length = (value / most * BARS).max(1.0);
        let middle = y + BAR - 4.0;
        line(
            &mut text,
            &format!(
                "<text x=\"{:.0}\" y=\"{middle:.0}\" text-anchor=\"end\" fill=\"#1f2328\">{}</text>",
                LABEL - 8.0,
                kind.name()
            ),
        );
        line(
            &mut text,
            &format!(
                "<rect x=\"{LABEL}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
                color(*kind)
            ),
        );
        line(
            &mut text,
            &format!(
                "<text x=\"{:.1}\" y=\"{middle:.0}\" fill=\"#1f2328\">{}</text>",
                LABEL + length + 6.0,
                metric.text(*value)
            ),
        );
    }
    text
}

fn line(text: &mut String, element: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "{element}").ok();
}

fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Direct => "#d0d7de",
        Kind::Weft => "#0969da",
        Kind::WeftHttp => "#54aeff",
        Kind::Nginx => "#6e7781",
        Kind::HaproxyHttp1 | Kind::HaproxyHttp2 => "#8c959f",
        Kind::Envoy => "#afb8c1",
    }
}
