//! Opaque tokens, by the hash of their secret.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "token")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub principal_id: Uuid,
    /// SHA-256 of the secret.
    pub hash: Vec<u8>,
    pub description: String,
    /// 1 full, 2 read-only.
    pub scope: i16,
    /// 1 made by a call, 2 the data dir's, 3 a claim of the admin account.
    pub origin: i16,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
