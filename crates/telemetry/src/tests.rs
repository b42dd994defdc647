//! What is counted, what is logged, and that tokens are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tracing::Instrument as _;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

type TestBody = BoxBody<Bytes, Infallible>;

/// A gRPC answer that ends with a status in its trailers, as real ones do.
fn answer(status: &'static str) -> TestBody {
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(status),
    )]);
    Full::new(Bytes::from("x")).with_trailers(async { Some(Ok(trailers)) }).boxed()
}

async fn call(telemetry: &Telemetry, path: &str, status: &'static str, read: bool) {
    let inner = service_fn(move |_: Request<()>| async move {
        Ok::<_, Infallible>(Response::new(answer(status)))
    });
    let layer = RpcLayer::with_meter("catalog", &telemetry.meters.meter("test"), true);
    let request =
        Request::builder().uri(path).header("content-type", "application/grpc").body(()).unwrap();
    let response = layer.layer(inner).oneshot(request).await.unwrap();
    if read {
        response.into_body().collect().await.unwrap();
    }
}

fn telemetry() -> Telemetry {
    Telemetry::build(&TelemetrySettings::default(), "test").unwrap()
}

#[tokio::test]
async fn calls_are_counted_by_method_and_by_the_code_in_their_trailers() {
    let telemetry = telemetry();
    call(&telemetry, "/quarry.catalog.v1.DatasetsService/GetDataset", "0", true).await;
    call(&telemetry, "/quarry.catalog.v1.DatasetsService/GetDataset", "5", true).await;
    call(&telemetry, "/quarry.catalog.v1.DatasetsService/GetDataset", "0", false).await;
    let text = telemetry.metrics_text();
    for code in ["OK", "NOT_FOUND", "CANCELLED"] {
        let line = format!(
            "quarry_rpc_requests_total{{code=\"{code}\",method=\"GetDataset\",role=\"catalog\",service=\"quarry.catalog.v1.DatasetsService\"}} 1"
        );
        assert!(text.contains(&line), "{code}: {text}");
    }
    assert!(text.contains("quarry_rpc_duration_seconds_bucket"), "{text}");
    assert!(text.contains("quarry_rpc_in_flight{role=\"catalog\"} 0"), "{text}");
}

#[tokio::test]
async fn what_was_counted_of_a_role_can_be_asked_for() {
    let telemetry = telemetry();
    for status in ["0", "5", "13", "14"] {
        call(&telemetry, "/quarry.catalog.v1.DatasetsService/GetDataset", status, true).await;
    }
    let counted = telemetry.counted("catalog");
    assert_eq!((counted.requests, counted.failures, counted.in_flight), (4.0, 2.0, 0.0));
    assert_eq!(counted.durations.last().map(|last| last.1), Some(4), "{counted:?}");
    assert!(counted.durations.last().is_some_and(|last| last.0.is_infinite()));
    assert!(counted.resident_bytes > 1e6 && counted.threads >= 1.0, "{counted:?}");
    assert_eq!(telemetry.counted("identity").requests, 0.0);
}

/// Names of the spans that a layer behind the filter sees.
#[derive(Clone, Default)]
struct Seen(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Seen {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        self.0.lock().unwrap().push(attributes.metadata().name().to_owned());
    }
}

#[test]
fn statements_have_spans_in_calls() {
    let seen = Seen::default();
    let subscriber = Registry::default().with(crate::statements::in_calls(seen.clone()));
    tracing::subscriber::with_default(subscriber, || {
        let statement = || tracing::info_span!(target: "sea_orm::database", "statement");
        drop(statement());
        let call = tracing::error_span!("call");
        call.in_scope(|| drop(statement()));
        drop(tracing::debug_span!("detail"));
    });
    assert_eq!(*seen.0.lock().unwrap(), ["call", "statement"], "none outside a call");
}

#[tokio::test]
async fn a_path_that_nobody_serves_makes_no_label() {
    let telemetry = telemetry();
    for n in 0..50 {
        call(&telemetry, &format!("/x{n}.Y/Z{n}"), "12", true).await;
    }
    let text = telemetry.metrics_text();
    assert!(text.contains("method=\"unknown\",role=\"catalog\",service=\"unknown\"} 50"), "{text}");
    assert!(!text.contains("x7.Y"), "{text}");
}

