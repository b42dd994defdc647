//! A segment's file, opened: bounds, checksums, and its sections as slices.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ann_kernels::Pages;
use mapped_files::Mapped;
use roaring::RoaringBitmap;

use crate::codes::{Coder, Measure, Table, code_bytes};
use crate::error::{Error, Result};
use crate::graph::{Base, Flat, Narrow, Scratch, Upper, base_links};
use crate::query::Room;
use crate::segment::format::{ALIGNMENT, Header, Kind, Section};
use crate::segment::sketches::{REACH_USUAL, Sketches};
use crate::segment::sums::Verified;
use crate::settings::{Metric, Settings};
use crate::vector::{Row, aligned};

/// Walks whose memory is kept for the next: more at once make their own.
const SCRATCHES_MAX: usize = 64;

/// An immutable part of the index: one file. Its exact vectors are mapped, the rest is read into
/// memory.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    map: Mapped,
    held: Held,
    header: Header,
    parts: Parts,
    coder: Coder,
    /// Of the rows, what has been seen whole.
    verified: Verified,
    /// The numbers as a set, for counting with filters.
    all: RoaringBitmap,
    /// Made when they are first wanted; none if they are not worth it.
    sketches: OnceLock<Option<Sketches>>,
    scratches: Mutex<Vec<Scratch>>,
}

/// All sections but the exact vectors, which walks read here and there: in large pages.
#[derive(Debug)]
struct Held {
    pages: Pages,
    /// Where each kind begins.
    begins: [usize; Kind::COUNT],
}

impl Held {
    fn read(mut file: &File, sections: &[Section]) -> io::Result<Self> {
        let sections = sections.iter().filter(|section| section.kind != Kind::Rows);
        let mut begins = [0; Kind::COUNT];
        let mut end = 0;
        for section in sections.clone() {
            begins[section.kind as usize - 1] = end;
            end += section.bytes.next_multiple_of(ALIGNMENT) as usize;
        }
        let mut pages = Pages::zeroed(end)?;
        for section in sections {
            let begin = begins[section.kind as usize - 1];
            file.seek(SeekFrom::Start(section.offset))?;
            file.read_exact(&mut pages[begin..begin + section.bytes as usize])?;
        }
        Ok(Self { pages, begins })
    }

    fn section(&self, section: Section) -> &[u8] {
        let begin = self.begins[section.kind as usize - 1];
        &self.pages[begin..begin + section.bytes as usize]
    }
}

/// Where the sections are.
#[derive(Debug)]
struct Parts {
    numbers: Section,
    rows: Section,
    norms: Option<Section>,
    codes: Section,
    asides: Option<Section>,
    ratios: Option<Section>,
    row_of_slot: Section,
    slot_of_row: Section,
    graph: Option<GraphParts>,
}

#[derive(Debug)]
struct GraphParts {
    links: Section,
    nodes: Section,
    below: Section,
    upper_links: Section,
    /// Nodes of each upper level, the lowest first.
    counts: Vec<usize>,
}

/// What a walk uses.
#[derive(Debug)]
pub(crate) struct Walked<'a> {
    pub(crate) base: Base<'a>,
    pub(crate) upper: Vec<Upper<'a>>,
    pub(crate) entry: u32,
}

impl Parts {
    fn of(header: &Header) -> Result<Self, String> {
        let settings = &header.settings;
        let rows = u64::from(header.rows);
        let optional =
            |wanted: bool, kind, bytes| wanted.then(|| header.section(kind, bytes)).transpose();
        Ok(Self {
            numbers: header.section(Kind::Numbers, rows * 4)?,
            rows: header.section(Kind::Rows, rows * settings.row_bytes() as u64)?,
            norms: optional(settings.metric() == Metric::Cosine, Kind::Norms, rows * 4)?,
            codes: header.section(Kind::Codes, rows * code_bytes(settings) as u64)?,
            asides: optional(
                Measure::of(settings.metric()).has_aside() && !header.is_of_angles_alone(),
                Kind::Asides,
                rows * 4,
            )?,
            ratios: optional(
                header.has(Kind::Ratios) && Coder::may_be_by_row(settings),
                Kind::Ratios,
                rows * 4,
            )?,
            row_of_slot: header.section(Kind::RowOfSlot, rows * 4)?,
            slot_of_row: header.section(Kind::SlotOfRow, rows * 4)?,
            graph: None,
        })
    }
}

impl GraphParts {
    fn of(header: &Header, counts: &[u32]) -> Result<Self, String> {
        let links = u64::from(header.settings.graph().links);
        let list = base_links(links as u16) as u64 * header.link_bytes() as u64;
        if counts.iter().any(|count| *count == 0 || *count > header.rows) {
            return Err("an upper level has no nodes, or more than there are".to_owned());
        }
        let upper: u64 = counts.iter().map(|count| u64::from(*count)).sum();
        Ok(Self {
            links: header.section(Kind::Links, u64::from(header.rows) * list)?,
            nodes: header.section(Kind::UpperNodes, upper * 4)?,
            below: header.section(Kind::UpperBelow, upper * 4)?,
            upper_links: header.section(Kind::UpperLinks, upper * links * 4)?,
            counts: counts.iter().map(|count| *count as usize).collect(),
        })
    }
}

