//! Volumes as messages.

use files_api::v1 as wire;
use service_error::ServiceError;

use super::timestamp;
use crate::app::{Indexer, LocationVolume, VolumeKey};

const LIST: &str = "volumes";
/// Locations that are named with a volume.
const LOCATIONS_MAX: usize = 100;

pub async fn list(
    indexer: &Indexer,
    caller: &caller::Caller,
    asked: wire::ListVolumesRequest,
) -> Result<wire::ListVolumesResponse, ServiceError> {
    let size = paging::page_size(asked.page_size, paging::PAGE_SIZE_MAX)?;
    let after: Option<VolumeKey> = paging::key(LIST, &asked.page_token)?;
    let found = indexer.list_volumes(caller, after, size + 1).await?;
    let (found, next_page_token) = paging::cut(found, size, LIST, |last| last.key.clone());
    let volumes = found.into_iter().map(to_wire).collect();
    Ok(wire::ListVolumesResponse { volumes, next_page_token })
}

fn to_wire(volume: LocationVolume) -> wire::Volume {
    let LocationVolume { key: (device, _), locations, now, seen_at } = volume;
    let is_bucket = locations.iter().all(crate::model::Location::is_bucket);
    let is_there = now.is_some();
    let now = now.unwrap_or_default();
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    wire::Volume {
        device,
        file_system: if is_bucket { "s3".to_owned() } else { now.file_system },
        mount_point: now.mount_point.to_string_lossy().into_owned(),
        is_there,
        byte_count: number(now.bytes),
        free_byte_count: number(now.bytes_free),
        read_only: now.read_only,
        seen_time: (seen_at > 0).then(|| timestamp(seen_at.saturating_mul(1_000))),
        location_count: i64::try_from(locations.len()).unwrap_or(i64::MAX),
        locations: locations
            .into_iter()
            .take(LOCATIONS_MAX)
            .map(|location| wire::VolumeLocation {
                id: location.uuid.to_string(),
                path: location.path,
            })
            .collect(),
    }
}
