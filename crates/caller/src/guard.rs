//! The guard around a role's routes: nobody gets in without what the method
//! needs.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use options_api::NeedTable;
use options_api::v1::{Authz, Role};
use service_error::ServiceError;
use tonic::Status;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::{Caller, Keys};

/// Routes behind the guard.
pub type Guarded = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Callers that are refused although their token verifies: a disabled
/// principal, a revoked token.
pub trait Refused: Send + Sync + 'static {
    /// Whether to refuse the caller now.
    fn refused(&self, caller: &Caller) -> bool;

    /// Told of each call that the guard denies to a known caller, for the
    /// audit; `path` is the method's.
    fn denied(&self, caller: &Caller, path: &str, error: &ServiceError) {
        let _ = (caller, path, error);
    }
}

/// Refuses nobody; for a role that looks it up itself.
#[derive(Debug, Clone, Copy)]
pub struct AcceptAll;

impl Refused for AcceptAll {
    fn refused(&self, _: &Caller) -> bool {
        false
    }
}

struct Gate {
    audience: &'static str,
    keys: Keys,
    needs: NeedTable,
    refused: Arc<dyn Refused>,
}

/// Puts the guard around `routes`: verifies the bearer token for `audience`,
/// enforces what the method needs without a look-up (public, role, platform
/// role, read-only token) and hands the [`Caller`] to the handler. A method
/// that is not in `needs` is refused.
pub fn guard<S>(
    routes: S,
    audience: &'static str,
    keys: Keys,
    needs: NeedTable,
    refused: Arc<dyn Refused>,
) -> Guarded
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let gate = Arc::new(Gate { audience, keys, needs, refused });
    BoxCloneSyncService::new(tower::service_fn(move |mut request: Request<Body>| {
        let gate = Arc::clone(&gate);
        let routes = routes.clone();
        async move {
            match gate.admit(request.uri().path(), request.headers()).await {
                Ok(caller) => {
                    if let Some(caller) = caller {
                        request.extensions_mut().insert(caller);
                    }
                    routes.oneshot(request).await
                }
                Err(error) => Ok(Status::from(error).into_http()),
            }
        }
    }))
}

impl Gate {
    async fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Caller>>, ServiceError> {
        let Some(need) = self.needs.need(path) else {
            return Err(ServiceError::unimplemented(format!("there is no method {path}")));
        };
        if need.public {
            return Ok(None);
        }
        let jwt = bearer(headers)?;
        let caller = self.keys.verify(jwt, self.audience).await?;
        if self.refused.refused(&caller) {
            return Err(ServiceError::unauthenticated(
                "the token was revoked or its owner disabled",
            )
            .reason("TOKEN_REVOKED"));
        }
        if let Err(error) = enforce(need, &caller) {
            self.refused.denied(&caller, path, &error);
            return Err(error);
        }
        Ok(Some(caller))
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, ServiceError> {
    let missing = || {
        ServiceError::unauthenticated(
            "the call needs a token: send `authorization: Bearer <token>`",
        )
    };
    let text = headers.get(AUTHORIZATION).ok_or_else(missing)?.to_str().map_err(|_| missing())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

/// Refuses a caller that lacks what `need` asks for without a look-up: role,
/// platform role, a token that may write. For handlers whose messages need
/// more than their method does.
///
/// # Errors
/// `PermissionDenied`.
pub fn enforce(need: &Authz, caller: &Caller) -> Result<(), ServiceError> {
    // The gateway acts for everybody outside; only the roles behind it are
    // "of this platform".
    let of_platform =
        caller.service || caller.actor.as_deref().is_some_and(|actor| actor != "gateway");
    if need.service_only && !of_platform {
        return Err(ServiceError::denied("only a role of this platform may make the call"));
    }
    if caller.read_only && !need.read_only {
        return Err(ServiceError::denied("the token may only read").reason("TOKEN_READ_ONLY"));
    }
    let least = Role::try_from(need.role).unwrap_or(Role::Admin);
    if (caller.role as i32) < (least as i32) {
        let word = least.as_str_name().trim_start_matches("ROLE_").to_ascii_lowercase();
        return Err(ServiceError::denied(format!("the call needs the global role {word}"))
            .reason("ROLE_TOO_LOW"));
    }
    Ok(())
}
