//! Finding the space that a request names, if the caller may have it. What it
//! may not see is not found, in the same words as what does not exist.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::access::{Resource, Subject};
use caller::Caller;
use options_api::v1::Level;
use service_error::{Code, ServiceError};
use sql_store::now_micros;
use tokio::time::timeout;

use crate::app::{App, Known};
use crate::model::{Address, Owner, Space};

/// How long a space is known by its name before it is looked up again.
const KNOWN_MICROS: i64 = 1_000_000;
/// How long that look is waited for while something is known.
const REFRESH_MAX: Duration = Duration::from_millis(300);

impl App {
    /// The space of a name, if the caller holds `need` on its owner.
    pub(super) async fn space_for(
        &self,
        caller: &Caller,
        need: Level,
        address: &Address,
        action: &'static str,
    ) -> Result<Arc<Space>, ServiceError> {
        let space = self.known_space(address).await?;
        self.require(caller, need, &space.owner, ("space", &address.to_string()), action).await?;
        Ok(space)
    }

    /// Lets the caller pass if it holds `need` on the owner.
    pub(super) async fn require(
        &self,
        caller: &Caller,
        need: Level,
        owner: &Owner,
        (kind, name): (&str, &str),
        action: &str,
    ) -> Result<(), ServiceError> {
        let chain =
            [owner.dataset.map(Resource::dataset), Some(Resource::namespace(owner.namespace))];
        let chain: Vec<Resource> = chain.into_iter().flatten().collect();
        let subject = Subject { kind, name, action };
        self.grants.require(caller, need, &chain, owner.public, subject).await?;
        Ok(())
    }

    async fn known_space(&self, address: &Address) -> Result<Arc<Space>, ServiceError> {
        let known = self.known.get(address).await;
        // Read before the look: what a deletion overtakes is looked up again.
        let (at, deletions) = (now_micros(), self.deletions.load(Ordering::Acquire));
        if let Some(known) = &known
            && at - known.at < KNOWN_MICROS
            && known.deletions == deletions
        {
            return Ok(Arc::clone(&known.space));
        }
        let found = match &known {
            None => self.found_space(address).await,
            // A database that is away is waited for longer than a search may take.
            Some(_) => match timeout(REFRESH_MAX, self.found_space(address)).await {
                Ok(found) => found,
                Err(_) => Err(ServiceError::unavailable("the space was not found in time")),
            },
        };
        match (found, known) {
            (Ok(space), _) => {
                let space = Arc::new(space);
                let known = Known { space: Arc::clone(&space), at, deletions };
                self.known.insert(address.clone(), known).await;
                Ok(space)
            }
            // The catalog or the database is away: what was known a moment ago serves a search of
            // an index that is still fresh; whoever needs more meets the same error there.
            (Err(error), Some(known)) if error.code() == Code::Unavailable => Ok(known.space),
            (Err(error), _) => {
                self.known.invalidate(address).await;
                Err(error)
            }
        }
    }

    /// Notes that spaces were deleted: no name is known any more by a look before that.
    pub(super) fn spaces_deleted(&self) {
        self.deletions.fetch_add(1, Ordering::AcqRel);
    }

    async fn found_space(&self, address: &Address) -> Result<Space, ServiceError> {
        let missing = || ServiceError::not_found("space", address);
        let owner = match self.catalog.owner(&address.namespace, &address.dataset).await {
            Ok(owner) => owner,
            Err(error) if matches!(error.code(), Code::NotFound | Code::InvalidArgument) => {
                return Err(missing());
            }
            Err(error) => return Err(error),
        };
        let found = self.store.find_space(&owner, &address.space).await?;
        found.ok_or_else(missing)
    }

    /// Whether a name's owner may be written to, and who it is.
    pub(super) async fn owner_for(
        &self,
        caller: &Caller,
        need: Level,
        namespace: &str,
        dataset: &str,
        action: &'static str,
    ) -> Result<Owner, ServiceError> {
        let (kind, name) = if dataset.is_empty() {
            ("namespace", namespace.to_owned())
        } else {
            ("dataset", format!("{namespace}/{dataset}"))
        };
        let owner = match self.catalog.owner(namespace, dataset).await {
            Ok(owner) => owner,
            Err(error) if error.code() == Code::NotFound => {
                return Err(ServiceError::not_found(kind, name));
            }
            Err(error) => return Err(error),
        };
        self.require(caller, need, &owner, (kind, &name), action).await?;
        Ok(owner)
    }
}
