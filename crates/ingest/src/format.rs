//! The formats, and how `auto` tells them apart.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use crate::error::{ErrorKind, IngestError};

/// How a file or folder is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Comma-separated text with a header line.
    Csv,
    /// Tab-separated text with a header line.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    /// One JSON array of objects (or objects one after another).
    Json,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC: the file format or the stream format.
    Arrow,
    /// A folder of image files.
    Images,
}

impl Format {
    /// Every format, in the order of the documentation.
    pub const ALL: [Self; 7] =
        [Self::Csv, Self::Tsv, Self::Jsonl, Self::Json, Self::Parquet, Self::Arrow, Self::Images];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Images => "images",
        }
    }

    /// By the extension alone; `None` if it says nothing.
    #[must_use]
    pub fn of_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "csv" => Self::Csv,
            "tsv" | "tab" => Self::Tsv,
            "jsonl" | "ndjson" => Self::Jsonl,
            "json" => Self::Json,
            "parquet" | "pq" => Self::Parquet,
            "arrow" | "ipc" | "arrows" | "feather" => Self::Arrow,
            _ => return None,
        })
    }

    /// By what is there: a folder, the first bytes of a file (which win over a
    /// wrong extension), then the extension.
    ///
    /// # Errors
    /// The file cannot be read, is compressed, or nothing says what it is.
    pub fn detect(path: &Path) -> Result<Self, IngestError> {
        let meta = std::fs::metadata(path).map_err(|err| IngestError::io(path, err))?;
        if meta.is_dir() {
            return Ok(Self::Images);
        }
        let head = first_bytes(path)?;
        if let Some(format) = of_magic(&head) {
            return Ok(format);
        }
        if let Some(tool) = compressed_by(&head) {
            let message = format!("the file is compressed by {tool}; decompress it first");
            return Err(IngestError::new(ErrorKind::Format, path, message));
        }
        Self::of_extension(path).ok_or_else(|| {
            let message =
                "neither its name nor its first bytes say what format it has; give --format";
            IngestError::new(ErrorKind::Format, path, message)
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|format| format.name()).collect();
            format!("no format {text:?}; one of {}", names.join(", "))
        })
    }
}

fn first_bytes(path: &Path) -> Result<Vec<u8>, IngestError> {
    let file = File::open(path).map_err(|err| IngestError::io(path, err))?;
    let mut head = Vec::with_capacity(16);
    file.take(16).read_to_end(&mut head).map_err(|err| IngestError::io(path, err))?;
    Ok(head)
}

fn of_magic(head: &[u8]) -> Option<Format> {
    if head.starts_with(b"PAR1") {
        return Some(Format::Parquet);
    }
    // An Arrow stream begins with a continuation marker and the length of the
    // schema message.
    (head.starts_with(b"ARROW1") || head.starts_with(&[0xff, 0xff, 0xff, 0xff]))
        .then_some(Format::Arrow)
}

fn compressed_by(head: &[u8]) -> Option<&'static str> {
    const MAGICS: [(&[u8], &str); 5] = [
        (&[0x1f, 0x8b], "gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"BZh", "bzip2"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    ];
    MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, tool)| *tool)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn detect(name: &str, bytes: &[u8]) -> Result<Format, IngestError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Format::detect(&path)
    }

    #[test]
    fn magic_wins_over_the_name() {
        assert_eq!(detect("a.csv", b"PAR1....").unwrap(), Format::Parquet);
        assert_eq!(detect("a", b"ARROW1\0\0").unwrap(), Format::Arrow);
        assert_eq!(detect("a", &[0xff, 0xff, 0xff, 0xff, 8, 0, 0, 0]).unwrap(), Format::Arrow);
    }

    #[test]
    fn the_name_decides_for_text() {
        assert_eq!(detect("a.CSV", b"a,b\n").unwrap(), Format::Csv);
        assert_eq!(detect("a.ndjson", b"{}").unwrap(), Format::Jsonl);
        assert_eq!(detect("a.json", b"[]").unwrap(), Format::Json);
    }

    #[test]
    fn what_cannot_be_told_is_an_error_that_says_so() {
        assert!(detect("a.dat", b"hello").unwrap_err().to_string().contains("--format"));
        assert!(detect("a.csv.gz", &[0x1f, 0x8b, 8]).unwrap_err().to_string().contains("gzip"));
        assert_eq!(Format::detect(Path::new("/no/such")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_folder_is_images() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Format::detect(dir.path()).unwrap(), Format::Images);
    }

    #[test]
    fn names_parse_back() {
        for format in Format::ALL {
            assert_eq!(format.name().parse::<Format>(), Ok(format));
        }
        assert!("xls".parse::<Format>().unwrap_err().contains("parquet"));
    }
}
