//! Namespaces, datasets, the manifest, uploads, idempotency keys, the outbox.
//!
//! Names sort by byte on both databases (`COLLATE "C"` is SQLite's default), so
//! keyset pages are the same. A deleted row keeps its name; partial unique
//! indexes free it for the next one.

use sea_orm::sea_query::{
    ColumnDef, ForeignKey, ForeignKeyCreateStatement, Index, Table, TableCreateStatement,
};
use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};
use sql_store::migration::{create_counter_table, drop_counter_table};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// In the order in which they are made.
const TABLES: [&str; 11] = [
    "namespace",
    "dataset",
    "dataset_property",
    "branch",
    "snapshot",
    "version",
    "upload",
    "block",
    "block_use",
    "block_column_stats",
    "idempotency",
];

const INDEXES: [&str; 8] = [
    "CREATE UNIQUE INDEX namespace_name ON namespace (name) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX dataset_name ON dataset (namespace_id, name) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX version_snapshot ON version (dataset_id, snapshot, number)",
    "CREATE INDEX upload_open ON upload (expires_at) WHERE state = 0",
    "CREATE INDEX upload_unswept ON upload (id) WHERE state = 2 AND swept_at IS NULL",
    "CREATE INDEX idempotency_expiry ON idempotency (expires_at)",
    "CREATE INDEX outbox_undelivered ON outbox (seq) WHERE delivered_at IS NULL",
    "CREATE INDEX outbox_resource ON outbox (resource_id, seq) WHERE delivered_at IS NULL",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let names = Names(manager.get_database_backend());
        manager.create_table(create_counter_table()).await?;
        for table in [
            namespace(names),
            dataset(names),
            dataset_property(names),
            branch(),
            snapshot(),
            version(),
            upload(),
            block(names),
            block_use(),
            block_column_stats(names),
            idempotency(names),
            outbox(),
        ] {
            manager.create_table(table).await?;
        }
        for index in INDEXES {
            manager.get_connection().execute_unprepared(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("outbox").to_owned()).await?;
        for table in TABLES.iter().rev() {
            manager.drop_table(Table::drop().table(*table).to_owned()).await?;
        }
        manager.drop_table(drop_counter_table()).await
    }
}

/// Text columns that sort by byte on this database.
#[derive(Clone, Copy)]
struct Names(DbBackend);

impl Names {
    fn column(self, name: &'static str) -> ColumnDef {
        let mut column = ColumnDef::new(name);
        column.text().not_null();
        if self.0 == DbBackend::Postgres {
            column.extra("COLLATE \"C\"");
        }
        column
    }
}

fn id(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).uuid().not_null().take()
}

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn small(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).small_integer().not_null().take()
}

fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).blob().not_null().take()
}

fn flag(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().take()
}

fn branch_number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).integer().not_null().take()
}

/// A microsecond time, or a number, that may be absent.
fn optional(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().take()
}

fn to_dataset(table: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create().from(table, "dataset_id").to("dataset", "id").to_owned()
}

fn namespace(names: Names) -> TableCreateStatement {
    Table::create()
        .table("namespace")
        .col(id("id").primary_key())
        .col(names.column("name"))
        .col(text("description"))
        .col(number("created_at"))
        .col(id("created_by"))
        .col(optional("deleted_at"))
        .col(number("revision"))
        .to_owned()
}

fn dataset(names: Names) -> TableCreateStatement {
    Table::create()
        .table("dataset")
        .col(id("id").primary_key())
        .col(id("namespace_id"))
        .col(names.column("name"))
        .col(text("description"))
        .col(small("profile"))
        .col(bytes("arrow_schema"))
        .col(ColumnDef::new("key_column").text().null())
        .col(flag("public"))
        .col(number("created_at"))
        .col(id("created_by"))
        .col(optional("deleted_at"))
        // The last numbers given; they only grow.
        .col(number("last_snapshot"))
        .col(number("last_version"))
        .col(number("revision"))
        .foreign_key(ForeignKey::create().from("dataset", "namespace_id").to("namespace", "id"))
        .to_owned()
}

fn dataset_property(names: Names) -> TableCreateStatement {
    Table::create()
        .table("dataset_property")
        .col(id("dataset_id"))
        .col(names.column("key"))
        .col(text("value"))
        .primary_key(Index::create().col("dataset_id").col("key"))
        .foreign_key(&mut to_dataset("dataset_property"))
        .to_owned()
}

