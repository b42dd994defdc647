//! Filling a space from a dataset, as a durable job.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use caller::Caller;
use jobs::{Interrupt, Job, JobResult, NewJob, Owner, Work};
use options_api::v1::Level;
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use uuid::Uuid;
use vector_rows::{Columns, Row};

use crate::app::live::Slot;
use crate::app::pinned::Pin;
use crate::app::{App, Batch, Upsert};
use crate::model::{Address, BATCH_POINTS_MAX, Consistency, Space, check_embedder};

/// The kind of the job.
pub const LOAD: &str = "load";
const LOAD_ACTION: &str = "quarry.vectors.v1.LoadingService/LoadVectors";

/// What a request to load says.
#[derive(Debug, Clone, Default)]
pub struct LoadVectors {
    /// Where the vectors are; empty: the space's own dataset.
    pub source_namespace: String,
    /// Beside it.
    pub source_dataset: String,
    /// Empty: the dataset as it is.
    pub version: String,
    /// Empty: the dataset's key.
    pub id_column: String,
    /// Lists of numbers; empty: points keep their vectors and get the columns alone.
    pub vector_column: String,
    /// Empty: all that can be.
    pub payload_columns: Vec<String>,
    /// What made the vectors.
    pub embedder: String,
    /// Points of items that the dataset does not have go.
    pub delete_missing: bool,
}

/// A job that fills a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filling {
    /// Its id.
    pub job: Uuid,
    /// Columns of the dataset that become no payload: those of types that are not filtered by.
    pub left_out: Vec<String>,
}

/// What a job that fills a space was submitted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Arguments {
    pub space: Uuid,
    pub space_name: String,
    pub namespace: String,
    pub dataset: String,
    /// 0: the dataset as it is when the job begins.
    pub version: i64,
    pub id_column: String,
    /// Vectors, or texts; empty: neither.
    pub vector_column: String,
    pub payload_columns: Vec<String>,
    pub embedder: String,
    #[serde(default)]
    pub delete_missing: bool,
}

impl Arguments {
    pub fn source(&self) -> String {
        format!("{}/{}", self.namespace, self.dataset)
    }

    /// The columns to read; none: all.
    pub fn columns(&self) -> Vec<String> {
        if self.payload_columns.is_empty() {
            return Vec::new();
        }
        let own = [&self.id_column, &self.vector_column];
        let mut columns: Vec<String> = self.payload_columns.iter().chain(own).cloned().collect();
        columns.retain(|name| !name.is_empty());
        columns.sort();
        columns.dedup();
        columns
    }
}

/// How far a job is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Loaded {
    /// Rows that were read and written, or counted as failed.
    pub rows: i64,
    pub failed: i64,
    /// Rows whose point was equal already.
    #[serde(default)]
    pub unchanged: i64,
    /// Rows whose items have no point, where points get columns alone.
    #[serde(default)]
    pub without_point: i64,
    /// Points whose items the dataset does not have.
    #[serde(default)]
    pub deleted: i64,
    /// What is read.
    #[serde(default)]
    pub pin: Option<Pin>,
    /// How often the rows were asked for.
    #[serde(default)]
    pub moments: u32,
}

impl Loaded {
    /// Notes what is read from now on; of a version it is the same as before.
    pub fn begin(&mut self, pin: Pin, version: i64) {
        if version == 0 {
            *self = Self { moments: self.moments, ..Self::default() };
        }
        self.pin = Some(pin);
        self.moments += 1;
    }

    /// Rows that are to be read, if it is known.
    pub fn total(&self) -> Option<i64> {
        self.pin.as_ref().and_then(|pin| pin.rows)
    }

    /// What of a batch that begins at row `at` is still to be done.
    pub fn rest(&self, batch: &RecordBatch, at: i64) -> Option<RecordBatch> {
        let rows = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        let skipped = (self.rows - at).clamp(0, rows);
        let from = usize::try_from(skipped).unwrap_or(0);
        (skipped < rows).then(|| batch.slice(from, batch.num_rows() - from))
    }

    /// Notes a row that became no point.
    pub fn fail(&mut self, work: &Work, item: &str, message: &str) {
        work.item_failed(item, message);
        self.failed += 1;
    }

