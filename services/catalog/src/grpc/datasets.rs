//! `quarry.catalog.v1.DatasetsService`.

use catalog_api::v1 as wire;
use catalog_api::v1::datasets_service_server::DatasetsService;
use item_schema::Profile;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use crate::app::{Catalog, CreateDataset};
use crate::grpc::{answer, timestamp, value};
use crate::model::{Dataset, Name, Version, VersionRef};

/// The service over the use cases.
pub struct Datasets(pub Catalog);

#[tonic::async_trait]
impl DatasetsService for Datasets {
    async fn create_dataset(
        &self,
        request: Request<wire::CreateDatasetRequest>,
    ) -> Result<Response<wire::CreateDatasetResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let made = async {
            let profile = profile_from_wire(asked.profile)?;
            let asked = CreateDataset {
                namespace: asked.namespace,
                name: asked.name,
                description: asked.description,
                profile,
                schema_ipc: asked.arrow_schema,
                key_column: asked.key_column,
                unique_columns: asked.unique_columns,
                public: asked.public,
                properties: asked.properties.into_iter().collect(),
            };
            let made = self.0.create_dataset(&caller, asked).await?;
            Ok::<_, ServiceError>(wire::CreateDatasetResponse {
                dataset: Some(dataset_to_wire(made)?),
            })
        };
        answer(made.await)
    }

    async fn get_dataset(
        &self,
        request: Request<wire::GetDatasetRequest>,
    ) -> Result<Response<wire::GetDatasetResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = self.0.get_dataset(&caller, &asked.namespace, &asked.name).await;
        let found = found.and_then(dataset_to_wire);
        answer(found.map(|found| wire::GetDatasetResponse { dataset: Some(found) }))
    }

    async fn list_datasets(
        &self,
        request: Request<wire::ListDatasetsRequest>,
    ) -> Result<Response<wire::ListDatasetsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let namespace = match asked.namespace.as_str() {
                "" => None,
                name => Some(Name::parse("namespace", name)?),
            };
            let list = format!("datasets:{}", asked.namespace);
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after: Option<(String, String)> = paging::key(&list, &asked.page_token)?;
            let after = after.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
            let found = self.0.list_datasets(&caller, namespace.as_ref(), after, size + 1).await?;
            let (found, next_page_token) =
                paging::cut(found, size, &list, |last| (last.namespace.clone(), last.name.clone()));
            let datasets = found.into_iter().map(dataset_to_wire).collect::<Result<_, _>>()?;
            Ok::<_, ServiceError>(wire::ListDatasetsResponse { datasets, next_page_token })
        };
        answer(page.await)
    }

    async fn delete_dataset(
        &self,
        request: Request<wire::DeleteDatasetRequest>,
    ) -> Result<Response<wire::DeleteDatasetResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let deleted = self.0.delete_dataset(&caller, &asked.namespace, &asked.name).await;
        answer(deleted.map(|()| wire::DeleteDatasetResponse {}))
    }

    async fn list_versions(
        &self,
        request: Request<wire::ListVersionsRequest>,
    ) -> Result<Response<wire::ListVersionsResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let dataset =
                self.0.versioned_dataset(&caller, &asked.namespace, &asked.dataset).await?;
            let list = format!("versions:{}", dataset.id);
            let below: Option<i64> = paging::key(&list, &asked.page_token)?;
            let found = self.0.list_versions(dataset.id, below, size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, &list, |last| last.number);
            let versions = found.into_iter().map(version_to_wire).collect();
            Ok::<_, ServiceError>(wire::ListVersionsResponse { versions, next_page_token })
        };
        answer(page.await)
    }

    async fn get_version(
        &self,
        request: Request<wire::GetVersionRequest>,
    ) -> Result<Response<wire::GetVersionResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let found = async {
            let version = VersionRef::parse("version", &asked.version)?;
            let (found, statistics) =
                self.0.get_version(&caller, &asked.namespace, &asked.dataset, version).await?;
            let columns = statistics.iter().map(value::to_wire).collect();
            Ok::<_, ServiceError>(wire::GetVersionResponse {
                version: Some(version_to_wire(found)),
                columns,
            })
        };
        answer(found.await)
    }
}

/// The profile that a request names, if it names one.
///
/// # Errors
/// A number that is none.
pub fn profile_from_wire(profile: i32) -> Result<Option<Profile>, ServiceError> {
    match wire::Profile::try_from(profile) {
        Ok(wire::Profile::Unspecified) => Ok(None),
        Ok(wire::Profile::Items) => Ok(Some(Profile::Items)),
        Ok(wire::Profile::Table) => Ok(Some(Profile::Table)),
        Err(_) => Err(ServiceError::invalid("profile", format!("{profile} is no profile"))),
    }
}

/// A version as the wire has it.
pub fn version_to_wire(version: Version) -> wire::Version {
    wire::Version {
        number: version.number,
        parent: version.parent,
        message: version.message,
        author: version.author.to_string(),
        create_time: Some(timestamp(version.created_at)),
        row_count: version.snapshot.row_count,
        byte_count: version.snapshot.byte_count,
        block_count: version.snapshot.block_count,
        snapshot: version.snapshot.number,
    }
}

/// A dataset as the wire has it; columns are told where the schema is.
///
/// # Errors
/// `DataLoss` for a stored schema that can't be read.
pub fn dataset_to_wire(dataset: Dataset) -> Result<wire::Dataset, ServiceError> {
    Ok(wire::Dataset {
        id: dataset.id.to_string(),
        columns: columns(&dataset.schema_ipc)?,
        namespace: dataset.namespace,
        name: dataset.name,
        description: dataset.description,
        profile: match dataset.profile {
            Profile::Items => wire::Profile::Items.into(),
            Profile::Table => wire::Profile::Table.into(),
        },
        arrow_schema: dataset.schema_ipc,
        key_column: dataset.key_column.unwrap_or_default(),
        unique_columns: dataset.unique_columns,
        public: dataset.public,
        create_time: Some(timestamp(dataset.created_at)),
        created_by: dataset.created_by.to_string(),
        latest: dataset.latest.map(version_to_wire),
        properties: dataset.properties.into_iter().collect(),
    })
}

fn columns(schema_ipc: &[u8]) -> Result<Vec<wire::Column>, ServiceError> {
    if schema_ipc.is_empty() {
        return Ok(Vec::new());
    }
    let schema = item_schema::schema_from_ipc(schema_ipc).map_err(|error| {
        ServiceError::data_loss("a stored schema can't be read").caused_by(error)
    })?;
    let columns = schema.fields().iter().map(|field| wire::Column {
        name: field.name().clone(),
        r#type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    });
    Ok(columns.collect())
}
