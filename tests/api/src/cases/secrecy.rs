//! What must never be written down.

use harness::{data, put};
use identity_api::v1::TokenScope;
use options_api::v1::Role;
use serde_json::json;
use tonic::Request;

use crate::stage::Stage;

/// A token that goes through every door, well and badly, stands in no log of any process.
pub async fn canary(stage: &Stage) {
    let (user, _) = stage.user(Role::User).await;
    let canary = stage.token(&user.name, TokenScope::Full).await;
    let session = stage.platform.session(&canary);
    let ns = stage.namespace_of(&session).await.name;
    put(&session, &ns, "rows", vec![data::rows(0, 3)]).await.unwrap();
    session.get("/v1/namespaces").await;
    session.get("/v1/nothing/at/all").await;
    session.get(&format!("/v1/namespaces?page_token={canary}")).await;
    session.post("/v1/namespaces", &json!({ "name": "..", "description": canary })).await;
    session.delete("/v1/namespaces/no-such-namespace").await;
    let mut basic = Request::new(Default::default());
    basic.metadata_mut().insert("authorization", format!("Basic {canary}").parse().unwrap());
    drop(stage.platform.anonymous().namespaces().list_namespaces(basic).await);
    let listed = stage.platform.cli(&["tokens", "list", "-o", "json"]).await;
    assert!(!listed.stdout.contains(&canary));
    let (_, secret) = canary.split_once('_').expect("a prefix");
    let logs = stage.platform.logs();
    assert!(logs.lines().count() > 3, "the logs are there");
    let leak = logs
        .lines()
        .find(|line| line.contains(secret) || line.contains(stage.platform.admin_token()));
    assert_eq!(leak, None, "a secret in a log");
}