    pub fn result(&self) -> BTreeMap<String, i64> {
        let counts = [
            ("rows", self.rows),
            ("failed", self.failed),
            ("unchanged", self.unchanged),
            ("without_point", self.without_point),
            ("deleted", self.deleted),
        ];
        counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect()
    }
}

impl App {
    /// Queues a load. An unfinished one of the same arguments is answered as it is.
    ///
    /// # Errors
    /// `InvalidArgument` for a column that is not there or holds no vectors of the space's
    /// dimension; `NotFound`; `PermissionDenied`; `FailedPrecondition` while another job fills
    /// the space.
    pub async fn load_vectors(
        &self,
        caller: &Caller,
        address: &Address,
        asked: LoadVectors,
    ) -> Result<Filling, ServiceError> {
        let space = self.space_for(caller, Level::Write, address, LOAD_ACTION).await?;
        check_embedder(&asked.embedder)?;
        let (namespace, dataset) =
            source_of(address, asked.source_namespace, asked.source_dataset)?;
        self.owner_for(caller, Level::Read, &namespace, &dataset, LOAD_ACTION).await?;
        let described = self.catalog.described(&namespace, &dataset, &asked.version).await?;
        let id_column = if asked.id_column.is_empty() { described.key } else { asked.id_column };
        if id_column.is_empty() {
            return Err(ServiceError::invalid("id_column", "is empty, and the dataset has no key"));
        }
        let (vector, payload) = (&asked.vector_column, &asked.payload_columns);
        if vector.is_empty() && !asked.embedder.is_empty() {
            let message = "says what made vectors, and vector_column names none";
            return Err(ServiceError::invalid("embedder", message));
        }
        let (columns, left_out) = fits(&space, &described.schema, &id_column, vector, payload)?;
        let arguments = Arguments {
            space: space.id,
            space_name: address.to_string(),
            namespace,
            dataset,
            version: version_of(&asked.version, described.version),
            id_column,
            vector_column: asked.vector_column,
            payload_columns: columns.payload(),
            embedder: asked.embedder,
            delete_missing: asked.delete_missing,
        };
        let title = format!("vectors of {} into {address}", arguments.source());
        let job = self.submit_filling(LOAD, caller, title, &arguments).await?;
        Ok(Filling { job, left_out })
    }

    /// Queues a job that fills a space: one at a time.
    pub(super) async fn submit_filling(
        &self,
        kind: &str,
        caller: &Caller,
        title: String,
        arguments: &Arguments,
    ) -> Result<Uuid, ServiceError> {
        let new = NewJob::new(kind, Owner::of(caller))
            .title(title)
            .key(format!("load:{}", arguments.space))
            .arguments(arguments)?;
        let job = self.jobs.submit(new).await?;
        let has: Option<Arguments> = serde_json::from_str(&job.arguments).ok();
        if job.kind == kind && has.as_ref() == Some(arguments) {
            return Ok(job.id);
        }
        let name = format!("{}/{}", self.jobs.service(), job.id);
        let message = format!(
            "job {name} ({}) fills space {} and has not ended: wait for it, or cancel it",
            job.title, arguments.space_name
        );
        Err(ServiceError::precondition(message).reason("SPACE_IS_BEING_FILLED").with("job", name))
    }

    /// Whether a job's owner may still have it done.
    ///
    /// # Errors
    /// `NotFound` and `PermissionDenied`, as for the call that made the job.
    pub async fn check_job(&self, job: &Job) -> Result<(), ServiceError> {
        let arguments: Arguments = serde_json::from_str(&job.arguments)
            .map_err(|_| ServiceError::precondition("the job was made by another version"))?;
        let caller = job.owner.caller();
        let space = self.job_space(&arguments).await?;
        let name = ("space", arguments.space_name.as_str());
        self.require(&caller, Level::Write, &space.owner, name, LOAD_ACTION).await?;
        self.owner_for(&caller, Level::Read, &arguments.namespace, &arguments.dataset, LOAD_ACTION)
            .await?;
        Ok(())
    }

