//! On Postgres the end of a range of keys lies above a directory that went aside: the mark in its
//! name, U+10FFFF, may itself be the first character that a key's beginning leaves out. No name
//! holds two of them together.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

/// Lets what went aside be found below itself, wherever the mark is in its path.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// As migration 10 has it, but for the end.
const BELOW: &str = r"CREATE OR REPLACE FUNCTION place_below(place, text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
      SELECT files.place_key($1) < CASE WHEN length($2) <= 400 THEN $2 ELSE left($2, 400) || U&'{END}' END
        AND CAST($1 AS text) < $2 $$";
const END: &str = r"\+10ffff";

/// What was swept without its rows is swept once more: a directory that has lost its place.
const LEFT: &str = r"UPDATE dir SET dev = -1 WHERE substr(path, 401, 1) = U&'\+10ffff' AND strpos(substr(path, 402), '/') = 0
      AND NOT EXISTS (SELECT 1 FROM entry e WHERE e.dir_id = dir.parent_id AND e.name = regexp_replace(dir.path, '^.*/', ''))";

async fn run(manager: &SchemaManager<'_>, end: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    db.execute_unprepared(&BELOW.replace("{END}", end)).await?;
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &END.repeat(2)).await?;
        match manager.get_database_backend() {
            DbBackend::Postgres => {
                manager.get_connection().execute_unprepared(LEFT).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, END).await
    }
}
