//! `quarry.catalog.v1.GarbageService`.

use catalog_api::v1 as wire;
use catalog_api::v1::garbage_service_server::GarbageService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use crate::app::{Catalog, Standing};
use crate::grpc::{answer, parse, timestamp};
use crate::model::{ListedObject, Verdict};

/// The service over the use cases.
pub struct Garbage(pub Catalog);

#[tonic::async_trait]
impl GarbageService for Garbage {
    async fn expire_snapshots(
        &self,
        request: Request<wire::ExpireSnapshotsRequest>,
    ) -> Result<Response<wire::ExpireSnapshotsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let expired = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after = match asked.after_dataset_id.as_str() {
                "" => None,
                id => Some(parse("after_dataset_id", id)?),
            };
            let (last, expired) = self.0.expire_snapshots(&caller, after, size).await?;
            Ok::<_, ServiceError>(wire::ExpireSnapshotsResponse {
                last_dataset_id: last.map(|id| id.to_string()).unwrap_or_default(),
                snapshots: number(expired.snapshots),
                blocks: number(expired.blocks),
            })
        };
        answer(expired.await)
    }

    async fn purge_datasets(
        &self,
        request: Request<wire::PurgeDatasetsRequest>,
    ) -> Result<Response<wire::PurgeDatasetsResponse>, Status> {
        let caller = caller::of(&request)?;
        let size = paging::page_size(request.into_inner().page_size, paging::PAGE_SIZE_MAX)?;
        let purged = self.0.purge_datasets(&caller, size).await;
        answer(purged.map(|ids| wire::PurgeDatasetsResponse {
            dataset_ids: ids.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn list_doomed(
        &self,
        request: Request<wire::ListDoomedRequest>,
    ) -> Result<Response<wire::ListDoomedResponse>, Status> {
        let caller = caller::of(&request)?;
        let size = paging::page_size(request.into_inner().page_size, paging::PAGE_SIZE_MAX)?;
        let doomed = self.0.list_doomed(&caller, size).await;
        answer(doomed.map(|(object_keys, datasets)| wire::ListDoomedResponse {
            object_keys,
            dataset_ids: datasets.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn confirm_gone(
        &self,
        request: Request<wire::ConfirmGoneRequest>,
    ) -> Result<Response<wire::ConfirmGoneResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let confirmed = async {
            check_count("object_keys", asked.object_keys.len())?;
            check_count("dataset_ids", asked.dataset_ids.len())?;
            let datasets = asked
                .dataset_ids
                .iter()
                .map(|id| parse("dataset_ids", id))
                .collect::<Result<Vec<_>, _>>()?;
            self.0.confirm_gone(&caller, &asked.object_keys, &datasets).await
        };
        answer(confirmed.await.map(|()| wire::ConfirmGoneResponse {}))
    }

    async fn judge_objects(
        &self,
        request: Request<wire::JudgeObjectsRequest>,
    ) -> Result<Response<wire::JudgeObjectsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner().objects;
        let judged = async {
            check_count("objects", asked.len())?;
            let objects = asked.into_iter().map(object_from_wire).collect::<Result<Vec<_>, _>>()?;
            let (verdicts, lease) = self.0.judge_objects(&caller, &objects).await?;
            let verdicts = verdicts.into_iter().map(|verdict| verdict_to_wire(verdict) as i32);
            Ok::<_, ServiceError>(wire::JudgeObjectsResponse {
                verdicts: verdicts.collect(),
                upload_lease_seconds: number(lease),
            })
        };
        answer(judged.await)
    }

    async fn judge_namespaces(
        &self,
        request: Request<wire::JudgeNamespacesRequest>,
    ) -> Result<Response<wire::JudgeNamespacesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner().namespace_ids;
        let judged = async {
            check_count("namespace_ids", asked.len())?;
            let ids =
                asked.iter().map(|id| parse("namespace_ids", id)).collect::<Result<Vec<_>, _>>()?;
            let standings = self.0.judge_namespaces(&caller, &ids).await?;
            let namespaces = standings.into_iter().map(standing_to_wire).collect();
            Ok::<_, ServiceError>(wire::JudgeNamespacesResponse { namespaces })
        };
        answer(judged.await)
    }
}

fn standing_to_wire(standing: Standing) -> wire::NamespaceStanding {
    let (verdict, delete_time) = match standing {
        Standing::There => (wire::Verdict::Kept, None),
        Standing::Deleted(at) => (wire::Verdict::Garbage, Some(timestamp(at))),
        Standing::Unknown => (wire::Verdict::Unknown, None),
    };
    wire::NamespaceStanding { verdict: verdict as i32, delete_time }
}

fn object_from_wire(object: wire::ListedObject) -> Result<ListedObject, ServiceError> {
    Ok(ListedObject {
        dataset: parse("objects.dataset_id", &object.dataset_id)?,
        upload: parse("objects.upload_id", &object.upload_id)?,
        object_key: object.object_key,
    })
}

const fn verdict_to_wire(verdict: Verdict) -> wire::Verdict {
    match verdict {
        Verdict::Kept => wire::Verdict::Kept,
        Verdict::Garbage => wire::Verdict::Garbage,
        Verdict::Unknown => wire::Verdict::Unknown,
    }
}

fn check_count(field: &str, count: usize) -> Result<(), ServiceError> {
    if count > paging::PAGE_SIZE_MAX as usize {
        let message = format!("at most {} at once", paging::PAGE_SIZE_MAX);
        return Err(ServiceError::invalid(field, message));
    }
    Ok(())
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
