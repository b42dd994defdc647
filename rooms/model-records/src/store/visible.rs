//! What of a list the caller may see, as a condition of its query.

use ids::{Id, ModelId, NamespaceId};

use super::sql::Values;

/// Which rows of a list the caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisibleRows {
    /// All of them.
    All,
    /// Those in these namespaces, and these models.
    Only { namespaces: Vec<NamespaceId>, models: Vec<ModelId> },
}

impl VisibleRows {
    /// The condition on the model's row, called `m`.
    pub fn condition(&self, values: &mut Values) -> String {
        match self {
            Self::All => "1 = 1".to_owned(),
            Self::Only { namespaces, models } => {
                let within =
                    values.is_one_of("m.namespace_id", namespaces.iter().map(|id| Id::uuid(*id)));
                let granted = values.is_one_of("m.id", models.iter().map(|id| Id::uuid(*id)));
                format!("({within} OR {granted})")
            }
        }
    }

    /// The condition that a row lies in a namespace that the caller may see.
    pub fn namespace_condition(&self, column: &str, values: &mut Values) -> String {
        match self {
            Self::All => "1 = 1".to_owned(),
            Self::Only { namespaces, .. } => {
                values.is_one_of(column, namespaces.iter().map(|id| Id::uuid(*id)))
            }
        }
    }

    /// The condition on an event's row, called `e`.
    pub fn event_condition(&self, values: &mut Values) -> String {
        match self {
            Self::All => "1 = 1".to_owned(),
            Self::Only { namespaces, models } => {
                let within =
                    values.is_one_of("e.namespace_id", namespaces.iter().map(|id| Id::uuid(*id)));
                let granted = values.is_one_of("e.model_id", models.iter().map(|id| Id::uuid(*id)));
                format!("({within} OR {granted})")
            }
        }
    }
}
