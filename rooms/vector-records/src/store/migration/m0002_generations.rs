//! Images, generations with their retrieved examples, cached models.

use sea_orm::DbBackend;
use sea_orm::sea_query::{ColumnDef, ForeignKey, Index, Table, TableCreateStatement};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        for table in [image(backend), generation(), example(), cached_model(backend)] {
            manager.create_table(table).await?;
        }
        let indexes = [
            Index::create()
                .name("image_path")
                .table("image")
                .col("namespace_id")
                .col("path")
                .unique()
                .take(),
            Index::create()
                .name("generation_newest")
                .table("generation")
                .col("namespace_id")
                .col("id")
                .take(),
            Index::create()
                .name("cached_model_used")
                .table("cached_model")
                .col("namespace_id")
                .col("last_accessed")
                .take(),
        ];
        for index in indexes {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["cached_model", "generation_example", "generation", "image"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Text that sorts by byte on both databases.
fn key_text(backend: DbBackend, name: &'static str) -> ColumnDef {
    let mut column = ColumnDef::new(name);
    column.text().not_null();
    if backend == DbBackend::Postgres {
        column.extra("COLLATE \"C\"");
    }
    column
}

fn id(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).uuid().not_null().take()
}

fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn optional_number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().take()
}

fn optional_float(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).double().null().take()
}

fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).blob().not_null().take()
}

fn image(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table("image")
        .col(id("id").primary_key())
        .col(id("namespace_id"))
        .col(text("namespace_name"))
        .col(key_text(backend, "path"))
        .col(text("description"))
        // As a payload of one list.
        .col(bytes("tags"))
        .col(number("width"))
        .col(number("height"))
        .col(number("size_bytes"))
        .col(text("format"))
        .col(text("source_dataset"))
        .col(text("item_id"))
        .col(text("content_hash"))
        .col(number("created_at"))
        .to_owned()
}

fn generation() -> TableCreateStatement {
    Table::create()
        .table("generation")
        .col(id("id").primary_key())
        .col(id("namespace_id"))
        .col(text("namespace_name"))
        .col(text("prompt"))
        .col(text("augmented_prompt"))
        .col(text("output_path"))
        .col(optional_number("seed"))
        .col(optional_number("steps"))
        .col(optional_float("guidance_scale"))
        .col(optional_number("time_ms"))
        .col(optional_float("memory_mb"))
        // As a payload.
        .col(bytes("model_config"))
        .col(ColumnDef::new("status").small_integer().not_null())
        .col(text("error_message"))
        .col(number("created_at"))
        .col(id("created_by"))
        .col(optional_number("finished_at"))
        .to_owned()
}

fn example() -> TableCreateStatement {
    Table::create()
        .table("generation_example")
        .col(id("generation_id"))
        .col(number("rank"))
        .col(text("space"))
        .col(text("item_id"))
        .col(ColumnDef::new("score").double().not_null())
        .col(text("body"))
        .primary_key(Index::create().col("generation_id").col("rank"))
        .foreign_key(
            ForeignKey::create().from("generation_example", "generation_id").to("generation", "id"),
        )
        .to_owned()
}

fn cached_model(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table("cached_model")
        .col(id("namespace_id"))
        .col(text("namespace_name"))
        .col(key_text(backend, "model_type"))
        .col(key_text(backend, "model_name"))
        .col(text("cache_path"))
        .col(number("size_bytes"))
        .col(number("access_count"))
        .col(number("last_accessed"))
        .col(number("created_at"))
        .primary_key(Index::create().col("namespace_id").col("model_type").col("model_name"))
        .to_owned()
}
