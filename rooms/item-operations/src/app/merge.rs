//! Bulk commits under the fence: what the delta holds goes into the blocks, and
//! with it the rows that a put, a filter or nobody brings.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use blocks::{BlockWriter, Position, Reading, ScanPlan, ScanRange, WrittenBlock};
use caller::Caller;
use catalog_api::v1::{
    BlockDeletion, CommitMode, CommitVersionRequest, CommitVersionResponse, WatermarkMove,
};
use filter::{Filter, Pruned};
use futures::TryStreamExt;
use ids::UploadId;
use roaring::RoaringBitmap;
use row_delta::keys_of;
use service_error::{Code, ServiceError};
use sql_store::now_micros;

use crate::app::App;
use crate::app::catalog::by_id;
use crate::app::commit::{block_of, keyed};
use crate::app::edits::{RowChange, key_text};
use crate::app::fence::HeldFence;
use crate::app::manifest::Manifest;
use crate::app::reading::Opened;
use crate::app::view::View;

/// A merge is computed again so often before it gives up.
const CONFLICTS_MAX: u32 = 20;
/// Memory of a batch of keys that is looked for at once.
const KEY_BATCH_BYTES: usize = 4 << 20;
/// Rows that are read at once to be changed.
const PATCH_STEP_ROWS: usize = 8_192;
/// Memory of them.
const PATCH_BYTES: usize = 16 << 20;
/// Rows that a filter finds at once.
const FOUND_ROWS: usize = 1 << 20;