fn branch() -> TableCreateStatement {
    Table::create()
        .table("branch")
        .col(id("dataset_id"))
        .col(branch_number("branch"))
        .col(text("name"))
        // Where it was cut from; absent for main.
        .col(ColumnDef::new("parent_branch").integer().null())
        .col(optional("fork_snapshot"))
        .col(number("head_snapshot"))
        .col(number("head_version"))
        .col(number("revision"))
        .primary_key(Index::create().col("dataset_id").col("branch"))
        .foreign_key(&mut to_dataset("branch"))
        .to_owned()
}

fn snapshot() -> TableCreateStatement {
    Table::create()
        .table("snapshot")
        .col(id("dataset_id"))
        .col(number("number"))
        .col(branch_number("branch"))
        .col(number("parent"))
        .col(number("row_count"))
        .col(number("byte_count"))
        .col(number("block_count"))
        .col(number("watermark"))
        .col(number("created_at"))
        .primary_key(Index::create().col("dataset_id").col("number"))
        .foreign_key(&mut to_dataset("snapshot"))
        .to_owned()
}

fn version() -> TableCreateStatement {
    Table::create()
        .table("version")
        .col(id("dataset_id"))
        .col(number("number"))
        .col(number("snapshot"))
        .col(number("parent"))
        .col(text("message"))
        .col(id("author"))
        .col(number("created_at"))
        .primary_key(Index::create().col("dataset_id").col("number"))
        .foreign_key(
            ForeignKey::create()
                .from("version", ("dataset_id", "snapshot"))
                .to("snapshot", ("dataset_id", "number")),
        )
        .to_owned()
}

/// No key to dataset: an upload may be for one that its commit makes.
fn upload() -> TableCreateStatement {
    Table::create()
        .table("upload")
        .col(id("id").primary_key())
        .col(id("dataset_id"))
        .col(id("namespace_id"))
        .col(id("principal"))
        .col(small("state"))
        .col(number("lease_epoch"))
        .col(number("expires_at"))
        .col(number("version"))
        .col(number("created_at"))
        .col(optional("swept_at"))
        .to_owned()
}

fn block(names: Names) -> TableCreateStatement {
    Table::create()
        .table("block")
        .col(id("id").primary_key())
        .col(id("dataset_id"))
        .col(id("upload_id"))
        .col(names.column("object_key").unique_key())
        .col(number("row_count"))
        .col(number("byte_count"))
        .col(number("footer_length"))
        .col(bytes("content_hash"))
        .foreign_key(&mut to_dataset("block"))
        .to_owned()
}

/// Storage order is the primary key.
fn block_use() -> TableCreateStatement {
    Table::create()
        .table("block_use")
        .col(id("dataset_id"))
        .col(branch_number("branch"))
        .col(number("begin_snapshot"))
        .col(number("ordinal"))
        .col(id("block_id"))
        .col(optional("end_snapshot"))
        .primary_key(
            Index::create().col("dataset_id").col("branch").col("begin_snapshot").col("ordinal"),
        )
        .foreign_key(ForeignKey::create().from("block_use", "block_id").to("block", "id"))
        .to_owned()
}

fn block_column_stats(names: Names) -> TableCreateStatement {
    Table::create()
        .table("block_column_stats")
        .col(id("block_id"))
        .col(ColumnDef::new("ordinal").integer().not_null())
        .col(names.column("column_name"))
        .col(number("null_count"))
        .col(ColumnDef::new("min_value").blob().null())
        .col(ColumnDef::new("max_value").blob().null())
        .col(flag("exact"))
        .primary_key(Index::create().col("block_id").col("ordinal"))
        .foreign_key(ForeignKey::create().from("block_column_stats", "block_id").to("block", "id"))
        .to_owned()
}

fn idempotency(names: Names) -> TableCreateStatement {
    Table::create()
        .table("idempotency")
        .col(id("principal"))
        .col(id("dataset_id"))
        .col(names.column("key"))
        .col(bytes("body_hash"))
        .col(number("version"))
        .col(number("expires_at"))
        .primary_key(Index::create().col("principal").col("dataset_id").col("key"))
        .foreign_key(&mut to_dataset("idempotency"))
        .to_owned()
}

fn outbox() -> TableCreateStatement {
    Table::create()
        .table("outbox")
        .col(id("event_id").primary_key())
        .col(number("seq").unique_key())
        .col(small("kind"))
        .col(id("resource_id"))
        .col(ColumnDef::new("parent_id").uuid().null())
        .col(ColumnDef::new("owner_id").uuid().null())
        .col(number("created_at"))
        .col(optional("delivered_at"))
        .to_owned()
}
