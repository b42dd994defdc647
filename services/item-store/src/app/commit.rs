//! The commit of a put: keys compared, then one call to the catalog, again on
//! what was added meanwhile if it was not the first.

use std::time::Duration;

use blocks::{KeyedBlock, WrittenBlock, find_duplicate};
use caller::Caller;
use catalog_api::v1::{Block, CommitMode, CommitVersionRequest, NewDataset, Profile, Version};
use service_error::{Code, ServiceError};

use crate::app::App;
use crate::app::catalog::by_id;
use crate::app::manifest::{Manifest, ManifestBlock};
use crate::app::put::Target;
use crate::app::values::statistics_of;
use crate::model::{PutCommand, PutMode};

/// A commit moves onto a later head so often before it gives up.
const CONFLICTS_MAX: u32 = 50;
/// A catalog that is away is asked so often.
const ABSENCES_MAX: u32 = 5;
const ABSENCE_DELAY: Duration = Duration::from_millis(100);

/// What is to be committed.
pub(crate) struct Commit<'a> {
    pub command: &'a PutCommand,
    pub target: &'a Target,
    pub blocks: &'a [WrittenBlock],
    pub body_hash: Vec<u8>,
}

impl App {
    /// Commits, and answers the version.
    pub(crate) async fn commit(
        &self,
        caller: &Caller,
        commit: Commit<'_>,
    ) -> Result<Version, ServiceError> {
        let target = commit.target;
        let checked = target.keys_given;
        let mut request = commit.request(checked)?;
        if target.existing.is_some() {
            // The put may have taken long: keys are compared with what is there
            // now, not with what was there when it began.
            let head = self.catalog.head(caller, by_id(target.dataset), None).await?;
            request.base_snapshot = head.snapshot;
        }
        if checked {
            let (id, schema) = (target.dataset, &target.shape.schema);
            let existing = match commit.command.mode {
                PutMode::Append => {
                    let base = request.base_snapshot;
                    self.manifests.get(&self.catalog, caller, id, base, schema).await?
                }
                _ => Manifest::default(),
            };
            if let Err(clash) = self.refuse_duplicates(&commit, &existing).await {
                return self.replayed(caller, &request, clash).await;
            }
        }
        let (mut conflicts, mut absences) = (0, 0);
        loop {
            let error = match self.catalog.commit(caller, request.clone()).await {
                Ok(done) => {
                    return done
                        .version
                        .ok_or_else(|| ServiceError::internal("the catalog answered no version"));
                }
                Err(error) => error,
            };
            match error.code() {
                // Its upload tells a repeated commit, so asking again is safe.
                Code::Unavailable if absences < ABSENCES_MAX => {
                    tokio::time::sleep(ABSENCE_DELAY * 2u32.pow(absences)).await;
                    absences += 1;
                }
                Code::Conflict if error.reason_is("HEAD_MOVED") && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    let head = self.catalog.head(caller, by_id(target.dataset), None).await?;
                    if checked && commit.command.mode == PutMode::Append {
                        let id = target.dataset.to_string();
                        let added = self
                            .catalog
                            .blocks(caller, &id, head.snapshot, request.base_snapshot)
                            .await?;
                        let added: Vec<ManifestBlock> = added
                            .iter()
                            .map(|block| ManifestBlock::of(block, &target.shape.schema))
                            .collect();
                        self.refuse_duplicates(&commit, &added).await?;
                    }
                    request.base_snapshot = head.snapshot;
                }
                _ => return Err(error),
            }
        }
    }

    /// What the same put did before, if the keys that are there are its own.
    ///
    /// From snapshot 0 the catalog commits nothing with compared keys: it
    /// answers a repetition, or that the head has moved.
    async fn replayed(
        &self,
        caller: &Caller,
        request: &CommitVersionRequest,
        clash: ServiceError,
    ) -> Result<Version, ServiceError> {
        if request.idempotency_key.is_empty() || request.base_snapshot == 0 {
            return Err(clash);
        }
        let asked = CommitVersionRequest { base_snapshot: 0, ..request.clone() };
        match self.catalog.commit(caller, asked).await {
            Ok(done) => done
                .version
                .ok_or_else(|| ServiceError::internal("the catalog answered no version")),
            Err(error) if error.reason_is("HEAD_MOVED") => Err(clash),
            Err(error) => Err(error),
        }
    }

    /// Refuses a key that two blocks of the put hold, or one of them and one of
    /// `existing`.
    async fn refuse_duplicates(
        &self,
        commit: &Commit<'_>,
        existing: &[ManifestBlock],
    ) -> Result<(), ServiceError> {
        let Some(key) = &commit.target.shape.key else { return Ok(()) };
        let field = commit.target.shape.schema.field_with_name(key);
        let field =
            field.map_err(|_| ServiceError::internal("the key column is not in the schema"))?;
        let new: Vec<KeyedBlock> = commit.blocks.iter().map(|block| keyed(block, key)).collect();
        let existing: Vec<KeyedBlock> = existing.iter().map(|block| block.keyed(key)).collect();
        match find_duplicate(&self.reader, &new, &existing, field).await? {
            None => Ok(()),
            Some(found) => Err(ServiceError::new(
                Code::AlreadyExists,
                format!(
                    "{key}: {} has the key {} already, or the put brings it twice; append takes only new keys",
                    commit.command.address, found.key
                ),
            )
            .reason("KEY_EXISTS")
            .field(key)
            .with("key", found.key)),
        }
    }
}

