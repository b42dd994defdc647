//! What happened, for whoever listens.

use ids::{EventId, ModelId, PrincipalId, WebhookId};
use uuid::Uuid;

/// What kind of change an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    ModelCreated = 1,
    ModelUpdated = 2,
    ModelRenamed = 3,
    ModelDeleted = 4,
    ModelRestored = 5,
    ModelTagSet = 6,
    ModelTagDeleted = 7,
    VersionCreated = 8,
    VersionUpdated = 9,
    VersionDeleted = 10,
    VersionRestored = 11,
    VersionTagSet = 12,
    VersionTagDeleted = 13,
    AliasSet = 14,
    AliasDeleted = 15,
    StageRequested = 16,
    StageApproved = 17,
    StageRejected = 18,
    StageChanged = 19,
    DeploymentChanged = 20,
    DeploymentDeleted = 21,
    CardSet = 22,
    VersionDataLogged = 23,
    LineageAdded = 24,
    VersionScanned = 25,
    VersionSigned = 26,
    VersionReady = 27,
    VersionFailed = 28,
    ModelPurged = 29,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 29] = [
        Self::ModelCreated,
        Self::ModelUpdated,
        Self::ModelRenamed,
        Self::ModelDeleted,
        Self::ModelRestored,
        Self::ModelTagSet,
        Self::ModelTagDeleted,
        Self::VersionCreated,
        Self::VersionUpdated,
        Self::VersionDeleted,
        Self::VersionRestored,
        Self::VersionTagSet,
        Self::VersionTagDeleted,
        Self::AliasSet,
        Self::AliasDeleted,
        Self::StageRequested,
        Self::StageApproved,
        Self::StageRejected,
        Self::StageChanged,
        Self::DeploymentChanged,
        Self::DeploymentDeleted,
        Self::CardSet,
        Self::VersionDataLogged,
        Self::LineageAdded,
        Self::VersionScanned,
        Self::VersionSigned,
        Self::VersionReady,
        Self::VersionFailed,
        Self::ModelPurged,
    ];

    /// The kind of a stored number.
    #[must_use]
    pub fn of(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i16 == code)
    }
}

/// The models whose events a webhook is told. MLflow keeps its prompts among the
/// models, and tells of them by events of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Of {
    Everything = 0,
    Prompts = 100,
    /// All that are no prompts.
    Models = 200,
}

/// Events of a kind that a webhook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscription {
    pub kind: EventKind,
    pub of: Of,
}

impl Subscription {
    /// The number that it is stored as.
    #[must_use]
    pub const fn code(self) -> i16 {
        self.of as i16 + self.kind as i16
    }

    /// The subscription of a stored number.
    #[must_use]
    pub fn of(code: i16) -> Option<Self> {
        let of = [Of::Models, Of::Prompts, Of::Everything];
        let of = of.into_iter().find(|of| code > *of as i16)?;
        Some(Self { kind: EventKind::of(code - of as i16)?, of })
    }

    /// Whether it is told of a change of a model or of a prompt.
    #[must_use]
    pub fn matches(self, kind: EventKind, is_prompt: bool) -> bool {
        let of = match self.of {
            Of::Everything => true,
            Of::Prompts => is_prompt,
            Of::Models => !is_prompt,
        };
        of && self.kind == kind
    }
}

impl From<EventKind> for Subscription {
    fn from(kind: EventKind) -> Self {
        Self { kind, of: Of::Everything }
    }
}

/// A change of a model, as it is listed and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The order of commits.
    pub seq: i64,
    pub id: EventId,
    pub namespace: String,
    pub model_id: ModelId,
    pub model: String,
    pub change: Change,
    pub actor: PrincipalId,
    /// Microseconds UTC.
    pub at: i64,
}

/// A subscription of an outside address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub id: WebhookId,
    pub namespace: String,
    pub name: String,
    pub description: String,
    pub url: String,
    /// Empty: what is sent is not signed.
    pub secret: String,
    pub kinds: Vec<Subscription>,
    pub active: bool,
    pub created_at: i64,
    pub updated_at: i64,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    Waiting = 1,
    Delivered = 2,
    GivenUp = 3,
}

/// An event on its way to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub id: Uuid,
    pub event: i64,
    pub state: DeliveryState,
    pub attempts: i64,
    pub next_at: i64,
    pub lease_epoch: i64,
    pub last_status: i64,
    pub last_error: String,
    pub ended_at: Option<i64>,
}

/// What an event says beside whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: EventKind,
    /// The version; 0 where the change is the model's.
    pub number: i64,
    /// The tag's key, the alias, the stage, the environment.
    pub subject: String,
    pub before: String,
    pub after: String,
}

impl Change {
    /// A change of a model.
    #[must_use]
    pub fn of_model(kind: EventKind) -> Self {
        Self::of_version(kind, 0)
    }

    /// A change of a version.
    #[must_use]
    pub fn of_version(kind: EventKind, number: i64) -> Self {
        let empty = String::new;
        Self { kind, number, subject: empty(), before: empty(), after: empty() }
    }

    /// What of it changed.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// What it was and what it is; long texts are cut.
    #[must_use]
    pub fn values(mut self, before: &str, after: &str) -> Self {
        self.before = cut(before);
        self.after = cut(after);
        self
    }
}

fn cut(text: &str) -> String {
    const SHOWN_MAX: usize = 1_000;
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_number() {
        for (at, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(EventKind::of(i16::try_from(at + 1).unwrap_or_default()), Some(kind));
        }
        assert_eq!(EventKind::of(0), None);
    }

    #[test]
    fn every_subscription_has_its_own_number() {
        let mut codes = std::collections::BTreeSet::new();
        for kind in EventKind::ALL {
            for of in [Of::Everything, Of::Prompts, Of::Models] {
                let one = Subscription { kind, of };
                assert_eq!(Subscription::of(one.code()), Some(one));
                assert!(codes.insert(one.code()));
            }
        }
        assert!([0, 30, 100, 200, 299].into_iter().all(|code| Subscription::of(code).is_none()));
    }
}
