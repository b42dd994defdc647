//! Addresses that need no token, because they carry a sealed ticket: one part
//! of an upload, or one file, until a time.

use axum::body::Body;
use axum::http::header::{ETAG, RANGE};
use axum::http::{HeaderValue, Response};
use ids::NamespaceId;
use mlflow_wire::{ErrorCode, MlflowError, Result};

use super::Surface;
use super::asked::Asked;
use super::files::{absent, file, pieces_of, wanted};
use crate::app::{Purpose, Ticket};

impl Surface {
    /// The address of a ticket.
    ///
    /// # Errors
    /// The database's, where the key is.
    pub async fn address(&self, origin: &str, ticket: &Ticket) -> Result<String> {
        Ok(format!("{origin}{}", self.registry.ticket_address(ticket).await?))
    }
}

fn refused() -> MlflowError {
    MlflowError::new(
        ErrorCode::PermissionDenied,
        "The address is not valid or no longer: ask for another one.",
    )
}

async fn purpose(asked: &Asked) -> Result<Purpose> {
    asked.surface.registry.redeem(asked.part(0)).await?.ok_or_else(refused)
}

pub async fn upload(mut asked: Asked) -> Result<Response<Body>> {
    let purpose = purpose(&asked).await?;
    let pieces = pieces_of(asked.take_stream());
    let registry = &asked.surface.registry;
    let mut response = Response::new(Body::empty());
    match purpose {
        Purpose::Part { upload, number } => {
            let digest = registry.put_tree_part(upload, number, pieces).await?;
            if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", hex::encode(digest))) {
                response.headers_mut().insert(ETAG, value);
            }
        }
        Purpose::UploadPart { signer, upload, file, part } => {
            registry.redeem_part(signer, upload, (file, part), pieces).await?;
        }
        Purpose::File { .. } | Purpose::VersionFile { .. } => return Err(refused()),
    }
    Ok(response)
}

pub async fn download(asked: Asked) -> Result<Response<Body>> {
    let registry = &asked.surface.registry;
    let entry = match purpose(&asked).await? {
        Purpose::File { namespace, path } => {
            let namespace = NamespaceId::from_uuid(namespace);
            registry.signed_file(namespace, &path).await.map_err(absent(&path))?
        }
        Purpose::VersionFile { signer, model, version, path } => {
            registry.redeem_file(signer, model, version, &path).await.map_err(absent(&path))?
        }
        Purpose::Part { .. } | Purpose::UploadPart { .. } => return Err(refused()),
    };
    let range = match asked.header(&RANGE) {
        Some(range) => wanted(range, entry.byte_count)?,
        None => None,
    };
    let pieces = registry.bytes_of(&entry, range.clone()).await?;
    Ok(file(&entry, range, pieces))
}