fn keyed(block: &WrittenBlock, key: &str) -> KeyedBlock {
    let stats = block.columns.iter().find(|column| column.name == key);
    let range = stats.and_then(|stats| stats.min.clone().zip(stats.max.clone()));
    KeyedBlock { location: location(block), range }
}

fn location(block: &WrittenBlock) -> blocks::BlockLocation {
    blocks::BlockLocation {
        object_key: block.object_key.clone(),
        row_count: block.row_count,
        byte_count: block.byte_count,
        footer_length: block.footer_length,
    }
}

impl Commit<'_> {
    fn request(&self, keys_checked: bool) -> Result<CommitVersionRequest, ServiceError> {
        let create = match &self.target.existing {
            Some(_) => None,
            None => Some(self.new_dataset()?),
        };
        let mode = match self.command.mode {
            PutMode::Overwrite => CommitMode::Overwrite,
            _ => CommitMode::Append,
        };
        let blocks: Result<Vec<Block>, ServiceError> = self.blocks.iter().map(block_of).collect();
        Ok(CommitVersionRequest {
            upload_id: self.target.upload.to_string(),
            mode: mode as i32,
            create,
            blocks: blocks?,
            base_snapshot: self.target.existing.as_ref().map_or(0, |opened| opened.snapshot),
            keys_checked,
            message: self.command.message.clone(),
            idempotency_key: self.command.idempotency_key.clone(),
            body_hash: self.body_hash.clone(),
            ..CommitVersionRequest::default()
        })
    }

    fn new_dataset(&self) -> Result<NewDataset, ServiceError> {
        let shape = &self.target.shape;
        let profile = match shape.profile {
            item_schema::Profile::Items => Profile::Items,
            item_schema::Profile::Table => Profile::Table,
        };
        let arrow_schema = item_schema::schema_to_ipc(&shape.schema)
            .map_err(|error| ServiceError::invalid("schema", error).reason("INVALID_SCHEMA"))?;
        Ok(NewDataset {
            namespace: self.command.address.namespace.clone(),
            name: self.command.address.dataset.clone(),
            profile: profile as i32,
            arrow_schema,
            key_column: shape.key.clone().unwrap_or_default(),
        })
    }
}

fn block_of(block: &WrittenBlock) -> Result<Block, ServiceError> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(Block {
        id: block.id.to_string(),
        object_key: block.object_key.clone(),
        row_count: number(block.row_count),
        byte_count: number(block.byte_count),
        footer_length: number(block.footer_length),
        content_hash: block.content_hash.to_vec(),
        columns: statistics_of(&block.columns)?,
        ..Block::default()
    })
}
