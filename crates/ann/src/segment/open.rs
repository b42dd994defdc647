//! A segment's file, opened: bounds, checksums, and its sections as slices.

use std::fs::File;
use std::path::{Path, PathBuf};

use ann_kernels::Map;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::segment::format::{Header, Kind, Section};
use crate::segment::sums::Verified;
use crate::settings::{Metric, Settings};
use crate::vector::{Row, aligned};

/// An immutable part of the index: one file, mapped.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    map: Map,
    header: Header,
    numbers: Section,
    rows: Section,
    norms: Option<Section>,
    verified: Verified,
    /// The same numbers, for counting with filters.
    all: RoaringBitmap,
}

impl Segment {
    /// Opens a file and checks all but the exact vectors, whose blocks are checked when they
    /// are first read.
    ///
    /// # Errors
    /// [`Error::Damaged`] if anything does not hold, or the file system's.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let map = Map::open(&file).map_err(Error::io(path))?;
        let header = Header::of_page(&map, map.len() as u64, path)?;
        let damaged = |what: String| Error::damaged(path, what);
        let rows = u64::from(header.rows);
        let row_bytes = header.settings.row_bytes() as u64;
        let numbers = header.section(Kind::Numbers, rows * 4).map_err(damaged)?;
        let row_section = header.section(Kind::Rows, rows * row_bytes).map_err(damaged)?;
        let norms = (header.settings.metric() == Metric::Cosine)
            .then(|| header.section(Kind::Norms, rows * 4))
            .transpose()
            .map_err(damaged)?;
        let mut segment = Self {
            path: path.to_owned(),
            map,
            verified: Verified::new(row_section.blocks() as usize),
            header,
            numbers,
            rows: row_section,
            norms,
            all: RoaringBitmap::new(),
        };
        segment.check()?;
        Ok(segment)
    }

    fn check(&mut self) -> Result<()> {
        let sums = self.bytes_at(self.header.sums_offset, self.header.sums_bytes);
        if crc32fast::hash(sums) != self.header.sums_crc {
            return Err(self.damaged("the checksums' own checksum does not hold"));
        }
        for section in self.header.sections.iter().filter(|section| section.kind != Kind::Rows) {
            let whole = Verified::new(section.blocks() as usize);
            let bytes = self.bytes(*section);
            if !whole.holds(bytes, self.sums(*section), 0, bytes.len()) {
                let what = format!("section {:?}: a checksum does not hold", section.kind);
                return Err(self.damaged(&what));
            }
        }
        let numbers = self.numbers();
        let all = RoaringBitmap::from_sorted_iter(numbers.iter().copied());
        let mut all = all.map_err(|_| self.damaged("its numbers do not ascend"))?;
        if all.len() != u64::from(self.header.rows) {
            return Err(self.damaged("its numbers do not ascend"));
        }
        all.optimize();
        self.all = all;
        Ok(())
    }

    pub(crate) fn damaged(&self, what: &str) -> Error {
        Error::damaged(&self.path, what)
    }

    fn bytes_at(&self, offset: u64, bytes: u64) -> &[u8] {
        // The header was held to the file's length.
        &self.map[offset as usize..(offset + bytes) as usize]
    }

    fn bytes(&self, section: Section) -> &[u8] {
        self.bytes_at(section.offset, section.bytes)
    }

    fn sums(&self, section: Section) -> &[u32] {
        let sums: &[u32] =
            aligned(self.bytes_at(self.header.sums_offset, self.header.sums_bytes / 4 * 4));
        let first = section.first_sum as usize;
        sums.get(first..first + section.blocks() as usize).unwrap_or_default()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its vectors are.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.header.settings
    }

    /// Vectors in it, deleted ones among them.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.header.rows
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Bytes that a search touches at random and that should stay in memory.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let sections = self.header.sections.iter().filter(|section| section.kind != Kind::Rows);
        sections.map(|section| section.bytes).sum::<u64>() + self.all.serialized_size() as u64
    }

    /// Its numbers, ascending.
    #[must_use]
    pub fn numbers(&self) -> &[u32] {
        aligned(self.bytes(self.numbers))
    }

    /// Its numbers as a set.
    #[must_use]
    pub const fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// The stored bytes of a vector, if its number is here.
    ///
    /// # Errors
    /// [`Error::Damaged`] if they are not what was written.
    pub fn vector(&self, number: u32) -> Result<Option<&[u8]>> {
        match self.numbers().binary_search(&number) {
            Ok(row) => self.row_bytes(row).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Reads the whole file once against its checksums.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a block is not what was written.
    pub fn verify(&self) -> Result<()> {
        let rows = self.bytes(self.rows);
        if self.verified.holds(rows, self.sums(self.rows), 0, rows.len()) {
            return Ok(());
        }
        Err(self.damaged("section Rows: a checksum does not hold"))
    }

    pub(crate) fn row_bytes(&self, row: usize) -> Result<&[u8]> {
        let (section, width) = (self.bytes(self.rows), self.header.settings.row_bytes());
        let (begin, end) = (row * width, (row + 1) * width);
        if !self.verified.holds(section, self.sums(self.rows), begin, end) {
            return Err(self.damaged("section Rows: a checksum does not hold"));
        }
        Ok(&section[begin..end])
    }

    pub(crate) fn row(&self, row: usize) -> Result<Row<'_>> {
        Ok(Row::of(&self.header.settings, self.row_bytes(row)?))
    }

    pub(crate) fn norms(&self) -> Option<&[f32]> {
        self.norms.map(|section| aligned(self.bytes(section)))
    }
}
