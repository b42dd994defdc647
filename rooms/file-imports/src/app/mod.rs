//! Use cases: what is asked for, what is recognised, what is put.

mod asked;
mod datasets;
mod importing;
mod members;
mod pace;
mod rows;
mod sending;

use access::GrantReplica;
use file_sources::Limits;

use crate::store::Store;

pub use asked::{ACTION, ImportAsked, ImportQuery};
pub use datasets::Datasets;
pub use importing::{Begun, ToImport};

/// Imports of locations into datasets. Clones share everything.
#[derive(Clone)]
pub struct Imports {
    store: Store,
    jobs: ::jobs::Jobs,
    grants: GrantReplica,
    datasets: Datasets,
    limits: Limits,
}

impl Imports {
    /// Over the index, its jobs, and the neighbours that keep datasets; `limits`
    /// are those of one archive.
    #[must_use]
    pub fn new(
        store: Store,
        jobs: ::jobs::Jobs,
        grants: GrantReplica,
        datasets: Datasets,
        limits: Limits,
    ) -> Self {
        Self { store, jobs, grants, datasets, limits }
    }
}
