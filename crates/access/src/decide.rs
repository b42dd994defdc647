//! The rules of a level.

use std::sync::PoisonError;
use std::time::Duration;

use caller::{Caller, Refused, authorized};
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::{self as api, CheckAccessRequest};
use options_api::v1::Role;
use service_error::ServiceError;
use tokio::time::timeout;

use crate::replica::{ASK_BEYOND, DENY_BEYOND};
use crate::{GrantReplica, Level, Resource, Subject, now_micros};

const ASK_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn level(
    replica: &GrantReplica,
    caller: &Caller,
    chain: &[Resource],
    public: bool,
) -> Result<Option<Level>, ServiceError> {
    if replica.refused(caller) {
        return Err(refused());
    }
    let granted = if sees_all(caller) {
        Some(Level::Owner)
    } else {
        granted(replica, caller, chain).await?
    };
    Ok(capped(granted, caller, public))
}

/// A global admin, or a platform role that acts for itself.
pub(crate) fn sees_all(caller: &Caller) -> bool {
    caller.service || caller.role == Role::Admin
}

async fn granted(
    replica: &GrantReplica,
    caller: &Caller,
    chain: &[Resource],
) -> Result<Option<Level>, ServiceError> {
    let lag = replica.lag();
    if lag.is_none_or(|lag| lag > ASK_BEYOND) {
        match timeout(ASK_TIMEOUT, ask(replica, caller, chain)).await {
            Ok(Ok(level)) => return Ok(level),
            Ok(Err(error)) if error.reason_is(REFUSED) => return Err(error),
            _ if lag.is_none_or(|lag| lag > DENY_BEYOND) => return Err(too_old()),
            _ => {}
        }
    }
    let state = replica
        .inner
        .state
        .read()
        .unwrap_or_else(PoisonError::into_inner);
    Ok(state.level(caller.principal, chain, now_micros()))
}

async fn ask(
    replica: &GrantReplica,
    caller: &Caller,
    chain: &[Resource],
) -> Result<Option<Level>, ServiceError> {
    let request = CheckAccessRequest {
        principal_id: caller.principal.to_string(),
        resources: chain
            .iter()
            .map(|resource| api::Resource {
                kind: resource.kind as i32,
                id: resource.id.to_string(),
            })
            .collect(),
        token_id: caller
            .token
            .map(|token| token.to_string())
            .unwrap_or_default(),
    };
    let bearer = replica.inner.tokens.for_self("identity").await?;
    let mut identity = ReplicaServiceClient::new(replica.inner.identity.clone());
    let answer = identity
        .check_access(authorized(request, &bearer))
        .await?
        .into_inner();
    if answer.refused {
        return Err(refused());
    }
    Ok(Level::try_from(answer.level)
        .ok()
        .filter(|level| *level != Level::Unspecified))
}

/// A Viewer and a read-only token have at most Read; what is public, everybody
/// may read.
fn capped(granted: Option<Level>, caller: &Caller, public: bool) -> Option<Level> {
    let reads_only = caller.read_only || caller.role == Role::Viewer;
    match granted {
        Some(_) if reads_only => Some(Level::Read),
        None if public => Some(Level::Read),
        granted => granted,
    }
}

/// # Errors
/// NOT_FOUND without a level, PERMISSION_DENIED with too low a one.
pub(crate) fn enough(
    level: Option<Level>,
    need: Level,
    subject: Subject<'_>,
) -> Result<Level, ServiceError> {
    let Subject { kind, name, .. } = subject;
    match level {
        None => Err(ServiceError::not_found(kind, name)),
        Some(level) if (level as i32) < (need as i32) => Err(ServiceError::denied(format!(
            "{kind} {name} needs the level {}, and yours is {}; ask an owner for a grant",
            word(need),
            word(level)
        ))
        .reason("LEVEL_TOO_LOW")
        .with("need", word(need))
        .with("level", word(level))),
        Some(level) => Ok(level),
    }
}

fn word(level: Level) -> String {
    level
        .as_str_name()
        .trim_start_matches("LEVEL_")
        .to_ascii_lowercase()
}

/// The reason of [`refused`].
const REFUSED: &str = "TOKEN_REVOKED";

pub(crate) fn refused() -> ServiceError {
    ServiceError::unauthenticated("the token was revoked or its owner disabled").reason(REFUSED)
}

pub(crate) fn too_old() -> ServiceError {
    ServiceError::unavailable(
        "who may do what is not known right now: identity does not answer; try again",
    )
    .reason("GRANTS_UNKNOWN")
}
