//! The change log that grant replicas follow; table `grant_change`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "grant_change")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision: i64,
    /// 1 grant, 2 removed grant, 3 disabled, 4 enabled principal, 5 revoked token, 6 changed role.
    pub kind: i16,
    /// A grant, a principal or a token.
    pub subject_id: Uuid,
    pub changed_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
