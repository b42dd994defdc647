//! Columns in which no two rows have the same value, as a dataset declares them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema, SchemaRef};
use blocks::{
    BlockLocation, BlockReader, BlockRows, KeyedBlock, Position, Reading, WrittenBlock,
    find_repeated, find_value, first_repeated, value_text,
};
use catalog_api::v1::value::Kind;
use cells::{cell, is_uuid, uuid_text};
use service_error::{Code, ServiceError};

use crate::app::manifest::ManifestBlock;
use crate::model::Address;

/// A value that another row has.
pub const VALUE_EXISTS: &str = "VALUE_EXISTS";
const KEY_BYTES: usize = 1 << 20;
/// Of a key or value in a message: errors travel in headers.
const SHOWN_CHARS: usize = 100;

/// The unique columns of a dataset.
#[derive(Debug, Clone, Copy)]
pub struct Unique<'a> {
    pub reader: &'a BlockReader,
    pub address: &'a Address,
    pub schema: &'a SchemaRef,
    /// Empty: none.
    pub key: &'a str,
    pub items_profile: bool,
    pub columns: &'a [String],
}

/// What has a value that another row must not have, with its key if there are keys.
enum Holder {
    /// A row that stays.
    Row(Option<String>),
    /// Another row of the same request.
    Request(Option<String>),
    /// One of the rows that are to become unique.
    Among(Option<String>),
}

impl Unique<'_> {
    /// Refuses a value of new blocks that two of their rows have, or that a row that stays has
    /// already. The first `brought` of the new are a request's, the others hold rows that were
    /// there. `is_known`: those that stay have none twice.
    ///
    /// # Errors
    /// `AlreadyExists` with the column, the value and the key of a row that has it.
    pub async fn check_blocks(
        &self,
        new: &[WrittenBlock],
        brought: usize,
        staying: &[ManifestBlock],
        is_known: bool,
    ) -> Result<(), ServiceError> {
        for column in self.columns {
            let mut new: Vec<KeyedBlock> = new.iter().map(|block| keyed(block, column)).collect();
            let mut old: Vec<KeyedBlock> =
                staying.iter().map(|block| block.keyed(column)).collect();
            if !is_known {
                new.append(&mut old);
            }
            let field = self.field(column)?;
            if let Some(found) = find_repeated(self.reader, &new, &old, field).await? {
                let holder = new.iter().chain(&old).nth(found.row.block);
                let key = self.key_at(holder, found.row.row).await?;
                let holder = match found.row.block {
                    _ if !is_known => Holder::Among(key),
                    block if block < brought => Holder::Request(key),
                    _ => Holder::Row(key),
                };
                return Err(self.exists(column, &found.value, holder));
            }
        }
        Ok(())
    }

    /// As [`Self::check_blocks`] for rows in memory; `beside` are others that stay.
    ///
    /// # Errors
    /// As there.
    pub async fn check_rows(
        &self,
        rows: &RecordBatch,
        beside: Option<&RecordBatch>,
        staying: &[ManifestBlock],
    ) -> Result<(), ServiceError> {
        for column in self.columns {
            let values = joined(beside, rows, column)?;
            if let Some((at, _)) = first_repeated(&values)? {
                let key = match self.key {
                    "" => None,
                    key => Some(self.key_text(&joined(beside, rows, key)?, at)?),
                };
                let is_beside = beside.is_some_and(|rows| at < rows.num_rows());
                let holder = if is_beside { Holder::Row(key) } else { Holder::Request(key) };
                return Err(self.exists(column, &value_text(&values, at), holder));
            }
            let old: Vec<KeyedBlock> = staying.iter().map(|block| block.keyed(column)).collect();
            let own = joined(None, rows, column)?;
            let found = find_value(self.reader, &old, &own, self.field(column)?).await?;
            if let Some((at, row)) = found {
                let key = self.key_at(old.get(row.block), row.row).await?;
                return Err(self.exists(column, &value_text(&own, at), Holder::Row(key)));
            }
        }
        Ok(())
    }

    fn field(&self, column: &str) -> Result<&Field, ServiceError> {
        self.schema.field_with_name(column).map_err(|_| {
            ServiceError::invalid("unique_columns", format!("there is no column {column:?}"))
        })
    }

    async fn key_at(
        &self,
        block: Option<&KeyedBlock>,
        row: u64,
    ) -> Result<Option<String>, ServiceError> {
        let Some(block) = block.filter(|_| !self.key.is_empty()) else { return Ok(None) };
        let schema = Arc::new(Schema::new(vec![self.field(self.key)?.clone()]));
        let blocks = [BlockRows::from(block.location.clone())];
        let reading = Reading::new(Arc::clone(self.schema), None);
        let at = [Position { block: 0, row }];
        let read = self.reader.rows(&blocks, &at, &schema, &reading, KEY_BYTES).await?;
        let read = read.first().filter(|batch| batch.num_rows() > 0);
        read.map(|batch| self.key_text(batch.column(0), 0)).transpose()
    }

    fn key_text(&self, keys: &ArrayRef, row: usize) -> Result<String, ServiceError> {
        key_text(self.field(self.key)?, self.items_profile, keys, row)
    }

    fn exists(&self, column: &str, value: &str, holder: Holder) -> ServiceError {
        let value = brief(value);
        let row = |key: &Option<String>| {
            key.as_ref().map_or_else(|| "a row".to_owned(), |key| format!("row {}", brief(key)))
        };
        let why = match &holder {
            Holder::Row(key) => format!(
                "{} of {} has the value {value:?} already, and the column is unique: write another value, \
                 or change that row first",
                row(key),
                self.address
            ),
            Holder::Request(key) => format!(
                "the request gives the value {value:?} to two rows, one of them {}, and the column is \
                 unique: give it to one",
                row(key)
            ),
            Holder::Among(key) => format!(
                "two rows have the value {value:?}, one of them {}, and the column is to be unique: change \
                 one of them first, or leave the column out",
                row(key)
            ),
        };
        let error = ServiceError::new(Code::AlreadyExists, format!("{column}: {why}"))
            .reason(VALUE_EXISTS)
            .field(column)
            .with("value", value);
        let (Holder::Row(key) | Holder::Request(key) | Holder::Among(key)) = holder;
        match key {
            Some(key) => error.with("key", brief(&key)),
            None => error,
        }
    }
}

