//! Building in the background: indexes from rows, sealed heads, merged
//! segments, snapshots.

use std::sync::Arc;

use ann::{Control, Task};
use caller::Caller;
use options_api::v1::Level;
use payload_index::ColumnSummary;
use service_error::ServiceError;
use space_index::{Builder, SpaceIndex, Summary};
use tokio::sync::OwnedMutexGuard;

use crate::app::App;
use crate::app::live::{Live, Slot, space_settings};
use crate::model::{Address, IndexFailure, Space};
use crate::settings::PostgresIndex;

/// Rows that are read at once.
const ROWS: u32 = 1_000;
/// Changes beyond the snapshot after which the next one is made, as a multiple of a head's rows.
const SNAPSHOT_AFTER_HEADS: i64 = 3;

/// What a space's index holds here.
#[derive(Debug, Clone, Default)]
pub struct IndexStats {
    /// `cold`, `loading`, `ready` or `over_budget`.
    pub state: &'static str,
    /// Counts, if it is ready.
    pub summary: Option<Summary>,
    /// The newest change that searches see.
    pub seq: i64,
    /// The newest change.
    pub newest: i64,
    /// Up to which change there is a snapshot in the object store.
    pub snapshot_seq: i64,
    /// Points, as the space's row counts them.
    pub points: i64,
    /// Bytes that all indexes may use, and use.
    pub budget: u64,
    /// Bytes that all indexes use.
    pub used: u64,
    /// The payload's columns.
    pub columns: Vec<ColumnSummary>,
}

