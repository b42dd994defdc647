//! `quarry.catalog.v1.DatasetsService`.

use std::collections::BTreeMap;

use catalog_api::v1 as api;
use catalog_api::v1::datasets_service_server::DatasetsService;
use ids::DatasetId;
use service_error::ServiceError;
use tonic::{Request, Response};

use super::Catalog;
use super::dataset::{Dataset, Snapshot};
use crate::{Answer, page};

#[tonic::async_trait]
impl DatasetsService for Catalog {
    async fn create_dataset(
        &self,
        request: Request<api::CreateDatasetRequest>,
    ) -> Answer<api::CreateDatasetResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        if state.named(&request.namespace, &request.name).is_ok() {
            return Err(ServiceError::already_exists("dataset", request.name).into());
        }
        let namespace_id = state.namespace(&request.namespace)?.id.clone();
        let profile = match request.profile() {
            api::Profile::Unspecified if request.arrow_schema.is_empty() => api::Profile::Items,
            api::Profile::Unspecified => api::Profile::Table,
            named => named,
        };
        let about = api::Dataset {
            id: DatasetId::new().to_string(),
            namespace: request.namespace,
            name: request.name,
            description: request.description,
            profile: profile.into(),
            arrow_schema: request.arrow_schema,
            key_column: request.key_column,
            unique_columns: request.unique_columns,
            public: request.public,
            properties: request.properties,
            ..Default::default()
        };
        let made = Dataset::new(namespace_id, about);
        let dataset = Some(made.about.clone());
        state.datasets.insert(made.about.id.clone(), made);
        Ok(Response::new(api::CreateDatasetResponse { dataset }))
    }

    async fn get_dataset(
        &self,
        request: Request<api::GetDatasetRequest>,
    ) -> Answer<api::GetDatasetResponse> {
        let request = request.into_inner();
        let dataset = self.state().named(&request.namespace, &request.name)?.about.clone();
        Ok(Response::new(api::GetDatasetResponse { dataset: Some(dataset) }))
    }

    async fn list_datasets(
        &self,
        request: Request<api::ListDatasetsRequest>,
    ) -> Answer<api::ListDatasetsResponse> {
        let request = request.into_inner();
        let state = self.state();
        if !request.namespace.is_empty() {
            state.namespace(&request.namespace)?;
        }
        let within = state.live().map(|dataset| &dataset.about).filter(|dataset| {
            request.namespace.is_empty() || dataset.namespace == request.namespace
        });
        let mut all: Vec<_> = within.collect();
        all.sort_by_key(|dataset| (&dataset.namespace, &dataset.name));
        let all = all.into_iter().map(|dataset| api::Dataset {
            arrow_schema: Vec::new(),
            columns: Vec::new(),
            ..dataset.clone()
        });
        let (datasets, next_page_token) = page(all, request.page_size, &request.page_token)?;
        Ok(Response::new(api::ListDatasetsResponse { datasets, next_page_token }))
    }

    async fn delete_dataset(
        &self,
        request: Request<api::DeleteDatasetRequest>,
    ) -> Answer<api::DeleteDatasetResponse> {
        let request = request.into_inner();
        self.state().named_mut(&request.namespace, &request.name)?.deleted = true;
        Ok(Response::new(api::DeleteDatasetResponse {}))
    }

    async fn list_versions(
        &self,
        request: Request<api::ListVersionsRequest>,
    ) -> Answer<api::ListVersionsResponse> {
        let request = request.into_inner();
        let state = self.state();
        let dataset = state.named(&request.namespace, &request.dataset)?;
        let newest_first = dataset.versions.iter().rev().cloned();
        let (versions, next_page_token) =
            page(newest_first, request.page_size, &request.page_token)?;
        Ok(Response::new(api::ListVersionsResponse { versions, next_page_token }))
    }

    async fn get_version(
        &self,
        request: Request<api::GetVersionRequest>,
    ) -> Answer<api::GetVersionResponse> {
        let request = request.into_inner();
        let state = self.state();
        let dataset = state.named(&request.namespace, &request.dataset)?;
        let version = dataset.version(&request.version)?.clone();
        let columns = columns(&dataset.snapshot(version.snapshot)?);
        Ok(Response::new(api::GetVersionResponse { version: Some(version), columns }))
    }
}

/// Statistics over all blocks. Bounds are given where there is one block.
fn columns(snapshot: &Snapshot) -> Vec<api::ColumnStatistics> {
    if let [block] = snapshot.blocks.as_slice() {
        return block.columns.clone();
    }
    let mut nulls: BTreeMap<&str, i64> = BTreeMap::new();
    for column in snapshot.blocks.iter().flat_map(|block| &block.columns) {
        *nulls.entry(&column.column).or_default() += column.null_count;
    }
    let of = |(column, null_count): (&str, i64)| api::ColumnStatistics {
        column: column.to_owned(),
        null_count,
        ..Default::default()
    };
    nulls.into_iter().map(of).collect()
}
