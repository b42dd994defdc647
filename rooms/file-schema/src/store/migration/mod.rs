//! The schema's migrations, oldest first.

mod m0001_files;
mod m0002_changes;
mod m0003_archives;
mod m0004_own_marks;
mod m0005_holding;
mod m0006_rowids;
mod m0007_name_pages;
mod m0008_counted;
mod m0009_sqlite_name_pages;
mod m0010_long_paths;
mod m0011_copies;
mod m0012_aside;
mod m0013_devices;

use sea_orm_migration::prelude::{MigrationTrait, MigratorTrait, async_trait};

/// The migrations of schema `files`.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_files::Migration),
            Box::new(jobs::Migration),
            Box::new(sql_store::SystemMetrics),
            Box::new(m0002_changes::Migration),
            Box::new(m0003_archives::Migration),
            Box::new(m0004_own_marks::Migration),
            Box::new(m0005_holding::Migration),
            Box::new(m0006_rowids::Migration),
            Box::new(m0007_name_pages::Migration),
            Box::new(m0008_counted::Migration),
            Box::new(m0009_sqlite_name_pages::Migration),
            Box::new(m0010_long_paths::Migration),
            Box::new(m0011_copies::Migration),
            Box::new(m0012_aside::Migration),
            Box::new(m0013_devices::Migration),
        ]
    }
}
