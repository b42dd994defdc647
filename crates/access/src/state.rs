//! The grants as they stand at one revision.

use std::collections::{HashMap, HashSet};

use identity_api::v1::grant_change::Change;
use identity_api::v1::{Grant, GrantChange, RevokedToken, RoleChange};
use ids::{GrantId, PrincipalId, TokenId};
use options_api::v1::{Level, ResourceKind, Role};

use crate::Resource;

/// One grant, as far as a decision needs it.
#[derive(Debug, Clone, Copy)]
struct Held {
    id: GrantId,
    level: Level,
    /// Seconds since the epoch; nothing: never.
    expires_at: Option<i64>,
}

impl Held {
    fn counts_at(&self, now: i64) -> bool {
        self.expires_at.is_none_or(|expiry| now < expiry)
    }
}

/// Everything the replica knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub revision: i64,
    grants: HashMap<PrincipalId, HashMap<Resource, Vec<Held>>>,
    places: HashMap<GrantId, (PrincipalId, Resource)>,
    disabled: HashSet<PrincipalId>,
    revoked: HashMap<TokenId, i64>,
    roles: HashMap<PrincipalId, (Role, i64)>,
}

impl State {
    /// Applies one change. A change that cannot be read is logged and passed
    /// over: it can only be one that a newer identity knows.
    pub fn apply(&mut self, change: GrantChange) {
        let known = match change.change {
            Some(Change::Grant(grant)) => self.grant(&grant),
            Some(Change::RemovedGrantId(id)) => id.parse().ok().map(|id| self.remove(id)),
            Some(Change::DisabledPrincipalId(id)) => id.parse().ok().map(|id| {
                self.disabled.insert(id);
            }),
            Some(Change::EnabledPrincipalId(id)) => id.parse().ok().map(|id| {
                self.disabled.remove(&id);
            }),
            Some(Change::RevokedToken(token)) => self.revoke(&token),
            Some(Change::RoleChange(change)) => self.role(&change),
            None => None,
        };
        if known.is_none() {
            tracing::warn!("identity sent a change that this build does not know");
        }
    }

    fn grant(&mut self, grant: &Grant) -> Option<()> {
        let id: GrantId = grant.id.parse().ok()?;
        let principal: PrincipalId = grant.user_id.parse().ok()?;
        let resource = resource_of(grant.resource.as_ref()?)?;
        let level = Level::try_from(grant.level).ok()?;
        self.remove(id);
        let expires_at = grant.expire_time.as_ref().map(|time| time.seconds);
        self.places.insert(id, (principal, resource));
        let held = self.grants.entry(principal).or_default().entry(resource).or_default();
        held.push(Held { id, level, expires_at });
        Some(())
    }

    fn remove(&mut self, id: GrantId) {
        let Some((principal, resource)) = self.places.remove(&id) else { return };
        let Some(resources) = self.grants.get_mut(&principal) else { return };
        if let Some(held) = resources.get_mut(&resource) {
            held.retain(|held| held.id != id);
            if held.is_empty() {
                resources.remove(&resource);
            }
        }
        if resources.is_empty() {
            self.grants.remove(&principal);
        }
    }

    fn revoke(&mut self, token: &RevokedToken) -> Option<()> {
        let forget = token.forget_time.as_ref().map_or(i64::MAX, |time| time.seconds);
        self.revoked.insert(token.token_id.parse().ok()?, forget);
        Some(())
    }

    fn role(&mut self, change: &RoleChange) -> Option<()> {
        let forget = change.forget_time.as_ref().map_or(i64::MAX, |time| time.seconds);
        let role = Role::try_from(change.role).ok()?;
        self.roles.insert(change.principal_id.parse().ok()?, (role, forget));
        Some(())
    }

    /// Drops what no internal token can carry any more.
    pub fn forget(&mut self, now: i64) {
        self.revoked.retain(|_, forget| *forget > now);
        self.roles.retain(|_, (_, forget)| *forget > now);
    }

    /// The highest level that counts at `now` on any resource of the chain.
    pub fn level(&self, principal: PrincipalId, chain: &[Resource], now: i64) -> Option<Level> {
        let resources = self.grants.get(&principal)?;
        let on_chain = chain.iter().filter_map(|resource| resources.get(resource)).flatten();
        on_chain
            .filter(|held| held.counts_at(now))
            .map(|held| held.level)
            .max_by_key(|level| *level as i32)
    }

    /// The resources of a kind on which the principal holds any level at `now`.
    pub fn resources(
        &self,
        principal: PrincipalId,
        kind: ResourceKind,
        now: i64,
    ) -> Vec<uuid::Uuid> {
        let Some(resources) = self.grants.get(&principal) else { return Vec::new() };
        let of_kind = resources.iter().filter(|(resource, _)| resource.kind == kind);
        of_kind
            .filter(|(_, held)| held.iter().any(|held| held.counts_at(now)))
            .map(|(resource, _)| resource.id)
            .collect()
    }

    /// Whether calls of a principal are refused whatever they ask.
    pub fn refuses(&self, principal: PrincipalId, token: Option<TokenId>, role: Role) -> bool {
        self.disabled.contains(&principal)
            || token.is_some_and(|token| self.revoked.contains_key(&token))
            || self.roles.get(&principal).is_some_and(|(least, _)| (role as i32) > (*least as i32))
    }
}

fn resource_of(resource: &identity_api::v1::Resource) -> Option<Resource> {
    Some(Resource {
        kind: ResourceKind::try_from(resource.kind).ok()?,
        id: resource.id.parse().ok()?,
    })
}
