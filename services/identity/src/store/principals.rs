//! Queries about people and programs.

use std::collections::HashMap;

use ids::PrincipalId;
use sea_orm::ActiveValue::Set;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use service_error::ServiceError;
use sql_store::{db_error, is_unique_violation};

use super::entity::principal::{ActiveModel, Column, Entity, Model};
use super::{Db, Tx, code};
use crate::model::{Principal, Role};

fn principal(row: Model) -> Result<Principal, ServiceError> {
    Ok(Principal {
        id: PrincipalId::from_uuid(row.id),
        kind: code::kind(row.kind)?,
        role: code::role(row.role)?,
        name: row.name,
        display_name: row.display_name,
        disabled: row.disabled,
        created_at: row.created_at,
        revision: row.revision,
    })
}

impl<C: ConnectionTrait> Db<C> {
    pub async fn principal(&self, id: PrincipalId) -> Result<Option<Principal>, ServiceError> {
        let row = Entity::find_by_id(id.uuid()).one(&self.conn).await.map_err(db_error)?;
        row.map(principal).transpose()
    }

    pub async fn principal_named(&self, name: &str) -> Result<Option<Principal>, ServiceError> {
        let row =
            Entity::find().filter(Column::Name.eq(name)).one(&self.conn).await.map_err(db_error)?;
        row.map(principal).transpose()
    }

    /// By name, after a name.
    pub async fn principals(
        &self,
        after: Option<&str>,
        most: u32,
    ) -> Result<Vec<Principal>, ServiceError> {
        let mut query = Entity::find().order_by_asc(Column::Name).limit(u64::from(most));
        if let Some(after) = after {
            query = query.filter(Column::Name.gt(after));
        }
        query.all(&self.conn).await.map_err(db_error)?.into_iter().map(principal).collect()
    }

    /// Names by id; ids that are not known are left out.
    pub async fn names(
        &self,
        ids: impl IntoIterator<Item = PrincipalId>,
    ) -> Result<HashMap<PrincipalId, String>, ServiceError> {
        let query = Entity::find().filter(Column::Id.is_in(ids.into_iter().map(PrincipalId::uuid)));
        let rows = query.all(&self.conn).await.map_err(db_error)?;
        Ok(rows.into_iter().map(|row| (PrincipalId::from_uuid(row.id), row.name)).collect())
    }

    /// Disabled ones, by id, after an id.
    pub async fn disabled(
        &self,
        after: Option<PrincipalId>,
        most: u32,
    ) -> Result<Vec<PrincipalId>, ServiceError> {
        let mut query = Entity::find()
            .filter(Column::Disabled.eq(true))
            .order_by_asc(Column::Id)
            .limit(u64::from(most));
        if let Some(after) = after {
            query = query.filter(Column::Id.gt(after.uuid()));
        }
        let rows = query.all(&self.conn).await.map_err(db_error)?;
        Ok(rows.into_iter().map(|row| PrincipalId::from_uuid(row.id)).collect())
    }

    /// How many enabled admins there are beside one.
    pub async fn other_admins(&self, beside: PrincipalId) -> Result<u64, ServiceError> {
        Entity::find()
            .filter(Column::Disabled.eq(false))
            .filter(Column::Role.eq(Role::Admin as i16))
            .filter(Column::Id.ne(beside.uuid()))
            .count(&self.conn)
            .await
            .map_err(db_error)
    }
}

impl Tx {
    /// # Errors
    /// ALREADY_EXISTS if the name is taken.
    pub async fn insert_principal(&self, new: &Principal) -> Result<(), ServiceError> {
        let row = ActiveModel {
            id: Set(new.id.uuid()),
            created_at: Set(new.created_at),
            ..changeable(new)
        };
        match Entity::insert(row).exec_without_returning(&self.conn).await {
            Ok(_) => Ok(()),
            Err(err) if is_unique_violation(&err) => {
                Err(ServiceError::already_exists("user", &new.name))
            }
            Err(err) => Err(db_error(err)),
        }
    }

    pub async fn update_principal(&self, changed: &Principal) -> Result<(), ServiceError> {
        let update =
            Entity::update_many().set(changeable(changed)).filter(Column::Id.eq(changed.id.uuid()));
        update.exec(&self.conn).await.map(drop).map_err(db_error)
    }
}

fn changeable(principal: &Principal) -> ActiveModel {
    ActiveModel {
        name: Set(principal.name.clone()),
        display_name: Set(principal.display_name.clone()),
        kind: Set(principal.kind as i16),
        role: Set(principal.role as i16),
        disabled: Set(principal.disabled),
        revision: Set(principal.revision),
        ..ActiveModel::default()
    }
}
