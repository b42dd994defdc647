//! `quarry.vectors.v1.PointsService`.

use std::sync::Arc;

use caller::Caller;
use service_error::ServiceError;
use space_index::Point;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use vector_wire::grpc::{payload_from_wire, payload_to_wire, vector_to_wire};
use vectors_api::v1 as wire;
use vectors_api::v1::points_service_server::PointsService;

use crate::app::{App, Batch, Scroll, Upsert};
use crate::grpc::{answer, count};
use crate::model::{Address, OwnedVector, Space};

/// Acknowledgements that wait for a slow reader.
const ACKNOWLEDGED: usize = 4;

/// The service over the use cases.
pub struct Points(pub App);

#[tonic::async_trait]
impl PointsService for Points {
    type StreamPointsStream = ReceiverStream<Result<wire::StreamPointsResponse, Status>>;

    async fn upsert_points(
        &self,
        request: Request<wire::UpsertPointsRequest>,
    ) -> Result<Response<wire::UpsertPointsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let written = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let batch = batch_from_wire(asked.points, asked.embedder)?;
            self.0.upsert_points(&caller, &address, batch).await
        };
        let written = written.await;
        answer(written.map(|written| wire::UpsertPointsResponse {
            token: written.seq,
            inserted: count(written.inserted),
            updated: count(written.changed),
        }))
    }

    async fn stream_points(
        &self,
        request: Request<Streaming<wire::StreamPointsRequest>>,
    ) -> Result<Response<Self::StreamPointsStream>, Status> {
        let caller = caller::of(&request)?;
        let mut batches = request.into_inner();
        let (send, answers) = mpsc::channel(ACKNOWLEDGED);
        let app = self.0.clone();
        tokio::spawn(async move {
            let mut address = None;
            loop {
                let next = tokio::select! {
                    next = batches.message() => next,
                    () = send.closed() => return,
                };
                let outcome = match next {
                    Ok(Some(batch)) => one_batch(&app, &caller, &mut address, batch).await,
                    Ok(None) => return,
                    // A message that is too large or none: the client must not take the end of
                    // the acknowledgements for the end of its batches.
                    Err(status) => {
                        drop(send.send(Err(status)).await);
                        return;
                    }
                };
                let failed = outcome.is_err();
                if send.send(outcome.map_err(Status::from)).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn get_points(
        &self,
        request: Request<wire::GetPointsRequest>,
    ) -> Result<Response<wire::GetPointsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let (space, points) = self.0.get_points(&caller, &address, &asked.item_ids).await?;
            let points = points_to_wire(&space, points, asked.with_vector);
            Ok::<_, ServiceError>(wire::GetPointsResponse { points })
        };
        answer(found.await)
    }

    async fn delete_points(
        &self,
        request: Request<wire::DeletePointsRequest>,
    ) -> Result<Response<wire::DeletePointsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let deleted = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            self.0.delete_points(&caller, &address, &asked.item_ids).await
        };
        let deleted = deleted.await;
        answer(deleted.map(|deleted| wire::DeletePointsResponse {
            token: deleted.seq,
            deleted: count(deleted.changed),
        }))
    }

    async fn scroll_points(
        &self,
        request: Request<wire::ScrollPointsRequest>,
    ) -> Result<Response<wire::ScrollPointsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let list = format!("points:{address}:{}", asked.filter);
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after: Option<String> = paging::key(&list, &asked.page_token)?;
            let scroll = Scroll { filter: asked.filter, after: after.unwrap_or_default(), size };
            let (space, found) = self.0.scroll_points(&caller, &address, scroll).await?;
            let (found, next_page_token) =
                paging::cut(found, size, &list, |last| last.item_id.clone());
            let points = points_to_wire(&space, found, asked.with_vector);
            Ok::<_, ServiceError>(wire::ScrollPointsResponse { points, next_page_token })
        };
        answer(page.await)
    }

    async fn count_points(
        &self,
        request: Request<wire::CountPointsRequest>,
    ) -> Result<Response<wire::CountPointsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let counted = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            self.0.count_points(&caller, &address, &asked.filter).await
        };
        let counted = counted.await;
        answer(counted.map(|counted| wire::CountPointsResponse { count: count(counted) }))
    }
}

async fn one_batch(
    app: &App,
    caller: &Arc<Caller>,
    address: &mut Option<Address>,
    batch: wire::StreamPointsRequest,
) -> Result<wire::StreamPointsResponse, ServiceError> {
    if address.is_none() || !batch.space.is_empty() {
        *address = Some(Address::new(&batch.namespace, &batch.dataset, &batch.space)?);
    }
    let to = address.as_ref().ok_or_else(|| ServiceError::invalid("space", "is empty"))?;
    // Grants are looked at for each batch.
    let batch = batch_from_wire(batch.points, batch.embedder)?;
    let written = app.upsert_points(caller, to, batch).await?;
    Ok(wire::StreamPointsResponse {
        token: written.seq,
        inserted: count(written.inserted),
        updated: count(written.changed),
    })
}

fn batch_from_wire(points: Vec<wire::Point>, embedder: String) -> Result<Batch, ServiceError> {
    let mut batch = Batch { points: Vec::with_capacity(points.len()), embedder };
    for (at, point) in points.into_iter().enumerate() {
        let vector = point.vector.unwrap_or_default();
        batch.points.push(Upsert {
            item_id: point.item_id,
            values: vector.values,
            bits: vector.bits,
            payload: payload_from_wire(&format!("points[{at}].payload"), point.payload)?,
        });
    }
    Ok(batch)
}

fn points_to_wire(space: &Space, points: Vec<Point>, with_vector: bool) -> Vec<wire::Point> {
    let point = |point: Point| wire::Point {
        vector: with_vector
            .then(|| vector_to_wire(OwnedVector::of_stored(&space.vectors, &point.vector))),
        payload: payload_to_wire(point.payload.fields()),
        item_id: point.item_id,
    };
    points.into_iter().map(point).collect()
}
