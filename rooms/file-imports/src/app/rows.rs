//! Samples as rows of the items profile.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use dataset_layouts::Sample;
use file_scan::names;
use serde_json::{Value, json};
use service_error::ServiceError;
use uuid::Uuid;

use crate::model::Location;

/// The column that tells rows apart.
pub const KEY: &str = "id";
const BATCH_ROWS: usize = 2_000;

/// A sample with the item that it is.
#[derive(Debug)]
pub struct Row {
    /// The same for the same place in the same location.
    pub id: Uuid,
    pub sample: Sample,
    /// Relative to the location, as text.
    pub path: String,
    pub mime_type: &'static str,
    /// The entry whose bytes hold it.
    pub entry: i64,
}

/// The columns that an import writes.
pub fn schema() -> Schema {
    let columns = [
        ("id", DataType::Utf8),
        ("file_path", DataType::Utf8),
        ("title", DataType::Utf8),
        ("caption", DataType::Utf8),
        ("mime_type", DataType::Utf8),
        ("file_size_bytes", DataType::Int64),
        ("width", DataType::Int32),
        ("height", DataType::Int32),
        ("aspect_ratio", DataType::Float64),
        ("content_hash", DataType::Utf8),
        ("split", DataType::Utf8),
        ("label", DataType::Utf8),
        ("annotations_json", DataType::Utf8),
        ("metadata_json", DataType::Utf8),
    ];
    Schema::new(
        columns
            .map(|(name, kind)| Field::new(name, kind, name != KEY))
            .into_iter()
            .collect::<Vec<_>>(),
    )
}

impl Row {
    /// The item of a place in a location.
    pub fn id_of(location: &Location, path: &str) -> Uuid {
        let mut hash = blake3::Hasher::new();
        hash.update(location.uuid.as_bytes());
        hash.update(path.as_bytes());
        let mut bytes = [0; 16];
        hash.finalize_xof().fill(&mut bytes);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    fn annotations(&self) -> Option<String> {
        let list = &self.sample.annotations;
        (!list.is_empty()).then(|| Value::Array(list.clone()).to_string())
    }

    /// Where it came from, and what a metadata file says of it.
    fn metadata(&self, location: &Location) -> String {
        let mut object = json!({
            "location": location.uuid.to_string(),
            "entry": self.entry.to_string(),
            "source": names::shown(&location.absolute(&self.path)),
        });
        if !self.sample.properties.is_empty() {
            object["properties"] = Value::Object(self.sample.properties.clone());
        }
        object.to_string()
    }

    /// All that its row says, in 16 bytes.
    pub fn print(&self, location: &Location) -> [u8; 16] {
        let sample = &self.sample;
        let mut hash = blake3::Hasher::new();
        for text in [
            self.path.as_str(),
            sample.caption.as_deref().unwrap_or("\0"),
            sample.split.as_deref().unwrap_or("\0"),
            sample.label.as_deref().unwrap_or("\0"),
            self.annotations().as_deref().unwrap_or("\0"),
            self.metadata(location).as_str(),
            self.mime_type,
        ] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hash.update(&sample.content);
        let (width, height) = sample.shown_size.unwrap_or_default();
        hash.update(&[width.to_le_bytes(), height.to_le_bytes()].concat());
        let mut print = [0; 16];
        hash.finalize_xof().fill(&mut print);
        print
    }
}

/// Rows as batches.
///
/// # Errors
/// Arrow's.
pub fn batches(rows: &[&Row], location: &Location) -> Result<Vec<RecordBatch>, ServiceError> {
    rows.chunks(BATCH_ROWS).map(|rows| batch(rows, location)).collect()
}

fn batch(rows: &[&Row], location: &Location) -> Result<RecordBatch, ServiceError> {
    let text = |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(StringArray::from_iter(rows.iter().map(|row| of(row))))
    };
    let pixels = |of: fn((u32, u32)) -> u32| -> ArrayRef {
        let sizes = rows.iter().map(|row| i32::try_from(of(row.sample.shown_size?)).ok());
        Arc::new(Int32Array::from_iter(sizes))
    };
    let ratio = rows.iter().map(|row| {
        let (width, height) = row.sample.shown_size?;
        (height > 0).then(|| f64::from(width) / f64::from(height))
    });
    let columns = vec![
        text(&|row| Some(row.id.to_string())),
        text(&|row| Some(names::shown(&row.path))),
        text(&|row| Some(title(&row.path))),
        text(&|row| row.sample.caption.clone()),
        text(&|row| Some(row.mime_type.to_owned())),
        Arc::new(Int64Array::from_iter_values(
            rows.iter().map(|row| row.sample.size.cast_signed()),
        )),
        pixels(|(width, _)| width),
        pixels(|(_, height)| height),
        Arc::new(Float64Array::from_iter(ratio)),
        text(&|row| Some(hex::encode(row.sample.content))),
        text(&|row| row.sample.split.clone()),
        text(&|row| row.sample.label.clone()),
        text(&|row| row.annotations()),
        text(&|row| Some(row.metadata(location))),
    ];
    RecordBatch::try_new(Arc::new(schema()), columns)
        .map_err(|error| ServiceError::internal(format!("rows of an import: {error}")))
}

/// Keys alone, for rows that are to go.
///
/// # Errors
/// Arrow's.
pub fn keys(ids: &[Uuid]) -> Result<Vec<RecordBatch>, ServiceError> {
    let schema = Arc::new(Schema::new(vec![Field::new(KEY, DataType::Utf8, false)]));
    ids.chunks(BATCH_ROWS * 10)
        .map(|ids| {
            let column: ArrayRef =
                Arc::new(StringArray::from_iter_values(ids.iter().map(Uuid::to_string)));
            RecordBatch::try_new(Arc::clone(&schema), vec![column])
                .map_err(|error| ServiceError::internal(format!("keys of an import: {error}")))
        })
        .collect()
}

fn title(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    names::shown(name.rsplit_once('.').map_or(name, |(stem, _)| stem))
}
