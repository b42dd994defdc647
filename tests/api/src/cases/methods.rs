//! Every method × every role, from the descriptor sets: what the contract states is what
//! the door does. A new service is a set more.

use std::time::Duration;

use bytes::Bytes;
use harness::bytes_codec::BytesCodec;
use harness::{Session, is_going};
use http::uri::PathAndQuery;
use options_api::NeedTable;
use options_api::v1::{Authz, Role};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};

use crate::stage::Stage;

const SETS: [&[u8]; 7] = [
    identity_api::FILE_DESCRIPTOR_SET,
    catalog_api::FILE_DESCRIPTOR_SET,
    items_api::FILE_DESCRIPTOR_SET,
    vectors_api::FILE_DESCRIPTOR_SET,
    ops_api::FILE_DESCRIPTOR_SET,
    files_api::FILE_DESCRIPTOR_SET,
    models_api::FILE_DESCRIPTOR_SET,
];

/// Calls a method with an empty message, whatever its shape; an answer is `Ok`. A watch
/// whose server was restarted meanwhile is called again, as its clients do.
async fn call(session: &Session, path: &str) -> Result<(), Status> {
    loop {
        match call_once(session, path).await {
            Err(status) if is_going(&status) => {}
            outcome => return outcome,
        }
    }
}

async fn call_once(session: &Session, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(session.authed());
    grpc.ready().await.map_err(|err| Status::unavailable(err.to_string()))?;
    let path: PathAndQuery = path.parse().expect("a path");
    let request = Request::new(futures::stream::iter([Bytes::new()]));
    let mut answers = grpc.streaming(request, path, BytesCodec).await?.into_inner();
    // A watch has no end: what it would refuse, it refuses at once.
    let all = async {
        while answers.message().await?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(2), all).await.unwrap_or(Ok(()))
}

/// Who calls: nobody, or somebody with a global role.
type Caller<'a> = (Option<Role>, &'a Session);

fn breach(need: &Authz, role: Option<Role>, outcome: &Result<(), Status>) -> Option<String> {
    let code = outcome.as_ref().map_or_else(Status::code, |()| Code::Ok);
    let is_enough = role.is_some_and(|role| i32::from(role) >= need.role);
    let expected = if need.service_only {
        // Closed to whoever comes through the public door; how it says so does not matter.
        let closed =
            [Code::Unauthenticated, Code::PermissionDenied, Code::NotFound, Code::Unimplemented];
        closed.contains(&code).then_some(())
    } else if need.public {
        // Asks for a credential of another kind in the message, which was empty.
        (code != Code::Internal && code != Code::Unknown).then_some(())
    } else if role.is_none() {
        (code == Code::Unauthenticated).then_some(())
    } else if is_enough {
        // An empty message is wrong or leads nowhere, but it came through.
        let closed = [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented];
        let broken = [Code::Internal, Code::Unknown, Code::Unavailable];
        (!closed.contains(&code) && !broken.contains(&code)).then_some(())
    } else {
        (code == Code::PermissionDenied).then_some(())
    };
    expected.is_none().then(|| format!("{role:?} got {outcome:?}"))
}

/// Walks the whole table.
pub async fn walk(stage: &Stage) {
    let needs = NeedTable::from_descriptor_sets(&SETS).expect("a need on every method");
    let (_, viewer) = stage.user(Role::Viewer).await;
    let (_, user) = stage.user(Role::User).await;
    let anonymous = stage.platform.anonymous();
    let callers: [Caller<'_>; 4] = [
        (None, &anonymous),
        (Some(Role::Viewer), &viewer),
        (Some(Role::User), &user),
        (Some(Role::Admin), &stage.admin),
    ];
    let mut breaches = Vec::new();
    for (path, need) in needs.iter() {
        for (role, session) in callers {
            let outcome = call(session, path).await;
            breaches.extend(breach(need, role, &outcome).map(|said| format!("{path}: {said}")));
        }
    }
    breaches.sort();
    assert!(breaches.is_empty(), "methods × roles:\n    {}", breaches.join("\n    "));
    assert!(needs.iter().count() > 30, "the table is there");
}

/// A method or service that nobody has is UNIMPLEMENTED, with and without a token, and a
/// service that is not named in any contract is not passed on.
pub async fn unknown(stage: &Stage) {
    for path in [
        "/quarry.items.v1.ItemsService/Nothing",
        "/quarry.items.v9.ItemsService/ListItems",
        "/no.such.Service/Call",
    ] {
        let status = call(&stage.admin, path).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
        let status = call(&stage.platform.anonymous(), path).await.unwrap_err();
        let closed = [Code::Unimplemented, Code::Unauthenticated];
        assert!(closed.contains(&status.code()), "{path}: {status:?}");
    }
}
