//! Tokens are masked on their way to the log.
//!
//! Nothing logs a credential on purpose; this is for the URL, the error text or
//! the dumped request that carries one anyway.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// What tokens begin with: personal access tokens, service secrets, JWTs.
const MARKS: [&[u8]; 3] = [b"qpat_", b"qsvc_", b"eyJ"];
/// A run of token characters shorter than this is a word, not a token.
const TOKEN_LENGTH_MIN: usize = 16;
const MASK: &[u8] = b"[redacted]";

/// Stderr, one masked line at a time.
#[derive(Debug, Clone, Copy)]
pub struct StderrWriter;

impl<'a> MakeWriter<'a> for StderrWriter {
    type Writer = Redacting<io::StderrLock<'a>>;

    fn make_writer(&'a self) -> Self::Writer {
        Redacting(io::stderr().lock())
    }
}

/// A writer that masks tokens. Each event arrives as one write.
pub struct Redacting<W: Write>(pub W);

impl<W: Write> Write for Redacting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&redact(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The line with every token replaced.
pub fn redact(line: &[u8]) -> Cow<'_, [u8]> {
    let mut masked: Option<Vec<u8>> = None;
    let mut kept_until = 0;
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let begins = MARKS.iter().any(|mark| rest.starts_with(mark));
        let length = if begins { token_length(rest) } else { 0 };
        if length >= TOKEN_LENGTH_MIN {
            let out = masked.get_or_insert_with(Vec::new);
            out.extend_from_slice(&line[kept_until..at]);
            out.extend_from_slice(MASK);
            at += length;
            kept_until = at;
        } else {
            at += 1;
        }
    }
    match masked {
        None => Cow::Borrowed(line),
        Some(mut out) => {
            out.extend_from_slice(&line[kept_until..]);
            Cow::Owned(out)
        }
    }
}

fn token_length(text: &[u8]) -> usize {
    text.iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        .count()
}
