//! Use cases: who may do it, the transaction, and what a neighbour must learn.

mod commits;
mod datasets;
mod garbage;
mod lookup;
mod manifest;
mod namespaces;
mod outbox;
mod uploads;
mod versions;

use std::sync::Arc;

use access::GrantReplica;
use ids::DatasetId;
use moka::future::Cache;
use service_error::ServiceError;

use crate::model::ColumnStats;
use crate::settings::Settings;
use crate::store::Store;

pub use commits::{CommitRequest, CreateInCommit};
pub use datasets::CreateDataset;
pub use garbage::Standing;
pub use manifest::BlockPage;
pub use outbox::Outbox;

/// Columns whose statistics are kept, over all versions.
const CACHED_COLUMNS_MAX: u64 = 200_000;

type StatisticsCache = Cache<(DatasetId, i64), Arc<Vec<ColumnStats>>>;

/// The catalog's use cases. Clones share everything.
#[derive(Clone)]
pub struct Catalog {
    store: Store,
    grants: GrantReplica,
    outbox: Outbox,
    settings: Settings,
    /// Statistics of whole snapshots. A snapshot never changes.
    statistics: StatisticsCache,
}

impl Catalog {
    /// The use cases over a migrated store.
    #[must_use]
    pub fn new(store: Store, grants: GrantReplica, outbox: Outbox, settings: Settings) -> Self {
        let weigh = |_: &(DatasetId, i64), columns: &Arc<Vec<ColumnStats>>| {
            u32::try_from(columns.len()).unwrap_or(u32::MAX).max(1)
        };
        let statistics = Cache::builder().max_capacity(CACHED_COLUMNS_MAX).weigher(weigh).build();
        Self { store, grants, outbox, settings, statistics }
    }

    /// Delivers what identity has not learnt yet.
    ///
    /// # Errors
    /// Why the oldest event could not be delivered.
    pub async fn deliver_outbox(&self) -> Result<(), ServiceError> {
        self.outbox.deliver_waiting().await
    }

    /// Forgets expired idempotency keys and what was swept and delivered long ago.
    ///
    /// # Errors
    /// As the database's.
    pub async fn forget_old(&self) -> Result<u64, ServiceError> {
        let now = sql_store::now_micros();
        self.store.forget_old(now, now - self.settings.idempotency_micros()).await
    }
}
