//! `quarry.models.v1.VersionsService`.

use model_query::Subject;
use models_api::v1 as wire;
use models_api::v1::versions_service_server::VersionsService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use super::{answer, filter, micros, order_by, parse, timestamp};
use crate::app::{
    CreateVersion, Registry, SearchVersions, VersionOrder, VersionWithData, version_key,
};
use crate::model::{
    MetricPoint, ModelPath, ModelVersion, NewVersion, ScanVerdict, VersionRef, VersionStatus,
};

const PAGE_SIZE_MAX: u32 = 10_000;

/// The service over the use cases.
pub struct Versions(pub Registry);

/// A version's place in a request.
pub fn place(
    namespace: String,
    model: String,
    version: &str,
) -> Result<(ModelPath, VersionRef), ServiceError> {
    Ok((ModelPath::new(namespace, model), VersionRef::parse("version", version)?))
}

#[tonic::async_trait]
impl VersionsService for Versions {
    async fn create_version(
        &self,
        request: Request<wire::CreateVersionRequest>,
    ) -> Result<Response<wire::CreateVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let mut asked = request.into_inner();
        let made = async {
            let path = ModelPath::new(
                std::mem::take(&mut asked.namespace),
                std::mem::take(&mut asked.model),
            );
            let made = self.0.create_version(&caller, &path, new_version(asked)?).await?;
            let made = self.0.with_data(made).await?;
            Ok::<_, ServiceError>(wire::CreateVersionResponse { version: Some(with_data(made)) })
        };
        answer(made.await)
    }

    async fn get_version(
        &self,
        request: Request<wire::GetVersionRequest>,
    ) -> Result<Response<wire::GetVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let as_of = asked.as_of.as_ref().map(|time| micros("as_of", time)).transpose()?;
            let found = self.0.get_version(&caller, &path, &which, as_of).await?;
            let found = self.0.with_data(found).await?;
            Ok::<_, ServiceError>(wire::GetVersionResponse { version: Some(with_data(found)) })
        };
        answer(found.await)
    }

    async fn search_versions(
        &self,
        request: Request<wire::SearchVersionsRequest>,
    ) -> Result<Response<wire::SearchVersionsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, PAGE_SIZE_MAX)?;
            let (order, descending) = order_of(&asked.order_by, !asked.model.is_empty())?;
            let list = format!(
                "versions:{}:{}:{}:{}:{}",
                asked.namespace, asked.model, asked.filter, asked.order_by, asked.deleted
            );
            let search = SearchVersions {
                namespace: asked.namespace,
                model: asked.model,
                filter: filter(&asked.filter, Subject::Versions)?,
                order,
                descending,
                deleted: asked.deleted,
                after: paging::key(&list, &asked.page_token)?,
                limit: size + 1,
            };
            let found = self.0.search_versions(&caller, &search).await?;
            let (found, next_page_token) =
                paging::cut(found, size, &list, |last| version_key(last, order));
            let versions = found.into_iter().map(to_wire).collect();
            Ok::<_, ServiceError>(wire::SearchVersionsResponse { versions, next_page_token })
        };
        answer(page.await)
    }

    async fn get_facets(
        &self,
        request: Request<wire::GetFacetsRequest>,
    ) -> Result<Response<wire::GetFacetsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let counted = async {
            let search = SearchVersions {
                namespace: asked.namespace,
                model: asked.model,
                filter: filter(&asked.filter, Subject::Versions)?,
                ..SearchVersions::default()
            };
            let facets = self.0.facets(&caller, &search, &asked.fields, asked.values_max).await?;
            let facets = facets.into_iter().map(|(field, values)| wire::Facet {
                field,
                values: values
                    .into_iter()
                    .map(|(value, count)| wire::FacetValue { value, count })
                    .collect(),
            });
            Ok::<_, ServiceError>(wire::GetFacetsResponse { facets: facets.collect() })
        };
        answer(counted.await)
    }

    async fn update_version(
        &self,
        request: Request<wire::UpdateVersionRequest>,
    ) -> Result<Response<wire::UpdateVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let changed = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let (description, label) = (asked.description.as_deref(), asked.label.as_deref());
            self.0.update_version(&caller, &path, &which, description, label).await
        };
        let changed = changed.await;
        answer(changed.map(|found| wire::UpdateVersionResponse { version: Some(to_wire(found)) }))
    }

    async fn delete_version(
        &self,
        request: Request<wire::DeleteVersionRequest>,
    ) -> Result<Response<wire::DeleteVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let deleted = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            self.0.delete_version(&caller, &path, &which).await
        };
        answer(deleted.await.map(|()| wire::DeleteVersionResponse {}))
    }

    async fn restore_version(
        &self,
        request: Request<wire::RestoreVersionRequest>,
    ) -> Result<Response<wire::RestoreVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let restored = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let VersionRef::Number(number) = which else {
                let message = "a deleted version has no name but its number";
                return Err(ServiceError::invalid("version", message));
            };
            self.0.restore_version(&caller, &path, number).await
        };
        let restored = restored.await;
        answer(restored.map(|found| wire::RestoreVersionResponse { version: Some(to_wire(found)) }))
    }

    async fn set_version_tags(
        &self,
        request: Request<wire::SetVersionTagsRequest>,
    ) -> Result<Response<wire::SetVersionTagsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let set = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let tags = asked.tags.into_iter().collect();
            self.0.set_version_tags(&caller, &path, &which, &tags).await
        };
        answer(set.await.map(|()| wire::SetVersionTagsResponse {}))
    }

    async fn delete_version_tag(
        &self,
        request: Request<wire::DeleteVersionTagRequest>,
    ) -> Result<Response<wire::DeleteVersionTagResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let deleted = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            self.0.delete_version_tag(&caller, &path, &which, &asked.key).await
        };
        answer(deleted.await.map(|_| wire::DeleteVersionTagResponse {}))
    }

    async fn log_version_data(
        &self,
        request: Request<wire::LogVersionDataRequest>,
    ) -> Result<Response<wire::LogVersionDataResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let logged = async {
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let metrics = points(asked.metrics)?;
            let params = asked.params.into_iter().collect();
            self.0.log_version_data(&caller, &path, &which, &metrics, &params).await
        };
        answer(logged.await.map(|()| wire::LogVersionDataResponse {}))
    }

    async fn list_metric_points(
        &self,
        request: Request<wire::ListMetricPointsRequest>,
    ) -> Result<Response<wire::ListMetricPointsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, PAGE_SIZE_MAX)?;
            let list = format!("points:{}:{}:{}", asked.model, asked.version, asked.key);
            let after: Option<i64> = paging::key(&list, &asked.page_token)?;
            let (path, which) = place(asked.namespace, asked.model, &asked.version)?;
            let found =
                self.0.metric_points(&caller, &path, &which, &asked.key, after, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |last| last.step);
            let points = found.into_iter().map(point_to_wire).collect();
            Ok::<_, ServiceError>(wire::ListMetricPointsResponse { points, next_page_token })
        };
        answer(page.await)
    }

    async fn compare_versions(
        &self,
        request: Request<wire::CompareVersionsRequest>,
    ) -> Result<Response<wire::CompareVersionsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let compared = async {
            let named = asked.versions.into_iter().map(named).collect::<Result<Vec<_>, _>>()?;
            let (versions, fields) = self.0.compare(&caller, &named).await?;
            Ok::<_, ServiceError>(wire::CompareVersionsResponse {
                versions: versions.into_iter().map(with_data).collect(),
                fields: fields
                    .into_iter()
                    .map(|field| wire::ComparedField {
                        field: field.field,
                        values: field.values,
                        differs: field.differs,
                    })
                    .collect(),
            })
        };
        answer(compared.await)
    }
}

