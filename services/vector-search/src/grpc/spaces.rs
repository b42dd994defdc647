//! `quarry.vectors.v1.SpacesService`.

use service_error::ServiceError;
use tonic::{Request, Response, Status};
use vector_wire::grpc::{element_from_wire, metric_from_wire, space_to_wire};
use vectors_api::v1 as wire;
use vectors_api::v1::spaces_service_server::SpacesService;

use crate::app::{App, CreateSpace, IndexStats};
use crate::grpc::{answer, count};
use crate::model::Address;

/// The service over the use cases.
pub struct Spaces(pub App);

#[tonic::async_trait]
impl SpacesService for Spaces {
    async fn create_space(
        &self,
        request: Request<wire::CreateSpaceRequest>,
    ) -> Result<Response<wire::CreateSpaceResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let made = async {
            let asked = CreateSpace {
                address: Address::new(&asked.namespace, &asked.dataset, &asked.space)?,
                dimension: asked.dimension,
                metric: metric_from_wire(asked.metric)?,
                element: element_from_wire(asked.element)?,
                embedder: asked.embedder,
            };
            self.0.create_space(&caller, &asked).await
        };
        let made = made.await;
        answer(made.map(|made| wire::CreateSpaceResponse { space: Some(space_to_wire(made)) }))
    }

    async fn get_space(
        &self,
        request: Request<wire::GetSpaceRequest>,
    ) -> Result<Response<wire::GetSpaceResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            self.0.get_space(&caller, &address).await
        };
        let found = found.await;
        answer(found.map(|found| wire::GetSpaceResponse { space: Some(space_to_wire(found)) }))
    }

    async fn list_spaces(
        &self,
        request: Request<wire::ListSpacesRequest>,
    ) -> Result<Response<wire::ListSpacesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let list = format!("spaces:{}/{}", asked.namespace, asked.dataset);
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after: Option<(String, String, String)> = paging::key(&list, &asked.page_token)?;
            let (namespace, dataset, name) = after.unwrap_or_default();
            let within = (asked.namespace.as_str(), asked.dataset.as_str());
            let after = (namespace.as_str(), dataset.as_str(), name.as_str());
            let found = self.0.list_spaces(&caller, within, after, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |last| {
                let owner = &last.owner;
                (owner.namespace_name.clone(), owner.dataset_name.clone(), last.name.clone())
            });
            let spaces = found.into_iter().map(space_to_wire).collect();
            Ok::<_, ServiceError>(wire::ListSpacesResponse { spaces, next_page_token })
        };
        answer(page.await)
    }

    async fn delete_space(
        &self,
        request: Request<wire::DeleteSpaceRequest>,
    ) -> Result<Response<wire::DeleteSpaceResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let deleted = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            self.0.delete_space(&caller, &address).await
        };
        let deleted = deleted.await;
        answer(deleted.map(|()| wire::DeleteSpaceResponse {}))
    }

    async fn get_space_stats(
        &self,
        request: Request<wire::GetSpaceStatsRequest>,
    ) -> Result<Response<wire::GetSpaceStatsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let stats = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            let stats = self.0.space_stats(&caller, &address).await?;
            let payload = stats.columns.iter().map(|column| wire::PayloadColumn {
                name: column.name.clone(),
                r#type: column.column_type.data_type().to_string(),
                values: count(column.values),
                distinct_values: count(column.distinct),
            });
            let payload = payload.collect();
            let index = Some(stats_to_wire(&stats));
            Ok::<_, ServiceError>(wire::GetSpaceStatsResponse { index, payload })
        };
        answer(stats.await)
    }

    async fn rebuild_index(
        &self,
        request: Request<wire::RebuildIndexRequest>,
    ) -> Result<Response<wire::RebuildIndexResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let stats = async {
            let address = Address::new(&asked.namespace, &asked.dataset, &asked.space)?;
            self.0.rebuild_index(&caller, &address).await
        };
        let stats = stats.await;
        answer(stats.map(|s| wire::RebuildIndexResponse { index: Some(stats_to_wire(&s)) }))
    }
}

fn stats_to_wire(stats: &IndexStats) -> wire::IndexStats {
    let summary = stats.summary;
    wire::IndexStats {
        state: stats.state.to_owned(),
        points: stats.points,
        segment_points: summary.map_or(0, |s| count(s.segment_rows)),
        head_points: summary
            .map_or(0, |s| count(s.points.saturating_sub(s.segment_rows - s.deleted))),
        deleted_points: summary.map_or(0, |s| count(s.deleted)),
        segments: summary.map_or(0, |s| count(s.segments)),
        memory_bytes: summary.map_or(0, |s| count(s.memory_bytes)),
        token: stats.seq,
        newest_token: stats.newest,
        snapshot_token: stats.snapshot_seq,
        memory_budget_bytes: count(stats.budget),
        memory_used_bytes: count(stats.used),
    }
}
