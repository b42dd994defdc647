//! What a file is, by its first bytes; by its name only where those say nothing.

use crate::names;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContentKind {
    /// Not looked at, or nothing that is known.
    Unknown = 0,
    /// Nothing at all.
    Empty = 1,
    /// Plain text.
    Text = 2,
    /// Source and markup, by name.
    Code = 3,
    /// A picture.
    Image = 4,
    /// Moving pictures.
    Video = 5,
    /// Sound.
    Audio = 6,
    /// Office and page documents.
    Document = 7,
    /// Files within a file.
    Archive = 8,
    /// A program or library.
    Executable = 9,
    /// Letters to draw with.
    Font = 10,
    /// Rows: Parquet, Arrow, CSV, SQLite.
    Data = 11,
}

impl ContentKind {
    /// Every kind, by its number.
    pub const ALL: [Self; 12] = [
        Self::Unknown,
        Self::Empty,
        Self::Text,
        Self::Code,
        Self::Image,
        Self::Video,
        Self::Audio,
        Self::Document,
        Self::Archive,
        Self::Executable,
        Self::Font,
        Self::Data,
    ];

    /// From the stored number.
    #[must_use]
    pub fn of(number: i64) -> Self {
        Self::ALL.into_iter().find(|kind| *kind as i64 == number).unwrap_or(Self::Unknown)
    }

    /// As searches name it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Empty => "empty",
            Self::Text => "text",
            Self::Code => "code",
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Document => "document",
            Self::Archive => "archive",
            Self::Executable => "executable",
            Self::Font => "font",
            Self::Data => "data",
        }
    }

    /// From its word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

const CODE: &[&str] = &[
    "bash", "c", "cc", "cpp", "cs", "css", "go", "h", "hpp", "html", "java", "js", "jsx", "kt",
    "lua", "md", "php", "pl", "proto", "py", "pyi", "r", "rb", "rs", "rst", "scala", "sh", "sql",
    "swift", "toml", "ts", "tsx", "xml", "yaml", "yml",
];
const ROWS: &[&str] = &["csv", "tsv", "json", "jsonl", "ndjson"];
/// More than this of a head is not looked at to tell text from bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// The MIME type that a file's first bytes tell, if they tell one.
#[must_use]
pub fn mime_type(head: &[u8]) -> Option<&'static str> {
    infer::get(head).map(|found| found.mime_type())
}

/// The kind of a file from its head, and its name where text is text.
#[must_use]
pub fn sniff(head: &[u8], name: &[u8]) -> ContentKind {
    if head.is_empty() {
        return ContentKind::Empty;
    }
    if head.starts_with(b"PAR1")
        || head.starts_with(b"ARROW1")
        || head.starts_with(b"SQLite format 3\0")
    {
        return ContentKind::Data;
    }
    if head.starts_with(b"\x7fELF") {
        return ContentKind::Executable;
    }
    if let Some(found) = infer::get(head) {
        return match found.matcher_type() {
            infer::MatcherType::App => ContentKind::Executable,
            infer::MatcherType::Archive if found.extension() == "pdf" => ContentKind::Document,
            infer::MatcherType::Archive => ContentKind::Archive,
            infer::MatcherType::Audio => ContentKind::Audio,
            infer::MatcherType::Book | infer::MatcherType::Doc => ContentKind::Document,
            infer::MatcherType::Font => ContentKind::Font,
            infer::MatcherType::Image => ContentKind::Image,
            infer::MatcherType::Video => ContentKind::Video,
            _ => text_kind(head, name),
        };
    }
    text_kind(head, name)
}

fn text_kind(head: &[u8], name: &[u8]) -> ContentKind {
    let looked_at = &head[..head.len().min(TEXT_BYTES_MAX)];
    let is_text = match std::str::from_utf8(looked_at) {
        Ok(text) => !text.contains('\0'),
        // Cut within a character.
        Err(err) => err.error_len().is_none() && !looked_at.contains(&0),
    };
    if !is_text {
        return ContentKind::Unknown;
    }
    let name = names::text(name).to_ascii_lowercase();
    let ext = names::extension(&name);
    if ROWS.contains(&ext) {
        ContentKind::Data
    } else if CODE.contains(&ext) {
        ContentKind::Code
    } else {
        ContentKind::Text
    }
}
