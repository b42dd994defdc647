//! `quarry vectors export-faiss`: a space's points become a FAISS file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use quarry_client::client::Client;
use quarry_client::client::progress::Progress;
use quarry_client::client::space::SpaceName;
use quarry_client::failure::Failure;
use quarry_client::output::{CellJson, Output};
use serde_json::json;
use service_error::ServiceError;
use tokio_util::sync::CancellationToken;
use vectors_api::v1 as api;

use crate::wrong_file;

/// Points of one page.
const PAGE: i32 = 1_000;

/// Which space becomes which file.
#[derive(Debug, Args)]
pub struct ExportFaissArgs {
    /// NAMESPACE/DATASET/SPACE, or NAMESPACE/SPACE
    #[arg(value_name = "SPACE")]
    space: SpaceName,
    /// A Flat index, with FILE.metadata.jsonl beside it: one line a vector
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only points that pass, e.g. 'section = "games"'
    #[arg(long, value_name = "F", default_value = "")]
    filter: String,
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
}

/// The files on their way; they have other names until they are whole.
struct Writing {
    index: faiss_files::Writer<BufWriter<tempfile::NamedTempFile>>,
    lines: BufWriter<tempfile::NamedTempFile>,
    /// The item ids as numbers, while all of them are.
    ids: Option<Vec<i64>>,
    normalise: bool,
}

impl ExportFaissArgs {
    /// Exports, a page at a time.
    ///
    /// # Errors
    /// A space of bits; files that are there; the disk's or the server's.
    pub async fn run(
        self,
        client: &Client,
        output: Output,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let lines = self.file.with_extension("metadata.jsonl");
        for path in [&self.file, &lines] {
            if path.exists() && !self.overwrite {
                let error = ServiceError::already_exists("file", path.display());
                return Err(error.into());
            }
        }
        let request = api::GetSpaceRequest {
            namespace: self.space.namespace.clone(),
            dataset: self.space.dataset.clone(),
            space: self.space.space.clone(),
        };
        let space =
            client.spaces().get_space(request).await?.into_inner().space.unwrap_or_default();
        let metric = faiss_metric(space.metric())?;
        let dimension = u32::try_from(space.dimension).unwrap_or(0);
        let writing = Writing::begin(&self.file, &lines, dimension, metric)
            .map_err(|error| wrong_file(&self.file, error))?;
        let normalise = space.metric() == api::Metric::Cosine;
        let mut writing = Writing { normalise, ..writing };
        let bar = Progress::new(
            "points",
            Some(ingest::Amount::Rows(u64::try_from(space.point_count).unwrap_or(0))),
        );
        let count = tokio::select! {
            count = self.pages(client, &mut writing, &bar) => count?,
            () = stop.cancelled() => {
                return Err(Failure::interrupted("interrupted; nothing was written"));
            }
        };
        drop(bar);
        let ids_are_items = writing.ids.is_some() && count > 0;
        writing.end(&self.file, &lines).map_err(|error| wrong_file(&self.file, error))?;
        let document = json!({
            "file": self.file.display().to_string(),
            "metadata": lines.display().to_string(),
            "vectors": count,
            "dimension": dimension,
            "metric": crate::metric_name(metric),
            "normalised": normalise,
            "ids_are_items": ids_are_items,
        });
        output.answer(&document, || {
            format!(
                "{count} vectors are in {}, their items in {}",
                self.file.display(),
                lines.display()
            )
        })
    }

    async fn pages(
        &self,
        client: &Client,
        writing: &mut Writing,
        bar: &Progress,
    ) -> Result<u64, Failure> {
        let (mut count, mut page_token) = (0, String::new());
        loop {
            let request = api::ScrollPointsRequest {
                namespace: self.space.namespace.clone(),
                dataset: self.space.dataset.clone(),
                space: self.space.space.clone(),
                filter: self.filter.clone(),
                with_vector: true,
                page_size: PAGE,
                page_token,
            };
            let page = client.points().scroll_points(request).await?.into_inner();
            count += page.points.len() as u64;
            bar.add(page.points.len() as u64);
            for point in page.points {
                writing.push(point).map_err(|error| wrong_file(&self.file, error))?;
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(count);
            }
        }
    }
}

fn faiss_metric(metric: api::Metric) -> Result<faiss_files::Metric, Failure> {
    match metric {
        api::Metric::Cosine | api::Metric::Ip => Ok(faiss_files::Metric::InnerProduct),
        api::Metric::L2 => Ok(faiss_files::Metric::L2),
        api::Metric::L1 => Ok(faiss_files::Metric::L1),
        api::Metric::Hamming | api::Metric::Jaccard | api::Metric::Unspecified => {
            let message = "the space is of bits; a Flat index holds floats";
            Err(ServiceError::precondition(message).reason("SPACE_OF_BITS").into())
        }
    }
}

impl Writing {
    fn begin(
        index: &Path,
        lines: &Path,
        dimension: u32,
        metric: faiss_files::Metric,
    ) -> Result<Self, faiss_files::Error> {
        let beside = |path: &Path| {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        };
        let index = BufWriter::new(beside(index)?);
        Ok(Self {
            index: faiss_files::Writer::new(index, dimension, metric)?,
            lines: BufWriter::new(beside(lines)?),
            ids: Some(Vec::new()),
            normalise: false,
        })
    }

    fn push(&mut self, point: api::Point) -> Result<(), faiss_files::Error> {
        let mut values = point.vector.unwrap_or_default().values;
        if self.normalise {
            let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
            if length > 0.0 {
                values.iter_mut().for_each(|value| *value /= length);
            }
        }
        self.index.push(&values)?;
        self.ids = self.ids.take().and_then(|mut ids| {
            let id = point.item_id.parse::<i64>().ok();
            ids.push(id.filter(|id| id.to_string() == point.item_id)?);
            Some(ids)
        });
        let payload: std::collections::BTreeMap<&str, CellJson<'_>> =
            point.payload.iter().map(|(name, value)| (name.as_str(), CellJson(value))).collect();
        let mut line = serde_json::to_value(payload).map_err(std::io::Error::from)?;
        line["item_id"] = json!(point.item_id);
        serde_json::to_writer(&mut self.lines, &line).map_err(std::io::Error::from)?;
        self.lines.write_all(b"\n")?;
        Ok(())
    }

    /// Both files get their names; the index last.
    fn end(self, index: &Path, lines: &Path) -> Result<(), faiss_files::Error> {
        let whole = self.index.finish(self.ids.as_deref())?;
        let whole = whole.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let text = self.lines.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        for (file, path) in [(text, lines), (whole, index)] {
            file.as_file().sync_all()?;
            open_to_others(file.as_file())?;
            file.persist(path).map_err(|error| error.error)?;
        }
        Ok(())
    }
}

/// A temporary file is its owner's alone; what it becomes is like any other.
fn open_to_others(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}
