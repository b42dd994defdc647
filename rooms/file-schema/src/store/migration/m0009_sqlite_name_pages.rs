//! On SQLite too a few names that follow each other are one text of the index of names: a
//! third of its room. It holds no text of its own and reads none: what it finds, entries say.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: [&str; 4] = [
    "CREATE VIRTUAL TABLE name_page USING fts5(
        names, content='', tokenize='trigram', detail='none', columnsize=0)",
    "INSERT INTO name_page (rowid, names) SELECT id / 8, group_concat(name, '/') FROM entry
        WHERE id <= (SELECT value FROM counter WHERE name = 'named') GROUP BY 1",
    "UPDATE counter SET name = 'paged' WHERE name = 'named'",
    "DROP TABLE entry_text",
];
const DOWN: [&str; 4] = [
    "CREATE VIRTUAL TABLE entry_text USING fts5(
        name, content='entry', content_rowid='id', tokenize='trigram', detail='none', columnsize=0)",
    "INSERT INTO entry_text (rowid, name) SELECT id, name FROM entry
        WHERE id <= (SELECT value FROM counter WHERE name = 'paged')",
    "UPDATE counter SET name = 'named' WHERE name = 'paged'",
    "DROP TABLE name_page",
];

async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let db = manager.get_connection();
    if db.get_database_backend() == DbBackend::Postgres {
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
