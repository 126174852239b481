//! What `weft run` says: on a terminal a spinner per starting part with lines above it, elsewhere plain lines. The only
//! place of the supervisor that writes to stdout.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The terminal, or what stands for it.
#[derive(Debug)]
pub(crate) struct Terminal {
    rows: Option<Rows>,
}

#[derive(Debug)]
struct Rows {
    all: MultiProgress,
    by_name: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Terminal {
    /// Spinners where stdout is a terminal.
    pub(crate) fn new() -> Self {
        let rows = std::io::stdout().is_terminal().then(|| Rows {
            all: MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout()),
            by_name: Mutex::default(),
        });
        Self { rows }
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        match &self.rows {
            Some(rows) => rows.all.suspend(|| print_line(line)),
            None => print_line(line),
        }
    }

    /// A part begins to start.
    pub(crate) fn begin(&self, name: &str, what: &str) {
        let Some(rows) = &self.rows else {
            return print_line(&format!("{name}: {what}"));
        };
        let bar = rows.all.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("{spinner:.cyan} {prefix:<14} {wide_msg}")
            .expect("the template is a constant that parses");
        bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏✓"));
        bar.set_prefix(name.to_owned());
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        let mut by_name = rows.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.insert(name.to_owned(), bar);
    }

    /// A part is up.
    pub(crate) fn done(&self, name: &str, what: &str) {
        let Some(rows) = &self.rows else {
            return print_line(&format!("{name}: {what}"));
        };
        let bar = rows.by_name.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let Some(bar) = bar {
            bar.finish_with_message(what.to_owned());
        }
    }

    /// Nothing starts any more: unfinished spinners go away.
    pub(crate) fn settle(&self) {
        let Some(rows) = &self.rows else { return };
        let left = std::mem::take(&mut *rows.by_name.lock().unwrap_or_else(PoisonError::into_inner));
        for bar in left.into_values() {
            bar.finish_and_clear();
        }
    }
}

/// One line on stdout. A reader that went away (`weft run . | head`) is no reason to end.
pub(crate) fn print_line(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
