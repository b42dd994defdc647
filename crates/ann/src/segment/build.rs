//! Making a segment: vectors go to the file as they come, the rest is made at the end.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::control::{Control, Phase};
use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::segment::format::{
    ALIGNMENT, BLOCK_BYTES, HEADER_BYTES, Header, Kind, ROWS_MAX, Section,
};
use crate::settings::{Metric, Settings};
use crate::vector::{Row, Stored};

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
        rows * 8
    }

    /// Makes the file whole and opens it.
    ///
    /// # Errors
    /// No vectors, cancellation, the file system's.
    pub fn finish(mut self, control: &Control) -> Result<Segment> {
        if self.numbers.is_empty() {
            return Err(Error::invalid("rows", "a segment of no vectors"));
        }
        control.enter(Phase::Writing, self.numbers.len() as u64);
        control.check()?;
        self.file.begin(Kind::Numbers)?;
        self.file.write(bytemuck::cast_slice(&self.numbers))?;
        if self.settings.metric() == Metric::Cosine {
            self.file.begin(Kind::Norms)?;
            self.file.write(bytemuck::cast_slice(&self.norms))?;
        }
        let header = Header {
            settings: self.settings,
            rows: self.numbers.len() as u32,
            levels: 0,
            entry: 0,
            scale: 1.0,
            sums_offset: 0,
            sums_bytes: 0,
            sums_crc: 0,
            sections: Vec::new(),
        };
        self.file.finish(header)?;
        let segment = Segment::open(&self.path)?;
        control.enter(Phase::Done, u64::from(segment.rows()));
        Ok(segment)
    }
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
        let file =
            File::options().read(true).write(true).create(true).truncate(true).open(&partial);
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
        if let Some(section) = self.sections.last_mut() {
            section.bytes = self.at - section.offset;
        }
        let padding = (self.at.next_multiple_of(ALIGNMENT) - self.at) as usize;
        self.file
            .write_all(&[0; ALIGNMENT as usize][..padding])
            .map_err(Error::io(&self.partial))?;
        self.at += padding as u64;
        Ok(())
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
