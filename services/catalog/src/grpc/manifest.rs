//! `quarry.catalog.v1.ManifestService`.

use catalog_api::v1 as wire;
use catalog_api::v1::get_head_request::At;
use catalog_api::v1::manifest_service_server::ManifestService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use crate::app::{BlockPage, Catalog, CommitRequest, CreateInCommit};
use crate::grpc::datasets::{dataset_to_wire, profile_from_wire, version_to_wire};
use crate::grpc::{answer, parse, timestamp, value};
use crate::model::commit::Idempotency;
use crate::model::deletion::read_positions;
use crate::model::{
    Block, BlockCursor, BlockDeletion, BlockRemoval, CommitMode, Committed, DatasetRef, Footing,
    Head, ManifestEntry, UniqueColumns, UploadState, VersionRef, WatermarkMove,
};

/// Blocks on a page with statistics, which are many times larger.
const BLOCKS_WITH_STATISTICS_MAX: u32 = 200;
/// Bytes of deleted rows' positions on a page, the first block's aside.
const DELETION_BYTES_MAX: usize = 8 << 20;

/// The service over the use cases.
pub struct Manifest(pub Catalog);

#[tonic::async_trait]
impl ManifestService for Manifest {
    async fn get_head(
        &self,
        request: Request<wire::GetHeadRequest>,
    ) -> Result<Response<wire::GetHeadResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let dataset = reference(asked.dataset)?;
            let at = match asked.at {
                None => VersionRef::Latest,
                Some(At::Version(text)) => VersionRef::parse("version", &text)?,
                Some(At::Snapshot(number)) => VersionRef::Snapshot(number),
            };
            let head = self.0.get_head(&caller, &dataset, at).await?;
            Ok::<_, ServiceError>(wire::GetHeadResponse { head: Some(head_to_wire(head)?) })
        };
        answer(found.await)
    }

    async fn list_blocks(
        &self,
        request: Request<wire::ListBlocksRequest>,
    ) -> Result<Response<wire::ListBlocksResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let size =
                if asked.with_statistics { size.min(BLOCKS_WITH_STATISTICS_MAX) } else { size };
            let list =
                format!("blocks:{}:{}:{}", asked.dataset_id, asked.snapshot, asked.added_after);
            let cursor: Option<BlockCursor> = paging::key(&list, &asked.page_token)?;
            let page = BlockPage {
                dataset: parse("dataset_id", &asked.dataset_id)?,
                snapshot: asked.snapshot,
                added_after: asked.added_after,
                with_statistics: asked.with_statistics,
                cursor,
                limit: size + 1,
            };
            let entries = self.0.list_blocks(&caller, page).await?;
            let size = entries_that_fit(&entries).min(size);
            let (entries, next_page_token) =
                paging::cut(entries, size, &list, ManifestEntry::cursor);
            let blocks = entries.into_iter().map(entry_to_wire).collect();
            Ok::<_, ServiceError>(wire::ListBlocksResponse { blocks, next_page_token })
        };
        answer(page.await)
    }

    async fn open_upload(
        &self,
        request: Request<wire::OpenUploadRequest>,
    ) -> Result<Response<wire::OpenUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let opened = async {
            let opened = self.0.open_upload(&caller, &reference(asked.dataset)?).await?;
            Ok::<_, ServiceError>(wire::OpenUploadResponse {
                upload_id: opened.id.to_string(),
                expire_time: Some(timestamp(opened.expires_at)),
                head: opened.head.map(head_to_wire).transpose()?,
                dataset_id: opened.dataset.to_string(),
            })
        };
        answer(opened.await)
    }

    async fn renew_upload(
        &self,
        request: Request<wire::RenewUploadRequest>,
    ) -> Result<Response<wire::RenewUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        let id = parse("upload_id", &request.into_inner().upload_id)?;
        let renewed = self.0.renew_upload(&caller, id).await;
        answer(renewed.map(|expires_at| wire::RenewUploadResponse {
            expire_time: Some(timestamp(expires_at)),
        }))
    }

    async fn commit_version(
        &self,
        request: Request<wire::CommitVersionRequest>,
    ) -> Result<Response<wire::CommitVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let committed =
            async { self.0.commit(&caller, commit_from_wire(asked)?).await.map(committed_to_wire) };
        answer(committed.await)
    }

    async fn find_commit(
        &self,
        request: Request<wire::FindCommitRequest>,
    ) -> Result<Response<wire::FindCommitResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let dataset = parse("dataset_id", &asked.dataset_id)?;
            let key = Idempotency::of(&asked.idempotency_key, &asked.body_hash)?;
            let found = self.0.find_commit(&caller, dataset, key).await?;
            Ok::<_, ServiceError>(wire::FindCommitResponse { commit: found.map(committed_to_wire) })
        };
        answer(found.await)
    }

    async fn abort_upload(
        &self,
        request: Request<wire::AbortUploadRequest>,
    ) -> Result<Response<wire::AbortUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        let id = parse("upload_id", &request.into_inner().upload_id)?;
        let aborted = self.0.abort_upload(&caller, id).await;
        answer(aborted.map(|()| wire::AbortUploadResponse {}))
    }

    async fn settle_upload(
        &self,
        request: Request<wire::SettleUploadRequest>,
    ) -> Result<Response<wire::SettleUploadResponse>, Status> {
        let caller = caller::of(&request)?;
        let id = parse("upload_id", &request.into_inner().upload_id)?;
        let settled = self.0.settle_upload(&caller, id).await;
        answer(settled.map(|upload| wire::SettleUploadResponse {
            committed: upload.state == UploadState::Committed,
            snapshot: upload.snapshot,
        }))
    }

    async fn sweep_uploads(
        &self,
        request: Request<wire::SweepUploadsRequest>,
    ) -> Result<Response<wire::SweepUploadsResponse>, Status> {
        let caller = caller::of(&request)?;
        let size = paging::page_size(request.into_inner().page_size, paging::PAGE_SIZE_MAX)?;
        let swept = self.0.sweep_uploads(&caller, size).await;
        answer(swept.map(|uploads| {
            let uploads = uploads.into_iter().map(|upload| wire::SweptUpload {
                upload_id: upload.id.to_string(),
                dataset_id: upload.dataset_id.to_string(),
            });
            wire::SweepUploadsResponse { uploads: uploads.collect() }
        }))
    }

    async fn confirm_swept(
        &self,
        request: Request<wire::ConfirmSweptRequest>,
    ) -> Result<Response<wire::ConfirmSweptResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner().upload_ids;
        let confirmed = async {
            if asked.len() > paging::PAGE_SIZE_MAX as usize {
                let message = format!("at most {} at once", paging::PAGE_SIZE_MAX);
                return Err(ServiceError::invalid("upload_ids", message));
            }
            let ids =
                asked.iter().map(|id| parse("upload_ids", id)).collect::<Result<Vec<_>, _>>()?;
            self.0.confirm_swept(&caller, &ids).await
        };
        answer(confirmed.await.map(|()| wire::ConfirmSweptResponse {}))
    }
}

