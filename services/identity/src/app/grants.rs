//! Use cases of grants.

use caller::Caller;
use ids::{GrantId, PrincipalId};
use service_error::ServiceError;
use sql_store::now_micros;

use super::users::role_of;
use super::{Identity, done, finish, is_admin};
use crate::model::{Authority, Change, Grant, Level, PageOf, Resource, Role};
use crate::store::{ConnectionTrait, Db};

pub(super) const ADD: &str = "quarry.identity.v1.GrantsService/AddGrant";
const REMOVE: &str = "quarry.identity.v1.GrantsService/RemoveGrant";
const LIST: &str = "quarry.identity.v1.GrantsService/ListGrants";

/// A grant to be given.
#[derive(Debug)]
pub struct NewGrant {
    /// The subject's name.
    pub user: String,
    pub resource: Resource,
    pub level: Level,
    pub can_share: bool,
    /// Microseconds UTC; never if none.
    pub expires_at: Option<i64>,
}

/// Which grants; the caller's own if neither is set.
#[derive(Debug)]
pub struct GrantQuery {
    pub resource: Option<Resource>,
    /// A user's name; empty for anybody's.
    pub user: String,
}

/// A grant with its subject's name.
#[derive(Debug)]
pub struct NamedGrant {
    pub grant: Grant,
    pub user: String,
}

impl Identity {
    /// Gives a grant, or replaces the one that the subject has there. Returns
    /// it with the revision at which replicas know it.
    ///
    /// # Errors
    /// NOT_FOUND for a resource that the caller may not see or a user that is
    /// not there, PERMISSION_DENIED for what is not the caller's to give,
    /// FAILED_PRECONDITION for the last owner's own.
    pub async fn add_grant(
        &self,
        caller: &Caller,
        new: NewGrant,
    ) -> Result<(NamedGrant, i64), ServiceError> {
        let resource = new.resource;
        self.audited(caller, ADD, &resource.to_string(), self.try_add_grant(caller, new).await)
    }

