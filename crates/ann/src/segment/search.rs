//! Searching one segment: which way is the cheapest, and that way.

use roaring::RoaringBitmap;

use crate::codes::{Coded, Table};
use crate::error::Result;
use crate::graph::{Scratch, descend, key, walk, walk_filtered};
use crate::nearest::Nearest;
use crate::query::{Hit, Part, Query, Strategy};
use crate::segment::Segment;
use crate::segment::open::Walked;
use crate::vector::Exact;

/// How many rows are measured between two looks at the control.
const ROWS_BETWEEN_CHECKS: usize = 4_096;
/// Rows of a scan that are measured at once.
const BATCH: usize = 64;
/// How many candidates ahead exact rows are asked for.
const AHEAD: usize = 4;
/// Nodes that a walk measures for each candidate that it keeps.
const MET_PER_CANDIDATE: f64 = 14.0;
/// What measuring a node on a walk costs, in rows of a scan.
const WALK_COST: f64 = 2.0;

/// One search of one segment.
struct Search<'a> {
    segment: &'a Segment,
    query: &'a Query<'a>,
    exact: &'a Exact,
    /// Alive and allowed.
    matching: &'a RoaringBitmap,
    matching_count: u64,
    /// Candidates of a walk.
    ef: usize,
    /// Candidates that are measured by their exact values.
    rescored: usize,
}

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
        if part.matching == 0 {
            return Ok(part);
        }
        let ef = query.ef.unwrap_or_else(|| ef_for(query.k)).max(query.k);
        let rescored = (query.k * 2 + 10).min(ef.max(query.k + 10));
        let search = Search {
            segment: self,
            query,
            exact,
            matching,
            matching_count: part.matching,
            ef: ef.max(rescored),
            rescored,
        };
        (part.strategy, part.scanned) = search.run(nearest)?;
        Ok(part)
    }

    /// The rows of ascending numbers.
    pub(crate) fn rows_of<'a>(
        &'a self,
        numbers: &'a RoaringBitmap,
    ) -> impl Iterator<Item = (u32, usize)> + 'a {
        let here = self.numbers();
        let mut from = 0;
        numbers.iter().filter_map(move |number| {
            // Where none between is missing, it is as much farther on as it is greater.
            let ahead = here.get(from).and_then(|first| number.checked_sub(*first)).unwrap_or(0);
            if here.get(from + ahead as usize) == Some(&number) {
                from += ahead as usize;
            } else {
                from += ascend(&here[from..], number);
            }
            (here.get(from) == Some(&number)).then_some((number, from))
        })
    }
}

/// Candidates of a walk for `k` hits, by measurement.
fn ef_for(k: usize) -> usize {
    (k * 2).max(64)
}

