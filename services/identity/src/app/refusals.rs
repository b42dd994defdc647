//! Callers whose internal token verifies and who are refused all the same.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use caller::{Caller, Refused};
use ids::{PrincipalId, TokenId};
use service_error::ServiceError;
use sql_store::now_micros;

use super::Identity;
use super::users::role_of;
use crate::model::{Change, Role};

/// What is past is forgotten whenever so many have gathered.
const SWEEP_AT: usize = 1_024;

/// Kept by following the change log, as every other role's replica is.
#[derive(Debug, Default)]
pub struct Refusals {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    disabled: HashSet<PrincipalId>,
    /// Until when, microseconds UTC.
    revoked: HashMap<TokenId, i64>,
    roles: HashMap<PrincipalId, (Role, i64)>,
}

impl Refusals {
    pub fn apply(&self, changes: &[Change]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match *change {
                Change::Disabled(principal) => {
                    known.disabled.insert(principal);
                }
                Change::Enabled(principal) => {
                    known.disabled.remove(&principal);
                }
                Change::Revoked { token, forget_at } => {
                    known.revoked.insert(token, forget_at);
                }
                Change::Role { principal, role, forget_at } => {
                    known.roles.insert(principal, (role, forget_at));
                }
                Change::Grant(_) | Change::Removed(_) => {}
            }
        }
        if known.revoked.len() + known.roles.len() > SWEEP_AT {
            let now = now_micros();
            known.revoked.retain(|_, forget_at| *forget_at > now);
            known.roles.retain(|_, (_, forget_at)| *forget_at > now);
        }
    }

    fn refuses(&self, caller: &Caller) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.disabled.contains(&caller.principal)
            || caller.token.is_some_and(|token| known.revoked.contains_key(&token))
            || known.roles.get(&caller.principal).is_some_and(|(role, forget_at)| {
                role_of(caller.role) > *role && *forget_at > now_micros()
            })
    }
}

impl Refused for Identity {
    fn refused(&self, caller: &Caller) -> bool {
        !caller.service && self.refusals.refuses(caller)
    }

    fn denied(&self, caller: &Caller, path: &str, error: &ServiceError) {
        self.denials.record(Some(caller.principal), path, "", error.reason_text());
    }
}
