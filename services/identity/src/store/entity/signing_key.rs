//! Keys of internal tokens.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub kid: Uuid,
    /// The Ed25519 secret, 32 bytes.
    pub seed: Vec<u8>,
    pub created_at: i64,
    /// Signs from then on; published before.
    pub active_at: i64,
    /// Neither signs nor verifies from then on.
    pub retired_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