    pub(super) async fn job_space(
        &self,
        arguments: &Arguments,
    ) -> Result<Arc<Space>, ServiceError> {
        let found = self.store.space(arguments.space).await?;
        let found = found.ok_or_else(|| ServiceError::not_found("space", &arguments.space_name))?;
        Ok(Arc::new(found))
    }

    /// Does a load, from where it was.
    ///
    /// # Errors
    /// A stop; the neighbours' and the store's.
    pub async fn run_load(&self, work: Work) -> JobResult {
        let arguments: Arguments = work.arguments()?;
        let mut loaded: Loaded = work.checkpoint()?.unwrap_or_default();
        let space = self.job_space(&arguments).await?;
        work.phase("loading", "rows");
        let mut rows = self.pinned(&work, &arguments, &mut loaded).await?;
        while let Some(batch) = self.next_rows(&work, &arguments, &mut rows, &mut loaded).await? {
            let count = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
            let to = (&work, &mut loaded);
            if arguments.vector_column.is_empty() {
                self.write_columns(&space, batch, &arguments, to).await?;
            } else {
                self.write_batch(&space, batch, &arguments, to).await?;
            }
            loaded.rows += count;
            work.progress(loaded.rows, loaded.total());
            work.step(&loaded).await?;
        }
        self.filled(&work, &space, &arguments, &mut loaded).await
    }

    async fn write_batch(
        &self,
        space: &Arc<Space>,
        batch: RecordBatch,
        arguments: &Arguments,
        to: (&Work, &mut Loaded),
    ) -> Result<(), Interrupt> {
        let (columns, _) = fits(
            space,
            batch.schema_ref(),
            &arguments.id_column,
            &arguments.vector_column,
            &arguments.payload_columns,
        )?;
        let points = super::blocking(move || columns.rows(&batch))
            .await?
            .map_err(|error| ServiceError::data_loss(error.to_string()))?;
        self.write_rows(space, &arguments.embedder, points, to).await
    }

    /// The end of a job that has read all rows. One that could take none of them has failed, and
    /// says nothing about which items there are.
    pub(super) async fn filled(
        &self,
        work: &Work,
        space: &Arc<Space>,
        arguments: &Arguments,
        loaded: &mut Loaded,
    ) -> JobResult {
        if loaded.rows > 0 && loaded.failed >= loaded.rows {
            let message = format!(
                "none of the {} rows became a point: see what the job says of them",
                loaded.rows
            );
            return Err(ServiceError::precondition(message).reason("NO_ROW_TAKEN").into());
        }
        if arguments.delete_missing {
            self.delete_missing(work, space, arguments, loaded).await?;
        }
        work.phase("indexing", "points");
        self.index_loaded(space).await?;
        Ok(loaded.result())
    }

    /// Writes rows in their order, but those whose points are equal already.
    pub(super) async fn write_rows(
        &self,
        space: &Arc<Space>,
        embedder: &str,
        rows: Vec<Row>,
        (work, loaded): (&Work, &mut Loaded),
    ) -> Result<(), Interrupt> {
        let mut points: Vec<Upsert> = Vec::with_capacity(rows.len());
        for row in rows {
            match self.point_of(space, row) {
                Ok(point) => points.push(point),
                Err((item, message)) => loaded.fail(work, &item, &message),
            }
        }
        let mut left = points.into_iter().peekable();
        while left.peek().is_some() {
            let points = last_of_each(left.by_ref().take(BATCH_POINTS_MAX).collect());
            let batch = Batch { points, embedder: embedder.to_owned() };
            let unchanged = self.write_changed(space, batch).await?;
            loaded.unchanged += i64::try_from(unchanged).unwrap_or(i64::MAX);
            if work.is_stopping() {
                return Err(Interrupt::Stopped);
            }
        }
        Ok(())
    }

    /// A row as a point of the space, or why it is none.
    fn point_of(&self, space: &Space, row: Row) -> Result<Upsert, (String, String)> {
        let Row { item_id, vector, payload } = row;
        if item_id.is_empty() {
            return Err((String::new(), "a row without an id".to_owned()));
        }
        let whole = vector.and_then(|values| Ok((values, payload?)));
        let (values, payload) = whole.map_err(|message| (item_id.clone(), message))?;
        let point = Upsert { item_id, values, bits: Vec::new(), payload };
        match super::points::check_point(space, &point) {
            Ok(()) => Ok(point),
            Err(error) => Err((point.item_id, error.message().to_owned())),
        }
    }

