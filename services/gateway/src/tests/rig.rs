//! A door with fake roles behind it.

use ::http::{Request, Response, header};
use ::settings::Secret;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::flight_service_server::FlightServiceServer;
use bytes::Bytes;
use catalog_api::v1::namespaces_service_client::NamespacesServiceClient;
use catalog_api::v1::namespaces_service_server::NamespacesServiceServer;
use http_body_util::BodyExt;
use identity_api::v1::exchange_service_server::ExchangeServiceServer;
use items_api::v1::media_service_server::MediaServiceServer;
use service_channel::{DoorSettings, Readiness, Transport, local, remote, serve};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tower::ServiceExt;

use super::fakes::{Catalog, Flight, Identity, Media, Seen};
use super::surface;
use crate::{Neighbours, Settings, Upstream, build};

/// A door, open.
pub struct Rig {
    /// What a client calls.
    pub door: Transport,
    /// Where it listens, if it does.
    pub url: Option<String>,
    pub seen: Seen,
    pub draining: CancellationToken,
    pub readiness: Vec<Readiness>,
    _sockets: DropGuard,
}

impl Rig {
    /// One in memory and one over sockets, on both sides of the door.
    pub async fn both() -> [Self; 2] {
        [Self::new(Settings::default(), false).await, Self::new(Settings::default(), true).await]
    }

    pub async fn new(settings: Settings, over_sockets: bool) -> Self {
        let sockets = CancellationToken::new();
        let seen = Seen::default();
        let identity = local(Routes::new(ExchangeServiceServer::new(Identity)).prepare());
        let catalog =
            local(Routes::new(NamespacesServiceServer::new(Catalog(seen.clone()))).prepare());
        let flight = FlightServiceServer::new(Flight(seen.clone()));
        let items = Routes::new(MediaServiceServer::new(Media)).add_service(flight);
        let items = local(items.prepare());
        let foreign = surface::role(seen.clone());
        let mut transports = [identity, catalog, items, foreign];
        if over_sockets {
            for transport in &mut transports {
                *transport = remote(&listen(transport.clone(), &sockets).await).unwrap();
            }
        }
        let [identity, catalog, items, foreign] = transports;
        let draining = CancellationToken::new();
        let neighbours = Neighbours {
            identity: identity.clone(),
            service_secret: Secret::new("qsvc_gateway").into(),
            operations: None,
            upstreams: vec![
                upstream(
                    "identity",
                    &["quarry.identity.v1."],
                    identity_api::FILE_DESCRIPTOR_SET,
                    identity,
                ),
                upstream(
                    "catalog",
                    &["quarry.catalog.v1."],
                    catalog_api::FILE_DESCRIPTOR_SET,
                    catalog,
                ),
                upstream(
                    "item-store",
                    &["quarry.items.v1.", "arrow.flight.protocol."],
                    items_api::FILE_DESCRIPTOR_SET,
                    items,
                ),
                surface::upstream(foreign),
            ],
        };
        let service = build(settings, neighbours, draining.clone()).await.unwrap();
        let (door, url) = if over_sockets {
            let url = listen(service.transport, &sockets).await;
            (remote(&url).unwrap(), Some(url))
        } else {
            (service.transport, None)
        };
        let readiness = service.readiness;
        Self { door, url, seen, draining, readiness, _sockets: sockets.drop_guard() }
    }

    pub fn namespaces(&self) -> NamespacesServiceClient<Transport> {
        NamespacesServiceClient::new(self.door.clone())
    }

    pub fn flight(&self) -> FlightServiceClient<Transport> {
        FlightServiceClient::new(self.door.clone())
    }

    /// One HTTP request; the answer's body read to its end.
    pub async fn http(&self, request: Request<Body>) -> Response<Bytes> {
        let response = self.door.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    pub async fn get(&self, path: &str) -> Response<Bytes> {
        self.http(http("GET", path, "")).await
    }
}

fn upstream(
    audience: &'static str,
    prefixes: &'static [&'static str],
    descriptors: &'static [u8],
    transport: Transport,
) -> Upstream {
    Upstream { audience, prefixes, descriptors, surfaces: &[], transport }
}

async fn listen(app: Transport, until: &CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, app, DoorSettings::default(), until.clone()));
    url
}

/// A gRPC request of somebody with a good token.
pub fn known<T>(message: T) -> tonic::Request<T> {
    with_token(message, "Bearer qpat_good")
}

pub fn with_token<T>(message: T, authorization: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let value: MetadataValue<_> = authorization.parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// An HTTP request of somebody with a good token.
pub fn http(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, "Bearer qpat_good")
        .body(Body::new(http_body_util::Full::new(body.into())))
        .unwrap()
}

pub fn json(response: &Response<Bytes>) -> serde_json::Value {
    serde_json::from_slice(response.body()).unwrap()
}

/// The reason of an error answer.
pub fn reason(response: &Response<Bytes>) -> String {
    json(response)["error"]["details"][0]["reason"].as_str().unwrap_or_default().to_owned()
}
