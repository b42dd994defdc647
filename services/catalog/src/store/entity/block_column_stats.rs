//! What is known of each column of a block.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "block_column_stats")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub block_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub ordinal: i32,
    pub column_name: String,
    pub null_count: i64,
    /// As the scalar codec of the store writes it.
    pub min_value: Option<Vec<u8>>,
    pub max_value: Option<Vec<u8>>,
    pub exact: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
