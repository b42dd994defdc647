//! Health and reflection, answered by the door itself.

use futures::stream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;

use super::rig::Rig;
use crate::Settings;

async fn health(rig: &Rig, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(rig.door.clone()).check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn health_is_serving_until_the_drain() {
    for rig in Rig::both().await {
        for service in ["", "arrow.flight.protocol.FlightService", "quarry.items.v1.ItemsService"] {
            assert_eq!(health(&rig, service).await, ServingStatus::Serving, "{service}");
        }
        rig.draining.cancel();
        assert_eq!(health(&rig, "").await, ServingStatus::NotServing);
    }
}

async fn reflect(rig: &Rig, message: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let answers = ServerReflectionClient::new(rig.door.clone())
        .server_reflection_info(stream::iter([request]))
        .await;
    answers.unwrap().into_inner().message().await.unwrap().unwrap().message_response.unwrap()
}

#[tokio::test]
async fn reflection_describes_what_is_open() {
    for rig in Rig::both().await {
        let MessageResponse::ListServicesResponse(list) =
            reflect(&rig, MessageRequest::ListServices(String::new())).await
        else {
            panic!("no list")
        };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        for wanted in [
            "quarry.catalog.v1.DatasetsService",
            "arrow.flight.protocol.FlightService",
            "grpc.health.v1.Health",
        ] {
            assert!(names.contains(&wanted), "{wanted} in {names:?}");
        }
        for closed in [
            "quarry.identity.v1.ExchangeService",
            "quarry.identity.v1.ReplicaService",
            "quarry.catalog.v1.ManifestService",
        ] {
            assert!(!names.contains(&closed), "{closed}");
        }
        let symbol =
            MessageRequest::FileContainingSymbol("arrow.flight.protocol.FlightService".to_owned());
        let MessageResponse::FileDescriptorResponse(files) = reflect(&rig, symbol).await else {
            panic!("no file")
        };
        assert!(!files.file_descriptor_proto.is_empty());
    }
}

#[tokio::test]
async fn older_clients_ask_v1alpha() {
    use v1alpha::server_reflection_request::MessageRequest;
    let rig = Rig::new(Settings::default(), true).await;
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(rig.door.clone());
    let mut answers =
        client.server_reflection_info(stream::iter([request])).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
}

#[tokio::test]
async fn reflection_can_be_turned_off() {
    let rig = Rig::new(Settings { reflection: false, ..Settings::default() }, false).await;
    let request = ServerReflectionRequest { host: String::new(), message_request: None };
    let status = ServerReflectionClient::new(rig.door.clone())
        .server_reflection_info(stream::iter([request]))
        .await;
    assert_eq!(status.unwrap_err().code(), tonic::Code::Unimplemented);
}
