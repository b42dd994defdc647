//! The log on stderr.

use std::fmt::Debug;
use std::io::IsTerminal as _;

use service_error::ServiceError;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, FormattedFields, MakeWriter};
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
        json.fmt_fields(Members).with_writer(writer).with_filter(filter).boxed()
    })
}

/// A span's fields as a JSON object, which a later field is written to the end of. The library's
/// own parses what it wrote and writes it anew for each, and every call has a span.
#[derive(Debug, Clone, Copy)]
struct Members;

impl<'a> FormatFields<'a> for Members {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> std::fmt::Result {
        let mut object = Object { writer, begins: "{", failed: false };
        fields.record(&mut object);
        if object.begins == "{" {
            object.writer.write_char('{')?;
        }
        object.writer.write_char('}')?;
        if object.failed { Err(std::fmt::Error) } else { Ok(()) }
    }

    fn add_fields(
        &self,
        current: &'a mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> std::fmt::Result {
        if current.fields.pop() != Some('}') {
            return Err(std::fmt::Error);
        }
        let begins = if current.fields.len() > 1 { "," } else { "" };
        let mut object = Object { writer: current.as_writer(), begins, failed: false };
        fields.record(&mut object);
        object.writer.write_char('}')?;
        if object.failed { Err(std::fmt::Error) } else { Ok(()) }
    }
}

/// An object that is being written.
struct Object<'a> {
    writer: Writer<'a>,
    /// What stands before the next member.
    begins: &'static str,
    failed: bool,
}

impl Object<'_> {
    fn member(&mut self, field: &Field, value: &impl serde::Serialize) {
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        let written = match serde_json::to_string(value) {
            Ok(value) => write!(self.writer, "{}{name:?}:{value}", self.begins).is_ok(),
            Err(_) => false,
        };
        self.failed |= !written;
        self.begins = ",";
    }
}

impl Visit for Object<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Of the `log` crate's lines: said by the line already.
        if !field.name().starts_with("log.") {
            self.member(field, &format!("{value:?}"));
        }
    }
}
