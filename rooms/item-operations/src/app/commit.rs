//! The commit of a put: under the fence where it brings keys or takes rows away,
//! in one call to the catalog where it does not.

use std::time::Duration;

use blocks::{KeyedBlock, WrittenBlock, find_duplicate};
use caller::Caller;
use catalog_api::v1::{
    Block, CommitMode, CommitVersionRequest, CommitVersionResponse, FindCommitRequest, NewDataset,
    Profile, Version,
};
use item_manifests::unique::{Unique, VALUE_EXISTS};
use service_error::{Code, ServiceError};
use uuid::Uuid;

use crate::app::App;
use crate::app::catalog::by_id;
use crate::app::merge::Change;
use crate::app::put::Target;
use crate::app::values::statistics_of;
use crate::model::{Address, PutCommand, PutMode, still_unique};

pub use item_manifests::unique::{keyed, location};

const KEY_EXISTS: &str = "KEY_EXISTS";
/// A commit moves onto a later head so often before it gives up.
const CONFLICTS_MAX: u32 = 50;
/// A catalog that is away is asked so often.
pub const ABSENCES_MAX: u32 = 5;
pub const ABSENCE_DELAY: Duration = Duration::from_millis(100);

/// What is to be committed.
pub struct Commit<'a> {
    pub command: &'a PutCommand,
    pub target: &'a Target,
    pub blocks: &'a [WrittenBlock],
    /// Keys of rows that go.
    pub keys: &'a [arrow::array::ArrayRef],
    pub body_hash: Vec<u8>,
}

/// What a put became.
pub struct Done {
    pub version: Version,
    /// Rows that it took away.
    pub affected_rows: u64,
}

impl Done {
    fn of(response: CommitVersionResponse) -> Result<Self, ServiceError> {
        let affected_rows = u64::try_from(response.affected_rows).unwrap_or(0);
        Ok(Self { version: version_of(response.version)?, affected_rows })
    }
}

impl App {
    /// Commits, and answers the version.
    pub async fn commit(&self, caller: &Caller, commit: Commit<'_>) -> Result<Done, ServiceError> {
        let target = commit.target;
        if target.keys_given {
            self.refuse_repeated_keys(&commit).await?;
        }
        let Some(opened) = &target.existing else {
            self.check_alone(&commit).await?;
            return self.commit_unfenced(caller, &commit).await;
        };
        let is_unique = !opened.unique.is_empty();
        let change = match commit.command.mode {
            PutMode::Overwrite => {
                self.check_alone(&commit).await?;
                let request = commit.request()?;
                return Done::of(self.replace_all(caller, opened, target.upload, request).await?);
            }
            PutMode::Append if target.keys_given || is_unique => Change::Append(commit.blocks),
            PutMode::Upsert if target.keys_given => Change::Upsert(commit.blocks, &target.lacking),
            PutMode::Delete => Change::DeleteKeys(commit.keys),
            PutMode::Upsert if is_unique => Change::Append(commit.blocks),
            // Keys that the server makes are new, and what has no key changes no row.
            PutMode::Append | PutMode::Upsert => {
                return self.commit_unfenced(caller, &commit).await;
            }
        };
        let request = commit.request()?;
        let merged = self.merge_fenced(caller, opened, target.upload, change, request).await;
        match merged {
            Ok(merged) => Done::of(merged.response),
            Err(clash) if clash.reason_is(KEY_EXISTS) || clash.reason_is(VALUE_EXISTS) => {
                self.replayed(caller, &commit, clash).await
            }
            Err(error) => Err(error),
        }
    }

