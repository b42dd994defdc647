//! Contents: hashed once, in one open, or compared byte by byte.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::clip::{Boxes, clip_facts};
use crate::entry::Mark;
use crate::kinds::{ContentKind, sniff};
use crate::media::{MediaFacts, head_facts};
use crate::root::{Dir, Root, nanos, split, stat_fd};

const BUFFER_BYTES: usize = 256 << 10;
/// Of a file of more bytes all but the first buffer is mapped: it is not copied. Of smaller
/// ones the mapping costs more than the copy.
const MAPPED_BYTES: usize = 512 << 10;
/// What of it is hashed before [`Stop`] is asked again.
const PIECE_BYTES: usize = 4 << 20;
/// What is kept of a file's beginning, for its kind and the facts of its header.
pub const HEAD_BYTES: usize = 64 << 10;
/// What is compared of a file's beginning, and of its end, before all of it is.
const END_BYTES: usize = 4 << 10;

/// How much later than others a thread that reads files by the thousand gets a processor.
const WAY_GIVEN: i32 = 5;

/// Lets other threads run before the calling one, to its end: whoever stores what was read,
/// or waits for an answer, needs a processor seldom and then at once.
pub fn give_way() {
    // A system that does not allow it runs them as it likes.
    let _ = rustix::process::nice(WAY_GIVEN);
}

/// Why a file has no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// It is not there any more.
    #[error("it is gone")]
    Gone,
    /// It is another one than was listed, or no regular file.
    #[error("it was replaced after it was listed")]
    Replaced,
    /// It was written to while it was read: there is no one content.
    #[error("it changed while it was read")]
    Changed,
    /// Whoever wanted it read wants it no more.
    #[error("its reading was stopped")]
    Stopped,
    /// The system's refusal.
    #[error("{0}")]
    Unreadable(io::Error),
}

/// Tells, between pieces of a file, that the rest of it is not wanted any more.
#[derive(Clone)]
pub struct Stop(Arc<dyn Fn() -> bool + Send + Sync>);

impl Stop {
    /// What is asked; it answers at once.
    pub fn new(is_wanted: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_wanted))
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stop")
    }
}

impl From<Errno> for HashError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Gone,
            Errno::LOOP | Errno::XDEV => Self::Replaced,
            other => Self::Unreadable(other.into()),
        }
    }
}

impl From<io::Error> for HashError {
    fn from(err: io::Error) -> Self {
        match err.raw_os_error().map(Errno::from_raw_os_error) {
            Some(errno) => errno.into(),
            // No system's: `Hasher::go_on` says so.
            None if err.kind() == io::ErrorKind::Interrupted => Self::Stopped,
            None => Self::Unreadable(err),
        }
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// BLAKE3-256 of all of it.
    pub hash: [u8; 32],
    /// Bytes that were read.
    pub size: i64,
    /// By its first bytes.
    pub kind: ContentKind,
    /// As it was when it was read.
    pub mark: Mark,
}

/// Reads files with buffers that are used again. One a thread.
#[derive(Debug)]
pub struct Hasher {
    buffer: Vec<u8>,
    /// The first bytes of the file that was last hashed, if it needed more than one
    /// read; else they are still in the buffer, so many.
    head: Vec<u8>,
    head_in_buffer: usize,
    /// The boxes of the file that was last hashed, if it is made of some.
    boxes: Option<Boxes>,
    /// The directory that was last opened: files come in runs of one.
    last: Option<(Vec<u8>, Dir)>,
    stop: Option<Stop>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES],
            head: Vec::with_capacity(HEAD_BYTES),
            head_in_buffer: 0,
            boxes: None,
            last: None,
            stop: None,
        }
    }
}

impl Hasher {
    /// The same, which ends amid a file, however large it is, when it is told to.
    #[must_use]
    pub fn until(self, stop: Stop) -> Self {
        Self { stop: Some(stop), ..self }
    }

    fn go_on(&self) -> io::Result<()> {
        match &self.stop {
            Some(Stop(is_wanted)) if is_wanted() => Err(io::ErrorKind::Interrupted.into()),
            _ => Ok(()),
        }
    }

