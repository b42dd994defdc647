//! Which role a Kubernetes service-account token is of.

mod keys;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use service_error::ServiceError;

use keys::{Keys, Place};

const SUBJECT: &str = "system:serviceaccount:";
/// Seconds that two clocks may differ.
const LEEWAY_SECONDS: u64 = 5;
/// A longer one is no service account's.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// What the cluster signs with: RSA as a rule, elliptic curves in some.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The section `[identity.projected]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The cluster's issuer, as its tokens name it; unset: no projected token is accepted.
    pub issuer: Option<String>,
    /// The audience that tokens are projected for.
    pub audience: Option<String>,
    /// Where the cluster's keys are, as a file.
    pub jwks_file: Option<PathBuf>,
    /// Where the cluster's keys are, `http://` or `https://`.
    pub jwks_url: Option<String>,
    /// Certificates by which `jwks_url` is trusted, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A token that is shown when the keys are asked for; read anew each time.
    pub bearer_file: Option<PathBuf>,
    /// Role → `namespace:service-account`.
    pub accounts: BTreeMap<String, String>,
}

/// The audience unless the settings say otherwise.
pub const AUDIENCE: &str = "quarry";

/// Tells roles by their tokens.
#[derive(Debug)]
pub struct Verifier {
    issuer: String,
    audience: String,
    /// `namespace:service-account` → role.
    roles: BTreeMap<String, String>,
    keys: Keys,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Verifier {
    /// What the settings say; nothing if they name no issuer.
    ///
    /// # Errors
    /// Settings that say too little or contradict themselves.
    pub fn new(settings: &Settings) -> Result<Option<Self>, ServiceError> {
        let Some(issuer) = &settings.issuer else { return Ok(None) };
        let wrong = |key: &str, why: &str| {
            ServiceError::invalid(&format!("identity.projected.{key}"), why)
                .reason("INVALID_SETTINGS")
        };
        let place = match (&settings.jwks_file, &settings.jwks_url) {
            (Some(file), None) => Place::File(file.clone()),
            (None, Some(url)) => Place::Url {
                url: url.clone(),
                ca_file: settings.ca_file.clone(),
                bearer_file: settings.bearer_file.clone(),
            },
            _ => return Err(wrong("jwks_url", "set one of jwks_url and jwks_file")),
        };
        if settings.accounts.is_empty() {
            return Err(wrong(
                "accounts",
                "name the service account of each role, ROLE = \"namespace:account\"",
            ));
        }
        let mut roles = BTreeMap::new();
        for (role, account) in &settings.accounts {
            if account.split(':').filter(|part| !part.is_empty()).count() != 2 {
                return Err(wrong(
                    "accounts",
                    &format!("{role} = {account:?} is no namespace:account"),
                ));
            }
            if roles.insert(account.clone(), role.replace('_', "-")).is_some() {
                return Err(wrong("accounts", &format!("{account} is the account of two roles")));
            }
        }
        Ok(Some(Self {
            issuer: issuer.clone(),
            audience: settings.audience.clone().unwrap_or_else(|| AUDIENCE.to_owned()),
            roles,
            keys: Keys::new(place)?,
        }))
    }

    /// Whether a secret may be a token at all: three parts, as no other secret has.
    #[must_use]
    pub fn is_token(secret: &str) -> bool {
        secret.len() <= TOKEN_BYTES_MAX
            && secret.starts_with("ey")
            && secret.split('.').count() == 3
    }

    /// The role whose token it is.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for a token that does not verify or is no role's,
    /// `UNAVAILABLE` when the cluster's keys cannot be had.
    pub async fn role_of(&self, token: &str) -> Result<&str, ServiceError> {
        let header = decode_header(token).map_err(|_| refused("it is malformed"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(refused("its algorithm is none that a cluster signs with"));
        }
        let kid = header.kid.ok_or_else(|| refused("it names no key"))?;
        let key =
            self.keys.get(&kid).await?.ok_or_else(|| refused("its key is not the cluster's"))?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let claims = decode::<Claims>(token, &key, &validation)
            .map_err(|error| refused(reason(&error)))?
            .claims;
        let account = claims.sub.strip_prefix(SUBJECT);
        let role = account.and_then(|account| self.roles.get(account));
        role.map(String::as_str).ok_or_else(|| {
            let shown: String = claims.sub.chars().take(200).collect();
            refused(&format!("{shown:?} is no role's account (identity.projected.accounts)"))
        })
    }
}

fn refused(why: &str) -> ServiceError {
    ServiceError::unauthenticated(format!("the projected token was refused: {why}"))
        .reason("PROJECTED_TOKEN_INVALID")
}

fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired; is the projected file renewed?",
        ErrorKind::ImmatureSignature => "it is not valid yet; do the clocks differ?",
        ErrorKind::InvalidAudience => {
            "it is projected for another audience (identity.projected.audience)"
        }
        ErrorKind::InvalidIssuer => "another cluster issued it (identity.projected.issuer)",
        ErrorKind::InvalidSignature => "its signature does not verify",
        _ => "it is malformed",
    }
}

#[cfg(test)]
mod tests;