    /// Makes one segment of what was loaded. Searches do without when it does not fit.
    pub(super) async fn index_loaded(&self, space: &Arc<Space>) -> Result<(), ServiceError> {
        while self.index_at(space, Consistency::Strong).await?.is_none() {
            // Each look waits some time for an index that is being made.
            if !matches!(self.live.slot(space.id), Some(Slot::Loading(_))) {
                return Ok(());
            }
        }
        // One in which damage is met is let go, and the next search makes another from the rows.
        if let Some(Slot::Ready(live)) = self.live.slot(space.id)
            && let Err(error) = self.make_whole(&live).await
            && self.live.is_serving(&live)
        {
            return Err(error);
        }
        Ok(())
    }
}

/// Of one id the last point, as if they had been written one by one.
fn last_of_each(mut points: Vec<Upsert>) -> Vec<Upsert> {
    let mut seen = HashSet::new();
    let mut is_last: Vec<bool> =
        points.iter().rev().map(|point| seen.insert(point.item_id.clone())).collect();
    points.retain(|_| is_last.pop().unwrap_or(true));
    points
}

/// The version that a job reads; 0 for a dataset as it is.
pub(super) fn version_of(asked: &str, found: i64) -> i64 {
    if matches!(asked, "" | "latest") { 0 } else { found }
}

/// The dataset that is read: the one named, else the space's own.
pub(super) fn source_of(
    address: &Address,
    namespace: String,
    dataset: String,
) -> Result<(String, String), ServiceError> {
    let (namespace, dataset) = match (namespace.is_empty(), dataset.is_empty()) {
        (true, true) => (address.namespace.clone(), address.dataset.clone()),
        (true, false) => (address.namespace.clone(), dataset),
        (false, _) => (namespace, dataset),
    };
    if dataset.is_empty() {
        let message = "is empty: name the dataset to read";
        return Err(ServiceError::invalid("source_dataset", message));
    }
    Ok((namespace, dataset))
}

/// The columns, if they are there and the vectors, if any are wanted, have the space's dimension.
fn fits(
    space: &Space,
    schema: &Schema,
    id: &str,
    vector: &str,
    payload: &[String],
) -> Result<(Columns, Vec<String>), ServiceError> {
    let wrong = |error: vector_rows::RowsError| {
        let field = match &error {
            vector_rows::RowsError::NoColumn { name, .. } if name == id => "id_column",
            vector_rows::RowsError::NoColumn { name, .. } if name == vector => "vector_column",
            vector_rows::RowsError::NoVectors(..) => "vector_column",
            vector_rows::RowsError::NoIds(..) => "id_column",
            _ => "payload_columns",
        };
        ServiceError::invalid(field, error)
    };
    if vector.is_empty() {
        return Columns::of_payload(schema, id, payload).map_err(wrong);
    }
    let found = Columns::of(schema, id, vector, payload).map_err(wrong)?;
    let width = schema.field_with_name(vector).ok().and_then(|f| vector_rows::width(f.data_type()));
    let dimension = space.vectors.dimension();
    if width.is_some_and(|width| u32::try_from(width) != Ok(dimension)) {
        let message = format!(
            "{vector:?} has {} coordinates; the space has {dimension}",
            width.unwrap_or_default()
        );
        return Err(ServiceError::invalid("vector_column", message).reason("VECTOR_INVALID"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_id_the_last_row_counts_and_rows_keep_their_order() {
        let point = |item: &str, n: f32| Upsert {
            item_id: item.to_owned(),
            values: vec![n],
            bits: Vec::new(),
            payload: payload_index::Payload::default(),
        };
        let rows = vec![point("b", 1.0), point("a", 2.0), point("b", 3.0), point("c", 4.0)];
        let kept = last_of_each(rows);
        let kept: Vec<(&str, f32)> =
            kept.iter().map(|point| (point.item_id.as_str(), point.values[0])).collect();
        assert_eq!(kept, [("a", 2.0), ("b", 3.0), ("c", 4.0)]);
    }
}
