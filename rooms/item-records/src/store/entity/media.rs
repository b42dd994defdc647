//! Files by the hash of their content, each under the upload that brought it.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "media")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub dataset_id: Uuid,
    /// BLAKE3-256.
    #[sea_orm(primary_key, auto_increment = false)]
    pub content_hash: Vec<u8>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub upload_id: Uuid,
    pub byte_count: i64,
    pub mime_type: String,
    /// Its upload has committed, so it is there to be read.
    pub committed: bool,
    /// Microseconds UTC.
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
