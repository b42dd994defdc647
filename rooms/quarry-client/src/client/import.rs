//! `quarry import`: one file or folder becomes one version, or nothing does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Field;
use catalog_api::v1::{Dataset, GetDatasetRequest};
use ingest::{Format, IngestError, ReadOptions, Source};
use serde::Serialize;
use serde_json::{Value as Json, json};
use service_error::{Code, ServiceError};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::flight::{BATCHES_IN_FLIGHT, Part, Put};
use super::progress::Progress;
use super::version::DatasetName;
use super::{Client, images};
use crate::failure::Failure;

/// Skipped files that a report lists.
const SKIPPED_LISTED_MAX: usize = 1000;

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct Import {
    /// A file or a folder.
    pub path: PathBuf,
    /// Made if it does not exist.
    pub dataset: DatasetName,
    /// `None`: by what is there.
    pub format: Option<Format>,
    /// `append` or `overwrite`.
    pub mode: &'static str,
    /// Of the version.
    pub message: Option<String>,
    /// Types of columns that are not to be guessed.
    pub types: Vec<Field>,
    /// Of a new dataset; `None`: `id`, if there is one.
    pub key_column: Option<String>,
    /// Of a new dataset: columns in which no two rows may have the same value.
    pub unique_columns: Vec<String>,
    /// Repeating an import under the same key commits once.
    pub idempotency_key: Option<String>,
}

/// What was imported.
#[derive(Debug, Serialize)]
pub struct ImportReport {
    /// `namespace/name`.
    pub dataset: String,
    /// The version that holds the rows.
    pub version: i64,
    /// Added, or all when overwritten.
    pub rows: u64,
    /// Files that were uploaded.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Files that were not.
    pub skipped_count: usize,
    /// The first of them, each with `path` and `message`.
    pub skipped: Vec<Json>,
}

impl ImportReport {
    pub(super) fn new(dataset: &DatasetName) -> Self {
        Self {
            dataset: dataset.to_string(),
            version: 0,
            rows: 0,
            files: 0,
            bytes: 0,
            skipped_count: 0,
            skipped: Vec::new(),
        }
    }

    pub(super) fn skip(&mut self, err: &IngestError) {
        self.skipped_count += 1;
        if self.skipped.len() < SKIPPED_LISTED_MAX {
            self.skipped.push(json!({ "path": err.path(), "message": err.message() }));
        }
    }
}

impl Import {
    /// Runs the import; `stop` gives it up, and nothing of it stays.
    ///
    /// # Errors
    /// A fault of the file with its line and column, or the server's refusal.
    pub async fn run(
        self,
        client: &Client,
        stop: &CancellationToken,
    ) -> Result<ImportReport, Failure> {
        let path = self.path.clone();
        let known = self.format;
        let format = blocking(move || known.map_or_else(|| Format::detect(&path), Ok)).await??;
        if format == Format::Images {
            return images::import(self, client, stop).await;
        }
        tokio::select! {
            report = self.table(format, client) => report,
            () = stop.cancelled() => Err(Failure::interrupted("interrupted; nothing was imported")),
        }
    }

    async fn table(self, format: Format, client: &Client) -> Result<ImportReport, Failure> {
        let expected = match existing(client, &self.dataset).await? {
            Some(dataset) => columns_of(&dataset),
            None => Vec::new(),
        };
        let options = ReadOptions {
            format: Some(format),
            types: self.types.clone(),
            expected,
            ..ReadOptions::default()
        };
        let path = self.path.clone();
        let source = blocking(move || ingest::open(&path, &options)).await??;
        let (send, parts) = mpsc::channel(BATCHES_IN_FLIGHT);
        let schema = Arc::clone(&source.schema);
        let progress = Progress::new(&file_name(&self.path), Some(source.total()));
        let feed = async { blocking(move || feed(source, &send, &progress)).await? };
        let put = self.put().send(client, schema, parts);
        let (rows, committed) = tokio::try_join!(feed, put)?;
        Ok(ImportReport { version: committed.version, rows, ..ImportReport::new(&self.dataset) })
    }

    /// The put of this import.
    pub(super) fn put(&self) -> Put {
        let mut put = Put::new(&self.dataset, self.mode);
        put.message.clone_from(&self.message);
        put.key_column.clone_from(&self.key_column);
        put.unique_columns.clone_from(&self.unique_columns);
        if let Some(key) = &self.idempotency_key {
            put.idempotency_key.clone_from(key);
        }
        put
    }
}

/// Reads on a thread of its own and hands batches over as the network takes
/// them.
fn feed(source: Source, send: &mpsc::Sender<Part>, progress: &Progress) -> Result<u64, Failure> {
    let done = source.progress();
    let mut rows = 0;
    for batch in source {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        progress.set(done());
        if send.blocking_send(Part::Rows(batch)).is_err() {
            // The put has failed, and says why itself.
            return Ok(rows);
        }
    }
    drop(send.blocking_send(Part::End));
    Ok(rows)
}

/// The dataset, if there is one that the caller may see.
pub async fn existing(client: &Client, name: &DatasetName) -> Result<Option<Dataset>, Failure> {
    let request =
        GetDatasetRequest { namespace: name.namespace.clone(), name: name.dataset.clone() };
    match client.datasets().get_dataset(request).await.map_err(Failure::from) {
        Ok(answer) => Ok(answer.into_inner().dataset),
        Err(failure) if failure.code() == Code::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The columns of a dataset, so that a text file is read as they are.
fn columns_of(dataset: &Dataset) -> Vec<Field> {
    let schema = item_schema::schema_from_ipc(&dataset.arrow_schema);
    schema.map_or_else(
        |_| Vec::new(),
        |schema| schema.fields().iter().map(|field| field.as_ref().clone()).collect(),
    )
}

/// Runs what blocks beside the runtime.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let died =
        |err: JoinError| ServiceError::internal("a reader stopped unexpectedly").caused_by(err);
    Ok(tokio::task::spawn_blocking(work).await.map_err(died)?)
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
