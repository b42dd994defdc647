//! Commits under the fence, from taking it to opening it: puts, edits by filter,
//! versions, rollback, flush.

use std::sync::Arc;

use caller::Caller;
use catalog_api::v1::get_head_request::At;
use catalog_api::v1::{
    CommitMode, CommitVersionRequest, CommitVersionResponse, Version, WatermarkMove,
};
use filter::Filter;
use ids::UploadId;
use options_api::v1::Level;
use row_delta::FenceKind::{self, Exclusive};
use row_delta::Place;
use service_error::{Code, ServiceError};

use crate::app::App;
use crate::app::catalog::{by_id, ourselves};
use crate::app::commit::version_of;
use crate::app::edits::{Edit, Edited, Repeatable};
use crate::app::fence::HeldFence;
use crate::app::merge::{Change, Merge, Merged};
use crate::app::reading::Opened;
use crate::model::{Address, still_unique};

const VERSION: &str = "quarry.items.v1.EditsService/CreateVersion";
const ROLLBACK: &str = "quarry.items.v1.EditsService/RollbackToVersion";
const CONFLICTS_MAX: u32 = 50;

impl App {
    /// A bulk commit that changes rows: takes the fence, merges, lets others in.
    pub async fn merge_fenced(
        &self,
        caller: &Caller,
        opened: &Opened,
        upload: UploadId,
        change: Change<'_>,
        commit: CommitVersionRequest,
    ) -> Result<Merged, ServiceError> {
        let fence = self.take_fence(opened.place(), Exclusive, upload, opened.watermark).await?;
        let merge = Merge { upload, fence: &fence, change, commit };
        let merged = self.merge(caller, &merge, opened.dataset).await;
        release(fence, merged.as_ref().map(|merged| merged.watermark)).await;
        merged
    }

    /// A commit that puts an upload's blocks in the place of all rows.
    pub async fn replace_all(
        &self,
        caller: &Caller,
        opened: &Opened,
        upload: UploadId,
        commit: CommitVersionRequest,
    ) -> Result<CommitVersionResponse, ServiceError> {
        let fence = self.take_fence(opened.place(), Exclusive, upload, opened.watermark).await?;
        let done = self.commit_onto_head(caller, opened, fence.barrier(), commit).await;
        let watermark = match &done {
            // Another commit answered: what it absorbed, the head says.
            Ok(response) if response.replayed => {
                self.catalog.head(caller, by_id(opened.dataset), None).await.map(|h| h.watermark)
            }
            Ok(_) => Ok(fence.barrier().max(opened.watermark)),
            Err(error) => Err(ServiceError::new(error.code(), error.message())),
        };
        release(fence, watermark.as_ref().copied()).await;
        done
    }

