//! An index file, opened: what it holds, and its vectors as a stream.

use std::io::{Read, Seek};

use crate::structure::{Parser, Run, Structure, Summary};
use crate::take::{Span, Take};
use crate::{Limits, Result};

/// About how many bytes of codes are read at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// An index file.
#[derive(Debug)]
pub struct File<R> {
    take: Take<R>,
    structure: Structure,
}

impl<R: Read + Seek> File<R> {
    /// Reads what the file holds and where; no vectors yet.
    ///
    /// # Errors
    /// A kind that is not supported, a file that contradicts itself, more than `limits` allow.
    pub fn open(reader: R, limits: Limits) -> Result<Self> {
        let mut take = Take::new(reader)?;
        let structure = Parser { take: &mut take, limits }.index(0)?;
        Ok(Self { take, structure })
    }

    /// What it holds.
    pub const fn summary(&self) -> &Summary {
        &self.structure.summary
    }

    /// The vectors with their ids, in the file's order.
    ///
    /// # Errors
    /// The file system's.
    pub fn vectors(mut self) -> Result<Vectors<R>> {
        let ids = self.structure.ids.map(|span| self.take.words(span)).transpose()?;
        let mean = self.structure.mean.map(|span| self.take.floats(span)).transpose()?;
        let mut runs = std::mem::take(&mut self.structure.runs);
        runs.reverse();
        Ok(Vectors { file: self, ids, mean, runs, place: 0, chunk: Vec::new() })
    }
}

/// A stream of vectors. After an error there are no more.
#[derive(Debug)]
pub struct Vectors<R> {
    file: File<R>,
    ids: Option<Vec<i64>>,
    mean: Option<Vec<f32>>,
    /// What is left, the next last.
    runs: Vec<Run>,
    place: i64,
    /// Read and not yet given, the next last.
    chunk: Vec<(i64, Vec<f32>)>,
}

impl<R: Read + Seek> Vectors<R> {
    /// Reads some of the next run.
    fn fill(&mut self) -> Result<()> {
        let Some(mut run) = self.runs.pop() else { return Ok(()) };
        let Structure { codec, centres, summary, .. } = &self.file.structure;
        let dimension = summary.dimension as usize;
        let width = codec.bytes(dimension) as u64;
        let now = run.count.min((CHUNK_BYTES / width).max(1));
        let codes = self.file.take.read(Span { at: run.codes.at, bytes: now * width })?;
        let inner: Vec<i64> = match &mut run.ids {
            Some(ids) => {
                let words = self.file.take.words(Span { at: ids.at, bytes: now * 8 })?;
                ids.at += now * 8;
                words
            }
            None => (self.place..).take(now as usize).collect(),
        };
        self.place += now as i64;
        let bytes = dimension as u64 * 4;
        let centre = match (centres, run.centre) {
            (Some(span), Some(list)) => {
                let span = Span { at: span.at + list * bytes, bytes };
                Some(self.file.take.floats(span)?)
            }
            _ => None,
        };
        for (code, inner) in codes.chunks_exact(width as usize).zip(inner) {
            let mut vector = codec.decode(code, dimension);
            for back in [&centre, &self.mean].into_iter().flatten() {
                vector.iter_mut().zip(back).for_each(|(value, back)| *value += back);
            }
            let id = match &self.ids {
                Some(ids) => {
                    let id = usize::try_from(inner).ok().and_then(|inner| ids.get(inner));
                    let wrong = || self.file.take.malformed(format!("no id for vector {inner}"));
                    *id.ok_or_else(wrong)?
                }
                None => inner,
            };
            self.chunk.push((id, vector));
        }
        self.chunk.reverse();
        run.count -= now;
        run.codes.at += now * width;
        if run.count > 0 {
            self.runs.push(run);
        }
        Ok(())
    }
}

impl<R: Read + Seek> Iterator for Vectors<R> {
    type Item = Result<(i64, Vec<f32>)>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.chunk.is_empty() && !self.runs.is_empty() {
            if let Err(error) = self.fill() {
                self.runs.clear();
                self.chunk.clear();
                return Some(Err(error));
            }
        }
        self.chunk.pop().map(Ok)
    }
}
