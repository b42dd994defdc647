//! The newest vectors: in memory, measured one by one, open to insertion.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::nearest::Nearest;
use crate::query::{Hit, Part, Query, Strategy};
use crate::settings::Settings;
use crate::vector::{Exact, Row, Stored};

/// Rows of one chunk: what an insertion copies at most, when a search holds the chunk.
const CHUNK_ROWS: usize = 256;

/// Rows that are full or still grow by copy.
#[derive(Debug, Clone, Default)]
struct Chunk {
    numbers: Vec<u32>,
    /// The rows' bytes; words keep them aligned.
    words: Vec<u64>,
    norms: Vec<f32>,
}

impl Chunk {
    fn row<'a>(&'a self, settings: &Settings, at: usize) -> Row<'a> {
        let stride = stride(settings);
        let bytes = bytemuck::cast_slice(&self.words[at * stride..(at + 1) * stride]);
        Row::of(settings, &bytes[..settings.row_bytes()])
    }

    fn push(&mut self, settings: &Settings, number: u32, stored: &Stored) {
        let at = self.words.len();
        self.words.resize(at + stride(settings), 0);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.words[at..]);
        bytes[..settings.row_bytes()].copy_from_slice(stored.bytes());
        self.numbers.push(number);
        let row = Row::of(settings, &bytes[..settings.row_bytes()]);
        self.norms.push(row.norm().unwrap_or(f32::INFINITY));
    }
}

/// Words of a row.
const fn stride(settings: &Settings) -> usize {
    settings.row_bytes().div_ceil(8)
}

#[derive(Debug, Clone, Default)]
struct Content {
    chunks: Vec<Arc<Chunk>>,
    alive: Arc<RoaringBitmap>,
}

/// A part of the index that grows. Searches take what is there at that moment.
#[derive(Debug)]
pub struct Head {
    settings: Settings,
    content: RwLock<Content>,
    /// Where each number is; only writers look.
    places: RwLock<HashMap<u32, (usize, usize)>>,
}

impl Head {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, content: RwLock::default(), places: RwLock::default() }
    }

    fn content(&self) -> Content {
        self.content.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Vectors in it, deleted ones among them.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.places.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        (self.rows() * (stride(&self.settings) * 8 + 8 + 32)) as u64
    }

    /// The numbers that are alive.
    #[must_use]
    pub fn alive(&self) -> Arc<RoaringBitmap> {
        self.content.read().unwrap_or_else(PoisonError::into_inner).alive.clone()
    }

    /// Adds a vector under a number that was never used before.
    ///
    /// # Errors
    /// A number that is already here.
    pub fn insert(&self, number: u32, vector: &Stored) -> Result<()> {
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        if places.contains_key(&number) {
            return Err(Error::invalid(
                "number",
                format!("{number} is already in the index; numbers are never used again"),
            ));
        }
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let full = content.chunks.last().is_none_or(|chunk| chunk.numbers.len() == CHUNK_ROWS);
        if full {
            content.chunks.push(Arc::default());
        }
        let at = content.chunks.len() - 1;
        let chunk = Arc::make_mut(&mut content.chunks[at]);
        chunk.push(&self.settings, number, vector);
        places.insert(number, (at, chunk.numbers.len() - 1));
        Arc::make_mut(&mut content.alive).insert(number);
        Ok(())
    }

    /// Marks what is here of `numbers` as deleted; how many were alive.
    pub fn delete(&self, numbers: &RoaringBitmap) -> u64 {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        let gone = content.alive.intersection_len(numbers);
        if gone > 0 {
            *Arc::make_mut(&mut content.alive) -= numbers;
        }
        gone
    }

    /// The stored bytes of a vector that is alive.
    #[must_use]
    pub fn bytes(&self, number: u32) -> Option<Vec<u8>> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let (chunk, at) = *places.get(&number)?;
        let content = self.content();
        if !content.alive.contains(number) {
            return None;
        }
        let begin = at * stride(&self.settings);
        let words = &content.chunks.get(chunk)?.words[begin..begin + stride(&self.settings)];
        Some(bytemuck::cast_slice(words)[..self.settings.row_bytes()].to_vec())
    }

    pub(crate) fn knows(&self, number: u32) -> bool {
        self.places.read().unwrap_or_else(PoisonError::into_inner).contains_key(&number)
    }

    pub(crate) fn search(
        &self,
        query: &Query<'_>,
        exact: &Exact,
        nearest: &mut Nearest,
    ) -> Result<Part> {
        let content = self.content();
        let alive = content.alive.len();
        let matching =
            query.allowed.map_or(alive, |allowed| allowed.intersection_len(&content.alive));
        if matching == 0 {
            return Ok(Part { strategy: Strategy::Nothing, alive, matching, scanned: 0 });
        }
        let mut scanned = 0;
        for chunk in &content.chunks {
            if let Some(control) = query.control {
                control.check()?;
            }
            for (at, &number) in chunk.numbers.iter().enumerate() {
                let allowed = query.allowed.is_none_or(|allowed| allowed.contains(number));
                if allowed && content.alive.contains(number) {
                    let norm = Some(chunk.norms[at]);
                    let distance = exact.distance(chunk.row(&self.settings, at), norm);
                    nearest.offer(Hit { number, distance });
                    scanned += 1;
                }
            }
        }
        Ok(Part { strategy: Strategy::ExactScan, alive, matching, scanned })
    }
}
