//! Codes: a byte for each coordinate (bits stay bits), compared by whole-number loops. A walk
//! and a scan go by codes; what they find is measured again by its exact values.

use ann_kernels::{CODE_LANES, Kernels};

use crate::settings::{Element, Metric, Settings};
use crate::vector::{Exact, Row};

/// The largest code: −127..=127, which every inner loop takes without overflow.
const CODE_MAX: f32 = 127.0;
/// Values that are looked at to choose the scale.
const SAMPLE_VALUES: usize = 2_000_000;
/// Of the sample, the share within the scale; what is beyond is cut.
const WITHIN: f64 = 0.9999;
/// Of the sample, the rows that say what is usual, and how much farther from the middle a row may be. Others have no
/// part in centre and scale: one of them would outweigh all.
const USUAL: f64 = 0.99;
const UNUSUAL: f32 = 4.0;
/// What is usual where all rows have one scale: it is for the many.
const USUAL_OF_ONE_SCALE: f64 = 0.9;
/// Codes have one scale while the longest row is no longer than so many usual ones, which is what products go by,
/// and while none is cut to less than its fourth and one in a hundred at most has fewer than eight steps.
const LONGEST: f64 = 2.0;
const CUT: f32 = 4.0;
const FAINT: f32 = 1.0 / 16.0;
const FAINT_SHARE: u64 = 100;
/// A row's own scale in the segment's.
const RATIO_MIN: f32 = 1e-12;
const RATIO_MAX: f32 = 1e12;

/// How codes are compared. Smaller is nearer, whatever the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Dot,
    L2,
    L1,
    Hamming,
    Jaccard,
}

impl Measure {
    pub(crate) const fn of(metric: Metric) -> Self {
        match metric {
            Metric::InnerProduct => Self::Dot,
            // Of vectors of length one both have one order, and between near ones the difference of codes says more
            // than their product, whose error is of the whole length.
            Metric::Cosine | Metric::L2 => Self::L2,
            Metric::L1 => Self::L1,
            Metric::Hamming => Self::Hamming,
            Metric::Jaccard => Self::Jaccard,
        }
    }

    /// Whether a number beside each code is needed to compare it.
    pub(crate) const fn has_aside(self) -> bool {
        matches!(self, Self::L2 | Self::Jaccard)
    }
}

/// Codes of some rows, one after another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Codes<'a> {
    Bytes(&'a [i8]),
    Words(&'a [u64]),
}

impl<'a> Codes<'a> {
    /// Codes in these bytes, which begin at a multiple of eight.
    pub(crate) fn of(settings: &Settings, bytes: &'a [u8]) -> Self {
        match settings.element() {
            Element::Bit => Self::Words(crate::vector::aligned(bytes)),
            _ => Self::Bytes(bytemuck::cast_slice(bytes)),
        }
    }

    fn row(self, width: usize, row: usize) -> Self {
        match self {
            Self::Bytes(codes) => Self::Bytes(&codes[row * width..(row + 1) * width]),
            Self::Words(codes) => Self::Words(&codes[row * width..(row + 1) * width]),
        }
    }
}

/// Bytes of one code.
pub(crate) const fn code_bytes(settings: &Settings) -> usize {
    match settings.element() {
        Element::Bit => settings.row_bytes(),
        _ => (settings.dimension() as usize).next_multiple_of(CODE_LANES),
    }
}

/// What stands beside a code.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beside {
    /// |code|² for L2, cosine and products, in the segment's scale; the bits that are set for Jaccard.
    pub(crate) aside: f32,
    /// The row's own scale in the segment's.
    pub(crate) ratio: f32,
}

/// How rows differ in length.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread {
    rows: u64,
    faint: u64,
    largest: f32,
    longest: f64,
    lengths: f64,
}

impl Spread {
    pub(crate) const fn and(self, other: &Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            faint: self.faint + other.faint,
            largest: self.largest.max(other.largest),
            longest: self.longest.max(other.longest),
            lengths: self.lengths + other.lengths,
        }
    }

    /// Counts a row, its coordinates in steps.
    fn count(&mut self, largest: f32, squared: f32) {
        let length = f64::from(squared).sqrt();
        self.rows += 1;
        self.faint += u64::from(largest < FAINT * CODE_MAX);
        self.largest = self.largest.max(largest);
        self.longest = self.longest.max(length);
        self.lengths += length;
    }
}

