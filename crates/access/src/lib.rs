//! Who may do what: a replica of identity's grants in every service, and the
//! decisions made on it.

mod decision;
mod denials;
mod replica;
mod state;

use std::fmt;

use options_api::v1::ResourceKind;
use uuid::Uuid;

pub use decision::Visible;
pub use denials::denials;
pub use replica::GrantReplica;

/// Something that grants are given on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Namespace, dataset or model.
    pub kind: ResourceKind,
    /// Its id.
    pub id: Uuid,
}

impl Resource {
    /// A namespace by its id.
    #[must_use]
    pub const fn namespace(id: Uuid) -> Self {
        Self { kind: ResourceKind::Namespace, id }
    }

    /// A dataset by its id.
    #[must_use]
    pub const fn dataset(id: Uuid) -> Self {
        Self { kind: ResourceKind::Dataset, id }
    }

    /// A location of files by its id.
    #[must_use]
    pub const fn location(id: Uuid) -> Self {
        Self { kind: ResourceKind::Location, id }
    }

    /// A model by its id.
    #[must_use]
    pub const fn model(id: Uuid) -> Self {
        Self { kind: ResourceKind::Model, id }
    }

    fn kind_name(self) -> &'static str {
        match self.kind {
            ResourceKind::Namespace => "namespace",
            ResourceKind::Dataset => "dataset",
            ResourceKind::Location => "location",
            ResourceKind::Model => "model",
            ResourceKind::Any | ResourceKind::Unspecified => "resource",
        }
    }
}

impl From<Resource> for identity_api::v1::Resource {
    fn from(of: Resource) -> Self {
        Self { kind: of.kind.into(), id: of.id.to_string() }
    }
}

/// As in the audit: `dataset/<id>`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind_name(), self.id)
    }
}

/// What a decision is about, in the words of its messages and of the audit.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// `"dataset"`, `"namespace"`.
    pub kind: &'a str,
    /// The name that the caller used.
    pub name: &'a str,
    /// The method, e.g. `"quarry.items.v1.ItemsService/ListItems"`.
    pub action: &'a str,
}

#[cfg(test)]
mod tests;
