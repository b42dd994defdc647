//! A query that runs: batches as its client takes them, within its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::execute_stream;
use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt};
use service_error::ServiceError;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Engine, Planned, too_slow};
use crate::error::sql_error;

/// Batches made before they are asked for.
const BATCHES_AHEAD: usize = 2;

/// What a query has taken so far.
#[derive(Debug, Default)]
pub struct RunStats {
    rows: AtomicU64,
    queued_micros: AtomicU64,
    run_micros: AtomicU64,
}

impl RunStats {
    /// Rows given.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// How long it waited for its turn.
    #[must_use]
    pub fn queued(&self) -> Duration {
        Duration::from_micros(self.queued_micros.load(Ordering::Relaxed))
    }

    /// How long it ran, to its newest batch.
    #[must_use]
    pub fn run(&self) -> Duration {
        Duration::from_micros(self.run_micros.load(Ordering::Relaxed))
    }
}

/// The rows of a query. Dropping the stream stops the query.
pub struct Rows {
    /// Of the batches.
    pub schema: SchemaRef,
    /// The batches.
    pub batches: BoxStream<'static, Result<RecordBatch, ServiceError>>,
    /// Written while it runs.
    pub stats: Arc<RunStats>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Engine {
    /// Runs a query as its rows are taken.
    ///
    /// # Errors
    /// An engine that stops.
    pub fn run(&self, planned: Planned) -> Result<Rows, ServiceError> {
        let (send, batches) = mpsc::channel(BATCHES_AHEAD);
        let stats = Arc::new(RunStats::default());
        let schema = Arc::clone(&planned.schema);
        let run = Run { planned, send, stats: Arc::clone(&stats) };
        let (slots, time_max) = (Arc::clone(&self.inner().slots), self.inner().time_max);
        let task = self.inner().handle()?.spawn(async move {
            let begun = Instant::now();
            let Ok(slot) = slots.acquire_owned().await else { return };
            let waited = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            run.stats.queued_micros.store(waited, Ordering::Relaxed);
            let send = run.send.clone();
            if let Err(error) = run.all().await {
                let _ = send.send(Err(error)).await;
            }
            drop(slot);
        });
        let arriving = Arriving {
            batches,
            due: tokio::time::Instant::now() + time_max,
            time_max,
            // The engine outlives its queries.
            _running: (AbortOnDropHandle::new(task), self.clone()),
        };
        Ok(Rows { schema, batches: arriving.stream().boxed(), stats })
    }
}

struct Run {
    planned: Planned,
    send: mpsc::Sender<Result<RecordBatch, ServiceError>>,
    stats: Arc<RunStats>,
}

impl Run {
    async fn all(self) -> Result<(), ServiceError> {
        let begun = Instant::now();
        let Planned { plan, task, schema } = self.planned;
        let mut batches = execute_stream(plan, task).map_err(sql_error)?;
        while let Some(batch) = batches.next().await {
            let batch = answered(&batch.map_err(sql_error)?, &schema)?;
            if batch.num_rows() == 0 {
                continue;
            }
            self.stats.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            let ran = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.stats.run_micros.store(ran, Ordering::Relaxed);
            if self.send.send(Ok(batch)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// In the schema that was announced.
fn answered(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ServiceError> {
    let column = |(array, field): (&ArrayRef, &Arc<arrow::datatypes::Field>)| {
        if array.data_type() == field.data_type() {
            return Ok(Arc::clone(array));
        }
        cast(array, field.data_type())
    };
    let columns: Result<Vec<ArrayRef>, _> =
        batch.columns().iter().zip(schema.fields()).map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    columns
        .and_then(|columns| {
            RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        })
        .map_err(|error| {
            ServiceError::internal(format!("the rows are not what was announced: {error}"))
        })
}

/// Batches on their way to whoever asked.
struct Arriving {
    batches: mpsc::Receiver<Result<RecordBatch, ServiceError>>,
    due: tokio::time::Instant,
    time_max: Duration,
    _running: (AbortOnDropHandle<()>, Engine),
}

impl Arriving {
    fn stream(self) -> impl Stream<Item = Result<RecordBatch, ServiceError>> + Send {
        unfold(Some(self), |arriving| async move {
            let mut arriving = arriving?;
            match tokio::time::timeout_at(arriving.due, arriving.batches.recv()).await {
                Ok(Some(Ok(batch))) => Some((Ok(batch), Some(arriving))),
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(None) => None,
                Err(_) => Some((Err(too_slow(arriving.time_max)), None)),
            }
        })
    }
}
