//! Somebody who calls.

use caller::{Caller, scope};
use ids::{PrincipalId, role_principal};
use options_api::v1::Role;

/// A user, or a role of the platform, with what its token says.
#[derive(Debug, Clone)]
pub struct Who {
    /// Its id.
    pub principal: PrincipalId,
    pub(crate) role: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) actor: Option<String>,
}

impl Who {
    /// Somebody new with the global role `user`.
    #[must_use]
    pub fn user() -> Self {
        Self { principal: PrincipalId::new(), role: "user", scope: scope::FULL, actor: None }
    }

    /// Somebody new with the global role `viewer`.
    #[must_use]
    pub fn viewer() -> Self {
        Self { role: "viewer", ..Self::user() }
    }

    /// Somebody new with the global role `admin`.
    #[must_use]
    pub fn admin() -> Self {
        Self { role: "admin", ..Self::user() }
    }

    /// A role of the platform that calls for itself.
    #[must_use]
    pub fn service(name: &str) -> Self {
        Self { principal: role_principal(name), role: "service", ..Self::user() }
    }

    /// The same one with a token that may only read.
    #[must_use]
    pub fn reading_only(&self) -> Self {
        Self { scope: scope::READ, ..self.clone() }
    }

    /// The same one when a role of the platform calls for it; a role stays itself.
    #[must_use]
    pub fn via(&self, actor: &str) -> Self {
        let actor = (self.role != "service").then(|| actor.to_owned());
        Self { actor, ..self.clone() }
    }

    /// Whom a verified token names.
    pub(crate) fn of(caller: &Caller) -> Self {
        let role = match caller.role {
            _ if caller.service => "service",
            Role::Admin => "admin",
            Role::User => "user",
            Role::Viewer | Role::Unspecified => "viewer",
        };
        let scope = if caller.read_only { scope::READ } else { scope::FULL };
        Self { principal: caller.principal, role, scope, actor: caller.actor.clone() }
    }

    /// The name that identity gives a principal.
    pub(crate) fn name_of(principal: &str) -> String {
        let from = principal.len().saturating_sub(12);
        format!("somebody-{}", &principal[from..])
    }
}
