//! A span and three metrics for every call.
//!
//! `quarry_rpc_requests_total{role,service,method,code}`,
//! `quarry_rpc_duration_seconds{role,service,method}` and `quarry_rpc_in_flight{role}`
//! count gRPC calls to the end of their body; `quarry_http_requests_total{role,method,code}`
//! counts the rest. A call through the gateway is counted by each role it passes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use opentelemetry::{KeyValue, StringValue};
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{extract, propagation};

const TRACE_HEADER: &str = "traceparent";
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const DURATIONS_S: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

struct Instruments {
    requests: Counter<u64>,
    duration: Histogram<f64>,
    in_flight: UpDownCounter<i64>,
    http_requests: Counter<u64>,
}

/// Opens a span for each call and counts it. Wrap a role's routes in it.
#[derive(Clone)]
pub struct RpcLayer {
    instruments: Arc<Instruments>,
    role: &'static str,
    /// Whether spans are collected; else a call has the ids of its trace alone.
    is_collected: bool,
}

impl RpcLayer {
    /// For a role (`"catalog"`, …), measuring into the process's metrics:
    /// [`crate::start`] comes first.
    #[must_use]
    pub fn new(role: &'static str) -> Self {
        let is_collected = crate::are_spans_collected();
        Self::with_meter(role, &opentelemetry::global::meter("quarry"), is_collected)
    }

    /// Measuring into another meter.
    #[must_use]
    pub fn with_meter(role: &'static str, meter: &Meter, is_collected: bool) -> Self {
        let duration = meter
            .f64_histogram("quarry_rpc_duration")
            .with_unit("s")
            .with_boundaries(DURATIONS_S.to_vec())
            .with_description("Time from a call's start to the end of its answer");
        let instruments = Instruments {
            requests: meter
                .u64_counter("quarry_rpc_requests")
                .with_description("gRPC calls by outcome")
                .build(),
            duration: duration.build(),
            in_flight: meter
                .i64_up_down_counter("quarry_rpc_in_flight")
                .with_description("gRPC calls under way")
                .build(),
            http_requests: meter
                .u64_counter("quarry_http_requests")
                .with_description("HTTP requests that are no gRPC, by outcome")
                .build(),
        };
        Self { instruments: Arc::new(instruments), role, is_collected }
    }
}

impl<S> Layer<S> for RpcLayer {
    type Service = RpcService<S>;

    fn layer(&self, inner: S) -> RpcService<S> {
        RpcService { inner, layer: self.clone() }
    }
}

/// See [`RpcLayer`].
#[derive(Clone)]
pub struct RpcService<S> {
    inner: S,
    layer: RpcLayer,
}

impl<S, B, R> Service<Request<B>> for RpcService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<MeasuredBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut call = Call::begin(&self.layer, &request);
        let span = call.span.clone();
        let answer = span.in_scope(|| self.inner.call(request));
        let measured = async move {
            let response = match answer.await {
                Ok(response) => response,
                Err(error) => {
                    call.finish("UNAVAILABLE");
                    return Err(error);
                }
            };
            if !call.is_grpc {
                call.finish(response.status().as_str());
            } else if let Some(code) = grpc_code(response.headers()) {
                call.finish(code);
            }
            Ok(response.map(|body| MeasuredBody { body, call }))
        };
        Box::pin(measured.instrument(span))
    }
}

/// A call from its start until its answer ends or is dropped.
struct Call {
    instruments: Arc<Instruments>,
    role: &'static str,
    service: StringValue,
    method: StringValue,
    is_grpc: bool,
    is_done: bool,
    started: Instant,
    span: Span,
}

impl Call {
    fn begin<B>(layer: &RpcLayer, request: &Request<B>) -> Self {
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        let path = request.uri().path().trim_start_matches('/');
        let (service, method) = match path.split_once('/') {
            Some((service, method)) if is_grpc => (service, method),
            _ => ("http", http_method(request.method())),
        };
        let open = if layer.is_collected { open_span } else { open_plain_span };
        let span = open(layer.role, service, method, request.headers());
        if is_grpc {
            layer.instruments.in_flight.add(1, &[KeyValue::new("role", layer.role)]);
        }
        Self {
            instruments: Arc::clone(&layer.instruments),
            role: layer.role,
            // Labels of several metrics: their clones share the text.
            service: StringValue::from(Arc::<str>::from(service)),
            method: StringValue::from(Arc::<str>::from(method)),
            is_grpc,
            is_done: false,
            started: Instant::now(),
            span,
        }
    }

