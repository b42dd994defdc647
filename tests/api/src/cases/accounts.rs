//! Users and their tokens.

use std::time::{Duration, Instant};

use catalog_api::v1::{CreateNamespaceRequest, ListNamespacesRequest};
use harness::{Session, eventually};
use identity_api::v1::{
    CreateTokenRequest, CreateUserRequest, GetUserRequest, ListTokensRequest, ListUsersRequest,
    RevokeTokenRequest, TokenScope, UpdateUserRequest, WhoAmIRequest,
};
use options_api::v1::Role;
use tonic::Code;

use crate::refusal::refused;
use crate::stage::{Stage, unique};

/// A change to who may call is in force everywhere within this time.
pub const IN_FORCE_WITHIN: Duration = Duration::from_secs(1);

/// Waits until a session is refused as nobody, and checks that it took no longer than promised.
async fn refused_soon(session: &Session, since: Instant) {
    let what = "the session refused";
    eventually(what, IN_FORCE_WITHIN * 3, async || {
        let answer = session.namespaces().list_namespaces(ListNamespacesRequest::default()).await;
        answer.err().filter(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    let took = since.elapsed();
    assert!(took < IN_FORCE_WITHIN + Duration::from_millis(500), "it took {took:?}");
}

/// A user is made, found, renamed, disabled, and enabled again.
pub async fn users(stage: &Stage) {
    let (user, session) = stage.user(Role::Viewer).await;
    let who = session.users().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!(who.user.unwrap().name, user.name);
    assert!(!who.read_only);
    let mut users = stage.admin.users();
    let twice = CreateUserRequest { name: user.name.clone(), ..Default::default() };
    refused(users.create_user(twice).await, Code::AlreadyExists);
    for name in ["", "a/b", "..", "a\0b", &"u".repeat(300)] {
        let request = CreateUserRequest { name: name.into(), ..Default::default() };
        refused(users.create_user(request).await, Code::InvalidArgument);
    }
    let all = ListUsersRequest { page_size: 1_000, ..Default::default() };
    let all = users.list_users(all).await.unwrap().into_inner().users;
    assert!(all.iter().any(|other| other.id == user.id));
    let rename = UpdateUserRequest {
        name: user.name.clone(),
        display_name: Some("Somebody".into()),
        revision: Some(user.revision),
        ..Default::default()
    };
    let renamed = users.update_user(rename.clone()).await.unwrap().into_inner().user.unwrap();
    assert_eq!(renamed.display_name, "Somebody");
    assert!(renamed.revision > user.revision);
    refused(users.update_user(rename).await, Code::Aborted);
    let since = Instant::now();
    let disable = |disabled| UpdateUserRequest {
        name: user.name.clone(),
        disabled: Some(disabled),
        ..Default::default()
    };
    users.update_user(disable(true)).await.unwrap();
    refused_soon(&session, since).await;
    users.update_user(disable(false)).await.unwrap();
    eventually("the session accepted again", IN_FORCE_WITHIN * 3, async || {
        session.namespaces().list_namespaces(ListNamespacesRequest::default()).await.ok()
    })
    .await;
    let nobody = GetUserRequest { name: "nobody-here".into() };
    refused(users.get_user(nobody).await, Code::NotFound);
}

/// Somebody can always administer the platform.
pub async fn last_admin(stage: &Stage) {
    for change in [
        UpdateUserRequest { name: "admin".into(), disabled: Some(true), ..Default::default() },
        UpdateUserRequest {
            name: "admin".into(),
            role: Some(Role::Viewer.into()),
            ..Default::default()
        },
    ] {
        refused(stage.admin.users().update_user(change).await, Code::FailedPrecondition);
    }
}

/// A token is shown once; after its revocation it is refused by every role within a second.
pub async fn tokens(stage: &Stage) {
    let (user, session) = stage.user(Role::User).await;
    let request = CreateTokenRequest { description: "laptop".into(), ..Default::default() };
    let made = session.tokens().create_token(request).await.unwrap().into_inner();
    assert!(made.secret.starts_with("qpat_"), "a secret that scanners know by its prefix");
    let token = made.token.unwrap();
    assert_eq!((token.user.as_str(), token.description.as_str()), (user.name.as_str(), "laptop"));
    let list = session.tokens().list_tokens(ListTokensRequest::default()).await.unwrap();
    let list = list.into_inner().tokens;
    assert!(list.iter().any(|listed| listed.id == token.id));
    assert!(!format!("{list:?}").contains(&made.secret));
    let other = stage.platform.session(&made.secret);
    other.namespaces().list_namespaces(ListNamespacesRequest::default()).await.unwrap();
    let since = Instant::now();
    let revoke = RevokeTokenRequest { id: token.id.clone() };
    session.tokens().revoke_token(revoke.clone()).await.unwrap();
    refused_soon(&other, since).await;
    session.tokens().revoke_token(revoke).await.expect("revoking twice is no error");
    session.namespaces().list_namespaces(ListNamespacesRequest::default()).await.unwrap();
}

/// A read-only token reads as its owner and changes nothing.
pub async fn read_only(stage: &Stage) {
    let (user, owner) = stage.user(Role::User).await;
    let namespace = stage.namespace_of(&owner).await;
    let secret = stage.token(&user.name, TokenScope::ReadOnly).await;
    let session = stage.platform.session(&secret);
    let who = session.users().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert!(who.read_only);
    let list = session.namespaces().list_namespaces(ListNamespacesRequest::default()).await;
    assert!(list.unwrap().into_inner().namespaces.iter().any(|ns| ns.id == namespace.id));
    let create = CreateNamespaceRequest { name: unique("ns"), ..Default::default() };
    refused(session.namespaces().create_namespace(create).await, Code::PermissionDenied);
    let more = CreateTokenRequest::default();
    refused(session.tokens().create_token(more).await, Code::PermissionDenied);
    let rows = vec![harness::data::rows(0, 10)];
    let put = harness::put(&session, &namespace.name, "rows", rows).await.unwrap_err();
    assert_eq!(put.code(), Code::PermissionDenied, "{put:?}");
}

/// Whatever is wrong with a token, the answer is the same and tells nothing about it.
pub async fn bad_tokens(stage: &Stage) {
    let (user, _) = stage.user(Role::User).await;
    let good = stage.token(&user.name, TokenScope::Full).await;
    let cut = &good[..good.len() - 1];
    let mut changed = good.clone().into_bytes();
    let middle = changed.len() / 2;
    changed[middle] = if changed[middle] == b'a' { b'b' } else { b'a' };
    let changed = String::from_utf8(changed).unwrap();
    let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInJvbGUiOiJhZG1pbiJ9.";
    for token in [cut, &changed, "", "qpat_", "admin", jwt, &"x".repeat(4_000)] {
        let session = stage.platform.session(token);
        let answer = session.namespaces().list_namespaces(ListNamespacesRequest::default()).await;
        let status = refused(answer, Code::Unauthenticated);
        assert!(token.len() < 8 || !status.message().contains(token), "it repeats the token");
        assert_eq!(session.get("/v1/namespaces").await.status, 401);
    }
    let short =
        CreateTokenRequest { user: user.name, lifetime_seconds: Some(1), ..Default::default() };
    let short = stage.admin.tokens().create_token(short).await.unwrap().into_inner().secret;
    let session = stage.platform.session(&short);
    session.namespaces().list_namespaces(ListNamespacesRequest::default()).await.unwrap();
    eventually("an expired token refused", Duration::from_secs(4), async || {
        let answer = session.namespaces().list_namespaces(ListNamespacesRequest::default()).await;
        answer.err().filter(|status| status.code() == Code::Unauthenticated)
    })
    .await;
    let negative = CreateTokenRequest { lifetime_seconds: Some(-1), ..Default::default() };
    refused(stage.admin.tokens().create_token(negative).await, Code::InvalidArgument);
}

/// Tokens of others are none of a user's business.
pub async fn foreign_tokens(stage: &Stage) {
    let (victim, victims_session) = stage.user(Role::User).await;
    let (_, session) = stage.user(Role::User).await;
    let make = CreateTokenRequest { user: victim.name.clone(), ..Default::default() };
    let made = session.tokens().create_token(make).await.unwrap_err();
    assert!(matches!(made.code(), Code::PermissionDenied | Code::NotFound), "{made:?}");
    let list = ListTokensRequest { user: victim.name, ..Default::default() };
    let listed = session.tokens().list_tokens(list).await.unwrap_err();
    assert!(matches!(listed.code(), Code::PermissionDenied | Code::NotFound), "{listed:?}");
    let own = victims_session.tokens().list_tokens(ListTokensRequest::default()).await.unwrap();
    let id = own.into_inner().tokens[0].id.clone();
    refused(session.tokens().revoke_token(RevokeTokenRequest { id }).await, Code::NotFound);
}
