//! The proxy's own log (not the access log): lines on standard error, text or JSON, with a filter that the admin page
//! can change while it runs.

use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::settings::Settings;

/// One process has one log, however many proxies a test runs in it.
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Why the log's filter cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The text is not a filter.
    #[error("`{text}` is not a log filter: write a level (debug) or target=level,…")]
    Filter {
        /// What was asked for.
        text: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// This process logs elsewhere, or its log is gone.
    #[error("the log was not set up by this program")]
    NotOurs,
}

/// Sets the log up as the settings say. To be called once, first thing; later calls change nothing.
pub fn init(settings: &Settings) -> Result<(), LogError> {
    let (filter, handle) = reload::Layer::new(parse(&settings.log)?);
    let registry = tracing_subscriber::registry().with(filter);
    let output = fmt::layer().with_writer(std::io::stderr);
    let done = if settings.log_format == "json" {
        registry.with(output.json().flatten_event(true).with_current_span(false)).try_init()
    } else {
        registry.with(output).try_init()
    };
    if done.is_ok() && FILTER.set(handle).is_err() {
        return Err(LogError::NotOurs);
    }
    Ok(())
}

/// The filter in use.
pub fn filter() -> Result<String, LogError> {
    let handle = FILTER.get().ok_or(LogError::NotOurs)?;
    handle.with_current(ToString::to_string).map_err(|_| LogError::NotOurs)
}

/// Changes the filter.
pub fn set_filter(text: &str) -> Result<(), LogError> {
    let filter = parse(text)?;
    FILTER.get().ok_or(LogError::NotOurs)?.reload(filter).map_err(|_| LogError::NotOurs)
}

fn parse(text: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(text.trim())
        .map_err(|source| LogError::Filter { text: text.chars().take(200).collect(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_a_list_of_targets_is_a_filter() {
        for text in ["debug", "info,weft_sidecar::certs=trace", " warn\n"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        assert!(matches!(parse("weft=loud"), Err(LogError::Filter { .. })));
    }
}
