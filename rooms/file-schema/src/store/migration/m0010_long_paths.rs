//! On Postgres a row of an index takes 2,704 bytes, and a path may take more: directories are
//! found by a key of their path, which is the path itself up to 500 characters, else its
//! beginning and a digest. Keys sort as their paths do as far as these begin differently.
//!
//! `dir.path` is of a type of its own, a text whose `=`, `>=` and `<` with another text ask
//! for the key too. So every statement finds its index as it is, and those of an older file
//! indexer beside this one as well. Their functions are put in where they are called, by the
//! planner.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

/// Lets paths be of any length.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// Of those with one beginning the shorter key comes first, as a directory before what lies
/// in it; no path holds `//`. All below the end of a range has a key below that end's.
const UP: [&str; 19] = [
    "DROP INDEX dir_path",
    "DROP INDEX dir_totals",
    "DROP INDEX dir_archive",
    "DROP INDEX location_path",
    "CREATE DOMAIN place AS text COLLATE \"C\"",
    "ALTER TABLE dir ALTER COLUMN path TYPE place",
    r"CREATE FUNCTION place_key(path text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
      SELECT CASE WHEN length($1) <= 500 THEN $1 ELSE left($1, 400) || '//' || lpad(CAST(length($1) AS text), 8, '0')
        || encode(sha256(decode(replace($1, '\', '\\'), 'escape')), 'hex') END $$",
    "CREATE FUNCTION place_is(place, text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
      SELECT files.place_key($1) = files.place_key($2) $$",
    "CREATE FUNCTION place_from(place, text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
      SELECT files.place_key($1) >= left($2, 400) AND CAST($1 AS text) >= $2 $$",
    r"CREATE FUNCTION place_below(place, text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
      SELECT files.place_key($1) < CASE WHEN length($2) <= 400 THEN $2 ELSE left($2, 400) || U&'\+10ffff' END
        AND CAST($1 AS text) < $2 $$",
    "CREATE OPERATOR = (LEFTARG = place, RIGHTARG = text, FUNCTION = place_is, RESTRICT = eqsel, JOIN = eqjoinsel)",
    "CREATE OPERATOR >= (LEFTARG = place, RIGHTARG = text, FUNCTION = place_from,
      RESTRICT = scalargesel, JOIN = scalargejoinsel)",
    "CREATE OPERATOR < (LEFTARG = place, RIGHTARG = text, FUNCTION = place_below,
      RESTRICT = scalarltsel, JOIN = scalarltjoinsel)",
    "CREATE UNIQUE INDEX dir_path ON dir (location_id, place_key(path))",
    "CREATE INDEX dir_archive ON dir (archive, place_key(path)) WHERE archive IS NOT NULL",
    // Totals are read from the index alone, of nearly all directories.
    "CREATE INDEX dir_totals ON dir (location_id, path, files, bytes, archive) WHERE octet_length(path) <= 2000",
    "CREATE INDEX dir_long ON dir (location_id) WHERE octet_length(path) > 2000",
    "CREATE UNIQUE INDEX location_path ON location (device, place_key(path)) WHERE deleted_at IS NULL",
    // What was known of the paths went with their type.
    "DO $$ BEGIN IF EXISTS (SELECT 1 FROM dir) THEN ANALYZE dir; END IF; END $$",
];

/// A path that is too long for the indexes of before ends it.
const DOWN: [&str; 18] = [
    "DROP INDEX dir_path",
    "DROP INDEX dir_archive",
    "DROP INDEX dir_totals",
    "DROP INDEX dir_long",
    "DROP INDEX location_path",
    "DROP OPERATOR = (place, text)",
    "DROP OPERATOR >= (place, text)",
    "DROP OPERATOR < (place, text)",
    "DROP FUNCTION place_is(place, text)",
    "DROP FUNCTION place_from(place, text)",
    "DROP FUNCTION place_below(place, text)",
    "DROP FUNCTION place_key(text)",
    "ALTER TABLE dir ALTER COLUMN path TYPE text COLLATE \"C\"",
    "DROP DOMAIN place",
    "CREATE UNIQUE INDEX dir_path ON dir (location_id, path)",
    "CREATE INDEX dir_totals ON dir (location_id, path, files, bytes, archive)",
    "CREATE INDEX dir_archive ON dir (archive, path) WHERE archive IS NOT NULL",
    "CREATE UNIQUE INDEX location_path ON location (device, path) WHERE deleted_at IS NULL",
];

async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let db = manager.get_connection();
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for statement in statements {
        db.execute_unprepared(statement).await?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &DOWN).await
    }
}
