//! What a loader would run of a file, told without running it.

mod archive;
mod globals;
mod inflate;
mod joblib;
mod kinds;
mod packed;
mod pickle;
mod texts;
mod value;
mod zip;

use std::cell::Cell;
use std::collections::HashSet;

use crate::source::{Meter, Part, RangeReader, ReadError};

/// Changes whenever a file may get another verdict than before.
pub const SCANNER_VERSION: i64 = 3;

/// Findings that are told of a file; the verdict counts them all.
const FINDINGS_MAX: usize = 100;

/// How bad a file is, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All that it names is known to be data.
    Clean,
    /// It names what nobody vouches for.
    Unknown,
    /// It does what hardly a model needs.
    Suspicious,
    /// It could not be followed to its end.
    Unreadable,
    /// It names what runs commands or code, or reaches for files or the network.
    Dangerous,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Verdict,
    /// A word for programs: `DANGEROUS_GLOBAL`, `TRUNCATED`, …
    pub reason: &'static str,
    /// The member of an archive, below each other by `!`; empty: the file itself.
    pub member: String,
    /// `module.name`; empty where none is at fault.
    pub global: String,
    /// Bytes from the member's begin, unpacked.
    pub offset: u64,
    /// For people.
    pub message: String,
}

/// What a scan says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `pickle`, `torch`, `zip`, `joblib`, `numpy`, `keras`, `hdf5`, `python`, …;
    /// empty for a file that no loader runs.
    pub format: &'static str,
    pub verdict: Verdict,
    pub findings: Vec<Finding>,
}

/// What is spent on one file at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that are read of it.
    pub read_bytes: u64,
    /// Bytes that come out of its compressed streams.
    pub inflated_bytes: u64,
    /// Opcodes of all its pickles.
    pub opcodes: u64,
    /// Members of all its archives.
    pub members: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { read_bytes: 8 << 30, inflated_bytes: 1 << 30, opcodes: 50_000_000, members: 20_000 }
    }
}

/// What of a file's path a verdict depends on, beside its bytes: its last ending,
/// in small letters; empty if it has none.
#[must_use]
pub fn ending(path: &str) -> String {
    const BYTES_MAX: usize = 16;
    let name = path.rsplit('/').next().unwrap_or_default();
    let ending = name.rfind('.').map_or("", |at| &name[at..]);
    if ending.len() > BYTES_MAX { String::new() } else { ending.to_lowercase() }
}

/// Scans a file; the ending of its path says what its bytes don't.
#[must_use]
pub fn scan(path: &str, source: &dyn RangeReader, limits: &Limits) -> Report {
    let meter = Meter {
        read_bytes: Cell::new(limits.read_bytes),
        inflated_bytes: Cell::new(limits.inflated_bytes),
        opcodes: Cell::new(limits.opcodes),
        members: Cell::new(limits.members),
    };
    let mut notes = Notes::default();
    let ending = ending(path);
    let place = Place { path: &ending, member: "", depth: 0 };
    let format = kinds::look(place, Part::whole(source), &meter, &mut notes);
    Report { format, verdict: notes.worst, findings: notes.findings }
}

/// Where a part of a file stands.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    /// Its own name, whose ending says something.
    path: &'a str,
    /// The way to it through archives.
    member: &'a str,
    /// How many archives it is in.
    depth: u32,
}

impl Place<'_> {
    fn named(&self, suffixes: &[&str]) -> bool {
        let path = self.path.to_ascii_lowercase();
        suffixes.iter().any(|suffix| path.ends_with(suffix))
    }
}

/// Findings as they come: each global once for each member.
#[derive(Debug)]
struct Notes {
    worst: Verdict,
    findings: Vec<Finding>,
    seen: HashSet<(String, String, &'static str)>,
}

impl Default for Notes {
    fn default() -> Self {
        Self { worst: Verdict::Clean, findings: Vec::new(), seen: HashSet::new() }
    }
}

impl Notes {
    fn add(&mut self, finding: Finding) {
        self.worst = self.worst.max(finding.severity);
        let key = (finding.member.clone(), finding.global.clone(), finding.reason);
        if self.seen.len() < FINDINGS_MAX * 10 && !self.seen.insert(key) {
            return;
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else if let Some(least) = self.findings.iter_mut().min_by_key(|known| known.severity) {
            // The worst are told, however late they come.
            if least.severity < finding.severity {
                *least = finding;
            }
        }
    }

    fn say(
        &mut self,
        place: Place<'_>,
        severity: Verdict,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.add(Finding {
            severity,
            reason,
            member: place.member.to_owned(),
            global: String::new(),
            offset: 0,
            message: message.into(),
        });
    }

    /// What could not be followed to its end is not clean.
    fn unread(&mut self, place: Place<'_>, offset: u64, error: &ReadError) {
        let reason = match error {
            ReadError::Truncated => "TRUNCATED",
            ReadError::Exhausted(_) => "TOO_LARGE",
            ReadError::Bomb(_) => "ZIP_BOMB",
            ReadError::Io(_) => "UNREADABLE",
        };
        self.add(Finding {
            severity: Verdict::Unreadable,
            reason,
            member: place.member.to_owned(),
            global: String::new(),
            offset,
            message: error.to_string(),
        });
    }

    /// Takes over what others found.
    fn adopt(&mut self, others: Self) {
        others.findings.into_iter().for_each(|finding| self.add(finding));
    }
}
