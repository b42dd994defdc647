//! What is a copy, and what copies waste. Files of two file systems in one location are two
//! though their inodes have one number; and what is wasted is at most what a number holds,
//! since a file may say that it has 8 EiB.
//!
//! The device is that of the directory, and only of files with one name: of an inode with
//! several names some directories may still say the number that its file system had when it
//! was last mounted.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use super::m0005_holding::{DOWN_SQLITE, EMPTY, SQLITE, whole};

/// Counts copies by device and inode.
#[derive(DeriveMigrationName)]
pub struct Migration;

const DROP_RANK: &str = "DROP INDEX holding_rank";
const RANK: &str = "CREATE INDEX holding_rank ON holding (location_id, (CASE WHEN copies < 2 THEN 0
      WHEN size > 9223372036854775807 / (copies - 1) THEN -9223372036854775807 ELSE (1 - copies) * size END),
      content_id, size, files, copies) WHERE files > 1";
const FORMER_RANK: &str = "CREATE INDEX holding_rank ON holding (location_id, ((1 - copies) * size), content_id, size, files, copies)
      WHERE files > 1";

/// {INODE} tells a copy of `x` in `d`.
pub const RECOUNT: &str = "UPDATE holding SET copies = (SELECT COUNT(*) FROM (SELECT DISTINCT {INODE}
      FROM entry x JOIN dir d ON d.id = x.dir_id WHERE x.content_id = holding.content_id AND x.size = holding.size
      AND d.location_id = holding.location_id AND x.hashed IN (1, 2) AND x.gone IS NULL) c) WHERE files > {THAN}";
pub const INODE: &str = "x.ino, CASE WHEN x.links > 1 THEN 0 ELSE d.dev END";

/// Parts of the triggers on SQLite, and what they are now; {X} is OLD or NEW.
const PARTS: [(&str, &str); 4] = [
    (
        "(SELECT location_id FROM dir WHERE id = x.dir_id)",
        "(SELECT location_id, CASE WHEN x.links > 1 THEN 0 ELSE dev END FROM dir WHERE id = x.dir_id)",
    ),
    (
        "\n        = (SELECT location_id FROM dir WHERE id = {X}.dir_id)",
        " = (SELECT location_id, CASE WHEN {X}.links > 1 THEN 0 ELSE dev END FROM dir WHERE id = {X}.dir_id)",
    ),
    ("{X}.size, {X}.ino)", "{X}.size, {X}.ino, {X}.links > 1)"),
    ("size, ino ON entry", "size, ino, links ON entry"),
];

/// As they were, but for the inode.
const POSTGRES: [&str; 2] = [
    "CREATE OR REPLACE FUNCTION entry_held() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
     IF current_setting('quarry.holding', TRUE) = 'on' THEN RETURN NULL; END IF;
     IF NOT EXISTS (SELECT 1 FROM was WHERE content_id IS NOT NULL)
        AND NOT EXISTS (SELECT 1 FROM is_now WHERE content_id IS NOT NULL) THEN RETURN NULL; END IF;
     {COUNT} RETURN NULL; END $$",
    "CREATE OR REPLACE FUNCTION entry_unheld() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
     IF current_setting('quarry.holding', TRUE) = 'on' THEN RETURN NULL; END IF;
     IF NOT EXISTS (SELECT 1 FROM was WHERE content_id IS NOT NULL) THEN RETURN NULL; END IF;
     {COUNT} RETURN NULL; END $$",
];
const COUNT: &str = "INSERT INTO holding AS h (location_id, content_id, size, files, copies)
    SELECT location_id, content_id, size, SUM(more),
      SUM(CAST(names > 0 AS integer) - CAST(names - more > 0 AS integer))
    FROM (SELECT m.*, (SELECT COUNT(*) FROM entry x
            WHERE x.content_id = m.content_id AND x.ino = m.ino AND x.size = m.size AND x.hashed IN (1, 2)
              AND x.gone IS NULL AND (SELECT CASE WHEN x.links > 1 THEN 0 ELSE p.dev END FROM dir p
                WHERE p.id = x.dir_id AND p.location_id = m.location_id) = m.dev) AS names
          FROM (SELECT d.location_id, t.content_id, t.size, t.ino, CASE WHEN t.links > 1 THEN 0 ELSE d.dev END AS dev,
                  SUM(t.more) AS more
                FROM ({ROWS}) t JOIN dir d ON d.id = t.dir_id GROUP BY 1, 2, 3, 4, 5) m WHERE m.more <> 0) c
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (location_id, content_id, size)
    DO UPDATE SET files = h.files + excluded.files, copies = h.copies + excluded.copies;
    {GONE}";
const GONE: &str = "DELETE FROM holding WHERE files < 1;";
const WENT: &str =
    "SELECT o.dir_id, o.content_id, o.size, o.ino, o.links, -1 AS more FROM was o WHERE {LIVE o}";
const CAME: &str =
    "SELECT n.dir_id, n.content_id, n.size, n.ino, n.links, 1 FROM is_now n WHERE {LIVE n}";

async fn run(db: &impl ConnectionTrait, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        db.execute_unprepared(statement).await?;
    }
    Ok(())
}

fn of_sqlite(made: &str) -> String {
    let mut sql = whole(made, false);
    for (was, is) in PARTS {
        for row in ["OLD", "NEW"] {
            sql = sql.replace(&was.replace("{X}", row), &is.replace("{X}", row));
        }
    }
    sql
}

fn of_postgres(made: &str) -> String {
    let rows = match made.contains("is_now") {
        true => format!("{WENT} UNION ALL {CAME}"),
        false => WENT.to_owned(),
    };
    whole(&made.replace("{COUNT}", &COUNT.replace("{ROWS}", &rows).replace("{GONE}", GONE)), true)
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        run(db, &[DROP_RANK, RANK]).await?;
        if db.get_database_backend() == DbBackend::Postgres {
            for made in POSTGRES {
                run(db, &[&of_postgres(made)]).await?;
            }
        } else {
            run(db, &DOWN_SQLITE).await?;
            for made in SQLITE {
                run(db, &[&of_sqlite(made)]).await?;
            }
        }
        // Only names that count as one copy may be more.
        run(db, &[&RECOUNT.replace("{INODE}", INODE).replace("{THAN}", "copies")]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() == DbBackend::Postgres {
            for made in POSTGRES {
                run(db, &[&whole(made, true).replace(&whole(EMPTY, true), GONE)]).await?;
            }
        } else {
            run(db, &DOWN_SQLITE).await?;
            for made in SQLITE {
                run(db, &[&whole(made, false)]).await?;
            }
        }
        let recount = RECOUNT.replace("{INODE}", "x.ino").replace("{THAN}", "1");
        run(db, &[DROP_RANK, FORMER_RANK, &recount]).await
    }
}
