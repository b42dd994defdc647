//! The file: a header of one page, sections that begin at multiples of 64 bytes, and a checksum
//! of each 64 KiB of each section. Little-endian throughout. A file of version 2 has no ratios; one of
//! version 1, too, has links of 32 bits each. Both are read as they are, but for those of inner
//! products: their graphs were others, which found little, and they are to be made anew. Of cosine
//! asides and a centre may be missing: then its codes are compared by their products.
//!
//! ```text
//! 0     "QUARRANN"  version u32  crc32 of the page after this field u32
//! 16    metric u8  element u8  links u16  build_ef u16  levels u16
//! 24    dimension u32  rows u32  entry u32  scale f32
//! 40    offset u64 and bytes u64 of the checksums, crc32 of them u32, sections u32
//! 64    for each section: kind u32, first checksum u32, offset u64, bytes u64
//! ```

use std::path::Path;

use crate::error::{Error, Result};
use crate::settings::{Element, Graph, Metric, Settings};

/// The header's page: the first section begins after it.
pub(crate) const HEADER_BYTES: usize = 4_096;
/// Sections begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 64;
/// What one checksum covers.
pub(crate) const BLOCK_BYTES: usize = 64 * 1_024;
/// The most rows of one segment.
pub(crate) const ROWS_MAX: u32 = (1 << 31) - 2;
/// Levels above the lowest.
pub(crate) const LEVELS_MAX: u16 = 16;

const MAGIC: &[u8; 8] = b"QUARRANN";
const VERSION: u32 = 3;
/// Of products no version before is read.
const VERSION_OF_PRODUCTS: u32 = 3;
/// Every link of 32 bits.
const VERSION_WIDE: u32 = 1;
/// The most rows whose slots, and what ends a list of them, are told apart by 24 bits.
const NARROW_ROWS_MAX: u32 = (1 << 24) - 1;
const CHECKED_FROM: usize = 16;
const TABLE_AT: usize = 64;
const ENTRY_BYTES: usize = 24;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// u32 for each row, ascending: its number.
    Numbers = 1,
    /// The vectors as they are stored, in the order of the numbers.
    Rows = 2,
    /// f32 for each row: its Euclidean length. Cosine alone.
    Norms = 3,
    /// A code for each slot.
    Codes = 4,
    /// f32 for each slot: the number beside its code. L2, cosine and Jaccard alone.
    Asides = 5,
    /// f32 for each coordinate: what is taken away before it is coded. L2 and L1 of floats, and cosine.
    Centre = 6,
    /// u32 for each slot: its row.
    RowOfSlot = 7,
    /// u32 for each row: its slot.
    SlotOfRow = 8,
    /// For each slot 2 · links slots, of 24 bits unless rows are too many. This and what follows
    /// only where a graph is.
    Links = 9,
    /// u32 for each upper level, the lowest first: its nodes.
    UpperCounts = 10,
    /// u32 for each node of each upper level: its slot.
    UpperNodes = 11,
    /// u32 for each: its place on the level below, on the first level its slot again.
    UpperBelow = 12,
    /// For each, links u32: places on its level.
    UpperLinks = 13,
    /// f32 for each slot: the scale of its code in that of the segment. L2 and inner product of
    /// floats, where rows differ much in length.
    Ratios = 14,
}

impl Kind {
    pub(crate) const COUNT: usize = Self::ALL.len();

    const ALL: [Self; 14] = [
        Self::Numbers,
        Self::Rows,
        Self::Norms,
        Self::Codes,
        Self::Asides,
        Self::Centre,
        Self::RowOfSlot,
        Self::SlotOfRow,
        Self::Links,
        Self::UpperCounts,
        Self::UpperNodes,
        Self::UpperBelow,
        Self::UpperLinks,
        Self::Ratios,
    ];

    fn of(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == code)
    }
}

