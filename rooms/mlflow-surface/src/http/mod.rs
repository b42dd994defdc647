//! MLflow's REST surface, on the same use cases as gRPC. The rows of
//! `mlflow_wire::routes` say what is served and what it needs; what is no row
//! is refused.

mod artifacts;
mod asked;
mod convert;
mod experiments;
mod files;
mod logged_models;
mod measured;
mod model_versions;
mod registered_models;
mod runs;
mod server;
mod signed;
mod source;
mod webhooks;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use caller::Gate;
use mlflow_wire::routes::{Found, Need, Operation as Op, Route, find};
use mlflow_wire::{ErrorCode, MlflowError, Result};
use options_api::v1::{Authz, Role};
use service_error::Code;
use tracking::Tracking;

use crate::app::Registry;

use asked::Asked;

/// What the surface works with.
#[derive(Clone)]
pub struct Surface {
    registry: Registry,
    tracking: Tracking,
    gate: Gate,
}

impl Surface {
    /// On the registry's use cases, behind a gate.
    #[must_use]
    pub const fn new(registry: Registry, tracking: Tracking, gate: Gate) -> Self {
        Self { registry, tracking, gate }
    }

    /// As plain HTTP.
    pub fn router(self) -> axum::Router {
        let surface = Arc::new(self);
        axum::Router::new().fallback_service(tower::service_fn(move |request: Request<Body>| {
            let surface = Arc::clone(&surface);
            async move { Ok::<_, Infallible>(surface.answer(request).await) }
        }))
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let answer = match find(&method, &path) {
            Found::Route(route, parts) => Box::pin(self.admitted(route, parts, request)).await,
            Found::OtherMethod => Err(MlflowError::new(
                ErrorCode::EndpointNotFound,
                format!("{method} is not offered at {}", shown(&path)),
            )
            .with_status(StatusCode::METHOD_NOT_ALLOWED)),
            Found::Nothing => Err(MlflowError::new(
                ErrorCode::EndpointNotFound,
                format!("there is no {}", shown(&path)),
            )),
        };
        let response = answer.unwrap_or_else(|error| told(&path, &error));
        if method == Method::HEAD { response.map(|_| Body::empty()) } else { response }
    }

    async fn admitted(
        &self,
        route: &'static Route,
        parts: Vec<String>,
        request: Request<Body>,
    ) -> Result<Response<Body>> {
        // Files' paths say so in words of their own.
        if !route.path.ends_with("*}") && parts.iter().any(|part| part.contains("%00")) {
            return Err(MlflowError::invalid("The path cannot contain a NUL character."));
        }
        let need = need_of(route.need);
        let caller = self.gate.admit(&need, route.path, request.headers()).await?;
        let asked = Asked::new(self.clone(), route, parts, caller, request);
        dispatch(asked).await
    }
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

/// An error as its answer; a defect of ours is logged here, once.
fn told(path: &str, error: &MlflowError) -> Response<Body> {
    if let Some(cause) = error.cause()
        && matches!(cause.code(), Code::Internal | Code::DataLoss)
    {
        let source = std::error::Error::source(cause).map(ToString::to_string);
        tracing::error!(path, error = %cause, source, "a call failed");
    }
    error.response().map(Body::from)
}

fn need_of(need: Need) -> Authz {
    match need {
        Need::Open => Authz { public: true, ..Authz::default() },
        Need::Read => Authz { role: Role::Viewer as i32, read_only: true, ..Authz::default() },
        Need::Write => Authz { role: Role::User as i32, ..Authz::default() },
    }
}

/// Files stream; of everything else the whole body is read first.
async fn dispatch(asked: Asked) -> Result<Response<Body>> {
    match asked.route.operation {
        Op::Health => Ok(server::health()),
        Op::Version => Ok(server::version()),
        Op::UploadArtifact => files::upload(asked).await,
        Op::DownloadArtifact => files::download(asked).await,
        Op::UploadSigned => signed::upload(asked).await,
        Op::DownloadSigned => signed::download(asked).await,
        _ => {
            let asked = asked.whole().await?;
            match asked.route.operation {
                Op::CreateLoggedModel
                | Op::SearchLoggedModels
                | Op::GetLoggedModel
                | Op::FinalizeLoggedModel
                | Op::DeleteLoggedModel
                | Op::SetLoggedModelTags
                | Op::DeleteLoggedModelTag
                | Op::LogLoggedModelParams
                | Op::ListLoggedModelArtifacts => logged_models::answer(&asked).await,
                Op::CreateWebhook
                | Op::ListWebhooks
                | Op::GetWebhook
                | Op::UpdateWebhook
                | Op::DeleteWebhook
                | Op::TestWebhook => webhooks::answer(&asked).await,
                _ => of_nouns(&asked).await,
            }
        }
    }
}

async fn of_nouns(asked: &Asked) -> Result<Response<Body>> {
    let path = asked.route.path;
    if path.contains("/registered-models/") {
        registered_models::answer(asked).await
    } else if path.contains("/model-versions/") {
        model_versions::answer(asked).await
    } else if path.contains("/experiments/") {
        experiments::answer(asked).await
    } else if path.contains("/runs/") || path.contains("/metrics/") {
        runs::answer(asked).await
    } else if path.contains("artifacts/") || path.ends_with("/artifacts") {
        artifacts::answer(asked).await
    } else {
        server::answer(asked).await
    }
}

/// A row whose operation its noun does not know.
fn unserved(asked: &Asked) -> MlflowError {
    MlflowError::new(
        ErrorCode::NotImplemented,
        format!("{:?} is not offered here", asked.route.operation),
    )
}
