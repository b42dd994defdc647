//! W3C trace context in HTTP headers, in and out.

use std::task::{Context as TaskContext, Poll};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tower::{Layer, Service};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan as _;

/// The trace that a request belongs to.
#[must_use]
pub fn extract(headers: &HeaderMap) -> Context {
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&Incoming(headers))
    })
}

/// A trace that goes through a span while no spans are collected: all of it that is then wanted.
struct Passing(SpanContext);

/// Says which trace a span belongs to, and what is in it.
pub(crate) fn keep(span: &Span, trace: SpanContext) {
    span.with_subscriber(|(id, dispatch)| {
        if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|spans| spans.span(id)) {
            span.extensions_mut().replace(Passing(trace));
        }
    });
}

/// The trace that was kept for the current span, or for one around it.
pub(crate) fn kept() -> Option<SpanContext> {
    let trace = Span::current().with_subscriber(|(id, dispatch)| {
        let mut around = dispatch.downcast_ref::<Registry>()?.span(id)?.scope();
        around.find_map(|span| span.extensions().get::<Passing>().map(|trace| trace.0.clone()))
    });
    trace.flatten()
}

/// Writes the current span's trace into the headers of an outgoing request.
pub fn inject(headers: &mut HeaderMap) {
    let context = match kept() {
        Some(trace) => Context::new().with_remote_span_context(trace),
        None => Span::current().context(),
    };
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Outgoing(headers));
    });
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let parsed = (HeaderName::try_from(key), HeaderValue::try_from(value));
        if let (Ok(name), Ok(value)) = parsed {
            self.0.insert(name, value);
        }
    }
}

/// Passes the current trace on with every request of a client.
#[derive(Debug, Clone, Copy, Default)]
pub struct InjectLayer;

impl<S> Layer<S> for InjectLayer {
    type Service = InjectService<S>;

    fn layer(&self, inner: S) -> InjectService<S> {
        InjectService { inner }
    }
}

/// See [`InjectLayer`].
#[derive(Debug, Clone)]
pub struct InjectService<S> {
    inner: S,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for InjectService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, task: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        inject(request.headers_mut());
        self.inner.call(request)
    }
}
