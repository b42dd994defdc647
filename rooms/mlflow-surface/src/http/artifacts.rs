//! Lists of files, deletion, and uploads in parts.

use axum::body::{Body, Bytes};
use axum::http::Response;
use mlflow_wire::artifacts::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload,
    ListArtifacts as ListOfPath, MultipartUploadCredential, abort_multipart_upload,
    complete_multipart_upload, create_multipart_upload, delete_artifact,
    list_artifacts as list_of_path,
};
use mlflow_wire::path::{normal, safe};
use mlflow_wire::proto::{
    CreatePresignedDownloadUrl, CreatePresignedUploadUrl, FileInfo, ListArtifacts, list_artifacts,
};
use mlflow_wire::routes::Operation as Op;
use mlflow_wire::{Check, MlflowError, Result, Schema, artifacts as wire};
use options_api::v1::Level;
use serde_json::json;

use super::asked::{Asked, answer as render, json as as_json};
use super::source::tree_path;
use super::unserved;
use crate::app::{Purpose, Ticket, TreeEntry};

const PARTS: Schema = &[("path", &[Check::Required, Check::Str]), ("num_parts", &[Check::Int])];
const COMPLETED: Schema = &[
    ("path", &[Check::Required, Check::Str]),
    ("upload_id", &[Check::Str]),
    ("parts", &[Check::Required]),
];
const ENDED: Schema = &[("path", &[Check::Required, Check::Str]), ("upload_id", &[Check::Str])];

pub async fn answer(asked: &Asked) -> Result<Response<Body>> {
    match asked.route.operation {
        Op::ListArtifacts => of_run(asked).await,
        Op::ListArtifactsOfPath => of_path(asked).await,
        Op::DeleteArtifact => delete(asked).await,
        Op::CreateMultipartUpload => create_parts(asked).await,
        Op::CompleteMultipartUpload => complete_parts(asked).await,
        Op::AbortMultipartUpload => abort_parts(asked).await,
        Op::GetPresignedDownloadUrl => presigned(asked).await,
        Op::CreatePresignedUploadUrl => presigned_upload(asked).await,
        Op::CreatePresignedDownloadUrl => presigned_download(asked).await,
        _ => Err(unserved(asked)),
    }
}

/// The path of a file as a request names it, safe and in its one spelling.
///
/// # Errors
/// "Invalid path".
pub fn file_path(asked: &Asked) -> Result<String> {
    Ok(normal(&safe(asked.part(0))?))
}

async fn entries(asked: &Asked, below: &str) -> Result<Vec<TreeEntry>> {
    let namespace = asked.namespace().await?;
    Ok(asked.surface.registry.list_tree(asked.caller()?, &namespace, below).await?)
}

async fn of_path(asked: &Asked) -> Result<Response<Body>> {
    let message: ListOfPath = asked.read(&[])?;
    let below = normal(&safe(message.path())?);
    let files = entries(asked, &below).await?.into_iter().map(|entry| wire::FileInfo {
        path: entry.path.rsplit('/').next().map(str::to_owned),
        is_dir: Some(entry.byte_count.is_none()),
        file_size: entry.byte_count.filter(|bytes| *bytes > 0),
    });
    render(&list_of_path::Response { files: files.collect() })
}

async fn of_run(asked: &Asked) -> Result<Response<Body>> {
    let message: ListArtifacts = asked.read(&[
        ("run_id", &[Check::Str, Check::Required]),
        ("path", &[Check::Str]),
        ("page_token", &[Check::Str]),
    ])?;
    if let Some(path) = &message.path {
        safe(path)?;
    }
    let scope = asked.scope().await?;
    let id = if message.run_id().is_empty() { message.run_uuid() } else { message.run_id() };
    let run = asked.surface.tracking.get_run(&scope, id).await?;
    let root = run.info.and_then(|info| info.artifact_uri).unwrap_or_default();
    list_below(asked, &root, message.path.as_deref()).await
}

/// What lies below the root of a run's or a logged model's files.
///
/// # Errors
/// A path that leaves the root.
pub async fn list_below(asked: &Asked, root: &str, path: Option<&str>) -> Result<Response<Body>> {
    let path = normal(&safe(path.unwrap_or_default())?);
    let mut files = Vec::new();
    if let Some(place) = tree_path(root) {
        let below = normal(&format!("{place}/{path}"));
        for entry in entries(asked, &below).await? {
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            files.push(FileInfo {
                path: Some(normal(&format!("{path}/{name}"))),
                is_dir: Some(entry.byte_count.is_none()),
                file_size: entry.byte_count.filter(|bytes| *bytes > 0),
            });
        }
    }
    render(&list_artifacts::Response {
        root_uri: Some(root.to_owned()),
        files,
        next_page_token: None,
    })
}

async fn delete(asked: &Asked) -> Result<Response<Body>> {
    let path = file_path(asked)?;
    let namespace = asked.namespace().await?;
    asked.surface.registry.remove_tree(asked.caller()?, &namespace, &path).await?;
    render(&delete_artifact::Response {})
}

