//! Which snapshots of a branch see a block: from begin until before end.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "block_use")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub dataset_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub branch: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub begin_snapshot: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub ordinal: i64,
    pub block_id: Uuid,
    pub end_snapshot: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
