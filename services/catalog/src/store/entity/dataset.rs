//! Datasets, with the last numbers given in them; a deleted one keeps its row.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "dataset")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub namespace_id: Uuid,
    pub name: String,
    pub description: String,
    /// `PROFILE_…` of the store.
    pub profile: i16,
    pub arrow_schema: Vec<u8>,
    pub key_column: Option<String>,
    /// Their names, a line each.
    pub unique_columns: Option<String>,
    pub public: bool,
    pub created_at: i64,
    pub created_by: Uuid,
    pub deleted_at: Option<i64>,
    pub last_snapshot: i64,
    pub last_version: i64,
    pub revision: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
