//! What identity must learn of a change here.

use ids::{DatasetId, EventId, NamespaceId, PrincipalId};

/// A resource that was made or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceChange {
    /// Its creator becomes its owner.
    NamespaceCreated {
        namespace: NamespaceId,
        owner: PrincipalId,
    },
    NamespaceDeleted {
        namespace: NamespaceId,
    },
    /// Its creator becomes its owner.
    DatasetCreated {
        dataset: DatasetId,
        namespace: NamespaceId,
        owner: PrincipalId,
    },
    DatasetDeleted {
        dataset: DatasetId,
        namespace: NamespaceId,
    },
}

/// A change on its way to identity, at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxEvent {
    /// The receiver knows repetitions by it.
    pub id: EventId,
    /// Commit order.
    pub seq: i64,
    pub change: ResourceChange,
}
