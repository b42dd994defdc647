//! The wire: requests into use cases, outcomes into messages.

mod artifacts;
mod events;
mod lifecycle;
mod models;
mod trust;
mod versions;

use grpc_room::{answer, micros, parse, timestamp};
use service_error::ServiceError;

pub use artifacts::Artifacts;
pub use events::Events;
pub use lifecycle::Lifecycle;
pub use models::Models;
pub use trust::Trust;
pub use versions::Versions;

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
