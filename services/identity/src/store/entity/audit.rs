//! The audit; table `audit_event`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub at: i64,
    pub principal_id: Option<Uuid>,
    pub principal_name: String,
    pub service: String,
    pub action: String,
    pub resource: String,
    /// 1 allowed, 2 denied.
    pub outcome: i16,
    pub detail: String,
    pub count: i64,
    /// Of denials: a hash of what they are counted by; unique.
    pub alike: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
