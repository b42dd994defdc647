//! One signed POST to an outside address, never to a private one.

mod address;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, Url, redirect};
use service_error::ServiceError;
use sha2::Sha256;

pub use address::is_public;

const TIME_MAX: Duration = Duration::from_secs(30);
const URL_BYTES_MAX: usize = 2_048;

/// Sends to outside addresses. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    allow_private: bool,
}

/// What is sent, and how it is signed.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Where to.
    pub url: &'a str,
    /// The same at each try, so that a receiver knows repetitions.
    pub id: &'a str,
    /// Seconds since 1970.
    pub timestamp: i64,
    /// JSON.
    pub body: &'a str,
    /// Empty: not signed.
    pub secret: &'a str,
}

impl Sender {
    /// A sender; `allow_private` lets it reach private addresses too.
    ///
    /// # Errors
    /// A TLS set-up that cannot be used.
    pub fn new(allow_private: bool) -> Result<Self, ServiceError> {
        let client = Client::builder()
            .dns_resolver(Arc::new(Guarded { allow_private }))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(TIME_MAX)
            .user_agent("quarry-webhooks")
            .build()
            .map_err(|error| {
                ServiceError::internal("no client for webhooks can be made").caused_by(error)
            })?;
        Ok(Self { client, allow_private })
    }

    /// Checks an address as far as it can be without asking for names.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field `url` and the rule.
    pub fn check_url(&self, text: &str) -> Result<(), ServiceError> {
        let wrong = |why: &str| {
            Err(ServiceError::invalid("url", why.to_owned()).reason("INVALID_WEBHOOK_URL"))
        };
        if text.len() > URL_BYTES_MAX {
            return wrong("is longer than 2,048 bytes");
        }
        let Ok(url) = Url::parse(text) else { return wrong("is no URL") };
        if !matches!(url.scheme(), "http" | "https") {
            return wrong("must begin with https:// or http://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("must not hold a user or a password; give a secret to sign with");
        }
        let Some(host) = url.host_str() else { return wrong("names no host") };
        if self.allow_private {
            return Ok(());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.parse().is_ok_and(|ip| !is_public(ip)) {
            return wrong(
                "names an address that is not public; the setting webhooks_allow_private allows it",
            );
        }
        let name = bare.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") || name.ends_with(".internal") {
            return wrong(
                "names a host that is not public; the setting webhooks_allow_private allows it",
            );
        }
        Ok(())
    }

    /// Sends; answers the status.
    ///
    /// # Errors
    /// Why nothing was answered, in words for whoever reads the record.
    pub async fn send(&self, delivery: Delivery<'_>) -> Result<u16, String> {
        self.post(delivery).await.map(|answer| answer.status().as_u16())
    }

    /// Sends; answers the status and the first bytes of the body, as text.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_and_read(
        &self,
        delivery: Delivery<'_>,
        bytes_max: usize,
    ) -> Result<(u16, String), String> {
        let mut answer = self.post(delivery).await?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while body.len() < bytes_max
            && let Some(chunk) = answer.chunk().await.map_err(|error| innermost(&error))?
        {
            body.extend_from_slice(&chunk);
        }
        body.truncate(bytes_max);
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn post(&self, delivery: Delivery<'_>) -> Result<Response, String> {
        self.check_url(delivery.url).map_err(|error| error.message().to_owned())?;
        let timestamp = delivery.timestamp.to_string();
        let mut request = self
            .client
            .post(delivery.url)
            .header("content-type", "application/json")
            .header("X-MLflow-Delivery-Id", delivery.id)
            .header("X-MLflow-Timestamp", &timestamp);
        if !delivery.secret.is_empty() {
            let signature = signature(delivery.secret, delivery.id, &timestamp, delivery.body);
            request = request.header("X-MLflow-Signature", signature);
        }
        let sent = request.body(delivery.body.to_owned()).send().await;
        sent.map_err(|error| innermost(&error))
    }
}

/// `v1,<base64>` as MLflow's receivers verify it.
fn signature(secret: &str, id: &str, timestamp: &str, body: &str) -> String {
    // A key of any length is one for HMAC.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The cause at the bottom, which names the host or the refusal.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Resolves names, and gives public addresses only.
#[derive(Debug)]
struct Guarded {
    allow_private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            // One private address among public ones is a trick, not a choice.
            if !allow_private && found.iter().any(|address| !is_public(address.ip())) {
                return Err(format!("{host} has an address that is not public").into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests;
