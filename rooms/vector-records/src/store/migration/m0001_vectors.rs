//! Spaces, points, the sequence of their changes, payload columns.
//!
//! A space's row is its counter: whoever writes points takes numbers from it in
//! the same transaction, so the order of numbers is the order of commits.

use sea_orm::sea_query::{ColumnDef, Index, Table, TableCreateStatement};
use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: [&str; 4] = ["space", "point", "point_change", "payload_column"];

const INDEXES: [&str; 3] = [
    "CREATE UNIQUE INDEX space_name ON space (namespace_id, dataset_id, name) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX point_number ON point (space_id, number)",
    "CREATE INDEX point_change_age ON point_change (at)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        if backend == DbBackend::Postgres {
            let extension = "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public";
            manager.get_connection().execute_unprepared(extension).await?;
        }
        for table in [space(backend), point(backend), point_change(), payload_column(backend)] {
            manager.create_table(table).await?;
        }
        for index in INDEXES {
            manager.get_connection().execute_unprepared(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES.iter().rev() {
            manager.drop_table(Table::drop().table(*table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Text that sorts by byte on both databases.
fn name(backend: DbBackend, column: &'static str) -> ColumnDef {
    let mut column = ColumnDef::new(column);
    column.text().not_null();
    if backend == DbBackend::Postgres {
        column.extra("COLLATE \"C\"");
    }
    column
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

fn flag(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().take()
}

fn space(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table("space")
        .col(id("id").primary_key())
        .col(id("namespace_id"))
        // Nil: the namespace's own.
        .col(id("dataset_id"))
        .col(text("namespace_name"))
        .col(text("dataset_name"))
        .col(name(backend, "name"))
        .col(ColumnDef::new("dimension").integer().not_null())
        .col(small("metric"))
        .col(small("element"))
        .col(text("embedder"))
        .col(number("point_count"))
        // The last numbers given: of changes, and of versions of points.
        .col(number("last_seq"))
        .col(number("last_number"))
        .col(number("epoch"))
        .col(number("snapshot_seq"))
        .col(flag("sql_indexed"))
        .col(number("created_at"))
        .col(id("created_by"))
        .col(ColumnDef::new("deleted_at").big_integer().null())
        .to_owned()
}

/// SQLite has the elements as bytes; Postgres has one of pgvector's columns, by
/// the space's element. `vector` without a length holds any.
fn point(backend: DbBackend) -> TableCreateStatement {
    let mut table = Table::create();
    table
        .table("point")
        .col(id("space_id"))
        .col(name(backend, "item_id"))
        .col(number("number"))
        .col(ColumnDef::new("payload").blob().not_null())
        .col(number("updated_at"));
    if backend == DbBackend::Postgres {
        table
            .col(ColumnDef::new("vec").custom("public.vector").null())
            .col(ColumnDef::new("half").custom("public.halfvec").null())
            .col(ColumnDef::new("bits").custom("bit varying").null());
    } else {
        table.col(ColumnDef::new("vector").blob().not_null());
    }
    table.primary_key(Index::create().col("space_id").col("item_id"));
    table.to_owned()
}

fn point_change() -> TableCreateStatement {
    Table::create()
        .table("point_change")
        .col(id("space_id"))
        .col(number("seq"))
        // 0: nothing is there now.
        .col(number("number"))
        // 0: nothing was there before.
        .col(number("removed"))
        .col(number("at"))
        .primary_key(Index::create().col("space_id").col("seq"))
        .to_owned()
}

fn payload_column(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table("payload_column")
        .col(id("space_id"))
        .col(name(backend, "name"))
        .col(small("kind"))
        .col(flag("list"))
        .primary_key(Index::create().col("space_id").col("name"))
        .to_owned()
}
