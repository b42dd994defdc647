//! Which addresses are reached, and what arrives there.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Mutex;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;

use super::*;

#[test]
fn nothing_private_is_public() {
    for private in [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "ff02::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ] {
        assert!(!is_public(private.parse().unwrap()), "{private}");
    }
    for public in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "172.32.0.1", "100.128.0.1"] {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}

#[test]
fn urls_of_other_places_are_refused() {
    let sender = Sender::new(false).unwrap();
    assert!(sender.check_url("https://hooks.example.com/x?y=1").is_ok());
    for bad in [
        "http://127.0.0.1/x",
        "http://[::1]:80/",
        "http://localhost:8080",
        "http://a.localhost/",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::ffff:10.0.0.1]/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "nothing",
        "https://user:pass@example.com/",
        "http://metadata.google.internal/",
    ] {
        assert_eq!(sender.check_url(bad).unwrap_err().field_name(), Some("url"), "{bad}");
    }
    assert!(Sender::new(true).unwrap().check_url("http://127.0.0.1/x").is_ok());
}

#[test]
fn the_signature_is_mlflows() {
    // hmac.new(b"s3cret", b"id-1.1700000000.{}", sha256) in base64.
    let signed = signature("s3cret", "id-1", "1700000000", "{}");
    assert_eq!(signed, EXPECTED);
}

const EXPECTED: &str = "v1,laOlY93PgfvXnu0y/Q4W5nm7RnNEJSPyvnczNJlQhiM=";

#[tokio::test]
async fn a_name_that_leads_home_is_not_followed() {
    let sender = Sender::new(false).unwrap();
    // Resolved by the guard, which `check_url` could not know.
    let delivery = Delivery {
        url: "http://localhost.localdomain:9/",
        id: "1",
        timestamp: 0,
        body: "{}",
        secret: "",
    };
    assert!(sender.send(delivery).await.is_err());
}

#[tokio::test]
async fn what_arrives_is_signed_and_a_redirect_is_not_followed() {
    static SEEN: Mutex<Option<(HeaderMap, String)>> = Mutex::new(None);
    let receive = |headers: HeaderMap, body: String| async move {
        *SEEN.lock().unwrap() = Some((headers, body));
        "ok"
    };
    let away = || async { axum::response::Redirect::temporary("http://127.0.0.1:1/") };
    let app = Router::new().route("/hook", post(receive)).route("/away", post(away));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let sender = Sender::new(true).unwrap();
    let url = format!("http://127.0.0.1:{port}/hook");
    let delivery =
        Delivery { url: &url, id: "id-1", timestamp: 1_700_000_000, body: "{}", secret: "s3cret" };
    assert_eq!(sender.send(delivery).await, Ok(200));
    let (headers, body) = SEEN.lock().unwrap().take().unwrap();
    assert_eq!(body, "{}");
    assert_eq!(headers["x-mlflow-signature"], EXPECTED);
    assert_eq!(headers["x-mlflow-timestamp"], "1700000000");
    let url = format!("http://127.0.0.1:{port}/away");
    assert_eq!(sender.send(Delivery { url: &url, ..delivery }).await, Ok(307));
    serving.abort();
}
