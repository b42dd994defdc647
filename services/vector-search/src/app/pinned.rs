//! The rows of a dataset as it was at one moment, read across the pauses and deaths of a job.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use arrow_flight::Ticket;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jobs::{Interrupt, Work};
use serde::{Deserialize, Serialize};
use service_error::ServiceError;

use crate::app::App;
use crate::app::load::{Arguments, Loaded};

/// Moments of a dataset that one job reads at most; each can be read for an hour.
const MOMENTS_MAX: u32 = 100;

/// A moment of a dataset: its tickets name the snapshot and the newest change on top of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Pin {
    tickets: Vec<Vec<u8>>,
    /// Rows in all, if it is known.
    pub rows: Option<i64>,
}

/// Rows that are being read.
pub(super) struct Rows {
    tickets: VecDeque<Ticket>,
    batches: Option<BoxStream<'static, Result<RecordBatch, ServiceError>>>,
    /// Rows before the next batch.
    at: i64,
}

impl App {
    /// Begins to read where the job was. The first time, it is made durable what is read: rows
    /// are counted, so a later run must read the same ones.
    pub(super) async fn pinned(
        &self,
        work: &Work,
        arguments: &Arguments,
        loaded: &mut Loaded,
    ) -> Result<Rows, Interrupt> {
        let pin = match &loaded.pin {
            Some(pin) => pin.clone(),
            None => {
                let (name, columns) = (arguments.source(), arguments.columns());
                let source = self.items.find(&name, arguments.version, &columns).await?;
                let tickets = source.tickets.iter().map(|ticket| ticket.ticket.to_vec()).collect();
                let pin = Pin { tickets, rows: source.rows };
                loaded.begin(pin.clone(), arguments.version);
                work.step(&*loaded).await?;
                pin
            }
        };
        work.progress(loaded.rows, pin.rows);
        let tickets = pin.tickets.into_iter().map(|ticket| Ticket { ticket: ticket.into() });
        Ok(Rows { tickets: tickets.collect(), batches: None, at: 0 })
    }

    /// The next rows that are not done yet. When the moment can no longer be read, a version is
    /// asked for again, and a dataset as it is from its beginning: what is equal by then is not
    /// written again.
    pub(super) async fn next_rows(
        &self,
        work: &Work,
        arguments: &Arguments,
        rows: &mut Rows,
        loaded: &mut Loaded,
    ) -> Result<Option<RecordBatch>, Interrupt> {
        loop {
            match self.next_batch(rows, loaded).await {
                Err(error) if is_over(&error) && loaded.moments < MOMENTS_MAX => {
                    tracing::info!(job = %work.job().id, %error, "its rows are asked for again");
                    loaded.pin = None;
                    *rows = self.pinned(work, arguments, loaded).await?;
                }
                next => return Ok(next?),
            }
        }
    }

    async fn next_batch(
        &self,
        rows: &mut Rows,
        loaded: &Loaded,
    ) -> Result<Option<RecordBatch>, ServiceError> {
        loop {
            let batches = match &mut rows.batches {
                Some(batches) => batches,
                none => {
                    let Some(ticket) = rows.tickets.pop_front() else { return Ok(None) };
                    none.insert(self.items.rows(ticket).await?.boxed())
                }
            };
            let Some(batch) = batches.try_next().await? else {
                rows.batches = None;
                continue;
            };
            let rest = loaded.rest(&batch, rows.at);
            rows.at += i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
            if rest.is_some() {
                return Ok(rest);
            }
        }
    }
}

/// Whether the tickets are too old to be read.
fn is_over(error: &ServiceError) -> bool {
    ["TICKET_EXPIRED", "STREAM_TOO_OLD", "TOKEN_NOT_OURS"]
        .into_iter()
        .any(|reason| error.reason_is(reason))
}
