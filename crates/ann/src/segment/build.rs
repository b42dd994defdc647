//! Making a segment: vectors go to the file as they come, the rest is made at the end.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ann_kernels::Pages;
use mapped_files::Mapped;

use crate::codes::{Beside, Coder, Measure, Spread, Table, code_bytes};
use crate::control::{Control, Phase};
use crate::error::{Error, Result};
use crate::graph::{END, Linked, base_links, by_locality, link, peak_bytes_per_row};
use crate::segment::Segment;
use crate::segment::format::{
    ALIGNMENT, BLOCK_BYTES, HEADER_BYTES, Header, Kind, ROWS_MAX, Section,
};
use crate::settings::{Metric, Settings};
use crate::vector::{Row, Stored};

/// A segment of fewer rows has no graph: a scan of its codes is as fast.
const GRAPH_ROWS_MIN: usize = 1_024;

/// What building may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildOptions {
    /// Threads that link the graph.
    pub threads: usize,
    /// Bytes of memory at the peak; more is refused before it is taken.
    pub memory_bytes_max: u64,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { threads: 1, memory_bytes_max: u64::MAX }
    }
}

/// Collects vectors in the order of their numbers and makes a segment of them. Dropped before
/// [`SegmentBuilder::finish`] it leaves nothing.
#[derive(Debug)]
pub struct SegmentBuilder {
    settings: Settings,
    options: BuildOptions,
    path: PathBuf,
    file: Sections,
    numbers: Vec<u32>,
    norms: Vec<f32>,
    /// A row, aligned.
    row: Vec<u64>,
}

