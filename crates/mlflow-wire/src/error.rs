//! MLflow's errors: code, HTTP status, and the JSON that its client reads.

use std::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;
use service_error::{Code, ServiceError};

/// What a call answers, or why not.
pub type Result<T> = std::result::Result<T, MlflowError>;

/// MLflow's codes, of those that this platform gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// A defect of the server, or of a request that only it could notice.
    InternalError,
    /// The resource is not in a state for it.
    InvalidState,
    /// Stored bytes are not what was written.
    DataLoss,
    /// Not offered.
    NotImplemented,
    /// Away for now.
    TemporarilyUnavailable,
    /// The deadline passed first.
    DeadlineExceeded,
    /// Too many calls.
    RequestLimitExceeded,
    /// The caller went away.
    Cancelled,
    /// Somebody else was faster.
    ResourceConflict,
    /// No such route.
    EndpointNotFound,
    /// No such resource.
    ResourceDoesNotExist,
    /// The caller is known and may not.
    PermissionDenied,
    /// No credential, or one that does not verify.
    Unauthenticated,
    /// The request is malformed.
    BadRequest,
    /// The name is taken.
    ResourceAlreadyExists,
    /// A parameter is wrong.
    InvalidParameterValue,
}

impl ErrorCode {
    /// As in `error_code`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InternalError => "INTERNAL_ERROR",
            Self::InvalidState => "INVALID_STATE",
            Self::DataLoss => "DATA_LOSS",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::TemporarilyUnavailable => "TEMPORARILY_UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::RequestLimitExceeded => "REQUEST_LIMIT_EXCEEDED",
            Self::Cancelled => "CANCELLED",
            Self::ResourceConflict => "RESOURCE_CONFLICT",
            Self::EndpointNotFound => "ENDPOINT_NOT_FOUND",
            Self::ResourceDoesNotExist => "RESOURCE_DOES_NOT_EXIST",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::BadRequest => "BAD_REQUEST",
            Self::ResourceAlreadyExists => "RESOURCE_ALREADY_EXISTS",
            Self::InvalidParameterValue => "INVALID_PARAMETER_VALUE",
        }
    }

    /// The HTTP status that MLflow gives it: a name that is taken is 400, an
    /// invalid state 500.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InternalError | Self::InvalidState | Self::DataLoss => 500,
            Self::NotImplemented => 501,
            Self::TemporarilyUnavailable => 503,
            Self::DeadlineExceeded => 504,
            Self::RequestLimitExceeded => 429,
            Self::Cancelled => 499,
            Self::ResourceConflict => 409,
            Self::EndpointNotFound | Self::ResourceDoesNotExist => 404,
            Self::PermissionDenied => 403,
            Self::Unauthenticated => 401,
            Self::BadRequest | Self::ResourceAlreadyExists | Self::InvalidParameterValue => 400,
        }
    }

    /// `sqlstate` and `error_class`, for the codes that MLflow classifies.
    const fn class(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::InternalError | Self::InvalidState | Self::TemporarilyUnavailable => {
                ("XXM00", "CLIENT_INTERNAL_ERROR")
            }
            Self::EndpointNotFound | Self::ResourceDoesNotExist => ("KAM00", "RESOURCE_NOT_FOUND"),
            Self::PermissionDenied => ("KAM00", "PERMISSION_DENIED"),
            Self::BadRequest | Self::InvalidParameterValue => ("KAM00", "INVALID_PARAMETER_VALUE"),
            Self::ResourceAlreadyExists => ("KAM00", "RESOURCE_ALREADY_EXISTS"),
            _ => return None,
        })
    }

    const fn of(code: Code) -> Self {
        match code {
            // A precondition is MLflow's INVALID_STATE only in name: that is a
            // 500, which its client repeats.
            Code::InvalidArgument | Code::FailedPrecondition => Self::InvalidParameterValue,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::ResourceDoesNotExist,
            Code::AlreadyExists => Self::ResourceAlreadyExists,
            Code::Conflict => Self::ResourceConflict,
            Code::ResourceExhausted => Self::RequestLimitExceeded,
            Code::Unavailable => Self::TemporarilyUnavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Cancelled => Self::Cancelled,
            Code::Unimplemented => Self::NotImplemented,
            Code::DataLoss => Self::DataLoss,
            Code::Internal => Self::InternalError,
        }
    }
}

/// An error as MLflow's client knows it.
#[derive(Debug)]
pub struct MlflowError {
    code: ErrorCode,
    message: String,
    /// Where the code's own status is not the closest (405, 413).
    status: Option<StatusCode>,
    source: Option<ServiceError>,
}

impl MlflowError {
    /// An error of a code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: None, source: None }
    }

    /// A parameter is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidParameterValue, message)
    }

    /// There is no such resource.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ResourceDoesNotExist, message)
    }

    /// The same with another HTTP status.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        self.code
    }

    /// What it says.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The platform's error behind it, if there is one.
    #[must_use]
    pub const fn cause(&self) -> Option<&ServiceError> {
        self.source.as_ref()
    }

    /// The answer.
    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        let mut body = json!({ "error_code": self.code.name(), "message": self.message });
        if let Some((state, class)) = self.code.class() {
            body["sqlstate"] = state.into();
            body["error_class"] = class.into();
        }
        let status = self.status.or_else(|| StatusCode::from_u16(self.code.http_status()).ok());
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

impl fmt::Display for MlflowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for MlflowError {}

impl From<ServiceError> for MlflowError {
    fn from(error: ServiceError) -> Self {
        let (code, status) = of(&error);
        Self { code, message: error.message().to_owned(), status, source: Some(error) }
    }
}

fn of(error: &ServiceError) -> (ErrorCode, Option<StatusCode>) {
    if error.reason_is("BODY_TOO_LARGE") {
        return (ErrorCode::BadRequest, Some(StatusCode::PAYLOAD_TOO_LARGE));
    }
    (ErrorCode::of(error.code()), None)
}

/// A failure of the platform, told as MLflow's client knows it.
#[must_use]
pub fn refuse(error: &ServiceError) -> Response<Bytes> {
    let (code, status) = of(error);
    MlflowError { code, message: error.message().to_owned(), status, source: None }.response()
}
