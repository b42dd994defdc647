//! JSON through the door.

use ::http::{Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tonic::body::Body;

use super::rig::{Rig, http, json, reason};
use crate::Settings;

#[tokio::test]
async fn a_json_call_is_a_call() {
    for rig in Rig::both().await {
        let response = rig
            .http(http("POST", "/v1/namespaces", r#"{"name":"vision","description":"d"}"#))
            .await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/json".parse().unwrap())
        );
        assert_eq!(json(&response)["namespace"]["name"], "vision");
        assert!(response.headers().contains_key("x-request-id"));
        assert_eq!(rig.seen.headers.lock().unwrap()["authorization"], "Bearer jwt-for-catalog");
        let list = rig.get("/v1/namespaces").await;
        assert_eq!(json(&list), json!({ "namespaces": [], "next_page_token": "" }));
        assert_eq!(rig.http(http("HEAD", "/v1/namespaces", "")).await.body().len(), 0);
    }
}

#[tokio::test]
async fn failures_are_the_status_object() {
    for rig in Rig::both().await {
        let answer = rig.get("/v1/namespaces/missing").await;
        assert_eq!(
            (answer.status().as_u16(), reason(&answer)),
            (404, "NAMESPACE_NOT_FOUND".to_owned())
        );
        assert_eq!(json(&answer)["error"]["status"], "NOT_FOUND");
        let answer = rig.http(http("POST", "/v1/namespaces", r#"{"nane":"x"}"#)).await;
        assert_eq!(answer.status(), 400);
        assert!(json(&answer)["error"]["message"].as_str().unwrap().contains("nane"));
        let answer = rig.get("/v1/namespaces/panic").await;
        assert_eq!(answer.status(), 500);
        for path in
            ["/", "/v1", "/v2/namespaces", "/quarry.catalog.v1.NamespacesService/ListNamespaces"]
        {
            let answer = rig.get(path).await;
            assert_eq!(
                (answer.status().as_u16(), reason(&answer)),
                (404, "ROUTE_NOT_FOUND".to_owned()),
                "{path}"
            );
        }
        let answer = rig.http(http("PUT", "/v1/namespaces", "{}")).await;
        assert_eq!(
            (answer.status().as_u16(), reason(&answer)),
            (405, "METHOD_NOT_ALLOWED".to_owned())
        );
        assert!(answer.headers()["allow"].to_str().unwrap().contains("POST"));
        assert_eq!(rig.get("/v1/namespaces/%zz").await.status(), 400);
    }
}

#[tokio::test]
async fn nobody_is_answered_without_a_good_token() {
    for rig in Rig::both().await {
        let mut request = http("GET", "/v1/namespaces", "");
        request.headers_mut().remove(header::AUTHORIZATION);
        let answer = rig.http(request).await;
        assert_eq!((answer.status().as_u16(), reason(&answer)), (401, "TOKEN_MISSING".to_owned()));
        assert!(answer.headers().contains_key("www-authenticate"));
        let mut request = http("GET", "/v1/namespaces", "");
        request.headers_mut().insert(header::AUTHORIZATION, "Bearer qpat_bad".parse().unwrap());
        assert_eq!(reason(&rig.http(request).await), "TOKEN_UNKNOWN");
        // No page of another origin may read an answer.
        let mut request = http("OPTIONS", "/v1/namespaces", "");
        request.headers_mut().insert(header::ORIGIN, "https://evil.example".parse().unwrap());
        let answer = rig.http(request).await;
        assert_eq!(answer.status(), 405);
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_door_serves_on() {
    for rig in Rig::both().await {
        let huge = format!(r#"{{"name":"{}"}}"#, "x".repeat(5 << 20));
        let answer = rig.http(http("POST", "/v1/namespaces", huge)).await;
        assert_eq!((answer.status().as_u16(), reason(&answer)), (413, "BODY_TOO_LARGE".to_owned()));
        assert!(json(&answer)["error"]["message"].as_str().unwrap().contains("4194304"));
        assert_eq!(rig.get("/v1/namespaces").await.status(), 200);
    }
}

#[tokio::test]
async fn files_are_streamed_as_they_are() {
    for rig in Rig::both().await {
        let answer = rig.get("/v1/namespaces/a/datasets/b/media/abc").await;
        assert_eq!(
            (answer.headers()["content-type"].to_str().unwrap(), answer.body().as_ref()),
            ("image/png", &b"one two"[..])
        );
        let none = rig.get("/v1/namespaces/a/datasets/b/media/none").await;
        assert_eq!((none.status().as_u16(), reason(&none)), (404, "FILE_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn a_call_that_hangs_is_ended() {
    let settings = Settings { json_timeout_seconds: 1, ..Settings::default() };
    let rig = Rig::new(settings, false).await;
    let answer = rig.get("/v1/namespaces/slow").await;
    assert_eq!(
        (answer.status().as_u16(), json(&answer)["error"]["status"].clone()),
        (504, json!("DEADLINE_EXCEEDED"))
    );
}

#[tokio::test]
async fn http_1_1_is_served_on_the_same_port() {
    let rig = Rig::new(Settings::default(), true).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let url = format!("{}/v1/namespaces", rig.url.unwrap());
    let request = Request::builder()
        .uri(&url)
        .header(header::AUTHORIZATION, "Bearer qpat_good")
        .body(Full::default())
        .unwrap();
    let response = client.request(request).await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (::http::Version::HTTP_11, 200));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"namespaces\":[]"));
    let response =
        client.request(Request::builder().uri(&url).body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn a_traceparent_reaches_the_role_and_a_cookie_does_not() {
    let rig = Rig::new(Settings::default(), true).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request: Request<Body> = http("GET", "/v1/namespaces", "");
    request.headers_mut().insert("traceparent", trace.parse().unwrap());
    request.headers_mut().insert("cookie", "a=b".parse().unwrap());
    rig.http(request).await;
    let seen = rig.seen.headers.lock().unwrap().clone();
    assert_eq!(seen["traceparent"], trace);
    assert!(!seen.contains_key("cookie"));
}
