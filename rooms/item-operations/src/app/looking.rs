//! What a read looks at: the blocks of a snapshot and how they are read.

use std::sync::Arc;

use blocks::{BlockRows, Position, Reading, Tally};
use caller::Caller;
use filter::{Filter, Pruned};
use service_error::ServiceError;

use crate::app::App;
use crate::app::manifest::{Manifest, ManifestBlock};
use crate::app::reading::Opened;

/// A page ends when its rows take about this much memory, or what an answer may hold.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

/// The blocks of a snapshot, and the filter.
pub struct Look {
    manifest: Manifest,
    pub reading: Reading,
}

impl Look {
    pub fn blocks(&self) -> &[ManifestBlock] {
        &self.manifest
    }

    /// What the manifest tells of each block.
    pub fn prune(&self) -> impl Fn(usize) -> Pruned + Sync {
        move |block| match (self.manifest.get(block), &self.reading.filter) {
            (Some(block), Some(filter)) => block.prune(filter),
            _ => Pruned::All,
        }
    }

    fn tail_rows(&self) -> u64 {
        self.reading.tail.as_ref().map_or(0, |tail| tail.num_rows() as u64)
    }

    /// No row of a block is deleted, and none is in memory only: bounds of the
    /// manifest are those of the rows.
    pub fn is_whole(&self) -> bool {
        let whole = |block: &ManifestBlock| {
            let rows: &BlockRows = block.as_ref();
            rows.live_count() == rows.location.row_count
        };
        self.tail_rows() == 0 && self.manifest.iter().all(whole)
    }

    /// How many rows there are.
    pub fn row_count(&self) -> u64 {
        let in_blocks: u64 =
            self.manifest.iter().map(|block| AsRef::<BlockRows>::as_ref(block).live_count()).sum();
        in_blocks + self.tail_rows()
    }

    /// Where the row of a number is, counted from 0 in storage order; beyond
    /// the last row, the end.
    pub fn position(&self, number: u64) -> Position {
        let mut left = number;
        for (index, block) in self.manifest.iter().enumerate() {
            let rows: &BlockRows = block.as_ref();
            match rows.live_row(left) {
                Some(row) => return Position { block: index, row },
                None => left -= rows.live_count(),
            }
        }
        Position { block: self.manifest.len(), row: left.min(self.tail_rows()) }
    }
}

impl App {
    pub async fn look(
        &self,
        caller: &Caller,
        opened: &Opened,
        filter: Option<Arc<Filter>>,
        tally: &Arc<Tally>,
    ) -> Result<Look, ServiceError> {
        let view = self.view(caller, opened).await?;
        let reading = Reading {
            tally: Arc::clone(tally),
            tail: view.tail.clone(),
            ..Reading::new(Arc::clone(&opened.schema), filter)
        };
        Ok(Look { manifest: Arc::clone(&view.blocks), reading })
    }
}