impl SegmentBuilder {
    /// For a file at `path`, which appears there whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(settings: Settings, path: &Path, options: BuildOptions) -> Result<Self> {
        let mut file = Sections::create(path)?;
        file.begin(Kind::Rows)?;
        Ok(Self {
            settings,
            options,
            path: path.to_owned(),
            file,
            numbers: Vec::new(),
            norms: Vec::new(),
            row: vec![0; settings.row_bytes().div_ceil(8)],
        })
    }

    /// Adds a vector; numbers ascend.
    ///
    /// # Errors
    /// A number that does not ascend, the memory bound, the file system's.
    pub fn add(&mut self, number: u32, vector: &Stored) -> Result<()> {
        self.add_bytes(number, vector.bytes())
    }

    pub(crate) fn add_bytes(&mut self, number: u32, bytes: &[u8]) -> Result<()> {
        if self.numbers.last().is_some_and(|last| *last >= number) {
            return Err(Error::invalid("number", format!("{number} does not ascend")));
        }
        if self.numbers.len() >= ROWS_MAX as usize {
            return Err(Error::invalid("rows", format!("more than {ROWS_MAX} in one segment")));
        }
        let needed = self.peak_bytes(self.numbers.len() as u64 + 1);
        if needed > self.options.memory_bytes_max {
            return Err(Error::OverBudget { needed, limit: self.options.memory_bytes_max });
        }
        if self.settings.metric() == Metric::Cosine {
            let aligned: &mut [u8] = bytemuck::cast_slice_mut(&mut self.row);
            aligned[..bytes.len()].copy_from_slice(bytes);
            let norm = Row::of(&self.settings, &aligned[..bytes.len()]).norm();
            self.norms.push(norm.unwrap_or(f32::INFINITY));
        }
        self.numbers.push(number);
        self.file.write(bytes)
    }

    /// Vectors so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// Memory at the peak of a build of `rows` vectors.
    fn peak_bytes(&self, rows: u64) -> u64 {
        let settings = &self.settings;
        let graph = peak_bytes_per_row(settings.graph());
        // Numbers, norms, asides, ratios, inverse lengths, and the code.
        rows * (20 + code_bytes(settings) as u64 + graph)
    }

    /// Makes the file whole and opens it.
    ///
    /// # Errors
    /// No vectors, cancellation, the file system's.
    pub fn finish(mut self, control: &Control) -> Result<Segment> {
        if self.numbers.is_empty() {
            return Err(Error::invalid("rows", "a segment of no vectors"));
        }
        control.check()?;
        let rows = self.numbers.len();
        self.file.end()?;
        let (settings, threads) = (self.settings, self.options.threads.max(1));
        let (coder, encoded) = self.encode(threads)?;
        let linked = if rows < GRAPH_ROWS_MIN {
            None
        } else {
            let inverse = encoded.inverse_lengths(&settings);
            let table = encoded.table(&settings);
            let is_product = settings.metric() == Metric::InnerProduct;
            let tables = (table, is_product.then(|| table.by_angles(&inverse)));
            Some(link(tables, rows as u32, settings.graph(), threads, control)?)
        };
        control.enter(Phase::Writing, rows as u64);
        let slots = match &linked {
            Some(linked) => by_locality(linked, settings.graph().links),
            None => (0..rows as u32).collect(),
        };
        self.file.begin(Kind::Numbers)?;
        self.file.write(bytemuck::cast_slice(&self.numbers))?;
        if settings.metric() == Metric::Cosine {
            self.file.begin(Kind::Norms)?;
            self.file.write(bytemuck::cast_slice(&self.norms))?;
        }
        let mut header = Header::new(settings, rows as u32, coder.scale());
        self.write_codes(&coder, &encoded, &slots, control)?;
        if let Some(linked) = &linked {
            self.write_graph(linked, &slots, &mut header)?;
        }
        self.file.finish(header)?;
        // The segment has memory of its own: not beside what it was made from.
        drop((encoded, linked, slots));
        let segment = Segment::open(&self.path)?;
        control.enter(Phase::Done, rows as u64);
        Ok(segment)
    }

    /// The codes of all rows; those of rows of very different lengths by a scale for each.
    fn encode(&mut self, threads: usize) -> Result<(Coder, Encoded)> {
        let (settings, width, rows) =
            (self.settings, self.settings.row_bytes(), self.numbers.len());
        // The mapping ends here, before more is written.
        let map = self.file.map()?;
        let stored = map.get(HEADER_BYTES..HEADER_BYTES + rows * width).unwrap_or_default();
        let row = |at: usize| Row::of(&settings, &stored[at * width..(at + 1) * width]);
        let mut coder = Coder::train(settings, rows, row);
        let of = |coder: &Coder| {
            encode(coder, &settings, rows, threads, row).map_err(Error::io(&self.path))
        };
        let mut encoded = of(&coder)?;
        if let Some(by_row) = coder.for_rows_of(&encoded.spread) {
            drop(encoded);
            encoded = of(&by_row)?;
            coder = by_row;
        }
        if !map.is_whole() {
            return Err(Error::damaged(&self.path, "cut off while it was made"));
        }
        Ok((coder, encoded))
    }

    fn write_codes(
        &mut self,
        coder: &Coder,
        encoded: &Encoded,
        slots: &[u32],
        control: &Control,
    ) -> Result<()> {
        let width = code_bytes(&self.settings);
        self.file.begin(Kind::Codes)?;
        for &row in slots {
            self.file.write(&encoded.codes[row as usize * width..(row as usize + 1) * width])?;
            control.advance(1)?;
        }
        if Measure::of(self.settings.metric()).has_aside() {
            self.file.begin(Kind::Asides)?;
            for &row in slots {
                self.file.write(&encoded.asides[row as usize].to_le_bytes())?;
            }
        }
        if coder.is_by_row() {
            self.file.begin(Kind::Ratios)?;
            for &row in slots {
                self.file.write(&encoded.ratios[row as usize].to_le_bytes())?;
            }
        }
        if Coder::is_centred(&self.settings) {
            self.file.begin(Kind::Centre)?;
            self.file.write(bytemuck::cast_slice(coder.centre()))?;
        }
        self.file.begin(Kind::RowOfSlot)?;
        self.file.write(bytemuck::cast_slice(slots))?;
        self.file.begin(Kind::SlotOfRow)?;
        self.file.write(bytemuck::cast_slice(&inverse(slots)))
    }

    fn write_graph(&mut self, linked: &Linked, slots: &[u32], header: &mut Header) -> Result<()> {
        let slot_of = inverse(slots);
        let (width, bytes) = (base_links(self.settings.graph().links), header.link_bytes());
        self.file.begin(Kind::Links)?;
        let mut list = Vec::with_capacity(width * bytes);
        for &row in slots {
            let begin = row as usize * width;
            list.clear();
            for &link in &linked.base[begin..begin + width] {
                // Of END, too, the lower bytes.
                let slot = slot_of.get(link as usize).copied().unwrap_or(END);
                list.extend_from_slice(&slot.to_le_bytes()[..bytes]);
            }
            self.file.write(&list)?;
        }
        let counts: Vec<u32> = linked.upper.iter().map(|(nodes, _)| nodes.len() as u32).collect();
        self.file.begin(Kind::UpperCounts)?;
        self.file.write(bytemuck::cast_slice(&counts))?;
        self.file.begin(Kind::UpperNodes)?;
        for (nodes, _) in &linked.upper {
            let nodes: Vec<u32> = nodes.iter().map(|node| slot_of[*node as usize]).collect();
            self.file.write(bytemuck::cast_slice(&nodes))?;
        }
        // Nodes of a level ascend, as they were numbered for linking: places are searched.
        let place = |nodes: &[u32], node: u32| nodes.binary_search(&node).unwrap_or(0) as u32;
        self.file.begin(Kind::UpperBelow)?;
        for (level, (nodes, _)) in linked.upper.iter().enumerate() {
            let below = level.checked_sub(1).map(|below| &linked.upper[below].0);
            let of = |node: &u32| match below {
                Some(below) => place(below, *node),
                None => slot_of[*node as usize],
            };
            let places: Vec<u32> = nodes.iter().map(of).collect();
            self.file.write(bytemuck::cast_slice(&places))?;
        }
        self.file.begin(Kind::UpperLinks)?;
        for (nodes, lists) in &linked.upper {
            let of = |link: &u32| if *link == END { END } else { place(nodes, *link) };
            let places: Vec<u32> = lists.iter().map(of).collect();
            self.file.write(bytemuck::cast_slice(&places))?;
        }
        header.levels = linked.upper.len() as u16;
        header.entry = match linked.upper.last() {
            Some((nodes, _)) => place(nodes, linked.entry),
            None => slot_of[linked.entry as usize],
        };
        Ok(())
    }
}

