//! Credentials into short internal tokens.

use caller::{Actor, Claims, ISSUER, Secret, scope};
use ids::{PrincipalId, TokenId, role_principal};
use projected_tokens::Verifier;
use service_error::ServiceError;
use sql_store::now_micros;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use uuid::Uuid;

use super::{GATEWAY, Identity, SERVICE};
use crate::model::{Presented, Principal, Scope, Token, fingerprint};

const EXCHANGE: &str = "quarry.identity.v1.ExchangeService/ExchangeToken";
const SERVICE_ROLE: &str = "service";
/// Compared with when there is no such token, so that both take as long.
const NO_HASH: [u8; 32] = [0; 32];

/// What a client sends.
#[derive(Debug)]
pub enum Credential {
    /// A personal access token.
    Bearer(Secret),
    /// A name with a token as password.
    Basic { name: String, password: Secret },
}

/// An internal token.
#[derive(Debug)]
pub struct Issued {
    pub jwt: Secret,
    /// Seconds since 1970 UTC.
    pub expires_at: i64,
}

/// An internal token and whose it is.
#[derive(Debug)]
pub struct Exchanged {
    pub issued: Issued,
    pub principal: PrincipalId,
    pub name: String,
}

/// Whom a token is for, and through whom.
struct Bearing<'a> {
    principal: PrincipalId,
    name: &'a str,
    role: &'static str,
    scope: &'static str,
    actor: Option<&'a str>,
    token: Option<&'a Token>,
}

impl Identity {
    /// A client's credential into a token for `audience`, for the gateway.
    ///
    /// # Errors
    /// UNAUTHENTICATED, in the same words for an unknown and a wrong one.
    pub async fn exchange(
        &self,
        service_secret: &Secret,
        audience: &str,
        credential: &Credential,
    ) -> Result<Exchanged, ServiceError> {
        if self.role_of_secret(service_secret).await? != GATEWAY {
            return Err(ServiceError::denied("only the gateway exchanges clients' credentials"));
        }
        self.check_audience(audience)?;
        let (token, owner) = self.authenticate(credential).await.inspect_err(|error| {
            self.denials.record(None, EXCHANGE, "", error.reason_text());
        })?;
        let scope = if token.scope == Scope::Full { scope::FULL } else { scope::READ };
        let bearing = Bearing {
            principal: owner.id,
            name: &owner.name,
            role: owner.role.word(),
            scope,
            actor: None,
            token: Some(&token),
        };
        let issued = self.issue_to(audience, &bearing)?;
        Ok(Exchanged { issued, principal: owner.id, name: owner.name })
    }

    /// A token for `audience`: for the asking role itself, or for the user
    /// whose token it was called with. That one may have expired, for streams
    /// and jobs go on; the principal and its opaque token are looked at anew.
    ///
    /// # Errors
    /// UNAUTHENTICATED for a wrong secret, a subject token that is not the
    /// asking role's, or a principal or token that is refused by now.
    pub async fn issue(
        &self,
        service_secret: &Secret,
        audience: &str,
        subject_token: &str,
    ) -> Result<Issued, ServiceError> {
        let asking = self.role_of_secret(service_secret).await?;
        self.check_audience(audience)?;
        if subject_token.is_empty() {
            let principal = role_principal(asking);
            return self.issue_to(
                audience,
                &Bearing {
                    principal,
                    name: asking,
                    role: SERVICE_ROLE,
                    scope: scope::FULL,
                    actor: None,
                    token: None,
                },
            );
        }
        if audience == asking {
            return Err(ServiceError::invalid(
                "audience",
                "is the asking role; a role calls itself without a token",
            ));
        }
        let claims = self.keys.verify_stale(subject_token, asking)?;
        if claims.role == SERVICE_ROLE {
            return Err(ServiceError::invalid(
                "subject_token",
                "is a platform role's; leave it empty to call as the asking role",
            ));
        }
        let (owner, token) = self.subject(&claims).await?;
        let scope = if claims.scope == scope::FULL { scope::FULL } else { scope::READ };
        let bearing = Bearing {
            principal: owner.id,
            name: &owner.name,
            role: owner.role.word(),
            scope,
            actor: Some(asking),
            token: token.as_ref(),
        };
        self.issue_to(audience, &bearing)
    }

