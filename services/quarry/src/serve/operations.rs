//! The operations door of the process. It opens first and closes last, and
//! learns what "ready" means once the roles are built.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use http::Request;
use ops_door::{Drain, router};
use service_channel::{DoorSettings, Readiness, Transport, from_router, serve};
use telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// The open door.
pub struct OperationsDoor {
    current: Arc<RwLock<Router>>,
    /// What a process that starts waits for.
    waits_for: Arc<RwLock<String>>,
    drain: Drain,
    telemetry: Telemetry,
    closing: CancellationToken,
    served: JoinHandle<()>,
}

impl OperationsDoor {
    /// Opens it for a process that starts: alive, not ready.
    pub fn open(listener: TcpListener, telemetry: &Telemetry) -> Self {
        let drain = Drain::new();
        let waits_for = Arc::new(RwLock::new("the roles are starting".to_owned()));
        let why = Arc::clone(&waits_for);
        let starting = Readiness::new("start", move || {
            let why = why.read().unwrap_or_else(PoisonError::into_inner).clone();
            async move { Err(why) }
        });
        let current = Arc::new(RwLock::new(routes(vec![starting], telemetry, &drain)));
        let closing = CancellationToken::new();
        let settings = DoorSettings {
            concurrent_streams_max: 100,
            grace: Duration::from_secs(1),
            parting: Duration::from_millis(100),
            ..DoorSettings::default()
        };
        let served = tokio::spawn(serve(
            listener,
            changing(Arc::clone(&current)),
            settings,
            closing.clone(),
        ));
        Self { current, waits_for, drain, telemetry: telemetry.clone(), closing, served }
    }

    /// Says what the process waits for before its roles can start.
    pub fn waiting_for(&self, what: &str) {
        let mut waits_for = self.waits_for.write().unwrap_or_else(PoisonError::into_inner);
        what.clone_into(&mut waits_for);
    }

    /// From now on the process is ready when all of `readiness` holds.
    pub fn ready_when(&self, readiness: Vec<Readiness>) {
        let routes = routes(readiness, &self.telemetry, &self.drain);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = routes;
    }

    /// From now on the process is not ready.
    pub fn drain(&self) {
        self.drain.begin();
    }

    /// Closes the door.
    pub async fn close(self) {
        self.closing.cancel();
        if let Err(error) = self.served.await {
            tracing::error!(%error, "the operations door ended by a defect");
        }
    }
}

fn routes(readiness: Vec<Readiness>, telemetry: &Telemetry, drain: &Drain) -> Router {
    let telemetry = telemetry.clone();
    router(readiness, move || telemetry.metrics_text(), drain.clone())
}

/// A callee whose routes may change between two calls.
fn changing(current: Arc<RwLock<Router>>) -> Transport {
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let router = current.read().unwrap_or_else(PoisonError::into_inner).clone();
        from_router(router).oneshot(request)
    }))
}
