//! Queries about what other roles made.

use ids::EventId;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use service_error::ServiceError;
use sql_store::db_error;

use super::entity::{event, resource};
use super::{Db, Tx, code};
use crate::model::{Resource, ResourceKind};

/// Deeper nesting than this is a loop.
const DEPTH_MAX: usize = 8;

impl<C: ConnectionTrait> Db<C> {
    /// The resource and its ancestors; nothing if it is unknown or deleted.
    pub async fn chain(&self, of: Resource) -> Result<Vec<Resource>, ServiceError> {
        let mut chain = Vec::new();
        let mut next = Some(of);
        while let Some(resource) = next.take().filter(|_| chain.len() < DEPTH_MAX) {
            let Some(row) = self.resource_row(resource).await?.filter(|row| !row.deleted) else {
                break;
            };
            chain.push(resource);
            if let (Some(kind), Some(id)) = (row.parent_kind, row.parent_id) {
                next = Some(code::resource(kind, id)?);
            }
        }
        Ok(chain)
    }

    /// Whether the resource was ever made, and whether it is deleted.
    pub async fn resource_state(&self, of: Resource) -> Result<Option<bool>, ServiceError> {
        Ok(self.resource_row(of).await?.map(|row| row.deleted))
    }

    /// What an event was answered with, if it was applied.
    pub async fn event_revision(&self, id: EventId) -> Result<Option<i64>, ServiceError> {
        let row = event::Entity::find_by_id(id.uuid()).one(&self.conn).await.map_err(db_error)?;
        Ok(row.map(|row| row.revision))
    }

    /// How many live resources lie directly in one, by kind.
    pub async fn child_counts(
        &self,
        parent: Resource,
    ) -> Result<Vec<(ResourceKind, i64)>, ServiceError> {
        let rows: Vec<(i16, i64)> = resource::Entity::find()
            .select_only()
            .column(resource::Column::Kind)
            .column_as(resource::Column::Id.count(), "children")
            .filter(resource::Column::ParentKind.eq(parent.kind as i16))
            .filter(resource::Column::ParentId.eq(parent.id))
            .filter(resource::Column::Deleted.eq(false))
            .group_by(resource::Column::Kind)
            .into_tuple()
            .all(&self.conn)
            .await
            .map_err(db_error)?;
        let count = |(kind, count)| Ok((code::resource(kind, parent.id)?.kind, count));
        rows.into_iter().map(count).collect()
    }

    async fn resource_row(&self, of: Resource) -> Result<Option<resource::Model>, ServiceError> {
        resource::Entity::find_by_id((of.kind as i16, of.id))
            .one(&self.conn)
            .await
            .map_err(db_error)
    }
}

impl Tx {
    pub async fn put_resource(
        &self,
        of: Resource,
        parent: Option<Resource>,
        deleted: bool,
        now: i64,
    ) -> Result<(), ServiceError> {
        let row = resource::ActiveModel {
            kind: Set(of.kind as i16),
            id: Set(of.id),
            parent_kind: Set(parent.map(|parent| parent.kind as i16)),
            parent_id: Set(parent.map(|parent| parent.id)),
            deleted: Set(deleted),
            created_at: Set(now),
        };
        let replace = OnConflict::columns([resource::Column::Kind, resource::Column::Id])
            .update_columns([
                resource::Column::ParentKind,
                resource::Column::ParentId,
                resource::Column::Deleted,
            ])
            .to_owned();
        let insert = resource::Entity::insert(row).on_conflict(replace);
        insert.exec_without_returning(&self.conn).await.map(drop).map_err(db_error)
    }

    pub async fn record_event(
        &self,
        id: EventId,
        revision: i64,
        now: i64,
    ) -> Result<(), ServiceError> {
        let row = event::ActiveModel {
            id: Set(id.uuid()),
            revision: Set(revision),
            applied_at: Set(now),
        };
        event::Entity::insert(row)
            .exec_without_returning(&self.conn)
            .await
            .map(drop)
            .map_err(db_error)
    }

    /// Forgets events applied before a time.
    pub async fn forget_events(&self, before: i64) -> Result<(), ServiceError> {
        let old = event::Entity::delete_many().filter(event::Column::AppliedAt.lt(before));
        old.exec(&self.conn).await.map(drop).map_err(db_error)
    }
}
