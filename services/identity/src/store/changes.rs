//! The change log. Its revision is taken inside the writing transaction, so a
//! follower that keeps one number misses nothing.

use std::collections::HashMap;

use ids::{GrantId, PrincipalId, TokenId};
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use service_error::ServiceError;
use sql_store::{current_number, db_error, next_number};
use uuid::Uuid;

use super::entity::change::{ActiveModel, Column, Entity, Model};
use super::entity::{grant, principal};
use super::{Db, Tx, code};
use crate::model::Change;

const COUNTER: &str = "grants";

const GRANT: i16 = 1;
const REMOVED: i16 = 2;
const DISABLED: i16 = 3;
const ENABLED: i16 = 4;
const REVOKED: i16 = 5;
const ROLE: i16 = 6;

impl<C: ConnectionTrait> Db<C> {
    /// The newest committed revision.
    pub async fn revision(&self) -> Result<i64, ServiceError> {
        current_number(&self.conn, COUNTER).await
    }

    /// The oldest revision in the log.
    pub async fn oldest_revision(&self) -> Result<Option<i64>, ServiceError> {
        let oldest = Entity::find()
            .order_by_asc(Column::Revision)
            .limit(1)
            .one(&self.conn)
            .await
            .map_err(db_error)?;
        Ok(oldest.map(|row| row.revision))
    }

    /// What came after a revision, and the revision reached. A grant that is
    /// gone meanwhile is left out: its removal follows. `forget_after` is how
    /// long internal tokens live on, in microseconds.
    pub async fn changes_after(
        &self,
        after: i64,
        most: u32,
        forget_after: i64,
    ) -> Result<(i64, Vec<Change>), ServiceError> {
        let query = Entity::find()
            .filter(Column::Revision.gt(after))
            .order_by_asc(Column::Revision)
            .limit(u64::from(most));
        let rows = query.all(&self.conn).await.map_err(db_error)?;
        let reached = rows.last().map_or(after, |row| row.revision);
        Ok((reached, self.read_changes(rows, forget_after).await?))
    }

    /// Roles that changed since a time.
    pub async fn roles_changed_since(
        &self,
        since: i64,
        most: u32,
        forget_after: i64,
    ) -> Result<Vec<Change>, ServiceError> {
        let query = Entity::find()
            .filter(Column::Kind.eq(ROLE))
            .filter(Column::ChangedAt.gt(since))
            .order_by_desc(Column::Revision)
            .limit(u64::from(most));
        let rows = query.all(&self.conn).await.map_err(db_error)?;
        self.read_changes(rows, forget_after).await
    }

    async fn read_changes(
        &self,
        rows: Vec<Model>,
        forget_after: i64,
    ) -> Result<Vec<Change>, ServiceError> {
        let of_kind = |kind: i16| {
            rows.iter()
                .filter(move |row| row.kind == kind)
                .map(|row| row.subject_id)
                .collect::<Vec<_>>()
        };
        let grants = self.grants_by_id(of_kind(GRANT)).await?;
        let roles = self.roles_by_id(of_kind(ROLE)).await?;
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, forget_at) = (row.subject_id, row.changed_at + forget_after);
            changes.extend(match row.kind {
                GRANT => grants.get(&id).cloned().map(Change::Grant),
                REMOVED => Some(Change::Removed(GrantId::from_uuid(id))),
                DISABLED => Some(Change::Disabled(PrincipalId::from_uuid(id))),
                ENABLED => Some(Change::Enabled(PrincipalId::from_uuid(id))),
                REVOKED => Some(Change::Revoked { token: TokenId::from_uuid(id), forget_at }),
                ROLE => roles.get(&id).map(|role| Change::Role {
                    principal: PrincipalId::from_uuid(id),
                    role: *role,
                    forget_at,
                }),
                _ => None,
            });
        }
        Ok(changes)
    }

    async fn grants_by_id(
        &self,
        ids: Vec<Uuid>,
    ) -> Result<HashMap<Uuid, crate::model::Grant>, ServiceError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = grant::Entity::find()
            .filter(grant::Column::Id.is_in(ids))
            .all(&self.conn)
            .await
            .map_err(db_error)?;
        rows.into_iter().map(|row| Ok((row.id, super::grants::grant(row)?))).collect()
    }

    async fn roles_by_id(
        &self,
        ids: Vec<Uuid>,
    ) -> Result<HashMap<Uuid, crate::model::Role>, ServiceError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = principal::Entity::find()
            .filter(principal::Column::Id.is_in(ids))
            .all(&self.conn)
            .await
            .map_err(db_error)?;
        rows.into_iter().map(|row| Ok((row.id, code::role(row.role)?))).collect()
    }
}

impl Tx {
    /// Logs a change under the next revision, which is returned.
    pub async fn log_change(&self, change: &Change, now: i64) -> Result<i64, ServiceError> {
        let (kind, subject_id) = match change {
            Change::Grant(grant) => (GRANT, grant.id.uuid()),
            Change::Removed(id) => (REMOVED, id.uuid()),
            Change::Disabled(id) => (DISABLED, id.uuid()),
            Change::Enabled(id) => (ENABLED, id.uuid()),
            Change::Revoked { token, .. } => (REVOKED, token.uuid()),
            Change::Role { principal, .. } => (ROLE, principal.uuid()),
        };
        let revision = next_number(&self.conn, COUNTER).await?;
        let row = ActiveModel {
            revision: Set(revision),
            kind: Set(kind),
            subject_id: Set(subject_id),
            changed_at: Set(now),
        };
        Entity::insert(row).exec_without_returning(&self.conn).await.map_err(db_error)?;
        Ok(revision)
    }

    /// Forgets what was changed before a time, but for the newest change.
    pub async fn forget_changes(&self, before: i64) -> Result<(), ServiceError> {
        let newest = self.revision().await?;
        let old = Entity::delete_many()
            .filter(Column::ChangedAt.lt(before))
            .filter(Column::Revision.lt(newest));
        old.exec(&self.conn).await.map(drop).map_err(db_error)
    }
}
