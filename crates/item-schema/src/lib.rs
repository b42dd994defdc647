//! The columns of the items profile, and what a schema is checked against.
//!
//! Pure rules over Arrow schemas, for whoever makes, reads or writes a dataset.

mod column_rules;
mod columns;
mod id;
mod wire;

use std::fmt;

use arrow::datatypes::Schema;

pub use column_rules::{is_orderable, is_storable};
pub use columns::{
    CORE_COLUMNS, ColumnKind, ItemColumn, SMALL_DATASET_COLUMNS, is_json, item_column, items_schema,
};
pub use id::{ID_RULES, new_id, parse_id, parse_id_bytes};
pub use wire::{SCHEMA_BYTES_MAX, schema_from_ipc, schema_to_ipc};

/// The key column of a dataset that names none.
pub const DEFAULT_KEY_COLUMN: &str = "id";

/// What shape of data a schema is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The item columns, and any others beside them.
    Items,
    /// Any Arrow schema.
    Table,
}

/// A rule that a schema or an id breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// The column it is about, if it is about one.
    pub column: Option<String>,
    /// What is wrong and what to do.
    pub message: String,
}

impl SchemaError {
    /// A rule that a column breaks.
    #[must_use]
    pub fn at(column: &str, message: impl Into<String>) -> Self {
        Self { column: Some(column.to_owned()), message: message.into() }
    }

    /// A rule that the whole breaks.
    #[must_use]
    pub fn whole(message: impl Into<String>) -> Self {
        Self { column: None, message: message.into() }
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "column {column:?} {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for SchemaError {}

/// The profile of data that names none: items if every core column is there
/// with a fitting type, else table.
#[must_use]
pub fn detect_profile(schema: &Schema) -> Profile {
    let is_item = |column: &ItemColumn| {
        schema.field_with_name(column.name).is_ok_and(|field| column.kind.takes(field.data_type()))
    };
    if CORE_COLUMNS.iter().all(is_item) { Profile::Items } else { Profile::Table }
}

/// The key column of a schema that names none: `id` if there is one of an
/// orderable type.
#[must_use]
pub fn default_key(schema: &Schema) -> Option<&'static str> {
    let field = schema.field_with_name(DEFAULT_KEY_COLUMN).ok()?;
    is_orderable(field.data_type()).then_some(DEFAULT_KEY_COLUMN)
}

/// Unique columns of a dataset at most.
const UNIQUE_MAX: usize = 16;

/// Checks columns in which no two rows may have the same value.
///
/// # Errors
/// Too many, one that is absent, named twice, the key, or of a type without an order.
pub fn check_unique(schema: &Schema, key: &str, columns: &[String]) -> Result<(), SchemaError> {
    if columns.len() > UNIQUE_MAX {
        return Err(SchemaError::whole(format!("at most {UNIQUE_MAX} columns can be unique")));
    }
    for (at, name) in columns.iter().enumerate() {
        let field = schema.field_with_name(name);
        let kind = field.map_err(|_| SchemaError::at(name, "is not in the schema"))?.data_type();
        if !is_orderable(kind) {
            let message = format!(
                "is {kind}: unique ones are integers, text, binary, dates, times, decimals"
            );
            return Err(SchemaError::at(name, message));
        }
        if name == key {
            return Err(SchemaError::at(name, "is the key, which is unique anyhow"));
        }
        if columns.iter().take(at).any(|other| other == name) {
            return Err(SchemaError::at(name, "is named twice"));
        }
        if name.contains('\n') {
            return Err(SchemaError::at(name, "has a line break in its name"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
