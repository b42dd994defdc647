//! Where each object of a JSON file begins and ends. The file is never held:
//! one frame is, and a frame has a limit.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::error::{ErrorKind, IngestError};
use crate::rows::{CountedFile, Meter};

/// How the objects follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// One a line.
    Lines,
    /// One after another, whatever the white space.
    Sequence,
    /// In brackets, with commas between.
    Array,
}

/// The frames of one file.
pub(crate) struct Frames {
    path: PathBuf,
    input: BufReader<CountedFile>,
    meter: Meter,
    layout: Layout,
    frame: Vec<u8>,
    line: u64,
    count: u64,
    done: bool,
}

impl Frames {
    pub(crate) fn open(path: &Path, lines: bool, meter: &Meter) -> Result<Self, IngestError> {
        let input = BufReader::with_capacity(256 << 10, CountedFile::open(path, meter)?);
        let mut frames = Self {
            path: path.to_owned(),
            input,
            meter: meter.clone(),
            layout: Layout::Lines,
            frame: Vec::new(),
            line: 1,
            count: 0,
            done: false,
        };
        frames.skip_mark()?;
        if !lines {
            frames.layout = Layout::Sequence;
            if frames.peek_after_space()? == Some(b'[') {
                frames.input.consume(1);
                frames.layout = Layout::Array;
            }
        }
        Ok(frames)
    }

    /// The next object's bytes and the line where it begins.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(u64, &[u8])>, IngestError> {
        if self.done {
            return Ok(None);
        }
        self.frame.clear();
        self.meter.row_done();
        let begin = match self.layout {
            Layout::Lines => self.next_line()?,
            Layout::Sequence => self.next_in_sequence()?,
            Layout::Array => self.next_in_array()?,
        };
        self.count += 1;
        self.done = begin.is_none();
        Ok(begin.map(|line| (line, self.frame.as_slice())))
    }

    fn next_line(&mut self) -> Result<Option<u64>, IngestError> {
        loop {
            self.frame.clear();
            let line = self.line;
            if self
                .input
                .read_until(b'\n', &mut self.frame)
                .map_err(|err| self.failed(line, err))?
                == 0
            {
                return Ok(None);
            }
            self.line += 1;
            if self.frame.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(Some(line));
            }
        }
    }

    fn next_in_sequence(&mut self) -> Result<Option<u64>, IngestError> {
        if self.peek_after_space()?.is_none() {
            return Ok(None);
        }
        self.value().map(Some)
    }

    fn next_in_array(&mut self) -> Result<Option<u64>, IngestError> {
        let mut next = self.peek_after_space()?;
        if self.count > 0 && next == Some(b',') {
            self.input.consume(1);
            next = self.peek_after_space()?;
        } else if self.count > 0 && !matches!(next, Some(b']') | None) {
            return Err(self.wrong("a comma is missing between two rows"));
        }
        match next {
            None => Err(self.wrong("the file ends inside its array")),
            Some(b']') => {
                self.input.consume(1);
                match self.peek_after_space()? {
                    None => Ok(None),
                    Some(_) => Err(self.wrong("something follows the array")),
                }
            }
            Some(_) => self.value().map(Some),
        }
    }

    /// Copies one object to `frame`; the next byte must begin it.
    fn value(&mut self) -> Result<u64, IngestError> {
        let begin = self.line;
        let mut scan = Scan::default();
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(err) => return Err(self.failed(begin, err)),
            };
            if chunk.is_empty() {
                return Err(self
                    .wrong(&format!("the file ends inside the row that begins on line {begin}")));
            }
            if !scan.started && chunk[0] != b'{' {
                return Err(self.wrong("each row must be an object in braces"));
            }
            let (used, ended) = scan.advance(chunk);
            self.frame.extend_from_slice(&chunk[..used]);
            self.input.consume(used);
            if ended {
                self.line += scan.lines;
                return Ok(begin);
            }
        }
    }

    fn peek_after_space(&mut self) -> Result<Option<u8>, IngestError> {
        loop {
            let line = self.line;
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(err) => return Err(self.failed(line, err)),
            };
            if chunk.is_empty() {
                return Ok(None);
            }
            let space =
                chunk.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(chunk.len());
            self.line += chunk[..space].iter().filter(|byte| **byte == b'\n').count() as u64;
            let next = chunk.get(space).copied();
            self.input.consume(space);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn skip_mark(&mut self) -> Result<(), IngestError> {
        let marked = match self.input.fill_buf() {
            Ok(chunk) => chunk.starts_with(b"\xef\xbb\xbf"),
            Err(err) => return Err(self.failed(1, err)),
        };
        if marked {
            self.input.consume(3);
        }
        Ok(())
    }

    fn failed(&self, line: u64, err: std::io::Error) -> IngestError {
        if self.meter.is_over() {
            self.meter.over(&self.path, line)
        } else {
            IngestError::io(&self.path, err).line(line)
        }
    }

    fn wrong(&self, what: &str) -> IngestError {
        IngestError::new(ErrorKind::Format, &self.path, what).line(self.line)
    }
}

/// Brackets and strings of one object.
#[derive(Default)]
struct Scan {
    started: bool,
    depth: u64,
    in_text: bool,
    escaped: bool,
    lines: u64,
}

impl Scan {
    /// How many bytes belong to the object, and whether it ends with them.
    fn advance(&mut self, chunk: &[u8]) -> (usize, bool) {
        self.started = true;
        for (at, byte) in chunk.iter().enumerate() {
            if *byte == b'\n' {
                self.lines += 1;
            }
            if self.in_text {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 {
                return (at + 1, true);
            }
        }
        (chunk.len(), false)
    }
}
