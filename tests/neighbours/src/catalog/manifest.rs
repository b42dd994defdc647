//! `quarry.catalog.v1.ManifestService`.

use catalog_api::v1 as api;
use catalog_api::v1::get_head_request::At;
use catalog_api::v1::manifest_service_server::ManifestService;
use tonic::{Request, Response, Status};

use super::Catalog;
use super::dataset::Snapshot;
use crate::{Answer, page};

#[tonic::async_trait]
impl ManifestService for Catalog {
    async fn get_head(
        &self,
        request: Request<api::GetHeadRequest>,
    ) -> Answer<api::GetHeadResponse> {
        let request = request.into_inner();
        let state = self.state();
        let dataset = state.find(request.dataset.as_ref())?;
        let snapshot = match request.at {
            None => dataset.newest(),
            Some(At::Version(text)) if text == "latest" => dataset.newest(),
            Some(At::Version(text)) => dataset.version(&text)?.snapshot,
            Some(At::Snapshot(number)) => number,
        };
        Ok(Response::new(api::GetHeadResponse { head: Some(dataset.head(snapshot)?) }))
    }

    async fn list_blocks(
        &self,
        request: Request<api::ListBlocksRequest>,
    ) -> Answer<api::ListBlocksResponse> {
        let request = request.into_inner();
        let snapshot = self.state().of_id(&request.dataset_id)?.snapshot(request.snapshot)?;
        let mut rows = 0;
        let blocks = snapshot.blocks.into_iter().map(|block| {
            let mut block = api::Block { row_begin: rows, ..api::Block::clone(&block) };
            rows += Snapshot::live_rows(&block);
            if !request.with_statistics {
                block.columns.clear();
            }
            block
        });
        let blocks = blocks.filter(|block| block.snapshot_begin > request.added_after);
        let (blocks, next_page_token) = page(blocks, request.page_size, &request.page_token)?;
        Ok(Response::new(api::ListBlocksResponse { blocks, next_page_token }))
    }

    async fn open_upload(
        &self,
        request: Request<api::OpenUploadRequest>,
    ) -> Answer<api::OpenUploadResponse> {
        Ok(Response::new(self.state().open_upload(request.get_ref().dataset.as_ref())?))
    }

    async fn renew_upload(
        &self,
        request: Request<api::RenewUploadRequest>,
    ) -> Answer<api::RenewUploadResponse> {
        let expire_time = self.state().renew_upload(&request.get_ref().upload_id)?;
        Ok(Response::new(api::RenewUploadResponse { expire_time }))
    }

    async fn commit_version(
        &self,
        request: Request<api::CommitVersionRequest>,
    ) -> Answer<api::CommitVersionResponse> {
        Ok(Response::new(self.state().commit(request.get_ref())?))
    }

    async fn find_commit(
        &self,
        request: Request<api::FindCommitRequest>,
    ) -> Answer<api::FindCommitResponse> {
        let request = request.into_inner();
        let state = self.state();
        let dataset = state.of_id(&request.dataset_id)?;
        let commit = dataset.replayed(&request.idempotency_key, &request.body_hash)?;
        Ok(Response::new(api::FindCommitResponse { commit }))
    }

    async fn abort_upload(
        &self,
        request: Request<api::AbortUploadRequest>,
    ) -> Answer<api::AbortUploadResponse> {
        let id = &request.get_ref().upload_id;
        let mut state = self.state();
        if state.settle_upload(id)?.is_some() {
            state.upload(id)?.must_be_open(id)?;
        }
        Ok(Response::new(api::AbortUploadResponse {}))
    }

    async fn settle_upload(
        &self,
        request: Request<api::SettleUploadRequest>,
    ) -> Answer<api::SettleUploadResponse> {
        let became = self.state().settle_upload(&request.get_ref().upload_id)?;
        Ok(Response::new(api::SettleUploadResponse {
            committed: became.is_some(),
            snapshot: became.unwrap_or_default(),
        }))
    }

    async fn sweep_uploads(
        &self,
        request: Request<api::SweepUploadsRequest>,
    ) -> Answer<api::SweepUploadsResponse> {
        let size = paging::page_size(request.get_ref().page_size, paging::PAGE_SIZE_MAX)?;
        let uploads = self.state().sweep_uploads(size as usize);
        Ok(Response::new(api::SweepUploadsResponse { uploads }))
    }

    async fn confirm_swept(
        &self,
        request: Request<api::ConfirmSweptRequest>,
    ) -> Answer<api::ConfirmSweptResponse> {
        self.state().confirm_swept(&request.get_ref().upload_ids);
        Ok::<_, Status>(Response::new(api::ConfirmSweptResponse {}))
    }
}
