//! The schema's migrations, oldest first. Each expands; what is taken away is
//! taken a release later.

mod m0001_models;
mod m0002_trust;
mod m0003_small_files;
mod m0004_version_namespace;

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{
    DbErr, MigrationTrait, MigratorTrait, SchemaManager, async_trait,
};

/// The migrations of schema `models`.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_models::Migration),
            Box::new(tracking::Migration),
            Box::new(sql_store::SystemMetrics),
            Box::new(m0002_trust::Migration),
            Box::new(jobs::Migration),
            Box::new(m0003_small_files::Migration),
            Box::new(m0004_version_namespace::Migration),
        ]
    }
}

/// The columns of tables whose words differ between the databases: `{uuid}`,
/// `{bytes}`, and `{name}`, a text that sorts by byte.
pub(super) fn in_words_of(backend: sea_orm::DbBackend, statement: &str) -> String {
    let (uuid, bytes, name) = match backend {
        sea_orm::DbBackend::Postgres => ("uuid", "bytea", "text COLLATE \"C\""),
        _ => ("blob", "blob", "text"),
    };
    statement.replace("{uuid}", uuid).replace("{bytes}", bytes).replace("{name}", name)
}

/// Runs statements in the words of the database.
async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        let statement = in_words_of(manager.get_database_backend(), statement);
        manager.get_connection().execute_unprepared(&statement).await?;
    }
    Ok(())
}
