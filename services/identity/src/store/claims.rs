//! Who the first admin is, whether somebody has claimed the account, and which
//! token each data dir holds.

use ids::{PrincipalId, TokenId};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter};
use service_error::ServiceError;
use sql_store::db_error;

use super::entity::{admin_token, claim};
use super::{Db, Tx};

/// The only row of its table.
const ROW: i16 = 1;

/// The first admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub admin: PrincipalId,
    /// Microseconds UTC; nothing while only data dirs hold its token.
    pub claimed_at: Option<i64>,
}

impl<C: ConnectionTrait> Db<C> {
    /// Nothing before the first start.
    pub async fn claim(&self) -> Result<Option<Claim>, ServiceError> {
        let row = claim::Entity::find_by_id(ROW).one(&self.conn).await.map_err(db_error)?;
        Ok(row.map(|row| Claim {
            admin: PrincipalId::from_uuid(row.principal_id),
            claimed_at: row.claimed_at,
        }))
    }

    /// The token of a data dir.
    pub async fn admin_token(&self, place: &str) -> Result<Option<TokenId>, ServiceError> {
        let row = admin_token::Entity::find_by_id(place).one(&self.conn).await.map_err(db_error)?;
        Ok(row.map(|row| TokenId::from_uuid(row.token_id)))
    }
}

impl Tx {
    pub async fn insert_claim(&self, admin: PrincipalId) -> Result<(), ServiceError> {
        let row = claim::ActiveModel {
            id: Set(ROW),
            principal_id: Set(admin.uuid()),
            claimed_at: Set(None),
        };
        claim::Entity::insert(row)
            .exec_without_returning(&self.conn)
            .await
            .map(drop)
            .map_err(db_error)
    }

    pub async fn mark_claimed(&self, now: i64) -> Result<(), ServiceError> {
        let update = claim::Entity::update_many()
            .col_expr(claim::Column::ClaimedAt, Expr::value(now))
            .filter(claim::Column::ClaimedAt.is_null());
        update.exec(&self.conn).await.map(drop).map_err(db_error)
    }

    pub async fn put_admin_token(
        &self,
        place: &str,
        token: TokenId,
        now: i64,
    ) -> Result<(), ServiceError> {
        let row = admin_token::ActiveModel {
            place: Set(place.to_owned()),
            token_id: Set(token.uuid()),
            seen_at: Set(now),
        };
        let replace = OnConflict::column(admin_token::Column::Place)
            .update_columns([admin_token::Column::TokenId, admin_token::Column::SeenAt])
            .to_owned();
        let insert = admin_token::Entity::insert(row).on_conflict(replace);
        insert.exec_without_returning(&self.conn).await.map(drop).map_err(db_error)
    }

    /// Notes that a server uses a data dir, and that those of which nobody ever said so may be in
    /// use.
    pub async fn see_admin_token(&self, place: &str, now: i64) -> Result<(), ServiceError> {
        let used = admin_token::Entity::update_many()
            .col_expr(admin_token::Column::SeenAt, Expr::value(now))
            .filter(
                Condition::any()
                    .add(admin_token::Column::Place.eq(place))
                    .add(admin_token::Column::SeenAt.eq(0)),
            );
        used.exec(&self.conn).await.map(drop).map_err(db_error)
    }

    /// Forgets the data dirs that no server used since a time; answers their tokens.
    pub async fn take_unused_admin_tokens(
        &self,
        before: i64,
    ) -> Result<Vec<TokenId>, ServiceError> {
        let unused = admin_token::Column::SeenAt.lt(before);
        let rows = admin_token::Entity::find().filter(unused.clone()).all(&self.conn).await;
        let tokens =
            rows.map_err(db_error)?.into_iter().map(|row| TokenId::from_uuid(row.token_id));
        let tokens = tokens.collect();
        admin_token::Entity::delete_many()
            .filter(unused)
            .exec(&self.conn)
            .await
            .map_err(db_error)?;
        Ok(tokens)
    }
}
