//! `quarry.catalog.v1.NamespacesService`.

use catalog_api::v1 as api;
use catalog_api::v1::namespaces_service_server::NamespacesService;
use service_error::ServiceError;
use tonic::{Request, Response};

use super::Catalog;
use crate::{Answer, page};

#[tonic::async_trait]
impl NamespacesService for Catalog {
    async fn create_namespace(
        &self,
        request: Request<api::CreateNamespaceRequest>,
    ) -> Answer<api::CreateNamespaceResponse> {
        let request = request.into_inner();
        let mut state = self.state();
        if state.namespaces.contains_key(&request.name) {
            return Err(ServiceError::already_exists("namespace", request.name).into());
        }
        let description = request.description;
        let namespace = api::Namespace { description, ..state.namespace_or_new(&request.name) };
        state.namespaces.insert(request.name, namespace.clone());
        Ok(Response::new(api::CreateNamespaceResponse { namespace: Some(namespace) }))
    }

    async fn get_namespace(
        &self,
        request: Request<api::GetNamespaceRequest>,
    ) -> Answer<api::GetNamespaceResponse> {
        let namespace = Some(self.state().namespace(&request.get_ref().name)?.clone());
        Ok(Response::new(api::GetNamespaceResponse { namespace }))
    }

    async fn list_namespaces(
        &self,
        request: Request<api::ListNamespacesRequest>,
    ) -> Answer<api::ListNamespacesResponse> {
        let request = request.into_inner();
        let all = self.state().namespaces.values().cloned().collect::<Vec<_>>();
        let (namespaces, next_page_token) = page(all, request.page_size, &request.page_token)?;
        Ok(Response::new(api::ListNamespacesResponse { namespaces, next_page_token }))
    }

    async fn delete_namespace(
        &self,
        request: Request<api::DeleteNamespaceRequest>,
    ) -> Answer<api::DeleteNamespaceResponse> {
        let name = &request.get_ref().name;
        let mut state = self.state();
        state.namespace(name)?;
        let datasets = state.live().filter(|dataset| dataset.about.namespace == *name).count();
        if datasets > 0 {
            let message = format!("namespace {name} holds {datasets} datasets: delete them first");
            return Err(ServiceError::precondition(message).reason("NAMESPACE_NOT_EMPTY").into());
        }
        state.delete_namespace(name);
        Ok(Response::new(api::DeleteNamespaceResponse {}))
    }
}
