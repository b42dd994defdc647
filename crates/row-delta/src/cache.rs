//! The newest part of each log in memory: the log only grows, so what was
//! loaded stays true and only its end is asked for.

use std::sync::Arc;

use moka::sync::Cache as Lru;
use service_error::ServiceError;
use sql_store::SqlStore;
use tokio::sync::Mutex;

use crate::Place;
use crate::image::DeltaRow;
use crate::log::{load, state_in};

/// About what a row takes beside its image.
const ROW_BYTES: u64 = 160;

/// A part of one log without a gap.
#[derive(Debug, Default)]
struct Part {
    /// Rows after this are here,
    from: i64,
    /// up to this.
    to: i64,
    rows: Vec<DeltaRow>,
}

#[derive(Debug)]
pub(crate) struct Cache {
    parts: Lru<Place, Arc<Mutex<Part>>>,
    bytes_max: u64,
}

impl Cache {
    pub fn new(bytes_max: u64) -> Self {
        Self { parts: Lru::builder().max_capacity(256).build(), bytes_max }
    }

    pub async fn rows(
        &self,
        sql: &SqlStore,
        place: Place,
        from: i64,
        to: i64,
    ) -> Result<Vec<DeltaRow>, ServiceError> {
        let part = self.parts.get_with(place, Arc::default);
        let mut part = part.lock().await;
        if from < part.from || from > part.to || part.rows.is_empty() {
            *part = Part { from, to: from, rows: Vec::new() };
        }
        if to > part.to {
            let more = load(sql.read(), place, part.to, to).await?;
            // Looked at after the rows: what is trimmed now may be missing above.
            let trimmed = state_in(sql.read(), place).await?.map_or(0, |state| state.trimmed);
            if trimmed > part.to {
                *part = Part::default();
                return Err(gone());
            }
            part.rows.extend(more);
            part.to = to;
        }
        let found =
            part.rows.iter().filter(|row| row.seq > from && row.seq <= to).cloned().collect();
        // Pages of an older snapshot may still want what a newer one does not.
        if part.bytes() > self.bytes_max {
            *part = Part::default();
        }
        Ok(found)
    }
}

impl Part {
    fn bytes(&self) -> u64 {
        let mut bytes = 0;
        let mut last = None;
        for row in &self.rows {
            let this = Arc::as_ptr(&row.batch);
            if last != Some(this) {
                bytes += row.batch.get_array_memory_size() as u64;
                last = Some(this);
            }
            bytes += ROW_BYTES;
        }
        bytes
    }
}

/// The changes between a snapshot and its ceiling are not there any more.
fn gone() -> ServiceError {
    ServiceError::precondition(
        "the snapshot is older than an hour and its changes are gone; begin again without a token",
    )
    .reason("SNAPSHOT_GONE")
}
