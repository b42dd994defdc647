//! Commits: which may go onto the head as it is, and what they make of it.

use std::sync::Arc;

use catalog_api::v1 as api;
use roaring::RoaringBitmap;
use service_error::ServiceError;

use super::State;
use super::dataset::{Dataset, Snapshot};
use super::uploads::UploadState;

impl State {
    /// Commits, or answers what the same commit did before.
    pub fn commit(
        &mut self,
        request: &api::CommitVersionRequest,
    ) -> Result<api::CommitVersionResponse, ServiceError> {
        let upload = self.upload(&request.upload_id)?.clone();
        let made = match &request.create {
            None => None,
            Some(new) => match self.named(&new.namespace, &new.name) {
                // Another commit made it, or this one did before.
                Ok(found) => return self.replay_onto(&found.about.id.clone(), request),
                Err(_) => Some(self.new_dataset(new, &upload.dataset_id)?),
            },
        };
        if made.is_none()
            && let Some(before) = self.replay(&upload.dataset_id, request)?
        {
            return Ok(before);
        }
        upload.must_be_open(&request.upload_id)?;
        let dataset = match &made {
            Some(made) => made,
            None => self.of_id(&upload.dataset_id)?,
        };
        let blocks = after(dataset, request)?;
        if let Some(made) = made {
            self.datasets.insert(upload.dataset_id.clone(), made);
        }
        let answer = self.datasets.get_mut(&upload.dataset_id).unwrap().add(request, blocks);
        self.upload_mut(&request.upload_id)?.state = UploadState::Committed(answer.clone());
        Ok(answer)
    }

    /// A commit that is to make a dataset that is there.
    fn replay_onto(
        &mut self,
        dataset_id: &str,
        request: &api::CommitVersionRequest,
    ) -> Result<api::CommitVersionResponse, ServiceError> {
        self.replay(dataset_id, request)?.ok_or_else(|| {
            ServiceError::conflict("the dataset was made by another commit meanwhile")
                .reason("DATASET_EXISTS")
        })
    }

    /// What the same commit did before, known by its key or by its upload.
    fn replay(
        &mut self,
        dataset_id: &str,
        request: &api::CommitVersionRequest,
    ) -> Result<Option<api::CommitVersionResponse>, ServiceError> {
        let (key, hash) = (&request.idempotency_key, &request.body_hash);
        let known = self.of_id(dataset_id)?.replayed(key, hash)?;
        let upload = self.upload_mut(&request.upload_id)?;
        match &upload.state {
            // A retry brought the same blocks under another upload: they are swept.
            UploadState::Open { .. } if known.is_some() => {
                upload.state = UploadState::Aborted { swept: false };
                Ok(known)
            }
            UploadState::Committed(answer)
                if known.is_none() && answer.dataset_id == dataset_id =>
            {
                Ok(Some(api::CommitVersionResponse { replayed: true, ..answer.clone() }))
            }
            _ => Ok(known),
        }
    }

    fn new_dataset(&self, new: &api::NewDataset, id: &str) -> Result<Dataset, ServiceError> {
        let namespace = self.namespace(&new.namespace)?;
        let about = api::Dataset {
            id: id.to_owned(),
            namespace: new.namespace.clone(),
            name: new.name.clone(),
            profile: new.profile,
            arrow_schema: new.arrow_schema.clone(),
            key_column: new.key_column.clone(),
            unique_columns: new.unique_columns.clone(),
            ..Default::default()
        };
        Ok(Dataset::new(namespace.id.clone(), about))
    }
}

/// The blocks that a commit's snapshot sees.
fn after(
    dataset: &Dataset,
    request: &api::CommitVersionRequest,
) -> Result<Vec<Arc<api::Block>>, ServiceError> {
    may_commit(dataset, request)?;
    let number = dataset.newest() + 1;
    let head = dataset.snapshot(dataset.newest())?;
    let mut blocks = match request.mode() {
        api::CommitMode::Append | api::CommitMode::Merge => touched(head.blocks, request, number)?,
        api::CommitMode::Overwrite => Vec::new(),
        api::CommitMode::Rollback => seen_again(dataset, request.rollback_snapshot, number)?,
        api::CommitMode::Unspecified => {
            return Err(ServiceError::invalid("mode", "is missing"));
        }
    };
    blocks.extend(
        request
            .blocks
            .iter()
            .map(|block| Arc::new(api::Block { snapshot_begin: number, ..block.clone() })),
    );
    Ok(blocks)
}

