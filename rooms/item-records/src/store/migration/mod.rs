//! The schema's migrations, oldest first. Each expands; what is taken away is
//! taken a release later.

mod m0001_items;
mod m0002_delta;
mod m0003_upkeep;
mod m0004_saved_filters;

use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait, async_trait};

/// The migrations of schema `items`.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_items::Migration),
            Box::new(m0002_delta::Migration),
            Box::new(sql_store::SystemMetrics),
            Box::new(m0003_upkeep::Migration),
            Box::new(jobs::Migration),
            Box::new(m0004_saved_filters::Migration),
        ]
    }
}
