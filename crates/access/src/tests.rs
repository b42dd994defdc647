//! The replica against an identity in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use caller::{Caller, Refused, Secret};
use identity_api::v1 as api;
use identity_api::v1::grant_change::Change;
use ids::{GrantId, PrincipalId, TokenId};
use neighbours::Identity;
use options_api::v1::{Level, ResourceKind, Role};
use service_error::Code;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::replica::Patience;

use super::*;

struct House {
    identity: Identity,
    replica: GrantReplica,
    end: CancellationToken,
}

impl Drop for House {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

async fn house() -> House {
    house_with(Patience::default()).await
}

async fn house_with(patience: Patience) -> House {
    let identity = Identity::new("item-store");
    let end = CancellationToken::new();
    let (transport, tokens) = (identity.transport(), identity.tokens());
    let (replica, jobs) = GrantReplica::with_patience(transport, tokens, end.clone(), patience);
    for job in jobs {
        tokio::spawn(job.run);
    }
    replica.wait_for(1, Duration::from_secs(5)).await.unwrap();
    while replica.lag().is_none() {
        tokio::task::yield_now().await;
    }
    House { identity, replica, end }
}

impl House {
    async fn publish(&self, change: Change) {
        let revision = self.identity.publish(change);
        self.replica.wait_for(revision, Duration::from_secs(5)).await.unwrap();
    }
}

fn user(role: Role) -> Caller {
    Caller {
        principal: PrincipalId::new(),
        name: "ana".into(),
        role,
        read_only: false,
        token: Some(TokenId::new()),
        actor: None,
        service: false,
        jwt: Secret::new("jwt"),
        expires_at: i64::MAX,
    }
}

fn in_seconds(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: replica::now_seconds() + seconds, nanos: 0 }
}

fn grant(caller: &Caller, resource: Resource, level: Level, expires_in: Option<i64>) -> api::Grant {
    api::Grant {
        id: GrantId::new().to_string(),
        user_id: caller.principal.to_string(),
        resource: Some(resource.into()),
        level: level as i32,
        expire_time: expires_in.map(in_seconds),
        ..Default::default()
    }
}

const SUBJECT: Subject<'static> = Subject {
    kind: "dataset",
    name: "vision/icons",
    action: "quarry.items.v1.ItemsService/ListItems",
};

#[tokio::test]
async fn a_grant_counts_once_known_and_no_longer_once_removed() {
    let house = house().await;
    let (ana, dataset) = (user(Role::User), Resource::dataset(Uuid::now_v7()));
    let chain = [dataset, Resource::namespace(Uuid::now_v7())];
    assert_eq!(house.replica.level(&ana, &chain, false).await.unwrap(), None);

    let grant = grant(&ana, chain[1], Level::Write, None);
    house.publish(Change::Grant(grant.clone())).await;
    assert_eq!(house.replica.level(&ana, &chain, false).await.unwrap(), Some(Level::Write));
    let visible = house.replica.visible(&ana, ResourceKind::Namespace).await.unwrap();
    assert_eq!(visible, Visible::Ids(vec![chain[1].id]));

    house.publish(Change::RemovedGrantId(grant.id)).await;
    assert_eq!(house.replica.level(&ana, &chain, false).await.unwrap(), None);
}

#[tokio::test]
async fn expiry_is_looked_at_when_the_decision_is_made() {
    let house = house().await;
    let (ana, dataset) = (user(Role::User), Resource::dataset(Uuid::now_v7()));
    house.publish(Change::Grant(grant(&ana, dataset, Level::Owner, Some(-1)))).await;
    house.publish(Change::Grant(grant(&ana, dataset, Level::Read, Some(60)))).await;
    assert_eq!(house.replica.level(&ana, &[dataset], false).await.unwrap(), Some(Level::Read));
}

#[tokio::test]
async fn roles_and_reading_tokens_bound_the_level() {
    let house = house().await;
    let dataset = Resource::dataset(Uuid::now_v7());
    let level = async |caller: &Caller, public| {
        house.replica.level(caller, &[dataset], public).await.unwrap()
    };
    assert_eq!(level(&user(Role::Admin), false).await, Some(Level::Owner));
    let reading = Caller { read_only: true, ..user(Role::Admin) };
    assert_eq!(level(&reading, false).await, Some(Level::Read));
    assert_eq!(level(&user(Role::Viewer), true).await, Some(Level::Read));
    assert_eq!(level(&user(Role::User), false).await, None);
    let viewer = user(Role::Viewer);
    house.publish(Change::Grant(grant(&viewer, dataset, Level::Owner, None))).await;
    assert_eq!(level(&viewer, false).await, Some(Level::Read));
}

