//! A layer between the objects and whoever uses them.

use std::sync::Arc;

use object_store::ObjectStore;

use crate::BlobStore;

impl BlobStore {
    /// The same objects through a layer, which sees keys below the prefix: for
    /// what measures requests, or makes them fail in a test.
    #[must_use]
    pub fn through(
        mut self,
        layer: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) -> Self {
        self.store = layer(self.store);
        self
    }
}
