//! What can be set about telemetry.

use serde::{Deserialize, Serialize};
use service_error::ServiceError;

/// The `[telemetry]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// How log lines look; `auto` is human on a terminal and JSON otherwise.
    pub log_format: LogFormat,
    /// Which lines are logged, e.g. `info` or `info,catalog=debug`.
    pub log: String,
    /// `http://host:4317` of an OpenTelemetry collector; unset: nothing is sent.
    pub otlp_endpoint: Option<String>,
    /// The part of new traces that is sent, from 0 to 1.
    pub trace_sample_ratio: f64,
    /// Seconds between two samples of a role's own history.
    pub history_seconds: u64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log: "info".to_owned(),
            otlp_endpoint: None,
            trace_sample_ratio: 1.0,
            history_seconds: 60,
        }
    }
}

impl TelemetrySettings {
    /// The endpoint, if it is one that the exporter speaks to.
    pub(crate) fn endpoint(&self) -> Result<Option<&str>, ServiceError> {
        if !(0.0..=1.0).contains(&self.trace_sample_ratio) {
            let message = format!("{} is not between 0 and 1", self.trace_sample_ratio);
            return Err(ServiceError::invalid("telemetry.trace_sample_ratio", message)
                .reason("INVALID_SETTINGS"));
        }
        match self.otlp_endpoint.as_deref() {
            None | Some("") => Ok(None),
            Some(url) if url.starts_with("http://") => Ok(Some(url)),
            Some(url) => {
                let message = format!(
                    "{url:?} must be http://host:port of a collector near by; the collector speaks TLS to the rest"
                );
                Err(ServiceError::invalid("telemetry.otlp_endpoint", message)
                    .reason("INVALID_SETTINGS"))
            }
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human if stderr is a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}
