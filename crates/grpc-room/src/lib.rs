//! What the rooms that speak gRPC do alike: answers, times and ids.

use std::error::Error as _;
use std::fmt::Display;
use std::str::FromStr;

use prost_types::Timestamp;
use service_error::{Code, ServiceError};
use tonic::{Response, Status};

/// Answers an outcome. A defect of ours is logged here, once, with its cause.
///
/// # Errors
/// The outcome's.
pub fn answer<T>(outcome: Result<T, ServiceError>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| {
        if matches!(error.code(), Code::Internal | Code::DataLoss) {
            let cause = error.source().map(ToString::to_string);
            tracing::error!(%error, cause, "a call failed");
        }
        Status::from(error)
    })
}

/// A time in microseconds UTC as the wire has it.
#[must_use]
pub fn timestamp(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// A time of the wire in microseconds UTC.
///
/// # Errors
/// `INVALID_ARGUMENT` for `field` when it does not fit 64 bits.
pub fn micros(field: &str, time: &Timestamp) -> Result<i64, ServiceError> {
    let micros = time
        .seconds
        .checked_mul(1_000_000)
        .and_then(|micros| micros.checked_add(i64::from(time.nanos) / 1_000));
    micros.ok_or_else(|| ServiceError::invalid(field, "is no time that can be stored"))
}

/// An id, or whatever else is read from a text, in a field of a request.
///
/// # Errors
/// `INVALID_ARGUMENT` for `field` with what the text lacks.
pub fn parse<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, ServiceError> {
    text.parse().map_err(|error| ServiceError::invalid(field, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn times_round_trip_to_the_microsecond() {
        for time in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000] {
            assert_eq!(micros("t", &timestamp(time)).unwrap(), time);
        }
        assert_eq!(timestamp(-1), Timestamp { seconds: -1, nanos: 999_999_000 });
        let beyond = Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(micros("t", &beyond).unwrap_err().field_name(), Some("t"));
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_field() {
        assert_eq!(parse::<u8>("size", "7").unwrap(), 7);
        assert_eq!(parse::<u8>("size", "x").unwrap_err().field_name(), Some("size"));
        assert_eq!(
            answer::<()>(Err(ServiceError::invalid("size", "no"))).unwrap_err().code(),
            tonic::Code::InvalidArgument
        );
    }
}
