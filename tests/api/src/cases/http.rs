//! The JSON lane, OpenAPI, reflection, health and the operations door.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::{Role as Part, Session, data, eventually, put};
use http::Method;
use serde_json::{Value, json};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::stage::{Stage, unique};

/// The shape of every JSON error: google.rpc.Status with ErrorInfo.
fn error_of(answer: &harness::Answer, status: u16, name: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.content_type, "application/json", "{answer:?}");
    let error = answer.json()["error"].clone();
    assert_eq!(error["status"], name, "{answer:?}");
    assert_eq!(error["code"], status, "{answer:?}");
    assert!(error["message"].as_str().is_some_and(|words| !words.is_empty()), "{answer:?}");
    let details = error["details"].as_array().expect("details");
    let info = details.iter().find(|detail| {
        detail["@type"].as_str().is_some_and(|kind| kind.ends_with("google.rpc.ErrorInfo"))
    });
    let info = info.unwrap_or_else(|| panic!("no ErrorInfo: {answer:?}"));
    assert_eq!(info["domain"], "quarry");
    assert!(info["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    error
}

/// Without a token nothing is told but that one is needed.
pub async fn unauthenticated(stage: &Stage) {
    let anonymous = stage.platform.anonymous();
    for path in ["/v1/namespaces", "/v1/datasets", "/v1/users", "/v1/namespaces/x/datasets/y/items"]
    {
        error_of(&anonymous.get(path).await, 401, "UNAUTHENTICATED");
    }
    let answer = anonymous.post("/v1/namespaces", &json!({ "name": "x" })).await;
    error_of(&answer, 401, "UNAUTHENTICATED");
}

/// Names of the contract in both directions, 64-bit numbers as text, path and query bound.
pub async fn round_trip(stage: &Stage) {
    let name = unique("ns");
    let admin = &stage.admin;
    let made = admin.post("/v1/namespaces", &json!({ "name": name, "description": "ü" })).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(made.json()["namespace"]["description"], "ü");
    let read = admin.get(&format!("/v1/namespaces/{name}")).await.json();
    assert_eq!(read["namespace"]["name"], name.as_str());
    put(admin, &name, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let page = admin.get(&format!("/v1/namespaces/{name}/datasets/rows/items?page_size=3")).await;
    let page = page.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 3, "{page}");
    assert_eq!(page["version"], "1", "64-bit numbers are texts: {page}");
    assert_eq!(page["columns"][0]["name"], "id");
    assert_eq!(page["items"][1]["values"][0]["int_value"], "1", "{page}");
    let camel = admin.get(&format!("/v1/namespaces/{name}/datasets/rows/items?pageSize=3")).await;
    assert_eq!(camel.json()["items"].as_array().unwrap().len(), 3);
    let filter = "filter=width%20%3E%203000%20AND%20is_favorite%20%3D%20true";
    let count =
        admin.get(&format!("/v1/namespaces/{name}/datasets/rows/items:count?{filter}")).await;
    let expected = (0..10).filter(|id| data::width(*id) > 3_000 && data::is_favorite(*id)).count();
    assert_eq!(count.json()["count"], expected.to_string(), "{count:?}");
    let gone = admin.delete(&format!("/v1/namespaces/{name}/datasets/rows")).await;
    assert_eq!(gone.status, 200, "{gone:?}");
}

/// A path that is none, a body that is none, a field that is none, a name that is none.
pub async fn errors(stage: &Stage) {
    let admin = &stage.admin;
    error_of(&admin.get("/v1/nothing").await, 404, "NOT_FOUND");
    error_of(&admin.get("/v1/namespaces/no-such-namespace").await, 404, "NOT_FOUND");
    error_of(&admin.get("/v1/namespaces/..%2Fx").await, 400, "INVALID_ARGUMENT");
    let post =
        async |body: &str| admin.http(Method::POST, "/v1/namespaces", Some(body.to_owned())).await;
    error_of(&post("{\"name\": ").await, 400, "INVALID_ARGUMENT");
    error_of(&post("[]").await, 400, "INVALID_ARGUMENT");
    error_of(&post("{\"nome\": \"x\"}").await, 400, "INVALID_ARGUMENT");
    error_of(&post("{\"name\": 7}").await, 400, "INVALID_ARGUMENT");
    error_of(&post("{\"name\": \"a\\u0000b\"}").await, 400, "INVALID_ARGUMENT");
    error_of(&post("").await, 400, "INVALID_ARGUMENT");
    let twice = json!({ "name": unique("ns") });
    assert_eq!(admin.post("/v1/namespaces", &twice).await.status, 200);
    error_of(&admin.post("/v1/namespaces", &twice).await, 409, "ALREADY_EXISTS");
    let put = admin.http(Method::PUT, "/v1/namespaces", Some("{}".into())).await;
    assert!(put.status == 404 || put.status == 405, "{put:?}");
    let deep = "[".repeat(100_000);
    error_of(&post(&deep).await, 400, "INVALID_ARGUMENT");
    assert_eq!(admin.get("/v1/namespaces").await.status, 200, "and the server serves on");
}

/// One OpenAPI document with every method that HTTP reaches; tests/compatibility validates it.
pub async fn openapi(stage: &Stage) {
    let answer = stage.platform.anonymous().get("/openapi.json").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/namespaces",
        "/v1/users/{name}",
        "/v1/namespaces/{namespace}/datasets/{dataset}/items",
    ] {
        assert!(paths.contains_key(path), "{path} is not among {:?}", paths.keys());
    }
    let operations = paths.values().flat_map(|path| path.as_object().unwrap().values());
    let ids: Vec<&str> =
        operations.filter_map(|operation| operation["operationId"].as_str()).collect();
    let distinct: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "an operationId stands twice");
    assert!(ids.len() > 25, "{ids:?}");
}

