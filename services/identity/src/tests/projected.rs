//! Roles that show what their cluster projected for them instead of a secret.

use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use sql_store::now_micros;

use super::*;

const ISSUER: &str = "https://cluster.test";

fn made(seed: u8) -> EncodingKey {
    let pair = KeypairBytes { secret_key: [seed; 32], public_key: None };
    EncodingKey::from_ed_der(pair.to_pkcs8_der().unwrap().as_bytes())
}

fn token(key: &EncodingKey, account: &str, audience: &str) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("cluster".to_owned());
    let claims = json!({
        "iss": ISSUER, "aud": [audience], "sub": format!("system:serviceaccount:data:{account}"),
        "exp": now_micros() / 1_000_000 + 600,
    });
    encode(&header, &claims, key).unwrap()
}

fn settings(key: &EncodingKey, dir: &Path) -> Settings {
    let mut jwk = Jwk::from_encoding_key(key, Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some("cluster".to_owned());
    let file = dir.join("jwks.json");
    std::fs::write(&file, serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap()).unwrap();
    let accounts = [("catalog", "data:q-catalog"), ("gateway", "data:q-gateway")];
    let projected = projected_tokens::Settings {
        issuer: Some(ISSUER.to_owned()),
        jwks_file: Some(file),
        accounts: accounts.map(|(role, account)| (role.into(), account.into())).into(),
        ..Default::default()
    };
    Settings { projected, ..Settings::default() }
}

#[tokio::test]
async fn a_projected_token_is_its_role_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let key = made(7);
    let sql = SqlSettings::sqlite(dir.path().join("sql"));
    let platform = platform(&sql, &dir.path().join("data"));
    let server = start_with(settings(&key, dir.path()), platform).await;
    let issue = async |secret: String| {
        let request = IssueTokenRequest {
            service_secret: secret,
            audience: "item-store".into(),
            subject_token: String::new(),
        };
        server.exchange().issue_token(request).await
    };
    issue(token(&key, "q-catalog", "quarry")).await.unwrap();
    issue(CATALOG_SECRET.to_owned()).await.unwrap();
    let other = made(8);
    for wrong in [
        token(&other, "q-catalog", "quarry"),
        token(&key, "q-catalog", "https://kubernetes.default.svc"),
        token(&key, "default", "quarry"),
    ] {
        assert_eq!(issue(wrong).await.unwrap_err().code(), Code::Unauthenticated);
    }
    // The gateway alone exchanges clients' credentials, however it says who it is.
    let admin = admin_token(&dir.path().join("data"));
    let exchange = async |account: &str| {
        let request = ExchangeTokenRequest {
            service_secret: token(&key, account, "quarry"),
            audience: "catalog".into(),
            credential: Some(Credential::Bearer(admin.clone())),
        };
        server.exchange().exchange_token(request).await
    };
    exchange("q-gateway").await.unwrap();
    assert_eq!(exchange("q-catalog").await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_account_of_no_role_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&made(7), dir.path());
    settings.projected.accounts.insert("kitchen".into(), "data:q-kitchen".into());
    let sql = SqlSettings::sqlite(dir.path().join("sql"));
    let platform = platform(&sql, &dir.path().join("data"));
    let error = build(settings, platform, CancellationToken::new()).await.unwrap_err();
    assert!(error.message().contains("kitchen"), "{error}");
}