    /// The public keys, as JWKS, freshly read: it is asked for when a key is
    /// unknown.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn jwks(&self) -> Result<String, ServiceError> {
        self.keys.reload(&self.store).await?;
        self.keys.jwks()
    }

    async fn subject(&self, claims: &Claims) -> Result<(Principal, Option<Token>), ServiceError> {
        let id: PrincipalId = claims.sub.parse().map_err(|_| refused())?;
        let owner =
            self.store.principal(id).await?.filter(|owner| !owner.disabled).ok_or_else(refused)?;
        let Some(tid) = &claims.tid else {
            return Ok((owner, None));
        };
        let tid: TokenId = tid.parse().map_err(|_| refused())?;
        let row = self
            .store
            .token(tid)
            .await?
            .filter(|row| row.token.is_live(now_micros()))
            .ok_or_else(refused)?;
        Ok((owner, Some(row.token)))
    }

    async fn authenticate(
        &self,
        credential: &Credential,
    ) -> Result<(Token, Principal), ServiceError> {
        let (name, secret) = match credential {
            Credential::Bearer(secret) => (None, secret),
            Credential::Basic { name, password } => (Some(name.as_str()), password),
        };
        let presented = Presented::parse(secret.expose()).ok_or_else(invalid)?;
        let row = self.store.token(presented.id).await?;
        let matches = presented.matches(row.as_ref().map_or(&NO_HASH, |row| &row.hash));
        let row = row.filter(|_| matches).ok_or_else(invalid)?;
        // From here on the secret is known to be right.
        if row.token.revoked_at.is_some() {
            return Err(ServiceError::unauthenticated("the token was revoked; make another one")
                .reason("TOKEN_REVOKED"));
        }
        if !row.token.is_live(now_micros()) {
            return Err(ServiceError::unauthenticated("the token has expired; make another one")
                .reason("TOKEN_EXPIRED"));
        }
        let owner = self.store.principal(row.token.owner).await?.ok_or_else(invalid)?;
        if owner.disabled {
            return Err(ServiceError::unauthenticated(
                "the token's owner is disabled; ask an admin",
            )
            .reason("USER_DISABLED"));
        }
        if name.is_some_and(|name| name != owner.name) {
            return Err(invalid());
        }
        Ok((row.token, owner))
    }

    fn issue_to(&self, audience: &str, bearing: &Bearing<'_>) -> Result<Issued, ServiceError> {
        let now = now_micros() / 1_000_000;
        let life = i64::try_from(self.settings.token_life().as_secs()).unwrap_or(60);
        let token_ends =
            bearing.token.and_then(|token| token.expires_at).map_or(i64::MAX, |at| at / 1_000_000);
        let expires_at = (now + life).min(token_ends);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: audience.to_owned(),
            sub: bearing.principal.to_string(),
            name: bearing.name.to_owned(),
            role: bearing.role.to_owned(),
            scope: bearing.scope.to_owned(),
            act: bearing.actor.map(|actor| Actor { sub: actor.to_owned() }),
            tid: bearing.token.map(|token| token.id.to_string()),
            iat: now,
            exp: expires_at,
            jti: Uuid::now_v7().to_string(),
        };
        Ok(Issued { jwt: self.keys.sign(&claims)?, expires_at })
    }

    /// Which role a secret is, in the same time for each.
    async fn role_of_secret(&self, secret: &Secret) -> Result<&str, ServiceError> {
        let projected = self.projected.as_ref();
        if let Some(verifier) = projected.filter(|_| Verifier::is_token(secret.expose())) {
            return verifier.role_of(secret.expose()).await;
        }
        let hash = fingerprint(secret.expose().as_bytes());
        let mut found = u32::MAX;
        for (index, role) in (0u32..).zip(&self.roles) {
            let same: Choice = role.hash.as_slice().ct_eq(hash.as_slice());
            found.conditional_assign(&index, same);
        }
        let role = usize::try_from(found).ok().and_then(|index| self.roles.get(index));
        role.map(|role| role.role.as_str()).ok_or_else(|| {
            ServiceError::unauthenticated("service_secret: is no role's; is the role's QUARRY_SERVICE_TOKEN_FILE the one that identity knows?")
                .reason("SERVICE_SECRET_INVALID")
        })
    }

    fn check_audience(&self, audience: &str) -> Result<(), ServiceError> {
        let known = audience == SERVICE || self.roles.iter().any(|role| role.role == audience);
        if known && audience != GATEWAY {
            return Ok(());
        }
        Err(ServiceError::invalid("audience", "is no role that can be called"))
    }
}

fn invalid() -> ServiceError {
    ServiceError::unauthenticated(
        "the credential is not valid; make a token with `quarry tokens create`",
    )
    .reason("TOKEN_INVALID")
}

fn refused() -> ServiceError {
    ServiceError::unauthenticated("the token was revoked or its owner disabled")
        .reason("TOKEN_REVOKED")
}
