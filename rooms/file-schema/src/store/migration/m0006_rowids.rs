//! On SQLite the keys of directories, entries and contents are the rows' own
//! numbers: `bigint PRIMARY KEY` is an index beside the table, 13 bytes an entry
//! and one more descent for each look-up. An entry's birth is kept as how long
//! before its last change it was, which mostly is nothing; what nobody reads
//! (`since`) goes. Postgres stays as it is.
//!
//! The tables are written anew: as much room again is needed meanwhile.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use super::m0005_holding;

/// Gives rows of SQLite their numbers.
#[derive(DeriveMigrationName)]
pub struct Migration;

const DIR: &str =
    "location_id, parent_id, path, dev, ino, born, print, problem, files, bytes, archive";
const CONTENT: &str = "hash, size, kind, width, height, orientation, taken, camera, broken, likeness, looked, duration";
const ENTRY: &str = "dir_id, name, ext, kind, size, modified, changed, ino, links, mode, uid, gid, target, content_id, hashed, gone";

const UP: [&str; 3] = [
    "CREATE TABLE dir_anew (
        id integer NOT NULL PRIMARY KEY, location_id bigint NOT NULL, parent_id bigint, path text NOT NULL,
        dev bigint NOT NULL, ino bigint NOT NULL, born bigint, print blob, problem text,
        files bigint NOT NULL, bytes bigint NOT NULL, archive bigint
    )",
    "CREATE TABLE content_anew (
        id integer NOT NULL PRIMARY KEY, hash blob NOT NULL UNIQUE, size bigint NOT NULL, kind smallint NOT NULL,
        width bigint, height bigint, orientation smallint, taken text, camera text, broken smallint,
        likeness bigint, looked smallint NOT NULL DEFAULT 0, duration bigint
    )",
    "CREATE TABLE entry_anew (
        id integer NOT NULL PRIMARY KEY, dir_id bigint NOT NULL, name text NOT NULL, ext text NOT NULL,
        kind smallint NOT NULL, size bigint NOT NULL CHECK (size >= 0), modified bigint NOT NULL,
        changed bigint NOT NULL, lived bigint, ino bigint NOT NULL, links bigint NOT NULL, mode integer NOT NULL,
        uid bigint NOT NULL, gid bigint NOT NULL, target text, content_id bigint,
        hashed smallint NOT NULL DEFAULT 0, gone bigint,
        born bigint GENERATED ALWAYS AS (changed - lived) VIRTUAL
    )",
];

const DOWN: [&str; 3] = [
    "CREATE TABLE dir_anew (
        id bigint NOT NULL PRIMARY KEY, location_id bigint NOT NULL, parent_id bigint, path text NOT NULL,
        dev bigint NOT NULL, ino bigint NOT NULL, born bigint, print blob, problem text,
        files bigint NOT NULL, bytes bigint NOT NULL, archive bigint
    )",
    "CREATE TABLE content_anew (
        id bigint NOT NULL PRIMARY KEY, hash blob NOT NULL UNIQUE, size bigint NOT NULL, kind smallint NOT NULL,
        width bigint, height bigint, orientation smallint, taken text, camera text, broken smallint,
        likeness bigint, looked smallint NOT NULL DEFAULT 0, duration bigint
    )",
    "CREATE TABLE entry_anew (
        id bigint NOT NULL PRIMARY KEY, dir_id bigint NOT NULL, name text NOT NULL, ext text NOT NULL,
        kind smallint NOT NULL, size bigint NOT NULL CHECK (size >= 0), modified bigint NOT NULL,
        changed bigint NOT NULL, born bigint, ino bigint NOT NULL, links bigint NOT NULL, mode integer NOT NULL,
        uid bigint NOT NULL, gid bigint NOT NULL, target text, content_id bigint,
        hashed smallint NOT NULL DEFAULT 0, gone bigint, since bigint NOT NULL
    )",
];

/// As the migrations before made them.
const INDEXES: [&str; 9] = [
    "CREATE UNIQUE INDEX dir_path ON dir (location_id, path)",
    "CREATE INDEX dir_totals ON dir (location_id, path, files, bytes, archive)",
    "CREATE INDEX dir_inode ON dir (location_id, ino)",
    "CREATE INDEX dir_archive ON dir (archive, path) WHERE archive IS NOT NULL",
    "CREATE INDEX dir_replaced ON dir (location_id) WHERE dev = -1",
    "CREATE UNIQUE INDEX entry_place ON entry (dir_id, name)",
    "CREATE INDEX entry_content ON entry (content_id, ino) WHERE content_id IS NOT NULL",
    "CREATE INDEX entry_gone ON entry (gone) WHERE gone IS NOT NULL",
    "CREATE INDEX entry_rotten ON entry (dir_id) WHERE hashed = 3",
];

/// Makes the three tables anew; `own` and `its` are the entry's columns that
/// differ, there and here.
async fn rebuild(
    db: &impl ConnectionTrait,
    tables: &[&str],
    own: &str,
    its: &str,
) -> Result<(), DbErr> {
    for statement in m0005_holding::DOWN_SQLITE {
        db.execute_unprepared(statement).await?;
    }
    for statement in tables {
        db.execute_unprepared(statement).await?;
    }
    let copies = [
        ("dir", DIR.to_owned(), DIR.to_owned()),
        ("content", CONTENT.to_owned(), CONTENT.to_owned()),
        ("entry", format!("{ENTRY}, {own}"), format!("{ENTRY}, {its}")),
    ];
    for (table, own, its) in copies {
        let copy = format!(
            "INSERT INTO {table}_anew (id, {own}) SELECT id, {its} FROM {table} ORDER BY id"
        );
        db.execute_unprepared(&copy).await?;
        db.execute_unprepared(&format!("DROP TABLE {table}")).await?;
        db.execute_unprepared(&format!("ALTER TABLE {table}_anew RENAME TO {table}")).await?;
    }
    for statement in INDEXES {
        db.execute_unprepared(statement).await?;
    }
    for statement in m0005_holding::SQLITE {
        db.execute_unprepared(&m0005_holding::whole(statement, false)).await?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() == DbBackend::Postgres {
            return Ok(());
        }
        // Of two numbers that are too far apart the difference is none.
        let lived = "CASE WHEN typeof(changed - born) = 'integer' THEN changed - born END";
        rebuild(db, &UP, "lived", lived).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() == DbBackend::Postgres {
            return Ok(());
        }
        rebuild(db, &DOWN, "born, since", "born, 1").await
    }
}
