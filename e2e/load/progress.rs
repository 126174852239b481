//! How far a load is: a bar on a terminal, a line every five seconds elsewhere.
#![expect(clippy::print_stderr, reason = "progress is for whoever waits, results go to standard output")]

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::record::Record;

const LINE_EVERY: Duration = Duration::from_secs(5);
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How far a load is.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    lasts: Duration,
    next: Cell<Duration>,
}

impl Progress {
    /// Of a load of that name, which lasts that long.
    pub(crate) fn new(name: &str, lasts: Duration) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(millis(lasts)), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name.to_owned());
            bar
        });
        Self { bar, name: name.to_owned(), lasts, next: Cell::new(Duration::ZERO) }
    }

    /// Shows it, if it is time to.
    pub(crate) fn show(&self, elapsed: Duration, record: &Record) {
        if elapsed < self.next.get() {
            return;
        }
        let (done, refused, failed, p99) = record.so_far();
        let text = format!("{done} done, {refused} refused, {failed} failed, p99 {p99:.1} ms");
        let Some(bar) = &self.bar else {
            // Not at the very beginning, when there is nothing to tell.
            if !self.next.get().is_zero() {
                eprintln!("{} {:.0} s: {text}", self.name, elapsed.as_secs_f64());
            }
            self.next.set(elapsed + LINE_EVERY);
            return;
        };
        self.next.set(elapsed + DRAW_EVERY);
        bar.set_position(millis(elapsed.min(self.lasts)));
        bar.set_message(text);
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line for whoever waits.
pub(crate) fn note(text: &str) {
    eprintln!("load: {text}");
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
