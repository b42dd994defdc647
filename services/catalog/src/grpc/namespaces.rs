//! `quarry.catalog.v1.NamespacesService`.

use catalog_api::v1 as wire;
use catalog_api::v1::namespaces_service_server::NamespacesService;
use service_error::ServiceError;
use tonic::{Request, Response, Status};

use crate::app::Catalog;
use crate::grpc::{answer, timestamp};
use crate::model::Namespace;

const LIST: &str = "namespaces";

/// The service over the use cases.
pub struct Namespaces(pub Catalog);

#[tonic::async_trait]
impl NamespacesService for Namespaces {
    async fn create_namespace(
        &self,
        request: Request<wire::CreateNamespaceRequest>,
    ) -> Result<Response<wire::CreateNamespaceResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let made = self.0.create_namespace(&caller, &asked.name, &asked.description).await;
        answer(made.map(|made| wire::CreateNamespaceResponse { namespace: Some(to_wire(made)) }))
    }

    async fn get_namespace(
        &self,
        request: Request<wire::GetNamespaceRequest>,
    ) -> Result<Response<wire::GetNamespaceResponse>, Status> {
        let caller = caller::of(&request)?;
        let found = self.0.get_namespace(&caller, &request.into_inner().name).await;
        answer(found.map(|found| wire::GetNamespaceResponse { namespace: Some(to_wire(found)) }))
    }

    async fn list_namespaces(
        &self,
        request: Request<wire::ListNamespacesRequest>,
    ) -> Result<Response<wire::ListNamespacesResponse>, Status> {
        let caller = caller::of(&request)?;
        let asked = request.into_inner();
        let page = async {
            let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
            let after: Option<String> = paging::key(LIST, &asked.page_token)?;
            let found = self.0.list_namespaces(&caller, after.as_deref(), size + 1).await?;
            let (found, next_page_token) = paging::cut(found, size, LIST, |last| last.name.clone());
            let namespaces = found.into_iter().map(to_wire).collect();
            Ok::<_, ServiceError>(wire::ListNamespacesResponse { namespaces, next_page_token })
        };
        answer(page.await)
    }

    async fn delete_namespace(
        &self,
        request: Request<wire::DeleteNamespaceRequest>,
    ) -> Result<Response<wire::DeleteNamespaceResponse>, Status> {
        let caller = caller::of(&request)?;
        let deleted = self.0.delete_namespace(&caller, &request.into_inner().name).await;
        answer(deleted.map(|()| wire::DeleteNamespaceResponse {}))
    }
}

fn to_wire(namespace: Namespace) -> wire::Namespace {
    wire::Namespace {
        id: namespace.id.to_string(),
        name: namespace.name,
        description: namespace.description,
        create_time: Some(timestamp(namespace.created_at)),
        created_by: namespace.created_by.to_string(),
    }
}
