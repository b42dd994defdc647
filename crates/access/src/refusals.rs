//! Callers that are refused although their internal token still verifies.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use caller::{Caller, Refused};
use ids::{PrincipalId, TokenId};
use options_api::v1::Role;

use crate::now_micros;

/// Forgotten entries are dropped whenever this many have gathered.
const SWEEP_AT: usize = 1_024;

/// Disabled principals, revoked tokens and changed global roles.
#[derive(Debug, Default)]
pub struct Refusals {
    known: RwLock<Known>,
}

#[derive(Debug, Default, Clone)]
struct Known {
    disabled: HashMap<PrincipalId, ()>,
    /// By token, when to forget it.
    revoked: HashMap<TokenId, i64>,
    /// By principal, its role now and when to forget that it changed.
    roles: HashMap<PrincipalId, (Role, i64)>,
}

impl Refusals {
    /// Refuses a principal until it is enabled again.
    pub fn disable(&self, principal: PrincipalId) {
        self.write(|known| known.disabled.insert(principal, ()));
    }

    /// Takes [`Self::disable`] back.
    pub fn enable(&self, principal: PrincipalId) {
        self.write(|known| known.disabled.remove(&principal));
    }

    /// Refuses an opaque token until `forget_at` (microseconds UTC), when no
    /// internal token made from it is left.
    pub fn revoke(&self, token: TokenId, forget_at: i64) {
        self.write(|known| known.revoked.insert(token, forget_at));
    }

    /// Refuses internal tokens of a higher role than this until `forget_at`.
    pub fn change_role(&self, principal: PrincipalId, role: Role, forget_at: i64) {
        self.write(|known| known.roles.insert(principal, (role, forget_at)));
    }

    /// Takes over everything that `other` knows and forgets the rest.
    pub fn replace(&self, other: &Self) {
        let new = other
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.write(|known| *known = new);
    }

    fn write<T>(&self, change: impl FnOnce(&mut Known) -> T) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.revoked.len() + known.roles.len() >= SWEEP_AT {
            let now = now_micros();
            known.revoked.retain(|_, forget_at| *forget_at > now);
            known.roles.retain(|_, (_, forget_at)| *forget_at > now);
        }
        change(&mut known);
    }
}

impl Refused for Refusals {
    fn refused(&self, caller: &Caller) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.disabled.contains_key(&caller.principal)
            || caller
                .token
                .is_some_and(|token| known.revoked.contains_key(&token))
            || known
                .roles
                .get(&caller.principal)
                .is_some_and(|(role, forget_at)| {
                    (caller.role as i32) > (*role as i32) && *forget_at > now_micros()
                })
    }
}
