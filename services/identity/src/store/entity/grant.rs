//! Levels on resources; table `access_grant`, for GRANT is a keyword.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "access_grant")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub principal_id: Uuid,
    /// 1 namespace, 2 dataset.
    pub resource_kind: i16,
    pub resource_id: Uuid,
    /// 1 read, 2 write, 3 admin, 4 owner.
    pub level: i16,
    pub can_share: bool,
    pub expires_at: Option<i64>,
    pub created_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