/// The file of an upload in parts: `path` may be one of the client's own disk,
/// of which its last name counts.
fn parts_path(asked: &Asked, path: &str) -> Result<String> {
    let directory = file_path(asked)?;
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = safe(name)?;
    if name.is_empty() || name.contains('/') {
        return Err(MlflowError::invalid("Invalid path"));
    }
    Ok(normal(&format!("{directory}/{name}")))
}

async fn create_parts(asked: &Asked) -> Result<Response<Body>> {
    let message: CreateMultipartUpload = asked.read(PARTS)?;
    let path = parts_path(asked, message.path())?;
    let scope = asked.scope_for(Level::Write).await?;
    let registry = &asked.surface.registry;
    let caller = asked.caller()?;
    let count = message.num_parts();
    let upload = registry.begin_tree_parts(caller, scope.namespace, &path, count).await?;
    let origin = asked.origin();
    let mut credentials = Vec::new();
    for number in 1..=count {
        let ticket = Ticket::new(Purpose::Part { upload, number });
        credentials.push(MultipartUploadCredential {
            url: Some(asked.surface.address(&origin, &ticket).await?),
            part_number: Some(number),
            headers: std::collections::HashMap::new(),
        });
    }
    render(&create_multipart_upload::Response {
        upload_id: Some(upload.simple().to_string()),
        credentials,
    })
}

fn upload_id(text: &str) -> Result<uuid::Uuid> {
    text.parse().map_err(|_| {
        MlflowError::missing(format!("There is no multipart upload with the ID '{text}'."))
    })
}

async fn complete_parts(asked: &Asked) -> Result<Response<Body>> {
    let message: CompleteMultipartUpload = asked.read(COMPLETED)?;
    let path = parts_path(asked, message.path())?;
    let parts: Vec<(i64, String)> =
        message.parts.iter().map(|part| (part.part_number(), part.etag().to_owned())).collect();
    let upload = upload_id(message.upload_id())?;
    let registry = &asked.surface.registry;
    registry.complete_tree_parts(asked.caller()?, upload, &path, &parts).await?;
    render(&complete_multipart_upload::Response {})
}

async fn abort_parts(asked: &Asked) -> Result<Response<Body>> {
    let message: AbortMultipartUpload = asked.read(ENDED)?;
    let upload = upload_id(message.upload_id())?;
    asked.surface.registry.abort_tree_parts(asked.caller()?, upload).await?;
    render(&abort_multipart_upload::Response {})
}

/// An address from which a file can be fetched by ranges without a token.
async fn presigned(asked: &Asked) -> Result<Response<Body>> {
    let path = file_path(asked)?;
    let namespace = asked.namespace().await?;
    let registry = &asked.surface.registry;
    let (entry, _) =
        registry.open_tree_file(asked.caller()?, &namespace, &path, Some(0..0)).await?;
    let purpose = registry.fetching(asked.caller()?, &namespace, &path).await?;
    let ticket = Ticket::new(purpose);
    let url = asked.surface.address(&asked.origin(), &ticket).await?;
    let answer = json!({ "url": url, "headers": {}, "file_size": entry.byte_count });
    Ok(as_json(Bytes::from(answer.to_string())))
}

fn not_proxied(what: &str, place: &str) -> MlflowError {
    MlflowError::invalid(format!(
        "Presigned {what} is not supported for {place} (artifact URI scheme: mlflow-artifacts). This endpoint requires \
         a {}direct cloud storage artifact URI.",
        if what == "download" { "run with a " } else { "" }
    ))
}

async fn presigned_upload(asked: &Asked) -> Result<Response<Body>> {
    let message: CreatePresignedUploadUrl = asked.read(&[
        ("run_id", &[Check::Str]),
        ("model_id", &[Check::Str]),
        ("path", &[Check::Required, Check::Str]),
        ("expiration", &[Check::Int]),
    ])?;
    if message.run_id().is_empty() == message.model_id().is_empty() {
        return Err(MlflowError::invalid("Exactly one of run_id and model_id must be provided."));
    }
    safe(message.path())?;
    let scope = asked.scope().await?;
    let tracking = &asked.surface.tracking;
    if message.run_id().is_empty() {
        tracking.get_logged_model(&scope, message.model_id(), false).await?;
    } else {
        tracking.get_run(&scope, message.run_id()).await?;
    }
    Err(not_proxied("upload", "proxied artifact storage"))
}

async fn presigned_download(asked: &Asked) -> Result<Response<Body>> {
    let message: CreatePresignedDownloadUrl = asked.read(&[
        ("run_id", &[Check::Required, Check::Str]),
        ("path", &[Check::Required, Check::Str]),
        ("expiration", &[Check::Int]),
    ])?;
    safe(message.path())?;
    let expiration = message.expiration.unwrap_or(900);
    if !(1..=604_800).contains(&expiration) {
        return Err(MlflowError::invalid(format!(
            "expiration must be between 1 and 604800 seconds (got {expiration})."
        )));
    }
    let scope = asked.scope().await?;
    asked.surface.tracking.get_run(&scope, message.run_id()).await?;
    Err(not_proxied("download", "runs with proxied artifact storage"))
}
