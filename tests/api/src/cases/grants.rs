//! Grants: who may do what, and how fast that changes.

use std::time::{Duration, Instant, SystemTime};

use catalog_api::v1::{
    CreateNamespaceRequest, DeleteDatasetRequest, DeleteNamespaceRequest, GetDatasetRequest,
    GetNamespaceRequest, ListDatasetsRequest, ListNamespacesRequest, Namespace,
};
use harness::{Session, data, eventually, put};
use identity_api::v1::{
    AddGrantRequest, AuditEvent, ListAuditEventsRequest, ListGrantsRequest, Outcome,
    RemoveGrantRequest, Resource, User,
};
use items_api::v1::ListItemsRequest;
use options_api::v1::{Level, ResourceKind, Role};
use tonic::Code;

use crate::cases::accounts::IN_FORCE_WITHIN;
use crate::refusal::refused;
use crate::stage::{Stage, unique};

/// A namespace of the admin's with one dataset of ten rows.
async fn filled(stage: &Stage) -> Namespace {
    let namespace = stage.namespace_of(&stage.admin).await;
    put(&stage.admin, &namespace.name, "rows", vec![data::rows(0, 10)]).await.unwrap();
    namespace
}

/// The code of reading the dataset's rows, `Ok` if that works.
async fn reading(session: &Session, namespace: &str) -> Code {
    let request = ListItemsRequest {
        namespace: namespace.to_owned(),
        dataset: "rows".into(),
        ..Default::default()
    };
    session.items().list_items(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn writing(session: &Session, namespace: &str, from: i64) -> Code {
    let rows = vec![data::rows(from, from + 1)];
    put(session, namespace, "rows", rows).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Waits until reading answers with `code`, no longer than is promised.
async fn reading_becomes(session: &Session, namespace: &str, code: Code) {
    let since = Instant::now();
    eventually(&format!("reading answers {code:?}"), IN_FORCE_WITHIN * 3, async || {
        (reading(session, namespace).await == code).then_some(())
    })
    .await;
    let took = since.elapsed();
    assert!(took < IN_FORCE_WITHIN + Duration::from_millis(500), "it took {took:?}");
}

/// What may not be seen is not found; a grant opens it, and its end closes it again.
pub async fn lifecycle(stage: &Stage) {
    let namespace = filled(stage).await;
    let (user, session) = stage.user(Role::User).await;
    assert_eq!(reading(&session, &namespace.name).await, Code::NotFound);
    let ns = &namespace.name;
    let grant = stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Read).await;
    reading_becomes(&session, ns, Code::Ok).await;
    assert_eq!(writing(&session, ns, 100).await, Code::PermissionDenied);
    let again = stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Read).await;
    assert_eq!(again.id, grant.id, "a second grant on the same resource replaces the first");
    let remove = RemoveGrantRequest { id: grant.id };
    stage.admin.grants().remove_grant(remove).await.unwrap();
    reading_becomes(&session, ns, Code::NotFound).await;
    assert_eq!(writing(&session, ns, 100).await, Code::NotFound);
}

/// Read < Write < Admin < Owner, on a dataset alone and through its namespace.
pub async fn levels(stage: &Stage) {
    let namespace = filled(stage).await;
    let ns = namespace.name.clone();
    let get = GetDatasetRequest { namespace: ns.clone(), name: "rows".into() };
    let dataset = stage.admin.datasets().get_dataset(get).await.unwrap().into_inner();
    let dataset = dataset.dataset.unwrap();
    let (user, session) = stage.user(Role::User).await;
    stage.grant(&user, ResourceKind::Dataset, &dataset.id, Level::Write).await;
    reading_becomes(&session, &ns, Code::Ok).await;
    assert_eq!(writing(&session, &ns, 100).await, Code::Ok);
    let delete = DeleteDatasetRequest { namespace: ns.clone(), name: "rows".into() };
    refused(session.datasets().delete_dataset(delete.clone()).await, Code::PermissionDenied);
    let sibling = put(&session, &ns, "other", vec![data::rows(0, 1)]).await.unwrap_err();
    assert!(matches!(sibling.code(), Code::NotFound | Code::PermissionDenied), "{sibling:?}");
    let (owner, owners_session) = stage.user(Role::User).await;
    stage.grant(&owner, ResourceKind::Namespace, &namespace.id, Level::Owner).await;
    reading_becomes(&owners_session, &ns, Code::Ok).await;
    owners_session.datasets().delete_dataset(delete).await.expect("an owner of the namespace");
    let (viewer, viewers_session) = stage.user(Role::Viewer).await;
    stage.grant(&viewer, ResourceKind::Namespace, &namespace.id, Level::Owner).await;
    let delete = DeleteNamespaceRequest { name: ns };
    refused(viewers_session.namespaces().delete_namespace(delete).await, Code::PermissionDenied);
}

/// A grant's end is looked at when the decision is made.
pub async fn expiry(stage: &Stage) {
    let namespace = filled(stage).await;
    let (user, session) = stage.user(Role::User).await;
    let request = AddGrantRequest {
        expire_time: Some((SystemTime::now() + Duration::from_secs(2)).into()),
        ..add(&user, &namespace.id, Level::Read)
    };
    stage.admin.grants().add_grant(request).await.unwrap();
    reading_becomes(&session, &namespace.name, Code::Ok).await;
    eventually("the grant's end", Duration::from_secs(5), async || {
        (reading(&session, &namespace.name).await == Code::NotFound).then_some(())
    })
    .await;
}

fn add(user: &User, namespace_id: &str, level: Level) -> AddGrantRequest {
    AddGrantRequest {
        user: user.name.clone(),
        resource: Some(Resource {
            kind: ResourceKind::Namespace.into(),
            id: namespace_id.to_owned(),
        }),
        level: level.into(),
        ..Default::default()
    }
}

/// Neither without Admin on the resource, nor more than the giver has, nor the last owner's.
pub async fn no_escalation(stage: &Stage) {
    let (_, owner) = stage.user(Role::User).await;
    let namespace = stage.namespace_of(&owner).await;
    let (writer, writers_session) = stage.user(Role::User).await;
    let (stranger, strangers_session) = stage.user(Role::User).await;
    owner.grants().add_grant(add(&writer, &namespace.id, Level::Write)).await.unwrap();
    let give = add(&stranger, &namespace.id, Level::Read);
    refused(writers_session.grants().add_grant(give.clone()).await, Code::PermissionDenied);
    refused(strangers_session.grants().add_grant(give).await, Code::NotFound);
    let (keeper, keepers_session) = stage.user(Role::User).await;
    owner.grants().add_grant(add(&keeper, &namespace.id, Level::Admin)).await.unwrap();
    let more = add(&stranger, &namespace.id, Level::Owner);
    refused(keepers_session.grants().add_grant(more).await, Code::PermissionDenied);
    keepers_session.grants().add_grant(add(&stranger, &namespace.id, Level::Read)).await.unwrap();
    let resource = add(&writer, &namespace.id, Level::Read).resource;
    let list = ListGrantsRequest { resource, ..Default::default() };
    refused(strangers_session.grants().list_grants(list.clone()).await, Code::PermissionDenied);
    let all = owner.grants().list_grants(list).await.unwrap().into_inner().grants;
    assert_eq!(all.len(), 4);
    let own = all.iter().find(|grant| grant.level == i32::from(Level::Owner)).unwrap();
    let remove = RemoveGrantRequest { id: own.id.clone() };
    refused(owner.grants().remove_grant(remove).await, Code::FailedPrecondition);
    let nowhere = add(&writer, &uuid::Uuid::now_v7().to_string(), Level::Read);
    refused(owner.grants().add_grant(nowhere).await, Code::NotFound);
}

/// Lists hold what may be seen, filtered in the query.
pub async fn lists(stage: &Stage) {
    let hidden = filled(stage).await;
    let shown = filled(stage).await;
    let (user, session) = stage.user(Role::User).await;
    stage.grant(&user, ResourceKind::Namespace, &shown.id, Level::Read).await;
    reading_becomes(&session, &shown.name, Code::Ok).await;
    // Other cases' public datasets may be among them, so only these two are looked at.
    let are_right = |names: &[String]| names.contains(&shown.name) && !names.contains(&hidden.name);
    let namespaces = session.namespaces().list_namespaces(ListNamespacesRequest::default()).await;
    let namespaces = namespaces.unwrap().into_inner().namespaces.into_iter();
    let names: Vec<String> = namespaces.map(|namespace| namespace.name).collect();
    assert!(are_right(&names), "{names:?}");
    let datasets = session.datasets().list_datasets(ListDatasetsRequest::default()).await;
    let datasets = datasets.unwrap().into_inner().datasets.into_iter();
    let names: Vec<String> = datasets.map(|dataset| dataset.namespace).collect();
    assert!(are_right(&names), "{names:?}");
    let get = GetNamespaceRequest { name: hidden.name.clone() };
    let seen = refused(session.namespaces().get_namespace(get).await, Code::NotFound);
    let nobodys = unique("ns");
    let get = GetNamespaceRequest { name: nobodys.clone() };
    let absent = refused(session.namespaces().get_namespace(get).await, Code::NotFound);
    let seen = seen.message().replace(&hidden.name, "it");
    assert_eq!(seen, absent.message().replace(&nobodys, "it"), "hidden and absent look alike");
}

/// Grants and denials are in the audit trail; only a global admin reads it.
pub async fn audit(stage: &Stage) {
    let namespace = filled(stage).await;
    let (user, session) = stage.user(Role::User).await;
    let grant = stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Read).await;
    reading_becomes(&session, &namespace.name, Code::Ok).await;
    assert_eq!(writing(&session, &namespace.name, 100).await, Code::PermissionDenied);
    let of = |principal: &str| ListAuditEventsRequest {
        principal: principal.to_owned(),
        page_size: 1_000,
        ..Default::default()
    };
    let granted = stage.admin.audit().list_audit_events(of("admin")).await.unwrap().into_inner();
    let is_grant = |event: &&AuditEvent| {
        event.action.ends_with("AddGrant")
            && event.outcome == i32::from(Outcome::Allowed)
            && (event.resource.contains(&namespace.id) || event.detail.contains(&grant.id))
    };
    assert!(granted.events.iter().any(|event| is_grant(&event)), "{:?}", granted.events);
    eventually("the denial in the audit trail", Duration::from_secs(10), async || {
        let events = stage.admin.audit().list_audit_events(of(&user.name)).await.unwrap();
        let denied = i32::from(Outcome::Denied);
        events.into_inner().events.into_iter().find(|event| event.outcome == denied)
    })
    .await;
    refused(session.audit().list_audit_events(of("admin")).await, Code::PermissionDenied);
    let create = CreateNamespaceRequest { name: "..".into(), ..Default::default() };
    refused(session.namespaces().create_namespace(create).await, Code::InvalidArgument);
}