    fn finish(&mut self, code: &str) {
        if self.is_done {
            return;
        }
        self.is_done = true;
        // Of the trace alone: the line below has it too.
        self.span.set_attribute("code", code.to_owned());
        if code == "UNIMPLEMENTED" || code == "404" {
            // A path that nobody serves is the client's text: no label of ours.
            self.service = "unknown".into();
            self.method = "unknown".into();
        }
        let role = KeyValue::new("role", self.role);
        let method = KeyValue::new("method", self.method.clone());
        let outcome = KeyValue::new("code", code.to_owned());
        if !self.is_grpc {
            self.instruments.http_requests.add(1, &[role, method, outcome]);
            return;
        }
        let service = KeyValue::new("service", self.service.clone());
        let seconds = self.started.elapsed().as_secs_f64();
        self.instruments.duration.record(seconds, &[role.clone(), service.clone(), method.clone()]);
        self.instruments.requests.add(1, &[role.clone(), service, method, outcome]);
        self.instruments.in_flight.add(-1, &[role]);
        tracing::debug!(parent: &self.span, code, seconds, "call ended");
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.finish(if self.is_grpc { "CANCELLED" } else { "499" });
    }
}

/// At the highest level: a span is the context of the lines in it, whatever
/// level is logged. What is known of it is said at once: a field that comes later
/// costs as much as all before it.
fn span_of(
    (role, service, method): (&str, &str, &str),
    headers: &HeaderMap,
    trace: Option<TraceId>,
) -> Span {
    let id = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    tracing::error_span!(
        "call",
        otel.name = format!("{service}/{method}"),
        otel.kind = "server",
        role,
        rpc = method,
        request_id = id.and_then(|id| id.get(..id.len().min(64))),
        trace_id = trace.map(|trace| trace.to_string()),
    )
}

/// The span of a call where none is collected: nothing is made for a collector, and the trace is
/// kept beside the span.
fn open_plain_span(role: &str, service: &str, method: &str, headers: &HeaderMap) -> Span {
    if let Some(around) = propagation::kept() {
        return span_of((role, service, method), headers, Some(around.trace_id()));
    }
    let given = headers.contains_key(TRACE_HEADER).then(|| extract(headers));
    let given = given.map(|context| context.span().span_context().clone());
    let trace = given.filter(SpanContext::is_valid).unwrap_or_else(|| {
        let ids = RandomIdGenerator::default();
        let (trace, span) = (ids.new_trace_id(), ids.new_span_id());
        SpanContext::new(trace, span, TraceFlags::NOT_SAMPLED, false, TraceState::NONE)
    });
    let span = span_of((role, service, method), headers, Some(trace.trace_id()));
    propagation::keep(&span, trace);
    span
}

fn open_span(role: &str, service: &str, method: &str, headers: &HeaderMap) -> Span {
    // Of a callee in this process the caller's span is around it, and is its parent
    // already: what the headers say of the trace is older or the same.
    let around = Span::current().context();
    let is_within = around.span().span_context().is_valid();
    let parent = if is_within { around } else { extract(headers) };
    let joined = parent.span().span_context().trace_id();
    let is_joined = joined != TraceId::INVALID;
    let span = span_of((role, service, method), headers, is_joined.then_some(joined));
    // Without the trace layer there is nothing to join.
    if !is_within && span.set_parent(parent).is_ok() && !is_joined {
        let begun = span.context().span().span_context().trace_id();
        span.record("trace_id", begun.to_string());
    }
    span
}

fn http_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn grpc_code(headers: &HeaderMap) -> Option<&'static str> {
    let status = headers.get("grpc-status")?;
    let number: Option<usize> = status.to_str().ok().and_then(|text| text.parse().ok());
    Some(number.and_then(|number| CODES.get(number).copied()).unwrap_or("UNKNOWN"))
}

/// A response body whose end is the end of the call.
pub struct MeasuredBody<R> {
    body: R,
    call: Call,
}

impl<R: Body + Unpin> Body for MeasuredBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let this = self.get_mut();
        let entered = this.call.span.enter();
        let polled = Pin::new(&mut this.body).poll_frame(task);
        drop(entered);
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.finish(grpc_code(trailers).unwrap_or("UNKNOWN"));
                }
            }
            Some(Err(_)) | None => this.call.finish("UNKNOWN"),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