    /// What makes a dataset, or brings rows whose keys need no comparing.
    async fn commit_unfenced(
        &self,
        caller: &Caller,
        commit: &Commit<'_>,
    ) -> Result<Done, ServiceError> {
        let target = commit.target;
        let mut request = commit.request()?;
        let mut conflicts = 0;
        loop {
            if target.existing.is_some() {
                let head = self.catalog.head(caller, by_id(target.dataset), None).await?;
                still_unique(&head, &request.unique_columns)?;
                request.base_snapshot = head.snapshot;
            }
            match self.commit_patiently(caller, request.clone()).await {
                Ok(done) => return Done::of(done),
                Err(error) if error.reason_is("HEAD_MOVED") && conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Refuses a value of a unique column that two rows of the put have.
    async fn check_alone(&self, commit: &Commit<'_>) -> Result<(), ServiceError> {
        let shape = &commit.target.shape;
        let unique = Unique {
            reader: &self.reader,
            address: &commit.command.address,
            schema: &shape.schema,
            key: shape.key.as_deref().unwrap_or_default(),
            items_profile: shape.profile == item_schema::Profile::Items,
            columns: commit.unique_columns(),
        };
        unique.check_blocks(commit.blocks, commit.blocks.len(), &[], true).await
    }

    /// What the same put did before, if the keys that are there are its own.
    async fn replayed(
        &self,
        caller: &Caller,
        commit: &Commit<'_>,
        clash: ServiceError,
    ) -> Result<Done, ServiceError> {
        let key = (commit.command.idempotency_key.as_str(), commit.body_hash.as_slice());
        match self.committed_before(caller, commit.target.dataset, key).await {
            Ok(Some(before)) => Done::of(before),
            Err(error) if error.reason_is("IDEMPOTENCY_KEY_REUSED") => Err(error),
            Ok(None) | Err(_) => Err(clash),
        }
    }

    /// What a commit under an idempotency key did before; `None` for an empty
    /// key, or if there was none.
    ///
    /// # Errors
    /// The key of another body; a catalog that is away.
    pub async fn committed_before(
        &self,
        caller: &Caller,
        dataset: Uuid,
        (key, body_hash): (&str, &[u8]),
    ) -> Result<Option<CommitVersionResponse>, ServiceError> {
        if key.is_empty() {
            return Ok(None);
        }
        let find = FindCommitRequest {
            dataset_id: dataset.to_string(),
            idempotency_key: key.to_owned(),
            body_hash: body_hash.to_vec(),
        };
        self.catalog.find_commit(caller, find).await
    }

    /// Refuses a key that two blocks of the put hold.
    async fn refuse_repeated_keys(&self, commit: &Commit<'_>) -> Result<(), ServiceError> {
        let Some(key) = &commit.target.shape.key else { return Ok(()) };
        let missing = |_| ServiceError::internal("the key column is not in the schema");
        let field = commit.target.shape.schema.field_with_name(key).map_err(missing)?;
        let new: Vec<KeyedBlock> = commit.blocks.iter().map(|block| keyed(block, key)).collect();
        match find_duplicate(&self.reader, &new, &[], field).await? {
            None => Ok(()),
            Some(found) => Err(repeated_key(commit.command.mode, key, &found.key)),
        }
    }
}

/// The version of a commit that makes one.
pub fn version_of(version: Option<Version>) -> Result<Version, ServiceError> {
    version.ok_or_else(|| ServiceError::internal("the catalog answered no version"))
}

/// A key that is there already.
pub fn key_exists(address: &Address, column: &str, key: &str) -> ServiceError {
    let message =
        format!("{column}: {address} has the key {key} already; append takes only new keys");
    ServiceError::new(Code::AlreadyExists, message)
        .reason(KEY_EXISTS)
        .field(column)
        .with("key", key)
}

/// A key that a put brings twice. For an append the second one exists by then.
pub fn repeated_key(mode: PutMode, column: &str, key: &str) -> ServiceError {
    let message = format!("{column}: the put brings the key {key} twice; send each key once");
    let (code, reason) = match mode {
        PutMode::Append => (Code::AlreadyExists, KEY_EXISTS),
        _ => (Code::InvalidArgument, "KEY_REPEATED"),
    };
    ServiceError::new(code, message).reason(reason).field(column).with("key", key)
}

/// What a block's writer found twice, in the words of the put's mode.
pub fn in_words_of(mode: PutMode, column: Option<&String>, error: ServiceError) -> ServiceError {
    let known = error.detail("key").filter(|_| error.reason_is(KEY_EXISTS)).zip(column);
    match known {
        Some((key, column)) => repeated_key(mode, column, key),
        None => error,
    }
}

impl Commit<'_> {
    /// Those of the dataset, or of the one that the put makes.
    fn unique_columns(&self) -> &[String] {
        let of = self.target.existing.as_ref();
        of.map_or(&self.command.unique_columns, |opened| &opened.unique)
    }

    /// What the catalog is told, but for the state it was computed from.
    fn request(&self) -> Result<CommitVersionRequest, ServiceError> {
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
            message: self.command.message.clone(),
            idempotency_key: self.command.idempotency_key.clone(),
            body_hash: self.body_hash.clone(),
            unique_columns: self.unique_columns().to_vec(),
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
            unique_columns: self.command.unique_columns.clone(),
        })
    }
}

/// A written block as the catalog takes it.
pub fn block_of(block: &WrittenBlock) -> Result<Block, ServiceError> {
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
