//! To and from `tonic::Status` with `google.rpc` details, so that an error
//! crosses any number of services unchanged.

use std::collections::HashMap;

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use crate::{Code, ServiceError};

/// The `domain` of every `ErrorInfo` that Quarry makes.
pub const ERROR_DOMAIN: &str = "quarry";

impl From<Code> for tonic::Code {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::Conflict => Self::Aborted,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Cancelled => Self::Cancelled,
            Code::Unimplemented => Self::Unimplemented,
            Code::DataLoss => Self::DataLoss,
            Code::Internal => Self::Internal,
        }
    }
}

impl From<tonic::Code> for Code {
    fn from(code: tonic::Code) -> Self {
        match code {
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Self::InvalidArgument,
            tonic::Code::Unauthenticated => Self::Unauthenticated,
            tonic::Code::PermissionDenied => Self::PermissionDenied,
            tonic::Code::NotFound => Self::NotFound,
            tonic::Code::AlreadyExists => Self::AlreadyExists,
            tonic::Code::Aborted => Self::Conflict,
            tonic::Code::FailedPrecondition => Self::FailedPrecondition,
            tonic::Code::ResourceExhausted => Self::ResourceExhausted,
            tonic::Code::Unavailable => Self::Unavailable,
            tonic::Code::DeadlineExceeded => Self::DeadlineExceeded,
            tonic::Code::Cancelled => Self::Cancelled,
            tonic::Code::Unimplemented => Self::Unimplemented,
            tonic::Code::DataLoss => Self::DataLoss,
            tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::Internal => Self::Internal,
        }
    }
}

impl From<ServiceError> for Status {
    /// What is our fault is logged here, with the cause that the caller does
    /// not get: this is where an error leaves a service.
    fn from(error: ServiceError) -> Self {
        if matches!(error.code, Code::Internal | Code::DataLoss) || error.source.is_some() {
            tracing::error!(error = &error as &dyn std::error::Error, "a call failed");
        }
        let metadata: HashMap<String, String> = error.metadata.into_iter().collect();
        let mut details = ErrorDetails::with_error_info(error.reason, ERROR_DOMAIN, metadata);
        if let Some(field) = error.field {
            details.add_bad_request_violation(field, error.message.clone());
        }
        Status::with_error_details(error.code.into(), error.message, details)
    }
}

impl ServiceError {
    /// The error that a neighbour answered, with its reason and details.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let mut error = Self::new(status.code().into(), status.message());
        let details = status.get_error_details();
        if let Some(info) = details.error_info() {
            error.reason.clone_from(&info.reason);
            error.metadata = info.metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            error.metadata.sort();
        }
        if let Some(violation) = details.bad_request().and_then(|bad| bad.field_violations.first())
        {
            error.field = Some(violation.field.clone());
        }
        error
    }
}

impl From<Status> for ServiceError {
    fn from(status: Status) -> Self {
        Self::from_status(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_everything_there_and_back() {
        let error = ServiceError::invalid("page_size", "must be at most 10000")
            .reason("PAGE_TOO_LARGE")
            .with("max", 10_000);
        let back = ServiceError::from_status(&Status::from(error));
        assert_eq!(back.code(), Code::InvalidArgument);
        assert_eq!(back.reason_text(), "PAGE_TOO_LARGE");
        assert_eq!(back.field_name(), Some("page_size"));
        assert_eq!(back.detail("max"), Some("10000"));
        assert_eq!(back.message(), "page_size: must be at most 10000");
    }

    #[test]
    fn every_code_survives_the_wire() {
        for code in [
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::NotFound,
            Code::AlreadyExists,
            Code::Conflict,
            Code::FailedPrecondition,
            Code::ResourceExhausted,
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unimplemented,
            Code::DataLoss,
            Code::Internal,
        ] {
            let status = Status::from(ServiceError::new(code, "x"));
            assert_eq!(ServiceError::from_status(&status).code(), code);
        }
    }

    #[test]
    fn a_bare_status_becomes_an_error_of_its_code() {
        let error = ServiceError::from(Status::unavailable("connection refused"));
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(error.reason_text(), "UNAVAILABLE");
    }
}