#[tokio::test]
async fn what_may_not_be_seen_is_not_found_and_recorded() {
    let house = house().await;
    let (ana, dataset) = (user(Role::User), Resource::dataset(Uuid::now_v7()));
    let require = async |need| house.replica.require(&ana, need, &[dataset], false, SUBJECT).await;
    for _ in 0..3 {
        assert_eq!(require(Level::Read).await.unwrap_err().code(), Code::NotFound);
    }
    house.publish(Change::Grant(grant(&ana, dataset, Level::Read, None))).await;
    assert_eq!(require(Level::Write).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(require(Level::Read).await.unwrap(), Level::Read);

    let mut denials = house.identity.denials();
    let whole = |all: &Vec<api::Denial>| all.iter().map(|denial| denial.count).sum::<i64>() == 4;
    let all = tokio::time::timeout(Duration::from_secs(10), denials.wait_for(whole)).await;
    let all = all.unwrap().unwrap();
    assert!(all.iter().all(|denial| denial.principal_id == ana.principal.to_string()));
    assert!(all.iter().all(|denial| denial.action == SUBJECT.action));
    assert!(all.iter().any(|denial| denial.resource == dataset.to_string()));
}

#[tokio::test]
async fn disabled_principals_revoked_tokens_and_old_roles_are_refused() {
    let house = house().await;
    let (ana, bob, eve) = (user(Role::User), user(Role::User), user(Role::Admin));
    house.publish(Change::DisabledPrincipalId(ana.principal.to_string())).await;
    let token_id = bob.token.unwrap().to_string();
    let forget_time = Some(in_seconds(60));
    house.publish(Change::RevokedToken(api::RevokedToken { token_id, forget_time })).await;
    let principal_id = eve.principal.to_string();
    let change = api::RoleChange { principal_id, role: Role::User as i32, forget_time };
    house.publish(Change::RoleChange(change)).await;
    for caller in [&ana, &bob, &eve] {
        assert!(house.replica.refused(caller));
    }
    assert!(!house.replica.refused(&user(Role::Admin)));
    assert!(!house.replica.refused(&Caller { role: Role::User, ..eve }));
    house.publish(Change::EnabledPrincipalId(ana.principal.to_string())).await;
    assert!(!house.replica.refused(&ana));
}

#[tokio::test]
async fn a_stale_replica_asks_and_without_an_answer_goes_on_for_a_while() {
    let patience = Patience { ask_after: Duration::ZERO, deny_after: Duration::MAX };
    let house = house_with(patience).await;
    let (ana, dataset) = (user(Role::User), Resource::dataset(Uuid::now_v7()));
    house.publish(Change::Grant(grant(&ana, dataset, Level::Read, None))).await;
    // What the replica has not heard of tells who decided.
    let identity = &house.identity;
    let write = grant(&ana, dataset, Level::Write, None);
    identity.publish_past_open_streams(Change::Grant(write));
    assert_eq!(house.replica.level(&ana, &[dataset], false).await.unwrap(), Some(Level::Write));
    assert_eq!(identity.calls.count("CheckAccess"), 1);

    let disabled = Change::DisabledPrincipalId(ana.principal.to_string());
    identity.publish_past_open_streams(disabled);
    let refused = house.replica.level(&ana, &[dataset], false).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    identity.calls.set_away(true);
    assert_eq!(house.replica.level(&ana, &[dataset], false).await.unwrap(), Some(Level::Read));
}

#[tokio::test]
async fn a_replica_out_of_patience_denies() {
    let patience = Patience { ask_after: Duration::ZERO, deny_after: Duration::ZERO };
    let house = house_with(patience).await;
    house.identity.calls.set_away(true);
    let dataset = Resource::dataset(Uuid::now_v7());
    let error = house.replica.level(&user(Role::Admin), &[dataset], true).await.unwrap_err();
    assert!(error.reason_is("IDENTITY_AWAY"), "{error}");
    assert!(house.replica.visible(&user(Role::User), ResourceKind::Dataset).await.is_err());
    assert!(house.replica.readiness().check().await.is_err());
}

#[tokio::test]
async fn a_stream_that_brings_nothing_is_opened_anew() {
    let house = house().await;
    let (ana, dataset) = (user(Role::User), Resource::dataset(Uuid::now_v7()));
    let change = Change::Grant(grant(&ana, dataset, Level::Read, None));
    let revision = house.identity.publish_past_open_streams(change);
    house.replica.wait_for(revision, Duration::from_secs(20)).await.unwrap();
    assert_eq!(house.replica.level(&ana, &[dataset], false).await.unwrap(), Some(Level::Read));
}
