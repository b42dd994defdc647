//! Copies are told apart by the device of their directory too, and a directory gets another one
//! when it loses its place or its file system is mounted anew: then its copies are counted by
//! that.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use super::m0005_holding::whole;
use super::m0011_copies::{INODE, RECOUNT};

/// Counts copies anew where a directory's device changes.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// Files of the directory, by inode, that had a twin or have one by the device of before and
/// now: else a copy goes and another comes. Row by row, as the devices change: directories of
/// one statement that are twins of each other see one another's.
const MORE: &str = "SELECT m.content_id, m.size, CAST(NOT {TWIN NEW} AS integer) - CAST(NOT {TWIN OLD} AS integer) AS more
    FROM (SELECT DISTINCT e.content_id, e.size, e.ino FROM entry e WHERE e.dir_id = NEW.id AND e.links < 2 AND {LIVE e}) m";
/// {X} is OLD or NEW.
const TWIN: &str = "EXISTS (SELECT 1 FROM entry x WHERE x.content_id = m.content_id AND x.ino = m.ino AND x.size = m.size
      AND x.hashed IN (1, 2) AND x.gone IS NULL AND (x.dir_id <> NEW.id OR x.links > 1) AND (NEW.location_id, {X}.dev)
        = (SELECT d.location_id, CASE WHEN x.links > 1 THEN 0 ELSE d.dev END FROM dir d WHERE d.id = x.dir_id))";

const SQLITE: [&str; 1] =
    ["CREATE TRIGGER dir_held AFTER UPDATE OF dev ON dir WHEN OLD.dev <> NEW.dev BEGIN
     UPDATE holding SET copies = copies + c.more
     FROM (SELECT content_id, size, SUM(more) AS more FROM ({MORE}) t GROUP BY 1, 2) c
     WHERE c.more <> 0 AND holding.location_id = NEW.location_id
       AND holding.content_id = c.content_id AND holding.size = c.size;
     END"];
/// Before, since after it all rows of the statement would have changed. Each count is looked up:
/// a planner without statistics would join with all of a location's.
const POSTGRES: [&str; 2] = [
    "CREATE FUNCTION dir_held() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
     DECLARE c record; BEGIN
     FOR c IN SELECT * FROM ({MORE}) t WHERE more <> 0 LOOP
       UPDATE holding SET copies = copies + c.more
       WHERE location_id = NEW.location_id AND content_id = c.content_id AND size = c.size;
     END LOOP;
     RETURN NEW; END $$",
    "CREATE TRIGGER dir_held BEFORE UPDATE OF dev ON dir FOR EACH ROW WHEN (OLD.dev <> NEW.dev)
     EXECUTE FUNCTION dir_held()",
];

async fn run(db: &impl ConnectionTrait, statements: &[&str]) -> Result<(), DbErr> {
    let is_postgres = db.get_database_backend() == DbBackend::Postgres;
    for statement in statements {
        let mut sql = statement.replace("{MORE}", MORE);
        for row in ["OLD", "NEW"] {
            sql = sql.replace(&format!("{{TWIN {row}}}"), &TWIN.replace("{X}", row));
        }
        db.execute_unprepared(&whole(&sql, is_postgres)).await?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        match db.get_database_backend() {
            DbBackend::Postgres => run(db, &POSTGRES).await?,
            _ => run(db, &SQLITE).await?,
        }
        // A content that one file has is one copy, whatever its directory is.
        let wrong = "1 OR copies <> 1";
        run(db, &[&RECOUNT.replace("{INODE}", INODE).replace("{THAN}", wrong)]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        match db.get_database_backend() {
            DbBackend::Postgres => {
                run(db, &["DROP TRIGGER dir_held ON dir", "DROP FUNCTION dir_held()"]).await
            }
            _ => run(db, &["DROP TRIGGER dir_held"]).await,
        }
    }
}