/// Where a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: Kind,
    pub(crate) first_sum: u32,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Section {
    pub(crate) fn blocks(&self) -> u64 {
        self.bytes.div_ceil(BLOCK_BYTES as u64)
    }
}

/// The first page.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) settings: Settings,
    pub(crate) rows: u32,
    pub(crate) levels: u16,
    pub(crate) entry: u32,
    pub(crate) scale: f32,
    pub(crate) sums_offset: u64,
    pub(crate) sums_bytes: u64,
    pub(crate) sums_crc: u32,
    pub(crate) sections: Vec<Section>,
}

impl Header {
    pub(crate) const fn new(settings: Settings, rows: u32, scale: f32) -> Self {
        Self {
            version: VERSION,
            settings,
            rows,
            levels: 0,
            entry: 0,
            scale,
            sums_offset: 0,
            sums_bytes: 0,
            sums_crc: 0,
            sections: Vec::new(),
        }
    }

    pub(crate) fn to_page(&self) -> Vec<u8> {
        let settings = &self.settings;
        let mut page = Vec::with_capacity(HEADER_BYTES);
        page.extend_from_slice(MAGIC);
        page.extend_from_slice(&self.version.to_le_bytes());
        page.extend_from_slice(&[0; 4]);
        page.push(settings.metric().code());
        page.push(settings.element().code());
        page.extend_from_slice(&settings.graph().links.to_le_bytes());
        page.extend_from_slice(&settings.graph().build_ef.to_le_bytes());
        page.extend_from_slice(&self.levels.to_le_bytes());
        page.extend_from_slice(&settings.dimension().to_le_bytes());
        page.extend_from_slice(&self.rows.to_le_bytes());
        page.extend_from_slice(&self.entry.to_le_bytes());
        page.extend_from_slice(&self.scale.to_le_bytes());
        page.extend_from_slice(&self.sums_offset.to_le_bytes());
        page.extend_from_slice(&self.sums_bytes.to_le_bytes());
        page.extend_from_slice(&self.sums_crc.to_le_bytes());
        page.extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        for section in &self.sections {
            page.extend_from_slice(&(section.kind as u32).to_le_bytes());
            page.extend_from_slice(&section.first_sum.to_le_bytes());
            page.extend_from_slice(&section.offset.to_le_bytes());
            page.extend_from_slice(&section.bytes.to_le_bytes());
        }
        page.resize(HEADER_BYTES, 0);
        let crc = crc32fast::hash(&page[CHECKED_FROM..]);
        page[12..16].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads the page and holds every field to its bounds and to the file's length.
    pub(crate) fn of_page(page: &[u8], file_bytes: u64, path: &Path) -> Result<Self> {
        let damaged = |what: &str| Error::damaged(path, what);
        let page = page.get(..HEADER_BYTES).ok_or_else(|| damaged("shorter than a header"))?;
        if !page.starts_with(MAGIC) {
            return Err(damaged("not a segment of vectors"));
        }
        let version = u32_at(page, 8);
        if !(VERSION_WIDE..=VERSION).contains(&version) {
            let what = format!("format {version}; this program reads up to {VERSION}: rebuild it");
            return Err(Error::damaged(path, what));
        }
        if u32_at(page, 12) != crc32fast::hash(&page[CHECKED_FROM..]) {
            return Err(damaged("the header's checksum does not hold"));
        }
        let header = Self::of_fields(page).map_err(|what| Error::damaged(path, what))?;
        if version < VERSION_OF_PRODUCTS && header.settings.metric() == Metric::InnerProduct {
            let what = format!("format {version} of inner products: rebuild it");
            return Err(Error::damaged(path, what));
        }
        header.check_places(file_bytes).map_err(|what| Error::damaged(path, what))?;
        Ok(header)
    }

    fn of_fields(page: &[u8]) -> Result<Self, String> {
        let metric = Metric::of_code(page[16]).ok_or("unknown metric")?;
        let element = Element::of_code(page[17]).ok_or("unknown element")?;
        let graph = Graph { links: u16_at(page, 18), build_ef: u16_at(page, 20) };
        let settings = Settings::new(metric, element, u32_at(page, 24))
            .and_then(|settings| settings.with_graph(graph))
            .map_err(|err| err.to_string())?;
        let count = u32_at(page, 60) as usize;
        if count > Kind::ALL.len() {
            return Err(format!("{count} sections"));
        }
        let mut sections: Vec<Section> = Vec::with_capacity(count);
        for at in (0..count).map(|number| TABLE_AT + number * ENTRY_BYTES) {
            let kind = Kind::of(u32_at(page, at)).ok_or("unknown section")?;
            if sections.iter().any(|section| section.kind == kind) {
                return Err(format!("two sections {kind:?}"));
            }
            sections.push(Section {
                kind,
                first_sum: u32_at(page, at + 4),
                offset: u64_at(page, at + 8),
                bytes: u64_at(page, at + 16),
            });
        }
        Ok(Self {
            version: u32_at(page, 8),
            settings,
            rows: u32_at(page, 28),
            levels: u16_at(page, 22),
            entry: u32_at(page, 32),
            scale: f32::from_bits(u32_at(page, 36)),
            sums_offset: u64_at(page, 40),
            sums_bytes: u64_at(page, 48),
            sums_crc: u32_at(page, 56),
            sections,
        })
    }

    fn check_places(&self, file_bytes: u64) -> Result<(), String> {
        if self.rows == 0 || self.rows > ROWS_MAX {
            return Err(format!("{} rows", self.rows));
        }
        if self.levels > LEVELS_MAX {
            return Err(format!("{} levels", self.levels));
        }
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(format!("scale {}", self.scale));
        }
        let within = |offset: u64, bytes: u64| {
            offset.is_multiple_of(ALIGNMENT)
                && offset >= HEADER_BYTES as u64
                && offset.checked_add(bytes).is_some_and(|end| end <= file_bytes)
        };
        if !within(self.sums_offset, self.sums_bytes) {
            return Err("cut off: the checksums are past the end".to_owned());
        }
        let sums = self.sums_bytes / 4;
        let mut all = 0_u64;
        for section in &self.sections {
            if !within(section.offset, section.bytes) {
                return Err(format!("cut off: section {:?} is past the end", section.kind));
            }
            let end = u64::from(section.first_sum).checked_add(section.blocks());
            if end.is_none_or(|end| end > sums) {
                return Err(format!("section {:?} has no checksums", section.kind));
            }
            all = all.saturating_add(section.bytes);
        }
        // Else a short file could ask for much memory.
        if all > file_bytes {
            return Err("its sections overlap".to_owned());
        }
        Ok(())
    }

    /// Whether its codes are those of vectors of length one, without a centre and anything beside.
    pub(crate) fn is_of_angles_alone(&self) -> bool {
        self.settings.metric() == Metric::Cosine && !self.has(Kind::Asides)
    }

    /// Bytes of a link of the lowest level.
    pub(crate) const fn link_bytes(&self) -> usize {
        if self.version == VERSION_WIDE || self.rows > NARROW_ROWS_MAX { 4 } else { 3 }
    }

    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.sections.iter().any(|section| section.kind == kind)
    }

    /// A section that must be there, with exactly the bytes that its kind asks for.
    pub(crate) fn section(&self, kind: Kind, bytes: u64) -> Result<Section, String> {
        let found = self.sections.iter().find(|section| section.kind == kind);
        let found = found.ok_or_else(|| format!("no section {kind:?}"))?;
        if found.bytes != bytes {
            return Err(format!("section {kind:?} has {} bytes, not {bytes}", found.bytes));
        }
        Ok(*found)
    }
}

fn u16_at(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]])
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    u64::from(u32_at(page, at)) | u64::from(u32_at(page, at + 4)) << 32
}
