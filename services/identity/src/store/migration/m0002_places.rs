//! When each data dir was last used: the token of one that no server uses any more is revoked.

use sea_orm::ConnectionTrait as _;
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// 0: not seen since there is this column.
const UP: &str = "ALTER TABLE admin_token ADD COLUMN seen_at bigint NOT NULL DEFAULT 0";
const DOWN: &str = "ALTER TABLE admin_token DROP COLUMN seen_at";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}
