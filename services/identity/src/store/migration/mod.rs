//! Identity's migrations, in order.

mod m0001_first;
mod m0002_places;

use sea_orm_migration::{MigrationTrait, MigratorTrait};

/// The one list, for both databases.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_first::Migration),
            Box::new(sql_store::SystemMetrics),
            Box::new(m0002_places::Migration),
        ]
    }
}
