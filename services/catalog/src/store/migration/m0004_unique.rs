//! Unique columns of a dataset.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let add = "ALTER TABLE dataset ADD COLUMN unique_columns TEXT";
        manager.get_connection().execute_unprepared(add).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let remove = "ALTER TABLE dataset DROP COLUMN unique_columns";
        manager.get_connection().execute_unprepared(remove).await.map(drop)
    }
}
