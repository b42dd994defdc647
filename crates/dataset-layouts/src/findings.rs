//! What is wrong with a dataset.

/// Findings of one kind that are kept; the rest is counted.
const KEPT_MAX: usize = 1_000;

/// Of what sort a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingKind {
    /// Named and not there.
    Missing,
    /// There and not named.
    Orphaned,
    /// It contradicts the image.
    Mismatched,
    /// It can't be read as what it is.
    Broken,
    /// The same bytes in two splits.
    Leaked,
    /// Images that look alike in two splits.
    NearLeaked,
    /// Its bytes are not known yet.
    Unhashed,
}

impl FindingKind {
    /// Every kind with its word.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Missing, "missing"),
        (Self::Orphaned, "orphaned"),
        (Self::Mismatched, "mismatched"),
        (Self::Broken, "broken"),
        (Self::Leaked, "leaked"),
        (Self::NearLeaked, "near_leaked"),
        (Self::Unhashed, "unhashed"),
    ];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of what sort.
    pub kind: FindingKind,
    /// The file that it is about.
    pub path: String,
    /// In words.
    pub message: String,
}

/// All are counted, the first of each kind kept.
#[derive(Debug, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    counts: [i64; FindingKind::ALL.len()],
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, kind: FindingKind, path: &str, message: impl Into<String>) {
        let count = &mut self.counts[kind as usize];
        *count += 1;
        if usize::try_from(*count).is_ok_and(|count| count <= KEPT_MAX) {
            self.kept.push(Finding { kind, path: path.to_owned(), message: message.into() });
        }
    }

    /// How many of a kind.
    #[must_use]
    pub fn count(&self, kind: FindingKind) -> i64 {
        self.counts[kind as usize]
    }

    /// Those that are kept.
    #[must_use]
    pub fn kept(&self) -> &[Finding] {
        &self.kept
    }
}
