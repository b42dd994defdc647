//! Decisions: the level of a caller on a resource, and what follows from it.

use std::time::Duration;

use caller::{Caller, authorized};
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::{CheckAccessRequest, CheckAccessResponse};
use options_api::v1::{Level, ResourceKind, Role};
use service_error::ServiceError;
use tokio::time::timeout;
use uuid::Uuid;

use crate::replica::{GrantReplica, IDENTITY, now_seconds};
use crate::{Resource, Subject};

const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// The resources of a kind that a caller may see, for the query of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// All of them.
    All,
    /// These, and the public ones.
    Ids(Vec<Uuid>),
}

impl GrantReplica {
    /// The caller's level on a resource, whose chain is the resource itself
    /// and what it lies in; nothing when it may not even read.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the replica is stale and identity away,
    /// `UNAUTHENTICATED` when identity refuses the caller.
    pub async fn level(
        &self,
        caller: &Caller,
        chain: &[Resource],
        public: bool,
    ) -> Result<Option<Level>, ServiceError> {
        if caller.service {
            return Ok(Some(Level::Owner));
        }
        let granted = if self.is_fresh() {
            self.known_level(caller, chain)
        } else {
            self.asked_level(caller, chain).await?
        };
        Ok(effective(caller, granted, public))
    }

    /// Lets the caller pass if it holds `need` on the resource.
    ///
    /// # Errors
    /// `NOT_FOUND` for a caller that may not read it, `PERMISSION_DENIED` for
    /// one that may, but not this; both are recorded. Also as [`Self::level`].
    pub async fn require(
        &self,
        caller: &Caller,
        need: Level,
        chain: &[Resource],
        public: bool,
        subject: Subject<'_>,
    ) -> Result<Level, ServiceError> {
        let level = self.level(caller, chain, public).await?;
        self.decided(caller, level, need, chain, subject)
    }

    /// Lets pass a right that was given to somebody earlier, as in a signed
    /// address, and may be older than any token: identity itself is asked, which
    /// knows roles and revoked tokens of any age. While it is away, grants decide
    /// for as long as patience lasts.
    ///
    /// # Errors
    /// As [`Self::require`].
    pub async fn require_now(
        &self,
        caller: &Caller,
        need: Level,
        chain: &[Resource],
        subject: Subject<'_>,
    ) -> Result<Level, ServiceError> {
        let level = self.asked_level(caller, chain).await?;
        self.decided(caller, level, need, chain, subject)
    }

    fn decided(
        &self,
        caller: &Caller,
        level: Option<Level>,
        need: Level,
        chain: &[Resource],
        subject: Subject<'_>,
    ) -> Result<Level, ServiceError> {
        let error = match level {
            Some(level) if level as i32 >= need as i32 => return Ok(level),
            Some(_) => {
                let needed = level_word(need);
                ServiceError::denied(format!(
                    "the call needs {needed} on {} {}",
                    subject.kind, subject.name
                ))
                .reason("LEVEL_TOO_LOW")
                .with("needed", needed)
            }
            None => ServiceError::not_found(subject.kind, subject.name),
        };
        self.inner.denials.record(
            caller.principal,
            subject.action,
            chain.first().copied(),
            error.reason_text(),
        );
        Err(error)
    }

    /// Which resources of a kind the caller may see, beside the public ones.
    ///
    /// # Errors
    /// As [`Self::level`].
    pub async fn visible(
        &self,
        caller: &Caller,
        kind: ResourceKind,
    ) -> Result<Visible, ServiceError> {
        if caller.service {
            return Ok(Visible::All);
        }
        if !self.is_fresh() {
            // One question, to be refused or let pass; identity answers no
            // lists, and the state is at most as old as the patience to deny.
            self.asked_level(caller, &[]).await?;
        }
        if caller.role == Role::Admin {
            return Ok(Visible::All);
        }
        Ok(Visible::Ids(self.read(|state| state.resources(caller.principal, kind, now_seconds()))))
    }

    fn is_fresh(&self) -> bool {
        self.lag().is_some_and(|lag| lag <= self.inner.patience.ask_after)
    }

    fn known_level(&self, caller: &Caller, chain: &[Resource]) -> Option<Level> {
        self.read(|state| state.level(caller.principal, chain, now_seconds()))
    }

    async fn asked_level(
        &self,
        caller: &Caller,
        chain: &[Resource],
    ) -> Result<Option<Level>, ServiceError> {
        match timeout(ASK_TIMEOUT, self.ask(caller, chain)).await {
            Ok(Ok(answer)) if answer.refused => {
                Err(ServiceError::unauthenticated("the token was revoked or its owner disabled")
                    .reason("TOKEN_REVOKED"))
            }
            Ok(Ok(answer)) => {
                Ok(Level::try_from(answer.level).ok().filter(|level| *level != Level::Unspecified))
            }
            // Until patience ends the last known state still decides.
            _ if self.lag().is_some_and(|lag| lag <= self.inner.patience.deny_after) => {
                Ok(self.known_level(caller, chain))
            }
            _ => Err(ServiceError::unavailable(
                "access cannot be decided: identity does not answer; try again shortly",
            )
            .reason("IDENTITY_AWAY")),
        }
    }

    async fn ask(
        &self,
        caller: &Caller,
        chain: &[Resource],
    ) -> Result<CheckAccessResponse, ServiceError> {
        let bearer = self.inner.tokens.for_self(IDENTITY).await?;
        let resources = chain.iter().map(|resource| (*resource).into());
        let request = CheckAccessRequest {
            principal_id: caller.principal.to_string(),
            resources: resources.collect(),
            token_id: caller.token.map(|token| token.to_string()).unwrap_or_default(),
        };
        let mut client = ReplicaServiceClient::new(self.inner.identity.clone());
        Ok(client.check_access(authorized(request, &bearer)).await?.into_inner())
    }
}

/// What a granted level comes to: an admin's reaches everything, a viewer's
/// and a reading token's ends at Read, and what is public can be read.
fn effective(caller: &Caller, granted: Option<Level>, public: bool) -> Option<Level> {
    let granted = if caller.role == Role::Admin { Some(Level::Owner) } else { granted };
    let granted = granted.or(public.then_some(Level::Read))?;
    let reads_only = caller.read_only || caller.role == Role::Viewer;
    Some(if reads_only { Level::Read } else { granted })
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::Unspecified | Level::Read => "read",
        Level::Write => "write",
        Level::Admin => "admin",
        Level::Owner => "owner",
    }
}