    async fn try_add_grant(
        &self,
        caller: &Caller,
        new: NewGrant,
    ) -> Result<(NamedGrant, i64), ServiceError> {
        let now = now_micros();
        if new.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(ServiceError::invalid(
                "expire_time",
                "lies in the past; leave it unset for never",
            ));
        }
        let tx = self.store.change().await?;
        let authority = visible_authority(&tx, caller, new.resource, now).await?;
        authority.may_give(new.level, new.can_share, new.expires_at)?;
        let subject = tx
            .principal_named(&new.user)
            .await?
            .ok_or_else(|| ServiceError::not_found("user", &new.user).field("user"))?;
        let held = tx.grants_on(subject.id, &[new.resource]).await?.pop();
        let grant = Grant {
            id: held.as_ref().map_or_else(GrantId::new, |held| held.id),
            principal: subject.id,
            resource: new.resource,
            level: new.level,
            can_share: new.can_share,
            expires_at: new.expires_at,
            created_at: held.as_ref().map_or(now, |held| held.created_at),
        };
        if let Some(held) = &held {
            authority.may_take(held)?;
            if !owns_for_good(&grant) {
                keep_an_owner(&tx, held).await?;
            }
        }
        tx.put_grant(&grant).await?;
        let revision = tx.log_change(&Change::Grant(grant.clone()), now).await?;
        let detail = format!(
            "{} to {}{}",
            grant.level.word(),
            subject.name,
            if grant.can_share { ", can share" } else { "" }
        );
        finish(tx, &done(caller, ADD, grant.resource.to_string(), detail)).await?;
        Ok((NamedGrant { grant, user: subject.name }, revision))
    }

    /// Takes a grant away; everybody may give up its own.
    ///
    /// # Errors
    /// As [`Self::add_grant`].
    pub async fn remove_grant(&self, caller: &Caller, id: GrantId) -> Result<i64, ServiceError> {
        self.audited(
            caller,
            REMOVE,
            &format!("grant/{id}"),
            self.try_remove_grant(caller, id).await,
        )
    }

    async fn try_remove_grant(&self, caller: &Caller, id: GrantId) -> Result<i64, ServiceError> {
        let now = now_micros();
        let tx = self.store.change().await?;
        let not_found = || ServiceError::not_found("grant", id);
        let grant = tx.grant(id).await?.ok_or_else(not_found)?;
        if grant.principal != caller.principal {
            let authority =
                authority(&tx, caller, grant.resource, now).await?.ok_or_else(not_found)?;
            authority.may_take(&grant)?;
        }
        keep_an_owner(&tx, &grant).await?;
        tx.delete_grant(id).await?;
        let revision = tx.log_change(&Change::Removed(id), now).await?;
        let name =
            tx.principal(grant.principal).await?.map(|subject| subject.name).unwrap_or_default();
        finish(
            tx,
            &done(
                caller,
                REMOVE,
                grant.resource.to_string(),
                format!("{} of {name}", grant.level.word()),
            ),
        )
        .await?;
        Ok(revision)
    }

    /// Grants by resource, for its admins; by user, for itself and global
    /// admins.
    ///
    /// # Errors
    /// As [`Self::add_grant`].
    pub async fn list_grants(
        &self,
        caller: &Caller,
        query: GrantQuery,
        size: u32,
        page_token: &str,
    ) -> Result<PageOf<NamedGrant>, ServiceError> {
        let of = match &query.resource {
            Some(resource) => {
                let allowed = self.may_list(caller, *resource).await;
                self.audited(caller, LIST, &resource.to_string(), allowed)?;
                self.id_of(&query.user).await?
            }
            None => Some(self.named_or_self(caller, &query.user).await?.id),
        };
        let list = format!(
            "grants:{}:{}",
            query.resource.map(|resource| resource.to_string()).unwrap_or_default(),
            query.user
        );
        let after: Option<GrantId> = paging::key(&list, page_token)?;
        let grants = self.store.grants(of, query.resource, after, size + 1).await?;
        let (grants, next_page_token) = paging::cut(grants, size, &list, |grant| grant.id);
        let names = self.store.names(grants.iter().map(|grant| grant.principal)).await?;
        let named = |grant: Grant| NamedGrant {
            user: names.get(&grant.principal).cloned().unwrap_or_default(),
            grant,
        };
        Ok(PageOf { entries: grants.into_iter().map(named).collect(), next_page_token })
    }

    async fn may_list(&self, caller: &Caller, resource: Resource) -> Result<(), ServiceError> {
        let authority = visible_authority(&self.store, caller, resource, now_micros()).await?;
        if authority.level() >= Some(Level::Admin) {
            return Ok(());
        }
        Err(ServiceError::denied(format!(
            "who has access to a {} is told to its admins",
            resource.kind_word()
        ))
        .reason("LEVEL_TOO_LOW"))
    }

    async fn id_of(&self, name: &str) -> Result<Option<PrincipalId>, ServiceError> {
        if name.is_empty() {
            return Ok(None);
        }
        let user = self.store.principal_named(name).await?;
        user.map(|user| Some(user.id)).ok_or_else(|| ServiceError::not_found("user", name))
    }
}

/// What the caller may do about the grants on a resource; nothing if it may
/// not see it.
async fn authority<C: ConnectionTrait>(
    db: &Db<C>,
    caller: &Caller,
    resource: Resource,
    now: i64,
) -> Result<Option<Authority>, ServiceError> {
    let chain = db.chain(resource).await?;
    if chain.is_empty() {
        return Ok(None);
    }
    if is_admin(caller) {
        return Ok(Some(Authority::all()));
    }
    let mut grants = db.grants_on(caller.principal, &chain).await?;
    if caller.read_only || role_of(caller.role) == Role::Viewer {
        for grant in &mut grants {
            (grant.level, grant.can_share) = (Level::Read, false);
        }
    }
    let authority = Authority::of(grants, now);
    Ok(authority.level().is_some().then_some(authority))
}

async fn visible_authority<C: ConnectionTrait>(
    db: &Db<C>,
    caller: &Caller,
    resource: Resource,
    now: i64,
) -> Result<Authority, ServiceError> {
    let authority = authority(db, caller, resource, now).await?;
    authority.ok_or_else(|| ServiceError::not_found(resource.kind_word(), resource.id))
}

fn owns_for_good(grant: &Grant) -> bool {
    grant.level == Level::Owner && grant.expires_at.is_none()
}

/// # Errors
/// FAILED_PRECONDITION if nobody else owns the resource for good.
async fn keep_an_owner<C: ConnectionTrait>(db: &Db<C>, going: &Grant) -> Result<(), ServiceError> {
    if !owns_for_good(going) || db.has_other_owner(going).await? {
        return Ok(());
    }
    Err(ServiceError::precondition(format!(
        "it is the last owner's grant on the {}; make another owner (without expire_time) first",
        going.resource.kind_word()
    ))
    .reason("LAST_OWNER"))
}
