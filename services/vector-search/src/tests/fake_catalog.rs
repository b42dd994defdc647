//! The catalog, as far as the vector search asks it: heads and namespaces.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// How often its datasets were listed, and single ones asked for.
    pub lists: Arc<AtomicUsize>,
    pub heads: Arc<AtomicUsize>,
}

impl FakeCatalog {
    pub fn new() -> Self {
        Self {
            namespace: Uuid::now_v7(),
            datasets: Arc::default(),
            lists: Arc::default(),
            heads: Arc::default(),
        }
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
        self.heads.fetch_add(1, Ordering::Relaxed);
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
            "/quarry.catalog.v1.NamespacesService/ListNamespaces" => {
                let namespace = self.namespace("ns").map(|found| found.namespace);
                let page = api::ListNamespacesResponse {
                    namespaces: namespace.ok().flatten().into_iter().collect(),
                    ..Default::default()
                };
                let answer =
                    tower::service_fn(move |_: tonic::Request<api::ListNamespacesRequest>| {
                        std::future::ready(Ok(tonic::Response::new(page.clone())))
                    });
                Grpc::new(ProstCodec::default()).unary(answer, request).await
            }
            "/quarry.catalog.v1.DatasetsService/ListDatasets" => {
                self.lists.fetch_add(1, Ordering::Relaxed);
                let of = |(name, id, _): &(String, Uuid, bool)| api::Dataset {
                    id: id.to_string(),
                    name: name.clone(),
                    ..Default::default()
                };
                let datasets = self.datasets.lock().unwrap().iter().map(of).collect();
                let page = api::ListDatasetsResponse { datasets, ..Default::default() };
                let answer =
                    tower::service_fn(move |_: tonic::Request<api::ListDatasetsRequest>| {
                        std::future::ready(Ok(tonic::Response::new(page.clone())))
                    });
                Grpc::new(ProstCodec::default()).unary(answer, request).await
            }
            other => Status::unimplemented(other.to_owned()).into_http(),
        }
    }
}
