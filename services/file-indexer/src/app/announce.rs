//! Tells identity of locations and their owners.

use std::time::Duration;

use caller::{TokenSource, authorized};
use identity_api::v1::replica_service_client::ReplicaServiceClient;
use identity_api::v1::{PutResourceRequest, Resource};
use options_api::v1::ResourceKind;
use service_channel::Transport;
use service_error::ServiceError;
use uuid::Uuid;

use crate::model::Location;

const TIME_MAX: Duration = Duration::from_secs(5);
/// The bits in which the id of a deletion's event differs from the location's.
const DELETION: u128 = 1;

/// Delivers at least once: the ids of the events follow from the location's,
/// and the location's row remembers that it is announced.
#[derive(Clone)]
pub struct Announcer {
    identity: Transport,
    tokens: TokenSource,
}

impl Announcer {
    /// To identity, as this role.
    #[must_use]
    pub fn new(identity: Transport, tokens: TokenSource) -> Self {
        Self { identity, tokens }
    }

    /// A location was made; answers the revision of its owner's grant.
    ///
    /// # Errors
    /// Identity's, or `Unavailable`.
    pub async fn made(&self, location: &Location) -> Result<i64, ServiceError> {
        self.put(location, location.uuid, false).await
    }

    /// A location is gone.
    ///
    /// # Errors
    /// As [`Self::made`].
    pub async fn deleted(&self, location: &Location) -> Result<i64, ServiceError> {
        self.put(location, Uuid::from_u128(location.uuid.as_u128() ^ DELETION), true).await
    }

    async fn put(
        &self,
        location: &Location,
        event: Uuid,
        deleted: bool,
    ) -> Result<i64, ServiceError> {
        let request = PutResourceRequest {
            event_id: event.to_string(),
            resource: Some(Resource {
                kind: ResourceKind::Location.into(),
                id: location.uuid.to_string(),
            }),
            parent: None,
            owner_id: if deleted { String::new() } else { location.owner.to_string() },
            deleted,
        };
        let sent = async {
            let bearer = self.tokens.for_self("identity").await?;
            let mut client = ReplicaServiceClient::new(self.identity.clone());
            Ok(client.put_resource(authorized(request, &bearer)).await?.into_inner().revision)
        };
        tokio::time::timeout(TIME_MAX, sent)
            .await
            .unwrap_or_else(|_| Err(ServiceError::unavailable("identity did not answer in time")))
    }
}
