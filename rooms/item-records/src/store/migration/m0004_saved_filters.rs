//! Filters that are kept under names, of each dataset its own.

use sea_orm::sea_query::{ColumnDef, Index, Table};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let id = |name| ColumnDef::new(name).uuid().not_null().take();
        let text = |name| ColumnDef::new(name).text().not_null().take();
        let number = |name| ColumnDef::new(name).big_integer().not_null().take();
        let saved_filter = Table::create()
            .table("saved_filter")
            .col(id("dataset_id"))
            .col(text("name"))
            .col(text("filter"))
            .col(text("description"))
            .col(number("revision"))
            .col(id("created_by"))
            .col(number("created_at"))
            .col(number("updated_at"))
            .primary_key(Index::create().col("dataset_id").col("name"))
            .to_owned();
        manager.create_table(saved_filter).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("saved_filter").to_owned()).await
    }
}
