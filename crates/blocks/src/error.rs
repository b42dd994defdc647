//! What Parquet's and Arrow's failures mean to a caller.

use std::error::Error as StdError;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use service_error::ServiceError;
use tokio::task::JoinError;

/// A failure to read a block: its bytes are not what was written, unless the
/// object store itself failed below.
#[must_use]
pub fn parquet_error(key: &str, error: ParquetError) -> ServiceError {
    match service_cause(&error) {
        Some(known) => known,
        None => damaged(key, &error).caused_by(error),
    }
}

pub(crate) fn arrow_error(key: &str, error: ArrowError) -> ServiceError {
    match service_cause(&error) {
        Some(known) => known,
        None => damaged(key, &error).caused_by(error),
    }
}

pub(crate) fn damaged(key: &str, why: impl std::fmt::Display) -> ServiceError {
    let message =
        format!("block {key} is damaged ({why}); restore it from a backup or delete the version");
    ServiceError::data_loss(message).reason("BLOCK_DAMAGED").with("block", key)
}

/// An error of ours that travelled through Parquet's.
fn service_cause(error: &(dyn StdError + 'static)) -> Option<ServiceError> {
    let mut cause = Some(error);
    while let Some(next) = cause {
        if let Some(known) = next.downcast_ref::<ServiceError>() {
            let mut copy =
                ServiceError::new(known.code(), known.message()).reason(known.reason_text());
            for (key, value) in known.details() {
                copy = copy.with(key, value);
            }
            return Some(copy);
        }
        cause = next.source();
    }
    None
}

/// A decoder that panicked met bytes that no writer makes.
pub(crate) fn decoding(key: &str, error: JoinError) -> ServiceError {
    if error.is_panic() {
        damaged(key, "the decoder gave up").caused_by(error)
    } else {
        ServiceError::new(service_error::Code::Cancelled, "the read was cancelled")
    }
}