/// The beginning of a text, nothing of it unprintable.
fn brief(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect()
}

/// A column of some rows, then of others.
fn joined(
    first: Option<&RecordBatch>,
    then: &RecordBatch,
    column: &str,
) -> Result<ArrayRef, ServiceError> {
    let absent = || ServiceError::internal(format!("rows lack their column {column:?}"));
    let mut parts: Vec<&dyn Array> = Vec::with_capacity(2);
    for rows in first.into_iter().chain([then]) {
        parts.push(rows.column_by_name(column).ok_or_else(absent)?);
    }
    concat(&parts).map_err(|error| ServiceError::internal(format!("rows do not join: {error}")))
}

/// A key as text, as a client names it.
///
/// # Errors
/// A value that cannot be shown.
pub fn key_text(
    field: &Field,
    items_profile: bool,
    column: &ArrayRef,
    row: usize,
) -> Result<String, ServiceError> {
    let value = cell(column, row)?;
    let value = if is_uuid(field, items_profile) { uuid_text(value) } else { value };
    Ok(match value.kind {
        None => String::new(),
        Some(
            Kind::StringValue(text)
            | Kind::DecimalValue(text)
            | Kind::DateValue(text)
            | Kind::TimeValue(text)
            | Kind::DurationValue(text),
        ) => text,
        Some(Kind::BoolValue(value)) => value.to_string(),
        Some(Kind::IntValue(value)) => value.to_string(),
        Some(Kind::UintValue(value)) => value.to_string(),
        Some(Kind::DoubleValue(value)) => value.to_string(),
        Some(Kind::BytesValue(bytes)) => hex::encode(bytes),
        Some(_) => arrow::util::display::array_value_to_string(column, row)
            .map_err(|error| ServiceError::internal(format!("a key: {error}")))?,
    })
}

/// A block that was just written, with the range of a column.
#[must_use]
pub fn keyed(block: &WrittenBlock, column: &str) -> KeyedBlock {
    let stats = block.columns.iter().find(|known| known.name == column);
    let range = stats.and_then(|stats| stats.min.clone().zip(stats.max.clone()));
    KeyedBlock { location: location(block), range, deleted: None }
}

/// Where a block that was just written is.
#[must_use]
pub fn location(block: &WrittenBlock) -> BlockLocation {
    BlockLocation {
        object_key: block.object_key.clone(),
        row_count: block.row_count,
        byte_count: block.byte_count,
        footer_length: block.footer_length,
    }
}
