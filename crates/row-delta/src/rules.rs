//! The protocol's rules, without a database.

use std::collections::HashMap;
use std::sync::Arc;

use crate::DeltaRow;

/// What a writer finds when it holds the counter's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadNow {
    /// Bulk commits so far.
    pub epoch: i64,
    /// A bulk commit is under way that writers must wait for.
    pub is_fenced: bool,
    /// The newest write to one of the writer's keys, or to any if it was computed from all rows.
    pub key_seq: i64,
}

/// Whether a write may go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Write,
    /// Wait, then compute it again.
    Fenced,
    /// Compute it again.
    Moved,
}

/// A write was computed from the state at (`epoch`, `read_seq`): it stands only
/// if nothing it read has changed. An epoch that moved is no reason to wait.
pub(crate) const fn judge(epoch: i64, read_seq: i64, now: HeadNow) -> Verdict {
    if now.epoch != epoch {
        return Verdict::Moved;
    }
    if now.is_fenced {
        return Verdict::Fenced;
    }
    if now.key_seq > read_seq { Verdict::Moved } else { Verdict::Write }
}

/// The last change of each key, in order of seq.
#[must_use]
pub fn latest(rows: Vec<DeltaRow>) -> Vec<DeltaRow> {
    let mut newest: HashMap<Arc<[u8]>, i64> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let seq = newest.entry(Arc::clone(&row.key)).or_insert(row.seq);
        *seq = row.seq.max(*seq);
    }
    let mut kept: Vec<DeltaRow> =
        rows.into_iter().filter(|row| newest.get(&row.key) == Some(&row.seq)).collect();
    kept.sort_by_key(|row| row.seq);
    kept
}
