//! The schema's migrations, oldest first. Each expands; what is taken away is
//! taken a release later.

mod m0001_vectors;
mod m0002_generations;

use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait, async_trait};

/// The migrations of schema `vectors`.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_vectors::Migration),
            Box::new(jobs::Migration),
            Box::new(sql_store::SystemMetrics),
            Box::new(m0002_generations::Migration),
        ]
    }
}
