//! The catalog, as far as the registry meets it: names of namespaces and
//! datasets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use catalog_api::v1 as api;
use catalog_api::v1::datasets_service_server::{DatasetsService, DatasetsServiceServer};
use catalog_api::v1::namespaces_service_server::{NamespacesService, NamespacesServiceServer};
use ids::{DatasetId, NamespaceId};
use service_channel::Transport;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone, Default)]
pub struct FakeCatalog {
    namespaces: Arc<Mutex<BTreeMap<String, NamespaceId>>>,
    /// `namespace/name` to id and newest version.
    datasets: Arc<Mutex<BTreeMap<String, (DatasetId, i64)>>>,
}

impl FakeCatalog {
    pub fn transport(&self) -> Transport {
        let mut routes = tonic::service::Routes::builder();
        routes.add_service(NamespacesServiceServer::new(self.clone()));
        routes.add_service(DatasetsServiceServer::new(self.clone()));
        service_channel::local(routes.routes().prepare())
    }

    pub fn namespace(&self, name: &str) -> NamespaceId {
        *self.namespaces.lock().unwrap().entry(name.to_owned()).or_insert_with(NamespaceId::new)
    }

    /// The namespace is deleted.
    pub fn forget(&self, name: &str) {
        self.namespaces.lock().unwrap().remove(name);
    }

    pub fn dataset(&self, path: &str, versions: i64) -> DatasetId {
        let id = DatasetId::new();
        self.datasets.lock().unwrap().insert(path.to_owned(), (id, versions));
        id
    }
}

#[tonic::async_trait]
impl NamespacesService for FakeCatalog {
    async fn create_namespace(
        &self,
        request: Request<api::CreateNamespaceRequest>,
    ) -> Answer<api::CreateNamespaceResponse> {
        self.namespace(&request.into_inner().name);
        Ok(Response::new(api::CreateNamespaceResponse::default()))
    }

    async fn get_namespace(
        &self,
        request: Request<api::GetNamespaceRequest>,
    ) -> Answer<api::GetNamespaceResponse> {
        let name = request.into_inner().name;
        let found = self.namespaces.lock().unwrap().get(&name).copied();
        let id = found.ok_or_else(|| ServiceError::not_found("namespace", &name))?;
        let namespace = api::Namespace { id: id.to_string(), name, ..Default::default() };
        Ok(Response::new(api::GetNamespaceResponse { namespace: Some(namespace) }))
    }

    async fn list_namespaces(
        &self,
        _: Request<api::ListNamespacesRequest>,
    ) -> Answer<api::ListNamespacesResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn delete_namespace(
        &self,
        _: Request<api::DeleteNamespaceRequest>,
    ) -> Answer<api::DeleteNamespaceResponse> {
        Err(Status::unimplemented("not asked here"))
    }
}

#[tonic::async_trait]
impl DatasetsService for FakeCatalog {
    async fn create_dataset(
        &self,
        _: Request<api::CreateDatasetRequest>,
    ) -> Answer<api::CreateDatasetResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get_dataset(
        &self,
        request: Request<api::GetDatasetRequest>,
    ) -> Answer<api::GetDatasetResponse> {
        let asked = request.into_inner();
        let path = format!("{}/{}", asked.namespace, asked.name);
        let found = self.datasets.lock().unwrap().get(&path).copied();
        let (id, number) = found.ok_or_else(|| ServiceError::not_found("dataset", &path))?;
        let latest = Some(api::Version { number, ..Default::default() });
        let dataset = api::Dataset { id: id.to_string(), latest, ..Default::default() };
        Ok(Response::new(api::GetDatasetResponse { dataset: Some(dataset) }))
    }

    async fn list_datasets(
        &self,
        _: Request<api::ListDatasetsRequest>,
    ) -> Answer<api::ListDatasetsResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn delete_dataset(
        &self,
        _: Request<api::DeleteDatasetRequest>,
    ) -> Answer<api::DeleteDatasetResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_versions(
        &self,
        _: Request<api::ListVersionsRequest>,
    ) -> Answer<api::ListVersionsResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get_version(
        &self,
        _: Request<api::GetVersionRequest>,
    ) -> Answer<api::GetVersionResponse> {
        Err(Status::unimplemented("not asked here"))
    }
}