impl Segment {
    /// Opens a file and checks all but the exact vectors, whose blocks are checked when they
    /// are first read.
    ///
    /// # Errors
    /// [`Error::Damaged`] if anything does not hold, or the file system's.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let map = Mapped::open(&file).map_err(Error::io(path))?;
        let header = Header::of_page(&map, map.len() as u64, path)?;
        let parts = Parts::of(&header).map_err(|what| Error::damaged(path, what))?;
        let held = Held::read(&file, &header.sections).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::damaged(path, "cut off while it was read"),
            _ => Error::io(path)(error),
        })?;
        let mut segment = Self {
            path: path.to_owned(),
            map,
            held,
            verified: Verified::new(parts.rows.blocks() as usize),
            coder: Coder::new(header.settings, header.scale, Vec::new()),
            header,
            parts,
            all: RoaringBitmap::new(),
            sketches: OnceLock::new(),
            scratches: Mutex::default(),
        };
        segment.check_sums()?;
        segment.read_all().map_err(|what| segment.damaged(&what))?;
        segment.expect_whole()?;
        Ok(segment)
    }

    fn check_sums(&self) -> Result<()> {
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
        Ok(())
    }

    /// Reads what is kept apart and holds every number in the file to its bounds, so that no
    /// search meets one that is out of them.
    fn read_all(&mut self) -> Result<(), String> {
        let numbers = RoaringBitmap::from_sorted_iter(self.numbers().iter().copied());
        let mut all = numbers.map_err(|_| "its numbers do not ascend")?;
        if all.len() != u64::from(self.header.rows) {
            return Err("its numbers do not ascend".to_owned());
        }
        all.optimize();
        self.all = all;
        if Coder::is_centred(self.settings()) && !self.header.is_of_angles_alone() {
            let bytes = u64::from(self.settings().dimension()) * 4;
            let centre = self.floats(self.header.section(Kind::Centre, bytes)?).to_vec();
            self.coder = Coder::new(self.header.settings, self.header.scale, centre);
        }
        if self.header.has(Kind::Links) {
            let counts = u64::from(self.header.levels) * 4;
            let counts = self.header.section(Kind::UpperCounts, counts)?;
            let graph = GraphParts::of(&self.header, self.words(counts))?;
            self.parts.graph = Some(graph);
        }
        self.check_numbers()
    }

    fn check_numbers(&self) -> Result<(), String> {
        let rows = self.header.rows;
        let slots = self.row_of_slot().iter().zip(self.slot_of_row());
        if !slots.into_iter().all(|(row, slot)| *row < rows && *slot < rows) {
            return Err("a slot or row is out of bounds".to_owned());
        }
        let Some(walked) = self.walked() else { return Ok(()) };
        let are_within = match &walked.base {
            Base::Wide(links) => links.are_below(rows),
            Base::Narrow(links) => links.are_below(rows),
        };
        if !are_within {
            return Err("a link is out of bounds".to_owned());
        }
        let mut below_count = rows as usize;
        for level in &walked.upper {
            let holds = level.nodes.iter().all(|node| *node < rows)
                && level.below.iter().all(|below| (*below as usize) < below_count)
                && level.links.are_below(level.nodes.len() as u32);
            if !holds {
                return Err("an upper level's link is out of bounds".to_owned());
            }
            below_count = level.nodes.len();
        }
        if walked.entry as usize >= below_count {
            return Err("the entry is out of bounds".to_owned());
        }
        Ok(())
    }

    /// What was read until now was the file's: asked after it was used.
    pub(crate) fn expect_whole(&self) -> Result<()> {
        if self.map.is_whole() {
            return Ok(());
        }
        Err(self.damaged("it was cut off while it was in use"))
    }

    pub(crate) fn damaged(&self, what: &str) -> Error {
        Error::damaged(&self.path, what)
    }

    fn bytes_at(&self, offset: u64, bytes: u64) -> &[u8] {
        // The header was held to the file's length.
        &self.map[offset as usize..(offset + bytes) as usize]
    }

    fn bytes(&self, section: Section) -> &[u8] {
        match section.kind {
            Kind::Rows => self.bytes_at(section.offset, section.bytes),
            _ => self.held.section(section),
        }
    }

    fn sums(&self, section: Section) -> &[u32] {
        let sums: &[u32] =
            aligned(self.bytes_at(self.header.sums_offset, self.header.sums_bytes / 4 * 4));
        let first = section.first_sum as usize;
        sums.get(first..first + section.blocks() as usize).unwrap_or_default()
    }

    fn words(&self, section: Section) -> &[u32] {
        aligned(self.bytes(section))
    }

    fn floats(&self, section: Section) -> &[f32] {
        aligned(self.bytes(section))
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

    /// Bytes of it in memory: all but the exact vectors.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let sections = self.header.sections.iter().filter(|section| section.kind != Kind::Rows);
        let sketches = self.sketches.get().and_then(Option::as_ref);
        let sketches = sketches.map_or(0, |sketches| sketches.memory_bytes() as u64);
        let held = sections.map(|section| section.bytes).sum::<u64>();
        held + sketches + self.all.serialized_size() as u64
    }

    /// Its numbers, ascending.
    #[must_use]
    pub fn numbers(&self) -> &[u32] {
        self.words(self.parts.numbers)
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
    pub(crate) fn vector(&self, number: u32) -> Result<Option<&[u8]>> {
        match self.numbers().binary_search(&number) {
            Ok(row) => self.row_bytes(row).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The exact vectors as they are in the file now, and their blocks' checksums.
    pub(crate) fn stored(&self) -> (&[u8], &[u32]) {
        (self.bytes(self.parts.rows), self.sums(self.parts.rows))
    }

    /// Reads all exact vectors against their checksums, those that were seen before, too.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a block is not what was written.
    pub fn verify(&self) -> Result<()> {
        let (rows, sums) = self.stored();
        let afresh = Verified::new(sums.len());
        if afresh.holds(rows, sums, 0, rows.len()) {
            return self.expect_whole();
        }
        Err(self.damaged("section Rows: a checksum does not hold"))
    }

    pub(crate) fn row_bytes(&self, row: usize) -> Result<&[u8]> {
        let ((section, sums), width) = (self.stored(), self.header.settings.row_bytes());
        let (begin, end) = (row * width, (row + 1) * width);
        if !self.verified.holds(section, sums, begin, end) {
            return Err(self.damaged("section Rows: a checksum does not hold"));
        }
        Ok(&section[begin..end])
    }

    /// Begins to load an exact row.
    pub(crate) fn prefetch_row(&self, row: usize) {
        let (section, width) = (self.bytes(self.parts.rows), self.header.settings.row_bytes());
        ann_kernels::prefetch(&section[row * width..(row + 1) * width]);
    }

    pub(crate) fn row(&self, row: usize) -> Result<Row<'_>> {
        Ok(Row::of(&self.header.settings, self.row_bytes(row)?))
    }

    pub(crate) fn norms(&self) -> Option<&[f32]> {
        self.parts.norms.map(|section| self.floats(section))
    }

    pub(crate) const fn coder(&self) -> &Coder {
        &self.coder
    }

    pub(crate) fn table(&self) -> Table<'_> {
        let asides = self.parts.asides.map(|section| self.floats(section)).unwrap_or_default();
        let ratios = self.parts.ratios.map(|section| self.floats(section)).unwrap_or_default();
        Table::new(self.settings(), self.bytes(self.parts.codes), asides, ratios)
    }

    pub(crate) fn row_of_slot(&self) -> &[u32] {
        self.words(self.parts.row_of_slot)
    }

    pub(crate) fn slot_of_row(&self) -> &[u32] {
        self.words(self.parts.slot_of_row)
    }

    /// Its graph; a small segment has none.
    pub(crate) fn walked(&self) -> Option<Walked<'_>> {
        let graph = self.parts.graph.as_ref()?;
        let links = self.settings().graph().links;
        let (nodes, below) = (self.words(graph.nodes), self.words(graph.below));
        let (upper_links, width) = (self.words(graph.upper_links), links as usize);
        let mut upper = Vec::with_capacity(graph.counts.len());
        let mut begin = 0;
        for count in &graph.counts {
            let end = begin + count;
            upper.push(Upper {
                nodes: &nodes[begin..end],
                below: &below[begin..end],
                links: Flat { links: &upper_links[begin * width..end * width], width },
            });
            begin = end;
        }
        let width = base_links(links);
        let base = match self.header.link_bytes() {
            4 => Base::Wide(Flat { links: self.words(graph.links), width }),
            _ => Base::Narrow(Narrow { links: self.bytes(graph.links), width }),
        };
        Some(Walked { base, upper, entry: self.header.entry })
    }

    /// Its sketches, if they are worth it and there is room for them.
    pub(crate) fn sketches(&self, room: Option<&dyn Room>) -> Option<&Sketches> {
        if let Some(made) = self.sketches.get() {
            return made.as_ref();
        }
        let bytes = self.sketch_size()?.0 as u64 * u64::from(self.rows());
        if room.is_some_and(|room| !room.take(bytes)) {
            return None;
        }
        let made = self.sketches.get_or_init(|| Sketches::of(self)).as_ref();
        if let Some(room) = room {
            room.give_back(bytes);
        }
        made
    }

    /// The bytes of a sketch and how far sketches reach, or may if they are not made yet.
    pub(crate) fn sketch_size(&self) -> Option<(usize, usize)> {
        match self.sketches.get() {
            Some(made) => made.as_ref().map(|made| (made.width_bytes(), made.reach())),
            None => {
                let width = Sketches::width(self.table().bytes(0)?.len())?;
                Some((width * 8, REACH_USUAL))
            }
        }
    }

    /// Lends the memory of a walk.
    pub(crate) fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let lock = || self.scratches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = lock().pop().unwrap_or_default();
        let result = work(&mut scratch);
        let mut kept = lock();
        if kept.len() < SCRATCHES_MAX {
            kept.push(scratch);
        }
        result
    }
}
