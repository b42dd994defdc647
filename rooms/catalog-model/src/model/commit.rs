//! Commits: what they carry, and when one may be moved onto a later head.

use ids::{DatasetId, NamespaceId, PrincipalId, UploadId};
use service_error::ServiceError;

use crate::model::deletion::{BlockDeletion, BlockRemoval};
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
    /// Adds blocks, deletes rows, removes blocks.
    Merge,
    /// Sees again what this snapshot saw.
    Rollback(i64),
}

/// Row-delta changes in the blocks: up to where before and after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatermarkMove {
    pub from: i64,
    pub to: i64,
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
    pub deletions: Vec<BlockDeletion>,
    pub removals: Vec<BlockRemoval>,
    pub footing: Footing,
    pub unique: UniqueColumns,
    /// The snapshot is a version.
    pub named: bool,
    pub message: String,
    /// Kept for repetitions.
    pub affected_rows: i64,
    /// `None`: the commit is known by its upload alone.
    pub idempotency: Option<Idempotency>,
}

/// Columns whose values were seen to be unique in what is committed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UniqueColumns {
    pub columns: Vec<String>,
    /// They become those of the dataset; else it must have the same.
    pub declares: bool,
}

/// What a commit was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footing {
    pub base_snapshot: i64,
    /// Added keys were compared with the rows of the base.
    pub keys_checked: bool,
    /// `None`: the watermark stays.
    pub watermark: Option<WatermarkMove>,
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
    /// `None`: the snapshot is no version.
    pub version: Option<Version>,
    pub snapshot: i64,
    pub affected_rows: i64,
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
/// Only what no later commit touched is moved onto a later head: an append or a
/// merge whose keys were not compared, or were compared and nothing was added
/// since (the blocks that a merge touches are compared one by one, besides). An
/// overwrite, a rollback and whatever moves the watermark never is.
///
/// # Errors
/// `Conflict` with reason `HEAD_MOVED` and `head_snapshot`; `InvalidArgument`
/// for a base that does not exist yet, or a watermark that goes back.
pub fn may_commit(mode: CommitMode, footing: &Footing, now: HeadNow) -> Result<(), ServiceError> {
    let (base, head) = (footing.base_snapshot, now.snapshot.number);
    if base < 0 || base > head {
        let message = format!("{base} is no snapshot of the dataset: its head is {head}");
        return Err(ServiceError::invalid("base_snapshot", message));
    }
    if footing.watermark.is_some_and(|watermark| watermark.to < watermark.from) {
        return Err(ServiceError::invalid("watermark", "never goes back"));
    }
    let same_watermark =
        footing.watermark.is_none_or(|watermark| watermark.from == now.snapshot.watermark);
    let fits = match (base == head, mode) {
        (true, _) => same_watermark,
        (false, CommitMode::Append | CommitMode::Merge) => {
            footing.watermark.is_none() && !(footing.keys_checked && now.added_since_base)
        }
        (false, CommitMode::Overwrite | CommitMode::Rollback(_)) => false,
    };
    if fits {
        return Ok(());
    }
    Err(moved(base, head))
}

/// A commit that must be computed again from the head as it is.
#[must_use]
pub fn moved(base: i64, head: i64) -> ServiceError {
    let message = format!(
        "the dataset changed since snapshot {base}: its head is {head}; compute the commit again"
    );
    ServiceError::conflict(message).reason("HEAD_MOVED").with("head_snapshot", head)
}

/// Rows, bytes and blocks of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub rows: i64,
    pub bytes: i64,
    pub blocks: i64,
}

impl Totals {
    /// The totals once blocks are added.
    ///
    /// # Errors
    /// Counts beyond 64 bits: blocks that lie about themselves.
    pub fn with(self, blocks: &[Block]) -> Result<Self, ServiceError> {
        let added = blocks.iter().try_fold(self, |sum, block| {
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

impl From<&Snapshot> for Totals {
    fn from(of: &Snapshot) -> Self {
        Self { rows: of.row_count, bytes: of.byte_count, blocks: of.block_count }
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

    fn from(base_snapshot: i64, keys_checked: bool) -> Footing {
        Footing { base_snapshot, keys_checked, watermark: None }
    }

    const MODES: [CommitMode; 4] =
        [CommitMode::Append, CommitMode::Overwrite, CommitMode::Merge, CommitMode::Rollback(1)];

    #[test]
    fn a_commit_onto_its_own_base_always_fits() {
        for mode in MODES {
            for keys_checked in [false, true] {
                may_commit(mode, &from(3, keys_checked), now(3, false)).unwrap();
            }
        }
    }

    #[test]
    fn only_what_no_later_commit_touched_is_moved_onto_a_later_head() {
        for mode in [CommitMode::Append, CommitMode::Merge] {
            may_commit(mode, &from(1, false), now(3, true)).unwrap();
            may_commit(mode, &from(1, true), now(3, false)).unwrap();
        }
        for (mode, keys_checked) in [
            (CommitMode::Append, true),
            (CommitMode::Merge, true),
            (CommitMode::Overwrite, false),
            (CommitMode::Rollback(1), false),
        ] {
            let error = may_commit(mode, &from(1, keys_checked), now(3, true)).unwrap_err();
            assert_eq!(error.code(), Code::Conflict);
            assert!(error.reason_is("HEAD_MOVED"));
            assert_eq!(error.detail("head_snapshot"), Some("3"));
        }
    }

    #[test]
    fn what_moves_the_watermark_is_never_moved_itself() {
        let moving = |base_snapshot, from, to| Footing {
            base_snapshot,
            keys_checked: false,
            watermark: Some(WatermarkMove { from, to }),
        };
        for mode in MODES {
            may_commit(mode, &moving(3, 0, 7), now(3, false)).unwrap();
            for stale in [moving(2, 0, 7), moving(3, 1, 7)] {
                let error = may_commit(mode, &stale, now(3, false)).unwrap_err();
                assert!(error.reason_is("HEAD_MOVED"), "{mode:?} {stale:?}");
            }
            let back = may_commit(mode, &moving(3, 0, -1), now(3, false)).unwrap_err();
            assert_eq!(back.field_name(), Some("watermark"));
        }
    }

    #[test]
    fn a_base_from_the_future_is_a_mistake() {
        for base in [4, -1] {
            let error = may_commit(CommitMode::Append, &from(base, false), now(3, false));
            assert_eq!(error.unwrap_err().code(), Code::InvalidArgument);
        }
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