/// Only an append or a merge is moved onto a later head, unless its keys were
/// compared and blocks were added since; what moves the watermark never is.
fn may_commit(dataset: &Dataset, request: &api::CommitVersionRequest) -> Result<(), ServiceError> {
    let (base, head) = (request.base_snapshot, dataset.newest());
    if !(0..=head).contains(&base) {
        return Err(ServiceError::invalid("base_snapshot", "is no snapshot of the dataset"));
    }
    let watermark = dataset.snapshot(head)?.watermark;
    let may_move = matches!(request.mode(), api::CommitMode::Append | api::CommitMode::Merge);
    let fits = if base == head {
        request.watermark.is_none_or(|moved| moved.from == watermark)
    } else {
        let added = dataset.blocks().any(|block| block.snapshot_begin > base);
        may_move && request.watermark.is_none() && !(request.keys_checked && added)
    };
    let is_checked =
        request.declares_unique || request.unique_columns == dataset.about.unique_columns;
    if fits && is_checked {
        return Ok(());
    }
    Err(ServiceError::conflict(format!("the head is {head}; compute the commit again"))
        .reason("HEAD_MOVED")
        .with("head_snapshot", head))
}

/// The head's blocks without the rows and blocks that a commit takes away.
fn touched(
    mut blocks: Vec<Arc<api::Block>>,
    request: &api::CommitVersionRequest,
    number: i64,
) -> Result<Vec<Arc<api::Block>>, ServiceError> {
    let find = |blocks: &[Arc<api::Block>], id: &str, revision: i64| {
        let as_read =
            |block: &Arc<api::Block>| block.id == id && block.deletion_revision == revision;
        blocks.iter().position(as_read).ok_or_else(|| {
            ServiceError::conflict(format!("a later commit touched block {id}"))
                .reason("BLOCK_TOUCHED")
                .with("block", id)
        })
    };
    for deletion in &request.deletions {
        let at = find(&blocks, &deletion.block_id, deletion.deletion_revision)?;
        blocks[at] = Arc::new(without(&blocks[at], &deletion.positions, number)?);
    }
    for removal in &request.removals {
        let at = find(&blocks, &removal.block_id, removal.deletion_revision)?;
        blocks.remove(at);
    }
    blocks.retain(|block| block.row_count == 0 || Snapshot::live_rows(block) > 0);
    Ok(blocks)
}

fn without(block: &api::Block, positions: &[u8], number: i64) -> Result<api::Block, ServiceError> {
    let wrong = |why: &str| ServiceError::invalid("deletions", format!("block {} {why}", block.id));
    let before = match block.deletions.as_slice() {
        [] => RoaringBitmap::new(),
        bytes => RoaringBitmap::deserialize_from(bytes).unwrap(),
    };
    let more = RoaringBitmap::deserialize_from(positions)
        .map_err(|_| wrong("is named with positions that cannot be read"))?;
    if more.max().is_none_or(|last| i64::from(last) >= block.row_count) {
        return Err(wrong("has no row at the last position"));
    }
    if !before.is_disjoint(&more) {
        return Err(wrong("has a position that is deleted already"));
    }
    let all = before | more;
    let mut deletions = Vec::new();
    all.serialize_into(&mut deletions).unwrap();
    Ok(api::Block {
        deletions,
        deleted_count: all.len().try_into().unwrap(),
        deletion_revision: number,
        ..block.clone()
    })
}

/// The blocks of an earlier snapshot, as added and last changed by this one.
fn seen_again(
    dataset: &Dataset,
    earlier: i64,
    number: i64,
) -> Result<Vec<Arc<api::Block>>, ServiceError> {
    let was_changed =
        |id: &str| dataset.blocks().any(|block| block.id == id && block.deletion_revision > 0);
    let again = dataset.snapshot(earlier)?.blocks.into_iter().map(|block| {
        let deletion_revision = if was_changed(&block.id) { number } else { 0 };
        Arc::new(api::Block {
            snapshot_begin: number,
            deletion_revision,
            ..api::Block::clone(&block)
        })
    });
    Ok(again.collect())
}