impl Search<'_> {
    fn run(&self, nearest: &mut Nearest) -> Result<(Strategy, u64)> {
        // Few enough that all are measured exactly anyway.
        if self.query.exact || self.matching_count <= self.rescored as u64 {
            return Ok((Strategy::ExactScan, self.scan_exactly(nearest)?));
        }
        let coded = self.segment.coder().query(self.exact);
        let table = self.segment.table();
        let walked = self.segment.walked().filter(|_| !self.scan_is_cheaper());
        self.segment.with_scratch(|scratch| {
            let mut met = 0;
            if let Some(walked) = walked {
                let strategy = self.walk(&walked, &table, &coded, scratch);
                met = scratch.visited.count() as u64;
                if let Some(strategy) = strategy {
                    self.rescore(strategy, scratch, nearest)?;
                    return Ok((strategy, met));
                }
            }
            let scanned = self.scan_codes(&table, &coded, scratch)?;
            self.rescore(Strategy::CodeScan, scratch, nearest)?;
            Ok((Strategy::CodeScan, met + scanned))
        })
    }

    /// Whether measuring all that match costs less than walking until `ef` of them are found.
    fn scan_is_cheaper(&self) -> bool {
        let matching = self.matching_count as f64;
        let rows = f64::from(self.segment.rows());
        let walk = self.ef as f64 * MET_PER_CANDIDATE * WALK_COST * rows / matching;
        matching < walk
    }

    /// Walks the graph; none if the walk was given up for a scan.
    fn walk(
        &self,
        walked: &Walked<'_>,
        table: &Table<'_>,
        coded: &Coded,
        scratch: &mut Scratch,
    ) -> Option<Strategy> {
        let probe = coded.probe();
        let rows = self.segment.rows() as usize;
        let entry = descend(&walked.upper, walked.entry, table, &probe, scratch);
        scratch.visited.clear(rows);
        if self.matching_count == u64::from(self.segment.rows()) {
            walk(&walked.base, table, &probe, &[entry], self.ef, scratch);
            return Some(Strategy::Graph);
        }
        let (numbers, row_of_slot) = (self.segment.numbers(), self.segment.row_of_slot());
        let is_allowed = |slot: u32| {
            let row = row_of_slot[slot as usize];
            self.matching.contains(numbers[row as usize])
        };
        // What a scan would have cost: a filter that shuns the query's surroundings would
        // otherwise lead through the whole graph.
        let met_max = (self.matching_count as f64 / WALK_COST) as usize;
        let limits = (self.ef, met_max);
        let through =
            walk_filtered(&walked.base, table, &probe, entry, limits, is_allowed, scratch);
        through.then_some(Strategy::FilteredGraph)
    }

    /// Measures the codes of all that match; the nearest are in `found`.
    fn scan_codes(&self, table: &Table<'_>, coded: &Coded, scratch: &mut Scratch) -> Result<u64> {
        let probe = coded.probe();
        let Scratch { found, nodes, measured, .. } = scratch;
        found.clear(self.rescored);
        let mut scanned = 0;
        let slots = self.segment.slot_of_row();
        let mut rows = self.segment.rows_of(self.matching);
        loop {
            nodes.clear();
            nodes.extend(rows.by_ref().take(BATCH).map(|(_, row)| slots[row]));
            if nodes.is_empty() {
                return Ok(scanned as u64);
            }
            if scanned % ROWS_BETWEEN_CHECKS == 0
                && let Some(control) = self.query.control
            {
                control.check()?;
            }
            table.measure(&probe, nodes, measured);
            for (&node, &distance) in nodes.iter().zip(&measured.distances) {
                found.offer(key(distance), node);
            }
            scanned += nodes.len();
        }
    }

    /// Measures the nearest candidates by their exact values.
    fn rescore(&self, strategy: Strategy, scratch: &Scratch, nearest: &mut Nearest) -> Result<()> {
        let from = if strategy == Strategy::Graph { &scratch.pool } else { &scratch.found };
        let (numbers, row_of_slot) = (self.segment.numbers(), self.segment.row_of_slot());
        let norms = self.segment.norms();
        let mut rows = [0; AHEAD];
        let slots = from.nodes().take(self.rescored);
        // The exact rows are far apart: each is asked for some steps before it is measured.
        let later = slots.map(|slot| Some(row_of_slot[slot as usize])).chain([None; AHEAD]);
        for (at, row) in later.enumerate() {
            let now = std::mem::replace(&mut rows[at % AHEAD], row.unwrap_or(u32::MAX)) as usize;
            if let Some(row) = row {
                self.segment.prefetch_row(row as usize);
            }
            if at < AHEAD || now == u32::MAX as usize {
                continue;
            }
            let row = now;
            let norm = norms.and_then(|norms| norms.get(row).copied());
            let distance = self.exact.distance(self.segment.row(row)?, norm);
            nearest.offer(Hit { number: numbers[row], distance });
        }
        Ok(())
    }

    fn scan_exactly(&self, nearest: &mut Nearest) -> Result<u64> {
        let norms = self.segment.norms();
        let mut scanned = 0;
        for (number, row) in self.segment.rows_of(self.matching) {
            if scanned % ROWS_BETWEEN_CHECKS == 0
                && let Some(control) = self.query.control
            {
                control.check()?;
            }
            let norm = norms.and_then(|norms| norms.get(row).copied());
            let distance = self.exact.distance(self.segment.row(row)?, norm);
            nearest.offer(Hit { number, distance });
            scanned += 1;
        }
        Ok(scanned as u64)
    }
}

/// The place of the first number that is not below `wanted`: by steps that double, then halve.
fn ascend(numbers: &[u32], wanted: u32) -> usize {
    let mut step = 1;
    while numbers.get(step - 1).is_some_and(|number| *number < wanted) {
        step *= 2;
    }
    let (begin, end) = ((step / 2).min(numbers.len()), step.min(numbers.len()));
    begin + numbers[begin..end].partition_point(|number| *number < wanted)
}
