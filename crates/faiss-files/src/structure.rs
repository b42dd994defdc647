//! What a file holds and where, read without its vectors.

use std::io::{Read, Seek};

use crate::codec::Codec;
use crate::take::{Span, Take};
use crate::{Error, Limits, Metric, Result};

/// Indexes within indexes.
const DEPTH_MAX: u32 = 8;
const LISTS_MAX: u64 = 1 << 24;

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The indexes, the outermost first: `IDMap`, `HNSW`, `Flat`.
    pub kinds: Vec<&'static str>,
    /// Coordinates of a vector.
    pub dimension: u32,
    /// Vectors.
    pub count: u64,
    /// How it compares them.
    pub metric: Metric,
    /// Whether the file gives ids of its own; otherwise an id is the place.
    pub has_ids: bool,
    /// Whether what is stored is less than what was added.
    pub is_lossy: bool,
    /// Whether vectors were brought to length one before they were stored.
    pub is_normalised: bool,
}

/// Vectors one after another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    pub(crate) codes: Span,
    /// Their ids; none is their place in the index.
    pub(crate) ids: Option<Span>,
    pub(crate) count: u64,
    /// The list's centre, which is added to each.
    pub(crate) centre: Option<u64>,
}

/// An index, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Structure {
    pub(crate) summary: Summary,
    pub(crate) codec: Codec,
    pub(crate) runs: Vec<Run>,
    /// The ids of an IDMap around it, by inner id.
    pub(crate) ids: Option<Span>,
    /// Centres of lists whose codes are differences from them.
    pub(crate) centres: Option<Span>,
    /// What was taken away from every vector.
    pub(crate) mean: Option<Span>,
}

struct Head {
    dimension: u32,
    count: u64,
    metric: Metric,
}

pub(crate) struct Parser<'t, R> {
    pub(crate) take: &'t mut Take<R>,
    pub(crate) limits: Limits,
}

