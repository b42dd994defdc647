//! Filling a space from a dataset, as a durable job.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use caller::Caller;
use futures::TryStreamExt;
use jobs::{Interrupt, Job, JobResult, NewJob, Owner, Work};
use options_api::v1::Level;
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use uuid::Uuid;
use vector_rows::{Columns, Row};

use crate::app::live::Slot;
use crate::app::{App, Batch, Upsert};
use crate::model::{Address, BATCH_POINTS_MAX, Consistency, Space};

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
    /// Empty: the newest.
    pub version: String,
    /// Empty: the dataset's key.
    pub id_column: String,
    /// Lists of numbers.
    pub vector_column: String,
    /// Empty: all that can be.
    pub payload_columns: Vec<String>,
    /// What made the vectors.
    pub embedder: String,
}

/// What a job that fills a space was submitted with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Arguments {
    pub space: Uuid,
    pub space_name: String,
    pub namespace: String,
    pub dataset: String,
    pub version: i64,
    pub id_column: String,
    /// Vectors, or texts.
    pub vector_column: String,
    pub payload_columns: Vec<String>,
    pub embedder: String,
}

impl Arguments {
    pub fn source(&self) -> String {
        format!("{}/{}", self.namespace, self.dataset)
    }
}

/// How far a job is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Loaded {
    /// Rows that were read and written, or counted as failed.
    pub rows: i64,
    pub failed: i64,
}

impl Loaded {
    /// What of a batch that begins at row `at` is still to be done.
    pub fn rest(&self, batch: &RecordBatch, at: i64) -> Option<RecordBatch> {
        let rows = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
        let skipped = (self.rows - at).clamp(0, rows);
        let from = usize::try_from(skipped).unwrap_or(0);
        (skipped < rows).then(|| batch.slice(from, batch.num_rows() - from))
    }

    pub fn result(&self) -> BTreeMap<String, i64> {
        BTreeMap::from([("rows".to_owned(), self.rows), ("failed".to_owned(), self.failed)])
    }
}

impl App {
    /// Queues a load; the job's id.
    ///
    /// # Errors
    /// `InvalidArgument` for a column that is not there or holds no vectors of the space's
    /// dimension; `NotFound`; `PermissionDenied`.
    pub async fn load_vectors(
        &self,
        caller: &Caller,
        address: &Address,
        asked: LoadVectors,
    ) -> Result<Uuid, ServiceError> {
        let space = self.space_for(caller, Level::Write, address, LOAD_ACTION).await?;
        let (namespace, dataset) =
            source_of(address, asked.source_namespace, asked.source_dataset)?;
        self.owner_for(caller, Level::Read, &namespace, &dataset, LOAD_ACTION).await?;
        let described = self.catalog.described(&namespace, &dataset, &asked.version).await?;
        let id_column = if asked.id_column.is_empty() { described.key } else { asked.id_column };
        if id_column.is_empty() {
            return Err(ServiceError::invalid("id_column", "is empty, and the dataset has no key"));
        }
        fits(&space, &described.schema, &id_column, &asked.vector_column, &asked.payload_columns)?;
        let arguments = Arguments {
            space: space.id,
            space_name: address.to_string(),
            namespace,
            dataset,
            version: described.version,
            id_column,
            vector_column: asked.vector_column,
            payload_columns: asked.payload_columns,
            embedder: asked.embedder,
        };
        let title = format!("vectors of {} into {address}", arguments.source());
        let new = NewJob::new(LOAD, Owner::of(caller))
            .title(title)
            .key(format!("load:{}", space.id))
            .arguments(&arguments)?;
        Ok(self.jobs.submit(new).await?.id)
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
        let version = arguments.version.to_string();
        let described =
            self.catalog.described(&arguments.namespace, &arguments.dataset, &version).await?;
        let columns = fits(
            &space,
            &described.schema,
            &arguments.id_column,
            &arguments.vector_column,
            &arguments.payload_columns,
        )?;
        let names = columns.names();
        let source = self.items.find(&arguments.source(), arguments.version, &names).await?;
        work.phase("loading", "rows");
        work.progress(loaded.rows, source.rows);
        let mut at = 0_i64;
        for ticket in source.tickets {
            let mut batches = Box::pin(self.items.rows(ticket).await?);
            while let Some(batch) = batches.try_next().await? {
                let rest = loaded.rest(&batch, at);
                at += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
                let Some(rest) = rest else { continue };
                let points = super::blocking({
                    let columns = columns.clone();
                    move || columns.rows(&rest)
                })
                .await?
                .map_err(|error| ServiceError::data_loss(error.to_string()))?;
                loaded.failed +=
                    self.write_rows(&space, &arguments.embedder, points, &work).await?;
                loaded.rows = at;
                work.progress(loaded.rows, source.rows);
                work.step(&loaded).await?;
            }
        }
        work.phase("indexing", "points");
        self.index_loaded(&space).await?;
        Ok(loaded.result())
    }

    /// Writes rows; how many could not be.
    pub(super) async fn write_rows(
        &self,
        space: &Arc<Space>,
        embedder: &str,
        rows: Vec<Row>,
        work: &Work,
    ) -> Result<i64, Interrupt> {
        let mut failed = 0;
        let mut points: Vec<Upsert> = Vec::with_capacity(rows.len());
        for row in rows {
            match self.point_of(space, row) {
                Ok(point) => points.push(point),
                Err((item, message)) => {
                    work.item_failed(&item, &message);
                    failed += 1;
                }
            }
        }
        let mut left = points.into_iter().peekable();
        while left.peek().is_some() {
            // Of one id the last row counts, as if they had been written one by one.
            let mut some: HashMap<String, Upsert> = HashMap::new();
            for point in left.by_ref().take(BATCH_POINTS_MAX) {
                some.insert(point.item_id.clone(), point);
            }
            let embedder = embedder.to_owned();
            let batch = Batch { points: some.into_values().collect(), embedder };
            self.write_points(space, batch).await?;
            if work.is_stopping() {
                return Err(Interrupt::Stopped);
            }
        }
        Ok(failed)
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
        if let Some(Slot::Ready(live)) = self.live.slot(space.id) {
            self.make_whole(&live).await?;
        }
        Ok(())
    }
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

/// The columns, if they are there and hold vectors of the space's dimension.
fn fits(
    space: &Space,
    schema: &Schema,
    id: &str,
    vector: &str,
    payload: &[String],
) -> Result<Columns, ServiceError> {
    let wrong = |error: vector_rows::RowsError| {
        let field = match &error {
            vector_rows::RowsError::NoColumn { name, .. } if name == id => "id_column",
            vector_rows::RowsError::NoColumn { name, .. } if name == vector => "vector_column",
            vector_rows::RowsError::NoVectors(..) => "vector_column",
            _ => "payload_columns",
        };
        ServiceError::invalid(field, error)
    };
    let (columns, _) = Columns::of(schema, id, vector, payload).map_err(wrong)?;
    let width = schema.field_with_name(vector).ok().and_then(|f| vector_rows::width(f.data_type()));
    let dimension = space.vectors.dimension();
    if width.is_some_and(|width| u32::try_from(width) != Ok(dimension)) {
        let message = format!(
            "{vector:?} has {} coordinates; the space has {dimension}",
            width.unwrap_or_default()
        );
        return Err(ServiceError::invalid("vector_column", message).reason("VECTOR_INVALID"));
    }
    Ok(columns)
}