#[tokio::test]
async fn the_process_reports_memory_and_uptime() {
    let text = telemetry().metrics_text();
    assert!(text.contains("process_uptime_seconds"), "{text}");
    let memory = text.lines().find(|line| line.starts_with("process_resident_memory_bytes"));
    let bytes: f64 = memory.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(bytes > 1e6, "{bytes}");
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = redact::Redacting<Self>;

    fn make_writer(&'a self) -> Self::Writer {
        redact::Redacting(self.clone())
    }
}

fn logged(settings: &TelemetrySettings, work: impl FnOnce()) -> String {
    let captured = Captured::default();
    let subscriber = Registry::default().with(log::layer(settings, captured.clone()).unwrap());
    tracing::subscriber::with_default(subscriber, work);
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn lines_are_json_and_tokens_in_them_are_masked() {
    let settings = TelemetrySettings { log_format: LogFormat::Json, ..Default::default() };
    let text = logged(&settings, || {
        let token = "qpat_7n42DGM5Tflk9n8mt7Fhc7_canary_0aB1cD";
        tracing::info!(url = format!("http://h/?t={token}&x=1"), "asked with Bearer {token}.");
        tracing::debug!("not at this level");
    });
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["url"], "http://h/?t=[redacted]&x=1");
    assert_eq!(line["level"], "INFO");
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn a_span_at_any_level_is_the_context_of_its_lines() {
    let settings = TelemetrySettings {
        log_format: LogFormat::Json,
        log: "warn".to_owned(),
        ..Default::default()
    };
    let text = logged(&settings, || {
        let span = tracing::error_span!("call", rpc = "GetHead");
        span.in_scope(|| tracing::warn!("slow"));
    });
    assert!(text.contains("GetHead") && text.contains("slow"), "{text}");
}

#[test]
fn fields_that_come_later_stand_beside_the_first() {
    let settings = TelemetrySettings { log_format: LogFormat::Json, ..Default::default() };
    let text = logged(&settings, || {
        let (bare, later) = (tracing::field::Empty, tracing::field::Empty);
        let span =
            tracing::error_span!("call", a.b = "x\"y", n = 7_u64, s = -1.5, yes = true, later);
        span.record("later", "é\n");
        span.record("n", 8_u64);
        span.in_scope(|| tracing::info!(at = ?Some(1), "one"));
        let empty = tracing::error_span!("nothing", bare);
        empty.in_scope(|| tracing::info!("two"));
        empty.record("bare", tracing::field::debug(Some(2)));
        empty.in_scope(|| tracing::info!("three"));
    });
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wanted = serde_json::json!({
        "name": "call", "a.b": "x\"y", "n": 8, "s": -1.5, "yes": true, "later": "é\n"
    });
    assert_eq!(lines[0]["span"], wanted);
    assert_eq!(lines[1]["span"], serde_json::json!({ "name": "nothing" }));
    assert_eq!(lines[2]["span"], serde_json::json!({ "name": "nothing", "bare": "Some(2)" }));
}

#[test]
fn words_are_no_tokens() {
    for line in ["qpat_ is the prefix", "eyJust", "plain"] {
        assert_eq!(&*redact::redact(line.as_bytes()), line.as_bytes());
    }
    let jwt = b"a eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln b";
    assert_eq!(&*redact::redact(jwt), b"a [redacted] b");
}

#[test]
fn trace_context_survives_a_hop() {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let tracers = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("test"));
    let incoming = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = HeaderMap::from_iter([(
        http::HeaderName::from_static("traceparent"),
        HeaderValue::from_static(incoming),
    )]);
    let mut outgoing = HeaderMap::new();
    tracing::subscriber::with_default(Registry::default().with(layer), || {
        use tracing_opentelemetry::OpenTelemetrySpanExt as _;
        let span = tracing::info_span!("call");
        span.set_parent(extract(&headers)).unwrap();
        span.in_scope(|| inject(&mut outgoing));
    });
    let sent = outgoing["traceparent"].to_str().unwrap();
    assert!(sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{sent}");
    assert_ne!(sent, incoming);
}

/// The trace id that a call would pass on.
fn current_trace() -> String {
    let mut headers = HeaderMap::new();
    inject(&mut headers);
    headers["traceparent"].to_str().unwrap()["00-".len()..][..32].to_owned()
}

#[tokio::test]
async fn a_callee_in_memory_is_part_of_its_callers_trace() {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    {
        let tracers = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("test"));
        let _subscribed = tracing::subscriber::set_default(Registry::default().with(layer));
        callee_and_caller(true).await;
    }
    let settings = TelemetrySettings { log_format: LogFormat::Json, ..Default::default() };
    let captured = Captured::default();
    let lines = log::layer(&settings, captured.clone()).unwrap();
    let _subscribed = tracing::subscriber::set_default(Registry::default().with(lines));
    let trace = callee_and_caller(false).await;
    let line =
        captured.0.lock().unwrap().split(|byte| *byte == b'\n').rev().nth(1).unwrap().to_vec();
    let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(line["span"]["trace_id"], trace, "{line}");
}

