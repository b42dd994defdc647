//! Changes on their way to identity: delivered right after their commit, and
//! again by a job until they arrive.

use std::collections::HashSet;
use std::time::Duration;

use caller::{TokenSource, authorized};
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::resources_service_client::ResourcesServiceClient;
use identity_api::v1::{CountChildrenRequest, PutResourceRequest, Resource};
use ids::NamespaceId;
use options_api::v1::ResourceKind;
use service_channel::Transport;
use service_error::ServiceError;
use tokio::time::timeout;
use uuid::Uuid;

use crate::model::{OutboxEvent, ResourceChange};
use crate::store::Store;

const DELIVERY_TIME_MAX: Duration = Duration::from_secs(5);

/// Delivers events at least once; identity knows repetitions by their ids.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    identity: Transport,
    tokens: TokenSource,
}

impl Outbox {
    /// The outbox of a store, to identity.
    #[must_use]
    pub fn new(store: Store, identity: Transport, tokens: TokenSource) -> Self {
        Self { store, identity, tokens }
    }

    /// How many models identity knows in a namespace.
    ///
    /// # Errors
    /// Identity's, or `Unavailable`.
    pub async fn models_in(&self, namespace: NamespaceId) -> Result<i64, ServiceError> {
        let bearer = self.tokens.for_self("identity").await?;
        let mut client = ResourcesServiceClient::new(self.identity.clone());
        let kind = ResourceKind::Namespace as i32;
        let parent = Some(Resource { kind, id: namespace.to_string() });
        let asked = client.count_children(authorized(CountChildrenRequest { parent }, &bearer));
        let answer = timeout(DELIVERY_TIME_MAX, asked)
            .await
            .map_err(|_| ServiceError::unavailable("identity did not answer in time"))??;
        let counts = answer.into_inner().counts.into_iter();
        Ok(counts.filter(|of| of.kind() == ResourceKind::Model).map(|of| of.count).sum())
    }

    /// Delivers an event that was just committed, after what still waits of its
    /// resource and its parent; answers the revision that identity gave it.
    ///
    /// # Errors
    /// Identity's, or `Unavailable`; the job tries again.
    pub async fn announce(&self, event: &OutboxEvent) -> Result<i64, ServiceError> {
        for earlier in self.store.undelivered_of(&touched(event.change), event.seq - 1).await? {
            self.deliver(&earlier).await?;
        }
        self.deliver(event).await
    }

    /// Delivers what waits of some resources; answers the last revision, 0 if
    /// nothing waited.
    ///
    /// # Errors
    /// As [`Self::announce`].
    pub async fn announce_waiting(&self, resources: &[Uuid]) -> Result<i64, ServiceError> {
        let mut revision = 0;
        for event in self.store.undelivered_of(resources, i64::MAX).await? {
            revision = self.deliver(&event).await?;
        }
        Ok(revision)
    }

    /// Delivers the oldest waiting events. One that identity refuses holds only
    /// its own resource up.
    ///
    /// # Errors
    /// The first that happened, once everything was tried.
    pub async fn deliver_waiting(&self) -> Result<(), ServiceError> {
        let mut held: HashSet<Uuid> = HashSet::new();
        let mut outcome = Ok(());
        for event in self.store.undelivered().await? {
            let touched = touched(event.change);
            if touched.iter().any(|resource| held.contains(resource)) {
                continue;
            }
            if let Err(error) = self.deliver(&event).await {
                if error.is_retryable() {
                    return Err(error);
                }
                held.extend(touched);
                outcome = Err(error);
            }
        }
        outcome
    }

    async fn deliver(&self, event: &OutboxEvent) -> Result<i64, ServiceError> {
        let sent = timeout(DELIVERY_TIME_MAX, self.put(event)).await;
        let revision = sent.unwrap_or_else(|_| {
            Err(ServiceError::unavailable("identity did not answer in time"))
        })?;
        self.store.mark_delivered(event.id).await?;
        Ok(revision)
    }

    async fn put(&self, event: &OutboxEvent) -> Result<i64, ServiceError> {
        let bearer = self.tokens.for_self("identity").await?;
        let mut client = ReplicaServiceClient::new(self.identity.clone());
        let answer = client.put_resource(authorized(request(event), &bearer)).await?;
        Ok(answer.into_inner().revision)
    }
}

/// The resources whose events must stay in order with this one.
fn touched(change: ResourceChange) -> Vec<Uuid> {
    match change {
        ResourceChange::NamespaceCreated { namespace, .. }
        | ResourceChange::NamespaceDeleted { namespace } => {
            vec![namespace.uuid()]
        }
        ResourceChange::DatasetCreated { dataset, namespace, .. }
        | ResourceChange::DatasetDeleted { dataset, namespace } => {
            vec![dataset.uuid(), namespace.uuid()]
        }
    }
}

fn request(event: &OutboxEvent) -> PutResourceRequest {
    let resource =
        |kind: ResourceKind, id: Uuid| Some(Resource { kind: kind as i32, id: id.to_string() });
    let namespace_of = |id: Uuid| resource(ResourceKind::Namespace, id);
    let dataset_of = |id: Uuid| resource(ResourceKind::Dataset, id);
    let (resource, parent, owner, deleted) = match event.change {
        ResourceChange::NamespaceCreated { namespace, owner } => {
            (namespace_of(namespace.uuid()), None, Some(owner), false)
        }
        ResourceChange::NamespaceDeleted { namespace } => {
            (namespace_of(namespace.uuid()), None, None, true)
        }
        ResourceChange::DatasetCreated { dataset, namespace, owner } => {
            (dataset_of(dataset.uuid()), namespace_of(namespace.uuid()), Some(owner), false)
        }
        ResourceChange::DatasetDeleted { dataset, namespace } => {
            (dataset_of(dataset.uuid()), namespace_of(namespace.uuid()), None, true)
        }
    };
    PutResourceRequest {
        event_id: event.id.to_string(),
        resource,
        parent,
        owner_id: owner.map(|owner| owner.to_string()).unwrap_or_default(),
        deleted,
    }
}
