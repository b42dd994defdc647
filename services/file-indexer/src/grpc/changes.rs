//! `quarry.files.v1.ChangesService`.

use std::pin::Pin;

use file_scan::names;
use files_api::v1 as wire;
use files_api::v1::changes_service_server::ChangesService;
use futures::{Stream, StreamExt};
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, timestamp};
use crate::app::{Change, Changed, Indexer};

/// The service over the use cases.
pub struct Changes(pub Indexer);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ChangesService for Changes {
    type WatchChangesStream =
        Pin<Box<dyn Stream<Item = Result<wire::WatchChangesResponse, Status>> + Send>>;

    async fn list_changes(
        &self,
        request: Request<wire::ListChangesRequest>,
    ) -> Answer<wire::ListChangesResponse> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after = from(asked.after)?;
            let found = self.0.changes(&caller, &asked.location_id, after, size).await?;
            let (next, newest, reset) = (found.next, found.newest, found.reset);
            Ok::<_, ServiceError>(wire::ListChangesResponse {
                changes: to_wire(found),
                next,
                newest,
                reset,
            })
        };
        answer(page.await)
    }

    async fn watch_changes(
        &self,
        request: Request<wire::WatchChangesRequest>,
    ) -> Answer<Self::WatchChangesStream> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let stream = async {
            let after = from(asked.after)?;
            self.0.watch_changes(caller, &asked.location_id, after).await
        };
        let stream = stream.await?.map(|found| {
            let found = found.map_err(Status::from)?;
            let (next, reset) = (found.next, found.reset);
            Ok::<_, Status>(wire::WatchChangesResponse { changes: to_wire(found), next, reset })
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

fn from(after: i64) -> Result<i64, ServiceError> {
    if after < 0 { Err(ServiceError::invalid("after", "must not be negative")) } else { Ok(after) }
}

fn to_wire(found: Changed) -> Vec<wire::Change> {
    let location = found.location;
    let absolute = |path: &str| names::shown(&location.absolute(path));
    let change = |change: Change| wire::Change {
        seq: change.seq,
        kind: change.kind.into(),
        id: change.entry.to_string(),
        path: absolute(&change.path),
        old_path: change.old_path.as_deref().map(absolute).unwrap_or_default(),
        time: Some(timestamp(change.at.saturating_mul(1_000))),
    };
    found.changes.into_iter().map(change).collect()
}
