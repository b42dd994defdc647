//! The files, by path and by directory, and what of them was used.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use crate::findings::{FindingKind, Findings};
use crate::{Bytes, FileFacts, Limits, Open, Sample, Unread};

/// What some editors write before a text.
pub const BOM: &[u8] = b"\xef\xbb\xbf";

pub struct Tree<'a> {
    pub files: &'a [FileFacts],
    pub findings: Findings,
    pub limits: Limits,
    pub open: &'a Open<'a>,
    /// The layout was asked for: whatever may be its sidecar is one.
    pub is_asked: bool,
    pub unread: Vec<Unread>,
    by_path: HashMap<&'a str, usize>,
    used: HashSet<usize>,
}

impl<'a> Tree<'a> {
    pub fn new(files: &'a [FileFacts], open: &'a Open<'a>, limits: Limits) -> Self {
        let by_path = files.iter().enumerate().map(|(at, file)| (file.path.as_str(), at)).collect();
        Self {
            files,
            findings: Findings::default(),
            limits,
            open,
            is_asked: false,
            unread: Vec::new(),
            by_path,
            used: HashSet::new(),
        }
    }

    pub fn at(&self, path: &str) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// Files with one of these extensions, in lower case.
    pub fn with_extension(&self, extensions: &[&str]) -> Vec<usize> {
        let is_one = |file: &FileFacts| {
            let ext = extension(&file.path).to_ascii_lowercase();
            extensions.contains(&ext.as_str())
        };
        (0..self.files.len()).filter(|at| is_one(&self.files[*at])).collect()
    }

    pub fn images(&self) -> Vec<usize> {
        (0..self.files.len()).filter(|at| self.files[*at].is_image).collect()
    }

    /// Notes a sidecar that can't be read as what it is, and what it is about.
    pub fn unread(&mut self, path: &str, about: &str, why: impl Into<String>) {
        self.findings.add(FindingKind::Broken, path, why);
        if self.unread.last().is_none_or(|last| last.path != path || last.about != about) {
            self.unread.push(Unread { path: path.to_owned(), about: about.to_owned() });
        }
    }

    /// The bytes of a sidecar; one that can't be read is a finding. `about`: see [`Unread`].
    pub fn read(&mut self, at: usize, max: u64, about: &str) -> Option<Vec<u8>> {
        let path = &self.files[at].path;
        let read = (self.open)(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(max + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        match read {
            Ok(bytes) if bytes.len() as u64 <= max => Some(bytes),
            Ok(_) => {
                self.unread(path, about, format!("is larger than {max} bytes"));
                None
            }
            Err(err) => {
                self.unread(path, about, format!("can't be read: {err}"));
                None
            }
        }
    }

    /// The text of a sidecar.
    pub fn read_text(&mut self, at: usize, about: &str) -> Option<String> {
        let bytes = self.read(at, self.limits.text_bytes_max, about)?;
        match String::from_utf8(bytes) {
            Ok(text) => Some(text.trim_start_matches('\u{feff}').to_owned()),
            Err(_) => {
                self.unread(&self.files[at].path, about, "is not UTF-8");
                None
            }
        }
    }

    /// An image as a sample, marked as used. One that is broken or whose bytes
    /// are not known is a finding instead.
    pub fn sample(&mut self, at: usize) -> Option<Sample> {
        let file = &self.files[at];
        if !self.used.insert(at) {
            return None;
        }
        if file.is_broken || file.size == 0 {
            let why = if file.size == 0 { "is empty" } else { "does not decode to its end" };
            self.findings.add(FindingKind::Broken, &file.path, why);
            return None;
        }
        let Some(content) = file.content else {
            self.findings.add(FindingKind::Unhashed, &file.path, "its bytes are not known yet");
            return None;
        };
        Some(Sample {
            bytes: Bytes::File(at),
            path: file.path.clone(),
            size: file.size,
            content,
            shown_size: file.shown_size,
            likeness: file.likeness,
            split: None,
            label: None,
            caption: None,
            annotations: Vec::new(),
            properties: serde_json::Map::new(),
        })
    }

    /// Images that nothing used become findings.
    pub fn leave_rest(&mut self, why: &str) {
        for at in self.images() {
            if !self.used.contains(&at) {
                self.findings.add(FindingKind::Orphaned, &self.files[at].path, why);
            }
        }
    }

    /// The image of a stem in a directory, whatever its extension.
    pub fn image_of_stem(&self) -> HashMap<&'a str, usize> {
        self.images().into_iter().map(|at| (stem_path(&self.files[at].path), at)).collect()
    }
}

/// What follows the last dot of the name.
pub fn extension(path: &str) -> &str {
    name(path).rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map_or("", |(_, ext)| ext)
}

pub fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The directory, empty for the root.
pub fn dir(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// The path without its extension.
pub fn stem_path(path: &str) -> &str {
    let ext = extension(path);
    if ext.is_empty() { path } else { &path[..path.len() - ext.len() - 1] }
}

/// A path below a directory, `.` and empty parts left out; nothing for one
/// that leads out of it.
pub fn join(dir: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    if relative.starts_with('/') {
        return None;
    }
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