/// What happens to the rows that are there, beside the flush of the delta.
pub enum Change<'a> {
    /// Nothing.
    Keep,
    /// Rows with a key of these blocks give way to them, but for what they hold in
    /// the named columns, which the put lacks.
    Upsert(&'a [WrittenBlock], &'a [String]),
    /// These blocks bring keys that must be new.
    Append(&'a [WrittenBlock]),
    /// Rows with these keys go.
    DeleteKeys(&'a [ArrayRef]),
    /// Rows that pass go.
    DeleteWhere(Arc<Filter>),
    /// Rows that pass are changed.
    PatchWhere(Arc<Filter>, &'a RowChange),
    /// Nothing, but these columns become the unique ones.
    Declare(&'a [String]),
}

impl Change<'_> {
    /// Blocks that are committed as they are.
    pub fn brought(&self) -> &[WrittenBlock] {
        match self {
            // Rows that lacked columns are written anew, with the others.
            Self::Append(new) | Self::Upsert(new, []) => new,
            _ => &[],
        }
    }
}

/// A bulk commit.
pub struct Merge<'a> {
    pub upload: UploadId,
    pub fence: &'a HeldFence,
    pub change: Change<'a>,
    /// Mode, version's name, idempotency: what the catalog is told besides.
    pub commit: CommitVersionRequest,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Merged {
    pub response: CommitVersionResponse,
    pub watermark: i64,
    /// Rows that the change took away.
    pub removed_rows: u64,
}

/// What a merge commits from one state of the head.
#[derive(Default)]
pub struct Plan {
    /// By block: the positions that go.
    pub deletions: HashMap<usize, RoaringBitmap>,
    /// Rows of the tail that stay, and so are written.
    kept: Vec<usize>,
    removed_rows: u64,
}

impl App {
    /// Makes a bulk commit; computed again while others move the head.
    ///
    /// # Errors
    /// A key that an append brings and that is there; a conflict that lasts; the catalog's.
    pub async fn merge(
        &self,
        caller: &Caller,
        merge: &Merge<'_>,
        dataset: uuid::Uuid,
    ) -> Result<Merged, ServiceError> {
        let merged = self.merge_onto_head(caller, merge, dataset).await;
        if merged.as_ref().is_err_and(|error| error.reason_is("BLOCK_DAMAGED"))
            && let Err(error) = self.catalog.renew_upload(caller, merge.upload).await
            && error.reason_is("UPLOAD_ABORTED")
        {
            // Another one settled the fence meanwhile, and its blocks are swept.
            return Err(error);
        }
        merged
    }

    async fn merge_onto_head(
        &self,
        caller: &Caller,
        merge: &Merge<'_>,
        dataset: uuid::Uuid,
    ) -> Result<Merged, ServiceError> {
        let mut conflicts = 0;
        loop {
            let head = self.catalog.head(caller, by_id(dataset), None).await?;
            let mut opened = Opened::of(&head)?;
            opened.ceiling = merge.fence.barrier().max(opened.watermark);
            let base = self.manifest(caller, &opened).await?;
            let view = self.view(caller, &opened).await?;
            let plan = self.plan(&opened, &view, &merge.change).await?;
            let flushed = self.write_rows(&opened, &view, &plan, merge).await?;
            self.check_merge(&opened, &view, &plan, merge, &flushed).await?;
            let request = self.merge_request(merge, &opened, &base, &view, &plan, &flushed)?;
            let error = match self.commit_patiently(caller, request).await {
                Ok(response) => {
                    let mut watermark = opened.ceiling;
                    if response.replayed {
                        // Another commit answered: this one absorbed nothing.
                        let head = self.catalog.head(caller, by_id(dataset), None).await?;
                        watermark = head.watermark;
                    }
                    return Ok(Merged { response, watermark, removed_rows: plan.removed_rows });
                }
                Err(error) => error,
            };
            let moved = error.reason_is("HEAD_MOVED") || error.reason_is("BLOCK_TOUCHED");
            if !moved || conflicts == CONFLICTS_MAX {
                return Err(error);
            }
            conflicts += 1;
            // Written for a head that is not any more.
            for block in &flushed {
                let gone = self.store.blobs().delete(&block.object_key).await;
                if let Err(error) = gone {
                    tracing::debug!(%error, "a block of no use could not be deleted");
                }
            }
        }
    }

    async fn plan(
        &self,
        opened: &Opened,
        view: &View,
        change: &Change<'_>,
    ) -> Result<Plan, ServiceError> {
        let tail_rows = view.tail.as_ref().map_or(0, RecordBatch::num_rows);
        let mut plan = Plan { kept: (0..tail_rows).collect(), ..Plan::default() };
        match change {
            Change::Keep | Change::Declare(_) => {}
            Change::Append(_) if opened.key.is_empty() => {}
            Change::Append(new) => {
                if let Some(key) = self.any_of_keys(opened, view, new).await? {
                    return Err(crate::app::commit::key_exists(&opened.address, &opened.key, &key));
                }
            }
            Change::Upsert(new, _) => {
                for block in *new {
                    let mut keys = std::pin::pin!(self.key_column(opened, block));
                    while let Some(keys) = keys.try_next().await? {
                        self.take_away(opened, view, &keys, &mut plan).await?;
                    }
                }
            }
            Change::DeleteKeys(all) => {
                for keys in *all {
                    self.take_away(opened, view, keys, &mut plan).await?;
                }
            }
            Change::DeleteWhere(filter) | Change::PatchWhere(filter, _) => {
                let reading = Reading::new(Arc::clone(&opened.schema), Some(Arc::clone(filter)));
                let mut from = Position { block: 0, row: 0 };
                loop {
                    // A part at a time: the plan's bitmaps take far less than positions do.
                    let part = (from, FOUND_ROWS);
                    let found = self.passing(view, &reading, filter, part).await?;
                    let Some(last) = found.last() else { break };
                    from = Position { row: last.row + 1, ..*last };
                    let is_last = found.len() < FOUND_ROWS;
                    for position in found {
                        plan.delete(position)?;
                    }
                    if is_last {
                        break;
                    }
                }
                let gone: HashSet<usize> = view.tail_rows(Some(filter))?.into_iter().collect();
                plan.drop_kept(&gone);
            }
        }
        Ok(plan)
    }

    /// The first rows of a view's blocks from a place on that pass a filter.
    pub async fn passing(
        &self,
        view: &View,
        reading: &Reading,
        filter: &Filter,
        (from, limit): (Position, usize),
    ) -> Result<Vec<Position>, ServiceError> {
        let walk = blocks::Walk { from, back: false, limit };
        let prune =
            |at: usize| view.blocks.get(at).map_or(Pruned::Maybe, |block| block.prune(filter));
        self.reader.walk(&view.blocks, reading, walk, prune).await
    }

    /// Takes the rows of keys away, wherever they are.
    async fn take_away(
        &self,
        opened: &Opened,
        view: &View,
        keys: &ArrayRef,
        plan: &mut Plan,
    ) -> Result<(), ServiceError> {
        for position in self.locate(opened, &view.blocks, keys).await?.into_iter().flatten() {
            plan.delete(position)?;
        }
        if view.tail.is_some() {
            let gone = keys_of(keys)?;
            let gone = gone.iter().filter_map(|key| view.changed.get(key.as_slice()).copied()?);
            plan.drop_kept(&gone.collect());
        }
        Ok(())
    }

    /// A key of some blocks that is there already.
    async fn any_of_keys(
        &self,
        opened: &Opened,
        view: &View,
        new: &[WrittenBlock],
    ) -> Result<Option<String>, ServiceError> {
        let existing: Vec<blocks::KeyedBlock> =
            view.blocks.iter().map(|block| block.keyed(&opened.key)).collect();
        let keyed: Vec<_> = new.iter().map(|block| keyed(block, &opened.key)).collect();
        let found =
            blocks::find_duplicate(&self.reader, &keyed, &existing, opened.key_field()?).await?;
        if let Some(found) = found {
            return Ok(Some(found.key));
        }
        let Some(tail) = &view.tail else { return Ok(None) };
        let column = tail.column_by_name(&opened.key);
        let column = column.ok_or_else(|| ServiceError::internal("the delta lacks its key"))?;
        let hits = blocks::locate(&self.reader, &keyed, column, opened.key_field()?).await?;
        let hit = hits.iter().position(Option::is_some);
        hit.map(|row| key_text(opened, column, row)).transpose()
    }

    /// The keys of a block that was just written, in batches.
    fn key_column(
        &self,
        opened: &Opened,
        block: &WrittenBlock,
    ) -> impl futures::Stream<Item = Result<ArrayRef, ServiceError>> + Send + use<> {
        let location = crate::app::commit::location(block);
        let field = opened.schema.field_with_name(&opened.key).cloned();
        let fields: Vec<_> = field.into_iter().collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let range = ScanRange { rows: 0..location.row_count, location, deleted: None };
        let plan = ScanPlan {
            ranges: vec![range],
            schema,
            dataset_schema: Arc::clone(&opened.schema),
            filter: None,
            limit: None,
            batch_bytes: KEY_BATCH_BYTES,
            tally: Arc::default(),
            table_rows: None,
        };
        self.reader.scan(plan).map_ok(|batch| Arc::clone(batch.column(0)))
    }

    /// Writes the rows of the delta that stay, and those that the change makes.
    async fn write_rows(
        &self,
        opened: &Opened,
        view: &View,
        plan: &Plan,
        merge: &Merge<'_>,
    ) -> Result<Vec<WrittenBlock>, ServiceError> {
        let mut writer = self.block_writer(opened, merge.upload)?;
        if let Some(tail) = view.tail.as_ref().filter(|_| !plan.kept.is_empty()) {
            writer.write(taken(tail, &plan.kept)?).await?;
        }
        if let Change::Upsert(new, lacking) = merge.change
            && !lacking.is_empty()
        {
            self.write_completed(opened, view, (new, lacking), &mut writer).await?;
        }
        if let Change::PatchWhere(filter, change) = &merge.change {
            let now = now_micros();
            let reading = Reading::new(Arc::clone(&opened.schema), None);
            let mut positions = plan.positions();
            let mut step: Vec<Position> = Vec::with_capacity(PATCH_STEP_ROWS);
            loop {
                step.extend(positions.by_ref().take(PATCH_STEP_ROWS - step.len()));
                if step.is_empty() {
                    break;
                }
                let schema = &opened.schema;
                let read = self.reader.rows(&view.blocks, &step, schema, &reading, PATCH_BYTES);
                let mut done = 0;
                for batch in read.await? {
                    done += batch.num_rows();
                    writer.write(change.apply(opened, &batch, now)?).await?;
                }
                if done == 0 {
                    return Err(ServiceError::internal("a row that was found is not there"));
                }
                step.drain(..done);
            }
            let passing = view.tail_rows(Some(filter))?;
            if let Some(tail) = view.tail.as_ref().filter(|_| !passing.is_empty()) {
                writer.write(change.apply(opened, &taken(tail, &passing)?, now)?).await?;
            }
        }
        writer.finish().await
    }

    /// A writer of blocks of an upload to a dataset.
    pub fn block_writer(
        &self,
        opened: &Opened,
        upload: UploadId,
    ) -> Result<BlockWriter, ServiceError> {
        let writer = BlockWriter::new(
            self.store.blobs().clone(),
            self.buffers.clone(),
            self.settings.block_options(),
            Arc::clone(&opened.schema),
            Some(opened.key.as_str()).filter(|key| !key.is_empty()),
            format!("{}/{upload}", opened.dataset),
        )?;
        Ok(writer.unique(&opened.unique))
    }

    fn merge_request(
        &self,
        merge: &Merge<'_>,
        opened: &Opened,
        base: &Manifest,
        view: &View,
        plan: &Plan,
        flushed: &[WrittenBlock],
    ) -> Result<CommitVersionRequest, ServiceError> {
        let mut deletions = Vec::new();
        for (at, (before, now)) in base.iter().zip(view.blocks.iter()).enumerate() {
            let mut added = now.hidden_beside(before);
            if let Some(more) = plan.deletions.get(&at) {
                added |= more;
            }
            if !added.is_empty() {
                deletions.push(BlockDeletion {
                    block_id: before.id.clone(),
                    deletion_revision: before.revision,
                    positions: portable(&added)?,
                });
            }
        }
        let blocks: Result<Vec<_>, ServiceError> =
            merge.change.brought().iter().chain(flushed).map(block_of).collect();
        let affected_rows = match merge.change {
            Change::DeleteKeys(_) | Change::DeleteWhere(_) | Change::PatchWhere(..) => {
                i64::try_from(plan.removed_rows).unwrap_or(i64::MAX)
            }
            _ => merge.commit.affected_rows,
        };
        Ok(CommitVersionRequest {
            upload_id: merge.upload.to_string(),
            mode: CommitMode::Merge as i32,
            blocks: blocks?,
            deletions,
            base_snapshot: opened.snapshot,
            keys_checked: true,
            watermark: Some(WatermarkMove { from: opened.watermark, to: opened.ceiling }),
            affected_rows,
            unique_columns: match merge.change {
                Change::Declare(columns) => columns.to_vec(),
                _ => opened.unique.clone(),
            },
            declares_unique: matches!(merge.change, Change::Declare(_)),
            ..merge.commit.clone()
        })
    }

    /// A commit of an upload may be asked for again: the upload tells.
    pub async fn commit_patiently(
        &self,
        caller: &Caller,
        request: CommitVersionRequest,
    ) -> Result<CommitVersionResponse, ServiceError> {
        let mut absences = 0;
        loop {
            match self.catalog.commit(caller, request.clone()).await {
                Err(error)
                    if error.code() == Code::Unavailable
                        && absences < crate::app::commit::ABSENCES_MAX =>
                {
                    tokio::time::sleep(crate::app::commit::ABSENCE_DELAY * 2u32.pow(absences))
                        .await;
                    absences += 1;
                }
                done => return done,
            }
        }
    }
}

/// Some rows of a batch.
pub fn taken(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, ServiceError> {
    let rows: Result<Vec<u32>, _> = rows.iter().map(|row| u32::try_from(*row)).collect();
    let rows = rows.map_err(|_| ServiceError::internal("a batch of 4 billion rows"))?;
    take_record_batch(batch, &UInt32Array::from(rows))
        .map_err(|error| ServiceError::internal(format!("rows cannot be taken: {error}")))
}

impl Plan {
    /// All rows that go, ascending.
    fn positions(&self) -> impl Iterator<Item = Position> {
        let mut blocks: Vec<_> = self.deletions.iter().collect();
        blocks.sort_unstable_by_key(|(block, _)| **block);
        blocks.into_iter().flat_map(|(block, rows)| {
            rows.iter().map(move |row| Position { block: *block, row: u64::from(row) })
        })
    }

    fn delete(&mut self, position: Position) -> Result<(), ServiceError> {
        let row = u32::try_from(position.row)
            .map_err(|_| ServiceError::data_loss("a block of more than 4 billion rows"))?;
        self.removed_rows +=
            u64::from(self.deletions.entry(position.block).or_default().insert(row));
        Ok(())
    }

    fn drop_kept(&mut self, gone: &HashSet<usize>) {
        let before = self.kept.len();
        self.kept.retain(|row| !gone.contains(row));
        self.removed_rows += (before - self.kept.len()) as u64;
    }
}

/// Positions in the form that the catalog keeps.
pub fn portable(positions: &RoaringBitmap) -> Result<Vec<u8>, ServiceError> {
    let mut bytes = Vec::with_capacity(positions.serialized_size());
    positions
        .serialize_into(&mut bytes)
        .map_err(|error| ServiceError::internal(format!("positions: {error}")))?;
    Ok(bytes)
}