/// What only the gateway may say is not taken from outside.
pub async fn forged_headers(stage: &Stage) {
    let client = stage.platform.anonymous();
    let mut namespaces = client.namespaces();
    let mut request = tonic::Request::new(Default::default());
    for name in ["x-quarry-principal", "x-quarry-role", "x-forwarded-user"] {
        request.metadata_mut().insert(name, "admin".parse().unwrap());
    }
    let status = namespaces.list_namespaces(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
}

/// A client that knows no proto file finds the services; a load balancer asks for health.
pub async fn reflection_and_health(stage: &Stage) {
    let services = services(&stage.admin).await;
    for service in [
        "quarry.identity.v1.UsersService",
        "quarry.catalog.v1.DatasetsService",
        "quarry.items.v1.ItemsService",
        "arrow.flight.protocol.FlightService",
    ] {
        assert!(services.contains(service), "{service} is not among {services:?}");
    }
    assert!(
        !services.contains("quarry.catalog.v1.ManifestService"),
        "inner services are not shown"
    );
    let mut health = HealthClient::new(stage.platform.anonymous().authed());
    let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    assert_eq!(answer.into_inner().status, i32::from(ServingStatus::Serving));
}

async fn services(session: &Session) -> BTreeSet<String> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(session.authed());
    let answers = client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().expect("an answer");
    match answer.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The second door of every process: plain text, no token, no data.
pub async fn operations(stage: &Stage) {
    for part in Part::ALL {
        eventually("an operations door", Duration::from_secs(30), async || {
            let url = stage.platform.operations_url(part);
            match operations_of(&url).await {
                Ok(()) => Some(()),
                // The process has given way to the next one meanwhile.
                Err(_) if stage.platform.operations_url(part) != url => None,
                Err(why) => panic!("{part:?}: {why}"),
            }
        })
        .await;
    }
}

async fn operations_of(url: &str) -> Result<(), String> {
    let address = url.trim_start_matches("http://").parse().expect("an address");
    let door = Session::new(address, None);
    let get = async |path: &str| door.try_get(path).await.ok_or_else(|| format!("no {path}"));
    let alive = get("/healthz").await?;
    if alive.status != 200 {
        return Err(format!("{alive:?}"));
    }
    // Longer than any check is remembered.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        let ready = get("/readyz").await?;
        match ready.status {
            200 => break,
            _ if Instant::now() < deadline && !ready.text.contains("\"draining\":true") => {}
            _ => return Err(format!("{ready:?}")),
        }
        tick.tick().await;
    }
    let metrics = get("/metrics").await?;
    if metrics.status != 200 || !metrics.text.contains("# TYPE") {
        return Err(format!("{metrics:?}"));
    }
    let data = get("/v1/namespaces").await?;
    if data.status != 404 {
        return Err(format!("data at this door: {data:?}"));
    }
    let mut health = HealthClient::new(door.authed());
    let answer = health.check(HealthCheckRequest { service: String::new() }).await;
    let status = answer.map_err(|status| status.to_string())?.into_inner().status;
    if status == i32::from(ServingStatus::Serving) { Ok(()) } else { Err(format!("{status}")) }
}
