//! Deleted rows of a block, whole for each snapshot that changed them.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "block_deletion")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub block_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub branch: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub snapshot: i64,
    pub dataset_id: Uuid,
    pub row_count: i64,
    pub positions: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
