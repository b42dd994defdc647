//! Tokens of an issuer made here, with keys made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const ISSUER: &str = "https://cluster.test";

/// A key that signs nothing but these tests' tokens.
const KEY: &str = "\
MIIEogIBAAKCAQEAtvSVQr8IzhTvSTbjsuDAUym7b7oLBOUwlZn/j52wCkWUCkAIOd5gs4OPLn2iXy397LcRk2XOu7J3rxxYhBgN\
4CtwWuwHdNzNSOVH2/xMHPcssrLYuIMGTrr8SoC1qAW3lJfQ/L8VNj2QzciMOknyEfW7Ak/Uhx3kX2u/acIMWogtyc1rJ3eVrEmX\
sqyHUYTuxKedio7pJhYt3NfhH8zX3V3jAcaTUGaCwdopDJBquyqW4SDQ/FVfaPWlFywZJ54Z3MyP9L6Mxn6dBjFJFdFwmTqxqhD/\
WAsS522kWZZAHAsRfPWoo1pWwMMgBGiNqrgXrlaJN2UD048oxUY1Q/bDmwIDAQABAoIBAAF6x39Uw2i1irgYyk064mb0v1D8jmfF\
iz/44WO5l1xga3ndAK2g2HJrNoO5yAMWjyV1Wv1ciPI8bWoiUJhROyQRccCHhLzj/wz2K4/9pVCQp5PQvMb0UOLmbczZa16tFYDW\
hlW924cEGVVQB0fk/6Du1zSUbH+D/HjX/6Xh+0Eb/rsAO1dXGSbwHHH1OrX7Bj045DgtGUj9mDOkkNYNl1oUvwYQXEGZjvyKGf7P\
GCNzxqqY0zHqQ+qEYSYbzXbkkk1Jnrkbn4kosCTrxj7rcZA5N+3A6ZsAnrGX0aduYnioNBaj/BOzAyIomEU0nCk8otIWTTpoyQMe\
V3Ifs0CimTkCgYEA2cNKsj7lnglDe6TOPBy+I01qCT14QGeNWen9i8hOu2A8EZqxNGXsIrB7Bqr/5ci8XJINt4skmmZA4EwGJkCa\
AcvOk9IuMFKRbVTpGtX7NuPURX+5Zt2bTnVhOpefjocUZSd4zWS8ZhbjCo/OPUlO4mdA4YShGDg24vkg9AG5UcMCgYEA1xSnQHCL\
fepowSPLmkwKWA9hJlmhhzqSxIscrIy6M6NfkIXxAupm4do9JDfmYbopCBihVa5kiiXGRRz+LQ02GDQVD385NnLr366BixX/9Vn/\
HelINR+nWzaFsaAbYVWgRqWXCKXjigu7g2FsU8fC5S1e+ZHDPZsJM3zOjZIFkUkCgYBRjbILz0JvTUjYpYAXQyxyTCvKChtfA2kM\
o3UxRHM3+XKFpUl4NjOZSj7I4IG1rNfeU1SPyKyMpn7lgZNMACWtRoa3FZ/2uPV93K7wPfM3O1vkK1FkFNp1J8CiEObQmgYpW/8B\
7Rgho7Cj4/d5PFsurzy9OM6cI3Fqz6Jnv72HwQKBgHzOwVdFd8yzj+Iz8VwyL/Z1xjxI2tDsDmr7BsKiTxLUBQqKjxbQCq+Yws4X\
mhqvuku2bziXIESCMxG8B0sBVZip8GazvvF3sqR0UTvyojsv5DjpPDuHiMgHVYGDlR/gXkdgo8oi6W0b7c4JZKEhVFlFAM315cQE\
CUzVac8BIzXxAoGASimeKgOhRdyonOkUWv2hLZCc40MH9mImwXBBfxdsCBK4Qvb4rBzP8hUTBAT+x3KAz84jkkbDDYpTBO+Y3vej\
QyM86oyw75qzkvHcxmM79lQdauxK9kf5arFwvidAlOhMg9421zGWBbySDnQI435/bbAhBCRYBTOQKcMp8ioPMIo=";

fn key() -> EncodingKey {
    EncodingKey::from_rsa_der(&STANDARD.decode(KEY).unwrap())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["quarry"], "sub": "system:serviceaccount:data:q-catalog",
        "iat": now(), "nbf": now(), "exp": now() + 600,
        "kubernetes.io": {"namespace": "data"},
    })
}

fn sign(claims: &Value, kid: &str) -> String {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(kid.to_owned());
    encode(&header, claims, &key()).unwrap()
}

fn jwks(kid: &str) -> String {
    let mut jwk = Jwk::from_encoding_key(&key(), Algorithm::RS256).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap()
}

fn settings(dir: &TempDir) -> Settings {
    let file = dir.path().join("jwks.json");
    std::fs::write(&file, jwks("one")).unwrap();
    let accounts = [("catalog", "data:q-catalog"), ("item_store", "data:q-item-store")];
    let accounts = accounts.map(|(role, account)| (role.to_owned(), account.to_owned()));
    Settings {
        issuer: Some(ISSUER.to_owned()),
        jwks_file: Some(file),
        accounts: accounts.into(),
        ..Settings::default()
    }
}

