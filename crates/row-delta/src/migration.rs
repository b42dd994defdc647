//! The tables, for the migration of the schema that holds them.

use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{ColumnDef, Index, Table, TableCreateStatement};
use sea_orm_migration::prelude::{DbErr, SchemaManager};

const TABLES: [&str; 5] = ["delta_head", "delta_row", "delta_image", "delta_mark", "delta_edit"];

/// Makes the tables.
///
/// # Errors
/// As the database fails.
pub async fn up(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    for table in [head(), row(), image(), mark(), edit()] {
        manager.create_table(table).await?;
    }
    for index in [
        "CREATE INDEX delta_row_key ON delta_row (dataset_id, branch, row_key, seq)",
        "CREATE INDEX delta_edit_expiry ON delta_edit (expires_at)",
    ] {
        manager.get_connection().execute_unprepared(index).await?;
    }
    Ok(())
}

/// Drops them.
///
/// # Errors
/// As the database fails.
pub async fn down(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    for table in TABLES.iter().rev() {
        manager.drop_table(Table::drop().table(*table).to_owned()).await?;
    }
    Ok(())
}

fn id(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).uuid().not_null().take()
}

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).blob().not_null().take()
}

fn branch() -> ColumnDef {
    ColumnDef::new("branch").integer().not_null().take()
}

/// The counter of a branch, its fence and what waits for a flush.
fn head() -> TableCreateStatement {
    Table::create()
        .table("delta_head")
        .col(id("dataset_id"))
        .col(branch())
        .col(number("seq"))
        // Bulk commits that changed rows.
        .col(number("epoch"))
        .col(number("absorbed"))
        .col(number("trimmed"))
        .col(number("pending_rows"))
        .col(number("pending_bytes"))
        // When the oldest waiting row was written; 0: none waits.
        .col(number("oldest_at"))
        .col(ColumnDef::new("fence_kind").small_integer().not_null())
        .col(number("fence_epoch"))
        .col(ColumnDef::new("fence_upload").uuid().null())
        .col(number("fence_barrier"))
        .col(number("fence_expires_at"))
        .primary_key(Index::create().col("dataset_id").col("branch"))
        .to_owned()
}

fn row() -> TableCreateStatement {
    Table::create()
        .table("delta_row")
        .col(id("dataset_id"))
        .col(branch())
        .col(number("seq"))
        .col(bytes("row_key"))
        .col(ColumnDef::new("live").boolean().not_null())
        .col(number("image_seq"))
        .col(ColumnDef::new("image_row").integer().not_null())
        .primary_key(Index::create().col("dataset_id").col("branch").col("seq"))
        .to_owned()
}

/// Images of one write, under its first seq.
fn image() -> TableCreateStatement {
    Table::create()
        .table("delta_image")
        .col(id("dataset_id"))
        .col(branch())
        .col(number("seq"))
        .col(bytes("data"))
        .primary_key(Index::create().col("dataset_id").col("branch").col("seq"))
        .to_owned()
}

/// When the blocks took over up to a seq.
fn mark() -> TableCreateStatement {
    Table::create()
        .table("delta_mark")
        .col(id("dataset_id"))
        .col(branch())
        .col(number("watermark"))
        .col(number("absorbed_at"))
        .primary_key(Index::create().col("dataset_id").col("branch").col("watermark"))
        .to_owned()
}

/// Edits by the key that their caller gave them.
fn edit() -> TableCreateStatement {
    Table::create()
        .table("delta_edit")
        .col(id("principal"))
        .col(id("dataset_id"))
        .col(ColumnDef::new("edit_key").text().not_null())
        .col(bytes("body_hash"))
        .col(bytes("response"))
        .col(number("seq"))
        .col(number("expires_at"))
        .primary_key(Index::create().col("principal").col("dataset_id").col("edit_key"))
        .to_owned()
}
