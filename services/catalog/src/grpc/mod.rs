//! The wire: requests into use cases, outcomes into messages.

mod datasets;
mod garbage;
mod manifest;
mod namespaces;
mod value;

use std::str::FromStr;

use prost_types::Timestamp;
use service_error::{Code, ServiceError};
use tonic::{Response, Status};

pub use datasets::Datasets;
pub use garbage::Garbage;
pub use manifest::Manifest;
pub use namespaces::Namespaces;

/// Answers an outcome. A defect of ours is logged here, once, with its cause.
fn answer<T>(outcome: Result<T, ServiceError>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| {
        if matches!(error.code(), Code::Internal | Code::DataLoss) {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "a call failed");
        }
        Status::from(error)
    })
}

/// A microsecond time as the wire has it.
fn timestamp(micros: i64) -> Option<Timestamp> {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Some(Timestamp { seconds: micros.div_euclid(1_000_000), nanos })
}

/// An id in a field of a request.
fn parse_id<T: FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<T, ServiceError> {
    text.parse().map_err(|error| ServiceError::invalid(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_order() {
        assert_eq!(timestamp(-1), Some(Timestamp { seconds: -1, nanos: 999_999_000 }));
        assert_eq!(timestamp(1_500_000), Some(Timestamp { seconds: 1, nanos: 500_000_000 }));
    }
}
