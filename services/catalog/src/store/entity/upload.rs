//! Leases under which blocks are written.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "upload")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub dataset_id: Uuid,
    pub namespace_id: Uuid,
    pub principal: Uuid,
    /// `UPLOAD_…` of the store.
    pub state: i16,
    pub lease_epoch: i64,
    pub expires_at: i64,
    /// The version it became; 0 before.
    pub version: i64,
    pub created_at: i64,
    pub swept_at: Option<i64>,
    /// The snapshot it became; 0 before.
    pub snapshot: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
