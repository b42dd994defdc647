//! `grpc.health.v1` with the verdict of the readiness checks.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use service_channel::Readiness;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::Drain;
use crate::readiness::report;

/// How often a watched verdict is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The health service of a door. It knows the whole (`""`) and `services`, all
/// with one verdict.
#[must_use]
pub fn health(
    services: &[String],
    readiness: Vec<Readiness>,
    drain: Drain,
) -> HealthServer<impl Health + use<>> {
    HealthServer::new(Service {
        state: Arc::new(State { services: services.to_vec(), readiness, drain }),
    })
}

struct Service {
    state: Arc<State>,
}

struct State {
    services: Vec<String>,
    readiness: Vec<Readiness>,
    drain: Drain,
}

impl State {
    async fn verdict(&self) -> ServingStatus {
        if report(&self.readiness, &self.drain).await.ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }

    fn knows(&self, service: &str) -> bool {
        service.is_empty() || self.services.iter().any(|known| known == service)
    }

    async fn changed(&self, from: ServingStatus) -> ServingStatus {
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = self.drain.begun() => return ServingStatus::NotServing,
            }
            let now = self.verdict().await;
            if now != from {
                return now;
            }
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !self.state.knows(&request.get_ref().service) {
            return Err(Status::not_found("no such service at this door"));
        }
        Ok(Response::new(answer(self.state.verdict().await)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let state = Arc::clone(&self.state);
        if !state.knows(&request.get_ref().service) {
            // The protocol answers an unknown service so, and stays open.
            let unknown =
                stream::iter([Ok(answer(ServingStatus::ServiceUnknown))]).chain(stream::pending());
            return Ok(Response::new(unknown.take_until(until_drained(state)).boxed()));
        }
        let verdicts = stream::unfold((state, None), |(state, last)| async move {
            let next = match last {
                None => state.verdict().await,
                // The last word; the stream must not hold up the door.
                Some(_) if state.drain.has_begun() => return None,
                Some(last) => state.changed(last).await,
            };
            Some((Ok(answer(next)), (state, Some(next))))
        });
        Ok(Response::new(verdicts.boxed()))
    }
}

async fn until_drained(state: Arc<State>) {
    state.drain.begun().await;
}
