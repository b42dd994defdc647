//! The operations door: health, readiness and metrics of a process, on a port
//! of its own that needs no token.

mod health;
mod readiness;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use service_channel::Readiness;
use tokio_util::sync::CancellationToken;

pub use health::health;
pub use readiness::{CheckReport, Report};

/// Whether the process is going away. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Drain(CancellationToken);

impl Drain {
    /// A process that stays.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the process is not ready: load balancers stop sending, and
    /// the doors can close a little later.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }
}

impl From<CancellationToken> for Drain {
    fn from(token: CancellationToken) -> Self {
        Self(token)
    }
}

/// The routes of the operations door. `metrics` gives Prometheus text.
pub fn router<M>(readiness: Vec<Readiness>, metrics: M, drain: Drain) -> Router
where
    M: Fn() -> String + Clone + Send + Sync + 'static,
{
    let grpc = health(&[], readiness.clone(), drain.clone());
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route(
            "/readyz",
            get(async move || {
                let report = readiness::report(&readiness, &drain).await;
                ready_response(&report)
            }),
        )
        .route(
            "/metrics",
            get(async move || {
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics())
            }),
        )
        .route_service("/grpc.health.v1.Health/{*method}", grpc)
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                "this door answers /healthz, /readyz, /metrics and grpc.health.v1\n",
            )
        })
}

fn ready_response(report: &Report) -> Response {
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report)).into_response()
}

#[cfg(test)]
mod tests;
