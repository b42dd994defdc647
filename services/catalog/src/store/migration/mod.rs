//! The schema's migrations, oldest first. Each expands; what is taken away is
//! taken a release later.

mod m0001_catalog;
mod m0002_deletions;
mod m0003_garbage;
mod m0004_unique;

use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait, async_trait};

/// The migrations of schema `catalog`.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_catalog::Migration),
            Box::new(m0002_deletions::Migration),
            Box::new(m0003_garbage::Migration),
            Box::new(sql_store::SystemMetrics),
            Box::new(m0004_unique::Migration),
        ]
    }
}