/// How many entries of a page fit into a message, at least one.
fn entries_that_fit(entries: &[ManifestEntry]) -> u32 {
    let mut bytes = 0;
    let fit = entries.iter().take_while(|entry| {
        bytes += entry.deletions.len();
        bytes <= DELETION_BYTES_MAX
    });
    u32::try_from(fit.count().max(1)).unwrap_or(u32::MAX)
}

fn reference(dataset: Option<wire::DatasetRef>) -> Result<DatasetRef, ServiceError> {
    let named = dataset.ok_or_else(|| ServiceError::invalid("dataset", "is missing"))?;
    if named.dataset_id.is_empty() {
        return DatasetRef::named(&named.namespace, ("name", &named.name));
    }
    Ok(DatasetRef::Id(parse("dataset_id", &named.dataset_id)?))
}

fn head_to_wire(head: Head) -> Result<wire::Head, ServiceError> {
    Ok(wire::Head {
        namespace_id: head.dataset.namespace_id.to_string(),
        dataset: Some(dataset_to_wire(head.dataset)?),
        snapshot: head.snapshot.number,
        version: head.version,
        row_count: head.snapshot.row_count,
        byte_count: head.snapshot.byte_count,
        block_count: head.snapshot.block_count,
        watermark: head.snapshot.watermark,
    })
}