#[tokio::test]
async fn an_account_is_its_role() {
    let dir = TempDir::new().unwrap();
    let verifier = Verifier::new(&settings(&dir)).unwrap().unwrap();
    let token = sign(&claims(), "one");
    assert!(Verifier::is_token(&token) && !Verifier::is_token("qsvc_0123456789abcdef"));
    assert_eq!(verifier.role_of(&token).await.unwrap(), "catalog");
    let mut other = claims();
    other["sub"] = "system:serviceaccount:data:q-item-store".into();
    assert_eq!(verifier.role_of(&sign(&other, "one")).await.unwrap(), "item-store");
}

#[tokio::test]
async fn what_differs_in_one_thing_is_refused() {
    let dir = TempDir::new().unwrap();
    let verifier = Verifier::new(&settings(&dir)).unwrap().unwrap();
    let cases: [(&str, Value, &str); 9] = [
        ("iss", "https://other.test".into(), "issuer"),
        ("aud", json!(["https://kubernetes.default.svc"]), "audience"),
        ("aud", Value::Null, ""),
        ("exp", (now() - 60).into(), "expired"),
        ("exp", Value::Null, ""),
        ("nbf", (now() + 600).into(), "not valid yet"),
        ("sub", "system:serviceaccount:data:default".into(), "no role's account"),
        ("sub", "system:serviceaccount:other:q-catalog".into(), "no role's account"),
        ("sub", "data:q-catalog".into(), "no role's account"),
    ];
    for (key, value, words) in cases {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(key)),
            value => claims[key] = value,
        }
        let error = verifier.role_of(&sign(&claims, "one")).await.unwrap_err();
        assert!(error.reason_is("PROJECTED_TOKEN_INVALID"), "{key}: {error}");
        assert!(error.message().contains(words), "{key}: {error}");
    }
    let good = sign(&claims(), "one");
    let (body, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{body}.{}", "A".repeat(342));
    // Signed with what everybody knows, as if it were a secret.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("one".to_owned());
    let symmetric = encode(&header, &claims(), &EncodingKey::from_secret(b"public")).unwrap();
    for wrong in [forged, symmetric, sign(&claims(), "two"), "ey.a.b".to_owned(), String::new()] {
        let error = verifier.role_of(&wrong).await.unwrap_err();
        assert!(error.reason_is("PROJECTED_TOKEN_INVALID"), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn keys_come_over_http_with_the_bearer_and_are_not_asked_for_each_time() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let answer = move |headers: axum::http::HeaderMap| {
        let asked = Arc::clone(&counted);
        async move {
            assert_eq!(headers["authorization"], "Bearer of-this-pod");
            asked.fetch_add(1, Ordering::SeqCst);
            jwks("one")
        }
    };
    let router = axum::Router::new().route("/openid/v1/jwks", axum::routing::get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/openid/v1/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let dir = TempDir::new().unwrap();
    let bearer = dir.path().join("token");
    std::fs::write(&bearer, "of-this-pod\n").unwrap();
    let settings = Settings {
        jwks_file: None,
        jwks_url: Some(url),
        bearer_file: Some(bearer),
        ..settings(&dir)
    };
    let verifier = Verifier::new(&settings).unwrap().unwrap();
    for _ in 0..3 {
        verifier.role_of(&sign(&claims(), "one")).await.unwrap();
    }
    for _ in 0..3 {
        verifier.role_of(&sign(&claims(), "made up")).await.unwrap_err();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_no_refusal() {
    let dir = TempDir::new().unwrap();
    let settings = Settings { jwks_file: Some(dir.path().join("none")), ..settings(&dir) };
    let verifier = Verifier::new(&settings).unwrap().unwrap();
    let error = verifier.role_of(&sign(&claims(), "one")).await.unwrap_err();
    assert!(error.reason_is("CLUSTER_KEYS_AWAY"), "{error}");
}

#[test]
fn settings_that_say_too_little_are_refused() {
    let dir = TempDir::new().unwrap();
    assert!(Verifier::new(&Settings::default()).unwrap().is_none());
    let refused = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(&dir);
        change(&mut settings);
        Verifier::new(&settings).unwrap_err().message().to_owned()
    };
    assert!(refused(&|s| s.jwks_file = None).contains("jwks_url"));
    assert!(refused(&|s| s.jwks_url = Some("http://h".into())).contains("jwks_file"));
    assert!(refused(&|s| s.accounts.clear()).contains("service account"));
    assert!(
        refused(&|s| drop(s.accounts.insert("gateway".into(), "lonely".into()))).contains("lonely")
    );
    let twice =
        |s: &mut Settings| drop(s.accounts.insert("gateway".into(), "data:q-catalog".into()));
    assert!(refused(&twice).contains("two roles"));
}
