//! What the door says of the platform, to anybody.

use super::rig::{Rig, json};
use crate::Settings;

#[tokio::test]
async fn the_openapi_document_lists_what_is_open() {
    let rig = Rig::new(Settings::default(), false).await;
    let mut request = super::rig::http("GET", "/openapi.json", "");
    request.headers_mut().remove("authorization");
    let document = json(&rig.http(request).await);
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(
        paths.contains_key("/v1/namespaces")
            && paths.contains_key("/v1/namespaces/{namespace}/datasets/{dataset}/items:count")
    );
    assert!(document.to_string().contains("The caller becomes its owner."));
    assert!(!document.to_string().contains("ExchangeToken"));
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let rig = Rig::new(Settings::default(), false).await;
    let page = rig.get("/docs").await;
    assert!(
        page.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );
    let text = String::from_utf8(page.body().to_vec()).unwrap();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("innerHTML"));
    assert!(text.contains("/openapi.json"));
}

#[tokio::test]
async fn the_public_keys_are_identitys() {
    for rig in Rig::both().await {
        let keys = rig.get("/.well-known/jwks.json").await;
        assert_eq!(json(&keys)["keys"][0]["kid"], "k1");
    }
}
