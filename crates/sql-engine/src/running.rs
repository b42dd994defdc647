//! A query that runs: batches as its client takes them, within its time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::execute_stream;
use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt};
use service_error::ServiceError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
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
    /// Runs a query as its rows are taken, for whoever `asker` stands for. Its time runs whether
    /// they are taken or not, and while nobody takes them another query has its turn.
    ///
    /// # Errors
    /// An engine that stops.
    pub fn run(&self, planned: Planned, asker: u128) -> Result<Rows, ServiceError> {
        let (send, batches) = mpsc::channel(BATCHES_AHEAD);
        let stats = Arc::new(RunStats::default());
        let schema = Arc::clone(&planned.schema);
        let inner = self.inner();
        let time_max = inner.time_max;
        let due = tokio::time::Instant::now() + time_max;
        let (slots, share) = (Arc::clone(&inner.slots), inner.shares.of(asker));
        let run = Run { planned, send, stats: Arc::clone(&stats), slots };
        let (end, ended) = oneshot::channel();
        let task = inner.handle()?.spawn(async move {
            let all = async {
                let begun = Instant::now();
                // Their own before the server's, so that what waits takes nobody else's turn.
                let Ok(_share) = share.acquire_owned().await else { return Ok(()) };
                run.all(begun).await
            };
            // With the time its plan, its memory and its slot end too.
            let done = tokio::time::timeout_at(due, all).await;
            let _ = end.send(done.unwrap_or_else(|_| Err(too_slow(time_max))));
        });
        let arriving = Arriving {
            batches,
            ended,
            due,
            time_max,
            // The engine outlives its queries.
            _running: (AbortOnDropHandle::new(task), self.clone()),
        };
        Ok(Rows { schema, batches: arriving.stream().boxed(), stats })
    }
}

/// What each asker may have under way at once, running or waiting to be read.
#[derive(Debug)]
pub(crate) struct Shares {
    each: usize,
    /// Of those that have some.
    taken: Mutex<HashMap<u128, Weak<Semaphore>>>,
}

impl Shares {
    /// Half of all slots each: one asker leaves the others as many.
    pub fn of_slots(slots: usize) -> Self {
        Self { each: slots.div_ceil(2).max(1), taken: Mutex::default() }
    }

    /// Those of one asker.
    pub fn of(&self, asker: u128) -> Arc<Semaphore> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = taken.get(&asker).and_then(Weak::upgrade) {
            return share;
        }
        taken.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.each));
        taken.insert(asker, Arc::downgrade(&share));
        share
    }
}

struct Run {
    planned: Planned,
    send: mpsc::Sender<Result<RecordBatch, ServiceError>>,
    stats: Arc<RunStats>,
    slots: Arc<Semaphore>,
}

impl Run {
    async fn all(self, begun: Instant) -> Result<(), ServiceError> {
        let micros =
            |since: Instant| u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let Ok(slot) = self.slots.acquire().await else { return Ok(()) };
        self.stats.queued_micros.store(micros(begun), Ordering::Relaxed);
        let mut slot = Some(slot);
        let begun = Instant::now();
        let Planned { plan, task, schema } = self.planned;
        let mut batches = execute_stream(plan, task).map_err(sql_error)?;
        while let Some(batch) = batches.next().await {
            let batch = answered(&batch.map_err(sql_error)?, &schema)?;
            if batch.num_rows() == 0 {
                continue;
            }
            self.stats.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            self.stats.run_micros.store(micros(begun), Ordering::Relaxed);
            let unsent = match self.send.try_send(Ok(batch)) {
                Ok(()) => continue,
                Err(TrySendError::Closed(_)) => break,
                Err(TrySendError::Full(unsent)) => unsent,
            };
            // It computes nothing until its reader goes on.
            drop(slot.take());
            if self.send.send(unsent).await.is_err() {
                break;
            }
            let Ok(again) = self.slots.acquire().await else { break };
            slot = Some(again);
        }
        drop(slot);
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
    /// How the query ended: nothing is whole that has not said so.
    ended: oneshot::Receiver<Result<(), ServiceError>>,
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
                Ok(None) => match arriving.ended.await {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some((Err(error), None)),
                    Err(_) => {
                        let error = ServiceError::internal("the query stopped before its end");
                        Some((Err(error), None))
                    }
                },
                Err(_) => Some((Err(too_slow(arriving.time_max)), None)),
            }
        })
    }
}
