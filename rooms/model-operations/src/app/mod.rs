//! Use cases: who may do it, the transaction, and what a neighbour must learn.

mod aliases;
mod bytes;
mod catalog;
mod data;
mod events;
mod files;
mod garbage;
mod lineage;
mod lookup;
mod models;
mod ordered;
mod outbox;
mod parts;
mod payload;
mod ranges;
mod signatures;
mod signed;
mod stages;
mod tickets;
mod trust;
mod uploads;
mod versions;

use std::sync::Arc;

use access::GrantReplica;
use service_error::ServiceError;
use tokio::sync::Semaphore;
use webhook_sender::Sender;

use crate::settings::Settings;
use crate::store::Store;

pub use crate::store::{ModelOrder, VersionOrder};
pub use aliases::SetAlias;
pub use bytes::Pieces;
pub use catalog::Catalog;
pub use data::VersionWithData;
pub use events::{EventScope, UpdateWebhook};
pub use files::{TreeEntry, version_address};
pub use garbage::Collected;
pub use lineage::{Lineage, ListDeployments, Related};
pub use model_files::{SCANNER_VERSION, Tensor};
pub use models::{CreateModel, SearchModels, model_key};
pub use ordered::{OrderedModels, OrderedVersions};
pub use outbox::Outbox;
pub use signatures::BundleSource;
pub use signed::{SignedFile, SignedParts};
pub use tickets::{Purpose, Signer, Ticket};
pub use trust::{Inspected, ScannedVersion};
pub use uploads::{CommittedUpload, FileProgress, IncomingPart, OpenedUpload};
pub use versions::{CreateVersion, SearchVersions, version_key};

/// Files that are looked into at once: each takes a thread, and memory for its
/// header or its stack.
const READERS_MAX: usize = 4;

/// The registry's use cases. Clones share everything.
#[derive(Clone)]
pub struct Registry {
    store: Store,
    grants: GrantReplica,
    outbox: Outbox,
    catalog: Catalog,
    sender: Sender,
    settings: Arc<Settings>,
    /// The key of signed addresses, once it is known.
    secret: Arc<std::sync::OnceLock<Vec<u8>>>,
    /// Turns of those who look into files.
    readers: Arc<Semaphore>,
}

impl Registry {
    /// The use cases over a migrated store.
    ///
    /// # Errors
    /// A TLS set-up that cannot be used.
    pub fn new(
        store: Store,
        grants: GrantReplica,
        outbox: Outbox,
        catalog: Catalog,
        settings: Settings,
    ) -> Result<Self, ServiceError> {
        let sender = Sender::new(settings.webhooks_allow_private)?;
        Ok(Self {
            store,
            grants,
            outbox,
            catalog,
            sender,
            settings: Arc::new(settings),
            secret: Arc::default(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
        })
    }

    /// Delivers what identity has not learnt yet.
    ///
    /// # Errors
    /// Why the oldest event could not be delivered.
    pub async fn deliver_outbox(&self) -> Result<(), ServiceError> {
        self.outbox.deliver_waiting().await
    }
}
