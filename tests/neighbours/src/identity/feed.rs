//! Grants and resources, and the changes that replicas follow.

use std::collections::{BTreeMap, HashMap, HashSet};

use identity_api::v1 as api;
use identity_api::v1::grant_change::Change;
use ids::GrantId;
use options_api::v1::Level;

use crate::now_seconds;

/// The state that replicas follow, and how it came about.
pub struct Feed {
    /// The newest.
    pub revision: i64,
    /// What other roles told, each event once.
    pub resources: Vec<api::PutResourceRequest>,
    log: Vec<(i64, api::GrantChange)>,
    grants: BTreeMap<String, api::Grant>,
    disabled: HashSet<String>,
    revoked: HashSet<String>,
    events: HashSet<String>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            // 0 is a replica that knows nothing yet.
            revision: 1,
            resources: Vec::new(),
            log: Vec::new(),
            grants: BTreeMap::new(),
            disabled: HashSet::new(),
            revoked: HashSet::new(),
            events: HashSet::new(),
        }
    }
}

impl Feed {
    /// Makes changes of one revision; answers the message that tells of them.
    pub fn apply(&mut self, changes: Vec<Change>) -> api::WatchGrantsResponse {
        self.revision += 1;
        let mut told = Vec::new();
        for change in changes {
            match &change {
                Change::Grant(grant) => {
                    self.grants.insert(grant.id.clone(), grant.clone());
                }
                Change::RemovedGrantId(id) => {
                    self.grants.remove(id);
                }
                Change::DisabledPrincipalId(id) => {
                    self.disabled.insert(id.clone());
                }
                Change::EnabledPrincipalId(id) => {
                    self.disabled.remove(id);
                }
                Change::RevokedToken(token) => {
                    self.revoked.insert(token.token_id.clone());
                }
                // Only who verifies tokens looks at it.
                Change::RoleChange(_) => {}
            }
            told.push(api::GrantChange { change: Some(change) });
        }
        self.log.extend(told.iter().map(|change| (self.revision, change.clone())));
        api::WatchGrantsResponse { revision: self.revision, changes: told, ..Default::default() }
    }

    /// What happened after a revision; all of it, to begin with, after 0.
    pub fn since(&self, revision: i64) -> api::WatchGrantsResponse {
        let later = self.log.iter().filter(|(at, _)| *at > revision);
        api::WatchGrantsResponse {
            revision: self.revision,
            reset: revision == 0,
            changes: later.map(|(_, change)| change.clone()).collect(),
            partial: false,
        }
    }

    /// Notes a resource unless the event is known; answers the changes of grants
    /// that come of it.
    pub fn put(&mut self, put: api::PutResourceRequest) -> Vec<Change> {
        let known = !put.event_id.is_empty() && !self.events.insert(put.event_id.clone());
        let Some(resource) = put.resource.clone().filter(|_| !known) else { return Vec::new() };
        let is_new = !self.resources.iter().any(|other| other.resource == put.resource);
        let owner_id = put.owner_id.clone();
        let deleted = put.deleted;
        self.resources.push(put);
        if deleted {
            let on =
                self.grants.values().filter(|grant| grant.resource.as_ref() == Some(&resource));
            return on.map(|grant| Change::RemovedGrantId(grant.id.clone())).collect();
        }
        if owner_id.is_empty() || !is_new {
            return Vec::new();
        }
        vec![Change::Grant(api::Grant {
            id: GrantId::new().to_string(),
            user_id: owner_id,
            resource: Some(resource),
            level: Level::Owner.into(),
            ..Default::default()
        })]
    }

    /// How many live resources lie in one, by kind.
    pub fn count_children(&self, parent: Option<&api::Resource>) -> Vec<api::ChildCount> {
        // The last word on each resource.
        let mut last = HashMap::new();
        for put in &self.resources {
            let of = put.resource.clone().unwrap_or_default();
            last.insert((of.kind, of.id), put);
        }
        let mut counts = BTreeMap::new();
        for ((kind, _), put) in last {
            if put.parent.as_ref() == parent && !put.deleted {
                *counts.entry(kind).or_default() += 1;
            }
        }
        counts.into_iter().map(|(kind, count)| api::ChildCount { kind, count }).collect()
    }

    /// The highest level that a principal has on any of some resources now, and
    /// whether it is refused.
    pub fn check(&self, asked: &api::CheckAccessRequest) -> api::CheckAccessResponse {
        let now = now_seconds();
        let held = self.grants.values().filter(|grant| {
            grant.user_id == asked.principal_id
                && grant.resource.as_ref().is_some_and(|on| asked.resources.contains(on))
                && grant.expire_time.is_none_or(|end| end.seconds > now)
        });
        api::CheckAccessResponse {
            level: held.map(|grant| grant.level).max().unwrap_or_default(),
            refused: self.disabled.contains(&asked.principal_id)
                || self.revoked.contains(&asked.token_id),
        }
    }
}