    /// Commits onto the head as it is, again while others move it.
    async fn commit_onto_head(
        &self,
        caller: &Caller,
        opened: &Opened,
        barrier: i64,
        mut commit: CommitVersionRequest,
    ) -> Result<CommitVersionResponse, ServiceError> {
        let mut conflicts = 0;
        loop {
            let head = self.catalog.head(caller, by_id(opened.dataset), None).await?;
            still_unique(&head, &commit.unique_columns)?;
            commit.base_snapshot = head.snapshot;
            let to = barrier.max(head.watermark);
            commit.watermark = Some(WatermarkMove { from: head.watermark, to });
            match self.commit_patiently(caller, commit.clone()).await {
                Err(error) if error.reason_is("HEAD_MOVED") && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                }
                done => return done,
            }
        }
    }

    /// An edit of more rows than the delta takes at once.
    pub async fn edit_in_bulk(
        &self,
        caller: &Caller,
        opened: &Opened,
        filter: Arc<Filter>,
        edit: &Edit,
        repeatable: &Repeatable,
    ) -> Result<Edited, ServiceError> {
        let change = match edit {
            Edit::Where { change: Some(change), .. } => Change::PatchWhere(filter, change),
            _ => Change::DeleteWhere(filter),
        };
        let mut lease = self.leased(caller, opened.dataset).await?;
        let commit = CommitVersionRequest {
            unnamed: true,
            idempotency_key: repeatable.idempotency_key.clone(),
            body_hash: repeatable.body_hash.clone(),
            ..CommitVersionRequest::default()
        };
        let merged = self.merge_fenced(caller, opened, lease.upload(), change, commit).await?;
        lease.done();
        self.edited_in_bulk(opened, &merged.response)
    }

    fn edited_in_bulk(
        &self,
        opened: &Opened,
        response: &CommitVersionResponse,
    ) -> Result<Edited, ServiceError> {
        Ok(Edited {
            items: Vec::new(),
            affected: u64::try_from(response.affected_rows).unwrap_or(0),
            commit_token: self.commit_token(opened, 0, response.snapshot)?,
        })
    }

    /// What an edit of many rows did before, if it went in bulk: the delta knows nothing of it,
    /// and what is left for its filter may be few rows, or other ones.
    ///
    /// # Errors
    /// The key of another request; a catalog that is away.
    pub async fn bulk_before(
        &self,
        caller: &Caller,
        opened: &Opened,
        repeatable: &Repeatable,
    ) -> Result<Option<Edited>, ServiceError> {
        let key = (repeatable.idempotency_key.as_str(), repeatable.body_hash.as_slice());
        let before = self.committed_before(caller, opened.dataset, key).await?;
        before.map(|response| self.edited_in_bulk(opened, &response)).transpose()
    }

    /// Moves what the delta of a branch holds into the blocks. False: it held
    /// nothing. Writers go on meanwhile.
    ///
    /// # Errors
    /// As the catalog, the database and the object store fail.
    pub async fn flush(&self, place: Place) -> Result<bool, ServiceError> {
        let us = ourselves();
        let commit = CommitVersionRequest { unnamed: true, ..CommitVersionRequest::default() };
        Ok(self.flush_with(&us, place, commit).await?.is_some())
    }

    /// Flushes with a commit of the caller's; an unnamed one that has nothing to
    /// flush is not made.
    async fn flush_with(
        &self,
        caller: &Caller,
        place: Place,
        commit: CommitVersionRequest,
    ) -> Result<Option<Merged>, ServiceError> {
        let head = self.catalog.head(caller, by_id(place.dataset), None).await?;
        let state = self.delta.state(place).await?;
        if commit.unnamed && state.seq <= head.watermark {
            if state.pending_rows > 0 && state.fence.is_none() {
                // Absorbed by a holder that died before it could say so.
                self.note_absorbed(place, head.watermark).await?;
            }
            return Ok(None);
        }
        let mut lease = self.leased(caller, place.dataset).await?;
        let upload = lease.upload();
        let fence = self.take_fence(place, FenceKind::Flush, upload, head.watermark).await?;
        let merge = Merge { upload, fence: &fence, change: Change::Keep, commit };
        let merged = self.merge(caller, &merge, place.dataset).await;
        release(fence, merged.as_ref().map(|merged| merged.watermark)).await;
        let merged = merged?;
        lease.done();
        Ok(Some(merged))
    }

    async fn note_absorbed(&self, place: Place, watermark: i64) -> Result<(), ServiceError> {
        let lease = self.settings.delta.fence_lease_micros();
        let nobody = uuid::Uuid::nil();
        let kind = FenceKind::Flush;
        let taken = self.delta.take_fence(place, kind, nobody, watermark, lease).await?;
        if let row_delta::Taken::Ours(fence) = taken {
            self.delta.open_fence(place, &fence.held, Some(watermark)).await?;
        }
        Ok(())
    }

    /// Names what a dataset holds now.
    ///
    /// # Errors
    /// No such dataset, or no right to write to it.
    pub async fn create_version(
        &self,
        caller: &Caller,
        address: &Address,
        message: String,
    ) -> Result<Version, ServiceError> {
        let opened = self.open_now(caller, address).await?;
        self.allow(caller, &opened, Level::Write, VERSION).await?;
        let commit = CommitVersionRequest { message, ..CommitVersionRequest::default() };
        let merged = self.flush_with(caller, opened.place(), commit).await?;
        version_of(merged.and_then(|merged| merged.response.version))
    }

    /// Makes a version that holds what an earlier one held. What the delta holds
    /// is flushed first, so that it stays in the dataset's history.
    ///
    /// # Errors
    /// No such dataset or version, or no right to write to it.
    pub async fn rollback(
        &self,
        caller: &Caller,
        address: &Address,
        version: &str,
        message: String,
    ) -> Result<Version, ServiceError> {
        let opened = self.open_now(caller, address).await?;
        self.allow(caller, &opened, Level::Write, ROLLBACK).await?;
        let at = Some(At::Version(version.to_owned()));
        let then = self.catalog.head(caller, by_id(opened.dataset), at).await?;
        let unique_columns = self.check_earlier(caller, Opened::of(&then)?).await?;
        self.flush(opened.place()).await?;
        let mut lease = self.leased(caller, opened.dataset).await?;
        let upload = lease.upload();
        let message = match message.is_empty() {
            true => format!("rollback to version {}", then.version),
            false => message,
        };
        let commit = CommitVersionRequest {
            upload_id: upload.to_string(),
            mode: CommitMode::Rollback as i32,
            rollback_snapshot: then.snapshot,
            message,
            unique_columns,
            ..CommitVersionRequest::default()
        };
        let done = self.replace_all(caller, &opened, upload, commit).await?;
        lease.done();
        version_of(done.version)
    }
}

/// Lets others in: at once where it is known what became of the commit.
async fn release(fence: HeldFence, watermark: Result<i64, &ServiceError>) {
    match watermark {
        Ok(watermark) => fence.open(Some(watermark)).await,
        // Whether it was made only the catalog knows: dropped, it is settled.
        Err(error) if matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded) => {}
        Err(error) if matches!(error.code(), Code::Internal | Code::Cancelled) => {}
        Err(_) => fence.open(None).await,
    }
}
