//! The schema, and how its tables take rows.

pub mod bulk;
mod migration;

pub use migration::Migrator;
