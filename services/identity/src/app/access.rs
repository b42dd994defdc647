//! Decisions for roles whose replica lags.

use ids::{PrincipalId, TokenId};
use service_error::ServiceError;
use sql_store::now_micros;

use super::Identity;
use crate::model::{Level, Resource, Role};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// The highest level on any of the resources.
    pub level: Option<Level>,
    /// It is disabled or its token revoked.
    pub refused: bool,
}

impl Identity {
    /// The level of a principal on a resource and its ancestors.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn check_access(
        &self,
        principal: PrincipalId,
        chain: &[Resource],
        token: Option<TokenId>,
    ) -> Result<Access, ServiceError> {
        let now = now_micros();
        let refused = Access { level: None, refused: true };
        let Some(principal) =
            self.store.principal(principal).await?.filter(|principal| !principal.disabled)
        else {
            return Ok(refused);
        };
        if let Some(token) = token
            && !self.store.token(token).await?.is_some_and(|row| row.token.is_live(now))
        {
            return Ok(refused);
        }
        let grants = self.store.grants_on(principal.id, chain).await?;
        let granted =
            grants.iter().filter(|grant| grant.is_live(now)).map(|grant| grant.level).max();
        let level = match principal.role {
            Role::Admin => Some(Level::Owner),
            Role::User => granted,
            Role::Viewer => granted.map(|_| Level::Read),
        };
        Ok(Access { level, refused: false })
    }
}
