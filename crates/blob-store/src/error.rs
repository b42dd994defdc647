//! What the object store's failures mean to a caller.

use std::error::Error as StdError;
use std::io;

use object_store::Error;
use service_error::ServiceError;

/// An object store's failure as the platform's error: absent objects are
/// `NotFound`, a full disk is `ResourceExhausted`, refused credentials and
/// directories are `FailedPrecondition`, the rest is `Unavailable`.
#[must_use]
pub fn object_error(error: Error) -> ServiceError {
    let mapped = match &error {
        Error::NotFound { path, .. } => ServiceError::not_found("object", path),
        Error::AlreadyExists { path, .. } => ServiceError::already_exists("object", path),
        Error::Precondition { path, .. } | Error::NotModified { path, .. } => {
            ServiceError::conflict(format!("object {path} was changed meanwhile"))
                .reason("OBJECT_CHANGED")
        }
        Error::InvalidPath { source } => {
            ServiceError::invalid("key", source).reason("INVALID_OBJECT_KEY")
        }
        Error::PermissionDenied { path, .. } | Error::Unauthenticated { path, .. } => {
            let message = format!(
                "the object store refused access to {path}: check its credentials and policy"
            );
            ServiceError::precondition(message).reason("OBJECT_STORE_REFUSED")
        }
        Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            ServiceError::unimplemented("this object store does not offer the operation")
        }
        other => from_io(other).unwrap_or_else(|| {
            let message = format!("the object store does not answer: {}", innermost(other));
            ServiceError::unavailable(message).reason("OBJECT_STORE_AWAY")
        }),
    };
    mapped.caused_by(error)
}

/// The operating system's own reason, where one is at the bottom.
fn from_io(error: &Error) -> Option<ServiceError> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<io::Error>() {
            return match found.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                    ServiceError::exhausted(
                        "the disk of the object store is full: free space or move it",
                    )
                    .reason("OBJECT_STORE_FULL"),
                ),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    let message = format!("{error}: the server's user may not write there");
                    Some(ServiceError::precondition(message).reason("OBJECT_STORE_REFUSED"))
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Some(
                    ServiceError::precondition(error.to_string()).reason("OBJECT_STORE_REFUSED"),
                ),
                _ => None,
            };
        }
        next = cause.source();
    }
    None
}

/// The last cause, which names the host or the refusal; the ones around it
/// repeat the request.
fn innermost(error: &Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
