//! What statistics leave of a block to be read: for plans, and to be shown.

use std::ops::Range;
use std::sync::Arc;

use filter::Filter;
use parquet::file::metadata::ParquetMetaData;
use service_error::ServiceError;
use tokio::runtime::Handle;

use crate::footer::{BlockFile, BlockLocation};
use crate::plan::{GroupPlan, plan};
use crate::read::BlockReader;

/// What a scan of a block will look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockSurvey {
    /// Rows of the block, ascending, neighbours joined.
    pub ranges: Vec<Range<u64>>,
    /// Row groups: (read, all).
    pub row_groups: (u64, u64),
    /// Pages of the filter's columns in these row groups: (read, all).
    pub pages: (u64, u64),
}

impl BlockReader {
    /// Tells what a scan with this filter would read, by statistics, page index
    /// and bloom filters.
    ///
    /// # Errors
    /// `DataLoss` for a damaged block, or as the object store fails.
    pub async fn survey(
        &self,
        location: &BlockLocation,
        filter: Option<Arc<Filter>>,
    ) -> Result<BlockSurvey, ServiceError> {
        let file = self.open(location).await?;
        let total = file.metadata().metadata().num_row_groups() as u64;
        let Some(filter) = filter else {
            let ranges = std::iter::once(0..location.row_count).collect();
            return Ok(BlockSurvey { ranges, row_groups: (total, total), pages: (0, 0) });
        };
        let (reader, runtime) = (self.clone(), Handle::current());
        let key = location.object_key.clone();
        self.work(&key, move || {
            let mut survey = BlockSurvey { row_groups: (0, total), ..BlockSurvey::default() };
            for group in plan(&file, Some(&filter), 0..file.location().row_count)? {
                let (read, all) = pages(&file, &filter, &group);
                survey.pages.1 += all;
                if !group.all && reader.ruled_out(&file, &filter, group.index, &runtime)? {
                    continue;
                }
                survey.row_groups.0 += 1;
                survey.pages.0 += read;
                for range in group.ranges {
                    match survey.ranges.last_mut() {
                        Some(last) if last.end == range.start => last.end = range.end,
                        _ => survey.ranges.push(range),
                    }
                }
            }
            Ok(survey)
        })
        .await
    }
}

/// Pages of the filter's columns that hold rows of the plan, and all of them.
fn pages(file: &BlockFile, filter: &Filter, group: &GroupPlan) -> (u64, u64) {
    let metadata: &ParquetMetaData = file.metadata().metadata();
    let (mut read, mut all) = (0, 0);
    let Some(offsets) = metadata.offset_index().and_then(|index| index.get(group.index)) else {
        return (0, 0);
    };
    let row_group = metadata.row_group(group.index);
    for (chunk, index) in row_group.columns().iter().zip(offsets) {
        let root = chunk.column_path().parts().first();
        if !root.is_some_and(|root| filter.columns().contains(root)) {
            continue;
        }
        let begins: Vec<u64> = index
            .page_locations()
            .iter()
            .map(|page| group.begin + u64::try_from(page.first_row_index).unwrap_or(0))
            .collect();
        all += begins.len() as u64;
        let end = group.begin + group.rows;
        for (at, begin) in begins.iter().enumerate() {
            let page = *begin..begins.get(at + 1).copied().unwrap_or(end);
            let from = group.ranges.partition_point(|range| range.end <= page.start);
            let is_read = group.ranges.get(from).is_some_and(|range| range.start < page.end);
            read += u64::from(is_read);
        }
    }
    (read, all)
}