fn committed_to_wire(committed: Committed) -> wire::CommitVersionResponse {
    wire::CommitVersionResponse {
        version: committed.version.map(version_to_wire),
        dataset_id: committed.dataset.to_string(),
        replayed: committed.replayed,
        snapshot: committed.snapshot,
        affected_rows: committed.affected_rows,
    }
}

fn entry_to_wire(entry: ManifestEntry) -> wire::Block {
    wire::Block {
        id: entry.block.id.to_string(),
        object_key: entry.block.object_key,
        row_count: entry.block.row_count,
        byte_count: entry.block.byte_count,
        footer_length: entry.block.footer_length,
        content_hash: entry.block.content_hash,
        columns: entry.block.columns.iter().map(value::to_wire).collect(),
        row_begin: entry.row_begin,
        snapshot_begin: entry.snapshot_begin,
        deleted_count: entry.deleted_count,
        deletions: entry.deletions,
        deletion_revision: entry.deletion_revision,
    }
}

fn commit_from_wire(asked: wire::CommitVersionRequest) -> Result<CommitRequest, ServiceError> {
    let mode = match wire::CommitMode::try_from(asked.mode) {
        Ok(wire::CommitMode::Append) => CommitMode::Append,
        Ok(wire::CommitMode::Overwrite) => CommitMode::Overwrite,
        Ok(wire::CommitMode::Merge) => CommitMode::Merge,
        Ok(wire::CommitMode::Rollback) => CommitMode::Rollback(asked.rollback_snapshot),
        _ => {
            let message = "is missing: append, overwrite, merge or rollback";
            return Err(ServiceError::invalid("mode", message));
        }
    };
    let create = match asked.create {
        None => None,
        Some(create) => Some(CreateInCommit {
            namespace: create.namespace,
            name: create.name,
            profile: profile_from_wire(create.profile)?,
            schema_ipc: create.arrow_schema,
            key_column: create.key_column,
            unique_columns: create.unique_columns,
        }),
    };
    let watermark = asked.watermark.map(|moved| WatermarkMove { from: moved.from, to: moved.to });
    Ok(CommitRequest {
        upload: parse("upload_id", &asked.upload_id)?,
        mode,
        create,
        blocks: asked.blocks.into_iter().map(block_from_wire).collect::<Result<_, _>>()?,
        deletions: asked.deletions.iter().map(deletion_from_wire).collect::<Result<_, _>>()?,
        removals: asked.removals.iter().map(removal_from_wire).collect::<Result<_, _>>()?,
        footing: Footing {
            base_snapshot: asked.base_snapshot,
            keys_checked: asked.keys_checked,
            watermark,
        },
        unique: UniqueColumns { columns: asked.unique_columns, declares: asked.declares_unique },
        named: !asked.unnamed,
        message: asked.message,
        affected_rows: asked.affected_rows,
        idempotency: Idempotency::of(&asked.idempotency_key, &asked.body_hash)?,
    })
}

fn deletion_from_wire(deletion: &wire::BlockDeletion) -> Result<BlockDeletion, ServiceError> {
    Ok(BlockDeletion {
        block: parse("deletions.block_id", &deletion.block_id)?,
        revision: deletion.deletion_revision,
        positions: read_positions(&deletion.positions)?,
    })
}

fn removal_from_wire(removal: &wire::BlockRemoval) -> Result<BlockRemoval, ServiceError> {
    let block = parse("removals.block_id", &removal.block_id)?;
    Ok(BlockRemoval { block, revision: removal.deletion_revision })
}

fn block_from_wire(block: wire::Block) -> Result<Block, ServiceError> {
    Ok(Block {
        id: parse("blocks.id", &block.id)?,
        object_key: block.object_key,
        row_count: block.row_count,
        byte_count: block.byte_count,
        footer_length: block.footer_length,
        content_hash: block.content_hash,
        columns: block.columns.into_iter().map(value::from_wire).collect::<Result<_, _>>()?,
    })
}
