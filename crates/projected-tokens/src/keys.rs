//! The cluster's public keys, read when a key is not known yet.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use reqwest::{Certificate, Client};
use service_error::ServiceError;
use settings::Secret;
use tokio::sync::RwLock;

/// Keys are not looked for more often.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
const ASK_TIME_MAX: Duration = Duration::from_secs(5);
const KEYS_BYTES_MAX: usize = 1 << 20;

/// Where the keys are.
#[derive(Debug)]
pub enum Place {
    File(PathBuf),
    Url { url: String, ca_file: Option<PathBuf>, bearer_file: Option<PathBuf> },
}

/// What is known of them.
pub struct Keys {
    place: Place,
    client: Client,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, DecodingKey>,
    asked: Option<Instant>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads nothing yet but the certificates.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(place: Place) -> Result<Self, ServiceError> {
        let mut client = Client::builder().timeout(ASK_TIME_MAX);
        if let Place::Url { ca_file: Some(path), .. } = &place {
            let wrong = |why: String| {
                let message = format!("{}: {why}", path.display());
                ServiceError::invalid("identity.projected.ca_file", message)
                    .reason("INVALID_SETTINGS")
            };
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let all =
                Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
            for certificate in all {
                client = client.add_root_certificate(certificate);
            }
        }
        let client = client.build().map_err(|error| {
            ServiceError::internal("no client for the cluster's keys").caused_by(error)
        })?;
        Ok(Self { place, client, known: RwLock::default() })
    }

    /// The key of an id; none if the cluster has no such key.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the keys cannot be had.
    pub async fn get(&self, kid: &str) -> Result<Option<DecodingKey>, ServiceError> {
        if let Some(key) = self.known.read().await.keys.get(kid) {
            return Ok(Some(key.clone()));
        }
        let mut known = self.known.write().await;
        let is_fresh = known.asked.is_some_and(|at| at.elapsed() < AGAIN_AFTER);
        if !is_fresh && !known.keys.contains_key(kid) {
            known.keys = self.read().await?;
            known.asked = Some(Instant::now());
        }
        Ok(known.keys.get(kid).cloned())
    }

    async fn read(&self) -> Result<HashMap<String, DecodingKey>, ServiceError> {
        let away = |why: String| {
            ServiceError::unavailable(format!("the cluster's keys cannot be had: {why}"))
                .reason("CLUSTER_KEYS_AWAY")
        };
        let text = match &self.place {
            Place::File(path) => tokio::fs::read(path)
                .await
                .map_err(|error| away(format!("{}: {error}", path.display())))?,
            Place::Url { url, bearer_file, .. } => {
                let mut request = self.client.get(url);
                if let Some(path) = bearer_file {
                    request = request.bearer_auth(Secret::from_file(path)?.expose());
                }
                let answer = request.send().await.map_err(|error| away(error.to_string()))?;
                let answer = answer.error_for_status().map_err(|error| away(error.to_string()))?;
                if answer.content_length().is_some_and(|bytes| bytes > KEYS_BYTES_MAX as u64) {
                    return Err(away(format!("{url} answers more than {KEYS_BYTES_MAX} bytes")));
                }
                answer.bytes().await.map_err(|error| away(error.to_string()))?.to_vec()
            }
        };
        let set: JwkSet = serde_json::from_slice(&text).map_err(|error| away(error.to_string()))?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            // A key of a kind that we do not read signs nothing that we accept.
            if let (Some(kid), Ok(key)) = (&jwk.common.key_id, DecodingKey::from_jwk(jwk)) {
                keys.insert(kid.clone(), key);
            }
        }
        Ok(keys)
    }
}
