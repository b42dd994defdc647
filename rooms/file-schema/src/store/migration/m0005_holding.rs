//! How many files of a location hold a content, and how many copies those are,
//! kept in the transaction that writes the entries: groups of equal files and
//! what they waste are read from an index.
//!
//! Triggers keep it, so that no statement that changes an entry can forget to,
//! those of an older file indexer beside this one neither. Entries are inserted
//! without a content, so a first scan pays nothing for it.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// Which entries count; {X} is the row.
const LIVE: &str =
    "{X}.content_id IS NOT NULL AND {X}.hashed IN (1, 2) AND {X}.gone IS NULL AND {X}.size > 0";

/// `copies` are inodes: names of one inode are one copy. The size is a part of
/// the key because an agent may say that two files of one hash differ in it.
const UP: [&str; 5] = [
    "CREATE TABLE holding (
        location_id bigint NOT NULL, content_id bigint NOT NULL, size bigint NOT NULL,
        files bigint NOT NULL, copies bigint NOT NULL, PRIMARY KEY (location_id, content_id, size)
    ) {WITHOUT ROWID}",
    "CREATE INDEX holding_rank ON holding (location_id, ((1 - copies) * size), content_id, size, files, copies)
        WHERE files > 1",
    "DROP INDEX entry_content",
    // Whether another name of an inode is left is asked for each file that goes.
    "CREATE INDEX entry_content ON entry (content_id, ino) WHERE content_id IS NOT NULL",
    "CREATE INDEX entry_rotten ON entry (dir_id) WHERE hashed = 3",
];

/// After the triggers, so that what is written meanwhile is in one or the other.
const FILL: &str = "INSERT INTO holding (location_id, content_id, size, files, copies)
    SELECT d.location_id, e.content_id, e.size, COUNT(*), COUNT(DISTINCT e.ino)
    FROM entry e JOIN dir d ON d.id = e.dir_id WHERE {LIVE e} GROUP BY 1, 2, 3";

const DOWN: [&str; 4] = [
    "DROP TABLE holding",
    "DROP INDEX entry_rotten",
    "DROP INDEX entry_content",
    "CREATE INDEX entry_content ON entry (content_id) WHERE content_id IS NOT NULL",
];

/// A row of SQLite leaves its content or comes to one; {X} is OLD or NEW. The
/// table is what it is after this row: names of the same inode that are still
/// to come count yet, those that have gone do not.
const TWIN: &str = "EXISTS (SELECT 1 FROM entry x
    WHERE x.content_id = {X}.content_id AND x.ino = {X}.ino AND x.id <> {X}.id AND x.size = {X}.size
      AND x.hashed IN (1, 2) AND x.gone IS NULL AND (SELECT location_id FROM dir WHERE id = x.dir_id)
        = (SELECT location_id FROM dir WHERE id = {X}.dir_id))";
const PLACE: &str = "location_id = (SELECT location_id FROM dir WHERE id = OLD.dir_id)
    AND content_id = OLD.content_id AND size = OLD.size";
const LEAVE: &str =
    "UPDATE holding SET files = files - 1, copies = copies - (NOT {TWIN OLD}) WHERE {PLACE};
    DELETE FROM holding WHERE files < 1 AND {PLACE};";
const COME: &str = "INSERT INTO holding (location_id, content_id, size, files, copies)
    VALUES ((SELECT location_id FROM dir WHERE id = NEW.dir_id), NEW.content_id, NEW.size, 1, NOT {TWIN NEW})
    ON CONFLICT (location_id, content_id, size)
    DO UPDATE SET files = files + 1, copies = copies + excluded.copies;";
const OTHER: &str =
    "(OLD.dir_id, OLD.content_id, OLD.hashed IN (1, 2), OLD.gone IS NULL, OLD.size, OLD.ino)
    IS NOT (NEW.dir_id, NEW.content_id, NEW.hashed IN (1, 2), NEW.gone IS NULL, NEW.size, NEW.ino)";
/// In either order: what each looks at is not what the other writes.
pub const SQLITE: [&str; 3] = [
    "CREATE TRIGGER entry_held AFTER UPDATE OF dir_id, content_id, hashed, gone, size, ino ON entry
     WHEN {LIVE NEW} AND {OTHER} BEGIN {COME} END",
    "CREATE TRIGGER entry_left AFTER UPDATE OF dir_id, content_id, hashed, gone, size, ino ON entry
     WHEN {LIVE OLD} AND {OTHER} BEGIN {LEAVE} END",
    "CREATE TRIGGER entry_unheld AFTER DELETE ON entry WHEN {LIVE OLD} BEGIN {LEAVE} END",
];
pub const DOWN_SQLITE: [&str; 3] =
    ["DROP TRIGGER entry_held", "DROP TRIGGER entry_left", "DROP TRIGGER entry_unheld"];

