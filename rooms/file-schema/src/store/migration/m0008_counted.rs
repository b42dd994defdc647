//! On Postgres the trigger of `holding` leaves alone what says that it counts itself
//! (`quarry.holding`), and rows that count nothing any more are found by an index: a
//! look through all counts was a part of each statement.
//!
//! An older file indexer beside this one does not say so, and is counted as ever.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use super::m0005_holding::{EMPTY, POSTGRES, whole};

#[derive(DeriveMigrationName)]
pub struct Migration;

const INDEX: &str = "CREATE INDEX holding_empty ON holding (location_id) WHERE files < 1";
const BEGIN: &str = "AS $$ BEGIN";
const SAID: &str = "AS $$ BEGIN
     IF current_setting('quarry.holding', TRUE) = 'on' THEN RETURN NULL; END IF;";

/// The functions of the triggers, as they were made.
fn functions() -> impl Iterator<Item = String> {
    let made = POSTGRES.into_iter().filter(|statement| statement.starts_with("CREATE FUNCTION"));
    made.map(|made| whole(made, true).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        db.execute_unprepared(INDEX).await?;
        for made in functions() {
            let said = made
                .replace(BEGIN, SAID)
                .replace(&whole(EMPTY, true), "DELETE FROM holding WHERE files < 1;");
            db.execute_unprepared(&said).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() != DbBackend::Postgres {
            return Ok(());
        }
        for made in functions() {
            db.execute_unprepared(&made).await?;
        }
        db.execute_unprepared("DROP INDEX holding_empty").await.map(drop)
    }
}
