//! The key ring in memory: read again when a text names a key it lacks.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use service_error::ServiceError;

use crate::model::{KeyRing, SealError};
use crate::store::Store;

/// A text under an unknown key asks the database at most this often.
const RELOAD_INTERVAL_MIN: Duration = Duration::from_secs(1);

pub struct Sealing {
    store: Store,
    ring: RwLock<(KeyRing, Instant)>,
}

impl Sealing {
    pub async fn open(store: Store) -> Result<Self, ServiceError> {
        let ring = store.rotate_keys().await?;
        Ok(Self { store, ring: RwLock::new((ring, Instant::now())) })
    }

    pub async fn rotate(&self) -> Result<(), ServiceError> {
        let ring = self.store.rotate_keys().await?;
        self.replace(ring);
        Ok(())
    }

    fn replace(&self, ring: KeyRing) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = (ring, Instant::now());
    }

    fn now(&self) -> (KeyRing, Instant) {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn seal<T: Serialize>(&self, purpose: &str, value: &T) -> Result<Vec<u8>, ServiceError> {
        self.now()
            .0
            .seal(purpose, value)
            .map_err(|_| ServiceError::internal("there is no key to seal with"))
    }

    /// Opens a sealed text of `field`.
    pub async fn open_sealed<T: DeserializeOwned>(
        &self,
        field: &str,
        sealed: &[u8],
    ) -> Result<T, ServiceError> {
        let (ring, read_at) = self.now();
        let opened = match ring.open(field, sealed) {
            Err(SealError::UnknownKey) if read_at.elapsed() >= RELOAD_INTERVAL_MIN => {
                // Another replica may have made a key since.
                let ring = self.store.key_ring().await?;
                self.replace(ring.clone());
                ring.open(field, sealed)
            }
            opened => opened,
        };
        opened.map_err(|_| {
            ServiceError::invalid(field, "is not of this server, or too old; ask for a new one")
                .reason("TOKEN_NOT_OURS")
        })
    }
}
