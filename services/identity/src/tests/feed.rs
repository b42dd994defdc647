//! What grant replicas are sent.

use identity_api::v1::grant_change::Change;
use tokio::time::timeout;
use tonic::Streaming;

use super::*;

async fn watch(server: &Server, since_revision: i64) -> Streaming<WatchGrantsResponse> {
    let request = server.as_catalog(WatchGrantsRequest { since_revision }).await;
    server.replica().watch_grants(request).await.unwrap().into_inner()
}

/// Reads to the end of a whole state, or one live message.
async fn next(stream: &mut Streaming<WatchGrantsResponse>) -> (bool, i64, Vec<Change>) {
    let (mut reset, mut changes) = (false, Vec::new());
    loop {
        let message = timeout(Duration::from_secs(1), stream.message())
            .await
            .expect("within a second")
            .unwrap()
            .unwrap();
        reset |= message.reset;
        changes.extend(message.changes.into_iter().map(|change| change.change.unwrap()));
        if !message.partial {
            return (reset, message.revision, changes);
        }
    }
}

async fn newest(server: &Server) -> i64 {
    let request = server.as_catalog(GetRevisionRequest {}).await;
    server.replica().get_revision(request).await.unwrap().into_inner().revision
}

#[tokio::test]
async fn a_replica_gets_the_whole_state_and_then_each_change() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        admin.new_user("bo", Role::User).await;
        let icons = dataset();
        server.put(&icons, None, &ana).await;
        admin
            .update_user(UpdateUserRequest {
                name: "bo".into(),
                disabled: Some(true),
                ..Default::default()
            })
            .await
            .unwrap();
        let mut stream = watch(&server, 0).await;
        let (reset, revision, changes) = next(&mut stream).await;
        assert_eq!(
            (reset, revision, changes.len()),
            (true, newest(&server).await, 2),
            "{changes:?}"
        );
        let Change::Grant(grant) = &changes[0] else { panic!("{changes:?}") };
        assert_eq!(
            (grant.user_id.as_str(), grant.level, grant.resource.as_ref()),
            (ana.id.as_str(), Level::Owner as i32, Some(&icons))
        );
        assert!(matches!(&changes[1], Change::DisabledPrincipalId(_)));

        let given = as_ana.give("bo", &icons, Level::Read).await.unwrap();
        let (reset, reached, changes) = next(&mut stream).await;
        assert_eq!((reset, reached), (false, given.revision));
        let id = given.grant.unwrap().id;
        assert!(matches!(&changes[..], [Change::Grant(grant)] if grant.id == id), "{changes:?}");
        let removed = as_ana.remove_grant(&id).await.unwrap();
        let (_, reached, changes) = next(&mut stream).await;
        assert_eq!((reached, &changes[..]), (removed, &[Change::RemovedGrantId(id)][..]));

        let token =
            as_ana.create_token(CreateTokenRequest::default()).await.unwrap().token.unwrap();
        as_ana.revoke(&token.id).await.unwrap();
        let (_, _, changes) = next(&mut stream).await;
        let [Change::RevokedToken(revoked)] = &changes[..] else { panic!("{changes:?}") };
        assert!(
            revoked.token_id == token.id
                && revoked.forget_time.unwrap().seconds > sql_store::now_micros() / 1_000_000 + 60
        );
        let mut late = watch(&server, 0).await;
        assert!(next(&mut late).await.2.contains(&changes[0]), "a new replica is told as well");
    })
    .await;
}

#[tokio::test]
async fn a_replica_goes_on_where_it_was_and_begins_anew_where_it_cannot() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        admin.new_user("bo", Role::User).await;
        let icons = dataset();
        let made = server.put(&icons, None, &ana).await;
        let given = as_ana.give("bo", &icons, Level::Read).await.unwrap().revision;
        let (reset, reached, changes) = next(&mut watch(&server, made).await).await;
        assert_eq!((reset, reached, changes.len()), (false, given, 1));
        let (reset, _, _) = next(&mut watch(&server, given + 5).await).await;
        assert!(reset, "of another database");
    })
    .await;
}

#[tokio::test]
async fn another_process_on_the_same_database_tells_it_within_a_second() {
    on_each(|server, admin, sql, data_dir| async move {
        let other = start(platform(&sql, &data_dir.join("other"))).await;
        let mut stream = watch(&other, 0).await;
        next(&mut stream).await;
        let (ana, _) = admin.new_user("ana", Role::User).await;
        let made = server.put(&dataset(), None, &ana).await;
        assert_eq!(next(&mut stream).await.1, made);
        // Both doors know both servers' keys and tokens.
        let jwt = admin.exchange("identity").await.unwrap().jwt;
        UsersServiceClient::new(other.transport.clone())
            .who_am_i(with_jwt(WhoAmIRequest {}, &jwt))
            .await
            .unwrap();
        let token = admin_token(&data_dir.join("other"));
        server.client(&token).who_am_i().await.unwrap();
        other.stop().await;
        admin.who_am_i().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_lagging_role_asks_and_is_told_the_same() {
    on_each(|server, admin, _, _| async move {
        let (ana, as_ana) = admin.new_user("ana", Role::User).await;
        let (vi, _) = admin.new_user("vi", Role::Viewer).await;
        let (vision, icons) = (namespace(), dataset());
        server.put(&vision, None, &ana).await;
        server.put(&icons, Some(&vision), &ana).await;
        as_ana.give("vi", &vision, Level::Write).await.unwrap();
        let check = async |principal_id: &str, token_id: &str, resources: Vec<Resource>| {
            let request = CheckAccessRequest {
                principal_id: principal_id.into(),
                token_id: token_id.into(),
                resources,
            };
            let request = server.as_catalog(request).await;
            let answer = server.replica().check_access(request).await.unwrap().into_inner();
            (answer.level(), answer.refused)
        };
        let chain = vec![icons.clone(), vision.clone()];
        assert_eq!(check(&ana.id, "", chain.clone()).await, (Level::Owner, false));
        assert_eq!(check(&vi.id, "", chain.clone()).await, (Level::Read, false), "a viewer reads");
        assert_eq!(check(&vi.id, "", vec![icons.clone()]).await, (Level::Unspecified, false));
        let stranger = uuid::Uuid::now_v7().to_string();
        assert_eq!(check(&stranger, "", chain.clone()).await, (Level::Unspecified, true));
        let token =
            as_ana.create_token(CreateTokenRequest::default()).await.unwrap().token.unwrap();
        assert_eq!(check(&ana.id, &token.id, chain.clone()).await, (Level::Owner, false));
        as_ana.revoke(&token.id).await.unwrap();
        assert_eq!(check(&ana.id, &token.id, chain).await, (Level::Unspecified, true));
    })
    .await;
}