/// Makes codes: a centre is taken away, and what is left is divided by one scale, or by each row's own.
#[derive(Debug, Clone)]
pub(crate) struct Coder {
    settings: Settings,
    scale: f32,
    centre: Vec<f32>,
    /// The centre if each row has its own scale: the mean is far from all short ones, whose codes would be one.
    middle: Vec<f32>,
    is_by_row: bool,
}

impl Coder {
    pub(crate) const fn new(settings: Settings, scale: f32, centre: Vec<f32>) -> Self {
        Self { settings, scale, centre, middle: Vec::new(), is_by_row: false }
    }

    /// The same with a scale for each row, if one for all would not tell rows of such lengths apart.
    pub(crate) fn for_rows_of(&self, spread: &Spread) -> Option<Self> {
        let is_uneven = match self.settings.metric() {
            Metric::InnerProduct => {
                spread.longest > LONGEST * spread.lengths / spread.rows.max(1) as f64
            }
            _ => spread.largest > CUT * CODE_MAX || spread.faint > spread.rows / FAINT_SHARE,
        };
        let is_by_row = is_uneven && Self::may_be_by_row(&self.settings);
        is_by_row.then(|| Self { is_by_row, centre: self.middle.clone(), ..self.clone() })
    }

    /// Where a row may have a scale of its own.
    pub(crate) const fn may_be_by_row(settings: &Settings) -> bool {
        matches!(settings.metric(), Metric::L2 | Metric::InnerProduct)
            && matches!(settings.element(), Element::F32 | Element::F16)
    }

    pub(crate) const fn is_by_row(&self) -> bool {
        self.is_by_row
    }

    pub(crate) const fn scale(&self) -> f32 {
        self.scale
    }

    pub(crate) fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// Whether codes are differences from a centre: where only differences count.
    pub(crate) const fn is_centred(settings: &Settings) -> bool {
        match settings.metric() {
            Metric::Cosine => !matches!(settings.element(), Element::Bit),
            Metric::L2 | Metric::L1 => matches!(settings.element(), Element::F32 | Element::F16),
            _ => false,
        }
    }

