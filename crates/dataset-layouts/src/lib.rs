//! Layouts of image datasets, recognised in what an index knows of a tree.

mod captions;
mod coco;
mod findings;
mod folder;
mod leaks;
mod splits;
mod tree;
mod voc;
mod webdataset;
mod yolo;

use std::fs::File;
use std::io;

pub use findings::{Finding, FindingKind, Findings};
pub use leaks::leaks;

use tree::Tree;

/// A file as the index knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct FileFacts {
    /// Relative to the imported directory, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3-256, once it is hashed.
    pub content: Option<[u8; 32]>,
    /// Its bytes are those of an image, or its name is while they are not known.
    pub is_image: bool,
    /// Width and height as shown, once they were looked at.
    pub shown_size: Option<(u32, u32)>,
    /// It does not decode to its end.
    pub is_broken: bool,
    /// 64 bits that are close for images that look alike.
    pub likeness: Option<i64>,
}

/// How a tree is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `split/class/image`, or images with a metadata file.
    ImageFolder,
    /// JSON with `images` and `annotations`.
    Coco,
    /// `images/` and `labels/`.
    Yolo,
    /// `JPEGImages/` and `Annotations/*.xml`.
    Voc,
    /// Tars of samples.
    WebDataset,
    /// `image.txt` beside `image.png`.
    Captions,
}

impl Layout {
    /// Every layout with its word, in the order in which they are tried.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Voc, "voc"),
        (Self::Yolo, "yolo"),
        (Self::Coco, "coco"),
        (Self::WebDataset, "webdataset"),
        (Self::Captions, "captions"),
        (Self::ImageFolder, "imagefolder"),
    ];

    /// The layout of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == word).map(|(layout, _)| layout)
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(layout, _)| *layout == self).map_or("", |(_, name)| name)
    }
}

/// What recognising may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of a text or XML sidecar.
    pub text_bytes_max: u64,
    /// Of a JSON or metadata file.
    pub json_bytes_max: u64,
    /// Samples in all.
    pub samples_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { text_bytes_max: 1 << 20, json_bytes_max: 1 << 30, samples_max: 5_000_000 }
    }
}

/// Where a sample's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes {
    /// A file of its own: its position in the files given.
    File(usize),
    /// A part of a file.
    Within {
        /// The archive's position in the files given.
        file: usize,
        /// Where it begins.
        offset: u64,
    },
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Where its bytes are.
    pub bytes: Bytes,
    /// Unique in the tree; of a member: the archive's path, `/`, its own.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3-256.
    pub content: [u8; 32],
    /// Width and height as shown.
    pub shown_size: Option<(u32, u32)>,
    /// Its pixels, for what looks alike.
    pub likeness: Option<i64>,
    /// `train`, `validation`, `test`, or as the tree calls it.
    pub split: Option<String>,
    /// Its class.
    pub label: Option<String>,
    /// What it shows.
    pub caption: Option<String>,
    /// JSON: a list of objects with `category`, `bbox` (x, y, width, height in pixels) and what else was said.
    pub annotations: Vec<serde_json::Value>,
    /// JSON: what a metadata file says besides.
    pub properties: serde_json::Map<String, serde_json::Value>,
}

/// A sidecar that could not be read as what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The sidecar.
    pub path: String,
    /// The image or archive that it is about, or the directory with all below it; empty: all.
    pub about: String,
}

/// What was recognised.
#[derive(Debug)]
pub struct Recognised {
    /// As what.
    pub layout: Layout,
    /// In the order of their paths.
    pub samples: Vec<Sample>,
    /// What is wrong.
    pub findings: Findings,
    /// Whoever knew these images before knows more of them now than is told here.
    pub unread: Vec<Unread>,
}

/// Opens a file by its path.
pub type Open<'a> = dyn Fn(&str) -> io::Result<File> + 'a;

/// Finds the samples of a tree: as `layout`, or as what it looks like.
///
/// # Errors
/// More samples than the limit.
pub fn recognise(
    files: &[FileFacts],
    layout: Option<Layout>,
    open: &Open<'_>,
    limits: Limits,
) -> Result<Recognised, String> {
    let mut tree = Tree::new(files, open, limits);
    tree.is_asked = layout.is_some();
    let layout = layout.unwrap_or_else(|| detect(&mut tree));
    let mut samples = match layout {
        Layout::ImageFolder => folder::samples(&mut tree),
        Layout::Coco => coco::samples(&mut tree),
        Layout::Yolo => yolo::samples(&mut tree),
        Layout::Voc => voc::samples(&mut tree),
        Layout::WebDataset => webdataset::samples(&mut tree),
        Layout::Captions => captions::samples(&mut tree),
    };
    if samples.len() > limits.samples_max {
        return Err(format!(
            "{} samples are more than {}; import a directory below it",
            samples.len(),
            limits.samples_max
        ));
    }
    samples.sort_by(|a, b| a.path.cmp(&b.path));
    let Tree { mut findings, unread, .. } = tree;
    leaks(&samples, &mut findings);
    Ok(Recognised { layout, samples, findings, unread })
}

/// Whether a folder is of a layout.
type Look = fn(&mut Tree<'_>) -> bool;

fn detect(tree: &mut Tree<'_>) -> Layout {
    let looks: [(Layout, Look); 5] = [
        (Layout::Voc, voc::is_there),
        (Layout::Yolo, yolo::is_there),
        (Layout::Coco, coco::is_there),
        (Layout::WebDataset, webdataset::is_there),
        (Layout::Captions, captions::is_there),
    ];
    looks
        .into_iter()
        .find(|(_, is_there)| is_there(tree))
        .map_or(Layout::ImageFolder, |(layout, _)| layout)
}

#[cfg(test)]
mod tests;
