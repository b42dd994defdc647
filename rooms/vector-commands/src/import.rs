//! `quarry vectors import-faiss`: a file's vectors become points of a space.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use clap::Args;
use quarry_client::client::Client;
use quarry_client::client::progress::Progress;
use quarry_client::client::space::SpaceName;
use quarry_client::failure::Failure;
use quarry_client::output::{Output, text_table};
use serde::Serialize;
use serde_json::json;
use service_error::{Code, ServiceError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vectors_api::v1 as api;

use crate::metadata::Rows;
use crate::{blocking, faiss_failure, metric_name, open_faiss, wrong_file};

/// Points of one write.
const BATCH_POINTS: usize = 500;
/// Floats of one write.
const BATCH_FLOATS: usize = 1 << 20;
/// Batches that are read before they are wanted.
const BATCHES_AHEAD: usize = 2;
/// The longest item id, in bytes: the server's own limit.
const ITEM_ID_BYTES_MAX: usize = 512;

/// Which files become points of which space.
#[derive(Debug, Args)]
pub struct ImportFaissArgs {
    /// FAISS index files: Flat, IVF-Flat, HNSW-Flat, scalar quantisers, under IDMap or PreTransform
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE; made as the first file is if it is not there
    #[arg(value_name = "SPACE")]
    space: SpaceName,
    /// A row a vector, in the file's order: json, jsonl, parquet, csv; one for each FILE
    #[arg(long, value_name = "FILE")]
    metadata: Vec<PathBuf>,
    /// The metadata's column that is the item's id [default: the file's own id, or the vector's place]
    #[arg(long, value_name = "C", requires = "metadata")]
    id_column: Option<String>,
    /// Before each id that the file gives [default: the file's name and '/', for several files]
    #[arg(long, value_name = "TEXT")]
    id_prefix: Option<String>,
    /// What made the vectors
    #[arg(long, value_name = "NAME", default_value = "")]
    embedder: String,
    /// Read everything, write nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of a file.
#[derive(Debug, Default, Serialize)]
struct FileReport {
    file: String,
    kinds: String,
    dimension: u32,
    vectors: u64,
    metric: String,
    /// What the file stores is less than what was put into it.
    lossy: bool,
    normalised: bool,
    inserted: i64,
    updated: i64,
    /// Points that were there already, the same.
    unchanged: u64,
    /// Vectors of an id that came before in the file: a point is its last one.
    replaced_within: u64,
    /// Columns of the metadata that no payload holds.
    columns_left_out: Vec<String>,
}

/// One file, and how its vectors are named.
#[derive(Debug, Clone)]
struct Source {
    path: PathBuf,
    metadata: Option<PathBuf>,
    id_column: Option<String>,
    prefix: String,
}

impl ImportFaissArgs {
    /// Imports; a batch at a time, each of them whole.
    ///
    /// # Errors
    /// A file that is wrong, before anything of it is written where that can be known; the
    /// server's refusal.
    pub async fn run(
        self,
        client: &Client,
        output: Output,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        if !self.metadata.is_empty() && self.metadata.len() != self.files.len() {
            let (files, given) = (self.files.len(), self.metadata.len());
            return Err(Failure::usage(format!("--metadata: {files} files and {given} of them")));
        }
        let sources = self.sources();
        let mut reports = Vec::new();
        // All files are looked into before the first is written.
        for source in &sources {
            let source = source.clone();
            reports.push(blocking(move || looked_into(&source)).await?);
        }
        let made = self.space_for(client, &reports).await?;
        for (source, report) in sources.into_iter().zip(&mut reports) {
            tokio::select! {
                done = self.import(client, source, report) => done?,
                () = stop.cancelled() => {
                    let message = "interrupted; what was written stays, and the same command goes on";
                    return Err(Failure::interrupted(message));
                }
            }
            if report.replaced_within > 0 {
                output.hint(&format!(
                    "{} has {} vectors of ids that came before in it: each point is the last one of its id",
                    report.file, report.replaced_within
                ));
            }
            if report.lossy {
                output.hint(&format!(
                    "{} is lossy: its vectors are what the quantiser ({}) left of them",
                    report.file, report.kinds
                ));
            }
        }
        let document = json!({
            "space": self.space.to_string(),
            "created": made,
            "dry_run": self.dry_run,
            "files": reports,
        });
        output.answer(&document, || table(&reports))
    }

    fn sources(&self) -> Vec<Source> {
        let several = self.files.len() > 1;
        let source = |(at, path): (usize, &PathBuf)| {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
            let own = if several { format!("{stem}/") } else { String::new() };
            Source {
                path: path.clone(),
                metadata: self.metadata.get(at).cloned(),
                id_column: self.id_column.clone(),
                prefix: self.id_prefix.clone().unwrap_or(own),
            }
        };
        self.files.iter().enumerate().map(source).collect()
    }

    /// Compares the space with the files, or makes it; whether it was (or would be) made.
    async fn space_for(&self, client: &Client, reports: &[FileReport]) -> Result<bool, Failure> {
        let request = api::GetSpaceRequest {
            namespace: self.space.namespace.clone(),
            dataset: self.space.dataset.clone(),
            space: self.space.space.clone(),
        };
        let known = match client.spaces().get_space(request).await {
            Ok(answer) => Some(answer.into_inner().space.unwrap_or_default()),
            Err(status) => {
                let error = ServiceError::from(status);
                if error.code() != Code::NotFound {
                    return Err(error.into());
                }
                None
            }
        };
        let dimension = match (&known, reports.first()) {
            (Some(space), _) => space.dimension,
            (None, Some(first)) => i32::try_from(first.dimension).unwrap_or(i32::MAX),
            (None, None) => return Ok(false),
        };
        for report in reports {
            if i64::from(report.dimension) != i64::from(dimension) {
                let message = format!(
                    "{} has {} dimensions and space {} has {dimension}",
                    report.file, report.dimension, self.space
                );
                return Err(ServiceError::invalid("dimension", message).into());
            }
        }
        if known.is_some() || self.dry_run {
            return Ok(known.is_none());
        }
        let metric = reports.first().map_or("", |first| first.metric.as_str());
        let normalised = reports.iter().all(|report| report.normalised);
        let request = api::CreateSpaceRequest {
            namespace: self.space.namespace.clone(),
            dataset: self.space.dataset.clone(),
            space: self.space.space.clone(),
            dimension,
            metric: metric_of(metric, normalised)?.into(),
            element: api::Element::F32.into(),
            embedder: self.embedder.clone(),
        };
        client.spaces().create_space(request).await?;
        Ok(true)
    }

    async fn import(
        &self,
        client: &Client,
        source: Source,
        report: &mut FileReport,
    ) -> Result<(), Failure> {
        let (send, mut batches) = mpsc::channel::<Vec<api::Point>>(BATCHES_AHEAD);
        let total = ingest::Amount::Rows(report.vectors);
        let bar = Progress::new(&report.file, Some(total));
        let reading = tokio::spawn(blocking(move || read(&source, &send)));
        while let Some(batch) = batches.recv().await {
            let count = batch.len() as u64;
            if !self.dry_run {
                self.write(client, batch, report).await?;
            }
            bar.add(count);
        }
        let died = |error| ServiceError::internal("the reader stopped").caused_by(error);
        report.replaced_within = reading.await.map_err(died)??;
        Ok(())
    }

    /// Writes those of a batch that are not there as they are.
    async fn write(
        &self,
        client: &Client,
        batch: Vec<api::Point>,
        report: &mut FileReport,
    ) -> Result<(), Failure> {
        let SpaceName { namespace, dataset, space } = self.space.clone();
        let request = api::GetPointsRequest {
            namespace: namespace.clone(),
            dataset: dataset.clone(),
            space: space.clone(),
            item_ids: batch.iter().map(|point| point.item_id.clone()).collect(),
            with_vector: true,
        };
        let known = client.points().get_points(request).await?.into_inner().points;
        let known: std::collections::HashMap<&str, &api::Point> =
            known.iter().map(|point| (point.item_id.as_str(), point)).collect();
        let before = batch.len();
        let points: Vec<api::Point> = batch
            .into_iter()
            .filter(|point| known.get(point.item_id.as_str()) != Some(&point))
            .collect();
        report.unchanged += (before - points.len()) as u64;
        if points.is_empty() {
            return Ok(());
        }
        let embedder = self.embedder.clone();
        let request = api::UpsertPointsRequest { namespace, dataset, space, points, embedder };
        let written = client.points().upsert_points(request).await?.into_inner();
        report.inserted += written.inserted;
        report.updated += written.updated;
        Ok(())
    }
}

fn looked_into(source: &Source) -> Result<FileReport, Failure> {
    let file = open_faiss(&source.path)?;
    let summary = file.summary();
    let left_out = match &source.metadata {
        Some(path) => Rows::open(path, source.id_column.as_deref())?.left_out,
        None => Default::default(),
    };
    Ok(FileReport {
        file: source.path.display().to_string(),
        kinds: summary.kinds.join(" > "),
        dimension: summary.dimension,
        vectors: summary.count,
        metric: metric_name(summary.metric),
        lossy: summary.is_lossy,
        normalised: summary.is_normalised,
        columns_left_out: left_out.into_iter().collect(),
        ..FileReport::default()
    })
}

/// A file's metric as a space's: inner products of vectors of length one are cosines.
fn metric_of(metric: &str, normalised: bool) -> Result<api::Metric, Failure> {
    match metric {
        "ip" if normalised => Ok(api::Metric::Cosine),
        "ip" => Ok(api::Metric::Ip),
        "l2" => Ok(api::Metric::L2),
        "l1" => Ok(api::Metric::L1),
        other => Err(ServiceError::invalid(
            "metric",
            format!("the file compares by {other}; make the space with --metric first"),
        )
        .into()),
    }
}

/// Reads a file to its end, into batches; how many of its vectors have an id that came before.
fn read(source: &Source, batches: &mpsc::Sender<Vec<api::Point>>) -> Result<u64, Failure> {
    let file = open_faiss(&source.path)?;
    let (dimension, count) = (file.summary().dimension as usize, file.summary().count);
    let per_batch = (BATCH_FLOATS / dimension.max(1)).clamp(1, BATCH_POINTS);
    let mut rows = match &source.metadata {
        Some(path) => Some((path, Rows::open(path, source.id_column.as_deref())?)),
        None => None,
    };
    let vectors = file.vectors().map_err(|error| faiss_failure(&source.path, &error))?;
    let mut batch = Vec::new();
    let mut ids = HashSet::new();
    let (mut known, mut repeated) = (Known::default(), 0);
    for (place, next) in vectors.enumerate() {
        let (id, values) = next.map_err(|error| faiss_failure(&source.path, &error))?;
        let point = point(source, &mut rows, (place, count), (id, values))?;
        repeated += u64::from(!known.insert(&point.item_id));
        if !ids.insert(point.item_id.clone()) {
            // One write takes an item once; the later vector wins, as it would in FAISS' own map.
            flush(&mut batch, batches);
            ids.clear();
            ids.insert(point.item_id.clone());
        }
        batch.push(point);
        if batch.len() >= per_batch {
            if !flush(&mut batch, batches) {
                return Ok(repeated);
            }
            ids.clear();
        }
    }
    flush(&mut batch, batches);
    if let Some((path, rows)) = &mut rows
        && rows.next_row()?.is_some()
    {
        return Err(wrong_file(path, format_args!("has more rows than the {count} vectors")));
    }
    Ok(repeated)
}

/// Ids by 64 bits of each: of ten million, two are taken for one in one file of 300,000.
#[derive(Default)]
struct Known {
    hasher: RandomState,
    seen: HashSet<u64>,
}

impl Known {
    /// Notes an id; whether it is new.
    fn insert(&mut self, id: &str) -> bool {
        self.seen.insert(self.hasher.hash_one(id))
    }
}

/// Whether there is still somebody who wants them.
fn flush(batch: &mut Vec<api::Point>, batches: &mpsc::Sender<Vec<api::Point>>) -> bool {
    let full = std::mem::take(batch);
    full.is_empty() || batches.blocking_send(full).is_ok()
}

fn point(
    source: &Source,
    rows: &mut Option<(&PathBuf, Rows)>,
    (place, count): (usize, u64),
    (id, values): (i64, Vec<f32>),
) -> Result<api::Point, Failure> {
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let what = format!("vector {place}: coordinate {at} is {}", values[at]);
        return Err(wrong_file(&source.path, what));
    }
    let row = match rows {
        Some((path, rows)) => rows.next_row()?.ok_or_else(|| {
            wrong_file(path, format_args!("ends after {place} rows; there are {count} vectors"))
        })?,
        None => Default::default(),
    };
    let item_id = match row.item_id {
        Some(id) => id,
        None if source.id_column.is_some() => {
            let path: &Path = rows.as_ref().map_or(&source.path, |(path, _)| path);
            return Err(wrong_file(path, format_args!("row {place} has no id in --id-column")));
        }
        None => format!("{}{id}", source.prefix),
    };
    if item_id.is_empty() || item_id.len() > ITEM_ID_BYTES_MAX {
        let what = format!("vector {place}: an id has 1 to {ITEM_ID_BYTES_MAX} bytes");
        return Err(wrong_file(&source.path, what));
    }
    let vector = Some(api::Vector { values, bits: Vec::new() });
    Ok(api::Point { item_id, vector, payload: row.payload })
}

fn table(reports: &[FileReport]) -> String {
    let rows = reports.iter().map(|report| {
        vec![
            report.file.clone(),
            report.kinds.clone(),
            report.vectors.to_string(),
            report.inserted.to_string(),
            report.updated.to_string(),
            report.unchanged.to_string(),
            if report.lossy { "lossy".to_owned() } else { String::new() },
        ]
    });
    text_table(&["file", "index", "vectors", "inserted", "updated", "unchanged", ""], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_came_before_is_known() {
        let mut known = Known::default();
        let new: Vec<bool> = ["0", "1", "0", "2", "0"].iter().map(|id| known.insert(id)).collect();
        assert_eq!(new, [true, true, false, true, false]);
    }
}
