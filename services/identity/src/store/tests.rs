//! The schema on every database that this machine offers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use futures::future::try_join_all;
use ids::{GrantId, PrincipalId};
use sql_store::{now_micros, testing};

use super::*;
use crate::model::{
    AuditEvent, Change, Grant, Kind, Level, Outcome, Principal, Resource, ResourceKind, Role,
};

fn somebody(name: &str) -> Principal {
    Principal {
        id: PrincipalId::new(),
        name: name.to_owned(),
        display_name: String::new(),
        kind: Kind::User,
        role: Role::User,
        disabled: false,
        created_at: now_micros(),
        revision: 1,
    }
}

fn owner_grant(principal: PrincipalId) -> Grant {
    let resource = Resource { kind: ResourceKind::Dataset, id: uuid::Uuid::now_v7() };
    Grant {
        id: GrantId::new(),
        principal,
        resource,
        level: Level::Owner,
        can_share: true,
        expires_at: None,
        created_at: 1,
    }
}

#[tokio::test]
async fn the_schema_goes_up_down_up() {
    let dir = tempfile::tempdir().unwrap();
    for settings in testing::databases(dir.path()).await.unwrap() {
        migrate(&settings).await.unwrap();
        let sql = SqlStore::open(&settings, SCHEMA).await.unwrap();
        sql.revert::<migration::Migrator>(None).await.unwrap();
        assert!(
            migration_status(&settings).await.unwrap().iter().all(|migration| !migration.applied)
        );
        let store = Store::open(&settings).await.unwrap();
        assert_eq!(store.revision().await.unwrap(), 0);
        assert!(
            migration_status(&settings).await.unwrap().iter().all(|migration| migration.applied)
        );
    }
}

#[tokio::test]
async fn a_taken_name_is_said_and_a_dropped_change_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for settings in testing::databases(dir.path()).await.unwrap() {
        let store = Store::open(&settings).await.unwrap();
        let ana = somebody("ana");
        let dropped = store.change().await.unwrap();
        dropped.insert_principal(&ana).await.unwrap();
        drop(dropped);
        assert_eq!(store.principal_named("ana").await.unwrap(), None);
        let tx = store.change().await.unwrap();
        tx.insert_principal(&ana).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.principal(ana.id).await.unwrap(), Some(ana));
        let tx = store.change().await.unwrap();
        let error = tx.insert_principal(&somebody("ana")).await.unwrap_err();
        assert_eq!(error.code(), service_error::Code::AlreadyExists);
    }
}

#[tokio::test]
async fn revisions_have_no_gap_however_many_change_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for settings in testing::databases(dir.path()).await.unwrap() {
        let store = Store::open(&settings).await.unwrap();
        let ana = somebody("ana");
        let tx = store.change().await.unwrap();
        tx.insert_principal(&ana).await.unwrap();
        tx.commit().await.unwrap();
        let changes = (0..100).map(|number| {
            let (store, grant) = (store.clone(), owner_grant(ana.id));
            async move {
                let tx = store.change().await?;
                tx.put_grant(&grant).await?;
                tx.log_change(&Change::Grant(grant), 1).await?;
                // Every third one changes its mind.
                if number % 3 == 0 { Ok(()) } else { tx.commit().await }
            }
        });
        try_join_all(changes).await.unwrap();
        let (reached, changes) = store.changes_after(0, 1_000, 0).await.unwrap();
        assert_eq!((reached, changes.len()), (66, 66));
        let (reached, changes) = store.changes_after(60, 4, 0).await.unwrap();
        assert_eq!((reached, changes.len()), (64, 4));
    }
}

#[tokio::test]
async fn a_removed_grants_older_change_is_left_out_and_the_log_keeps_its_newest() {
    let dir = tempfile::tempdir().unwrap();
    for settings in testing::databases(dir.path()).await.unwrap() {
        let store = Store::open(&settings).await.unwrap();
        let ana = somebody("ana");
        let grant = owner_grant(ana.id);
        let tx = store.change().await.unwrap();
        tx.insert_principal(&ana).await.unwrap();
        tx.put_grant(&grant).await.unwrap();
        tx.log_change(&Change::Grant(grant.clone()), 1).await.unwrap();
        tx.delete_grant(grant.id).await.unwrap();
        tx.log_change(&Change::Removed(grant.id), 2).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(
            store.changes_after(0, 10, 0).await.unwrap(),
            (2, vec![Change::Removed(grant.id)])
        );
        let tx = store.change().await.unwrap();
        tx.forget_changes(i64::MAX).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.oldest_revision().await.unwrap(), Some(2));
    }
}

#[tokio::test]
async fn alike_denials_are_one_row_and_allowed_rows_are_each_their_own() {
    let dir = tempfile::tempdir().unwrap();
    for settings in testing::databases(dir.path()).await.unwrap() {
        let store = Store::open(&settings).await.unwrap();
        let event = AuditEvent {
            number: 0,
            at: 60_000_000,
            principal: Some(PrincipalId::new()),
            principal_name: "ana".into(),
            service: "catalog".into(),
            action: "a.B/C".into(),
            resource: "dataset/1".into(),
            outcome: Outcome::Denied,
            detail: "LEVEL_TOO_LOW".into(),
            count: 3,
        };
        let tx = store.change().await.unwrap();
        tx.audit_denial(&event).await.unwrap();
        tx.audit_denial(&event).await.unwrap();
        tx.audit_denial(&AuditEvent { at: 120_000_000, ..event.clone() }).await.unwrap();
        for _ in 0..2 {
            tx.audit(&AuditEvent { outcome: Outcome::Allowed, ..event.clone() }).await.unwrap();
        }
        tx.commit().await.unwrap();
        let counts = |events: Vec<AuditEvent>| {
            events.iter().map(|event| (event.number, event.count)).collect::<Vec<_>>()
        };
        let denied =
            store.audit_events(event.principal, Some(Outcome::Denied), None, 10).await.unwrap();
        assert_eq!(counts(denied), [(2, 3), (1, 6)]);
        let all = store.audit_events(None, None, Some(4), 10).await.unwrap();
        assert_eq!(counts(all), [(3, 3), (2, 3), (1, 6)]);
    }
}
