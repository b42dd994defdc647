//! What is wrong with an input, and where.

use std::fmt;
use std::path::{Path, PathBuf};

/// What kind of fault it is; a caller maps it to its own codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The operating system refused to read or write.
    Io,
    /// There is no such file or folder.
    NotFound,
    /// The bytes are not what the format promises, or no format is known.
    Format,
    /// A row or a cell does not fit its type.
    Value,
    /// The given or the found columns make no schema.
    Schema,
    /// Something is larger than a limit; the message names both.
    Limit,
}

/// A fault with the place where it is: file, line and column where known.
#[derive(Debug)]
pub struct IngestError {
    kind: ErrorKind,
    path: PathBuf,
    line: Option<u64>,
    column: Option<String>,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl IngestError {
    /// A fault of `kind` in the file or folder `path`.
    pub fn new(kind: ErrorKind, path: &Path, message: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.to_owned(),
            line: None,
            column: None,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn io(path: &Path, err: std::io::Error) -> Self {
        let kind = if err.kind() == std::io::ErrorKind::NotFound {
            ErrorKind::NotFound
        } else {
            ErrorKind::Io
        };
        Self { source: Some(Box::new(err)), ..Self::new(kind, path, "cannot be read or written") }
            .with_cause()
    }

    pub(crate) fn broken(
        path: &Path,
        what: &str,
        err: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { source: Some(Box::new(err)), ..Self::new(ErrorKind::Format, path, what) }
            .with_cause()
    }

    /// Adds the line, counted from 1.
    #[must_use]
    pub fn line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    /// Adds the name of the column.
    #[must_use]
    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    fn with_cause(mut self) -> Self {
        if let Some(source) = &self.source {
            self.message = format!("{}: {source}", self.message);
        }
        self
    }

    /// What kind of fault it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The file or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line, counted from 1, of a text file.
    #[must_use]
    pub const fn line_number(&self) -> Option<u64> {
        self.line
    }

    /// The name of the column.
    #[must_use]
    pub fn column_name(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// What is wrong and what to do, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for IngestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = &self.column {
            write!(f, ": column {column:?}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for IngestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A number of bytes as people write it.
pub(crate) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut rest = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    match rest * 10 / 1024 {
        0 => format!("{whole} {}", UNITS[unit]),
        tenths => format!("{whole}.{tenths} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_file_line_and_column() {
        let err =
            IngestError::new(ErrorKind::Value, Path::new("a/b.csv"), "\"x\" is not an integer")
                .line(7)
                .column("width");
        assert_eq!(err.to_string(), "a/b.csv:7: column \"width\": \"x\" is not an integer");
    }

    #[test]
    fn bytes_read_well() {
        assert_eq!(bytes_text(12), "12 bytes");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(bytes_text(64 << 20), "64 MiB");
        assert_eq!(bytes_text(5 << 40), "5 TiB");
    }
}
