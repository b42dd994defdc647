//! Queries about grants.

use ids::{GrantId, PrincipalId};
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};
use service_error::ServiceError;
use sql_store::db_error;

use super::entity::grant::{ActiveModel, Column, Entity, Model};
use super::{Db, Tx, code};
use crate::model::{Grant, Level, Resource};

pub(super) fn grant(row: Model) -> Result<Grant, ServiceError> {
    Ok(Grant {
        id: GrantId::from_uuid(row.id),
        principal: PrincipalId::from_uuid(row.principal_id),
        resource: code::resource(row.resource_kind, row.resource_id)?,
        level: code::level(row.level)?,
        can_share: row.can_share,
        expires_at: row.expires_at,
        created_at: row.created_at,
    })
}

fn on(resource: Resource) -> Condition {
    Condition::all()
        .add(Column::ResourceKind.eq(resource.kind as i16))
        .add(Column::ResourceId.eq(resource.id))
}

impl<C: ConnectionTrait> Db<C> {
    pub async fn grant(&self, id: GrantId) -> Result<Option<Grant>, ServiceError> {
        let row = Entity::find_by_id(id.uuid()).one(&self.conn).await.map_err(db_error)?;
        row.map(grant).transpose()
    }

    /// What a principal has on any of the resources, expired ones too.
    pub async fn grants_on(
        &self,
        principal: PrincipalId,
        resources: &[Resource],
    ) -> Result<Vec<Grant>, ServiceError> {
        if resources.is_empty() {
            return Ok(Vec::new());
        }
        let any = resources.iter().fold(Condition::any(), |any, resource| any.add(on(*resource)));
        self.all(Entity::find().filter(Column::PrincipalId.eq(principal.uuid())).filter(any)).await
    }

    /// By id, after an id; of a principal, on a resource, or both.
    pub async fn grants(
        &self,
        of: Option<PrincipalId>,
        resource: Option<Resource>,
        after: Option<GrantId>,
        most: u32,
    ) -> Result<Vec<Grant>, ServiceError> {
        let mut query = Entity::find().order_by_asc(Column::Id).limit(u64::from(most));
        if let Some(of) = of {
            query = query.filter(Column::PrincipalId.eq(of.uuid()));
        }
        if let Some(resource) = resource {
            query = query.filter(on(resource));
        }
        if let Some(after) = after {
            query = query.filter(Column::Id.gt(after.uuid()));
        }
        self.all(query).await
    }

    /// Whether somebody beside this grant owns the resource for good.
    pub async fn has_other_owner(&self, beside: &Grant) -> Result<bool, ServiceError> {
        let other = Entity::find()
            .filter(on(beside.resource))
            .filter(Column::Level.eq(Level::Owner as i16))
            .filter(Column::ExpiresAt.is_null())
            .filter(Column::Id.ne(beside.id.uuid()));
        Ok(other.limit(1).one(&self.conn).await.map_err(db_error)?.is_some())
    }

    async fn all(&self, query: Select<Entity>) -> Result<Vec<Grant>, ServiceError> {
        query.all(&self.conn).await.map_err(db_error)?.into_iter().map(grant).collect()
    }
}

impl Tx {
    /// Makes the grant, or changes the one of its id.
    pub async fn put_grant(&self, new: &Grant) -> Result<(), ServiceError> {
        self.delete_grant(new.id).await?;
        let row = ActiveModel {
            id: Set(new.id.uuid()),
            principal_id: Set(new.principal.uuid()),
            resource_kind: Set(new.resource.kind as i16),
            resource_id: Set(new.resource.id),
            level: Set(new.level as i16),
            can_share: Set(new.can_share),
            expires_at: Set(new.expires_at),
            created_at: Set(new.created_at),
        };
        Entity::insert(row).exec_without_returning(&self.conn).await.map(drop).map_err(db_error)
    }

    pub async fn delete_grant(&self, id: GrantId) -> Result<(), ServiceError> {
        Entity::delete_by_id(id.uuid()).exec(&self.conn).await.map(drop).map_err(db_error)
    }
}
