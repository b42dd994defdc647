//! A dataset: its snapshots with the blocks that each sees, and its versions.

use std::collections::HashMap;
use std::sync::Arc;

use catalog_api::v1 as api;
use service_error::ServiceError;

use crate::in_seconds;

/// One dataset.
#[derive(Debug)]
pub struct Dataset {
    /// As it is answered.
    pub about: api::Dataset,
    pub namespace_id: String,
    pub deleted: bool,
    /// Oldest first.
    pub versions: Vec<api::Version>,
    /// Snapshot n is at n - 1.
    snapshots: Vec<Snapshot>,
    /// Idempotency key to the body's hash and what was answered.
    keys: HashMap<String, (Vec<u8>, api::CommitVersionResponse)>,
}

/// What one snapshot sees.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// In storage order, as they are answered but for `row_begin`.
    pub blocks: Vec<Arc<api::Block>>,
    pub watermark: i64,
    /// The newest version then.
    version: i64,
}

impl Snapshot {
    pub fn live_rows(block: &api::Block) -> i64 {
        block.row_count - block.deleted_count
    }
}

impl Dataset {
    /// A dataset without a snapshot.
    pub fn new(namespace_id: String, about: api::Dataset) -> Self {
        Self {
            about: api::Dataset { create_time: Some(in_seconds(0)), ..about },
            namespace_id,
            deleted: false,
            versions: Vec::new(),
            snapshots: Vec::new(),
            keys: HashMap::new(),
        }
    }

    pub fn is_named(&self, namespace: &str, name: &str) -> bool {
        self.about.namespace == namespace && self.about.name == name
    }

    /// The number of the newest snapshot; 0 before the first.
    pub fn newest(&self) -> i64 {
        self.snapshots.len().try_into().unwrap()
    }

    /// What a snapshot sees; 0 sees nothing.
    pub fn snapshot(&self, number: i64) -> Result<Snapshot, ServiceError> {
        let at = usize::try_from(number).ok().filter(|at| *at <= self.snapshots.len());
        match at.ok_or_else(|| ServiceError::not_found("snapshot", number))? {
            0 => Ok(Snapshot::default()),
            at => Ok(self.snapshots[at - 1].clone()),
        }
    }

    /// All blocks that any snapshot sees.
    pub fn blocks(&self) -> impl Iterator<Item = &Arc<api::Block>> {
        self.snapshots.iter().flat_map(|snapshot| &snapshot.blocks)
    }

    /// A version by its number or `latest`.
    pub fn version(&self, text: &str) -> Result<&api::Version, ServiceError> {
        let found = match text {
            "latest" => self.versions.last(),
            number => self.versions.iter().find(|version| version.number.to_string() == number),
        };
        found.ok_or_else(|| ServiceError::not_found("version", text))
    }

    /// The dataset as a snapshot sees it.
    pub fn head(&self, number: i64) -> Result<api::Head, ServiceError> {
        let snapshot = self.snapshot(number)?;
        let (row_count, byte_count, block_count) = totals(&snapshot.blocks);
        Ok(api::Head {
            dataset: Some(self.about.clone()),
            namespace_id: self.namespace_id.clone(),
            snapshot: number,
            version: snapshot.version,
            row_count,
            byte_count,
            block_count,
            watermark: snapshot.watermark,
        })
    }

    /// Adds a snapshot that sees `blocks`, as a commit asks; answers what it answers.
    pub fn add(
        &mut self,
        request: &api::CommitVersionRequest,
        blocks: Vec<Arc<api::Block>>,
    ) -> api::CommitVersionResponse {
        if request.declares_unique {
            self.about.unique_columns.clone_from(&request.unique_columns);
        }
        let number = self.newest() + 1;
        let before = self.snapshots.last().cloned().unwrap_or_default();
        let parent = self.versions.last().map_or(0, |version| version.number);
        let (row_count, byte_count, block_count) = totals(&blocks);
        let version = (!request.unnamed).then(|| api::Version {
            number: parent + 1,
            parent,
            message: request.message.clone(),
            create_time: Some(in_seconds(0)),
            row_count,
            byte_count,
            block_count,
            snapshot: number,
            ..Default::default()
        });
        self.snapshots.push(Snapshot {
            blocks,
            watermark: request.watermark.map_or(before.watermark, |moved| moved.to),
            version: version.as_ref().map_or(parent, |version| version.number),
        });
        if let Some(version) = &version {
            self.about.latest = Some(version.clone());
            self.versions.push(version.clone());
        }
        let answer = api::CommitVersionResponse {
            version,
            dataset_id: self.about.id.clone(),
            replayed: false,
            snapshot: number,
            affected_rows: request.affected_rows,
        };
        if !request.idempotency_key.is_empty() {
            let kept = (request.body_hash.clone(), answer.clone());
            self.keys.insert(request.idempotency_key.clone(), kept);
        }
        answer
    }

    /// What a commit under a key answered before.
    pub fn replayed(
        &self,
        key: &str,
        body_hash: &[u8],
    ) -> Result<Option<api::CommitVersionResponse>, ServiceError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some((hash, answer)) if hash == body_hash => {
                Ok(Some(api::CommitVersionResponse { replayed: true, ..answer.clone() }))
            }
            Some(_) => Err(ServiceError::precondition("idempotency_key: it was used before")
                .reason("IDEMPOTENCY_KEY_REUSED")
                .field("idempotency_key")),
        }
    }
}

/// Live rows, bytes and number.
fn totals(blocks: &[Arc<api::Block>]) -> (i64, i64, i64) {
    (
        blocks.iter().map(|block| Snapshot::live_rows(block)).sum(),
        blocks.iter().map(|block| block.byte_count).sum(),
        blocks.len().try_into().unwrap(),
    )
}
