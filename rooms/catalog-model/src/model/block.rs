//! Blocks: the Parquet files that snapshots list.

use std::collections::HashSet;

use ids::{BlockId, UploadId};
use serde::{Deserialize, Serialize};
use service_error::ServiceError;

use crate::model::ColumnStats;

const OBJECT_KEY_BYTES_MAX: usize = 512;
const BLOCKS_PER_COMMIT_MAX: usize = 10_000;
const BOUND_BYTES_MAX: usize = 64 << 10;
const CONTENT_HASH_BYTES: usize = 32;

/// A file as the manifest knows it, for whoever checks files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its id.
    pub id: uuid::Uuid,
    /// Below the item store's prefix.
    pub object_key: String,
    /// Of the file.
    pub byte_count: i64,
    /// BLAKE3-256 of the file.
    pub content_hash: Vec<u8>,
}

/// One immutable Parquet file.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub id: BlockId,
    /// Below the item store's prefix.
    pub object_key: String,
    pub row_count: i64,
    pub byte_count: i64,
    /// Of the Parquet footer.
    pub footer_length: i64,
    /// BLAKE3-256 of the file.
    pub content_hash: Vec<u8>,
    pub columns: Vec<ColumnStats>,
}

/// A block as a snapshot lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestEntry {
    pub block: Block,
    /// The snapshot that added it.
    pub snapshot_begin: i64,
    /// Its place among the blocks of that snapshot.
    pub ordinal: i64,
    /// Live rows before it in storage order, at the listed snapshot.
    pub row_begin: i64,
    /// Rows that the listed snapshot does not see.
    pub deleted_count: i64,
    /// Their positions in portable form; empty: none.
    pub deletions: Vec<u8>,
    /// The snapshot that last changed them; 0: none did.
    pub deletion_revision: i64,
}

impl ManifestEntry {
    /// Rows that the listed snapshot sees.
    #[must_use]
    pub const fn live_rows(&self) -> i64 {
        self.block.row_count - self.deleted_count
    }

    /// The cursor of a page that ends with the entry.
    #[must_use]
    pub const fn cursor(&self) -> BlockCursor {
        BlockCursor {
            snapshot_begin: self.snapshot_begin,
            ordinal: self.ordinal,
            row_end: self.row_begin + self.live_rows(),
        }
    }
}

/// Where a page of blocks ends in storage order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockCursor {
    pub snapshot_begin: i64,
    pub ordinal: i64,
    /// Live rows up to and including the cursor's block.
    pub row_end: i64,
}

/// Checks the blocks that a commit adds; `columns` are the dataset's.
///
/// # Errors
/// `InvalidArgument` naming the block and what is wrong with it.
pub fn check_blocks(
    blocks: &[Block],
    upload: UploadId,
    columns: &[String],
) -> Result<(), ServiceError> {
    if blocks.len() > BLOCKS_PER_COMMIT_MAX {
        let message =
            format!("there are {}; a commit adds at most {BLOCKS_PER_COMMIT_MAX}", blocks.len());
        return Err(ServiceError::invalid("blocks", message));
    }
    let known: HashSet<&str> = columns.iter().map(String::as_str).collect();
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    for block in blocks {
        let wrong =
            |what: String| ServiceError::invalid("blocks", format!("block {} {what}", block.id));
        check_key(&block.object_key, upload).map_err(&wrong)?;
        check_numbers(block).map_err(|what| wrong(what.to_owned()))?;
        check_columns(block, &known).map_err(&wrong)?;
        if !ids.insert(block.id) || !keys.insert(&block.object_key) {
            return Err(wrong("or its object is there twice".to_owned()));
        }
    }
    Ok(())
}

/// A block that does not lie below its upload would outlive it, or be swept
/// with another one.
fn check_key(key: &str, upload: UploadId) -> Result<(), String> {
    let is_plain =
        !key.contains("..") && !key.contains("//") && !key.starts_with('/') && !key.contains('\0');
    if !is_plain || key.len() > OBJECT_KEY_BYTES_MAX {
        return Err("has an object key that is no plain path".to_owned());
    }
    let (hyphenated, simple) = (upload.to_string(), upload.uuid().simple().to_string());
    if key.split('/').any(|part| part == hyphenated || part == simple) {
        Ok(())
    } else {
        Err(format!("has an object key that is not below upload {upload}"))
    }
}

fn check_numbers(block: &Block) -> Result<(), &'static str> {
    if block.row_count <= 0 {
        return Err("has no rows");
    }
    if block.footer_length <= 0 || block.footer_length > block.byte_count {
        return Err("has a footer that does not fit into its bytes");
    }
    if block.content_hash.len() != CONTENT_HASH_BYTES {
        return Err("has no BLAKE3-256 hash");
    }
    Ok(())
}

fn check_columns(block: &Block, known: &HashSet<&str>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for stats in &block.columns {
        let column = &stats.column;
        if !known.contains(column.as_str()) {
            return Err(format!("has statistics of {column:?}, which the dataset has not"));
        }
        if !seen.insert(column) {
            return Err(format!("has statistics of {column:?} twice"));
        }
        if !(0..=block.row_count).contains(&stats.null_count) {
            return Err(format!(
                "counts {} nulls of {column:?} in {} rows",
                stats.null_count, block.row_count
            ));
        }
        let too_long = |bound: &Option<crate::model::Scalar>| {
            bound.as_ref().is_some_and(|value| value.byte_length() > BOUND_BYTES_MAX)
        };
        if too_long(&stats.min) || too_long(&stats.max) {
            return Err(format!(
                "has a bound of {column:?} of more than {BOUND_BYTES_MAX} bytes: cut it"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::Scalar;

    fn block(upload: UploadId) -> Block {
        Block {
            id: BlockId::new(),
            object_key: format!("d/{upload}/0.parquet"),
            row_count: 10,
            byte_count: 1_000,
            footer_length: 100,
            content_hash: vec![7; 32],
            columns: vec![ColumnStats {
                column: "n".into(),
                null_count: 0,
                min: Some(Scalar::Int(1)),
                max: Some(Scalar::Int(2)),
                exact: true,
            }],
        }
    }

    #[test]
    fn a_sound_block_passes() {
        let upload = UploadId::new();
        check_blocks(
            &[block(upload), Block { object_key: format!("d/{upload}/1"), ..block(upload) }],
            upload,
            &["n".into()],
        )
        .unwrap();
    }

    #[test]
    fn every_lie_is_refused() {
        let upload = UploadId::new();
        let bend = |change: fn(&mut Block)| {
            let mut bent = block(upload);
            change(&mut bent);
            check_blocks(&[bent], upload, &["n".into()]).unwrap_err().message().to_owned()
        };
        assert!(bend(|b| b.row_count = 0).contains("no rows"));
        assert!(bend(|b| b.footer_length = 2_000).contains("footer"));
        assert!(bend(|b| b.content_hash = vec![]).contains("BLAKE3"));
        assert!(bend(|b| b.object_key = "d/other/0".into()).contains("not below upload"));
        assert!(bend(|b| b.object_key = format!("../{}", b.object_key)).contains("no plain path"));
        assert!(bend(|b| b.columns[0].column = "m".into()).contains("has not"));
        assert!(bend(|b| b.columns[0].null_count = 11).contains("11 nulls"));
        assert!(
            bend(|b| b.columns[0].max = Some(Scalar::Text("x".repeat(70_000)))).contains("cut it")
        );
        let twice = block(upload);
        assert!(check_blocks(&[twice.clone(), twice], upload, &["n".into()]).is_err());
    }
}
