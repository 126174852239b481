//! The log: one entry per line on stdout, JSON unless people read it. Started once, by `server::main`.
//! Spans and their export are the mesh's; the trace id in each entry ties the two together.

use tracing_subscriber::{
    EnvFilter, filter::ParseError, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::settings::{Common, LogFormat};

/// Starts logging as the settings say.
pub fn start(settings: &Common) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(&settings.log)?;
    let (json, text) = match settings.log_format {
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
            (Some(layer), None)
        }
        LogFormat::Text => (None, Some(tracing_subscriber::fmt::layer())),
    };
    // A second start keeps the first: several services in one process share its log.
    tracing_subscriber::registry().with(filter).with(json).with(text).try_init().ok();
    Ok(())
}
