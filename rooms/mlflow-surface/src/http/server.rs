//! What the server is.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use mlflow_wire::path::unescape;
use mlflow_wire::proto::{Workspace, get_workspace};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::{MlflowError, Result};
use options_api::v1::Level;
use serde_json::json;
use service_error::Code;

use super::asked::{Asked, answer as render, json as as_json};
use super::unserved;

/// The release of MLflow whose contract is spoken.
const MLFLOW_VERSION: &str = "3.17.2";

fn text(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    let plain = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

pub fn health() -> Response<Body> {
    text("OK")
}

pub fn version() -> Response<Body> {
    text(MLFLOW_VERSION)
}

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    match asked.route.operation {
        Op::ServerInfo => Ok(info()),
        Op::GetWorkspace => workspace(asked).await,
        _ => Err(unserved(asked)),
    }
}

/// What lets the client send large files in parts and fetch them by ranges.
fn info() -> Response<Body> {
    let info = json!({
        "store_type": "SqlStore",
        "workspaces_enabled": true,
        "trace_archival_enabled": false,
        "multipart_uploads_enabled": true,
        "multipart_downloads_enabled": true,
        "presigned_upload_run_id_supported": true,
        "presigned_upload_model_id_supported": true,
        "features_enabled": { "gateway": false },
    });
    as_json(Bytes::from(info.to_string()))
}

async fn workspace(asked: &Asked) -> Result<Response<Body>> {
    let name = unescape(asked.part(0)).unwrap_or_default();
    let registry = &asked.surface.registry;
    let found = registry.namespace_id(asked.caller()?, Level::Read, &name, asked.route.path).await;
    found.map_err(|error| match error.code() {
        Code::NotFound => MlflowError::missing(format!("Workspace '{name}' not found")),
        _ => error.into(),
    })?;
    let workspace = Some(Workspace { name: Some(name), ..Workspace::default() });
    render(&get_workspace::Response { workspace })
}
