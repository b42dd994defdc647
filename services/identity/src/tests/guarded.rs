//! Every method with every kind of caller.

use http_body_util::BodyExt;
use options_api::NeedTable;
use tonic::body::Body;
use tower::ServiceExt;

use super::*;

/// Calls a method with an empty message, which every proto method can read.
async fn call(server: &Server, path: &str, jwt: Option<&str>) -> Code {
    let mut request = http::Request::builder()
        .method("POST")
        .uri(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(jwt) = jwt {
        request = request.header("authorization", format!("Bearer {jwt}"));
    }
    let empty_message = http_body_util::Full::from(vec![0u8; 5]);
    let request = request.body(Body::new(empty_message)).unwrap();
    let response = server.transport.clone().oneshot(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status.code();
    }
    // A stream that is let in may not end: its head is enough.
    let Ok(frames) =
        tokio::time::timeout(Duration::from_millis(200), response.into_body().collect()).await
    else {
        return Code::Ok;
    };
    let trailers = frames.unwrap().trailers().cloned().unwrap_or_default();
    Status::from_header_map(&trailers).map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn every_method_lets_in_whom_its_need_says_and_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let server = start(platform(&SqlSettings::sqlite(root.path()), root.path())).await;
    let admin = server.client(&admin_token(root.path()));
    let reading = CreateTokenRequest { scope: TokenScope::ReadOnly as i32, ..Default::default() };
    let reading = server.client(&admin.create_token(reading).await.unwrap().secret);
    let jwt = async |client: &Client| client.exchange("identity").await.unwrap().jwt;
    let viewer = jwt(&admin.new_user("vi", Role::Viewer).await.1).await;
    let user = jwt(&admin.new_user("ana", Role::User).await.1).await;
    let (admin, reading) = (jwt(&admin).await, jwt(&reading).await);
    let catalog =
        server.as_catalog(()).await.metadata().get("authorization").unwrap().to_str().unwrap()[7..]
            .to_owned();

    let needs = NeedTable::from_descriptor_sets(&[identity_api::FILE_DESCRIPTOR_SET]).unwrap();
    let mut seen = 0;
    for (path, need) in needs.iter().filter(|(path, _)| path.starts_with("/quarry.identity.")) {
        seen += 1;
        if need.public {
            assert_ne!(call(&server, path, None).await, Code::Unimplemented, "{path}");
            continue;
        }
        assert_eq!(
            call(&server, path, None).await,
            Code::Unauthenticated,
            "{path} without a token"
        );
        assert_eq!(call(&server, path, Some("nonsense")).await, Code::Unauthenticated, "{path}");
        for (who, jwt, role, service, read_only) in [
            ("viewer", &viewer, Role::Viewer, false, false),
            ("user", &user, Role::User, false, false),
            ("admin", &admin, Role::Admin, false, false),
            ("reading admin", &reading, Role::Admin, false, true),
            ("catalog", &catalog, Role::Admin, true, false),
        ] {
            let may = (role as i32) >= need.role
                && (service || !need.service_only)
                && (!read_only || need.read_only);
            let code = call(&server, path, Some(jwt)).await;
            assert_ne!(code, Code::Unimplemented, "{path}");
            if may {
                assert!(
                    !matches!(code, Code::PermissionDenied | Code::Unauthenticated),
                    "{path} refused a {who}: {code:?}"
                );
            } else {
                assert_eq!(code, Code::PermissionDenied, "{path} let a {who} in");
            }
        }
    }
    assert!(seen >= 20, "{seen} methods");
}
