//! Locations, directories, entries, contents, and what people say of them.
//!
//! The hot tables carry few indexes and no foreign keys: a first scan writes
//! hundreds of thousands of rows a second, and only its lease holder writes.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

/// Makes the tables of files.
#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: [&str; 12] = [
    "CREATE TABLE location (
        id bigint NOT NULL PRIMARY KEY, uuid uuid NOT NULL UNIQUE, path text NOT NULL, name text NOT NULL,
        device text NOT NULL, owner uuid NOT NULL, mode integer NOT NULL, rules text NOT NULL,
        guard_percent integer NOT NULL, root_dev bigint, root_ino bigint, generation bigint NOT NULL DEFAULT 0,
        lease_epoch bigint NOT NULL DEFAULT 0, scanned_at bigint, problem text NOT NULL DEFAULT '',
        watched boolean NOT NULL, announced boolean NOT NULL DEFAULT FALSE, unhashed boolean NOT NULL DEFAULT TRUE,
        entries bigint NOT NULL DEFAULT 0, files bigint NOT NULL DEFAULT 0, bytes bigint NOT NULL DEFAULT 0,
        missing bigint NOT NULL DEFAULT 0, created_at bigint NOT NULL, deleted_at bigint
    )",
    "CREATE TABLE dir (
        id bigint NOT NULL PRIMARY KEY, location_id bigint NOT NULL, parent_id bigint, path text {C} NOT NULL,
        dev bigint NOT NULL, ino bigint NOT NULL, born bigint, print {BYTES}, problem text,
        files bigint NOT NULL, bytes bigint NOT NULL
    )",
    "CREATE TABLE entry (
        id bigint NOT NULL PRIMARY KEY, dir_id bigint NOT NULL, name text {C} NOT NULL, ext text NOT NULL,
        kind smallint NOT NULL, size bigint NOT NULL CHECK (size >= 0), modified bigint NOT NULL,
        changed bigint NOT NULL, born bigint, ino bigint NOT NULL, links bigint NOT NULL, mode integer NOT NULL,
        uid bigint NOT NULL, gid bigint NOT NULL, target text, content_id bigint,
        hashed smallint NOT NULL DEFAULT 0, gone bigint, since bigint NOT NULL
    )",
    "CREATE TABLE content (
        id bigint NOT NULL PRIMARY KEY, hash {BYTES} NOT NULL UNIQUE, size bigint NOT NULL, kind smallint NOT NULL,
        width bigint, height bigint, orientation smallint, taken text, camera text, broken smallint,
        likeness bigint, looked smallint NOT NULL DEFAULT 0
    )",
    "CREATE TABLE tag (id bigint NOT NULL PRIMARY KEY, name text NOT NULL UNIQUE)",
    "CREATE TABLE tag_implies (
        tag_id bigint NOT NULL REFERENCES tag (id) ON DELETE CASCADE,
        implied_id bigint NOT NULL REFERENCES tag (id) ON DELETE CASCADE, PRIMARY KEY (tag_id, implied_id)
    )",
    "CREATE TABLE tagging (
        id bigint NOT NULL PRIMARY KEY, tag_id bigint NOT NULL REFERENCES tag (id) ON DELETE CASCADE,
        entry_id bigint, content_id bigint, owner uuid NOT NULL, created_at bigint NOT NULL,
        CHECK ((entry_id IS NULL) <> (content_id IS NULL))
    )",
    "CREATE TABLE label (id bigint NOT NULL PRIMARY KEY, path text {C} NOT NULL UNIQUE)",
    "CREATE TABLE labelling (
        id bigint NOT NULL PRIMARY KEY, label_id bigint NOT NULL REFERENCES label (id) ON DELETE CASCADE,
        entry_id bigint, content_id bigint, owner uuid NOT NULL, created_at bigint NOT NULL,
        confidence double precision NOT NULL, source text NOT NULL,
        CHECK ((entry_id IS NULL) <> (content_id IS NULL))
    )",
    "CREATE TABLE annotation (
        id bigint NOT NULL PRIMARY KEY, entry_id bigint UNIQUE, content_id bigint UNIQUE, note text NOT NULL,
        favorite smallint NOT NULL, hidden smallint NOT NULL, changed_by uuid NOT NULL, changed_at bigint NOT NULL,
        CHECK ((entry_id IS NULL) <> (content_id IS NULL))
    )",
    "CREATE TABLE annotation_property (
        annotation_id bigint NOT NULL REFERENCES annotation (id) ON DELETE CASCADE, name text NOT NULL,
        value text NOT NULL, PRIMARY KEY (annotation_id, name)
    )",
    "CREATE TABLE counter (name text NOT NULL PRIMARY KEY, value bigint NOT NULL CHECK (value >= 0))",
];

