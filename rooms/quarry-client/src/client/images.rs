//! A folder of images: found, decoded, uploaded and put at once, each a few
//! files ahead of the next.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use futures::{Stream, StreamExt};
use ingest::images::{Found, Image, ImageRows, ImageScan, probe, scan};
use ingest::{Amount, IngestError, Limits, ReadOptions};
use service_error::ServiceError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::Client;
use super::flight::{BATCHES_IN_FLIGHT, Part};
use super::import::{Import, ImportReport, blocking, existing, file_name};
use super::media::{self, Sent, Uploads};
use super::progress::Progress;
use crate::failure::Failure;

/// Found files that wait to be decoded.
const FOUND_WAITING: usize = 64;
/// Files that are sent and not yet acknowledged.
const UNACKNOWLEDGED_MAX: usize = 32;
/// Rows of a batch.
const BATCH_ROWS: usize = 2048;
/// Decoding takes memory: at most so many at once, whatever the cores.
const DECODERS_MAX: usize = 4;
const ABORT_WITHIN: Duration = Duration::from_secs(5);

/// Imports a folder; on any failure the upload is given up.
pub async fn import(
    import: Import,
    client: &Client,
    stop: &CancellationToken,
) -> Result<ImportReport, Failure> {
    let root = import.path.clone();
    let options = ReadOptions { types: import.types.clone(), ..ReadOptions::default() };
    let scan = blocking(move || scan(&root, &options)).await??;
    let upload_id = media::begin(client, &import.dataset).await?;
    let result = tokio::select! {
        report = run(&import, scan, &upload_id, client) => report,
        () = stop.cancelled() => Err(Failure::interrupted("interrupted; nothing was imported")),
    };
    if result.is_err() {
        // The lease ends by itself should this fail too.
        drop(tokio::time::timeout(ABORT_WITHIN, media::abort(client, &upload_id)).await);
    }
    result
}

async fn run(
    import: &Import,
    scan: ImageScan,
    upload_id: &str,
    client: &Client,
) -> Result<ImportReport, Failure> {
    let root = import.path.clone();
    let count = blocking(move || ImageScan::count(&root)).await?;
    let is_new = existing(client, &import.dataset).await?.is_none();
    let schema = scan.schema();
    let (send, parts) = mpsc::channel(BATCHES_IN_FLIGHT);
    let mut pipeline = Pipeline {
        rows: scan.rows(),
        uploads: Uploads::start(client, upload_id),
        sent: VecDeque::new(),
        parts: send,
        report: ImportReport::new(&import.dataset),
        progress: Progress::new(&file_name(&import.path), Some(Amount::Rows(count))),
    };
    let mut put = import.put();
    put.upload_id = Some(upload_id.to_owned());
    put.profile = is_new.then_some("items");
    let put = put.send(client, schema, parts);
    let ((), committed) = tokio::try_join!(pipeline.run(scan, &import.path), put)?;
    Ok(ImportReport { version: committed.version, ..pipeline.report })
}

/// The stages behind the decoders.
struct Pipeline {
    rows: ImageRows,
    uploads: Uploads,
    /// Files in order, each with the acknowledgement that it waits for, unless
    /// the same bytes were sent before.
    sent: VecDeque<(Image, Option<Sent>)>,
    parts: mpsc::Sender<Part>,
    report: ImportReport,
    progress: Progress,
}

impl Pipeline {
    async fn run(&mut self, scan: ImageScan, root: &Path) -> Result<(), Failure> {
        let limits = scan.limits().clone();
        let (found, waiting) = mpsc::channel(FOUND_WAITING);
        let walk = tokio::task::spawn_blocking(move || walk(scan, &found));
        let mut probed = decoded(waiting, limits);
        while let Some(image) = probed.next().await {
            match image? {
                Ok(image) => self.take(image).await?,
                Err(err) => self.skip(&err),
            }
        }
        let scan =
            walk.await.map_err(|err| ServiceError::internal("the walk stopped").caused_by(err))?;
        let (missing, first) = scan.missing();
        first.iter().for_each(|err| self.skip(err));
        self.report.skipped_count += missing.saturating_sub(first.len());
        while !self.sent.is_empty() {
            self.settle().await?;
        }
        if self.report.rows == 0 {
            return Err(nothing(root, self.report.skipped_count));
        }
        self.flush().await?;
        drop(self.parts.send(Part::End).await);
        Ok(())
    }

    async fn take(&mut self, mut image: Image) -> Result<(), Failure> {
        if let Some(warning) = image.warning.take() {
            self.skip(&warning);
        }
        let sent = self.uploads.send(&mut image).await?;
        if sent.is_some() {
            self.report.files += 1;
            self.report.bytes += image.size;
        }
        self.sent.push_back((image, sent));
        while self.sent.len() > UNACKNOWLEDGED_MAX {
            self.settle().await?;
        }
        Ok(())
    }

    /// A row may be put once its file is kept.
    async fn settle(&mut self) -> Result<(), Failure> {
        let Some((image, sent)) = self.sent.pop_front() else { return Ok(()) };
        if let Some(sent) = sent {
            self.uploads.kept(sent).await?;
        }
        self.rows.push(image);
        self.report.rows += 1;
        self.progress.add(1);
        if self.rows.len() >= BATCH_ROWS {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let batch = self.rows.finish().map_err(|err| ServiceError::internal(err.to_string()))?;
        // Should the put have failed, it says why itself.
        drop(self.parts.send(Part::Rows(batch)).await);
        Ok(())
    }

    fn skip(&mut self, err: &IngestError) {
        self.progress.note(&format!("skipped: {err}"));
        self.report.skip(err);
    }
}

fn walk(mut scan: ImageScan, found: &mpsc::Sender<Result<Found, IngestError>>) -> ImageScan {
    for file in scan.by_ref() {
        if found.blocking_send(file).is_err() {
            break;
        }
    }
    scan
}

type Probed = Result<Result<Image, IngestError>, Failure>;

/// Several are decoded at once; they come out in the order they went in.
fn decoded(
    found: mpsc::Receiver<Result<Found, IngestError>>,
    limits: Limits,
) -> impl Stream<Item = Probed> + Unpin {
    let decoders = std::thread::available_parallelism().map_or(1, usize::from).min(DECODERS_MAX);
    let probes = ReceiverStream::new(found).map(move |found| {
        let limits = limits.clone();
        async move {
            match found {
                Ok(found) => blocking(move || probe(found, &limits)).await,
                Err(err) => Ok(Err(err)),
            }
        }
    });
    Box::pin(probes.buffered(decoders))
}

fn nothing(root: &Path, skipped: usize) -> Failure {
    let message = match skipped {
        0 => format!("{}: no image is in this folder (png, jpeg, gif, webp, bmp)", root.display()),
        _ => format!(
            "{}: none of its {skipped} images can be read; nothing was imported",
            root.display()
        ),
    };
    ServiceError::invalid("path", message).into()
}
