//! The schema's migrations, oldest first. Each expands; what is taken away is
//! taken a release later.

mod m0001_models;
mod m0002_trust;
mod m0003_small_files;

use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait, async_trait};

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
