//! A table as a plot: a panel for each metric, in it a bar for each path.

use weft_e2e::plot::{Bar, Panel, bars};

use crate::paths::Kind;
use crate::report::{Metric, Table};

/// The whole file.
pub(super) fn svg(table: &Table) -> String {
    let rows = table.rows();
    let panel = |metric: &Metric| {
        let better = if *metric == Metric::Rate { "more is better" } else { "less is better" };
        let bar = |kind: Kind, value: f64| Bar {
            label: kind.name().to_owned(),
            value,
            text: metric.text(value),
            color: color(kind),
        };
        Panel {
            title: format!("{} ({better})", metric.title()),
            bars: rows.iter().filter_map(|(kind, figures)| Some(bar(*kind, figures.get(*metric)?))).collect(),
        }
    };
    let panels: Vec<Panel> = table.load.plotted.iter().map(panel).collect();
    bars(table.load.title, &panels)
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