/// All rows of a statement at once: of each inode how many names came or went,
/// and how many there are now. The location of each is looked up and not joined:
/// a planner without statistics would begin with all directories of it.
pub const POSTGRES: [&str; 4] = [
    "CREATE FUNCTION entry_held() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
     IF NOT EXISTS (SELECT 1 FROM was WHERE content_id IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM is_now WHERE content_id IS NOT NULL) THEN RETURN NULL; END IF;
     {COUNT} RETURN NULL; END $$",
    "CREATE FUNCTION entry_unheld() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
     IF NOT EXISTS (SELECT 1 FROM was WHERE content_id IS NOT NULL) THEN RETURN NULL; END IF;
     {COUNT} RETURN NULL; END $$",
    "CREATE TRIGGER entry_held AFTER UPDATE ON entry REFERENCING OLD TABLE AS was NEW TABLE AS is_now
     FOR EACH STATEMENT EXECUTE FUNCTION entry_held()",
    "CREATE TRIGGER entry_unheld AFTER DELETE ON entry REFERENCING OLD TABLE AS was
     FOR EACH STATEMENT EXECUTE FUNCTION entry_unheld()",
];
const COUNT: &str = "INSERT INTO holding AS h (location_id, content_id, size, files, copies)
    SELECT location_id, content_id, size, SUM(more),
      SUM(CAST(names > 0 AS integer) - CAST(names - more > 0 AS integer))
    FROM (SELECT m.*, (SELECT COUNT(*) FROM entry x
            WHERE x.content_id = m.content_id AND x.ino = m.ino AND x.size = m.size AND x.hashed IN (1, 2)
              AND x.gone IS NULL AND (SELECT p.location_id FROM dir p WHERE p.id = x.dir_id) = m.location_id) AS names
          FROM (SELECT d.location_id, t.content_id, t.size, t.ino, SUM(t.more) AS more
                FROM ({ROWS}) t JOIN dir d ON d.id = t.dir_id GROUP BY 1, 2, 3, 4) m WHERE m.more <> 0) c
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (location_id, content_id, size)
    DO UPDATE SET files = h.files + excluded.files, copies = h.copies + excluded.copies;
    {EMPTY}";
pub const EMPTY: &str = "DELETE FROM holding h WHERE h.files < 1 AND (h.location_id, h.content_id, h.size) IN
      (SELECT d.location_id, o.content_id, o.size FROM was o JOIN dir d ON d.id = o.dir_id WHERE {LIVE o});";
const WENT: &str =
    "SELECT o.dir_id, o.content_id, o.size, o.ino, -1 AS more FROM was o WHERE {LIVE o}";
const CAME: &str = "SELECT n.dir_id, n.content_id, n.size, n.ino, 1 FROM is_now n WHERE {LIVE n}";

const DOWN_POSTGRES: [&str; 4] = [
    "DROP TRIGGER entry_held ON entry",
    "DROP TRIGGER entry_unheld ON entry",
    "DROP FUNCTION entry_held()",
    "DROP FUNCTION entry_unheld()",
];

/// A statement with its parts put in.
pub fn whole(statement: &str, is_postgres: bool) -> String {
    let rowid = if is_postgres { "" } else { "WITHOUT ROWID" };
    let rows = if statement.contains("is_now") {
        format!("{WENT} UNION ALL {CAME}")
    } else {
        WENT.to_owned()
    };
    let mut sql = statement.to_owned();
    for (part, text) in [
        ("{COUNT}", COUNT),
        ("{EMPTY}", EMPTY),
        ("{ROWS}", rows.as_str()),
        ("{LEAVE}", LEAVE),
        ("{COME}", COME),
        ("{OTHER}", OTHER),
        ("{PLACE}", PLACE),
        ("{WITHOUT ROWID}", rowid),
    ] {
        sql = sql.replace(part, text);
    }
    for row in ["OLD", "NEW", "e", "o", "n"] {
        for (part, text) in [("TWIN", TWIN), ("LIVE", LIVE)] {
            sql = sql.replace(&format!("{{{part} {row}}}"), &text.replace("{X}", row));
        }
    }
    sql
}

async fn run(db: &impl ConnectionTrait, statements: &[&str]) -> Result<(), DbErr> {
    let is_postgres = db.get_database_backend() == DbBackend::Postgres;
    for statement in statements {
        db.execute_unprepared(&whole(statement, is_postgres)).await?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        run(db, &UP).await?;
        match db.get_database_backend() {
            DbBackend::Postgres => run(db, &POSTGRES).await?,
            _ => run(db, &SQLITE).await?,
        }
        run(db, &[FILL]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        match db.get_database_backend() {
            DbBackend::Postgres => run(db, &DOWN_POSTGRES).await?,
            _ => run(db, &DOWN_SQLITE).await?,
        }
        run(db, &DOWN).await
    }
}