    /// Hashes the regular file at a relative path, which must still be the
    /// inode that was listed.
    ///
    /// # Errors
    /// It is gone, replaced, changing or unreadable.
    pub fn hash(&mut self, root: &Root, relative: &[u8], ino: u64) -> Result<Content, HashError> {
        let (mut file, before) = self.open(root, relative, ino)?;
        let expected = usize::try_from(before.size).unwrap_or(usize::MAX);
        let (hash, size) = self.hash_file(&mut file, expected)?;
        let after = mark(&stat_fd(&file.into())?);
        if before != after || after.size != size {
            return Err(HashError::Changed);
        }
        let name = split(relative).1;
        Ok(Content { hash, size, kind: sniff(self.head(), name), mark: after })
    }

    /// Hashes a file that must still be what was listed; no kind is looked for.
    pub(crate) fn hash_listed(
        &mut self,
        root: &Root,
        relative: &[u8],
        listed: &Mark,
    ) -> Result<[u8; 32], HashError> {
        let (mut file, before) = self.open(root, relative, listed.ino)?;
        let expected = usize::try_from(listed.size).unwrap_or(usize::MAX);
        if before != *listed {
            return Err(HashError::Changed);
        }
        let (hash, size) = self.hash_file(&mut file, expected)?;
        let after = mark(&stat_fd(&file.into())?);
        if after != before || after.size != size {
            return Err(HashError::Changed);
        }
        Ok(hash)
    }

    /// Hashes the first and the last bytes of such a file: equal files begin and end
    /// alike.
    pub(crate) fn hash_ends(
        &mut self,
        root: &Root,
        relative: &[u8],
        listed: &Mark,
    ) -> Result<[u8; 32], HashError> {
        let (file, before) = self.open(root, relative, listed.ino)?;
        let size = u64::try_from(listed.size).unwrap_or(0);
        if before != *listed || size < END_BYTES as u64 {
            return Err(HashError::Changed);
        }
        let ends = &mut self.buffer[..2 * END_BYTES];
        file.read_exact_at(&mut ends[..END_BYTES], 0)?;
        file.read_exact_at(&mut ends[END_BYTES..], size - END_BYTES as u64)?;
        let hash = blake3::hash(ends).into();
        // What was last hashed is not in the buffer any more.
        self.head.clear();
        self.head_in_buffer = 0;
        Ok(hash)
    }

