//! The public keys of internal tokens, and their verification.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use identity_api::v1::GetKeysRequest;
use identity_api::v1::exchange_service_client::ExchangeServiceClient;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use moka::sync::Cache;
use options_api::v1::Role;
use service_channel::Transport;
use service_error::ServiceError;
use sha2::{Digest, Sha256};
use tokio::sync::RwLock;

use crate::{Caller, Claims, ISSUER, LEEWAY_SECONDS, Secret, TOKEN_TYPE, scope};

const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(1);
const VERIFIED_TOKENS_MAX: u64 = 50_000;

/// Verifies internal tokens with identity's public keys. Cloning shares keys
/// and cache.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Option<Transport>,
    known: RwLock<Known>,
    verified: Cache<[u8; 32], Arc<Caller>>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, DecodingKey>,
    refreshed: Option<Instant>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl Keys {
    /// Keys that are asked from identity whenever a token names an unknown
    /// one, at most once a second.
    #[must_use]
    pub fn new(identity: Transport) -> Self {
        Self::with(Some(identity), Known::default())
    }

    /// Keys that never change, from a JWKS document.
    ///
    /// # Errors
    /// A document that is no JWKS of Ed25519 keys.
    pub fn fixed(jwks_json: &str) -> Result<Self, ServiceError> {
        let keys = parse(jwks_json)?;
        Ok(Self::with(None, Known { keys, refreshed: None }))
    }

    fn with(identity: Option<Transport>, known: Known) -> Self {
        let verified = Cache::builder()
            .max_capacity(VERIFIED_TOKENS_MAX)
            .time_to_live(Duration::from_secs(90))
            .build();
        Self { inner: Arc::new(Inner { identity, known: RwLock::new(known), verified }) }
    }

    /// The caller behind a token for `audience`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that does not verify, `UNAVAILABLE` when
    /// identity does not give its keys.
    pub async fn verify(&self, jwt: &str, audience: &str) -> Result<Arc<Caller>, ServiceError> {
        let now = now_seconds();
        let digest: [u8; 32] = Sha256::new()
            .chain_update(audience)
            .chain_update([0])
            .chain_update(jwt)
            .finalize()
            .into();
        if let Some(caller) = self.inner.verified.get(&digest) {
            return if caller.expires_at + LEEWAY_SECONDS as i64 > now {
                Ok(caller)
            } else {
                Err(invalid("it has expired"))
            };
        }
        let header = decode_header(jwt).map_err(|_| invalid("it is no token of this platform"))?;
        if header.typ.as_deref() != Some(TOKEN_TYPE) {
            return Err(invalid("its type is not an internal one"));
        }
        let kid = header.kid.ok_or_else(|| invalid("it names no key"))?;
        let key = self.key(&kid).await?.ok_or_else(|| invalid("its key is unknown"))?;
        let claims = decode::<Claims>(jwt, &key, &validation(audience))
            .map_err(|e| invalid(reason(&e)))?
            .claims;
        let caller = Arc::new(caller_of(claims, jwt)?);
        self.inner.verified.insert(digest, Arc::clone(&caller));
        Ok(caller)
    }

    async fn key(&self, kid: &str) -> Result<Option<DecodingKey>, ServiceError> {
        if let Some(key) = self.inner.known.read().await.keys.get(kid) {
            return Ok(Some(key.clone()));
        }
        let Some(identity) = &self.inner.identity else {
            return Ok(None);
        };
        let mut known = self.inner.known.write().await;
        let fresh = known.refreshed.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL_MIN);
        if !fresh && !known.keys.contains_key(kid) {
            let mut client = ExchangeServiceClient::new(identity.clone());
            let answer = client.get_keys(GetKeysRequest {}).await.map_err(|status| {
                ServiceError::unavailable(format!(
                    "identity does not give its keys: {}",
                    status.message()
                ))
            })?;
            known.keys = parse(&answer.into_inner().jwks_json)?;
            known.refreshed = Some(Instant::now());
        }
        Ok(known.keys.get(kid).cloned())
    }
}

fn validation(audience: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.leeway = LEEWAY_SECONDS;
    validation.set_audience(&[audience]);
    validation.set_issuer(&[ISSUER]);
    // Without this a token that has no issuer or audience passes.
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation
}

fn parse(jwks_json: &str) -> Result<HashMap<String, DecodingKey>, ServiceError> {
    let broken = |e: String| ServiceError::internal(format!("identity's keys cannot be read: {e}"));
    let set: JwkSet = serde_json::from_str(jwks_json).map_err(|e| broken(e.to_string()))?;
    let mut keys = HashMap::new();
    for jwk in &set.keys {
        if let Some(kid) = &jwk.common.key_id {
            keys.insert(
                kid.clone(),
                DecodingKey::from_jwk(jwk).map_err(|e| broken(e.to_string()))?,
            );
        }
    }
    Ok(keys)
}

fn caller_of(claims: Claims, jwt: &str) -> Result<Caller, ServiceError> {
    let (role, service) = match claims.role.as_str() {
        "admin" => (Role::Admin, false),
        "user" => (Role::User, false),
        "viewer" => (Role::Viewer, false),
        "service" => (Role::Admin, true),
        _ => return Err(invalid("its role is unknown")),
    };
    let token = match claims.tid {
        Some(text) => Some(text.parse().map_err(|_| invalid("its token id is malformed"))?),
        None => None,
    };
    Ok(Caller {
        principal: claims.sub.parse().map_err(|_| invalid("its subject is malformed"))?,
        name: claims.name,
        role,
        // Anything but the full scope reads only: a scope this build does not
        // know must not open more.
        read_only: claims.scope != scope::FULL,
        token,
        actor: claims.act.map(|actor| actor.sub),
        service,
        jwt: Secret::new(jwt),
        expires_at: claims.exp,
    })
}

fn invalid(why: &str) -> ServiceError {
    ServiceError::unauthenticated(format!("the token was refused: {why}")).reason("TOKEN_INVALID")
}

fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::InvalidAudience => "it is meant for another role",
        ErrorKind::InvalidIssuer => "it was issued by somebody else",
        ErrorKind::InvalidSignature => "its signature does not verify",
        _ => "it is malformed",
    }
}

pub(crate) fn now_seconds() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX))
}
