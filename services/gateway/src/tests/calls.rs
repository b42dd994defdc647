//! gRPC calls through the door.

use std::time::Duration;

use catalog_api::v1::manifest_service_client::ManifestServiceClient;
use catalog_api::v1::{GetHeadRequest, GetNamespaceRequest, ListNamespacesRequest};
use identity_api::v1::ExchangeTokenRequest;
use identity_api::v1::exchange_service_client::ExchangeServiceClient;
use service_channel::remote;
use service_error::{Code, ServiceError};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::rig::{Rig, http, known, with_token};

fn namespace(name: &str) -> GetNamespaceRequest {
    GetNamespaceRequest { name: name.to_owned() }
}

#[tokio::test]
async fn a_call_goes_on_with_the_internal_token_and_nothing_else_of_the_client() {
    for rig in Rig::both().await {
        let mut request = known(namespace("vision"));
        let metadata = request.metadata_mut();
        metadata.insert("x-quarry-principal", "root".parse().unwrap());
        metadata.insert("x-request-id", "my-id".parse().unwrap());
        metadata.insert("x-custom", "kept".parse().unwrap());
        let answer = rig.namespaces().get_namespace(request).await.unwrap();
        assert_eq!(answer.metadata().get("x-request-id").unwrap(), "my-id");
        assert_eq!(answer.into_inner().namespace.unwrap().name, "vision");
        let seen = rig.seen.headers.lock().unwrap().clone();
        assert_eq!(seen["authorization"], "Bearer jwt-for-catalog");
        assert_eq!(
            (&seen["x-request-id"], &seen["x-custom"]),
            (&"my-id".parse().unwrap(), &"kept".parse().unwrap())
        );
        assert!(!seen.contains_key("x-quarry-principal"));
        assert!(
            seen.values()
                .all(|value| !value.as_bytes().windows(9).any(|part| part == b"qpat_good"))
        );
    }
}

#[tokio::test]
async fn an_error_arrives_with_its_details() {
    for rig in Rig::both().await {
        let status = rig.namespaces().get_namespace(known(namespace("missing"))).await.unwrap_err();
        let error = ServiceError::from_status(&status);
        assert_eq!((error.code(), error.reason_text()), (Code::NotFound, "NAMESPACE_NOT_FOUND"));
        assert_eq!(error.detail("namespace"), Some("missing"));
        // A defect of one role is one caller's answer; the door serves on.
        let status = rig.namespaces().get_namespace(known(namespace("panic"))).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
        rig.namespaces().list_namespaces(known(ListNamespacesRequest::default())).await.unwrap();
    }
}

#[tokio::test]
async fn without_a_good_credential_nobody_passes() {
    for rig in Rig::both().await {
        let refused = async |request| {
            let status = rig.namespaces().list_namespaces(request).await.unwrap_err();
            let error = ServiceError::from_status(&status);
            (error.code(), error.reason_text().to_owned())
        };
        let list = ListNamespacesRequest::default();
        for (request, reason) in [
            (tonic::Request::new(list.clone()), "TOKEN_MISSING"),
            (with_token(list.clone(), "Bearer qpat_bad"), "TOKEN_UNKNOWN"),
            (with_token(list.clone(), "Digest x"), "TOKEN_MALFORMED"),
            (with_token(list.clone(), "Basic YWRhOndyb25n"), "TOKEN_UNKNOWN"),
        ] {
            assert_eq!(refused(request).await, (Code::Unauthenticated, reason.to_owned()));
        }
        // ada:qpat_good
        let basic = with_token(list, "Basic YWRhOnFwYXRfZ29vZA==");
        rig.namespaces().list_namespaces(basic).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_internal_or_unknown_is_not_here() {
    for rig in Rig::both().await {
        let mut exchange = ExchangeServiceClient::new(rig.door.clone());
        let status =
            exchange.exchange_token(known(ExchangeTokenRequest::default())).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unimplemented);
        let mut manifest = ManifestServiceClient::new(rig.door.clone());
        let status = manifest.get_head(known(GetHeadRequest::default())).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unimplemented);
        for path in ["/quarry.catalog.v1.NamespacesService/Nothing", "/no.Such/Method", "/", "//"] {
            let mut request = http("POST", path, "");
            request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            let response = rig.http(request).await;
            assert_eq!(
                (response.status().as_u16(), &response.headers()["grpc-status"]),
                (200, &"12".parse().unwrap()),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_deadline_ends_a_call_that_hangs() {
    for rig in Rig::both().await {
        let mut request = known(namespace("slow"));
        request.set_timeout(Duration::from_millis(50));
        let mut client = rig.namespaces();
        let answer =
            tokio::time::timeout(Duration::from_secs(20), client.get_namespace(request)).await;
        let status = answer.expect("the deadline did not end it").unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_role_that_is_away_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = remote(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let neighbours = crate::Neighbours {
        identity: nowhere.clone(),
        service_secret: ::settings::Secret::new("qsvc_gateway").into(),
        operations: None,
        upstreams: vec![crate::Upstream {
            audience: "catalog",
            prefixes: &["quarry.catalog.v1."],
            descriptors: catalog_api::FILE_DESCRIPTOR_SET,
            surfaces: &[],
            transport: nowhere,
        }],
    };
    let service = crate::build(
        crate::Settings::default(),
        neighbours,
        tokio_util::sync::CancellationToken::new(),
    )
    .await
    .unwrap();
    assert!(service.readiness[0].check().await.is_err());
    let response = service.transport.oneshot(http("GET", "/v1/namespaces", "")).await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn the_door_is_ready_once_identity_answers() {
    for rig in Rig::both().await {
        assert_eq!(rig.readiness[0].check().await, Ok(None));
    }
}
