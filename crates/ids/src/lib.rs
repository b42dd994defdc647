//! Typed identifiers: one registry, so that a dataset's id is never passed
//! where a namespace's is meant.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// What an id identifies. The name stands in messages about malformed ids.
pub trait Kind: 'static {
    /// The field's word for it, e.g. `"dataset"`.
    const NAME: &'static str;
}

/// A UUID of one kind. New ones are UUIDv7: they sort by the time they were
/// made (RFC 9562).
pub struct Id<K: Kind> {
    uuid: Uuid,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Id<K> {
    /// A new id, greater than the ones made before it in this process.
    #[allow(clippy::new_without_default, reason = "a default id would be a random one")]
    #[must_use]
    pub fn new() -> Self {
        Self::from_uuid(Uuid::now_v7())
    }

    /// The id with these 128 bits.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self { uuid, kind: PhantomData }
    }

    /// The bare UUID, for storage.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.uuid
    }
}

impl<K: Kind> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K: Kind> Copy for Id<K> {}
impl<K: Kind> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}
impl<K: Kind> Eq for Id<K> {}
impl<K: Kind> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K: Kind> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.uuid.cmp(&other.uuid)
    }
}
impl<K: Kind> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}
impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.hyphenated().fmt(f)
    }
}
impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", K::NAME, self.uuid)
    }
}

/// A text that is no id of the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    kind: &'static str,
    text: String,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.text.chars().take(64).collect();
        write!(
            f,
            "{shown:?} is no {} id: expected a UUID such as 01932d3e-7b2a-7c1f-9f00-000000000000",
            self.kind
        )
    }
}

impl std::error::Error for InvalidId {}

impl<K: Kind> FromStr for Id<K> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text)
            .map(Self::from_uuid)
            .map_err(|_| InvalidId { kind: K::NAME, text: text.to_owned() })
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Kinds of ids, one marker each.
pub mod kind {
    use super::Kind;

    /// A person, program or platform role.
    pub enum Principal {}
    /// An opaque access token.
    pub enum Token {}
    /// A grant of a level on a resource.
    pub enum Grant {}
    /// A namespace of the catalog.
    pub enum Namespace {}
    /// A dataset of the catalog.
    pub enum Dataset {}
    /// A leased upload of blocks and media.
    pub enum Upload {}
    /// One Parquet file of a dataset.
    pub enum Block {}
    /// An event in an outbox.
    pub enum Event {}
    /// A registered model.
    pub enum Model {}
    /// A version of a registered model.
    pub enum ModelVersion {}
    /// A subscription of an outside address to events.
    pub enum Webhook {}
    /// A model version in an environment.
    pub enum Deployment {}

    impl Kind for Principal {
        const NAME: &'static str = "principal";
    }
    impl Kind for Token {
        const NAME: &'static str = "token";
    }
    impl Kind for Grant {
        const NAME: &'static str = "grant";
    }
    impl Kind for Namespace {
        const NAME: &'static str = "namespace";
    }
    impl Kind for Dataset {
        const NAME: &'static str = "dataset";
    }
    impl Kind for Upload {
        const NAME: &'static str = "upload";
    }
    impl Kind for Block {
        const NAME: &'static str = "block";
    }
    impl Kind for Event {
        const NAME: &'static str = "event";
    }
    impl Kind for Model {
        const NAME: &'static str = "model";
    }
    impl Kind for ModelVersion {
        const NAME: &'static str = "model version";
    }
    impl Kind for Webhook {
        const NAME: &'static str = "webhook";
    }
    impl Kind for Deployment {
        const NAME: &'static str = "deployment";
    }
}

/// A person, program or platform role.
pub type PrincipalId = Id<kind::Principal>;
/// An opaque access token.
pub type TokenId = Id<kind::Token>;
/// A grant of a level on a resource.
pub type GrantId = Id<kind::Grant>;
/// A namespace of the catalog.
pub type NamespaceId = Id<kind::Namespace>;
/// A dataset of the catalog.
pub type DatasetId = Id<kind::Dataset>;
/// A leased upload of blocks and media.
pub type UploadId = Id<kind::Upload>;
/// One Parquet file of a dataset.
pub type BlockId = Id<kind::Block>;
/// An event in an outbox.
pub type EventId = Id<kind::Event>;
/// A registered model.
pub type ModelId = Id<kind::Model>;
/// A version of a registered model.
pub type ModelVersionId = Id<kind::ModelVersion>;
/// A subscription of an outside address to events.
pub type WebhookId = Id<kind::Webhook>;
/// A model version in an environment.
pub type DeploymentId = Id<kind::Deployment>;

/// The principal of a platform role. Fixed per name, so that a restart finds
/// the account that the role had before.
#[must_use]
pub fn role_principal(role: &str) -> PrincipalId {
    // Sixteen bytes of the name under a version-8 UUID's marker bits: unlike
    // any id that `Id::new` makes.
    let mut bytes = [0u8; 16];
    let name = role.as_bytes();
    let length = name.len().min(bytes.len());
    bytes[..length].copy_from_slice(&name[..length]);
    PrincipalId::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn text_round_trips_with_and_without_hyphens() {
        let id = DatasetId::new();
        assert_eq!(id.to_string().parse::<DatasetId>().unwrap(), id);
        assert_eq!(id.uuid().simple().to_string().parse::<DatasetId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<DatasetId>(&json).unwrap(), id);
    }

    #[test]
    fn a_malformed_id_names_its_kind() {
        let error = "../etc".parse::<UploadId>().unwrap_err().to_string();
        assert!(error.contains("upload") && error.contains("../etc"), "{error}");
    }

    #[test]
    fn new_ids_ascend() {
        let ids: Vec<_> = (0..1_000).map(|_| BlockId::new()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn roles_have_fixed_and_different_principals() {
        assert_eq!(role_principal("catalog"), role_principal("catalog"));
        assert_ne!(role_principal("catalog"), role_principal("item-store"));
        assert_ne!(role_principal("gateway"), role_principal("identity"));
    }
}
