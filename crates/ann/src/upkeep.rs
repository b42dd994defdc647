//! Work in the background: sealing heads, merging segments, rebuilding what is mostly deleted.
//! The index says what is due; when and where it is done is the caller's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::{Control, Phase};
use crate::error::Result;
use crate::head::Head;
use crate::index::{Index, Live};
use crate::segment::{BuildOptions, Copied, Segment, SegmentBuilder};
use crate::settings::Settings;

/// When work is due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Upkeep {
    /// A head of this many vectors is sealed.
    pub head_rows_max: usize,
    /// A segment with a larger share of deleted vectors is rebuilt.
    pub deleted_share_max: f64,
    /// This many segments of about one size are merged.
    pub merge_at: usize,
    /// No merge makes a segment of more vectors.
    pub merged_rows_max: u64,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            head_rows_max: 20_000,
            deleted_share_max: 0.2,
            merge_at: 4,
            merged_rows_max: 20_000_000,
        }
    }
}

/// Something to do: heads or segments to make one segment of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Whether the heads are sealed.
    pub heads: bool,
    /// The segments that are made one.
    pub segments: Vec<PathBuf>,
    /// Vectors that the result will hold.
    pub rows: u64,
}

impl Task {
    /// Seals the heads now, however small.
    #[must_use]
    pub const fn seal() -> Self {
        Self { heads: true, segments: Vec::new(), rows: 0 }
    }
}

/// A task that has begun. Dropped, it changes nothing.
#[derive(Debug)]
pub struct Work {
    pub(crate) settings: Settings,
    pub(crate) segments: Vec<Arc<Live>>,
    pub(crate) heads: Vec<Arc<Head>>,
}

/// What [`Index::install`] did.
#[derive(Debug)]
pub struct Installed {
    /// The new segment; none if nothing was alive.
    pub added: Option<Arc<Segment>>,
    /// Files that the index no longer uses.
    pub replaced: Vec<PathBuf>,
}

impl Index {
    /// The most urgent thing to do, if anything is due.
    #[must_use]
    pub fn due(&self, upkeep: &Upkeep) -> Option<Task> {
        let state = self.state();
        let head_rows: usize = state.heads.iter().map(|head| head.rows()).sum();
        if head_rows >= upkeep.head_rows_max.max(1) {
            return Some(Task { rows: head_rows as u64, ..Task::seal() });
        }
        let mut tiers: BTreeMap<u32, Vec<(&Arc<Live>, u64)>> = BTreeMap::new();
        for live in &state.segments {
            let (rows, alive) = (u64::from(live.segment.rows()), live.alive().len());
            if (rows - alive) as f64 > rows as f64 * upkeep.deleted_share_max {
                return Some(task([live], alive));
            }
            let tier = (alive / upkeep.head_rows_max.max(1) as u64).checked_ilog(4).unwrap_or(0);
            tiers.entry(tier).or_default().push((live, alive));
        }
        tiers.into_values().find_map(|segments| {
            let rows = segments.iter().map(|(_, alive)| alive).sum();
            let due = segments.len() >= upkeep.merge_at.max(2) && rows <= upkeep.merged_rows_max;
            due.then(|| task(segments.iter().map(|(live, _)| *live), rows))
        })
    }
}

fn task<'a>(segments: impl IntoIterator<Item = &'a Arc<Live>>, rows: u64) -> Task {
    let segments = segments.into_iter().map(|live| live.segment.path().to_owned()).collect();
    Task { heads: false, segments, rows }
}

impl Work {
    /// Builds the segment of everything alive at `path`; none if nothing is.
    ///
    /// # Errors
    /// Cancellation, the memory bound, damage in a source, the file system's.
    pub fn build(
        &self,
        path: &Path,
        options: BuildOptions,
        control: &Control,
    ) -> Result<Option<Segment>> {
        let alive: Vec<_> = self.segments.iter().map(|live| live.alive()).collect();
        let heads: Vec<_> = self.heads.iter().map(|head| head.alive()).collect();
        let mut all: Vec<(u32, usize)> = Vec::new();
        for (source, numbers) in alive.iter().chain(&heads).enumerate() {
            all.extend(numbers.iter().map(|number| (number, source)));
        }
        all.sort_unstable();
        control.enter(Phase::Collecting, all.len() as u64);
        if all.is_empty() {
            return Ok(None);
        }
        let mut builder = SegmentBuilder::create(self.settings, path, options)?;
        let mut copied: Vec<_> =
            self.segments.iter().map(|live| Copied::of(&live.segment)).collect();
        for (number, source) in all {
            self.copy(number, source, &mut copied, &mut builder)?;
            control.advance(1)?;
        }
        self.segments.iter().try_for_each(|live| live.segment.expect_whole())?;
        builder.finish(control).map(Some)
    }

    /// Copies one vector; one that was deleted a moment ago may be gone.
    fn copy(
        &self,
        number: u32,
        source: usize,
        copied: &mut [Copied<'_>],
        builder: &mut SegmentBuilder,
    ) -> Result<()> {
        if let Some(segment) = copied.get_mut(source) {
            if let Some(bytes) = segment.vector(number)? {
                builder.add_bytes(number, bytes)?;
            }
        } else if let Some(head) = self.heads.get(source - self.segments.len())
            && let Some(bytes) = head.bytes(number)
        {
            builder.add_bytes(number, &bytes)?;
        }
        Ok(())
    }
}
