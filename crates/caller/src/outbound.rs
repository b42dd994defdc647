//! Tokens for the next callee.

use std::sync::Arc;
use std::time::Duration;

use identity_api::v1::IssueTokenRequest;
use identity_api::v1::exchange_service_client::ExchangeServiceClient;
use moka::future::Cache;
use service_channel::Transport;
use service_error::ServiceError;
use sha2::{Digest, Sha256};
use tonic::metadata::{Ascii, MetadataValue};

use crate::keys::now_seconds;
use crate::{Caller, RoleSecret};

const CACHED_TOKENS_MAX: u64 = 50_000;
/// A token is replaced this long before it expires, in seconds.
const RENEW_BEFORE_SECONDS: i64 = 10;

type CacheKey = ([u8; 32], &'static str);

/// An `authorization` header for one callee.
#[derive(Clone)]
pub struct Bearer {
    header: MetadataValue<Ascii>,
    expires_at: i64,
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bearer(expires_at: {})", self.expires_at)
    }
}

impl Bearer {
    /// The header's value, marked sensitive.
    #[must_use]
    pub fn header(&self) -> &MetadataValue<Ascii> {
        &self.header
    }

    fn is_fresh(&self) -> bool {
        self.expires_at - RENEW_BEFORE_SECONDS > now_seconds()
    }
}

/// Where a role gets its tokens for other roles: identity, asked with the
/// role's own secret. Tokens are kept until shortly before they expire.
#[derive(Clone)]
pub struct TokenSource {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Transport,
    secret: RoleSecret,
    cache: Cache<CacheKey, Bearer>,
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource").finish_non_exhaustive()
    }
}

impl TokenSource {
    /// A source that asks `identity` with a role's secret.
    #[must_use]
    pub fn new(identity: Transport, secret: impl Into<RoleSecret>) -> Self {
        let secret = secret.into();
        let cache = Cache::builder()
            .max_capacity(CACHED_TOKENS_MAX)
            .time_to_live(Duration::from_secs(60))
            .build();
        Self { inner: Arc::new(Inner { identity, secret, cache }) }
    }

    /// A token to call `audience` for the caller of this role.
    ///
    /// # Errors
    /// Identity's refusal, or `UNAVAILABLE` when it is away.
    pub async fn for_caller(
        &self,
        caller: &Caller,
        audience: &'static str,
    ) -> Result<Bearer, ServiceError> {
        if caller.service {
            return self.for_self(audience).await;
        }
        self.issue(caller.jwt.expose(), audience).await
    }

    /// A token to call `audience` as this role itself.
    ///
    /// # Errors
    /// Identity's refusal, or `UNAVAILABLE` when it is away.
    pub async fn for_self(&self, audience: &'static str) -> Result<Bearer, ServiceError> {
        self.issue("", audience).await
    }

    async fn issue(
        &self,
        subject_token: &str,
        audience: &'static str,
    ) -> Result<Bearer, ServiceError> {
        let key = (Sha256::digest(subject_token).into(), audience);
        if let Some(bearer) = self.inner.cache.get(&key).await {
            if bearer.is_fresh() {
                return Ok(bearer);
            }
            self.inner.cache.invalidate(&key).await;
        }
        let asked = self.inner.cache.try_get_with(key, self.ask(subject_token, audience));
        asked.await.map_err(|error: Arc<ServiceError>| {
            ServiceError::new(error.code(), error.message()).reason(error.reason_text())
        })
    }

    async fn ask(&self, subject_token: &str, audience: &str) -> Result<Bearer, ServiceError> {
        let request = IssueTokenRequest {
            service_secret: self.inner.secret.current().expose().to_owned(),
            audience: audience.to_owned(),
            subject_token: subject_token.to_owned(),
        };
        let mut client = ExchangeServiceClient::new(self.inner.identity.clone());
        let answer = client
            .issue_token(request)
            .await
            .map_err(|s| ServiceError::from_status(&s).context("identity"))?;
        let answer = answer.into_inner();
        let mut header: MetadataValue<Ascii> =
            format!("Bearer {}", answer.jwt).parse().map_err(|_| {
                ServiceError::internal("identity issued a token that is no header value")
            })?;
        header.set_sensitive(true);
        Ok(Bearer { header, expires_at: answer.expire_time.map_or(0, |time| time.seconds) })
    }
}

/// A request that carries a token.
pub fn authorized<T>(message: T, bearer: &Bearer) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", bearer.header.clone());
    request
}
