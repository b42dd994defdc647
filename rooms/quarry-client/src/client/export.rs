//! `quarry export`: a version into one file or folder, under its final name
//! only once it is whole.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt, stream};
use ingest::{Amount, Format, ImageFolder, Writer};
use serde::Serialize;
use service_error::ServiceError;
use tokio::sync::mpsc;

use super::Client;
use super::flight::{BATCHES_IN_FLIGHT, Query};
use super::import::{blocking, file_name};
use super::media;
use super::progress::Progress;
use crate::failure::Failure;

/// Files that are fetched at once.
const DOWNLOADS_AT_ONCE: usize = 8;

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct Export {
    /// Which rows.
    pub query: Query,
    /// A file, or a folder for images.
    pub path: PathBuf,
    /// `None`: by the extension.
    pub format: Option<Format>,
}

/// What was exported.
#[derive(Debug, Serialize)]
pub struct ExportReport {
    /// The file or folder.
    pub path: PathBuf,
    /// `csv`, `parquet`, …
    pub format: &'static str,
    /// Rows in it.
    pub rows: u64,
    /// Image files in it.
    pub files: u64,
}

impl Export {
    /// Runs the export. Dropped before its end, it leaves nothing behind.
    ///
    /// # Errors
    /// The format is not known, the disk is full, the stream was cut short.
    pub async fn run(self, client: &Client) -> Result<ExportReport, Failure> {
        let format = self.format.or_else(|| Format::of_extension(&self.path)).ok_or_else(|| {
            let message =
                format!("{} does not say what to write; give --format", self.path.display());
            ServiceError::invalid("format", message)
        })?;
        let flight = self.query.find(client).await?;
        let total = flight.rows;
        let progress = Progress::new(&file_name(&self.path), total.map(Amount::Rows));
        let schema = Arc::clone(&flight.schema);
        let draft = Draft::new(&self.path, format)?;
        let mut batches = std::pin::pin!(flight.batches(client));
        let (rows, files) = if format == Format::Images {
            let mut folder = Folder::new(&draft, &schema, client, &self.query)?;
            while let Some(batch) = batches.try_next().await? {
                folder.write(&batch).await?;
                progress.add(batch.num_rows() as u64);
            }
            folder.finish()?
        } else {
            let (send, written) = mpsc::channel(BATCHES_IN_FLIGHT);
            let writer = blocking({
                let path = draft.path.clone();
                move || write(&path, format, &schema, written)
            });
            let read = async {
                while let Some(batch) = batches.try_next().await? {
                    progress.add(batch.num_rows() as u64);
                    if send.send(batch).await.is_err() {
                        break;
                    }
                }
                drop(send);
                Ok::<_, Failure>(())
            };
            let ((), rows) = tokio::try_join!(read, async { writer.await? })?;
            (rows, 0)
        };
        if let Some(total) = total.filter(|total| *total != rows && self.query.limit.is_none()) {
            let message = format!("{rows} rows arrived of {total}; nothing was written");
            return Err(ServiceError::data_loss(message).into());
        }
        draft.keep()?;
        Ok(ExportReport { path: self.path, format: format.name(), rows, files })
    }
}

fn write(
    path: &Path,
    format: Format,
    schema: &SchemaRef,
    mut batches: mpsc::Receiver<RecordBatch>,
) -> Result<u64, Failure> {
    let failed =
        |err: std::io::Error| ServiceError::precondition(format!("{}: {err}", path.display()));
    let file = File::create(path).map_err(failed)?;
    let synced = file.try_clone().map_err(failed)?;
    let mut writer =
        Writer::new(path, format, schema, Box::new(BufWriter::with_capacity(1 << 20, file)))?;
    let mut rows = 0;
    while let Some(batch) = batches.blocking_recv() {
        rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    writer.finish()?;
    synced.sync_all().map_err(failed)?;
    Ok(rows)
}

/// Images on their way into a folder.
struct Folder<'a> {
    out: ImageFolder,
    client: &'a Client,
    query: &'a Query,
    rows: u64,
    files: u64,
}

impl<'a> Folder<'a> {
    fn new(
        draft: &Draft,
        schema: &SchemaRef,
        client: &'a Client,
        query: &'a Query,
    ) -> Result<Self, Failure> {
        Ok(Self { out: ImageFolder::new(&draft.path, schema)?, client, query, rows: 0, files: 0 })
    }

    async fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let wanted = self.out.write(batch)?;
        self.rows += batch.num_rows() as u64;
        self.files += wanted.len() as u64;
        let (client, dataset) = (self.client, &self.query.from.dataset);
        stream::iter(wanted)
            .map(|file| async move {
                media::download(client, dataset, &file.content_hash, &file.path).await.map(drop)
            })
            .buffer_unordered(DOWNLOADS_AT_ONCE)
            .try_collect::<()>()
            .await
    }

    fn finish(self) -> Result<(u64, u64), Failure> {
        self.out.finish()?;
        Ok((self.rows, self.files))
    }
}

/// A file or folder under a temporary name beside its final one; removed
/// unless kept.
struct Draft {
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl Draft {
    fn new(target: &Path, format: Format) -> Result<Self, Failure> {
        let Some(name) = target.file_name() else {
            return Err(ServiceError::invalid(
                "path",
                format!("{} names no file", target.display()),
            )
            .into());
        };
        let failed = |err: std::io::Error| {
            ServiceError::precondition(format!("{}: {err}", target.display()))
        };
        let path = target.with_file_name(format!(
            ".{}.{}.part",
            name.to_string_lossy(),
            std::process::id()
        ));
        if format == Format::Images {
            let taken = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some())
                || target.is_file();
            if taken {
                return Err(ServiceError::already_exists("folder", target.display()).into());
            }
            fs::create_dir_all(&path).map_err(failed)?;
        } else if target.is_dir() {
            let message = format!("{} is a folder; name a file in it", target.display());
            return Err(ServiceError::invalid("path", message).into());
        }
        Ok(Self { path, target: target.to_owned(), kept: false })
    }

    fn keep(mut self) -> Result<(), Failure> {
        let failed = |err: std::io::Error| {
            ServiceError::precondition(format!("{}: {err}", self.target.display()))
        };
        // An empty folder gives way to a new one, as a file does by itself.
        if self.path.is_dir() && self.target.is_dir() {
            fs::remove_dir(&self.target).map_err(failed)?;
        }
        fs::rename(&self.path, &self.target).map_err(failed)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // Neither failing is worth a word: it was a draft.
            drop(fs::remove_file(&self.path));
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_draft_that_is_not_kept_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out.csv");
        fs::write(&target, "old").unwrap();
        let draft = Draft::new(&target, Format::Csv).unwrap();
        fs::write(&draft.path, "half").unwrap();
        drop(draft);
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let draft = Draft::new(&target, Format::Csv).unwrap();
        fs::write(&draft.path, "new").unwrap();
        draft.keep().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    }

    #[test]
    fn a_folder_with_something_in_it_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        fs::create_dir(&target).unwrap();
        Draft::new(&target, Format::Images).unwrap().keep().unwrap();
        fs::write(target.join("mine.txt"), "mine").unwrap();
        let failure = Draft::new(&target, Format::Images).err().unwrap();
        assert_eq!(failure.exit() as u8, 5);
        assert!(Draft::new(dir.path(), Format::Csv).is_err());
    }
}
