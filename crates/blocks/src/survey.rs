//! What statistics leave of a block to be read: for plans, and to be shown.

use std::ops::Range;
use std::sync::Arc;

use filter::Filter;
use service_error::ServiceError;

use crate::footer::BlockLocation;
use crate::plan::Planner;
use crate::read::BlockReader;
use crate::tally::Tally;

/// What a scan of a block will look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockSurvey {
    /// Rows of the block, ascending, neighbours joined.
    pub ranges: Vec<Range<u64>>,
    /// Row groups: (read, all).
    pub row_groups: (u64, u64),
    /// Pages of the filter's columns in these row groups: (read, all). Those
    /// of columns that are in memory are not looked at.
    pub pages: (u64, u64),
}

impl BlockReader {
    /// Tells what a scan with this filter would read, by statistics, bloom
    /// filters and page index.
    ///
    /// # Errors
    /// `DataLoss` for a damaged block, or as the object store fails.
    pub async fn survey(
        &self,
        location: &BlockLocation,
        filter: Option<Arc<Filter>>,
    ) -> Result<BlockSurvey, ServiceError> {
        let tally = Arc::new(Tally::default());
        let file = self.open(location, &tally).await?;
        let total = file.metadata().metadata().num_row_groups() as u64;
        let all = 0..location.row_count;
        if filter.is_none() {
            let ranges = std::iter::once(all).collect();
            return Ok(BlockSurvey { ranges, row_groups: (total, total), pages: (0, 0) });
        }
        let access = self.access(&tally);
        self.work(&location.object_key, move || {
            let planner = Planner::new(file, filter)?;
            let mut ranges: Vec<Range<u64>> = Vec::new();
            for index in planner.groups(&all) {
                let group = planner.group(index, &all, &access)?;
                for range in group.into_iter().flat_map(|group| group.ranges) {
                    match ranges.last_mut() {
                        Some(last) if last.end == range.start => last.end = range.end,
                        _ => ranges.push(range),
                    }
                }
            }
            let cost = access.tally.cost();
            Ok(BlockSurvey {
                ranges,
                row_groups: (cost.row_groups_read, total),
                pages: (cost.pages_read, cost.pages_read + cost.pages_skipped),
            })
        })
        .await
    }
}
