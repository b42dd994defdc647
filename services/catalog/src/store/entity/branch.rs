//! The head of each branch; 0 is main.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "branch")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub dataset_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub branch: i32,
    pub name: String,
    pub parent_branch: Option<i32>,
    pub fork_snapshot: Option<i64>,
    pub head_snapshot: i64,
    pub head_version: i64,
    /// Compared and swapped by every commit.
    pub revision: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
