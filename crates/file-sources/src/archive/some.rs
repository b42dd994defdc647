//! Some members of an archive in one pass, and copies of them to be read at will.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;

use archive_members::{ArchiveError, Format, Limits, read_archive};

/// Goes through an archive once and hands over the files of it that are wanted, by
/// their paths within it, as they come; of members of one name each. `sink` says
/// whether to go on.
///
/// # Errors
/// The disk's, and whatever is wrong with the archive; what was handed over stands.
pub fn read_some(
    file: &mut File,
    format: Format,
    wanted: &HashSet<Vec<u8>>,
    limits: &Limits,
    sink: &mut dyn FnMut(&[u8], &mut dyn Read) -> bool,
) -> Result<(), ArchiveError> {
    read_archive(file, format, limits, &mut |offered, bytes| {
        if offered.is_dir || !wanted.contains(&offered.path) {
            return true;
        }
        sink(&offered.path, bytes)
    })
    .map(drop)
}

/// Copies of small files, one behind the other in a file that has no name.
#[derive(Debug)]
pub struct Spool {
    file: File,
    end: u64,
    bytes_max: u64,
    parts: HashMap<String, Result<(u64, u64), String>>,
}

impl Spool {
    /// An empty one that takes so many bytes.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(bytes_max: u64) -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        Ok(Self { file, end: 0, bytes_max, parts: HashMap::new() })
    }

    /// Copies what a reader gives, to its end; the last of a name counts. What can't
    /// be read is said when it is opened.
    pub fn add(&mut self, name: String, bytes: &mut dyn Read) {
        let part = self.copy(bytes).map_err(|err| err.to_string());
        self.parts.insert(name, part);
    }

    fn copy(&mut self, bytes: &mut dyn Read) -> io::Result<(u64, u64)> {
        let begin = self.end;
        let room = self.bytes_max.saturating_sub(begin);
        let copied = io::copy(&mut bytes.take(room + 1), &mut self.file)?;
        self.end += copied;
        if copied > room {
            let why = format!("files beside images take more than {} bytes", self.bytes_max);
            return Err(io::Error::other(why));
        }
        Ok((begin, copied))
    }

    /// Says why a file is not there.
    pub fn refuse(&mut self, name: String, why: String) {
        self.parts.entry(name).or_insert(Err(why));
    }

    /// A copy of its own of a file that was added; nothing if none was.
    ///
    /// # Errors
    /// Why it was not copied; the disk's.
    pub fn open(&self, name: &str) -> Option<io::Result<File>> {
        let part = self.parts.get(name)?;
        Some(match part {
            Ok((begin, size)) => self.part(*begin, *size),
            Err(why) => Err(io::Error::other(why.clone())),
        })
    }

    fn part(&self, begin: u64, size: u64) -> io::Result<File> {
        let mut copy = tempfile::tempfile()?;
        let mut buffer = vec![0; 64 << 10];
        let (mut at, end) = (begin, begin + size);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let count = self.file.read_at(&mut buffer[..wanted], at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            copy.write_all(&buffer[..count])?;
            at += count as u64;
        }
        copy.rewind()?;
        Ok(copy)
    }
}
