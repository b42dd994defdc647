//! Forged, stale and misdirected tokens at the guard.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use http::{Request, Response};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use options_api::NeedTable;
use options_api::v1::Authz;
use tonic::Code;
use tonic::body::Body;
use tower::ServiceExt;

use super::*;

struct Issuer {
    key: EncodingKey,
    jwks: String,
}

fn issuer() -> Issuer {
    // PKCS #8 version 1: the library knows an Ed25519 key by its 48 bytes.
    let keypair = KeypairBytes { secret_key: rand::random(), public_key: None };
    let der = keypair.to_pkcs8_der().unwrap();
    let key = EncodingKey::from_ed_der(der.as_bytes());
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some("k1".into());
    Issuer { key, jwks: serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap() }
}

fn claims() -> Claims {
    let now = keys::now_seconds();
    Claims {
        iss: ISSUER.into(),
        aud: "catalog".into(),
        sub: PrincipalId::new().to_string(),
        name: "ana".into(),
        role: "user".into(),
        scope: scope::FULL.into(),
        act: None,
        tid: None,
        iat: now,
        exp: now + 60,
        jti: "1".into(),
    }
}

fn header() -> Header {
    Header { typ: Some(TOKEN_TYPE.into()), kid: Some("k1".into()), ..Header::new(Algorithm::EdDSA) }
}

fn door(issuer: &Issuer, need: Authz, refused: Arc<dyn Refused>) -> Guarded {
    let routes = tower::service_fn(|request: Request<Body>| async move {
        let name = request
            .extensions()
            .get::<Arc<Caller>>()
            .map_or("nobody".into(), |caller| caller.name.clone());
        Ok::<_, std::convert::Infallible>(Response::new(Body::new(name)))
    });
    let needs = NeedTable::default().with("/s/M", need);
    guard(routes, "catalog", Keys::fixed(&issuer.jwks).unwrap(), needs, refused)
}

async fn call(door: &Guarded, path: &str, authorization: Option<String>) -> Code {
    let mut request = Request::builder().uri(path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let response = door.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    tonic::Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

async fn call_with(need: Authz, header: &Header, claims: &Claims) -> Code {
    let issuer = issuer();
    let jwt = encode(header, claims, &issuer.key).unwrap();
    call(&door(&issuer, need, Arc::new(AcceptAll)), "/s/M", Some(format!("Bearer {jwt}"))).await
}

fn viewer() -> Authz {
    Authz { role: Role::Viewer as i32, ..Authz::default() }
}

#[tokio::test]
async fn a_good_token_passes_and_a_second_time_from_the_cache() {
    let issuer = issuer();
    let jwt = encode(&header(), &claims(), &issuer.key).unwrap();
    let door = door(&issuer, viewer(), Arc::new(AcceptAll));
    for _ in 0..2 {
        assert_eq!(call(&door, "/s/M", Some(format!("Bearer {jwt}"))).await, Code::Ok);
    }
    assert_eq!(call(&door, "/s/M", Some(format!("Basic {jwt}"))).await, Code::Unauthenticated);
    assert_eq!(call(&door, "/s/M", None).await, Code::Unauthenticated);
    assert_eq!(
        call(&door, "/s/Unlisted", Some(format!("Bearer {jwt}"))).await,
        Code::Unimplemented
    );
}

#[tokio::test]
async fn wrong_tokens_are_refused() {
    let now = keys::now_seconds();
    let broken: [(&str, Header, Claims); 7] = [
        ("expired", header(), Claims { exp: now - 10, ..claims() }),
        ("another role's", header(), Claims { aud: "item-store".into(), ..claims() }),
        ("another issuer's", header(), Claims { iss: "somebody".into(), ..claims() }),
        ("of another type", Header { typ: Some("JWT".into()), ..header() }, claims()),
        ("of an unknown key", Header { kid: Some("k2".into()), ..header() }, claims()),
        ("of an unknown role", header(), Claims { role: "root".into(), ..claims() }),
        ("without a subject", header(), Claims { sub: "ana".into(), ..claims() }),
    ];
    for (what, header, claims) in &broken {
        assert_eq!(call_with(viewer(), header, claims).await, Code::Unauthenticated, "{what}");
    }
}

#[tokio::test]
async fn a_token_of_another_signer_is_refused() {
    let (ours, theirs) = (issuer(), issuer());
    let jwt = encode(&header(), &claims(), &theirs.key).unwrap();
    let door = door(&ours, viewer(), Arc::new(AcceptAll));
    assert_eq!(call(&door, "/s/M", Some(format!("Bearer {jwt}"))).await, Code::Unauthenticated);
}

#[tokio::test]
async fn roles_scopes_and_platform_calls_are_enforced() {
    let admin = Authz { role: Role::Admin as i32, ..Authz::default() };
    assert_eq!(call_with(admin, &header(), &claims()).await, Code::PermissionDenied);

    let reading = Claims { scope: scope::READ.into(), ..claims() };
    assert_eq!(call_with(viewer(), &header(), &reading).await, Code::PermissionDenied);
    let readable = Authz { read_only: true, ..viewer() };
    assert_eq!(call_with(readable, &header(), &reading).await, Code::Ok);

    let platform = Authz { service_only: true, ..viewer() };
    assert_eq!(call_with(platform, &header(), &claims()).await, Code::PermissionDenied);
    for (actor, expected) in [("gateway", Code::PermissionDenied), ("item-store", Code::Ok)] {
        let acted = Claims { act: Some(Actor { sub: actor.into() }), ..claims() };
        assert_eq!(call_with(platform, &header(), &acted).await, expected, "{actor}");
    }
    let service = Claims { role: "service".into(), ..claims() };
    assert_eq!(call_with(platform, &header(), &service).await, Code::Ok);
}

#[tokio::test]
async fn a_revoked_caller_is_refused_though_its_token_verifies() {
    struct Everybody;
    impl Refused for Everybody {
        fn refused(&self, _: &Caller) -> bool {
            true
        }
    }
    let issuer = issuer();
    let jwt = encode(&header(), &claims(), &issuer.key).unwrap();
    let door = door(&issuer, viewer(), Arc::new(Everybody));
    assert_eq!(call(&door, "/s/M", Some(format!("Bearer {jwt}"))).await, Code::Unauthenticated);
}
