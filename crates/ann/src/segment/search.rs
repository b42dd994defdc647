//! Searching one segment.

use roaring::RoaringBitmap;

use crate::error::Result;
use crate::nearest::Nearest;
use crate::query::{Hit, Part, Query, Strategy};
use crate::segment::Segment;
use crate::vector::Exact;

/// How many rows are measured between two looks at the control.
const ROWS_BETWEEN_CHECKS: usize = 4_096;

impl Segment {
    /// Offers the nearest of the rows in `alive` that the query allows.
    pub(crate) fn search(
        &self,
        query: &Query<'_>,
        exact: &Exact,
        alive: &RoaringBitmap,
        nearest: &mut Nearest,
    ) -> Result<Part> {
        let matching = query.allowed.map(|allowed| allowed & alive);
        let matching = matching.as_ref().unwrap_or(alive);
        let mut part = Part {
            strategy: Strategy::Nothing,
            alive: alive.len(),
            matching: matching.len(),
            scanned: 0,
        };
        if part.matching > 0 {
            part.strategy = Strategy::ExactScan;
            part.scanned = self.scan_exactly(query, exact, matching, nearest)?;
        }
        Ok(part)
    }

    fn scan_exactly(
        &self,
        query: &Query<'_>,
        exact: &Exact,
        matching: &RoaringBitmap,
        nearest: &mut Nearest,
    ) -> Result<u64> {
        let norms = self.norms();
        let mut scanned = 0;
        for (number, row) in self.rows_of(matching) {
            if scanned % ROWS_BETWEEN_CHECKS == 0
                && let Some(control) = query.control
            {
                control.check()?;
            }
            let norm = norms.and_then(|norms| norms.get(row).copied());
            nearest.offer(Hit { number, distance: exact.distance(self.row(row)?, norm) });
            scanned += 1;
        }
        Ok(scanned as u64)
    }

    /// The rows of ascending numbers.
    pub(crate) fn rows_of<'a>(
        &'a self,
        numbers: &'a RoaringBitmap,
    ) -> impl Iterator<Item = (u32, usize)> + 'a {
        let here = self.numbers();
        let mut from = 0;
        numbers.iter().filter_map(move |number| {
            from += ascend(&here[from..], number);
            (here.get(from) == Some(&number)).then_some((number, from))
        })
    }
}

/// The place of the first number that is not below `wanted`: by steps that double, then halve.
fn ascend(numbers: &[u32], wanted: u32) -> usize {
    let mut step = 1;
    while numbers.get(step - 1).is_some_and(|number| *number < wanted) {
        step *= 2;
    }
    let (begin, end) = (step / 2, step.min(numbers.len()));
    begin.min(end) + numbers[begin.min(end)..end].partition_point(|number| *number < wanted)
}
