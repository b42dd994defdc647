//! DataFusion's errors as the platform's.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use service_error::{Code, ServiceError};

/// What a caller can act on: its query, its size, or the error of whatever was
/// read below.
pub(crate) fn sql_error(error: DataFusionError) -> ServiceError {
    match error {
        DataFusionError::External(source) => match source.downcast::<ServiceError>() {
            Ok(own) => *own,
            Err(source) => match source.downcast::<DataFusionError>() {
                Ok(inner) => sql_error(*inner),
                Err(source) => ServiceError::internal(format!("the query failed: {source}")),
            },
        },
        DataFusionError::ArrowError(inner, context) => arrow_error(*inner, context),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            sql_error(*inner)
        }
        DataFusionError::Shared(shared) => shared_error(&shared),
        DataFusionError::Collection(errors) => {
            let first = errors.into_iter().next();
            first.map_or_else(|| ServiceError::internal("the query failed"), sql_error)
        }
        DataFusionError::ResourcesExhausted(message) => exhausted(&message),
        DataFusionError::NotImplemented(message) => {
            ServiceError::unimplemented(format!("query: {message}"))
                .reason("SQL_NOT_OFFERED")
                .field("query")
        }
        DataFusionError::Internal(_)
        | DataFusionError::IoError(_)
        | DataFusionError::ObjectStore(_)
        | DataFusionError::ExecutionJoin(_) => {
            ServiceError::internal(format!("the query failed: {}", first_line(&error)))
        }
        other => invalid(&other),
    }
}

/// A joined query's error is shared by those who wait for it.
fn shared_error(error: &DataFusionError) -> ServiceError {
    let root = error.find_root();
    if let DataFusionError::External(source) = root
        && let Some(own) = source.downcast_ref::<ServiceError>()
    {
        return again(own);
    }
    match root {
        DataFusionError::ResourcesExhausted(message) => exhausted(message),
        DataFusionError::ArrowError(inner, _) if matches!(**inner, ArrowError::IoError(..)) => {
            spilling(&inner.to_string())
        }
        other => invalid(other),
    }
}

/// The same error for another one who waits.
fn again(error: &ServiceError) -> ServiceError {
    ServiceError::new(error.code(), error.message().to_owned()).reason(error.reason_text())
}

fn exhausted(message: &str) -> ServiceError {
    let first = message.lines().next().unwrap_or_default();
    ServiceError::exhausted(format!(
        "the query needs more memory or spill space than it may have: {first}; \
         read fewer columns or rows at once"
    ))
    .reason("SQL_TOO_LARGE")
}

/// Files are touched by spilling only. Its limit has no error of its own, just this setting's name.
fn spilling(text: &str) -> ServiceError {
    let first = text.lines().next().unwrap_or_default();
    if text.contains("max_temp_directory_size") {
        return exhausted(first.split(". Please").next().unwrap_or(first));
    }
    ServiceError::internal(format!("the query could not spill: {first}"))
}

fn arrow_error(error: ArrowError, context: Option<String>) -> ServiceError {
    match error {
        ArrowError::ExternalError(source) => sql_error(DataFusionError::External(source)),
        ArrowError::IoError(text, _) => spilling(&text),
        other => invalid(&DataFusionError::ArrowError(Box::new(other), context)),
    }
}

fn invalid(error: &DataFusionError) -> ServiceError {
    ServiceError::new(Code::InvalidArgument, format!("query: {}", first_line(error)))
        .reason("SQL_INVALID")
        .field("query")
}

/// Without the trace that some builds append.
fn first_line(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let text = text.trim_start_matches("Error during planning: ");
    text.trim_start_matches("SQL error: ").to_owned()
}