    /// Chooses centre and scale by rows taken evenly. `row` gives one of `rows`.
    pub(crate) fn train<'a>(
        settings: Settings,
        rows: usize,
        row: impl Fn(usize) -> Row<'a>,
    ) -> Self {
        let dimension = settings.dimension() as usize;
        let whole = settings.element() == Element::I8 && settings.metric() != Metric::Cosine;
        if whole || settings.element() == Element::Bit {
            return Self::new(settings, 1.0, Vec::new());
        }
        let wanted = (SAMPLE_VALUES / dimension).clamp(100.min(rows), rows);
        let taken = (0..wanted).map(|at| at * rows / wanted);
        let mut values = Vec::new();
        let mut sample = Vec::with_capacity(wanted * dimension);
        for at in taken {
            read(&settings, row(at), &mut values);
            sample.extend_from_slice(&values);
        }
        let mut centre = Vec::new();
        let is_centred = Self::is_centred(&settings);
        let middle = if is_centred { medians(&sample, dimension) } else { Vec::new() };
        let share = match settings.metric() {
            // None is far.
            Metric::Cosine => 1.0,
            _ if Self::may_be_by_row(&settings) => USUAL,
            _ => USUAL_OF_ONE_SCALE,
        };
        let usual = usual(&mut sample, dimension, share, &middle);
        if is_centred {
            centre = mean(sample[..usual * dimension].chunks_exact(dimension), dimension);
            for values in sample.chunks_exact_mut(dimension) {
                values.iter_mut().zip(&centre).for_each(|(value, centre)| *value -= centre);
            }
        }
        // What is beyond the usual is cut, and stays far; or has a scale of its own.
        sample.truncate(usual * dimension);
        sample.iter_mut().for_each(|value| *value = value.abs());
        let at = ((sample.len() - 1) as f64 * WITHIN) as usize;
        let (_, &mut limit, _) = sample.select_nth_unstable_by(at, f32::total_cmp);
        let scale = limit / CODE_MAX;
        let scale = if scale > 0.0 && scale.is_finite() { scale } else { 1.0 };
        Self { middle, ..Self::new(settings, scale, centre) }
    }

    /// Writes the code of a row and gives what stands beside it.
    pub(crate) fn encode(
        &self,
        row: Row<'_>,
        values: &mut Vec<f32>,
        code: &mut [u8],
        spread: &mut Spread,
    ) -> Beside {
        if let Row::Bit(words) = row {
            code.copy_from_slice(bytemuck::cast_slice(words));
            let aside = words.iter().map(|word| word.count_ones()).sum::<u32>() as f32;
            return Beside { aside, ratio: 1.0 };
        }
        read(&self.settings, row, values);
        self.take_centre(values);
        // In steps of the segment's scale.
        let factor = 1.0 / self.scale;
        values.iter_mut().for_each(|value| *value *= factor);
        let mut ratio = 1.0;
        if Self::may_be_by_row(&self.settings) {
            let largest = values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            spread.count(largest, (Kernels::get().dot_f32)(values, values));
            if self.is_by_row {
                // Bounded, so that no square of a length is beyond f32.
                ratio = (largest / CODE_MAX).clamp(RATIO_MIN, RATIO_MAX);
            }
        }
        let code: &mut [i8] = bytemuck::cast_slice_mut(code);
        quantise(values, 1.0 / ratio, code);
        Beside { aside: ratio * ratio * (Kernels::get().dot_i8)(code, code) as f32, ratio }
    }

    fn take_centre(&self, values: &mut [f32]) {
        values.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value -= centre);
    }

    /// A query in the form that codes are compared with.
    pub(crate) fn query(&self, query: &Exact) -> Coded {
        let measure = Measure::of(self.settings.metric());
        let mut coded = Coded { bytes: Vec::new(), words: Vec::new(), aside: 0.0, factor: 2.0 };
        if let Some(words) = query.bits() {
            coded.words = words.to_vec();
            coded.aside = words.iter().map(|word| word.count_ones()).sum::<u32>() as f32;
            return coded;
        }
        let mut values = query.floats();
        coded.bytes = vec![0; code_bytes(&self.settings)];
        let mut scale = self.scale;
        if measure != Measure::L1 {
            // Its own scale: an inner product may be scaled by anything, and L2 by the ratio.
            let far = |(at, value): (usize, &f32)| {
                (value - self.centre.get(at).copied().unwrap_or_default()).abs()
            };
            let most = values.iter().enumerate().map(far).fold(0.0, f32::max);
            scale = if most > 0.0 { most / CODE_MAX } else { 1.0 };
            coded.factor = 2.0 * scale / self.scale;
        }
        self.take_centre(&mut values);
        quantise(&values, 1.0 / scale, &mut coded.bytes);
        coded
    }
}

/// The rows of a sample that are usual come first; how many. Of a few that are far off, the mean is far off.
fn usual(sample: &mut Vec<f32>, dimension: usize, share: f64, middle: &[f32]) -> usize {
    let rows = sample.len() / dimension;
    let middles = || middle.iter().copied().chain(std::iter::repeat(0.0));
    let far = |values: &[f32]| -> f32 {
        let squares = values.iter().zip(middles()).map(|(value, middle)| (value - middle).powi(2));
        squares.sum::<f32>().sqrt()
    };
    let lengths: Vec<f32> = sample.chunks_exact(dimension).map(far).collect();
    let mut sorted = lengths.clone();
    let at = ((rows - 1) as f64 * share) as usize;
    let limit = *sorted.select_nth_unstable_by(at, f32::total_cmp).1 * UNUSUAL;
    if limit == 0.0 || lengths.iter().all(|length| *length <= limit) {
        return rows;
    }
    let mut ordered = Vec::with_capacity(sample.len());
    let mut others = Vec::new();
    for (values, length) in sample.chunks_exact(dimension).zip(&lengths) {
        let to = if *length <= limit { &mut ordered } else { &mut others };
        to.extend_from_slice(values);
    }
    let usual = ordered.len() / dimension;
    ordered.append(&mut others);
    *sample = ordered;
    usual.max(1)
}

