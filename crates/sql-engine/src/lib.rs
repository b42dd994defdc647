//! SQL over snapshots: one read-only query at a time, parsed and checked
//! first, planned and run by DataFusion within bounds.

mod engine;
mod error;
mod names;
mod parameters;
mod pushdown;
mod running;
mod scan;
mod sorted;
mod statement;
mod surface;
mod table;

#[cfg(test)]
mod tests;

pub use engine::{Described, Engine, EngineSettings, Planned};
pub use names::{CATALOG, TableName};
pub use parameters::{Parameters, parameter_rows};
pub use running::{Rows, RunStats};
pub use sorted::{SortBy, Sorted};
pub use statement::{SQL_BYTES_MAX, Statement};
pub use table::{ColumnKnown, Known, PART_ROWS, Part, Read, Snapshot, Survey, Table, Tally};
