//! Schemas as encapsulated Arrow IPC messages, the form of the API and the
//! catalog's rows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::datatypes::Schema;
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, write_message};

use crate::SchemaError;

/// The largest schema that is read, in bytes, metadata included.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// A schema as an encapsulated IPC message.
///
/// # Errors
/// A schema that Arrow can't write.
pub fn schema_to_ipc(schema: &Schema) -> Result<Vec<u8>, SchemaError> {
    let options = IpcWriteOptions::default();
    let mut dictionaries = DictionaryTracker::new(false);
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut dictionaries,
        &options,
    );
    let mut bytes = Vec::new();
    write_message(&mut bytes, encoded, &options)
        .map_err(|error| SchemaError::whole(format!("the schema can't be written: {error}")))?;
    Ok(bytes)
}

/// The schema in an encapsulated IPC message, from anybody.
///
/// # Errors
/// Bytes that are no schema, or more than [`SCHEMA_BYTES_MAX`].
pub fn schema_from_ipc(bytes: &[u8]) -> Result<Schema, SchemaError> {
    if bytes.len() > SCHEMA_BYTES_MAX {
        let message = format!("the schema is {} bytes; at most {SCHEMA_BYTES_MAX}", bytes.len());
        return Err(SchemaError::whole(message));
    }
    // Arrow's conversion panics on types that are valid flatbuffers but no
    // valid types (a decimal without precision, a float of unknown width).
    let read = catch_unwind(AssertUnwindSafe(|| try_schema_from_ipc_buffer(bytes)));
    match read {
        Ok(Ok(schema)) => Ok(schema),
        Ok(Err(error)) => Err(not_a_schema(&error.to_string())),
        Err(_) => Err(not_a_schema("it holds a type that Arrow does not know")),
    }
}

fn not_a_schema(why: &str) -> SchemaError {
    SchemaError::whole(format!(
        "the bytes are no Arrow schema as an encapsulated IPC message: {why}"
    ))
}
