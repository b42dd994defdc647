//! Changes that identity must learn of.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: Uuid,
    pub seq: i64,
    /// `CHANGE_…` of the store.
    pub kind: i16,
    pub resource_id: Uuid,
    pub parent_id: Option<Uuid>,
    pub owner_id: Option<Uuid>,
    pub created_at: i64,
    pub delivered_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
