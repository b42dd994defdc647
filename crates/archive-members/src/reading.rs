//! An archive from its beginning to its end, whatever its format.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

use flate2::read::MultiGzDecoder;

use crate::bounded::{Bounded, TooMuch};
use crate::forward::{Forward, Seeking, Streaming};
use crate::tar::{Step, walk_tar};
use crate::{ArchiveError, shown, zip};

/// What a zstd frame may keep in memory: 128 MiB, as the format's own tools.
const WINDOW_LOG_MAX: u32 = 27;

/// How files are put into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As it is.
    Tar,
    /// `.tar.gz`, `.tgz`.
    TarGz,
    /// `.tar.zst`, `.tzst`.
    TarZst,
    /// With members that are stored or deflated.
    Zip,
}

impl Format {
    /// The last extensions of archives' names, in lower case.
    pub const EXTENSIONS: [&'static str; 6] = ["zip", "tar", "tgz", "gz", "tzst", "zst"];

    /// By the end of a name, in any case; nothing if it is no archive's.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let ends = |end: &str| {
            name.len() > end.len()
                && name[name.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
        };
        [
            (".zip", Self::Zip),
            (".tar", Self::Tar),
            (".tar.gz", Self::TarGz),
            (".tgz", Self::TarGz),
            (".tar.zst", Self::TarZst),
            (".tzst", Self::TarZst),
        ]
        .into_iter()
        .find_map(|(end, format)| ends(end).then_some(format))
    }
}

/// What is read of one archive, whatever it says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files and directories.
    pub members_max: u64,
    /// Bytes of all their paths.
    pub path_bytes_max: u64,
    /// It may unpack to so many bytes, or to `ratio_max` times its own size if
    /// that is more.
    pub free_bytes: u64,
    /// Deflate reaches 1,032; what people pack rarely 50.
    pub ratio_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members_max: 200_000,
            path_bytes_max: 64 << 20,
            free_bytes: 256 << 20,
            ratio_max: 200,
        }
    }
}

impl Limits {
    fn unpacked_max(&self, size: u64) -> u64 {
        self.free_bytes.max(size.saturating_mul(self.ratio_max))
    }
}

/// A member as it is come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Relative, without `.` and `..`; any bytes.
    pub path: Vec<u8>,
    /// A directory has no bytes.
    pub is_dir: bool,
    /// Bytes, unpacked.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: i64,
    /// What a zip says of its bytes.
    pub crc: Option<u32>,
}

/// What was passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// Names that are absolute, too long or hold `..`.
    pub names: u64,
    /// One of them.
    pub example: String,
}

impl Passed {
    pub(crate) fn note(&mut self, name: &[u8]) {
        self.names += 1;
        if self.example.is_empty() {
            self.example = shown(name);
        }
    }
}

/// Counts what a caller is handed.
pub(crate) struct Meter<'a> {
    limits: &'a Limits,
    members: u64,
    path_bytes: u64,
}

impl<'a> Meter<'a> {
    pub const fn new(limits: &'a Limits) -> Self {
        Self { limits, members: 0, path_bytes: 0 }
    }

    pub fn take(&mut self, path: &[u8]) -> Result<(), ArchiveError> {
        self.members += 1;
        self.path_bytes += path.len() as u64;
        if self.members > self.limits.members_max || self.path_bytes > self.limits.path_bytes_max {
            return Err(ArchiveError::TooMany(self.members - 1));
        }
        Ok(())
    }
}

/// Takes a member and what reads its bytes, which need not be read; says
/// whether to go on.
pub(crate) type Visit<'a> = dyn FnMut(Offered, &mut dyn Read) -> bool + 'a;

/// Goes through an archive and offers each file and directory in it. A reader
/// of a member's bytes fails if they are not what the archive says. Archives
/// within it are members like others.
///
/// # Errors
/// What is wrong with it, after what came before was offered.
pub fn read_archive(
    file: &mut File,
    format: Format,
    limits: &Limits,
    visit: &mut Visit<'_>,
) -> Result<Passed, ArchiveError> {
    file.rewind()?;
    let size = file.metadata()?.len();
    let max = limits.unpacked_max(size);
    let mut meter = Meter::new(limits);
    match format {
        Format::Zip => zip::read_zip(file, max, &mut meter, visit),
        Format::Tar => {
            read_tar(&mut Seeking::new(file)?, &mut meter, visit).map(|(passed, _)| passed)
        }
        Format::TarGz => {
            unpacked(MultiGzDecoder::new(BufReader::new(file)), max, &mut meter, visit)
        }
        Format::TarZst => {
            let mut decoder = zstd::stream::read::Decoder::new(file)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            unpacked(decoder, max, &mut meter, visit)
        }
    }
}

fn unpacked(
    reader: impl Read,
    max: u64,
    meter: &mut Meter<'_>,
    visit: &mut Visit<'_>,
) -> Result<Passed, ArchiveError> {
    // Headers are small: each read of the decompressor's would be one of 512 bytes.
    let mut stream = Streaming::new(BufReader::with_capacity(64 << 10, Bounded::new(reader, max)));
    let read = read_tar(&mut stream, meter, visit).and_then(|(passed, was_ended)| {
        if !was_ended {
            // What follows the end mark has a checksum too.
            stream.pass(u64::MAX)?;
        }
        Ok(passed)
    });
    read.map_err(|error| match error {
        ArchiveError::Io(error) => {
            match error.get_ref().and_then(|of| of.downcast_ref::<TooMuch>()) {
                Some(TooMuch(max)) => ArchiveError::Bomb(*max),
                None => ArchiveError::Io(error),
            }
        }
        other => other,
    })
}

/// True beside the names: the caller ended it.
fn read_tar(
    input: &mut impl Forward,
    meter: &mut Meter<'_>,
    visit: &mut Visit<'_>,
) -> Result<(Passed, bool), ArchiveError> {
    let (mut passed, mut failed, mut was_ended) = (Passed::default(), None, false);
    walk_tar(input, &mut |step, bytes| match step {
        Step::Refused { name, .. } => {
            passed.note(&name);
            true
        }
        Step::Member { member, is_dir } => {
            if let Err(error) = meter.take(&member.path) {
                failed = Some(error);
                return false;
            }
            let offered = Offered {
                path: member.path,
                is_dir,
                size: member.size,
                modified: member.modified,
                crc: None,
            };
            was_ended = !visit(offered, bytes);
            !was_ended
        }
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok((passed, was_ended)),
    }
}

/// Reads all, or says how much there was not.
pub(crate) fn exactly(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
