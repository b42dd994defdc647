//! Directories of very many entries: their names are held, close together, and
//! what else is to be said of each is asked page by page.

use std::sync::Arc;

use crate::entry::{Entry, Kind, Print};
use crate::names;
use crate::root::{Dir, Identity};
use crate::walk::entry;

/// Names close together, as text: in the order in which databases have them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    text: String,
    /// Where each begins, and its length.
    at: Vec<(u32, u16)>,
}

impl Names {
    /// False when there is no room for more.
    pub fn push(&mut self, name: &[u8]) -> bool {
        let text = names::text(name);
        let (Ok(begin), Ok(len)) = (u32::try_from(self.text.len()), u16::try_from(text.len()))
        else {
            return false;
        };
        self.text.push_str(&text);
        self.at.push((begin, len));
        true
    }

    pub fn sort(&mut self) {
        let Self { text, at } = self;
        let of = |&(begin, len): &(u32, u16)| &text[begin as usize..begin as usize + len as usize];
        at.sort_unstable_by(|a, b| of(a).cmp(of(b)));
        // A directory that is written to while it is read may tell a name twice.
        at.dedup_by(|a, b| of(a) == of(b));
    }

    fn get(&self, &(begin, len): &(u32, u16)) -> Vec<u8> {
        names::bytes(&self.text[begin as usize..begin as usize + len as usize])
    }
}

/// What pages of entries came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paged {
    /// As [`crate::Listing::fingerprint`]; nothing if they are not all.
    pub print: Option<[u8; 16]>,
    /// Entries that were handed over.
    pub entries: usize,
    /// Regular files among them, and their bytes.
    pub totals: (i64, i64),
    /// Why they are not all.
    pub error: Option<String>,
}

/// A directory whose entries are handed over in pages, as often as they are wanted.
/// Clones share it.
#[derive(Debug, Clone)]
pub struct Large {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: Dir,
    names: Names,
    page: usize,
    seen: Paged,
    dirs: Vec<LargeChild>,
}

/// A directory in a large one.
#[derive(Debug)]
pub struct LargeChild {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is.
    pub identity: Identity,
    /// When it was born, where the file system says so.
    pub born: Option<i64>,
}

impl Large {
    /// Looks at every entry once, and keeps what they come to.
    pub(crate) fn look(dir: Dir, names: Names, page: usize) -> Self {
        let mut dirs = Vec::new();
        let seen = paged(&dir, &names, page, |entries| {
            for entry in entries.into_iter().filter(|entry| entry.kind == Kind::Dir) {
                let identity = Identity { dev: entry.dev, ino: entry.ino };
                dirs.push(LargeChild { name: entry.name, identity, born: entry.times.born });
            }
            true
        });
        Self { inner: Arc::new(Inner { dir, names, page, seen, dirs }) }
    }

    /// What its entries came to when it was walked.
    #[must_use]
    pub fn seen(&self) -> &Paged {
        &self.inner.seen
    }

    /// The directories in it, when it was walked.
    #[must_use]
    pub fn dirs(&self) -> &[LargeChild] {
        &self.inner.dirs
    }

    /// Hands the entries over as they are now, in pages in the order of the names'
    /// text, until `sink` says no. Entries that went away are left out.
    pub fn pages(&self, sink: impl FnMut(Vec<Entry>) -> bool) -> Paged {
        let Inner { dir, names, page, .. } = &*self.inner;
        paged(dir, names, *page, sink)
    }
}

fn paged(dir: &Dir, names: &Names, page: usize, mut sink: impl FnMut(Vec<Entry>) -> bool) -> Paged {
    let (mut print, mut paged) = (Print::default(), Paged::default());
    for at in names.at.chunks(page.max(1)) {
        let mut entries = Vec::with_capacity(at.len());
        for name in at.iter().map(|at| names.get(at)) {
            match entry(dir, &name) {
                Ok(Some(entry)) => {
                    print.add(&entry);
                    entries.push(entry);
                }
                Ok(None) => {}
                Err(errno) => {
                    paged.error = Some(format!("{}: {errno}", String::from_utf8_lossy(&name)));
                    return paged;
                }
            }
        }
        paged.entries += entries.len();
        if !sink(entries) {
            paged.error = Some("nobody wants the rest".to_owned());
            return paged;
        }
    }
    let totals;
    (paged.print, totals) = (Some(print.print()), print.totals());
    Paged { totals, ..paged }
}
