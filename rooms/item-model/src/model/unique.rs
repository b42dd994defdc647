//! Unique columns: which there may be, and whether those that were looked at still are.

use arrow::datatypes::Schema;
use catalog_api::v1::Head;
use service_error::ServiceError;

/// Refuses columns that cannot be unique.
///
/// # Errors
/// `InvalidArgument` naming the rule.
pub fn check_columns(schema: &Schema, key: &str, columns: &[String]) -> Result<(), ServiceError> {
    item_schema::check_unique(schema, key, columns).map_err(|error| {
        ServiceError::invalid("unique_columns", error).reason("INVALID_UNIQUE_COLUMNS")
    })
}

/// Refuses to commit what was checked for other columns than are unique by now.
///
/// # Errors
/// `Conflict` with reason `UNIQUE_CHANGED`.
pub fn still_unique(head: &Head, checked: &[String]) -> Result<(), ServiceError> {
    if head.dataset.as_ref().is_none_or(|dataset| dataset.unique_columns == checked) {
        return Ok(());
    }
    let message = "other columns of the dataset became unique meanwhile; try again";
    Err(ServiceError::conflict(message).reason("UNIQUE_CHANGED"))
}