/// A version by its names.
pub fn named(name: wire::VersionName) -> Result<(ModelPath, VersionRef), ServiceError> {
    place(name.namespace, name.model, &name.version)
}

fn new_version(asked: wire::CreateVersionRequest) -> Result<CreateVersion, ServiceError> {
    let upload = match asked.upload_id.as_str() {
        "" => None,
        id => Some(parse("upload_id", id)?),
    };
    let datasets = asked.datasets.into_iter();
    let base_models = asked.base_models.into_iter().map(|base| {
        let which = match base.version {
            0 => VersionRef::Latest,
            number => VersionRef::Number(number),
        };
        (ModelPath::new(base.namespace, base.model), which, base.relation)
    });
    Ok(CreateVersion {
        new: NewVersion {
            number: Some(asked.number).filter(|number| *number != 0),
            label: Some(asked.label).filter(|label| !label.is_empty()),
            description: asked.description,
            source: asked.source,
            run_id: asked.run_id,
            run_link: asked.run_link,
            logged_model_id: asked.logged_model_id,
            flavors: asked.flavors,
            tags: asked.tags.into_iter().collect(),
            metrics: points(asked.metrics)?,
            params: asked.params.into_iter().collect(),
            upload,
            ..NewVersion::default()
        },
        datasets: datasets.map(|of| (of.namespace, of.dataset, of.version, of.context)).collect(),
        base_models: base_models.collect(),
        copy_from: asked.copy_from.map(named).transpose()?,
        create_model: asked.create_model,
    })
}

