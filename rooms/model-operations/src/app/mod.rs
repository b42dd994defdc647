//! Use cases: who may do it, the transaction, and what a neighbour must learn.

mod aliases;
mod bytes;
mod catalog;
mod data;
mod events;
mod files;
mod garbage;
mod gone;
mod lineage;
mod lookup;
mod models;
mod ordered;
mod outbox;
mod parts;
mod payload;
mod ranges;
mod scans;
mod signatures;
mod signed;
mod stages;
mod tickets;
mod together;
mod trust;
mod uploads;
mod versions;

use std::sync::Arc;

use access::GrantReplica;
use futures::FutureExt;
use ids::ModelId;
use jobs::Jobs;
use service_error::ServiceError;
use tokio::sync::Semaphore;
use webhook_sender::Sender;

use crate::model::SmallFile;
use crate::settings::Settings;
use crate::store::{Registered, Registering, Store};
use scans::Scanning;
use together::Together;

pub use crate::store::{ModelOrder, SCAN_JOB, VersionOrder};
pub use aliases::SetAlias;
pub use bytes::Pieces;
pub use catalog::Catalog;
pub use data::{PARAMS_MAX, POINTS_MAX, VersionWithData};
pub use events::{EventScope, TestedWebhook, UpdateWebhook};
pub use files::{TreeEntry, version_address};
pub use garbage::{COLLECT_JOB, Collected};
pub use lineage::{Lineage, ListDeployments, Related};
pub use model_files::{SCANNER_VERSION, Tensor};
pub use models::{CreateModel, SearchModels, model_key};
pub use ordered::{OrderedModels, OrderedVersions};
pub use outbox::Outbox;
pub use signatures::{AnchorKind, AnchorSource, BundleSource, stored_anchor};
pub use signed::{SignedFile, SignedParts};
pub use tickets::{Purpose, Signer, Ticket};
pub use trust::{Inspected, ScannedVersion};
pub use uploads::{CommittedUpload, FileProgress, IncomingPart, OpenedUpload};
pub use versions::{CreateVersion, SearchVersions, version_key};

/// Files that are looked into at once: each takes a thread, and memory for its
/// header or its stack.
const READERS_MAX: usize = 4;

/// Queues of versions that wait for their transaction: those of one model are in
/// the same one, and models do not wait for each other.
const LANES: usize = 16;

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
    /// Files of trees that wait for their transaction.
    small_files: Together<SmallFile, ()>,
    registering: Arc<[Together<(ModelId, Registering), Registered>]>,
    /// Turns at what is being scanned: the same bytes once.
    scanning: Scanning,
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
        let scans = settings.scan_on_register;
        Ok(Self {
            grants,
            outbox,
            catalog,
            sender,
            settings: Arc::new(settings),
            secret: Arc::default(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            small_files: small_files(store.clone()),
            registering: (0..LANES).map(|_| registering(store.clone(), scans)).collect(),
            scanning: Scanning::default(),
            store,
        })
    }

    /// Long work that outlives a process.
    #[must_use]
    pub const fn jobs(&self) -> &Jobs {
        self.store.jobs()
    }

    /// Delivers what identity has not learnt yet.
    ///
    /// # Errors
    /// Why the oldest event could not be delivered.
    pub async fn deliver_outbox(&self) -> Result<(), ServiceError> {
        self.outbox.deliver_waiting().await
    }
}

fn small_files(store: Store) -> Together<SmallFile, ()> {
    let write = move |files: Vec<SmallFile>| {
        let store = store.clone();
        async move {
            store.put_small_files(&files).await?;
            Ok(vec![(); files.len()])
        }
        .boxed()
    };
    Together::new(|_, _| true, write)
}

fn registering(store: Store, scans: bool) -> Together<(ModelId, Registering), Registered> {
    let write = move |waiting: Vec<(ModelId, Registering)>| {
        let store = store.clone();
        async move {
            let Some(model) = waiting.first().map(|(model, _)| *model) else {
                return Ok(Vec::new());
            };
            let new: Vec<Registering> = waiting.into_iter().map(|(_, of)| of).collect();
            store.create_versions(model, &new, scans).await
        }
        .boxed()
    };
    Together::new(|(one, _), (other, _)| one == other, write)
}