/// The middle value of each coordinate, of some hundred rows.
fn medians(sample: &[f32], dimension: usize) -> Vec<f32> {
    const ROWS: usize = 255;
    let step = (sample.len() / dimension).div_ceil(ROWS);
    let of = |at: usize| {
        let rows = sample.chunks_exact(dimension).step_by(step);
        let mut values: Vec<f32> = rows.map(|row| row[at]).collect();
        let half = values.len() / 2;
        *values.select_nth_unstable_by(half, f32::total_cmp).1
    };
    (0..dimension).map(of).collect()
}

fn mean<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, dimension: usize) -> Vec<f32> {
    let count = rows.len() as f64;
    let mut sums = vec![0.0_f64; dimension];
    for values in rows {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

fn quantise(values: &[f32], factor: f32, code: &mut [i8]) {
    for (code, value) in code.iter_mut().zip(values) {
        *code = rounded((*value * factor).clamp(-CODE_MAX, CODE_MAX));
    }
}

/// The nearest whole number, of two the even one, as `round_ties_even` has it, which is a call for
/// each value where the processor is not known: added to this, a number of a code's size has its
/// whole part in the lowest bits, rounded by the addition.
fn rounded(value: f32) -> i8 {
    const WHOLE: f32 = 12_582_912.0;
    (value + WHOLE).to_bits() as i8
}

/// A row's coordinates as they are coded: under cosine of length one.
fn read(settings: &Settings, row: Row<'_>, values: &mut Vec<f32>) {
    row.write_floats(values);
    if settings.metric() == Metric::Cosine {
        let factor = row.norm().map_or(0.0, |norm| 1.0 / norm);
        values.iter_mut().for_each(|value| *value *= factor);
    }
}

/// A query's code.
#[derive(Debug)]
pub(crate) struct Coded {
    bytes: Vec<i8>,
    words: Vec<u64>,
    aside: f32,
    factor: f32,
}

impl Coded {
    /// A row of a table as a query.
    pub(crate) fn of(probe: &Probe<'_>) -> Self {
        let (bytes, words) = match probe.code {
            Codes::Bytes(bytes) => (bytes.to_vec(), Vec::new()),
            Codes::Words(words) => (Vec::new(), words.to_vec()),
        };
        Self { bytes, words, aside: probe.aside, factor: probe.factor }
    }

    /// Its bytes, and what one of them is in those of a row.
    pub(crate) fn bytes(&self) -> (&[i8], f32) {
        (&self.bytes, self.factor / 2.0)
    }

    pub(crate) fn probe(&self) -> Probe<'_> {
        let code = if self.words.is_empty() {
            Codes::Bytes(&self.bytes)
        } else {
            Codes::Words(&self.words)
        };
        Probe { code, aside: self.aside, factor: self.factor }
    }
}

/// What rows of a table are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe<'a> {
    code: Codes<'a>,
    aside: f32,
    factor: f32,
}

/// The codes of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) measure: Measure,
    /// Elements of a row.
    pub(crate) width: usize,
    pub(crate) codes: Codes<'a>,
    /// The number beside each code, where the measure needs one.
    pub(crate) asides: &'a [f32],
    /// The scale of each code in that of all; empty where it is one.
    ratios: &'a [f32],
    pub(crate) kernels: &'static Kernels,
}

