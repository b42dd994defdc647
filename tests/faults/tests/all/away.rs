//! A database or a neighbour that goes away: typed answers meanwhile, and afterwards as before.

use std::time::{Duration, Instant};

use catalog_api::v1::{CreateNamespaceRequest, ListNamespacesRequest};
use harness::{Database, Platform, Role, Session, Topology, data, eventually, put};
use tonic::{Code, Status};

const SOON: Duration = Duration::from_secs(20);

async fn create(session: &Session, name: &str) -> Result<(), Status> {
    let request = CreateNamespaceRequest { name: name.into(), ..Default::default() };
    session.namespaces().create_namespace(request).await.map(drop)
}

/// Something that needs a role.
async fn work(session: &Session, role: Role) -> Result<(), Status> {
    let name = api::unique("away");
    match role {
        Role::ItemStore => put(session, "before", &name, vec![data::rows(0, 10)]).await.map(drop),
        _ => create(session, &name).await,
    }
}

fn operations(platform: &Platform, role: Role) -> Session {
    let url = platform.operations_url(role);
    Session::new(url.trim_start_matches("http://").parse().unwrap(), None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_away_is_said_over_grpc_and_json_alike() {
    let mut platform = Platform::start(Topology::OneProcess, Database::Postgres).await;
    let admin = platform.admin();
    create(&admin, "before").await.unwrap();
    platform.postgres().unwrap().kill();
    let refused =
        eventually("a refusal", SOON, async || create(&admin, "meanwhile").await.err()).await;
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    api::refusal::well_formed(&refused);
    let begin = Instant::now();
    let answer = admin.get("/v1/namespaces").await;
    assert!(begin.elapsed() < SOON, "it took {:?}", begin.elapsed());
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["error"]["status"], "UNAVAILABLE");
    let door = operations(&platform, Role::Gateway);
    eventually("not ready", SOON, async || (door.get("/readyz").await.status == 503).then_some(()))
        .await;
    assert_eq!(door.get("/healthz").await.status, 200, "it lives, and waits for its database");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_killed_is_missed_and_found_again() {
    let mut platform = Platform::start(Topology::Split, Database::Sqlite).await;
    let admin = platform.admin();
    create(&admin, "before").await.unwrap();
    put(&admin, "before", "rows", vec![data::rows(0, 10)]).await.unwrap();
    for role in [Role::Catalog, Role::ItemStore, Role::Identity] {
        platform.process_mut(role).kill9();
        let refused = eventually("a refusal", SOON, async || work(&admin, role).await.err()).await;
        assert_eq!(refused.code(), Code::Unavailable, "{role:?}: {refused:?}");
        platform.process_mut(role).restart().await;
        eventually("service as before", SOON, async || match work(&admin, role).await {
            Ok(()) => Some(()),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{role:?}: {status:?}");
                None
            }
        })
        .await;
    }
    // The catalog's knowledge of the grants may still be on its way back.
    let list = eventually("a list", SOON, async || {
        admin.namespaces().list_namespaces(ListNamespacesRequest::default()).await.ok()
    })
    .await;
    assert!(list.into_inner().namespaces.len() >= 2);
}
