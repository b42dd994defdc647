//! The keys of internal tokens. A new key is published well before it signs,
//! and an old one verifies as long as a token of it may be presented.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use caller::{Claims, ISSUER, LEEWAY_SECONDS, Secret, TOKEN_TYPE};
use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use service_error::ServiceError;
use sql_store::now_micros;
use uuid::Uuid;

use super::{STALE_SUBJECT, done_by_server};
use crate::store::{KeyRow, Store};

/// Between publishing a key and signing with it: every cache has it by then.
const PUBLISHED_BEFORE: Duration = Duration::from_secs(600);
const ROTATE: &str = "quarry.identity.rotate-signing-key";

/// The key pairs that this process knows.
pub struct SigningKeys {
    keys: RwLock<Vec<Key>>,
}

#[derive(Clone)]
struct Key {
    row: KeyRow,
    signing: EncodingKey,
    jwk: Jwk,
}

impl SigningKeys {
    /// Loads the keys; makes the first one at the first start.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn open(store: &Store) -> Result<Self, ServiceError> {
        if store.keys(now_micros()).await?.is_empty() {
            make_first(store).await?;
        }
        let keys = Self { keys: RwLock::default() };
        keys.reload(store).await?;
        Ok(keys)
    }

    /// Takes over what is stored: another replica may have made a key.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn reload(&self, store: &Store) -> Result<(), ServiceError> {
        let rows = store.keys(now_micros()).await?;
        let keys = rows.into_iter().map(key).collect::<Result<Vec<_>, _>>()?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// The public halves, as JWKS.
    ///
    /// # Errors
    /// None that is known.
    pub fn jwks(&self) -> Result<String, ServiceError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let set = JwkSet { keys: keys.iter().map(|key| key.jwk.clone()).collect() };
        serde_json::to_string(&set).map_err(|err| {
            ServiceError::internal("the public keys can't be written").caused_by(err)
        })
    }

    /// Signs with the youngest key that is active.
    ///
    /// # Errors
    /// No key is active; the clock was set back.
    pub fn sign(&self, claims: &Claims) -> Result<Secret, ServiceError> {
        let now = now_micros();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        // None is active only if the clock was set back: then the oldest.
        let key = keys.iter().rfind(|key| key.row.active_at <= now).or_else(|| keys.first());
        let key = key.ok_or_else(|| ServiceError::internal("there is no signing key"))?;
        let header = Header {
            typ: Some(TOKEN_TYPE.to_owned()),
            kid: Some(key.row.kid.to_string()),
            ..Header::new(Algorithm::EdDSA)
        };
        let jwt = encode(&header, claims, &key.signing)
            .map_err(|err| ServiceError::internal("a token could not be signed").caused_by(err))?;
        Ok(Secret::new(jwt))
    }

    /// The claims of a token of ours for `audience`, which may have expired
    /// for as long as a stream lives.
    ///
    /// # Errors
    /// UNAUTHENTICATED.
    pub fn verify_stale(&self, jwt: &str, audience: &str) -> Result<Claims, ServiceError> {
        let refused = || {
            ServiceError::unauthenticated("subject_token: is no token for the asking role")
                .reason("TOKEN_INVALID")
        };
        let header = decode_header(jwt).map_err(|_| refused())?;
        let (Some(kid), Some(TOKEN_TYPE)) = (header.kid, header.typ.as_deref()) else {
            return Err(refused());
        };
        let jwk = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            keys.iter()
                .find(|key| key.row.kid.to_string() == kid)
                .map(|key| key.jwk.clone())
                .ok_or_else(refused)?
        };
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = STALE_SUBJECT.as_secs() + LEEWAY_SECONDS;
        validation.set_audience(&[audience]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let public = DecodingKey::from_jwk(&jwk).map_err(|_| refused())?;
        decode::<Claims>(jwt, &public, &validation).map(|token| token.claims).map_err(|_| refused())
    }

    /// Makes a new key if the youngest is older than `days`, and forgets the
    /// retired ones.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn rotate(&self, store: &Store, days: u64) -> Result<(), ServiceError> {
        let now = now_micros();
        let aged =
            now.saturating_sub(micros(Duration::from_secs(days.max(1).saturating_mul(86_400))));
        let tx = store.change().await?;
        if tx.keys(now).await?.iter().all(|key| key.created_at < aged) {
            let active_at = now + micros(PUBLISHED_BEFORE);
            let new = new_key(now, active_at);
            tx.insert_key(&new).await?;
            tx.retire_other_keys(new.kid, active_at + micros(STALE_SUBJECT) * 2).await?;
            tx.audit(&done_by_server(ROTATE, format!("key/{}", new.kid), "signs in 10 minutes"))
                .await?;
        }
        tx.forget_keys(now).await?;
        tx.commit().await?;
        self.reload(store).await
    }
}

