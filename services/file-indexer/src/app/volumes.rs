//! Volumes: the file systems, buckets and devices that locations are on.

use std::collections::BTreeMap;

use caller::Caller;
use file_scan::{Root, Volume};
use service_error::ServiceError;

use super::Indexer;
use super::locations::blocking;
use crate::model::Location;

/// What tells a volume: the device, empty for the server itself, and the number of
/// its file system there, or what stands for a bucket.
pub type VolumeKey = (String, i64);

/// A volume that locations are on.
#[derive(Debug)]
pub struct LocationVolume {
    pub key: VolumeKey,
    /// The locations on it that the caller may read, by number.
    pub locations: Vec<Location>,
    /// What the server sees of it now; nothing if it is away, a bucket, or another
    /// device's.
    pub now: Option<Volume>,
    /// When a device's agent was last heard of, in microseconds; 0: never.
    pub seen_at: i64,
}

impl Indexer {
    /// Up to `limit` volumes after one, with the locations on them that the caller
    /// may read.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_volumes(
        &self,
        caller: &Caller,
        after: Option<VolumeKey>,
        limit: u32,
    ) -> Result<Vec<LocationVolume>, ServiceError> {
        let mut volumes: BTreeMap<VolumeKey, Vec<Location>> = BTreeMap::new();
        for location in self.visible(caller).await?.into_values() {
            let on = location.root.map_or(0, |(dev, _)| dev);
            volumes.entry((location.device.clone(), on)).or_default().push(location);
        }
        let later = volumes.into_iter().filter(|(key, _)| Some(key) > after.as_ref());
        let mut found = Vec::new();
        for (key, mut locations) in later.take(limit as usize) {
            locations.sort_by_key(|location| location.id);
            let seen_at = self.seen_at(&locations).await?;
            let now = if key.0.is_empty() { volume_now(&locations, key.1).await? } else { None };
            found.push(LocationVolume { key, locations, now, seen_at });
        }
        Ok(found)
    }

    async fn seen_at(&self, locations: &[Location]) -> Result<i64, ServiceError> {
        let mut seen_at = 0;
        for location in locations.iter().filter(|location| !location.device.is_empty()) {
            match self.store.wanted(location.id).await {
                Ok(wanted) => seen_at = seen_at.max(wanted.agent_seen),
                // Deleted meanwhile.
                Err(error) if error.code() == service_error::Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(seen_at)
    }
}

/// The file system, if one of the locations is still on the one that it was.
async fn volume_now(locations: &[Location], dev: i64) -> Result<Option<Volume>, ServiceError> {
    let directories = locations.iter().filter(|location| !location.is_bucket());
    let paths: Vec<String> = directories.map(|location| location.path.clone()).collect();
    blocking(move || {
        let mut roots = paths.iter().filter_map(|path| Root::open(path.as_ref()).ok());
        let there = roots.find(|root| root.identity().dev.cast_signed() == dev);
        Ok(there.and_then(|root| root.volume().ok()))
    })
    .await
}
