//! Queries about tokens.

use ids::{PrincipalId, TokenId};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use service_error::ServiceError;
use sql_store::db_error;

use super::entity::token::{ActiveModel, Column, Entity, Model};
use super::{Db, Tx, code};
use crate::model::Token;

/// Where a token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody asked for it.
    Call = 1,
    /// The server wrote it to its data dir.
    DataDir = 2,
    /// The operator's, claiming the admin account.
    Claim = 3,
}

/// A token with what verifies its secret.
#[derive(Debug, Clone)]
pub struct TokenRow {
    pub token: Token,
    /// SHA-256 of the secret.
    pub hash: Vec<u8>,
}

fn token(row: Model) -> Token {
    Token {
        id: TokenId::from_uuid(row.id),
        owner: PrincipalId::from_uuid(row.principal_id),
        description: row.description,
        scope: code::scope(row.scope),
        created_at: row.created_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
    }
}

impl<C: ConnectionTrait> Db<C> {
    pub async fn token(&self, id: TokenId) -> Result<Option<TokenRow>, ServiceError> {
        let row = Entity::find_by_id(id.uuid()).one(&self.conn).await.map_err(db_error)?;
        Ok(row.map(|row| TokenRow { hash: row.hash.clone(), token: token(row) }))
    }

    /// A principal's, by id, after an id.
    pub async fn tokens_of(
        &self,
        owner: PrincipalId,
        after: Option<TokenId>,
        most: u32,
    ) -> Result<Vec<Token>, ServiceError> {
        let mut query = Entity::find()
            .filter(Column::PrincipalId.eq(owner.uuid()))
            .order_by_asc(Column::Id)
            .limit(u64::from(most));
        if let Some(after) = after {
            query = query.filter(Column::Id.gt(after.uuid()));
        }
        Ok(query.all(&self.conn).await.map_err(db_error)?.into_iter().map(token).collect())
    }

    /// Revoked since a time, by id, after an id: (token, when).
    pub async fn revoked_since(
        &self,
        since: i64,
        after: Option<TokenId>,
        most: u32,
    ) -> Result<Vec<(TokenId, i64)>, ServiceError> {
        let mut query = Entity::find()
            .filter(Column::RevokedAt.gt(since))
            .order_by_asc(Column::Id)
            .limit(u64::from(most));
        if let Some(after) = after {
            query = query.filter(Column::Id.gt(after.uuid()));
        }
        let rows = query.all(&self.conn).await.map_err(db_error)?;
        Ok(rows
            .into_iter()
            .filter_map(|row| Some((TokenId::from_uuid(row.id), row.revoked_at?)))
            .collect())
    }

    /// Of an origin and not revoked.
    pub async fn live_of_origin(&self, origin: Origin) -> Result<Vec<Token>, ServiceError> {
        let query = Entity::find()
            .filter(Column::Origin.eq(origin as i16))
            .filter(Column::RevokedAt.is_null());
        Ok(query.all(&self.conn).await.map_err(db_error)?.into_iter().map(token).collect())
    }
}

impl Tx {
    pub async fn insert_token(
        &self,
        new: &Token,
        hash: [u8; 32],
        origin: Origin,
    ) -> Result<(), ServiceError> {
        let row = ActiveModel {
            id: Set(new.id.uuid()),
            principal_id: Set(new.owner.uuid()),
            hash: Set(hash.to_vec()),
            description: Set(new.description.clone()),
            scope: Set(new.scope as i16),
            origin: Set(origin as i16),
            created_at: Set(new.created_at),
            expires_at: Set(new.expires_at),
            revoked_at: Set(None),
        };
        Entity::insert(row).exec_without_returning(&self.conn).await.map(drop).map_err(db_error)
    }

    /// Whether it was not revoked already.
    pub async fn revoke_token(&self, id: TokenId, at: i64) -> Result<bool, ServiceError> {
        let update = Entity::update_many()
            .col_expr(Column::RevokedAt, Expr::value(at))
            .filter(Column::Id.eq(id.uuid()))
            .filter(Column::RevokedAt.is_null());
        Ok(update.exec(&self.conn).await.map_err(db_error)?.rows_affected > 0)
    }
}
