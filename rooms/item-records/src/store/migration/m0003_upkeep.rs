//! Leases of upkeep: which replica does it at the moment.

use sea_orm::sea_query::{ColumnDef, Table};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let number = |name| ColumnDef::new(name).big_integer().not_null().take();
        let lease = Table::create()
            .table("upkeep_lease")
            .col(ColumnDef::new("name").text().not_null().primary_key())
            .col(number("lease_epoch"))
            .col(number("expires_at"))
            .to_owned();
        manager.create_table(lease).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("upkeep_lease").to_owned()).await
    }
}