impl<R: Read + Seek> Parser<'_, R> {
    pub(crate) fn index(&mut self, depth: u32) -> Result<Structure> {
        if depth >= DEPTH_MAX {
            return Err(self.take.malformed(format!("more than {DEPTH_MAX} nested indexes")));
        }
        let kind = self.take.kind()?;
        match &kind {
            b"IxFI" | b"IxF2" | b"IxFl" => self.flat(),
            b"IxMp" | b"IxM2" => self.id_map(depth),
            b"IHNf" | b"IHNs" => self.hnsw(depth),
            b"IwFl" => self.ivf(depth, false),
            b"IwSq" => self.ivf(depth, true),
            b"IxSQ" => self.scalar_quantiser(),
            b"IxPT" => self.transformed(depth),
            b"IxPq" | b"IwPQ" | b"IwQR" | b"IHNp" | b"IPfs" | b"IwPf" => {
                Err(unsupported(&kind, "a product quantiser keeps no vectors; export them as Flat"))
            }
            b"null" => Err(unsupported(&kind, "the index was saved without its vectors")),
            _ => Err(unsupported(&kind, "save it as Flat, IVF-Flat, HNSW-Flat or IDMap of them")),
        }
    }

    fn head(&mut self) -> Result<Head> {
        let dimension = self.take.i32()?;
        let dimension = u32::try_from(dimension)
            .ok()
            .filter(|dimension| *dimension > 0)
            .ok_or_else(|| self.take.malformed(format!("dimension {dimension}")))?;
        if dimension > self.limits.dimension_max {
            let (value, max) = (dimension.into(), self.limits.dimension_max.into());
            return Err(Error::TooLarge { what: "dimension", value, max });
        }
        let count = self.take.count("count", self.limits.vectors_max)?;
        self.take.skip(2, 8)?;
        self.take.u8()?;
        let metric = self.take.i32()?;
        if metric > 1 {
            self.take.f32()?;
        }
        Ok(Head { dimension, count, metric: Metric::of(metric) })
    }

    fn plain(head: &Head, kind: &'static str, codec: Codec, runs: Vec<Run>) -> Structure {
        let summary = Summary {
            kinds: vec![kind],
            dimension: head.dimension,
            count: head.count,
            metric: head.metric,
            has_ids: false,
            is_lossy: codec.is_lossy(),
            is_normalised: false,
        };
        Structure { summary, codec, runs, ids: None, centres: None, mean: None }
    }

    /// One run of all vectors, whose bytes must be exactly theirs.
    fn whole(
        &self,
        head: &Head,
        kind: &'static str,
        codec: Codec,
        codes: Span,
    ) -> Result<Structure> {
        let bytes = codec.bytes(head.dimension as usize) as u64;
        if head.count.checked_mul(bytes) != Some(codes.bytes) {
            let (count, bytes) = (head.count, codes.bytes);
            return Err(self.take.malformed(format!("{count} vectors in {bytes} bytes")));
        }
        let run = Run { codes, ids: None, count: head.count, centre: None };
        Ok(Self::plain(head, kind, codec, vec![run]))
    }

    fn flat(&mut self) -> Result<Structure> {
        let head = self.head()?;
        let codes = self.take.vector(4)?;
        self.whole(&head, "Flat", Codec::F32, codes)
    }

    fn codec(&mut self, dimension: u32) -> Result<Codec> {
        let number = self.take.i32()?;
        self.take.skip(1, 8)?;
        self.take.skip(2, 8)?;
        let trained = self.take.vector(4)?;
        if trained.bytes > 8 * u64::from(dimension) {
            return Err(self.take.malformed("a quantiser with too many values"));
        }
        let trained = self.take.floats(trained)?;
        Codec::scalar(number, &trained, dimension as usize)
    }

    fn scalar_quantiser(&mut self) -> Result<Structure> {
        let head = self.head()?;
        let codec = self.codec(head.dimension)?;
        let codes = self.take.vector(1)?;
        self.whole(&head, "SQ", codec, codes)
    }

    fn id_map(&mut self, depth: u32) -> Result<Structure> {
        let head = self.head()?;
        let mut inner = self.index(depth + 1)?;
        let ids = self.take.vector(8)?;
        if inner.ids.is_some()
            || Some(ids.bytes) != head.count.checked_mul(8)
            || inner.summary.count != head.count
        {
            return Err(self.take.malformed("as many ids as vectors, once, are expected"));
        }
        inner.ids = Some(ids);
        inner.summary.has_ids = true;
        around(inner, &head, "IDMap").map_err(|what| self.take.malformed(what))
    }

    fn hnsw(&mut self, depth: u32) -> Result<Structure> {
        let head = self.head()?;
        // Chances, counts by level, levels, offsets, links; then five numbers. Only the storage
        // is of use.
        for size in [8, 4, 4, 8, 4] {
            self.take.vector(size)?;
        }
        self.take.skip(5, 4)?;
        let inner = self.index(depth + 1)?;
        around(inner, &head, "HNSW").map_err(|what| self.take.malformed(what))
    }

    fn transformed(&mut self, depth: u32) -> Result<Structure> {
        let head = self.head()?;
        let steps = self.take.i32()?;
        if !(0..=8).contains(&steps) {
            return Err(self.take.malformed(format!("{steps} transforms")));
        }
        let (mut is_normalised, mut mean) = (false, None);
        for _ in 0..steps {
            let kind = self.take.kind()?;
            match &kind {
                b"VNrm" => {
                    self.take.f32()?;
                    is_normalised = true;
                }
                // Added back only if nothing came after it.
                b"VCnt" if !is_normalised && mean.is_none() => mean = Some(self.take.vector(4)?),
                _ => {
                    let why = "its vectors are no longer those that went in; export them as Flat";
                    return Err(unsupported(&kind, why));
                }
            }
            let (from, to) = (self.take.i32()?, self.take.i32()?);
            self.take.u8()?;
            if from != to || u32::try_from(from) != Ok(head.dimension) {
                return Err(self.take.malformed("a transform that changes the dimension"));
            }
        }
        if is_normalised && mean.is_some() {
            return Err(unsupported(b"VCnt", "centred, then normalised: the length is lost"));
        }
        if mean.is_some_and(|mean| mean.bytes != u64::from(head.dimension) * 4) {
            return Err(self.take.malformed("a centre of another dimension"));
        }
        let mut inner = self.index(depth + 1)?;
        if inner.mean.is_some() {
            return Err(unsupported(b"IxPT", "one within another"));
        }
        inner.mean = mean;
        inner.summary.is_normalised |= is_normalised;
        around(inner, &head, "PreTransform").map_err(|what| self.take.malformed(what))
    }

    fn ivf(&mut self, depth: u32, is_scalar: bool) -> Result<Structure> {
        let head = self.head()?;
        let lists = self.take.count("lists", LISTS_MAX)?;
        self.take.skip(1, 8)?;
        let quantiser = self.index(depth + 1)?;
        let map = self.take.u8()?;
        self.take.vector(8)?;
        if map == 2 {
            self.take.vector(16)?;
        }
        let (mut codec, mut is_residual) = (Codec::F32, false);
        if is_scalar {
            codec = self.codec(head.dimension)?;
            self.take.skip(1, 8)?;
            is_residual = self.take.u8()? != 0;
        }
        let code_bytes = codec.bytes(head.dimension as usize) as u64;
        let runs = self.lists(lists, code_bytes)?;
        let total = runs.iter().try_fold(0_u64, |total, run| total.checked_add(run.count));
        if total != Some(head.count) {
            return Err(self.take.malformed("the lists hold another number of vectors"));
        }
        let kind = if is_scalar { "IVF-SQ" } else { "IVF-Flat" };
        let mut structure = Self::plain(&head, kind, codec, runs);
        structure.summary.has_ids = true;
        if is_residual {
            structure.centres = Some(self.centres(&quantiser, &head, lists)?);
        } else {
            structure.runs.iter_mut().for_each(|run| run.centre = None);
        }
        Ok(structure)
    }

    /// Where the lists' centres are: a quantiser that is Flat, as it nearly always is.
    fn centres(&self, quantiser: &Structure, head: &Head, lists: u64) -> Result<Span> {
        let summary = &quantiser.summary;
        let flat = quantiser.codec == Codec::F32
            && quantiser.runs.len() == 1
            && summary.count == lists
            && summary.dimension == head.dimension
            && quantiser.mean.is_none();
        match quantiser.runs.first() {
            Some(run) if flat => Ok(run.codes),
            _ => Err(Error::Unsupported {
                what: format!("a quantiser {:?}", summary.kinds),
                why: "differences from centres that are not Flat; export the vectors as Flat",
            }),
        }
    }

    fn lists(&mut self, lists: u64, code_bytes: u64) -> Result<Vec<Run>> {
        let kind = self.take.kind()?;
        if &kind != b"ilar" {
            return Err(unsupported(&kind, "lists outside the file; save them within it"));
        }
        if self.take.u64()? != lists || self.take.u64()? != code_bytes {
            return Err(self.take.malformed("the lists are of another number or width"));
        }
        let kind = self.take.kind()?;
        let sizes = self.take.vector(8)?;
        let most = if &kind == b"full" { lists } else { lists.saturating_mul(2) };
        if sizes.bytes / 8 > most {
            return Err(self.take.malformed("more lists than there are"));
        }
        let sizes = self.take.words(sizes)?;
        let sizes: Vec<(u64, u64)> = match &kind {
            b"full" => (0..).zip(sizes.iter().map(|size| size.cast_unsigned())).collect(),
            b"sprs" => {
                let (pairs, _) = sizes.as_chunks::<2>();
                pairs.iter().map(|[at, size]| (at.cast_unsigned(), size.cast_unsigned())).collect()
            }
            _ => return Err(self.take.malformed("lists that are neither full nor sparse")),
        };
        let mut runs = Vec::new();
        for (list, count) in sizes.into_iter().filter(|(_, count)| *count > 0) {
            if list >= lists {
                return Err(self.take.malformed(format!("list {list} of {lists}")));
            }
            let codes = self.take.skip(count, code_bytes)?;
            let ids = Some(self.take.skip(count, 8)?);
            runs.push(Run { codes, ids, count, centre: Some(list) });
        }
        Ok(runs)
    }
}

/// The index around another, if both speak of the same vectors.
fn around(mut inner: Structure, head: &Head, kind: &'static str) -> Result<Structure, String> {
    let summary = &mut inner.summary;
    if (summary.dimension, summary.count) != (head.dimension, head.count) {
        return Err(format!(
            "{kind} of {} × {} around {} × {}",
            head.count, head.dimension, summary.count, summary.dimension
        ));
    }
    summary.kinds.insert(0, kind);
    summary.metric = head.metric;
    Ok(inner)
}

fn unsupported(kind: &[u8; 4], why: &'static str) -> Error {
    Error::Unsupported { what: format!("\"{}\"", kind.escape_ascii()), why }
}
