//! Logs, metrics and traces of a process, started once at its beginning.
//!
//! Logs go to stderr, for people on a terminal and as JSON lines otherwise;
//! metrics stand ready as Prometheus text; all three also go to an OTLP
//! endpoint where one is configured. Tokens are masked in what is logged.

mod counted;
mod log;
mod measured;
mod process;
mod propagation;
mod redact;
mod rpc;
mod settings;
mod statements;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus::TextEncoder;
use service_error::ServiceError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

pub use counted::Counted;
pub use measured::measured;
pub use propagation::{InjectLayer, InjectService, extract, inject};
pub use rpc::{MeasuredBody, RpcLayer, RpcService};
pub use settings::{LogFormat, TelemetrySettings};

/// How long the collector may take for what is still unsent at the end.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(5);
const METRICS_EVERY: Duration = Duration::from_secs(15);

/// Said by [`start`].
static SPANS_ARE_COLLECTED: AtomicBool = AtomicBool::new(false);

/// Whether spans of this process are sent to somebody.
fn are_spans_collected() -> bool {
    SPANS_ARE_COLLECTED.load(Ordering::Relaxed)
}

/// The running telemetry of a process. Clones share it.
#[derive(Debug, Clone)]
pub struct Telemetry {
    registry: prometheus::Registry,
    meters: SdkMeterProvider,
    tracers: SdkTracerProvider,
    loggers: Option<SdkLoggerProvider>,
}

/// Starts logs, metrics and traces of this process. Inside the Tokio runtime,
/// before anything that logs or measures.
///
/// # Errors
/// `InvalidArgument` for settings that can't be followed, `FailedPrecondition`
/// when it was started before in this process.
pub fn start(settings: &TelemetrySettings, service_name: &str) -> Result<Telemetry, ServiceError> {
    let telemetry = Telemetry::build(settings, service_name)?;
    let sent = settings.endpoint()?.is_some();
    // Of a trace that is not sent only its ids are wanted, which calls keep by themselves.
    let traces = sent.then(|| {
        let traces = tracing_opentelemetry::layer().with_tracer(telemetry.tracers.tracer("quarry"));
        statements::in_calls(traces)
    });
    let exported_logs = telemetry.loggers.as_ref().map(|loggers| {
        // The exporter's own transport must not feed itself.
        let own = "info,hyper=off,hyper_util=off,h2=off,tonic=off,tower=off,opentelemetry=off,sea_orm=warn";
        OpenTelemetryTracingBridge::new(loggers).with_filter(EnvFilter::new(own))
    });
    Registry::default()
        .with(log::layer(settings, redact::StderrWriter)?)
        .with(traces)
        .with(exported_logs)
        .try_init()
        .map_err(|error| {
            ServiceError::precondition("telemetry was started before in this process")
                .caused_by(error)
        })?;
    SPANS_ARE_COLLECTED.store(sent, Ordering::Relaxed);
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    opentelemetry::global::set_meter_provider(telemetry.meters.clone());
    opentelemetry::global::set_tracer_provider(telemetry.tracers.clone());
    Ok(telemetry)
}

impl Telemetry {
    fn build(settings: &TelemetrySettings, service_name: &str) -> Result<Self, ServiceError> {
        let resource = Resource::builder().with_service_name(service_name.to_owned()).build();
        let registry = prometheus::Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| wrong("metrics", &error))?;
        let mut meters =
            SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(prometheus);
        let mut tracers = SdkTracerProvider::builder().with_resource(resource.clone());
        let mut loggers = None;
        match settings.endpoint()? {
            None => {}
            Some(endpoint) => {
                let ratio = Sampler::TraceIdRatioBased(settings.trace_sample_ratio);
                let exporters = Exporters::to(endpoint)?;
                let reader =
                    PeriodicReader::builder(exporters.metrics).with_interval(METRICS_EVERY).build();
                meters = meters.with_reader(reader);
                tracers = tracers
                    .with_sampler(Sampler::ParentBased(Box::new(ratio)))
                    .with_batch_exporter(exporters.spans);
                let provider = SdkLoggerProvider::builder()
                    .with_resource(resource)
                    .with_batch_exporter(exporters.logs);
                loggers = Some(provider.build());
            }
        }
        let meters = meters.build();
        process::observe(&meters.meter("quarry"));
        Ok(Self { registry, meters, tracers: tracers.build(), loggers })
    }

    /// Everything measured so far, in Prometheus' text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written as text");
        }
        text
    }

    /// Sends what is unsent to the collector, within a few seconds. Call it
    /// last; a collector that is away is logged and not waited for.
    pub async fn flush(&self) {
        let this = self.clone();
        let flushed = tokio::task::spawn_blocking(move || this.flush_blocking());
        match tokio::time::timeout(EXPORT_TIME_MAX, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "telemetry could not be flushed"),
            Ok(Err(error)) => tracing::warn!(%error, "telemetry could not be flushed"),
            Err(_) => tracing::warn!("telemetry was not flushed in time"),
        }
    }

    fn flush_blocking(&self) -> OTelSdkResult {
        let logs = self.loggers.as_ref().map_or(Ok(()), SdkLoggerProvider::force_flush);
        self.tracers.force_flush().and(self.meters.force_flush()).and(logs)
    }
}

struct Exporters {
    spans: SpanExporter,
    metrics: MetricExporter,
    logs: LogExporter,
}

impl Exporters {
    fn to(endpoint: &str) -> Result<Self, ServiceError> {
        if tokio::runtime::Handle::try_current().is_err() {
            let message = "OTLP export starts inside a Tokio runtime";
            return Err(ServiceError::internal(message));
        }
        let refuse = |error| wrong("otlp_endpoint", &error);
        let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        let metrics = MetricExporter::builder().with_tonic().with_endpoint(endpoint);
        let logs = LogExporter::builder().with_tonic().with_endpoint(endpoint);
        Ok(Self {
            spans: spans.with_timeout(EXPORT_TIME_MAX).build().map_err(refuse)?,
            metrics: metrics.with_timeout(EXPORT_TIME_MAX).build().map_err(refuse)?,
            logs: logs.with_timeout(EXPORT_TIME_MAX).build().map_err(refuse)?,
        })
    }
}

fn wrong(key: &str, error: &dyn std::fmt::Display) -> ServiceError {
    ServiceError::invalid(&format!("telemetry.{key}"), error).reason("INVALID_SETTINGS")
}

#[cfg(test)]
mod tests;
