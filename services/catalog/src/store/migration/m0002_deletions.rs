//! Deleted rows of blocks, and commits that are no version.

use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{ColumnDef, ForeignKey, Index, Table};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// (table, column) that a commit without a version needs.
const ADDED: [(&str, &str); 3] =
    [("upload", "snapshot"), ("idempotency", "snapshot"), ("idempotency", "affected_rows")];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let number = |name| ColumnDef::new(name).big_integer().not_null().take();
        let id = |name| ColumnDef::new(name).uuid().not_null().take();
        let table = Table::create()
            .table("block_deletion")
            .col(id("block_id"))
            .col(ColumnDef::new("branch").integer().not_null())
            // From which snapshot on these are the block's deleted rows.
            .col(number("snapshot"))
            .col(id("dataset_id"))
            .col(number("row_count"))
            .col(ColumnDef::new("positions").blob().not_null())
            .primary_key(Index::create().col("block_id").col("branch").col("snapshot"))
            .foreign_key(ForeignKey::create().from("block_deletion", "block_id").to("block", "id"))
            .to_owned();
        manager.create_table(table).await?;
        let connection = manager.get_connection();
        connection
            .execute_unprepared("CREATE INDEX block_use_block ON block_use (block_id)")
            .await?;
        for (table, column) in ADDED {
            let add = format!("ALTER TABLE {table} ADD COLUMN {column} BIGINT NOT NULL DEFAULT 0");
            connection.execute_unprepared(&add).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        for (table, column) in ADDED {
            connection
                .execute_unprepared(&format!("ALTER TABLE {table} DROP COLUMN {column}"))
                .await?;
        }
        connection.execute_unprepared("DROP INDEX block_use_block").await?;
        manager.drop_table(Table::drop().table("block_deletion").to_owned()).await
    }
}
