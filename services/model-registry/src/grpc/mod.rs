//! The wire: requests into use cases, outcomes into messages.

mod artifacts;
mod events;
mod lifecycle;
mod models;
mod trust;
mod versions;

use std::str::FromStr;

use prost_types::Timestamp;
use service_error::{Code, ServiceError};
use tonic::{Response, Status};

pub use artifacts::Artifacts;
pub use events::Events;
pub use lifecycle::Lifecycle;
pub use models::Models;
pub use trust::Trust;
pub use versions::Versions;

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

/// A time of the wire in microseconds.
fn micros(field: &str, time: &Timestamp) -> Result<i64, ServiceError> {
    let micros = time
        .seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000));
    micros.ok_or_else(|| ServiceError::invalid(field, "is no time that can be stored"))
}

/// An id in a field of a request.
fn parse_id<T: FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<T, ServiceError> {
    text.parse().map_err(|error| ServiceError::invalid(field, error))
}

/// A filter in a request.
fn filter(
    text: &str,
    subject: model_query::Subject,
) -> Result<Option<model_query::Expr>, ServiceError> {
    model_query::parse(text, subject).map_err(|error| ServiceError::invalid("filter", error))
}

/// `column`, `column asc` or `column desc`.
fn order_by(text: &str) -> Result<(&str, bool), ServiceError> {
    let mut words = text.split_whitespace();
    let column = words.next().unwrap_or_default();
    let descending = match words.next().map(str::to_ascii_lowercase).as_deref() {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(ServiceError::invalid("order_by", "expected asc or desc")),
    };
    if words.next().is_some() {
        return Err(ServiceError::invalid("order_by", "names more than one column"));
    }
    Ok((column, descending))
}
