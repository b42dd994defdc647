//! Searching one segment: which way is the cheapest, and that way.

use roaring::RoaringBitmap;

use crate::codes::{Coded, Table};
use crate::error::Result;
use crate::graph::{Base, Links, Scratch, descend, key, walk, walk_filtered};
use crate::nearest::Nearest;
use crate::query::{Hit, Part, Query, Strategy};
use crate::segment::Segment;
use crate::segment::open::Walked;
use crate::segment::sketches::Sketches;
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
/// Fewer rows are scanned without sketches, which must be made first.
const SKETCHED_FROM: u64 = 1_000;
/// A scan by sketches measures so many times as many codes in each round, until one leaves the
/// nearest as they were: so many at least. A filter that keeps what lies close together leaves
/// sketches little to tell apart, and one round that betters nothing by chance says little.
const GROWTH: usize = 3;
const DECISIVE: usize = 10;

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
        self.expect_whole()?;
        Ok(part)
    }

    /// The first number, if none between it and the last is missing: a row is as far on as its
    /// number is greater.
    fn dense_from(&self) -> Option<u32> {
        let (first, last) = (self.numbers().first()?, self.numbers().last()?);
        (last - first == self.rows() - 1).then_some(*first)
    }

    /// Adds the rows of ascending numbers.
    fn extend_rows(&self, numbers: &RoaringBitmap, rows: &mut Vec<u32>) {
        let Some(first) = self.dense_from() else {
            rows.extend(self.rows_of(numbers).map(|(_, row)| row as u32));
            return;
        };
        let begin = rows.len();
        rows.resize(begin + numbers.len() as usize, 0);
        let filled = numbers.iter().next_many(&mut rows[begin..]).len();
        rows.truncate(begin + filled);
        rows[begin..].iter_mut().for_each(|number| *number -= first);
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
        let scan_cost = self.scan_cost();
        let walked = self.segment.walked().filter(|_| self.walk_cost() < scan_cost);
        self.segment.with_scratch(|scratch| {
            let mut met = 0;
            if let Some(walked) = walked {
                let strategy = self.walk(&walked, scan_cost, &table, &coded, scratch);
                met = scratch.visited.count() as u64;
                if let Some(strategy) = strategy {
                    self.rescore(strategy, scratch, nearest)?;
                    return Ok((strategy, met));
                }
            }
            let (strategy, scanned) = match self.sketches() {
                Some(sketches) => {
                    let scanned = self.scan_sketches(sketches, &table, &coded, scratch)?;
                    (Strategy::SketchScan, scanned)
                }
                None => (Strategy::CodeScan, self.scan_codes(&table, &coded, scratch)?),
            };
            self.rescore(strategy, scratch, nearest)?;
            Ok((strategy, met + scanned))
        })
    }

    /// What walking until `ef` that match are found costs.
    fn walk_cost(&self) -> f64 {
        let met = self.ef as f64 * MET_PER_CANDIDATE / self.matching_count as f64;
        met * f64::from(self.segment.rows()) * WALK_COST * self.code_cost()
    }

    fn code_cost(&self) -> f64 {
        read_cost(self.segment.table().row_bytes())
    }

    /// What measuring the codes of all that match costs.
    fn plain_cost(&self) -> f64 {
        self.matching_count as f64 * self.code_cost()
    }

    /// What measuring all that match costs, as far as is known before sketches are made.
    fn scan_cost(&self) -> f64 {
        let (plain, walk) = (self.plain_cost(), self.walk_cost());
        let size = self.segment.sketch_size().filter(|_| self.matching_count >= SKETCHED_FROM);
        let Some((bytes, reach)) = size else { return plain };
        let sketched = plain.min(self.sketch_cost(bytes, reach));
        // Whether there is room for them is asked only where it decides.
        if sketched <= walk && walk < plain && self.sketches().is_none() {
            return plain;
        }
        sketched
    }

    /// What a scan by sketches of so many bytes costs.
    fn sketch_cost(&self, bytes: usize, reach: usize) -> f64 {
        let nearest = self.reach(reach) as f64 * self.code_cost();
        self.matching_count as f64 * run_cost(bytes) + nearest
    }

    /// The sketches that a scan goes by first, if that is cheaper.
    fn sketches(&self) -> Option<&Sketches> {
        let plain = self.plain_cost();
        let wanted = self.matching_count >= SKETCHED_FROM;
        let sketches = wanted.then(|| self.segment.sketches(self.query.room));
        sketches
            .flatten()
            .filter(|sketches| self.sketch_cost(sketches.width_bytes(), sketches.reach()) < plain)
    }

    /// How many of the nearest by sketches are measured by their codes, usually.
    fn reach(&self, of_ten: usize) -> usize {
        // Half of it does not depend on how many are wanted.
        (of_ten * (self.query.k + 10) / 20).max(self.ef)
    }

    /// Walks the graph; none if the walk was given up for a scan.
    fn walk(
        &self,
        walked: &Walked<'_>,
        scan_cost: f64,
        table: &Table<'_>,
        coded: &Coded,
        scratch: &mut Scratch,
    ) -> Option<Strategy> {
        let entry = descend(&walked.upper, walked.entry, table, &coded.probe(), scratch);
        // What a scan would have cost: a filter that shuns the query's surroundings would
        // otherwise lead through the whole graph.
        let met_max = (scan_cost / self.code_cost() / WALK_COST) as usize;
        match &walked.base {
            Base::Wide(links) => self.walk_from((entry, met_max), links, table, coded, scratch),
            Base::Narrow(links) => self.walk_from((entry, met_max), links, table, coded, scratch),
        }
    }

    fn walk_from(
        &self,
        (entry, met_max): (u32, usize),
        links: &impl Links,
        table: &Table<'_>,
        coded: &Coded,
        scratch: &mut Scratch,
    ) -> Option<Strategy> {
        let probe = coded.probe();
        let rows = self.segment.rows() as usize;
        scratch.visited.clear(rows);
        if self.matching_count == u64::from(self.segment.rows()) {
            walk(links, table, &probe, &[entry], self.ef, scratch);
            // Where few are linked together, none of the others is ever met.
            return (scratch.pool.len() >= self.query.k.min(rows)).then_some(Strategy::Graph);
        }
        let (numbers, row_of_slot) = (self.segment.numbers(), self.segment.row_of_slot());
        let dense = self.segment.dense_from();
        let is_allowed = |slot: u32| {
            let row = row_of_slot[slot as usize];
            let number = dense.map_or_else(|| numbers[row as usize], |first| first + row);
            self.matching.contains(number)
        };
        let least = self.rescored.min(self.matching_count as usize);
        let limits = (self.ef, least, met_max);
        let through = walk_filtered(links, table, &probe, entry, limits, is_allowed, scratch);
        through.then_some(Strategy::FilteredGraph)
    }

    /// Measures the codes of all that match; the nearest are in `found`.
    fn scan_codes(&self, table: &Table<'_>, coded: &Coded, scratch: &mut Scratch) -> Result<u64> {
        let probe = coded.probe();
        let Scratch { found, nodes, measured, rows, .. } = scratch;
        rows.clear();
        self.segment.extend_rows(self.matching, rows);
        found.clear(self.rescored);
        let slots = self.segment.slot_of_row();
        for rows in rows.chunks(ROWS_BETWEEN_CHECKS) {
            if let Some(control) = self.query.control {
                control.check()?;
            }
            for rows in rows.chunks(BATCH) {
                nodes.clear();
                nodes.extend(rows.iter().map(|row| slots[*row as usize]));
                table.measure(&probe, nodes, measured);
                for (&node, &distance) in nodes.iter().zip(&measured.distances) {
                    found.offer(key(distance), node);
                }
            }
        }
        Ok(rows.len() as u64)
    }

    /// Measures the sketches of all that match, and the codes of the nearest until more of them
    /// better nothing; the nearest of those are in `found`.
    fn scan_sketches(
        &self,
        sketches: &Sketches,
        table: &Table<'_>,
        coded: &Coded,
        scratch: &mut Scratch,
    ) -> Result<u64> {
        let Scratch { found, nodes, measured, rows, differing, near, .. } = scratch;
        rows.clear();
        self.segment.extend_rows(self.matching, rows);
        differing.clear();
        differing.resize(rows.len(), 0);
        let query = sketches.sketched(coded, table);
        let parts = differing.chunks_mut(ROWS_BETWEEN_CHECKS);
        for (rows, out) in rows.chunks(ROWS_BETWEEN_CHECKS).zip(parts) {
            if let Some(control) = self.query.control {
                control.check()?;
            }
            sketches.measure(&query, rows, out);
        }
        let counts = Counts::of(differing, query.len() * 64);
        let (slots, probe) = (self.segment.slot_of_row(), coded.probe());
        found.clear(self.rescored);
        let decisive = self.query.k.max(DECISIVE).min(self.rescored) - 1;
        let (mut from, mut gathered, mut before) = (-1, -1, None);
        let mut wanted = self.reach(sketches.reach()) / 4;
        loop {
            let to = counts.limit(wanted);
            if to > gathered {
                // At once what the next round may ask for.
                gathered = counts.limit(wanted * GROWTH);
                near.clear();
                let all = differing.iter().zip(&*rows).filter(|(bits, _)| **bits <= gathered);
                near.extend(all.map(|(bits, row)| (*bits, *row)));
            }
            let these = near.iter().filter(|(bits, _)| *bits > from && *bits <= to);
            nodes.clear();
            nodes.extend(these.map(|(_, row)| slots[*row as usize]));
            for nodes in nodes.chunks(BATCH) {
                table.measure(&probe, nodes, measured);
                for (&node, &distance) in nodes.iter().zip(&measured.distances) {
                    found.offer(key(distance), node);
                }
            }
            let last = found.nth(decisive);
            if counts.up_to(to) == rows.len() || last.is_some() && last == before {
                return Ok(rows.len() as u64);
            }
            (before, from, wanted) = (last, to, counts.up_to(to) * GROWTH);
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
            let distance = self.distance(row, norm)?;
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
            let distance = self.distance(row, norm)?;
            nearest.offer(Hit { number, distance });
            scanned += 1;
        }
        Ok(scanned as u64)
    }

    /// By exact values. All that was stored is numbers: what is none was damaged since it was checked.
    fn distance(&self, row: usize, norm: Option<f32>) -> Result<f32> {
        let stored = self.segment.row(row)?;
        let distance = self.exact.distance(stored, norm);
        if distance.is_nan() {
            let mut values = Vec::new();
            stored.write_floats(&mut values);
            if values.iter().any(|value| value.is_nan()) {
                return Err(self.segment.damaged("it holds a vector that is no number"));
            }
        }
        Ok(distance)
    }
}

/// How many rows differ in how many bits.
struct Counts(Vec<usize>);

impl Counts {
    fn of(differing: &[i32], bits: usize) -> Self {
        let mut counts = vec![0; bits + 1];
        for &bits in differing {
            counts[bits as usize] += 1;
        }
        let mut sum = 0;
        for count in &mut counts {
            sum += *count;
            *count = sum;
        }
        Self(counts)
    }

    /// The bits up to which as many rows differ, or all.
    fn limit(&self, wanted: usize) -> i32 {
        self.0.partition_point(|count| *count < wanted).min(self.0.len() - 1) as i32
    }

    /// How many rows differ in no more bits.
    fn up_to(&self, bits: i32) -> usize {
        self.0[bits as usize]
    }
}

/// What reading and measuring so many bytes anywhere in memory costs, in nanoseconds on
/// the machine where it was measured: only relations count.
fn read_cost(bytes: usize) -> f64 {
    22.0 + bytes as f64 / 24.0
}

/// The same of rows that are as good as one after another.
fn run_cost(bytes: usize) -> f64 {
    8.0 + bytes as f64 / 24.0
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
