//! The door as an operator and a load balancer see it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use service_channel::{Transport, from_router};
use tonic::body::Body;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;

use super::*;

struct Door {
    database: Arc<AtomicBool>,
    drain: Drain,
    app: Transport,
}

fn door() -> Door {
    let database = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&database);
    let check = Readiness::new("catalog.database", move || {
        let up = up.load(Ordering::SeqCst);
        async move { if up { Ok(()) } else { Err("connection refused".to_owned()) } }
    });
    let drain = Drain::new();
    let app = from_router(router(vec![check], || "up 1\n".to_owned(), drain.clone()));
    Door { database, drain, app }
}

impl Door {
    async fn get(&self, path: &str) -> (u16, String) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec())
                .unwrap(),
        )
    }

    async fn verdict(&self) -> ServingStatus {
        let mut client = HealthClient::new(self.app.clone());
        client.check(HealthCheckRequest::default()).await.unwrap().into_inner().status()
    }
}

#[tokio::test]
async fn readiness_follows_the_checks_and_liveness_does_not() {
    let door = door();
    assert_eq!(door.get("/healthz").await, (200, "ok\n".to_owned()));
    let (status, body) = door.get("/readyz").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &body["checks"][0]["error"]),
        (503, &serde_json::json!("connection refused"))
    );
    assert_eq!(door.verdict().await, ServingStatus::NotServing);

    door.database.store(true, Ordering::SeqCst);
    let (status, body) = door.get("/readyz").await;
    assert_eq!((status, body.contains("\"ready\":true")), (200, true), "{body}");
    assert_eq!(door.verdict().await, ServingStatus::Serving);
}

#[tokio::test]
async fn draining_is_not_ready_but_alive() {
    let door = door();
    door.database.store(true, Ordering::SeqCst);
    door.drain.begin();
    assert_eq!(door.get("/readyz").await.0, 503);
    assert_eq!(door.get("/healthz").await.0, 200);
    assert_eq!(door.verdict().await, ServingStatus::NotServing);
}

#[tokio::test]
async fn a_watcher_hears_of_the_drain_and_is_let_go() {
    let door = door();
    door.database.store(true, Ordering::SeqCst);
    let mut client = HealthClient::new(door.app.clone());
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    door.drain.begin();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_check_that_hangs_has_failed() {
    let hanging = Readiness::new("store", std::future::pending);
    let report =
        readiness::report_within(&[hanging], &Drain::new(), Duration::from_millis(5)).await;
    assert!(!report.ready);
    assert_eq!(report.checks[0].error.as_deref(), Some("no answer within 5ms"));
}

#[tokio::test]
async fn metrics_are_text_and_the_rest_is_not_here() {
    let door = door();
    assert_eq!(door.get("/metrics").await, (200, "up 1\n".to_owned()));
    assert_eq!(door.get("/v1/namespaces").await.0, 404);
    let mut client = HealthClient::new(door.app.clone());
    let unknown =
        client.check(HealthCheckRequest { service: "quarry.items.v1.ItemsService".into() }).await;
    assert_eq!(unknown.unwrap_err().code(), tonic::Code::NotFound);
}