/// Several servers may start at once: the first to change makes the key.
async fn make_first(store: &Store) -> Result<(), ServiceError> {
    let now = now_micros();
    let tx = store.change().await?;
    if tx.keys(now).await?.is_empty() {
        tx.insert_key(&new_key(now, now)).await?;
    }
    tx.commit().await
}

fn new_key(created_at: i64, active_at: i64) -> KeyRow {
    let seed: [u8; 32] = rand::random();
    KeyRow { kid: Uuid::now_v7(), seed: seed.to_vec(), created_at, active_at, retired_at: None }
}

fn key(row: KeyRow) -> Result<Key, ServiceError> {
    let unusable = || ServiceError::data_loss("a signing key in the database can't be read");
    let secret_key: [u8; 32] = row.seed.as_slice().try_into().map_err(|_| unusable())?;
    // Version 1 of PKCS#8, without the public half: the JWT library takes no other.
    let der =
        KeypairBytes { secret_key, public_key: None }.to_pkcs8_der().map_err(|_| unusable())?;
    let signing = EncodingKey::from_ed_der(der.as_bytes());
    let mut jwk = Jwk::from_encoding_key(&signing, Algorithm::EdDSA).map_err(|_| unusable())?;
    jwk.common.key_id = Some(row.kid.to_string());
    Ok(Key { row, signing, jwk })
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sql_store::SqlSettings;

    use super::*;

    fn claims(expires_in: i64) -> Claims {
        let now = now_micros() / 1_000_000;
        Claims {
            iss: ISSUER.into(),
            aud: "catalog".into(),
            sub: Uuid::now_v7().to_string(),
            name: "ana".into(),
            role: "user".into(),
            scope: caller::scope::FULL.into(),
            act: None,
            tid: None,
            iat: now,
            exp: now + expires_in,
            jti: "1".into(),
        }
    }

    #[tokio::test]
    async fn a_stream_goes_on_with_a_stale_token_for_an_hour_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&SqlSettings::sqlite(dir.path())).await.unwrap();
        let keys = SigningKeys::open(&store).await.unwrap();
        let verify = |expires_in, audience| {
            let jwt = keys.sign(&claims(expires_in)).unwrap();
            keys.verify_stale(jwt.expose(), audience)
        };
        assert!(verify(60, "catalog").is_ok() && verify(-3_500, "catalog").is_ok());
        assert!(verify(-3_700, "catalog").is_err() && verify(60, "item-store").is_err());
    }

    #[tokio::test]
    async fn an_aged_key_is_replaced_and_goes_on_verifying() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&SqlSettings::sqlite(dir.path())).await.unwrap();
        let tx = store.change().await.unwrap();
        tx.insert_key(&new_key(1, 1)).await.unwrap();
        tx.commit().await.unwrap();
        let keys = SigningKeys::open(&store).await.unwrap();
        let before = keys.sign(&claims(60)).unwrap();
        keys.rotate(&store, 90).await.unwrap();
        keys.rotate(&store, 90).await.unwrap();
        assert_eq!(keys.jwks().unwrap().matches("\"kid\"").count(), 2, "one new key, published");
        let after = keys.sign(&claims(60)).unwrap();
        let kid = |jwt: &Secret| decode_header(jwt.expose()).unwrap().kid;
        assert_eq!(kid(&after), kid(&before), "the new one does not sign yet");
        keys.verify_stale(before.expose(), "catalog").unwrap();
        assert!(store.keys(now_micros()).await.unwrap()[0].retired_at > Some(now_micros()));
    }
}
