//! `metadata.csv` and `metadata.jsonl`: columns about images, by `file_name`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use item_schema::{CORE_COLUMNS, SMALL_DATASET_COLUMNS};

use super::{Table, relative, walk};
use crate::error::{ErrorKind, IngestError, bytes_text};
use crate::{ReadOptions, open};

const NAMES: [&str; 2] = ["metadata.csv", "metadata.jsonl"];
const KEY: &str = "file_name";
const SHOWN_MAX: usize = 20;
/// What only the file itself can say.
const PROBED: [&str; 7] = [
    "file_path",
    "mime_type",
    "file_size_bytes",
    "width",
    "height",
    "aspect_ratio",
    "content_hash",
];

/// The rows of all metadata files, and who is yet to be found.
pub(super) struct Metadata {
    table: Table,
    rows: HashMap<String, (usize, usize)>,
    files: Vec<PathBuf>,
}

/// The columns beside those that are probed.
pub(super) struct MetadataTable {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
}

impl Metadata {
    pub(super) fn load(root: &Path, options: &ReadOptions) -> Result<Self, IngestError> {
        let mut loaded = Self {
            table: Arc::new(MetadataTable {
                schema: Arc::new(Schema::empty()),
                batches: Vec::new(),
            }),
            rows: HashMap::new(),
            files: find(root),
        };
        check_size(&loaded.files, options.limits.metadata_bytes_max)?;
        let mut schema: Option<SchemaRef> = None;
        let mut batches = Vec::new();
        let options = ReadOptions { format: None, expected: expected(), ..options.clone() };
        for path in &loaded.files {
            for batch in open(path, &options)? {
                let batch = batch?;
                index(&mut loaded.rows, root, path, &batch, batches.len())?;
                let batch = user_columns(&batch)
                    .map_err(|err| IngestError::broken(path, "its columns", err))?;
                let known = schema.get_or_insert_with(|| batch.schema());
                if *known != batch.schema() {
                    let message = "has other columns or types than the first metadata file; give the types by --schema";
                    return Err(IngestError::new(ErrorKind::Schema, path, message));
                }
                batches.push(batch);
            }
        }
        if let Some(schema) = schema {
            loaded.table = Arc::new(MetadataTable { schema, batches });
        }
        Ok(loaded)
    }

    pub(super) fn table(&self) -> Table {
        Arc::clone(&self.table)
    }

    /// The row about a file, once.
    pub(super) fn take(&mut self, relative: &str) -> Option<(usize, usize)> {
        self.rows.remove(relative)
    }

    /// Rows whose file was never asked for: how many, and the first few.
    pub(super) fn left(&self) -> (usize, Vec<IngestError>) {
        let mut names: Vec<_> = self.rows.keys().collect();
        names.sort_unstable();
        let path = self.files.first().cloned().unwrap_or_default();
        let missing = |name: &&String| {
            let message = format!("names {name:?}, but there is no such image");
            IngestError::new(ErrorKind::NotFound, &path, message).column(KEY)
        };
        (names.len(), names.iter().take(SHOWN_MAX).map(missing).collect())
    }
}

fn find(root: &Path) -> Vec<PathBuf> {
    let entries = walk(root).into_iter().filter_map(Result::ok);
    let named = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| NAMES.contains(&name)));
    named.filter(|entry| entry.path().is_file()).map(walkdir::DirEntry::into_path).collect()
}

fn check_size(files: &[PathBuf], limit: u64) -> Result<(), IngestError> {
    let mut sum = 0;
    for path in files {
        sum += std::fs::metadata(path).map_err(|err| IngestError::io(path, err))?.len();
        if sum > limit {
            let message =
                format!("the metadata files are over the limit of {} together", bytes_text(limit));
            return Err(IngestError::new(ErrorKind::Limit, path, message));
        }
    }
    Ok(())
}

/// Types of the item columns that a metadata file may carry.
fn expected() -> Vec<Field> {
    let items = CORE_COLUMNS
        .iter()
        .chain(&SMALL_DATASET_COLUMNS)
        .map(|column| column.field().with_nullable(true));
    items.chain([KEY, "text"].map(|name| Field::new(name, DataType::Utf8, true))).collect()
}

fn index(
    rows: &mut HashMap<String, (usize, usize)>,
    root: &Path,
    path: &Path,
    batch: &RecordBatch,
    number: usize,
) -> Result<(), IngestError> {
    let names = batch
        .column_by_name(KEY)
        .and_then(|column| column.as_string_opt::<i32>())
        .ok_or_else(|| {
            IngestError::new(
                ErrorKind::Schema,
                path,
                "a metadata file must say which image each row is about",
            )
            .column(KEY)
        })?;
    let folder = path.parent().and_then(|parent| relative(root, parent));
    for row in 0..names.len() {
        if names.is_null(row) {
            return Err(
                IngestError::new(ErrorKind::Value, path, "a row names no image").column(KEY)
            );
        }
        let name = names.value(row).replace('\\', "/");
        let name = name.trim_start_matches("./");
        let relative =
            folder.as_ref().map_or_else(|| name.to_owned(), |folder| format!("{folder}/{name}"));
        if rows.insert(relative, (number, row)).is_some() {
            let message = format!("{name:?} is named twice");
            return Err(IngestError::new(ErrorKind::Value, path, message).column(KEY));
        }
    }
    Ok(())
}

/// Without the key and what is probed; `text` is the caption where no column
/// has that name.
fn user_columns(batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let schema = batch.schema();
    let kept: Vec<usize> = (0..schema.fields().len())
        .filter(|at| {
            let name = schema.field(*at).name().as_str();
            name != KEY && !PROBED.contains(&name)
        })
        .collect();
    let batch = batch.project(&kept)?;
    let schema = batch.schema();
    if schema.column_with_name("caption").is_some() {
        return Ok(batch);
    }
    let renamed = schema.fields().iter().map(|field| match field.name().as_str() {
        "text" => Arc::new(Field::new("caption", DataType::Utf8, true)),
        _ => Arc::clone(field),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(
        Arc::new(Schema::new(renamed.collect::<Vec<_>>())),
        batch.columns().to_vec(),
        &options,
    )
}
