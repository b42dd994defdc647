//! `quarry items create | patch | delete | restore | tag`.

use std::collections::HashMap;

use catalog_api::v1::value::Kind;
use catalog_api::v1::{ListValue, StructField, StructValue, Value};
use clap::Args;
use items_api::v1::{
    BatchDeleteItemsRequest, CreateItemRequest, EditTagsRequest, EditedItem, PatchItemRequest,
    RestoreItemsRequest,
};
use serde_json::json;
use service_error::ServiceError;

use super::Context;
use crate::client::version::DatasetName;
use crate::failure::Failure;
use crate::output::text_table;

/// Cells of a row.
#[derive(Debug, Args)]
pub struct Cells {
    /// COLUMN=VALUE; the value is JSON, or else text
    #[arg(value_name = "COLUMN=VALUE", required = true)]
    cells: Vec<String>,
}

impl Cells {
    fn values(&self) -> Result<HashMap<String, Value>, Failure> {
        let cell = |text: &String| {
            let (column, value) = text.split_once('=').ok_or_else(|| {
                ServiceError::invalid("cells", format!("{text:?} is not COLUMN=VALUE"))
            })?;
            let parsed = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
            Ok((column.to_owned(), value_of(&parsed)))
        };
        self.cells.iter().map(cell).collect()
    }
}

fn value_of(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => None,
        serde_json::Value::Bool(value) => Some(Kind::BoolValue(*value)),
        serde_json::Value::String(text) => Some(Kind::StringValue(text.clone())),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Some(Kind::IntValue(number)),
            (None, Some(number)) => Some(Kind::UintValue(number)),
            _ => number.as_f64().map(Kind::DoubleValue),
        },
        serde_json::Value::Array(values) => {
            Some(Kind::ListValue(ListValue { values: values.iter().map(value_of).collect() }))
        }
        serde_json::Value::Object(fields) => {
            let field = |(name, value): (&String, &serde_json::Value)| StructField {
                name: name.clone(),
                value: Some(value_of(value)),
            };
            Some(Kind::StructValue(StructValue { fields: fields.iter().map(field).collect() }))
        }
    };
    Value { kind }
}

fn answer(context: &Context, items: &[EditedItem]) -> Result<(), Failure> {
    let document = items.iter().map(|item| json!({"key": item.key, "revision": item.revision}));
    let document = json!({ "items": document.collect::<Vec<_>>() });
    context.output.answer(&document, || {
        let rows = items.iter().map(|item| vec![item.key.clone(), item.revision.clone()]);
        text_table(&["key", "revision"], rows)
    })
}

/// Makes a row.
pub async fn create(context: &Context, dataset: DatasetName, cells: &Cells) -> Result<(), Failure> {
    let request = CreateItemRequest {
        namespace: dataset.namespace,
        dataset: dataset.dataset,
        cells: cells.values()?,
        idempotency_key: String::new(),
    };
    let made = context.client()?.edits().create_item(request).await?.into_inner();
    answer(context, made.item.as_slice())
}

/// Changes cells of a row.
pub async fn patch(
    context: &Context,
    dataset: DatasetName,
    key: String,
    revision: String,
    cells: &Cells,
) -> Result<(), Failure> {
    let request = PatchItemRequest {
        namespace: dataset.namespace,
        dataset: dataset.dataset,
        key,
        cells: cells.values()?,
        revision,
        ..PatchItemRequest::default()
    };
    let patched = context.client()?.edits().patch_item(request).await?.into_inner();
    answer(context, patched.item.as_slice())
}

/// Deletes rows.
pub async fn delete(
    context: &Context,
    dataset: DatasetName,
    keys: Vec<String>,
) -> Result<(), Failure> {
    let request = BatchDeleteItemsRequest {
        namespace: dataset.namespace,
        dataset: dataset.dataset,
        keys,
        idempotency_key: String::new(),
    };
    let gone = context.client()?.edits().batch_delete_items(request).await?.into_inner();
    let count = gone.affected_rows;
    context.output.answer(&json!({ "deleted": count }), || format!("{count} deleted"))
}

/// Brings deleted rows back.
pub async fn restore(
    context: &Context,
    dataset: DatasetName,
    keys: Vec<String>,
    version: String,
) -> Result<(), Failure> {
    let request = RestoreItemsRequest {
        namespace: dataset.namespace,
        dataset: dataset.dataset,
        keys,
        version,
        idempotency_key: String::new(),
    };
    let back = context.client()?.edits().restore_items(request).await?.into_inner();
    answer(context, &back.items)
}

/// Adds tags to rows and takes tags off them.
pub async fn tag(
    context: &Context,
    dataset: DatasetName,
    keys: Vec<String>,
    (add, remove): (Vec<String>, Vec<String>),
) -> Result<(), Failure> {
    let request = EditTagsRequest {
        namespace: dataset.namespace,
        dataset: dataset.dataset,
        keys,
        add,
        remove,
        idempotency_key: String::new(),
    };
    let tagged = context.client()?.edits().edit_tags(request).await?.into_inner();
    answer(context, &tagged.items)
}