/// The place of each in `slots`.
fn inverse(slots: &[u32]) -> Vec<u32> {
    let mut inverse = vec![0; slots.len()];
    for (slot, &row) in slots.iter().enumerate() {
        inverse[row as usize] = slot as u32;
    }
    inverse
}

/// All codes, and what stands beside each.
struct Encoded {
    codes: Pages,
    asides: Vec<f32>,
    /// Of a scale for each row; else none.
    ratios: Vec<f32>,
    spread: Spread,
}

impl Encoded {
    fn table(&self, settings: &Settings) -> Table<'_> {
        Table::new(settings, &self.codes, &self.asides, &self.ratios)
    }

    /// One over the length of each code, for products: what makes angles of them.
    fn inverse_lengths(&self, settings: &Settings) -> Vec<f32> {
        if settings.metric() != Metric::InnerProduct {
            return Vec::new();
        }
        let ratios = self.ratios.iter().copied().chain(std::iter::repeat(1.0));
        let inverse = |(squared, ratio): (&f32, f32)| {
            if *squared > 0.0 { ratio / squared.sqrt() } else { 0.0 }
        };
        self.asides.iter().zip(ratios).map(inverse).collect()
    }
}

/// All codes, on several threads.
fn encode<'a>(
    coder: &Coder,
    settings: &Settings,
    rows: usize,
    threads: usize,
    row: impl Fn(usize) -> Row<'a> + Sync,
) -> io::Result<Encoded> {
    let width = code_bytes(settings);
    let (mut codes, mut asides) = (Pages::zeroed(rows * width)?, vec![0.0_f32; rows]);
    let mut ratios = vec![0.0_f32; if coder.is_by_row() { rows } else { 0 }];
    let share = rows.div_ceil(threads);
    let mut spread = Spread::default();
    std::thread::scope(|scope| {
        let shares = codes.chunks_mut(share * width).zip(asides.chunks_mut(share));
        let ratios = ratios.chunks_mut(share).map(Some).chain(std::iter::repeat_with(|| None));
        let mut running = Vec::new();
        for (at, ((codes, asides), ratios)) in shares.zip(ratios).enumerate() {
            let row = &row;
            running.push(scope.spawn(move || {
                let (mut values, mut spread) = (Vec::new(), Spread::default());
                let mut ratios = ratios.unwrap_or_default().iter_mut();
                let places = codes.chunks_mut(width).zip(asides).enumerate();
                for (place, (code, aside)) in places {
                    let row = row(at * share + place);
                    let beside: Beside = coder.encode(row, &mut values, code, &mut spread);
                    *aside = beside.aside;
                    if let Some(ratio) = ratios.next() {
                        *ratio = beside.ratio;
                    }
                }
                spread
            }));
        }
        for thread in running {
            match thread.join() {
                Ok(of_share) => spread = spread.and(&of_share),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    Ok(Encoded { codes, asides, ratios, spread })
}

/// A file that is written section by section under another name.
#[derive(Debug)]
pub(crate) struct Sections {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    at: u64,
    sections: Vec<Section>,
    sums: Vec<u32>,
    block: crc32fast::Hasher,
    block_bytes: usize,
    whole: bool,
}

impl Sections {
    fn create(path: &Path) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = options.open(&partial);
        let mut file = BufWriter::with_capacity(1 << 20, file.map_err(Error::io(&partial))?);
        file.write_all(&[0; HEADER_BYTES]).map_err(Error::io(&partial))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file,
            at: HEADER_BYTES as u64,
            sections: Vec::new(),
            sums: Vec::new(),
            block: crc32fast::Hasher::new(),
            block_bytes: 0,
            whole: false,
        })
    }

    fn begin(&mut self, kind: Kind) -> Result<()> {
        self.end()?;
        let offset = self.at;
        let first_sum = self.sums.len() as u32;
        self.sections.push(Section { kind, first_sum, offset, bytes: 0 });
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io(&self.partial))?;
        self.at += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block_bytes));
            self.block.update(now);
            self.block_bytes += now.len();
            if self.block_bytes == BLOCK_BYTES {
                self.end_block();
            }
            bytes = later;
        }
        Ok(())
    }

    fn end_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        self.sums.push(block.finalize());
        self.block_bytes = 0;
    }

    /// Ends a section and goes to where the next may begin.
    fn end(&mut self) -> Result<()> {
        if self.block_bytes > 0 {
            self.end_block();
        }
        if let Some(section) = self.sections.last_mut().filter(|section| section.bytes == 0) {
            section.bytes = self.at - section.offset;
        }
        let padding = (self.at.next_multiple_of(ALIGNMENT) - self.at) as usize;
        self.file
            .write_all(&[0; ALIGNMENT as usize][..padding])
            .map_err(Error::io(&self.partial))?;
        self.at += padding as u64;
        Ok(())
    }

    /// What has been written so far.
    fn map(&mut self) -> Result<Mapped> {
        self.file.flush().map_err(Error::io(&self.partial))?;
        Mapped::open(self.file.get_ref()).map_err(Error::io(&self.partial))
    }

    fn finish(&mut self, header: Header) -> Result<()> {
        self.end()?;
        let sums: &[u8] = bytemuck::cast_slice(&self.sums);
        let header = Header {
            sums_offset: self.at,
            sums_bytes: sums.len() as u64,
            sums_crc: crc32fast::hash(sums),
            sections: std::mem::take(&mut self.sections),
            ..header
        };
        let sums = sums.to_vec();
        self.seal(&sums, &header.to_page()).map_err(Error::io(&self.partial))?;
        self.whole = true;
        Ok(())
    }

    fn seal(&mut self, sums: &[u8], page: &[u8]) -> io::Result<()> {
        self.file.write_all(sums)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(page)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Sections {
    fn drop(&mut self) {
        if !self.whole {
            // Nobody reads a partial file; what stays is overwritten by the next try.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
