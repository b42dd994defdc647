//! Credentials into internal tokens, asked of identity once and kept briefly.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::settings::RoleSecret;
use bytes::Bytes;
use http::HeaderValue;
use identity_api::v1::exchange_service_client::ExchangeServiceClient;
use identity_api::v1::exchange_token_request::Credential as Presented;
use identity_api::v1::{BasicCredential, ExchangeTokenRequest, GetKeysRequest};
use moka::Expiry;
use moka::future::Cache;
use service_channel::Transport;
use service_error::{Code, ServiceError};
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::credentials::Credential;
use crate::settings::Settings;

/// A token is not used when it has less than this left: it must outlive the
/// call's way to the service.
const SPARE: Duration = Duration::from_secs(5);
/// A refusal is kept so long: a client that retries in a loop does not reach
/// identity each time.
const REFUSED_TIME: Duration = Duration::from_secs(1);
const ASK_TIME_MAX: Duration = Duration::from_secs(5);
const KEYS_TIME: Duration = Duration::from_secs(30);

/// Exchanges credentials. Clones share what is kept.
#[derive(Clone)]
pub struct Exchange {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Transport,
    secret: RoleSecret,
    token_time: Duration,
    /// By SHA-256 of credential and audience: a dump of this process's memory
    /// gives away no opaque token.
    tokens: Cache<[u8; 32], Entry>,
    keys: Cache<(), Bytes>,
}

#[derive(Clone)]
struct Entry {
    answer: Answer,
    keep: Duration,
}

#[derive(Clone)]
enum Answer {
    /// The value of `authorization` for the service.
    Granted(HeaderValue),
    Refused {
        code: Code,
        reason: String,
        message: String,
    },
}

struct KeepAsSaid;

impl Expiry<[u8; 32], Entry> for KeepAsSaid {
    fn expire_after_create(&self, _: &[u8; 32], entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.keep)
    }
}

impl Exchange {
    /// Asks `identity`, showing the gateway's own secret.
    pub fn new(identity: Transport, secret: impl Into<RoleSecret>, settings: &Settings) -> Self {
        let secret = secret.into();
        let tokens = Cache::builder()
            .max_capacity(settings.cached_tokens_max)
            .expire_after(KeepAsSaid)
            .build();
        let keys = Cache::builder().max_capacity(1).time_to_live(KEYS_TIME).build();
        let token_time = settings.cached_token_time();
        Self { inner: Arc::new(Inner { identity, secret, token_time, tokens, keys }) }
    }

    /// The `authorization` header with which the call goes on to `audience`.
    /// Asked once for all who wait for the same.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a credential that identity refuses; what identity
    /// fails with otherwise, which is not kept.
    pub async fn token(
        &self,
        credential: &Credential,
        audience: &'static str,
    ) -> Result<HeaderValue, ServiceError> {
        let asked = self
            .inner
            .tokens
            .try_get_with(key(credential, audience), self.ask(credential, audience));
        let entry = asked.await.map_err(|error: Arc<ServiceError>| {
            ServiceError::new(error.code(), error.message()).reason(error.reason_text())
        })?;
        match entry.answer {
            Answer::Granted(header) => Ok(header),
            Answer::Refused { code, reason, message } => {
                Err(ServiceError::new(code, message).reason(reason))
            }
        }
    }

    /// The same, asked of identity now and not kept: a credential that was
    /// revoked a moment ago is refused.
    ///
    /// # Errors
    /// As [`Exchange::token`].
    pub async fn fresh_token(
        &self,
        credential: &Credential,
        audience: &'static str,
    ) -> Result<HeaderValue, ServiceError> {
        match self.ask(credential, audience).await?.answer {
            Answer::Granted(header) => Ok(header),
            Answer::Refused { code, reason, message } => {
                Err(ServiceError::new(code, message).reason(reason))
            }
        }
    }

    /// The public keys (JWKS) that verify internal tokens.
    ///
    /// # Errors
    /// What identity fails with.
    pub async fn jwks(&self) -> Result<Bytes, ServiceError> {
        let asked = self.inner.keys.try_get_with((), async {
            let mut client = ExchangeServiceClient::new(self.inner.identity.clone());
            let answer = in_time(client.get_keys(GetKeysRequest {}))
                .await
                .map_err(|status| ServiceError::from_status(&status))?;
            Ok(Bytes::from(answer.into_inner().jwks_json))
        });
        asked.await.map_err(|error: Arc<ServiceError>| {
            ServiceError::new(error.code(), error.message()).reason(error.reason_text())
        })
    }

    async fn ask(&self, credential: &Credential, audience: &str) -> Result<Entry, ServiceError> {
        let credential = match credential {
            Credential::Bearer(token) => Presented::Bearer(token.expose().to_owned()),
            Credential::Basic { name, password } => Presented::Basic(BasicCredential {
                name: name.clone(),
                password: password.expose().to_owned(),
            }),
        };
        let request = ExchangeTokenRequest {
            service_secret: self.inner.secret.current().expose().to_owned(),
            audience: audience.to_owned(),
            credential: Some(credential),
        };
        let mut client = ExchangeServiceClient::new(self.inner.identity.clone());
        match in_time(client.exchange_token(request)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let expires = answer.expire_time.map_or(0, |time| time.seconds);
                let mut header =
                    HeaderValue::from_str(&format!("Bearer {}", answer.jwt)).map_err(|_| {
                        ServiceError::internal("identity gave a token that is no header value")
                    })?;
                header.set_sensitive(true);
                Ok(Entry {
                    answer: Answer::Granted(header),
                    keep: keep(expires, self.inner.token_time),
                })
            }
            Err(status) => refusal(&ServiceError::from_status(&status)),
        }
    }
}

/// Nobody waits longer for identity, whatever deadline the call has.
async fn in_time<T>(asked: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(ASK_TIME_MAX, asked)
        .await
        .unwrap_or_else(|_| Err(Status::unavailable("identity does not answer; try again")))
}

/// A refusal of the credential is an answer; anything else is a failure.
fn refusal(error: &ServiceError) -> Result<Entry, ServiceError> {
    match error.code() {
        code @ (Code::Unauthenticated | Code::PermissionDenied) => Ok(Entry {
            answer: Answer::Refused {
                code,
                reason: error.reason_text().to_owned(),
                message: error.message().to_owned(),
            },
            keep: REFUSED_TIME,
        }),
        code => Err(ServiceError::new(
            code,
            format!("the credential could not be verified: {}", error.message()),
        )
        .reason(error.reason_text())),
    }
}

fn keep(expires_at_seconds: i64, token_time: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires = Duration::from_secs(u64::try_from(expires_at_seconds).unwrap_or_default());
    expires.saturating_sub(now).saturating_sub(SPARE).min(token_time)
}

/// What is kept for a credential and an audience is kept under this hash.
pub fn key(credential: &Credential, audience: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Each part after its length, so that no two lists of parts read alike.
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(audience.as_bytes());
    match credential {
        Credential::Bearer(token) => part(token.expose().as_bytes()),
        Credential::Basic { name, password } => {
            part(name.as_bytes());
            part(password.expose().as_bytes());
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