    /// The first bytes of the file that was last hashed.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        if self.head.is_empty() { &self.buffer[..self.head_in_buffer] } else { &self.head }
    }

    /// What the headers of the file that was last hashed tell, of images and clips.
    #[must_use]
    pub fn facts(&self, kind: ContentKind, size: i64) -> Option<MediaFacts> {
        match kind {
            ContentKind::Image => head_facts(self.head(), size),
            ContentKind::Video | ContentKind::Audio => {
                clip_facts(self.head(), size, self.boxes.as_ref())
            }
            _ => None,
        }
    }

    /// Opens a file for reading by its relative path.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub fn open(
        &mut self,
        root: &Root,
        relative: &[u8],
        ino: u64,
    ) -> Result<(File, Mark), HashError> {
        let (parent, name) = split(relative);
        if self.last.as_ref().is_none_or(|(path, _)| path != parent) {
            self.last = Some((parent.to_vec(), root.dir(parent)?));
        }
        let Some((_, dir)) = &self.last else { return Err(HashError::Gone) };
        let opened = open_regular(dir, OsStr::from_bytes(name), ino);
        if opened.is_err() {
            // The directory may be another one by now.
            self.last = None;
        }
        opened
    }

    /// Hashes what a reader gives, to its end; answers how much it was.
    ///
    /// # Errors
    /// The reader's.
    pub fn hash_bytes(&mut self, reader: &mut impl Read) -> io::Result<([u8; 32], i64)> {
        self.hash_up_to(reader, usize::MAX)
    }

    /// Most files fit into the buffer: where their size is known they take one read,
    /// and their head is not copied. Of what is longer than expected one byte more is
    /// read.
    pub(crate) fn hash_up_to(
        &mut self,
        reader: &mut impl Read,
        expected: usize,
    ) -> io::Result<([u8; 32], i64)> {
        let mut hash = blake3::Hasher::new();
        let size = self.read_up_to(reader, &mut hash, expected)?;
        Ok((hash.finalize().into(), i64::try_from(size).unwrap_or(i64::MAX)))
    }

    /// Hashes an open file from its beginning: a large one without a copy of its bytes.
    pub(crate) fn hash_file(
        &mut self,
        file: &mut File,
        expected: usize,
    ) -> io::Result<([u8; 32], i64)> {
        if expected > MAPPED_BYTES {
            let mut hash = blake3::Hasher::new();
            let read = self.read_up_to(file, &mut hash, BUFFER_BYTES - 1)?;
            let rest = expected - read;
            // Of boxes the bytes are looked at, too.
            if read == BUFFER_BYTES
                && self.boxes.is_none()
                && self.hash_rest(&mut hash, file, (read, rest))?
            {
                return Ok((hash.finalize().into(), i64::try_from(expected).unwrap_or(i64::MAX)));
            }
            file.rewind()?;
        }
        self.hash_up_to(file, expected)
    }

    /// Adds the rest of a file to a hash, from an offset on; false: it has to be read.
    fn hash_rest(
        &self,
        hash: &mut blake3::Hasher,
        file: &File,
        (from, bytes): (usize, usize),
    ) -> io::Result<bool> {
        let mut done = 0;
        while done < bytes {
            self.go_on()?;
            let piece = PIECE_BYTES.min(bytes - done);
            if !mapped_files::hash_rest(hash, file, (from + done) as u64, piece as u64) {
                return Ok(false);
            }
            done += piece;
        }
        Ok(true)
    }

    /// Adds what a reader gives to a hash, to its end; answers how much it was.
    fn read_up_to(
        &mut self,
        reader: &mut impl Read,
        hash: &mut blake3::Hasher,
        expected: usize,
    ) -> io::Result<usize> {
        self.head.clear();
        self.head_in_buffer = 0;
        self.boxes = None;
        let mut size = 0_usize;
        while size <= expected {
            self.go_on()?;
            if size > 0 && self.head.len() < HEAD_BYTES {
                self.keep_head();
            }
            let room = self.buffer.len().min((expected - size).saturating_add(1));
            let count = reader.read(&mut self.buffer[..room])?;
            if count == 0 {
                break;
            }
            let bytes = &self.buffer[..count];
            if size == 0 {
                self.boxes = Boxes::of(bytes);
            }
            if let Some(boxes) = &mut self.boxes {
                boxes.feed(bytes);
            }
            hash.update(bytes);
            self.head_in_buffer = count.min(HEAD_BYTES);
            size += count;
            // A file gives less than it is asked for at its end alone.
            if size == expected && count < room {
                break;
            }
        }
        if !self.head.is_empty() && self.head.len() < HEAD_BYTES {
            self.keep_head();
        }
        Ok(size)
    }

    /// The buffer is about to be overwritten.
    fn keep_head(&mut self) {
        let count = (HEAD_BYTES - self.head.len()).min(self.head_in_buffer);
        self.head.extend_from_slice(&self.buffer[..count]);
        self.head_in_buffer = 0;
    }
}

fn open_regular(dir: &Dir, name: &OsStr, ino: u64) -> Result<(File, Mark), HashError> {
    // Without NONBLOCK a FIFO that took the file's place would hold us for ever.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&dir.fd, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the file's owner may leave its access time alone.
        Err(Errno::PERM) => rustix::fs::openat(&dir.fd, name, flags, Mode::empty()),
        opened => opened,
    }?;
    let stat = stat_fd(&opened)?;
    let is_file = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
    if !is_file || stat.stx_ino != ino {
        return Err(HashError::Replaced);
    }
    Ok((File::from(opened), mark(&stat)))
}

fn mark(stat: &Statx) -> Mark {
    Mark {
        size: i64::try_from(stat.stx_size).unwrap_or(i64::MAX),
        modified: nanos(&stat.stx_mtime),
        changed: nanos(&stat.stx_ctime),
        ino: stat.stx_ino,
    }
}

/// What an open file is now.
///
/// # Errors
/// The system's.
pub fn mark_of(file: &File) -> io::Result<Mark> {
    let wanted = StatxFlags::BASIC_STATS;
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted)?;
    Ok(mark(&stat))
}

/// Whether two readers give the same bytes, read side by side.
///
/// # Errors
/// Those of either.
pub fn same_bytes(a: &mut impl Read, b: &mut impl Read) -> io::Result<bool> {
    let (mut of_a, mut of_b) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let count = fill(a, &mut of_a)?;
        if count != fill(b, &mut of_b)? || of_a[..count] != of_b[..count] {
            return Ok(false);
        }
        if count < BUFFER_BYTES {
            return Ok(true);
        }
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