fn points(metrics: Vec<wire::Metric>) -> Result<Vec<MetricPoint>, ServiceError> {
    let point = |metric: wire::Metric| {
        let at = match &metric.time {
            Some(time) => micros("metrics.time", time)?,
            None => sql_store::now_micros(),
        };
        Ok(MetricPoint { key: metric.key, value: metric.value, step: metric.step, at })
    };
    metrics.into_iter().map(point).collect()
}

fn point_to_wire(point: MetricPoint) -> wire::Metric {
    wire::Metric {
        key: point.key,
        value: point.value,
        step: point.step,
        time: Some(timestamp(point.at)),
    }
}

fn order_of(text: &str, of_one_model: bool) -> Result<(VersionOrder, bool), ServiceError> {
    let (column, descending) = order_by(text)?;
    let order = match column {
        "" if of_one_model => return Ok((VersionOrder::Number, true)),
        "" => return Ok((VersionOrder::Updated, true)),
        "number" => VersionOrder::Number,
        "name" => VersionOrder::Name,
        "create_time" => VersionOrder::Created,
        "update_time" => VersionOrder::Updated,
        "size" => VersionOrder::Size,
        _ => {
            let message =
                format!("{column:?} is not one of number, name, create_time, update_time, size");
            return Err(ServiceError::invalid("order_by", message));
        }
    };
    Ok((order, descending))
}

fn with_data(found: VersionWithData) -> wire::ModelVersion {
    wire::ModelVersion {
        metrics: found.metrics.into_iter().map(point_to_wire).collect(),
        params: found.params.into_iter().collect(),
        ..to_wire(found.version)
    }
}

/// A verdict as the wire has it.
pub const fn verdict_to_wire(verdict: ScanVerdict) -> wire::ScanVerdict {
    match verdict {
        ScanVerdict::None => wire::ScanVerdict::None,
        ScanVerdict::Clean => wire::ScanVerdict::Clean,
        ScanVerdict::Suspicious => wire::ScanVerdict::Suspicious,
        ScanVerdict::Dangerous => wire::ScanVerdict::Dangerous,
        ScanVerdict::Unreadable => wire::ScanVerdict::Unreadable,
        ScanVerdict::Unknown => wire::ScanVerdict::Unknown,
    }
}

/// A version as the wire has it, without its numbers.
pub fn to_wire(version: ModelVersion) -> wire::ModelVersion {
    let status = match version.status {
        VersionStatus::Pending => wire::VersionStatus::Pending,
        VersionStatus::Ready => wire::VersionStatus::Ready,
        VersionStatus::Failed => wire::VersionStatus::Failed,
    };
    wire::ModelVersion {
        id: version.id.to_string(),
        namespace: version.namespace,
        model: version.model,
        number: version.number,
        label: version.label.unwrap_or_default(),
        description: version.description,
        status: status.into(),
        status_message: version.status_message,
        stage: version.stage,
        source: version.source,
        run_id: version.run_id,
        run_link: version.run_link,
        logged_model_id: version.logged_model_id,
        flavors: version.flavors,
        tags: version.tags.into_iter().collect(),
        aliases: version.aliases,
        byte_count: version.byte_count,
        file_count: version.file_count,
        digest: version.digest.map(hex::encode).unwrap_or_default(),
        scan: verdict_to_wire(version.scan).into(),
        signed: version.signed,
        create_time: Some(timestamp(version.created_at)),
        update_time: Some(timestamp(version.updated_at)),
        created_by: version.created_by.to_string(),
        delete_time: version.deleted_at.map(timestamp),
        metrics: Vec::new(),
        params: std::collections::HashMap::new(),
    }
}
