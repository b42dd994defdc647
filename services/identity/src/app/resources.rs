//! What other roles make, and their owners.

use caller::Caller;
use ids::{EventId, GrantId, PrincipalId};
use service_error::ServiceError;
use sql_store::now_micros;

use super::{Identity, done};
use crate::model::{Change, Grant, Level, Resource, ResourceKind};
use crate::store::Tx;

const PUT: &str = "quarry.identity.v1.ReplicaService/PutResource";
const PAGE: u32 = 1_000;

/// A resource that was made, changed or deleted.
#[derive(Debug)]
pub struct PutResource {
    pub event: EventId,
    pub resource: Resource,
    pub parent: Option<Resource>,
    /// Gets an Owner grant when the resource is new.
    pub owner: Option<PrincipalId>,
    pub deleted: bool,
}

impl Identity {
    /// How many live resources lie directly in one, by kind.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn child_counts(
        &self,
        parent: Resource,
    ) -> Result<Vec<(ResourceKind, i64)>, ServiceError> {
        self.store.child_counts(parent).await
    }

    /// Applies an event once; again, it answers with the same revision. What
    /// was deleted stays so, whatever arrives late.
    ///
    /// # Errors
    /// Only of the store.
    pub async fn put_resource(
        &self,
        caller: &Caller,
        put: PutResource,
    ) -> Result<i64, ServiceError> {
        let now = now_micros();
        let tx = self.store.change().await?;
        if let Some(revision) = tx.event_revision(put.event).await? {
            return Ok(revision);
        }
        match (tx.resource_state(put.resource).await?, put.deleted) {
            (Some(true), _) => {}
            (_, true) => delete(&tx, caller, &put, now).await?,
            (Some(false), false) => tx.put_resource(put.resource, put.parent, false, now).await?,
            (None, false) => make(&tx, caller, &put, now).await?,
        }
        let revision = tx.revision().await?;
        tx.record_event(put.event, revision, now).await?;
        tx.commit().await?;
        Ok(revision)
    }
}

async fn make(tx: &Tx, caller: &Caller, put: &PutResource, now: i64) -> Result<(), ServiceError> {
    tx.put_resource(put.resource, put.parent, false, now).await?;
    let owner = match put.owner {
        Some(owner) => tx.principal(owner).await?,
        None => None,
    };
    // What a platform role made for itself has no owner but the admins.
    let Some(owner) = owner else {
        return tx
            .audit(&done(
                caller,
                PUT,
                put.resource.to_string(),
                "made, without an owner".to_owned(),
            ))
            .await;
    };
    let grant = Grant {
        id: GrantId::new(),
        principal: owner.id,
        resource: put.resource,
        level: Level::Owner,
        can_share: true,
        expires_at: None,
        created_at: now,
    };
    tx.put_grant(&grant).await?;
    tx.log_change(&Change::Grant(grant), now).await?;
    tx.audit(&done(caller, PUT, put.resource.to_string(), format!("made, owner to {}", owner.name)))
        .await
}

async fn delete(tx: &Tx, caller: &Caller, put: &PutResource, now: i64) -> Result<(), ServiceError> {
    tx.put_resource(put.resource, put.parent, true, now).await?;
    let mut removed = 0;
    loop {
        let grants = tx.grants(None, Some(put.resource), None, PAGE).await?;
        if grants.is_empty() {
            break;
        }
        for grant in grants {
            tx.delete_grant(grant.id).await?;
            tx.log_change(&Change::Removed(grant.id), now).await?;
            removed += 1;
        }
    }
    tx.audit(&done(
        caller,
        PUT,
        put.resource.to_string(),
        format!("deleted, with {removed} grants"),
    ))
    .await
}
