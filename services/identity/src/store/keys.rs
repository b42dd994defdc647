//! Queries about signing keys.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use service_error::ServiceError;
use sql_store::db_error;
use uuid::Uuid;

use super::entity::signing_key::{ActiveModel, Column, Entity};
use super::{Db, Tx};

/// One key pair. Times are microseconds UTC.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRow {
    pub kid: Uuid,
    /// The Ed25519 secret, 32 bytes.
    pub seed: Vec<u8>,
    pub created_at: i64,
    /// It signs from then on, if no younger one does.
    pub active_at: i64,
    /// It verifies until then.
    pub retired_at: Option<i64>,
}

impl<C: ConnectionTrait> Db<C> {
    /// Those that are not retired at a time, oldest first.
    pub async fn keys(&self, now: i64) -> Result<Vec<KeyRow>, ServiceError> {
        let usable =
            Condition::any().add(Column::RetiredAt.is_null()).add(Column::RetiredAt.gt(now));
        let rows = Entity::find()
            .filter(usable)
            .order_by_asc(Column::ActiveAt)
            .all(&self.conn)
            .await
            .map_err(db_error)?;
        let key = |row: super::entity::signing_key::Model| KeyRow {
            kid: row.kid,
            seed: row.seed,
            created_at: row.created_at,
            active_at: row.active_at,
            retired_at: row.retired_at,
        };
        Ok(rows.into_iter().map(key).collect())
    }
}

impl Tx {
    pub async fn insert_key(&self, key: &KeyRow) -> Result<(), ServiceError> {
        let row = ActiveModel {
            kid: Set(key.kid),
            seed: Set(key.seed.clone()),
            created_at: Set(key.created_at),
            active_at: Set(key.active_at),
            retired_at: Set(key.retired_at),
        };
        Entity::insert(row).exec_without_returning(&self.conn).await.map(drop).map_err(db_error)
    }

    /// Lets every key that has no end yet, beside one, end at a time.
    pub async fn retire_other_keys(&self, beside: Uuid, at: i64) -> Result<(), ServiceError> {
        let update = Entity::update_many()
            .col_expr(Column::RetiredAt, Expr::value(at))
            .filter(Column::Kid.ne(beside))
            .filter(Column::RetiredAt.is_null());
        update.exec(&self.conn).await.map(drop).map_err(db_error)
    }

    /// Forgets the secrets of retired keys.
    pub async fn forget_keys(&self, now: i64) -> Result<(), ServiceError> {
        let retired = Entity::delete_many().filter(Column::RetiredAt.lte(now));
        retired.exec(&self.conn).await.map(drop).map_err(db_error)
    }
}
