//! `quarry.catalog.v1.GarbageService`: snapshots are kept, deleted datasets are
//! purged at once.

use catalog_api::v1 as api;
use catalog_api::v1::garbage_service_server::GarbageService;
use tonic::{Request, Response};

use super::uploads::UploadState;
use super::{Catalog, State};
use crate::{Answer, LEASE_SECONDS};

#[tonic::async_trait]
impl GarbageService for Catalog {
    async fn expire_snapshots(
        &self,
        request: Request<api::ExpireSnapshotsRequest>,
    ) -> Answer<api::ExpireSnapshotsResponse> {
        let request = request.into_inner();
        let size = paging::page_size(request.page_size, paging::PAGE_SIZE_MAX)? as usize;
        let state = self.state();
        let after = state.datasets.keys().filter(|id| **id > request.after_dataset_id);
        let last_dataset_id = after.take(size).last().cloned().unwrap_or_default();
        Ok(Response::new(api::ExpireSnapshotsResponse { last_dataset_id, ..Default::default() }))
    }

    async fn purge_datasets(
        &self,
        request: Request<api::PurgeDatasetsRequest>,
    ) -> Answer<api::PurgeDatasetsResponse> {
        let size = paging::page_size(request.get_ref().page_size, paging::PAGE_SIZE_MAX)?;
        let mut state = self.state();
        let deleted = state.datasets.iter().filter(|(_, dataset)| dataset.deleted);
        let dataset_ids: Vec<String> =
            deleted.map(|(id, _)| id.clone()).take(size as usize).collect();
        state.datasets.retain(|id, _| !dataset_ids.contains(id));
        state.doomed.extend(dataset_ids.iter().cloned());
        Ok(Response::new(api::PurgeDatasetsResponse { dataset_ids }))
    }

    async fn list_doomed(
        &self,
        request: Request<api::ListDoomedRequest>,
    ) -> Answer<api::ListDoomedResponse> {
        let size = paging::page_size(request.get_ref().page_size, paging::PAGE_SIZE_MAX)?;
        let dataset_ids = self.state().doomed.iter().take(size as usize).cloned().collect();
        Ok(Response::new(api::ListDoomedResponse { object_keys: Vec::new(), dataset_ids }))
    }

    async fn confirm_gone(
        &self,
        request: Request<api::ConfirmGoneRequest>,
    ) -> Answer<api::ConfirmGoneResponse> {
        let gone = request.into_inner().dataset_ids;
        self.state().doomed.retain(|id| !gone.contains(id));
        Ok(Response::new(api::ConfirmGoneResponse {}))
    }

    async fn judge_objects(
        &self,
        request: Request<api::JudgeObjectsRequest>,
    ) -> Answer<api::JudgeObjectsResponse> {
        let state = self.state();
        let verdicts = request.get_ref().objects.iter().map(|object| state.judge(object).into());
        Ok(Response::new(api::JudgeObjectsResponse {
            verdicts: verdicts.collect(),
            upload_lease_seconds: LEASE_SECONDS,
        }))
    }

    async fn judge_namespaces(
        &self,
        request: Request<api::JudgeNamespacesRequest>,
    ) -> Answer<api::JudgeNamespacesResponse> {
        let state = self.state();
        let ids = request.get_ref().namespace_ids.iter();
        let namespaces = ids.map(|id| state.standing(id)).collect();
        Ok(Response::new(api::JudgeNamespacesResponse { namespaces }))
    }
}

impl State {
    fn standing(&self, id: &str) -> api::NamespaceStanding {
        let delete_time = self.deleted_namespaces.get(id).copied();
        let verdict = if self.namespaces.values().any(|namespace| namespace.id == id) {
            api::Verdict::Kept
        } else if delete_time.is_some() {
            api::Verdict::Garbage
        } else {
            api::Verdict::Unknown
        };
        api::NamespaceStanding { verdict: verdict.into(), delete_time }
    }

    fn judge(&self, object: &api::ListedObject) -> api::Verdict {
        let mut blocks = self.datasets.values().flat_map(super::dataset::Dataset::blocks);
        if blocks.any(|block| block.object_key == object.object_key) {
            return api::Verdict::Kept;
        }
        let upload = self.uploads.get(&object.upload_id);
        match upload.filter(|upload| upload.dataset_id == object.dataset_id) {
            Some(upload) if matches!(upload.state, UploadState::Open { .. }) => api::Verdict::Kept,
            Some(_) => api::Verdict::Garbage,
            None if self.datasets.contains_key(&object.dataset_id)
                || self.doomed.contains(&object.dataset_id) =>
            {
                api::Verdict::Garbage
            }
            None => api::Verdict::Unknown,
        }
    }
}
