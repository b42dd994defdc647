//! The change log, imports into datasets, and what locations elsewhere need.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

/// Makes the log of changes.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// Of `location`: the newest change's number, the one below which changes are
/// not kept one by one, a scan that is asked for of an agent and the last one
/// that was done, when an agent was last heard of, and the newest entry before
/// the scan that is under way.
const COLUMNS: [(&str, &str); 8] = [
    ("change_seq", "bigint NOT NULL DEFAULT 0"),
    ("change_floor", "bigint NOT NULL DEFAULT 0"),
    ("wanted", "bigint NOT NULL DEFAULT 0"),
    ("wanted_mode", "integer NOT NULL DEFAULT 0"),
    ("wanted_accept", "boolean NOT NULL DEFAULT FALSE"),
    ("fulfilled", "bigint NOT NULL DEFAULT 0"),
    ("agent_seen", "bigint NOT NULL DEFAULT 0"),
    ("scan_newest", "bigint NOT NULL DEFAULT -1"),
];

const TABLES: [&str; 4] = [
    "CREATE TABLE change (
        location_id bigint NOT NULL, seq bigint NOT NULL, kind smallint NOT NULL, entry_id bigint NOT NULL,
        path text NOT NULL, old_path text, at bigint NOT NULL, PRIMARY KEY (location_id, seq)
    )",
    "CREATE TABLE import (
        id bigint NOT NULL PRIMARY KEY, uuid uuid NOT NULL UNIQUE, location_id bigint NOT NULL, path text NOT NULL,
        dataset_id uuid NOT NULL, dataset text NOT NULL, layout text NOT NULL, query text NOT NULL,
        seq bigint NOT NULL, version bigint NOT NULL, samples bigint NOT NULL, imported_at bigint NOT NULL
    )",
    "CREATE UNIQUE INDEX import_place ON import (location_id, dataset_id, path)",
    "CREATE TABLE import_item (
        item {BYTES} NOT NULL PRIMARY KEY, print {BYTES}
    )",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let is_postgres = db.get_database_backend() == DbBackend::Postgres;
        let bytes = if is_postgres { "bytea" } else { "blob" };
        for (name, kind) in COLUMNS {
            db.execute_unprepared(&format!("ALTER TABLE location ADD COLUMN {name} {kind}"))
                .await?;
        }
        for statement in TABLES {
            db.execute_unprepared(&statement.replace("{BYTES}", bytes)).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in ["import_item", "import", "change"] {
            db.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
        for (name, _) in COLUMNS {
            db.execute_unprepared(&format!("ALTER TABLE location DROP COLUMN {name}")).await?;
        }
        Ok(())
    }
}
