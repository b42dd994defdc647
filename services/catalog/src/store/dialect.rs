//! The few words that the two databases say differently.

use ids::{DatasetId, NamespaceId};
use sea_orm::{DbBackend, Value};
use uuid::Uuid;

/// Which rows of a list the caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisibleRows {
    /// All of them.
    All,
    /// Those in these namespaces, these datasets, and public ones.
    Only { namespaces: Vec<NamespaceId>, datasets: Vec<DatasetId> },
}

/// A condition that `column` is one of the ids in parameter `$parameter`, which
/// [`id_list`] makes: one parameter however many ids there are.
pub fn is_in_list(backend: DbBackend, column: &str, parameter: usize) -> String {
    match backend {
        DbBackend::Postgres => {
            format!(
                "{column} IN (SELECT value::uuid FROM json_array_elements_text(${parameter}::json))"
            )
        }
        _ => format!("{column} IN (SELECT unhex(value, '-') FROM json_each(${parameter}))"),
    }
}

/// The ids as the parameter of [`is_in_list`].
pub fn id_list(ids: impl IntoIterator<Item = Uuid>) -> Value {
    let quoted: Vec<String> =
        ids.into_iter().map(|id| format!("\"{}\"", id.hyphenated())).collect();
    format!("[{}]", quoted.join(",")).into()
}
