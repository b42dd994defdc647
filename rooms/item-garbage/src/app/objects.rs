//! Objects that a listing finds: which of them nothing names.

use std::collections::{HashMap, HashSet};

use ::jobs::{Interrupt, Work};
use blob_store::BlobMeta;
use catalog_api::v1::{ListedObject, Verdict};
use futures::{StreamExt, TryStreamExt};
use ids::{DatasetId, UploadId};
use service_error::ServiceError;
use sql_store::now_micros;

use crate::app::Collector;
use crate::app::collect::{Found, count};

/// Objects that are judged or deleted at once.
const OBJECTS_PER_STEP: usize = 500;
const THUMBNAILS: &str = "thumbnails/";

impl Collector {
    /// Looks at every object that is older than the grace.
    pub async fn end_objects(
        &self,
        work: &Work,
        found: &mut Found,
        dry_run: bool,
    ) -> Result<(), Interrupt> {
        work.phase("looking at objects", "objects");
        let grace = self.settings.grace_micros();
        let blobs = self.store.blobs().clone();
        let mut listing = blobs.list("").try_chunks(OBJECTS_PER_STEP);
        let mut seen = 0;
        while let Some(page) = listing.next().await {
            let page = page.map_err(|error| error.1)?;
            seen += count(page.len());
            let mut garbage = self.unnamed_blocks(&page, found).await?;
            garbage.extend(self.unnamed_thumbnails(&page).await?);
            let old = now_micros() - grace;
            let (garbage, young): (Vec<_>, Vec<_>) =
                garbage.into_iter().partition(|object| object.modified_at < old);
            found.young_objects += count(young.len());
            found.objects += count(garbage.len());
            found.bytes += garbage
                .iter()
                .map(|object| count(usize::try_from(object.bytes).unwrap_or(0)))
                .sum::<i64>();
            if !dry_run {
                let keys: Vec<String> =
                    garbage.into_iter().map(|object| object.key.clone()).collect();
                self.delete_all(&keys).await?;
                for key in &keys {
                    tracing::info!(key, "an object that nothing names was deleted");
                }
            }
            work.progress(seen, None);
            work.step(found).await?;
        }
        Ok(())
    }

    /// The objects of a page that belong to an upload which will never name them.
    async fn unnamed_blocks<'a>(
        &self,
        page: &'a [BlobMeta],
        found: &mut Found,
    ) -> Result<Vec<&'a BlobMeta>, ServiceError> {
        let placed: Vec<(&BlobMeta, DatasetId, UploadId)> =
            page.iter().filter_map(placed).collect();
        if placed.is_empty() {
            return Ok(Vec::new());
        }
        let asked = placed.iter().map(|(object, dataset, upload)| ListedObject {
            dataset_id: dataset.to_string(),
            upload_id: upload.to_string(),
            object_key: object.key.clone(),
        });
        let judged = self.catalog.judge_objects(asked.collect()).await?;
        self.settings.check_grace(judged.upload_lease_seconds)?;
        let uploads: HashSet<UploadId> = placed.iter().map(|(.., upload)| *upload).collect();
        let files = self.store.media_keys(&uploads).await?;
        let mut garbage = Vec::new();
        for ((object, ..), verdict) in placed.into_iter().zip(judged.verdicts()) {
            match verdict {
                Verdict::Garbage if !files.contains(&object.key) => garbage.push(object),
                Verdict::Unknown => found.unknown_objects += 1,
                _ => {}
            }
        }
        Ok(garbage)
    }

    /// The thumbnails of a page whose picture no dataset has any more.
    async fn unnamed_thumbnails<'a>(
        &self,
        page: &'a [BlobMeta],
    ) -> Result<Vec<&'a BlobMeta>, ServiceError> {
        let hashed: HashMap<&str, Vec<u8>> = page
            .iter()
            .filter_map(|object| {
                let name = object.key.strip_prefix(THUMBNAILS)?;
                Some((object.key.as_str(), hex::decode(name.split('-').next()?).ok()?))
            })
            .collect();
        if hashed.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<Vec<u8>> = hashed.values().cloned().collect();
        let known = self.store.known_hashes(&hashes).await?;
        let is_unnamed = |object: &&BlobMeta| {
            hashed.get(object.key.as_str()).is_some_and(|hash| !known.contains(hash))
        };
        Ok(page.iter().filter(is_unnamed).collect())
    }
}

/// Dataset and upload of a block's or a file's key.
fn placed(object: &BlobMeta) -> Option<(&BlobMeta, DatasetId, UploadId)> {
    let mut parts = object.key.split('/');
    Some((object, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_keys_below_an_upload_are_judged() {
        let (dataset, upload) = (DatasetId::new(), UploadId::new());
        let object = |key: String| BlobMeta { key, bytes: 1, modified_at: 0 };
        for key in [format!("{dataset}/{upload}/a.parquet"), format!("{dataset}/{upload}/media/00")]
        {
            let object = object(key);
            let (_, of, from) = placed(&object).unwrap();
            assert_eq!((of, from), (dataset, upload));
        }
        for key in
            [".probe".to_owned(), format!("thumbnails/{upload}-64.webp"), format!("{dataset}")]
        {
            assert!(placed(&object(key)).is_none());
        }
    }
}
