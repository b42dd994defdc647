//! The log on stderr.

use std::io::IsTerminal as _;

use service_error::ServiceError;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::{LogFormat, TelemetrySettings};

/// Libraries that tell of each of their steps at `info`. What the settings say
/// of them comes later and wins.
const QUIET: &str = "opentelemetry=warn,opentelemetry_sdk=warn,sea_orm=warn,sea_orm_migration=warn";

/// The layer that writes log lines to `writer`.
pub fn layer<S, W>(
    settings: &TelemetrySettings,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, ServiceError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter =
        EnvFilter::builder().parse(format!("{QUIET},{}", settings.log)).map_err(|error| {
            let message =
                format!("{:?}: {error}; write e.g. info or info,catalog=debug", settings.log);
            ServiceError::invalid("telemetry.log", message).reason("INVALID_SETTINGS")
        })?;
    let on_terminal = std::io::stderr().is_terminal();
    let is_human = match settings.log_format {
        LogFormat::Auto => on_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    Ok(if is_human {
        fmt::layer().with_ansi(on_terminal).with_writer(writer).with_filter(filter).boxed()
    } else {
        let json = fmt::layer().json().flatten_event(true).with_span_list(false);
        json.with_writer(writer).with_filter(filter).boxed()
    })
}
