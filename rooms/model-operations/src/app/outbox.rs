//! Changes on their way to identity: delivered right after their commit, and
//! again by a job until they arrive.

use std::collections::HashSet;
use std::time::Duration;

use caller::{TokenSource, authorized};
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::{PutResourceRequest, Resource};
use ids::Id;
use options_api::v1::ResourceKind;
use service_channel::Transport;
use service_error::ServiceError;
use tokio::time::timeout;

use crate::store::{OutboxEvent, Store};

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

    /// Delivers an event that was just committed, after what still waits of its
    /// model; answers the revision that identity gave it.
    ///
    /// # Errors
    /// Identity's, or `Unavailable`; the job tries again.
    pub async fn announce(&self, event: &OutboxEvent) -> Result<i64, ServiceError> {
        for earlier in self.store.undelivered(Some(event.model)).await? {
            if earlier.seq < event.seq {
                self.deliver(&earlier).await?;
            }
        }
        self.deliver(event).await
    }

    /// Delivers the oldest waiting events. One that identity refuses holds only
    /// its own model up.
    ///
    /// # Errors
    /// The first that happened, once everything was tried.
    pub async fn deliver_waiting(&self) -> Result<(), ServiceError> {
        let mut held = HashSet::new();
        let mut outcome = Ok(());
        for event in self.store.undelivered(None).await? {
            if held.contains(&event.model) {
                continue;
            }
            if let Err(error) = self.deliver(&event).await {
                if error.is_retryable() {
                    return Err(error);
                }
                held.insert(event.model);
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
        let resource = |kind: ResourceKind, id: uuid::Uuid| {
            Some(Resource { kind: kind as i32, id: id.to_string() })
        };
        // In the trash a model lies in no namespace.
        let parent = Some(Id::uuid(event.namespace)).filter(|id| !id.is_nil());
        let request = PutResourceRequest {
            event_id: event.id.to_string(),
            resource: resource(ResourceKind::Model, Id::uuid(event.model)),
            parent: parent.and_then(|id| resource(ResourceKind::Namespace, id)),
            owner_id: event.owner.map(|owner| owner.to_string()).unwrap_or_default(),
            deleted: event.owner.is_none(),
        };
        let answer = client.put_resource(authorized(request, &bearer)).await?;
        Ok(answer.into_inner().revision)
    }
}
