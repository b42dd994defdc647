//! What nothing names any more goes: uploads that were given up, snapshots that
//! were replaced, datasets that were deleted, and objects that a crash left.
//!
//! The catalog says what is garbage, by what it has committed and what it may
//! still commit; an object is found by listing and never judged by it. Whatever
//! is deleted was taken out of the metadata first, so a crash anywhere is
//! followed by the same deletions again.

mod catalog;
mod collect;
mod objects;
mod sweep;

use caller::TokenSource;
use row_delta::RowDelta;
use service_channel::Transport;

use crate::settings::GarbageSettings;
use crate::store::Store;

pub use collect::COLLECT_GARBAGE;

use catalog::Catalog;

/// Deletes what nothing names. Clones share everything.
#[derive(Clone)]
pub struct Collector {
    catalog: Catalog,
    store: Store,
    delta: RowDelta,
    settings: GarbageSettings,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Collector {
    /// A collector over a store and a catalog.
    #[must_use]
    pub const fn new(
        catalog: Transport,
        tokens: TokenSource,
        store: Store,
        delta: RowDelta,
        settings: GarbageSettings,
    ) -> Self {
        Self { catalog: Catalog::new(catalog, tokens), store, delta, settings }
    }
}