const INDEXES: [&str; 13] = [
    "CREATE UNIQUE INDEX location_path ON location (device, path) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX dir_path ON dir (location_id, path)",
    "CREATE INDEX dir_totals ON dir (location_id, path, files, bytes)",
    "CREATE INDEX dir_inode ON dir (location_id, ino)",
    "CREATE UNIQUE INDEX entry_place ON entry (dir_id, name)",
    "CREATE INDEX entry_content ON entry (content_id) WHERE content_id IS NOT NULL",
    "CREATE INDEX entry_gone ON entry (gone) WHERE gone IS NOT NULL",
    "CREATE UNIQUE INDEX tagging_entry ON tagging (entry_id, tag_id) WHERE entry_id IS NOT NULL",
    "CREATE UNIQUE INDEX tagging_content ON tagging (content_id, tag_id) WHERE content_id IS NOT NULL",
    "CREATE INDEX tagging_tag ON tagging (tag_id)",
    "CREATE UNIQUE INDEX labelling_entry ON labelling (entry_id, label_id, source) WHERE entry_id IS NOT NULL",
    "CREATE UNIQUE INDEX labelling_content ON labelling (content_id, label_id, source) WHERE content_id IS NOT NULL",
    "CREATE INDEX labelling_label ON labelling (label_id)",
];

/// Names by their trigrams, filled behind the scan. FTS5 reads the names from
/// the entries; Postgres needs a table of its own so that the index is filled
/// behind the scan too.
const SQLITE_NAMES: &str = "CREATE VIRTUAL TABLE entry_text USING fts5(
    name, content='entry', content_rowid='id', tokenize='trigram', detail='none', columnsize=0)";
const POSTGRES_NAMES: [&str; 2] = [
    "CREATE TABLE entry_text (entry_id bigint NOT NULL PRIMARY KEY, name text NOT NULL)",
    "CREATE INDEX entry_text_trigrams ON entry_text USING gin (name gin_trgm_ops)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let is_postgres = db.get_database_backend() == DbBackend::Postgres;
        let (collate, bytes) = if is_postgres { ("COLLATE \"C\"", "bytea") } else { ("", "blob") };
        for statement in TABLES {
            let sql = statement.replace("{C}", collate).replace("{BYTES}", bytes);
            db.execute_unprepared(&sql).await?;
        }
        for statement in INDEXES {
            db.execute_unprepared(statement).await?;
        }
        if !is_postgres {
            return db.execute_unprepared(SQLITE_NAMES).await.map(drop);
        }
        // Without the extension a search reads the names one by one.
        let offered = "SELECT 1 AS found FROM pg_available_extensions WHERE name = 'pg_trgm'";
        let offered = sea_orm::Statement::from_string(DbBackend::Postgres, offered);
        if db.query_one_raw(offered).await?.is_some() {
            db.execute_unprepared("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public").await?;
            for statement in POSTGRES_NAMES {
                db.execute_unprepared(statement).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        for table in [
            "entry_text",
            "annotation_property",
            "annotation",
            "labelling",
            "label",
            "tagging",
            "tag_implies",
            "tag",
            "content",
            "entry",
            "dir",
            "location",
            "counter",
        ] {
            db.execute_unprepared(&format!("DROP TABLE IF EXISTS {table}")).await?;
        }
        Ok(())
    }
}
