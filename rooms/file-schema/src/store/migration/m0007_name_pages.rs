//! On Postgres a few names that follow each other are one text of the index of
//! names: most of their trigrams are the same, and the index takes each once,
//! which is more than twice as fast as a text for each name.
//!
//! The table of before stays, empty: a file indexer of the release before finds
//! none of its names there, and reads them one by one or fills it again.

use sea_orm::{DbBackend, Statement};
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: [&str; 4] = [
    "CREATE TABLE name_page (page bigint NOT NULL PRIMARY KEY, names text NOT NULL)",
    "CREATE INDEX name_page_trigrams ON name_page USING gin (names gin_trgm_ops)",
    "TRUNCATE entry_text",
    "DELETE FROM counter WHERE name = 'named'",
];
const DOWN: [&str; 2] =
    ["DROP TABLE IF EXISTS name_page", "DELETE FROM counter WHERE name = 'paged'"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        // Without the extension there was none.
        let look = "SELECT 1 AS found WHERE to_regclass('entry_text') IS NOT NULL";
        let look = Statement::from_string(DbBackend::Postgres, look);
        if db.query_one_raw(look).await?.is_some() {
            for statement in UP {
                db.execute_unprepared(statement).await?;
            }
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() == DbBackend::Postgres {
            for statement in DOWN {
                db.execute_unprepared(statement).await?;
            }
        }
        Ok(())
    }
}
