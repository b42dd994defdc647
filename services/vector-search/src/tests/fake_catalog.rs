//! The catalog, as far as the vector search asks it: heads and namespaces.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use catalog_api::v1 as api;
use http::{Request, Response};
use service_channel::Transport;
use tonic::Status;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use uuid::Uuid;

/// A dataset, by its name in namespace `ns`.
#[derive(Clone)]
pub struct FakeCatalog {
    pub namespace: Uuid,
    datasets: Arc<Mutex<Vec<(String, Uuid, bool)>>>,
}

impl FakeCatalog {
    pub fn new() -> Self {
        Self { namespace: Uuid::now_v7(), datasets: Arc::default() }
    }

    pub fn add(&self, name: &str, public: bool) -> Uuid {
        let id = Uuid::now_v7();
        self.datasets.lock().unwrap().push((name.to_owned(), id, public));
        id
    }

    pub fn remove(&self, name: &str) {
        self.datasets.lock().unwrap().retain(|(known, ..)| known != name);
    }

    fn head(&self, asked: &api::GetHeadRequest) -> Result<api::GetHeadResponse, Status> {
        let reference = asked.dataset.clone().unwrap_or_default();
        let datasets = self.datasets.lock().unwrap();
        let found = datasets.iter().find(|(name, id, _)| {
            reference.dataset_id == id.to_string()
                || (reference.namespace == "ns" && reference.name == *name)
        });
        let (name, id, public) = found.ok_or_else(|| Status::not_found("no dataset"))?;
        let dataset = api::Dataset {
            id: id.to_string(),
            namespace: "ns".to_owned(),
            name: name.clone(),
            public: *public,
            ..api::Dataset::default()
        };
        let namespace_id = self.namespace.to_string();
        let head = api::Head { dataset: Some(dataset), namespace_id, ..api::Head::default() };
        Ok(api::GetHeadResponse { head: Some(head) })
    }

    fn namespace(&self, name: &str) -> Result<api::GetNamespaceResponse, Status> {
        if name != "ns" {
            return Err(Status::not_found("no namespace"));
        }
        let namespace = api::Namespace {
            id: self.namespace.to_string(),
            name: name.to_owned(),
            ..api::Namespace::default()
        };
        Ok(api::GetNamespaceResponse { namespace: Some(namespace) })
    }

    pub fn transport(&self) -> Transport {
        let catalog = self.clone();
        service_channel::local(tower::service_fn(move |request: Request<Body>| {
            let catalog = catalog.clone();
            async move { Ok::<_, Infallible>(catalog.answer(request).await) }
        }))
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        match request.uri().path() {
            "/quarry.catalog.v1.ManifestService/GetHead" => {
                let answer =
                    tower::service_fn(move |asked: tonic::Request<api::GetHeadRequest>| {
                        let found = self.head(asked.get_ref()).map(tonic::Response::new);
                        async move { found }
                    });
                Grpc::new(ProstCodec::default()).unary(answer, request).await
            }
            "/quarry.catalog.v1.NamespacesService/GetNamespace" => {
                let answer =
                    tower::service_fn(move |asked: tonic::Request<api::GetNamespaceRequest>| {
                        let found = self.namespace(&asked.get_ref().name);
                        async move { found.map(tonic::Response::new) }
                    });
                Grpc::new(ProstCodec::default()).unary(answer, request).await
            }
            other => Status::unimplemented(other.to_owned()).into_http(),
        }
    }
}