/// Answers the last trace.
async fn callee_and_caller(is_collected: bool) -> String {
    let telemetry = telemetry();
    let measured = |role| RpcLayer::with_meter(role, &telemetry.meters.meter("test"), is_collected);
    let role = measured("catalog").layer(service_fn(|_: Request<()>| async {
        let mut response = Response::new(answer("0"));
        let elsewhere = async { current_trace() }.in_current_span();
        let trace = tokio::spawn(elsewhere).await.unwrap();
        tracing::info!("answered");
        let trace = HeaderValue::from_str(&trace).unwrap();
        response.headers_mut().insert("x-of-callee", trace);
        Ok::<_, Infallible>(response)
    }));
    let door = measured("gateway").layer(service_fn(move |request: Request<()>| {
        let role = role.clone();
        async move {
            let trace = HeaderValue::from_str(&current_trace()).unwrap();
            let mut response = role.oneshot(request).await?.map(|body| body.boxed());
            response.headers_mut().insert("x-of-caller", trace);
            Ok::<_, Infallible>(response)
        }
    }));
    let (given, mut last) = ("4bf92f3577b34da6a3ce929d0e0e4736", String::new());
    for traceparent in [Some(format!("00-{given}-00f067aa0ba902b7-01")), None] {
        let mut request = Request::builder().uri("/a.B/C").body(()).unwrap();
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        if let Some(parent) = &traceparent {
            request.headers_mut().insert("traceparent", parent.parse().unwrap());
        }
        let headers = door.clone().oneshot(request).await.unwrap().headers().clone();
        assert_eq!(headers["x-of-callee"], headers["x-of-caller"]);
        assert_eq!(headers["x-of-caller"] == given, traceparent.is_some());
        assert_ne!(headers["x-of-caller"], "0".repeat(32));
        last = headers["x-of-caller"].to_str().unwrap().to_owned();
    }
    last
}

#[tokio::test]
async fn settings_that_can_not_be_followed_are_refused_by_name() {
    let with_endpoint =
        |url: &str| TelemetrySettings { otlp_endpoint: Some(url.to_owned()), ..Default::default() };
    let error = Telemetry::build(&with_endpoint("collector:4317"), "test").unwrap_err();
    assert!(error.message().contains("telemetry.otlp_endpoint"), "{error}");
    let ratio = TelemetrySettings { trace_sample_ratio: 2.0, ..Default::default() };
    assert!(Telemetry::build(&ratio, "test").unwrap_err().message().contains("between 0 and 1"));
    let filter = TelemetrySettings { log: "a=b=c".to_owned(), ..Default::default() };
    let refused = log::layer::<Registry, _>(&filter, Captured::default());
    assert!(refused.err().unwrap().message().contains("telemetry.log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_does_not_hold_the_end_up() {
    let settings = TelemetrySettings {
        otlp_endpoint: Some("http://127.0.0.1:9".to_owned()),
        ..Default::default()
    };
    let telemetry = Telemetry::build(&settings, "test").unwrap();
    let started = std::time::Instant::now();
    telemetry.flush().await;
    assert!(started.elapsed() < EXPORT_TIME_MAX * 2);
}
