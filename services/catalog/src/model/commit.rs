//! Commits: what they carry, and when one may be moved onto a later head.

use ids::{DatasetId, NamespaceId, PrincipalId, UploadId};
use service_error::ServiceError;

use crate::model::{Block, NewDataset, Snapshot, Version};

const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
const BODY_HASH_BYTES_MAX: usize = 64;

/// How a commit changes the blocks of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitMode {
    /// Adds blocks.
    Append,
    /// Replaces all blocks.
    Overwrite,
}

/// A commit that was checked as far as that goes without the database.
#[derive(Debug, Clone)]
pub struct CommitPlan {
    pub upload: UploadId,
    pub principal: PrincipalId,
    pub mode: CommitMode,
    /// The dataset to make, and where; `None` when it exists.
    pub create: Option<(NamespaceId, NewDataset)>,
    pub dataset: DatasetId,
    /// `namespace/name`, for messages.
    pub path: String,
    pub blocks: Vec<Block>,
    /// The snapshot that the commit was computed from.
    pub base_snapshot: i64,
    /// Added keys were compared with the rows of the base.
    pub keys_checked: bool,
    pub message: String,
    /// `None`: the commit is known by its upload alone.
    pub idempotency: Option<Idempotency>,
}

/// What makes a repeated commit the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    pub key: String,
    pub body_hash: Vec<u8>,
}

impl Idempotency {
    /// Checks a key and a hash; an empty key is none.
    ///
    /// # Errors
    /// A key or a hash that is too long.
    pub fn of(key: &str, body_hash: &[u8]) -> Result<Option<Self>, ServiceError> {
        if key.len() > IDEMPOTENCY_KEY_BYTES_MAX || key.contains('\0') {
            let message = format!("at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes of text");
            return Err(ServiceError::invalid("idempotency_key", message));
        }
        if body_hash.len() > BODY_HASH_BYTES_MAX {
            return Err(ServiceError::invalid(
                "body_hash",
                format!("at most {BODY_HASH_BYTES_MAX} bytes"),
            ));
        }
        if key.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { key: key.to_owned(), body_hash: body_hash.to_vec() }))
    }

    /// Refuses a key that stands for another body.
    ///
    /// # Errors
    /// `FailedPrecondition` with reason `IDEMPOTENCY_KEY_REUSED`.
    pub fn matches(&self, stored_hash: &[u8]) -> Result<(), ServiceError> {
        if self.body_hash == stored_hash {
            return Ok(());
        }
        let message =
            "idempotency_key: it was used for another commit to this dataset; take a new one";
        Err(ServiceError::precondition(message)
            .reason("IDEMPOTENCY_KEY_REUSED")
            .field("idempotency_key"))
    }
}

/// A commit that is in the database.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    pub dataset: DatasetId,
    pub version: Version,
    /// It had been there before.
    pub replayed: bool,
}

/// What a commit finds when it looks at the head under the lock.
#[derive(Debug, Clone, Copy)]
pub struct HeadNow {
    pub snapshot: Snapshot,
    /// A commit after the base added blocks.
    pub added_since_base: bool,
}

/// Decides whether the commit may go onto the head as it is now.
///
/// Only what no later commit touched is moved onto a later head: an append whose
/// keys were not compared, or were compared and nothing was added since. An
/// overwrite never is.
///
/// # Errors
/// `Conflict` with reason `HEAD_MOVED` and `head_snapshot`; `InvalidArgument`
/// for a base that does not exist yet.
pub fn may_commit(
    mode: CommitMode,
    base: i64,
    keys_checked: bool,
    now: HeadNow,
) -> Result<(), ServiceError> {
    let head = now.snapshot.number;
    if base < 0 || base > head {
        let message = format!("{base} is no snapshot of the dataset: its head is {head}");
        return Err(ServiceError::invalid("base_snapshot", message));
    }
    let fits = base == head
        || match mode {
            CommitMode::Append => !keys_checked || !now.added_since_base,
            CommitMode::Overwrite => false,
        };
    if fits {
        return Ok(());
    }
    let message = format!(
        "the dataset changed since snapshot {base}: its head is {head}; compute the commit again"
    );
    Err(ServiceError::conflict(message).reason("HEAD_MOVED").with("head_snapshot", head))
}

/// Rows, bytes and blocks of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub rows: i64,
    pub bytes: i64,
    pub blocks: i64,
}

impl Totals {
    /// The totals after a commit.
    ///
    /// # Errors
    /// Counts beyond 64 bits: blocks that lie about themselves.
    pub fn after(
        mode: CommitMode,
        head: &Snapshot,
        blocks: &[Block],
    ) -> Result<Self, ServiceError> {
        let begin = match mode {
            CommitMode::Append => {
                Self { rows: head.row_count, bytes: head.byte_count, blocks: head.block_count }
            }
            CommitMode::Overwrite => Self::default(),
        };
        let added = blocks.iter().try_fold(begin, |sum, block| {
            Some(Self {
                rows: sum.rows.checked_add(block.row_count)?,
                bytes: sum.bytes.checked_add(block.byte_count)?,
                blocks: sum.blocks.checked_add(1)?,
            })
        });
        added.ok_or_else(|| {
            ServiceError::invalid("blocks", "their row or byte counts do not add up in 64 bits")
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use service_error::Code;

    fn now(number: i64, added_since_base: bool) -> HeadNow {
        HeadNow { snapshot: Snapshot { number, ..Snapshot::default() }, added_since_base }
    }

    #[test]
    fn a_commit_onto_its_own_base_always_fits() {
        for mode in [CommitMode::Append, CommitMode::Overwrite] {
            for keys_checked in [false, true] {
                may_commit(mode, 3, keys_checked, now(3, false)).unwrap();
            }
        }
    }

    #[test]
    fn only_appends_are_moved_onto_a_later_head() {
        may_commit(CommitMode::Append, 1, false, now(3, true)).unwrap();
        may_commit(CommitMode::Append, 1, true, now(3, false)).unwrap();
        for (mode, keys_checked) in [(CommitMode::Append, true), (CommitMode::Overwrite, false)] {
            let error = may_commit(mode, 1, keys_checked, now(3, true)).unwrap_err();
            assert_eq!(error.code(), Code::Conflict);
            assert!(error.reason_is("HEAD_MOVED"));
            assert_eq!(error.detail("head_snapshot"), Some("3"));
        }
    }

    #[test]
    fn a_base_from_the_future_is_a_mistake() {
        assert_eq!(
            may_commit(CommitMode::Append, 4, false, now(3, false)).unwrap_err().code(),
            Code::InvalidArgument
        );
        assert_eq!(
            may_commit(CommitMode::Append, -1, false, now(3, false)).unwrap_err().code(),
            Code::InvalidArgument
        );
    }

    #[test]
    fn a_key_stands_for_one_body() {
        let first = Idempotency::of("k", b"hash").unwrap().unwrap();
        first.matches(b"hash").unwrap();
        assert!(first.matches(b"other").unwrap_err().reason_is("IDEMPOTENCY_KEY_REUSED"));
        assert_eq!(Idempotency::of("", b"").unwrap(), None);
        assert!(Idempotency::of(&"k".repeat(256), b"").is_err());
    }
}