impl App {
    /// The counts of a space's index on this replica.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn space_stats(
        &self,
        caller: &Caller,
        address: &Address,
    ) -> Result<IndexStats, ServiceError> {
        let action = "quarry.vectors.v1.SpacesService/GetSpaceStats";
        let space = self.space_for(caller, Level::Read, address, action).await?;
        self.index_stats(&space).await
    }

    /// Makes a space's index anew from its rows, as one segment. The one that is there serves
    /// meanwhile.
    ///
    /// # Errors
    /// `NotFound`; `ResourceExhausted` over the memory budget.
    pub async fn rebuild_index(
        &self,
        caller: &Caller,
        address: &Address,
    ) -> Result<IndexStats, ServiceError> {
        let action = "quarry.vectors.v1.SpacesService/RebuildIndex";
        let space = self.space_for(caller, Level::Write, address, action).await?;
        // Loads it first, which checks the budget and lets nobody load it twice.
        let live = match (
            self.index_at(&space, Default::default()).await?,
            self.live.slot(space.id),
        ) {
            (Some(_), Some(Slot::Ready(live))) => live,
            (_, Some(Slot::OverBudget(_))) => {
                let message = format!(
                    "the index of space {} does not fit into vectors.memory_bytes_max ({} bytes); raise it, or delete points",
                    space.name,
                    self.live.budget()
                );
                return Err(ServiceError::exhausted(message).reason("INDEX_OVER_BUDGET"));
            }
            _ => {
                return Err(ServiceError::unavailable("the index is being loaded; try again")
                    .reason("INDEX_LOADING"));
            }
        };
        let (app, old) = (self.clone(), Arc::clone(&live));
        // To its end, whoever leaves: its thread would go on, and nobody hold the files for it.
        let remade = tokio::spawn(async move { app.remake(&old).await })
            .await
            .map_err(|error| ServiceError::internal("a rebuild was cut short").caused_by(error))?;
        match remade {
            Err(error) if self.live.is_serving(&live) => return Err(error),
            // It may have been let go: for damage that a search met, or for another's room.
            _ => drop(self.index_at(&space, Default::default()).await?),
        }
        self.index_stats(&space).await
    }

    async fn index_stats(&self, space: &Arc<Space>) -> Result<IndexStats, ServiceError> {
        let row = self.store.space(space.id).await?;
        let row = row.ok_or_else(|| ServiceError::not_found("space", &space.name))?;
        let mut stats = IndexStats {
            state: "cold",
            newest: row.seq,
            snapshot_seq: row.snapshot_seq,
            points: row.points,
            budget: self.live.budget(),
            used: self.live.used(),
            ..IndexStats::default()
        };
        match self.live.slot(space.id) {
            Some(Slot::Ready(live)) => {
                stats.state = "ready";
                stats.seq = live.index.cursor();
                stats.summary = Some(live.index.summary());
                stats.columns = live.index.payload().summary();
            }
            Some(Slot::Loading(_)) => stats.state = "loading",
            Some(Slot::OverBudget(_)) => stats.state = "over_budget",
            None => {}
        }
        Ok(stats)
    }

    /// Lets an index that is made from the rows take another one's place.
    async fn remake(&self, old: &Arc<Live>) -> Result<(), ServiceError> {
        let _files = self.live.files(old.space.id).lock_owned().await;
        if !self.live.is_serving(old) {
            return Ok(()); // It was made anew while this one waited.
        }
        let new = self.load_rows(&old.space, 0).await?;
        while let Some(newest) = self.live.replace(old, &new) {
            self.follow(&new, newest).await?;
        }
        Ok(())
    }

    /// Reads all rows of a space into a new index. Up to `few` stay in memory, more become a
    /// segment.
    pub(super) async fn index_from_rows(
        &self,
        space: &Arc<Space>,
        few: usize,
    ) -> Result<SpaceIndex, ServiceError> {
        let (settings, dir) = (space_settings(space), self.live.dir(space.id));
        let seq = self.store.newest(space).await?;
        let row = self.store.space(space.id).await?;
        let points = row.map_or(0, |row| usize::try_from(row.points).unwrap_or(0));
        if points <= few {
            let index = SpaceIndex::empty(settings, &dir);
            super::blocking(move || SpaceIndex::clear(&dir)).await?;
            let mut after = 0;
            loop {
                let rows = self.store.points_after_number(space, after, ROWS).await?;
                let Some(last) = rows.last() else { break };
                after = last.number;
                index.load(&rows).map_err(|error| ServiceError::from(IndexFailure(&error)))?;
            }
            index.advance(seq);
            return Ok(index);
        }
        let options = self.settings.build_options();
        let failed = |error: space_index::IndexError| ServiceError::from(IndexFailure(&error));
        let made = super::blocking(move || Builder::create(settings, &dir, options)).await?;
        let mut builder = made.map_err(failed)?;
        let mut after = 0;
        loop {
            let rows = self.store.points_after_number(space, after, ROWS).await?;
            let Some(last) = rows.last() else { break };
            after = last.number;
            let added = super::blocking(move || builder.add(&rows).map(|()| builder)).await?;
            builder = added.map_err(failed)?;
        }
        let control = Control::new();
        let index =
            super::blocking(move || builder.finish(seq, &control)).await?.map_err(failed)?;
        self.push_snapshot(space, &index).await;
        Ok(index)
    }

    /// Makes one segment of everything.
    pub(super) async fn make_whole(&self, live: &Arc<Live>) -> Result<(), ServiceError> {
        let files = self.live.files(live.space.id).lock_owned().await;
        // Another one may have its place since.
        match live.index.whole().filter(|_| self.live.is_serving(live)) {
            Some(task) => self.keep_up(live, task, &files).await,
            None => Ok(()),
        }
    }

    async fn keep_up(
        &self,
        live: &Arc<Live>,
        task: Task,
        _files: &OwnedMutexGuard<()>,
    ) -> Result<(), ServiceError> {
        let (index, options) = (Arc::clone(&live.index), self.settings.build_options());
        let done = super::blocking(move || index.keep_up(&task, options, &Control::new())).await?;
        match done {
            Ok(_) => {
                self.push_snapshot(&live.space, &live.index).await;
                Ok(())
            }
            Err(error) => {
                if error.is_damage() {
                    self.replace_damaged(live, &error).await;
                }
                Err(IndexFailure(&error).into())
            }
        }
    }

    /// Damage was met: the index goes, its files too, and the next search loads it from the rows.
    pub(super) async fn replace_damaged(&self, live: &Arc<Live>, error: &space_index::IndexError) {
        tracing::error!(space = %live.space.id, %error, "an index is damaged and is made anew from the rows");
        self.forget_index(live.space.id).await;
        self.forget_snapshot(live.space.id).await;
    }

    /// Keeps to the memory budget and does what is due for one of the indexes after another.
    pub async fn upkeep(&self) {
        for space in self.live.keep_to_budget() {
            tracing::warn!(space = %space.id, "its index outgrew the memory budget: its rows are searched");
            self.index_rows(&space).await;
        }
        let upkeep = self.settings.upkeep();
        for live in self.live.ready() {
            // Whoever has the files is at it, or will be asked in a moment again.
            let Ok(files) = self.live.files(live.space.id).try_lock_owned() else { continue };
            if !self.live.is_serving(&live) {
                continue;
            }
            let beyond = live.index.cursor() - live.index.snapshot_seq();
            let heads = i64::try_from(self.settings.head_rows_max).unwrap_or(i64::MAX);
            let long = beyond > heads.saturating_mul(SNAPSHOT_AFTER_HEADS)
                && live.index.snapshot_seq() > 0;
            let task = live.index.due(&upkeep).or_else(|| long.then(Task::seal));
            let Some(task) = task else { continue };
            if let Err(error) = self.keep_up(&live, task, &files).await {
                tracing::warn!(space = %live.space.id, %error, "upkeep of an index failed; it serves on");
            }
        }
    }

    /// Gives Postgres an index of the rows of a space whose own index does not fit.
    pub(super) async fn index_rows(&self, space: &Arc<Space>) {
        if self.settings.postgres_index == PostgresIndex::Never || space.sql_indexed {
            return;
        }
        match self.store.make_sql_index(space).await {
            Ok(true) => self.known.invalidate_all(),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(space = %space.id, %error, "Postgres made no index of its rows");
            }
        }
    }
}
