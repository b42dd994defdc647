//! The one error of the platform: a closed set of codes, each mapped once to
//! gRPC and once to HTTP, with a machine-readable reason and a message that
//! says what to do.

mod status;

pub use status::ERROR_DOMAIN;

use std::error::Error as StdError;
use std::fmt;

/// What kind of failure it is; decides the status and whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A field of the request is wrong; the same request always fails.
    InvalidArgument,
    /// No credential, or one that does not verify.
    Unauthenticated,
    /// The caller is known and may not.
    PermissionDenied,
    /// It does not exist, or the caller may not know that it does.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// Somebody else was faster; read again and retry.
    Conflict,
    /// The system is not in a state for it; changing the state comes first.
    FailedPrecondition,
    /// A limit was reached.
    ResourceExhausted,
    /// Away for now; retry with backoff.
    Unavailable,
    /// The deadline passed first.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// Not offered.
    Unimplemented,
    /// Stored bytes are not what was written.
    DataLoss,
    /// A defect of ours.
    Internal,
}

impl Code {
    /// The HTTP status that says the same (google.rpc.Code's own mapping).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::ResourceExhausted => 429,
            Self::Cancelled => 499,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
            Self::DataLoss | Self::Internal => 500,
        }
    }

    /// Whether the same request may succeed later without a change.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Conflict | Self::Unavailable)
    }

    /// The reason of an error that names no closer one.
    const fn default_reason(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Conflict => "CONFLICT",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Cancelled => "CANCELLED",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::DataLoss => "DATA_LOSS",
            Self::Internal => "INTERNAL",
        }
    }
}

type Source = Box<dyn StdError + Send + Sync>;

/// A failure on its way to the caller.
///
/// The message is for people and reaches them; the source is for the log and
/// does not.
#[derive(Debug)]
pub struct ServiceError {
    code: Code,
    reason: String,
    message: String,
    field: Option<String>,
    metadata: Vec<(String, String)>,
    source: Option<Source>,
}

impl ServiceError {
    /// An error of a code with a message that says what to do.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: code.default_reason().to_owned(),
            message: message.into(),
            field: None,
            metadata: Vec::new(),
            source: None,
        }
    }

    /// A field of the request is wrong. The message begins with its name.
    #[must_use]
    pub fn invalid(field: &str, message: impl fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, format!("{field}: {message}")).field(field)
    }

    /// No credential, or one that does not verify.
    #[must_use]
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    /// The caller is known and may not.
    #[must_use]
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// There is no such thing, or the caller may not know that there is.
    #[must_use]
    pub fn not_found(kind: &str, name: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("no {kind} {name}, or no access to it"))
            .reason(format!("{}_NOT_FOUND", upper_snake(kind)))
            .with(kind, name)
    }

    /// The name is taken.
    #[must_use]
    pub fn already_exists(kind: &str, name: impl fmt::Display) -> Self {
        Self::new(Code::AlreadyExists, format!("{kind} {name} exists already"))
            .reason(format!("{}_EXISTS", upper_snake(kind)))
            .with(kind, name)
    }

    /// Somebody else was faster.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// The system is not in a state for it.
    #[must_use]
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// A limit was reached; the message names it and the way around it.
    #[must_use]
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }

    /// Away for now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Stored bytes are not what was written.
    #[must_use]
    pub fn data_loss(message: impl Into<String>) -> Self {
        Self::new(Code::DataLoss, message)
    }

    /// Not offered.
    #[must_use]
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    /// A defect of ours.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Whether the machine-readable reason is this one.
    #[must_use]
    pub fn reason_is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    /// Names a closer machine-readable reason, `UPPER_SNAKE`.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Adds a machine-readable detail.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.metadata.push((key.to_owned(), value.to_string()));
        self
    }

    /// Names the field of the request that is wrong.
    #[must_use]
    pub fn field(mut self, field: &str) -> Self {
        self.field = Some(field.to_owned());
        self
    }

    /// Keeps what caused it, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with words before its message, e.g. where it happened.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The machine-readable reason.
    #[must_use]
    pub fn reason_text(&self) -> &str {
        &self.reason
    }

    /// The message for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The field of the request that is wrong, if one is.
    #[must_use]
    pub fn field_name(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// A detail by its key.
    #[must_use]
    pub fn detail(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// All details, in the order they were added.
    #[must_use]
    pub fn details(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// The HTTP status that says the same.
    #[must_use]
    pub const fn http_status(&self) -> u16 {
        self.code.http_status()
    }

    /// Whether the same request may succeed later without a change.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for ServiceError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

fn upper_snake(kind: &str) -> String {
    kind.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_in_message_and_field() {
        let error = ServiceError::invalid("name", "must not contain '/'");
        assert_eq!(error.message(), "name: must not contain '/'");
        assert_eq!(error.field_name(), Some("name"));
        assert_eq!(error.http_status(), 400);
    }

    #[test]
    fn not_found_has_a_reason_of_its_kind() {
        let error = ServiceError::not_found("dataset", "vision/icons");
        assert_eq!(error.reason_text(), "DATASET_NOT_FOUND");
        assert_eq!(error.detail("dataset"), Some("vision/icons"));
    }

    #[test]
    fn only_conflicts_and_absence_are_retryable() {
        assert!(ServiceError::conflict("head moved").is_retryable());
        assert!(ServiceError::unavailable("database is away").is_retryable());
        assert!(!ServiceError::internal("defect").is_retryable());
    }

    #[test]
    fn the_source_is_kept_for_the_log_and_not_shown() {
        let error = ServiceError::internal("could not read")
            .caused_by(std::io::Error::other("disk on fire"));
        assert_eq!(error.to_string(), "could not read");
        assert!(error.source().is_some());
    }
}
