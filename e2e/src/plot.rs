//! Plots as SVG: bars in panels, one panel for each figure, and curves over percentiles. For the reports of the bench and
//! of the load generator; drawn by hand, so that a plot is text that a diff can show.

#![expect(clippy::cast_precision_loss, reason = "what is plotted are a few bars and curves")]

use std::fmt::Write;

const LABEL: f64 = 150.0;
const BARS: f64 = 380.0;
const WIDTH: f64 = LABEL + BARS + 110.0;
const BAR: f64 = 16.0;
const STEP: f64 = 22.0;
const HEAD: f64 = 26.0;
const GAP: f64 = 14.0;
const TOP: f64 = 34.0;

/// A figure, with a bar for each of those that are compared.
pub struct Panel {
    /// What the figure is, and which way is better.
    pub title: String,
    /// One for each.
    pub bars: Vec<Bar>,
}

/// A figure of one of those that are compared.
pub struct Bar {
    /// Whose it is.
    pub label: String,
    /// How long the bar is.
    pub value: f64,
    /// The value as it is to be read.
    pub text: String,
    /// How the bar is filled: `#0969da`.
    pub color: &'static str,
}

/// Latency over percentiles, of one of those that are compared.
pub struct Curve {
    /// Whose it is.
    pub label: String,
    /// How the line is drawn.
    pub color: &'static str,
    /// Percentile (below 100) and value, ascending.
    pub points: Vec<(f64, f64)>,
}

/// The whole file: panels one below the other.
pub fn bars(title: &str, panels: &[Panel]) -> String {
    let mut body = String::new();
    let mut top = TOP;
    for panel in panels {
        body += &drawn(panel, top);
        top += HEAD + STEP * panel.bars.len() as f64 + GAP;
    }
    file(title, top, &body)
}

fn file(title: &str, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"20\" font-size=\"14\" font-weight=\"bold\" fill=\"#1f2328\">{title}</text>\n{body}</svg>\n"
    )
}

fn drawn(panel: &Panel, top: f64) -> String {
    let most = panel.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = String::new();
    line(
        &mut text,
        &format!("<text x=\"10\" y=\"{:.0}\" fill=\"#59636e\">{}</text>", top + 12.0, panel.title),
    );
    for (place, bar) in panel.bars.iter().enumerate() {
        let y = top + HEAD + STEP * place as f64;
        let length = (bar.value / most * BARS).max(1.0);
        let middle = y + BAR - 4.0;
        line(
            &mut text,
            &format!(
                "<text x=\"{:.0}\" y=\"{middle:.0}\" text-anchor=\"end\" fill=\"#1f2328\">{}</text>",
                LABEL - 8.0,
                bar.label
            ),
        );
        line(
            &mut text,
            &format!(
                "<rect x=\"{LABEL}\" y=\"{y:.0}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
                bar.color
            ),
        );
        line(
            &mut text,
            &format!(
                "<text x=\"{:.1}\" y=\"{middle:.0}\" fill=\"#1f2328\">{}</text>",
                LABEL + length + 6.0,
                bar.text
            ),
        );
    }
    text
}

fn line(text: &mut String, element: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "{element}").ok();
}

const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const FOOT: f64 = 30.0;
/// The last percentile that has a place: 99.99.
const NINES: f64 = 4.0;
/// Milliseconds below which nothing is told apart.
const LEAST: f64 = 0.01;

/// The whole file: latency in milliseconds over percentiles, both axes logarithmic, since what is of interest are the last
/// per cent and orders of magnitude.
pub fn percentiles(title: &str, curves: &[Curve]) -> String {
    let axes = Axes::of(curves);
    let mut body = axes.drawn();
    for (place, Curve { label, color, points }) in curves.iter().enumerate() {
        let points: Vec<String> =
            points.iter().map(|(at, value)| format!("{:.1},{:.1}", axes.x(*at), axes.y(*value))).collect();
        line(
            &mut body,
            &format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
                points.join(" ")
            ),
        );
        let at = TOP + STEP * place as f64;
        line(
            &mut body,
            &format!("<rect x=\"{LEFT}\" y=\"{at:.0}\" width=\"12\" height=\"12\" fill=\"{color}\"/>"),
        );
        line(
            &mut body,
            &format!("<text x=\"{:.0}\" y=\"{:.0}\" fill=\"#1f2328\">{label}</text>", LEFT + 18.0, at + 11.0),
        );
    }
    file(title, axes.top + HEIGHT + FOOT, &body)
}

/// Where percentiles and milliseconds are on the plot.
struct Axes {
    top: f64,
    /// Powers of ten at both ends.
    low: f64,
    high: f64,
}

impl Axes {
    fn of(curves: &[Curve]) -> Self {
        let values =
            || curves.iter().flat_map(|curve| curve.points.iter().map(|(_, value)| value.max(LEAST)));
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(LEAST, f64::max));
        let low = least.min(most).log10().floor();
        Self { top: TOP + STEP * curves.len() as f64, low, high: most.log10().ceil().max(low + 1.0) }
    }

    #[expect(clippy::unused_self, reason = "both axes are asked alike")]
    fn x(&self, percentile: f64) -> f64 {
        let nines = -(1.0 - percentile / 100.0).max(1e-4).log10();
        LEFT + nines.min(NINES) / NINES * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + HEIGHT - (value.max(LEAST).log10() - self.low) / (self.high - self.low) * HEIGHT
    }

    fn drawn(&self) -> String {
        let mut text = String::new();
        let (top, foot) = (self.top, self.top + HEIGHT);
        for percentile in [50.0, 90.0, 99.0, 99.9, 99.99] {
            let at = self.x(percentile);
            line(
                &mut text,
                &format!(
                    "<line x1=\"{at:.1}\" y1=\"{top:.0}\" x2=\"{at:.1}\" y2=\"{foot:.0}\" stroke=\"#d0d7de\"/>"
                ),
            );
            line(
                &mut text,
                &format!(
                    "<text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#59636e\">p{percentile}</text>",
                    foot + 16.0
                ),
            );
        }
        let mut power = self.low;
        while power <= self.high {
            let value = 10_f64.powf(power);
            let (at, end) = (self.y(value), WIDTH - RIGHT);
            line(
                &mut text,
                &format!(
                    "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{end:.0}\" y2=\"{at:.1}\" stroke=\"#d0d7de\"/>"
                ),
            );
            line(
                &mut text,
                &format!(
                    "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#59636e\">{value} ms</text>",
                    LEFT - 6.0,
                    at + 4.0
                ),
            );
            power += 1.0;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_is_the_largest_figure() {
        let bar = |label: &str, value: f64| Bar {
            label: label.into(),
            value,
            text: value.to_string(),
            color: "#000",
        };
        let svg = bars("Title", &[Panel { title: "req/s".into(), bars: vec![bar("a", 1.0), bar("b", 4.0)] }]);
        assert!(svg.contains("width=\"380.0\"") && svg.contains("width=\"95.0\""), "{svg}");
    }

    #[test]
    fn curves_stay_within_the_plot_whatever_the_figures() {
        for points in [vec![], vec![(0.0, 0.0), (100.0, 0.0)], vec![(50.0, 1.0), (99.999, 1e6)]] {
            let svg = percentiles("Title", &[Curve { label: "a".into(), color: "#000", points }]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
