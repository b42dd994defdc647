//! `quarry.vectors.v1.SpacesService`.

use ann::{Element, Metric};
use service_error::ServiceError;
use tonic::{Request, Response, Status};
use vectors_api::v1 as wire;
use vectors_api::v1::spaces_service_server::SpacesService;

use crate::app::{App, CreateSpace, IndexStats};
use crate::grpc::{answer, count, timestamp};
use crate::model::{Address, Space};

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

fn space_to_wire(space: Space) -> wire::Space {
    wire::Space {
        id: space.id.to_string(),
        namespace: space.owner.namespace_name,
        dataset: space.owner.dataset_name,
        name: space.name,
        dimension: i32::try_from(space.vectors.dimension()).unwrap_or(i32::MAX),
        metric: metric_to_wire(space.vectors.metric()).into(),
        element: element_to_wire(space.vectors.element()).into(),
        embedder: space.embedder,
        point_count: space.points,
        create_time: Some(timestamp(space.created_at)),
        created_by: space.created_by.to_string(),
        token: space.seq,
    }
}

fn metric_from_wire(metric: i32) -> Result<Option<Metric>, ServiceError> {
    let unknown = || ServiceError::invalid("metric", format!("there is no metric {metric}"));
    Ok(match wire::Metric::try_from(metric).map_err(|_| unknown())? {
        wire::Metric::Unspecified => None,
        wire::Metric::Cosine => Some(Metric::Cosine),
        wire::Metric::L2 => Some(Metric::L2),
        wire::Metric::Ip => Some(Metric::InnerProduct),
        wire::Metric::L1 => Some(Metric::L1),
        wire::Metric::Hamming => Some(Metric::Hamming),
        wire::Metric::Jaccard => Some(Metric::Jaccard),
    })
}

const fn metric_to_wire(metric: Metric) -> wire::Metric {
    match metric {
        Metric::Cosine => wire::Metric::Cosine,
        Metric::L2 => wire::Metric::L2,
        Metric::InnerProduct => wire::Metric::Ip,
        Metric::L1 => wire::Metric::L1,
        Metric::Hamming => wire::Metric::Hamming,
        Metric::Jaccard => wire::Metric::Jaccard,
    }
}

fn element_from_wire(element: i32) -> Result<Option<Element>, ServiceError> {
    let unknown = || ServiceError::invalid("element", format!("there is no element {element}"));
    Ok(match wire::Element::try_from(element).map_err(|_| unknown())? {
        wire::Element::Unspecified => None,
        wire::Element::F32 => Some(Element::F32),
        wire::Element::F16 => Some(Element::F16),
        wire::Element::I8 => Some(Element::I8),
        wire::Element::Bit => Some(Element::Bit),
    })
}

const fn element_to_wire(element: Element) -> wire::Element {
    match element {
        Element::F32 => wire::Element::F32,
        Element::F16 => wire::Element::F16,
        Element::I8 => wire::Element::I8,
        Element::Bit => wire::Element::Bit,
    }
}
