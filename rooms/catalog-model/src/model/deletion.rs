//! Deleted rows of blocks: what a commit adds to them, and when it may.

use std::collections::HashSet;

use ids::BlockId;
use roaring::RoaringBitmap;
use service_error::ServiceError;

/// Far more than the positions of a block's rows take.
const POSITIONS_BYTES_MAX: usize = 16 << 20;
const BLOCKS_TOUCHED_MAX: usize = 10_000;

/// Rows of a block that a commit deletes.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDeletion {
    pub block: BlockId,
    /// The revision of the block's deletions that the commit was computed from.
    pub revision: i64,
    /// The added positions.
    pub positions: RoaringBitmap,
}

/// A block that a commit takes out of the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRemoval {
    pub block: BlockId,
    pub revision: i64,
}

/// A block as the head has it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockNow {
    pub block: BlockId,
    pub row_count: i64,
    pub byte_count: i64,
    /// The snapshot that last changed its deleted rows; 0: none did.
    pub revision: i64,
    pub deleted: RoaringBitmap,
}

impl BlockNow {
    /// Rows that are not deleted.
    pub fn live_rows(&self) -> i64 {
        self.row_count - count(&self.deleted)
    }

    /// Refuses a commit that knew the block otherwise.
    ///
    /// # Errors
    /// `Conflict` with reason `BLOCK_TOUCHED` and the block.
    pub fn is_as_read(&self, revision: i64) -> Result<(), ServiceError> {
        if self.revision == revision { Ok(()) } else { Err(touched(self.block)) }
    }

    /// The block's deleted rows after a commit.
    ///
    /// # Errors
    /// As [`Self::is_as_read`]; `InvalidArgument` for positions that the block
    /// has not, or that are deleted already.
    pub fn after(&self, deletion: &BlockDeletion) -> Result<RoaringBitmap, ServiceError> {
        self.is_as_read(deletion.revision)?;
        let wrong =
            |what| ServiceError::invalid("deletions", format!("block {} {what}", self.block));
        match deletion.positions.max() {
            None => return Err(wrong("is named without a position")),
            Some(last) if i64::from(last) >= self.row_count => {
                return Err(wrong("has no row at the last position"));
            }
            Some(_) => {}
        }
        if !self.deleted.is_disjoint(&deletion.positions) {
            return Err(wrong("has a position that is deleted already"));
        }
        Ok(&self.deleted | &deletion.positions)
    }
}

/// The block is not in the head any more, or is not as the commit read it.
pub fn touched(block: BlockId) -> ServiceError {
    let message =
        format!("a later commit touched block {block}; compute the commit from the head again");
    ServiceError::conflict(message).reason("BLOCK_TOUCHED").with("block", block)
}

/// How many positions, as SQL counts.
pub fn count(positions: &RoaringBitmap) -> i64 {
    i64::try_from(positions.len()).unwrap_or(i64::MAX)
}

/// Reads positions in their portable form.
///
/// # Errors
/// `InvalidArgument`.
pub fn read_positions(bytes: &[u8]) -> Result<RoaringBitmap, ServiceError> {
    if bytes.len() > POSITIONS_BYTES_MAX {
        let message = format!("positions take at most {POSITIONS_BYTES_MAX} bytes a block");
        return Err(ServiceError::invalid("deletions.positions", message));
    }
    RoaringBitmap::deserialize_from(bytes)
        .map_err(|error| ServiceError::invalid("deletions.positions", error))
}

/// Positions in their portable form.
pub fn write_positions(positions: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(positions.serialized_size());
    // A vector takes all that is written to it.
    let _ = positions.serialize_into(&mut bytes);
    bytes
}

/// Checks that a commit names each block once.
///
/// # Errors
/// `InvalidArgument`.
pub fn check_touched(
    deletions: &[BlockDeletion],
    removals: &[BlockRemoval],
) -> Result<(), ServiceError> {
    if deletions.len() + removals.len() > BLOCKS_TOUCHED_MAX {
        let message = format!("a commit touches at most {BLOCKS_TOUCHED_MAX} blocks");
        return Err(ServiceError::invalid("deletions", message));
    }
    let mut seen = HashSet::new();
    let named = deletions.iter().map(|d| d.block).chain(removals.iter().map(|r| r.block));
    for block in named {
        if !seen.insert(block) {
            return Err(ServiceError::invalid(
                "deletions",
                format!("block {block} is named twice"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn now(deleted: &[u32]) -> BlockNow {
        BlockNow {
            block: BlockId::new(),
            row_count: 10,
            byte_count: 100,
            revision: 3,
            deleted: deleted.iter().copied().collect(),
        }
    }

    fn deletion(now: &BlockNow, revision: i64, positions: &[u32]) -> BlockDeletion {
        BlockDeletion { block: now.block, revision, positions: positions.iter().copied().collect() }
    }

    #[test]
    fn positions_add_up() {
        let block = now(&[1]);
        let after = block.after(&deletion(&block, 3, &[2, 9])).unwrap();
        assert_eq!(after.iter().collect::<Vec<_>>(), [1, 2, 9]);
        assert_eq!(block.live_rows(), 9);
        assert_eq!(read_positions(&write_positions(&after)).unwrap(), after);
    }

    #[test]
    fn what_was_touched_meanwhile_is_a_conflict() {
        let block = now(&[1]);
        assert!(block.after(&deletion(&block, 2, &[2])).unwrap_err().reason_is("BLOCK_TOUCHED"));
    }

    #[test]
    fn positions_that_lie_are_refused() {
        let block = now(&[1]);
        for positions in [&[10][..], &[1], &[]] {
            let error = block.after(&deletion(&block, 3, positions)).unwrap_err();
            assert_eq!(error.field_name(), Some("deletions"), "{positions:?}");
        }
        assert!(read_positions(b"nonsense").is_err());
        let twice = [deletion(&block, 3, &[2]), deletion(&block, 3, &[3])];
        assert!(check_touched(&twice, &[]).is_err());
    }
}
