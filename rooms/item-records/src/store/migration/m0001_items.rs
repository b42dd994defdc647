//! The key ring, uploads with media, and the counter that numbers keys.

use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{ColumnDef, Index, Table, TableCreateStatement};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};
use sql_store::migration::{create_counter_table, drop_counter_table};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [create_counter_table(), key_ring(), upload(), media()] {
            manager.create_table(table).await?;
        }
        manager
            .get_connection()
            .execute_unprepared("CREATE INDEX media_upload ON media (upload_id)")
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["media", "upload", "key_ring"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        manager.drop_table(drop_counter_table()).await
    }
}

fn id(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).uuid().not_null().take()
}

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).blob().not_null().take()
}

fn key_ring() -> TableCreateStatement {
    Table::create()
        .table("key_ring")
        .col(number("id").primary_key())
        .col(bytes("secret"))
        .col(number("created_at"))
        .to_owned()
}

fn upload() -> TableCreateStatement {
    Table::create()
        .table("upload")
        .col(id("id").primary_key())
        .col(id("dataset_id"))
        .col(id("principal"))
        .col(text("address"))
        .col(number("created_at"))
        .to_owned()
}

fn media() -> TableCreateStatement {
    Table::create()
        .table("media")
        .col(id("dataset_id"))
        .col(bytes("content_hash"))
        .col(id("upload_id"))
        .col(number("byte_count"))
        .col(text("mime_type"))
        .col(ColumnDef::new("committed").boolean().not_null().take())
        .col(number("created_at"))
        .primary_key(Index::create().col("dataset_id").col("content_hash").col("upload_id"))
        .to_owned()
}
