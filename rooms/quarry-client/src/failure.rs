//! How a command fails: an exit code for scripts, a message for people, and
//! with `-o json` the same error object as over HTTP.

use std::fmt;

use ingest::{ErrorKind, IngestError};
use serde_json::{Value, json};
use service_error::{Code, ServiceError};

/// The exit codes of `quarry`, as its help lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything without a code of its own.
    Failed = 1,
    /// The command line itself is wrong; clap exits with this code.
    Usage = 2,
    /// It does not exist, or may not be seen.
    NotFound = 3,
    /// No valid token, or not allowed.
    Denied = 4,
    /// The name is taken, somebody was faster, or the state forbids it.
    Conflict = 5,
    /// The server is away; try again later.
    Unavailable = 6,
    /// The input is wrong: a file, a filter, a name.
    Invalid = 7,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    const fn of(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::Invalid,
            Code::NotFound => Self::NotFound,
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied,
            Code::AlreadyExists | Code::Conflict | Code::FailedPrecondition => Self::Conflict,
            Code::Unavailable | Code::DeadlineExceeded => Self::Unavailable,
            Code::Cancelled => Self::Interrupted,
            Code::ResourceExhausted | Code::Unimplemented | Code::DataLoss | Code::Internal => {
                Self::Failed
            }
        }
    }
}

/// An error with the exit code that says what kind it is.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: ServiceError,
}

impl Failure {
    /// An error under another exit code than its own.
    pub fn with_exit(exit: Exit, error: ServiceError) -> Self {
        Self { exit, error }
    }

    /// The command line is wrong in a way that clap cannot see.
    pub fn usage(message: impl fmt::Display) -> Self {
        let error = ServiceError::new(Code::InvalidArgument, message.to_string());
        Self::with_exit(Exit::Usage, error)
    }

    /// Ctrl-C.
    pub fn interrupted(message: &str) -> Self {
        ServiceError::new(Code::Cancelled, message).into()
    }

    /// The exit code of the process.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The kind of error.
    pub const fn code(&self) -> Code {
        self.error.code()
    }

    /// Whether the machine-readable reason is this one.
    pub fn reason_is(&self, reason: &str) -> bool {
        self.error.reason_is(reason)
    }

    /// The error as HTTP would answer it.
    pub fn json(&self) -> Value {
        let error = &self.error;
        let metadata: serde_json::Map<_, _> = error
            .details()
            .iter()
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect();
        json!({ "error": {
            "code": error.http_status(),
            "status": status(error.code()),
            "message": error.message(),
            "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": error.reason_text(),
                "domain": service_error::ERROR_DOMAIN,
                "metadata": metadata,
            }],
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.error.message())
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self { exit: Exit::of(error.code()), error }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        // What the server answers has no source here; a lost connection has,
        // under whatever code the transport gave it.
        if std::error::Error::source(&status).is_some() {
            let message = format!("the connection to the server was lost ({})", status.message());
            return ServiceError::unavailable(message).reason("CONNECTION_LOST").into();
        }
        ServiceError::from(status).into()
    }
}

impl From<IngestError> for Failure {
    fn from(err: IngestError) -> Self {
        let code = match err.kind() {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Io => Code::FailedPrecondition,
            ErrorKind::Limit => Code::ResourceExhausted,
            ErrorKind::Format | ErrorKind::Value | ErrorKind::Schema => Code::InvalidArgument,
        };
        let mut error = ServiceError::new(code, err.to_string()).reason(match err.kind() {
            ErrorKind::NotFound => "FILE_NOT_FOUND",
            ErrorKind::Io => "FILE_UNREADABLE",
            ErrorKind::Limit => "INPUT_TOO_LARGE",
            ErrorKind::Format => "FORMAT_INVALID",
            ErrorKind::Value => "ROW_INVALID",
            ErrorKind::Schema => "SCHEMA_INVALID",
        });
        error = error.with("path", err.path().display());
        if let Some(line) = err.line_number() {
            error = error.with("line", line);
        }
        if let Some(column) = err.column_name() {
            error = error.with("column", column);
        }
        let exit = match err.kind() {
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::Io => Exit::Failed,
            _ => Exit::Invalid,
        };
        Self { exit, error }
    }
}

const fn status(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::Conflict => "ABORTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::Cancelled => "CANCELLED",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::DataLoss => "DATA_LOSS",
        Code::Internal => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_failures_apart() {
        for (code, exit) in [
            (Code::NotFound, Exit::NotFound),
            (Code::Unauthenticated, Exit::Denied),
            (Code::AlreadyExists, Exit::Conflict),
            (Code::Unavailable, Exit::Unavailable),
            (Code::InvalidArgument, Exit::Invalid),
            (Code::DataLoss, Exit::Failed),
        ] {
            assert_eq!(Failure::from(ServiceError::new(code, "x")).exit(), exit);
        }
        assert_eq!(Failure::interrupted("x").exit() as u8, 130);
    }

    #[test]
    fn a_lost_connection_is_told_from_an_answer() {
        let lost = tonic::Status::from_error(Box::new(std::io::Error::other("reset")));
        assert_eq!(Failure::from(lost).exit(), Exit::Unavailable);
        let answered = tonic::Status::unknown("reset");
        assert_eq!(Failure::from(answered).exit(), Exit::Failed);
    }

    #[test]
    fn a_bad_row_keeps_its_place_as_details() {
        let path = std::path::Path::new("a.csv");
        let err = IngestError::new(ErrorKind::Value, path, "no").line(7).column("width");
        let failure = Failure::from(err);
        assert_eq!(failure.exit(), Exit::Invalid);
        let details = &failure.json()["error"]["details"][0]["metadata"];
        assert_eq!(details, &json!({ "path": "a.csv", "line": "7", "column": "width" }));
        assert_eq!(failure.to_string(), "a.csv:7: column \"width\": no");
    }

    #[test]
    fn errors_have_the_shape_of_http() {
        let failure = Failure::from(ServiceError::not_found("dataset", "a/b"));
        let json = failure.json();
        assert_eq!(json["error"]["code"], 404);
        assert_eq!(json["error"]["status"], "NOT_FOUND");
        assert_eq!(json["error"]["details"][0]["domain"], "quarry");
    }
}
