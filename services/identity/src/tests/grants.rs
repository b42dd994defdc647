//! Grants: who gives, who takes, who sees.

use super::*;

#[tokio::test]
async fn an_owner_shares_and_nobody_gives_more_than_it_has() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        let (_, as_bo) = admin.new_user("bo", Role::User).await;
        admin.new_user("cy", Role::User).await;
        let icons = dataset();
        server.put(&icons, None, &ana).await;
        assert_eq!(
            code(as_bo.give("cy", &icons, Level::Read).await),
            Code::NotFound,
            "bo may not even see it"
        );
        as_ana.give("bo", &icons, Level::Write).await.unwrap();
        assert_eq!(reason(as_bo.give("cy", &icons, Level::Read).await), "GRANT_NOT_YOURS_TO_GIVE");
        let sharing = AddGrantRequest {
            user: "bo".into(),
            resource: Some(icons.clone()),
            level: Level::Write as i32,
            can_share: true,
            ..Default::default()
        };
        let shared = as_ana.add_grant(sharing).await.unwrap().grant.unwrap();
        as_bo.give("cy", &icons, Level::Write).await.unwrap();
        assert_eq!(reason(as_bo.give("cy", &icons, Level::Admin).await), "GRANT_NOT_YOURS_TO_GIVE");
        assert_eq!(
            code(
                as_bo
                    .list_grants(ListGrantsRequest {
                        resource: Some(icons.clone()),
                        ..Default::default()
                    })
                    .await
            ),
            Code::PermissionDenied
        );
        let listed = as_ana
            .list_grants(ListGrantsRequest { resource: Some(icons.clone()), ..Default::default() })
            .await
            .unwrap()
            .grants;
        let mut users: Vec<_> =
            listed.iter().map(|grant| (grant.user.as_str(), grant.level)).collect();
        users.sort_unstable();
        assert_eq!(
            users,
            [
                ("ana", Level::Owner as i32),
                ("bo", Level::Write as i32),
                ("cy", Level::Write as i32)
            ]
        );
        as_ana.remove_grant(&shared.id).await.unwrap();
        assert_eq!(code(as_bo.give("cy", &icons, Level::Read).await), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_namespaces_admin_is_one_of_its_datasets() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        let (bo, as_bo) = admin.new_user("bo", Role::User).await;
        admin.new_user("cy", Role::User).await;
        let (vision, icons) = (namespace(), dataset());
        server.put(&vision, None, &ana).await;
        server.put(&icons, Some(&vision), &bo).await;
        as_ana.give("cy", &icons, Level::Write).await.unwrap();
        assert_eq!(
            code(as_bo.give("cy", &vision, Level::Read).await),
            Code::NotFound,
            "not the other way round"
        );
    })
    .await;
}

#[tokio::test]
async fn the_last_owner_stays_one() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        admin.new_user("bo", Role::User).await;
        let icons = dataset();
        server.put(&icons, None, &ana).await;
        let own = as_ana.list_grants(ListGrantsRequest::default()).await.unwrap().grants.remove(0);
        assert_eq!(reason(as_ana.remove_grant(&own.id).await), "LAST_OWNER");
        assert_eq!(reason(admin.remove_grant(&own.id).await), "LAST_OWNER");
        assert_eq!(reason(as_ana.give("ana", &icons, Level::Read).await), "LAST_OWNER");
        let soon =
            prost_types::Timestamp { seconds: sql_store::now_micros() / 1_000_000 + 60, nanos: 0 };
        let passing = AddGrantRequest {
            user: "bo".into(),
            resource: Some(icons.clone()),
            level: Level::Owner as i32,
            expire_time: Some(soon),
            ..Default::default()
        };
        as_ana.add_grant(passing).await.unwrap();
        assert_eq!(
            reason(as_ana.remove_grant(&own.id).await),
            "LAST_OWNER",
            "an owner who expires is none"
        );
        as_ana.give("bo", &icons, Level::Owner).await.unwrap();
        as_ana.remove_grant(&own.id).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_made_resource_is_made_once_and_a_deleted_one_stays_away() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        let icons = dataset();
        let request = PutResourceRequest {
            event_id: EventId::new().to_string(),
            resource: Some(icons.clone()),
            parent: None,
            owner_id: ana.id.clone(),
            deleted: false,
        };
        let put = async |request: &PutResourceRequest| {
            let request = server.as_catalog(request.clone()).await;
            server.replica().put_resource(request).await.unwrap().into_inner().revision
        };
        let revision = put(&request).await;
        assert_eq!(put(&request).await, revision, "the same event");
        let again = PutResourceRequest { event_id: EventId::new().to_string(), ..request.clone() };
        put(&again).await;
        let own =
            async || as_ana.list_grants(ListGrantsRequest::default()).await.unwrap().grants.len();
        assert_eq!(own().await, 1);
        let gone = PutResourceRequest {
            event_id: EventId::new().to_string(),
            deleted: true,
            ..request.clone()
        };
        assert_eq!(put(&gone).await, revision + 1);
        assert_eq!(own().await, 0);
        let late = PutResourceRequest { event_id: EventId::new().to_string(), ..request };
        put(&late).await;
        assert_eq!(own().await, 0);
        assert_eq!(code(admin.give("ana", &icons, Level::Read).await), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn every_change_and_denial_is_in_the_audit() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        let (_, as_bo) = admin.new_user("bo", Role::User).await;
        let icons = dataset();
        server.put(&icons, None, &ana).await;
        let given = as_ana.give("bo", &icons, Level::Read).await.unwrap().grant.unwrap();
        as_ana.remove_grant(&given.id).await.unwrap();
        let of_ana = admin
            .audit(ListAuditEventsRequest { principal: "ana".into(), ..Default::default() })
            .await;
        let told: Vec<_> = of_ana
            .iter()
            .map(|event| (event.action.rsplit('/').next().unwrap(), event.detail.as_str()))
            .collect();
        assert_eq!(told, [("RemoveGrant", "read of bo"), ("AddGrant", "read to bo")]);
        assert_eq!(of_ana[1].resource, format!("dataset/{}", icons.id));
        let all = admin.audit(ListAuditEventsRequest::default()).await;
        for action in ["CreateUser", "CreateToken", "PutResource"] {
            assert!(all.iter().any(|event| event.action.ends_with(action)), "{action}");
        }
        // Denied by the use case, and by the guard.
        for _ in 0..3 {
            as_bo.give("ana", &icons, Level::Read).await.unwrap_err();
            as_bo.create_user("x", Role::User).await.unwrap_err();
        }
        server.client("qpat_nonsense").exchange("identity").await.unwrap_err();
        let denied = || {
            admin.audit(ListAuditEventsRequest {
                outcome: Outcome::Denied as i32,
                ..Default::default()
            })
        };
        let count = |events: &[AuditEvent], action: &str| -> i64 {
            events
                .iter()
                .filter(|event| event.action.ends_with(action))
                .map(|event| event.count)
                .sum()
        };
        let began = Instant::now();
        let mut events = denied().await;
        while count(&events, "AddGrant") < 3
            || count(&events, "CreateUser") < 3
            || count(&events, "ExchangeToken") < 1
        {
            assert!(began.elapsed() < Duration::from_secs(3), "{events:?}");
            events = denied().await;
        }
        assert!(
            events.iter().filter(|event| event.principal_name == "bo").count() <= 4,
            "counted by the minute: {events:?}"
        );
        server.stop().await;
    })
    .await;
}