/// Room for the results of one batch.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    integers: Vec<i32>,
    pub(crate) distances: Vec<f32>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(
        settings: &Settings,
        codes: &'a [u8],
        asides: &'a [f32],
        ratios: &'a [f32],
    ) -> Self {
        let size = if settings.element() == Element::Bit { 8 } else { 1 };
        let measure = match settings.metric() {
            // Of a file of before: codes without a centre.
            Metric::Cosine if asides.is_empty() => Measure::Dot,
            metric => Measure::of(metric),
        };
        Self {
            measure,
            width: code_bytes(settings) / size,
            codes: Codes::of(settings, codes),
            asides,
            ratios,
            kernels: Kernels::get(),
        }
    }

    /// The same codes compared by their angles: `inverse` has one over each code's length.
    pub(crate) const fn by_angles(self, inverse: &'a [f32]) -> Self {
        Self { measure: Measure::Dot, asides: &[], ratios: inverse, ..self }
    }

    /// A row of the table as a probe.
    pub(crate) fn probe(&self, row: u32) -> Probe<'a> {
        let aside = self.asides.get(row as usize).copied().unwrap_or_default();
        let ratio = self.ratios.get(row as usize).copied().unwrap_or(1.0);
        Probe { code: self.codes.row(self.width, row as usize), aside, factor: 2.0 * ratio }
    }

    /// Bytes of a code.
    pub(crate) const fn row_bytes(&self) -> usize {
        match self.codes {
            Codes::Bytes(_) => self.width,
            Codes::Words(_) => self.width * 8,
        }
    }

    /// The code of a row, if its coordinates are bytes.
    pub(crate) fn bytes(&self, row: u32) -> Option<&'a [i8]> {
        match self.codes.row(self.width, row as usize) {
            Codes::Bytes(bytes) => Some(bytes),
            Codes::Words(_) => None,
        }
    }

    /// Whether nearness is a product, not a difference.
    pub(crate) const fn is_of_products(&self) -> bool {
        matches!(self.measure, Measure::Dot)
    }

    /// Whether distances from one probe alone can be compared: what is the same for all of its is left out.
    pub(crate) const fn is_lopsided(&self) -> bool {
        matches!(self.measure, Measure::L2)
    }

    /// Whether each row has its own scale.
    pub(crate) const fn is_by_row(&self) -> bool {
        !self.ratios.is_empty()
    }

    /// Whether two rows have one code.
    pub(crate) fn are_same(&self, one: u32, other: u32) -> bool {
        let same = match (
            self.codes.row(self.width, one as usize),
            self.codes.row(self.width, other as usize),
        ) {
            (Codes::Bytes(one), Codes::Bytes(other)) => one == other,
            (Codes::Words(one), Codes::Words(other)) => one == other,
            _ => false,
        };
        same && self.ratios.get(one as usize) == self.ratios.get(other as usize)
    }

    /// The distances of `rows` from the probe.
    pub(crate) fn measure(&self, probe: &Probe<'_>, rows: &[u32], out: &mut Measured) {
        out.integers.resize(rows.len(), 0);
        out.distances.clear();
        let (integers, distances) = (&mut out.integers[..], &mut out.distances);
        match (probe.code, self.codes) {
            (Codes::Bytes(query), Codes::Bytes(table)) => {
                let of = match self.measure {
                    Measure::L1 => self.kernels.l1_codes_rows,
                    _ => self.kernels.dot_codes_rows,
                };
                of(query, table, rows, integers);
            }
            (Codes::Words(query), Codes::Words(table)) => {
                let of = match self.measure {
                    Measure::Jaccard => self.kernels.and_rows,
                    _ => self.kernels.hamming_rows,
                };
                of(query, table, rows, integers);
            }
            _ => {}
        }
        let results = rows.iter().zip(integers.iter().map(|integer| *integer as f32));
        match self.measure {
            Measure::L1 | Measure::Hamming => distances.extend(results.map(|(_, sum)| sum)),
            Measure::Dot if self.ratios.is_empty() => {
                distances.extend(results.map(|(_, dot)| -dot));
            }
            Measure::Dot => distances.extend(
                results.map(|(row, dot)| -dot * (self.ratios[*row as usize] * probe.factor)),
            ),
            Measure::L2 if self.ratios.is_empty() => distances
                .extend(results.map(|(row, dot)| self.asides[*row as usize] - probe.factor * dot)),
            Measure::L2 => distances.extend(results.map(|(row, dot)| {
                let row = *row as usize;
                self.asides[row] - probe.factor * (self.ratios[row] * dot)
            })),
            Measure::Jaccard => distances.extend(results.map(|(row, both)| {
                let either = self.asides[*row as usize] + probe.aside - both;
                if either > 0.0 { 1.0 - both / either } else { 0.0 }
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_rounded_as_the_library_does() {
        for twentieth in -2_540_i16..=2_540 {
            let value = f32::from(twentieth) / 20.0;
            assert_eq!(rounded(value), value.round_ties_even() as i8, "{value}");
        }
    }
}
