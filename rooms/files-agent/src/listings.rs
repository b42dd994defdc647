//! Listings as messages: columns, in parts that are not too large.

use file_scan::{Entry, Kind, Listing};
use files_api::v1::{AgentBatch, AgentListing};

/// Entries of one message.
const ENTRIES_MAX: usize = 5_000;
/// Bytes of one message, counted roughly and from above.
const BYTES_MAX: usize = 900 << 10;
/// Numbers of an entry at their longest.
const ENTRY_BYTES: usize = 96;
const LISTING_BYTES: usize = 64;
const ERROR_CHARS_MAX: usize = 1_000;

/// Listings that become messages.
#[derive(Default)]
pub struct Batcher {
    listings: Vec<AgentListing>,
    entries: usize,
    bytes: usize,
}

impl Batcher {
    /// Adds a directory; hands over each message that is full.
    pub fn add(&mut self, listing: &Listing, mut full: impl FnMut(AgentBatch) -> bool) -> bool {
        let mut part = begin(listing);
        self.bytes += LISTING_BYTES + listing.path.len();
        for entry in &listing.entries {
            let size = ENTRY_BYTES + entry.name.len() + entry.target.as_ref().map_or(0, Vec::len);
            if self.entries + 1 > ENTRIES_MAX || self.bytes + size > BYTES_MAX {
                if !part.names.is_empty() {
                    part.continues = true;
                    self.listings.push(std::mem::replace(&mut part, begin(listing)));
                }
                if !full(self.take()) {
                    return false;
                }
                self.bytes += LISTING_BYTES + listing.path.len();
            }
            push(&mut part, entry);
            self.entries += 1;
            self.bytes += size;
        }
        self.listings.push(part);
        self.listings.len() < ENTRIES_MAX || full(self.take())
    }

    /// What is there so far.
    pub fn take(&mut self) -> AgentBatch {
        (self.entries, self.bytes) = (0, 0);
        AgentBatch { seq: 0, listings: std::mem::take(&mut self.listings) }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.listings.is_empty()
    }
}

fn begin(listing: &Listing) -> AgentListing {
    AgentListing {
        path: listing.path.clone(),
        device: listing.dev,
        inode: listing.ino,
        modified: listing.modified,
        born: listing.born.unwrap_or(0),
        error: listing.error.as_deref().unwrap_or_default().chars().take(ERROR_CHARS_MAX).collect(),
        ..AgentListing::default()
    }
}

fn push(part: &mut AgentListing, entry: &Entry) {
    part.names.push(entry.name.clone());
    part.kinds.push(entry.kind as u8);
    part.sizes.push(entry.size);
    part.modify_times.push(entry.times.modified);
    part.change_times.push(entry.times.changed);
    part.birth_times.push(entry.times.born.unwrap_or(0));
    part.inodes.push(entry.ino);
    part.links.push(entry.links);
    part.modes.push(i32::try_from(entry.mode).unwrap_or(0));
    part.uids.push(entry.uid);
    part.gids.push(entry.gid);
    if entry.kind == Kind::Symlink {
        part.link_targets.push(entry.target.clone().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use file_scan::Times;

    use super::*;

    fn listing(path: &str, count: usize) -> Listing {
        let entry = |n: usize| Entry {
            name: format!("{n:08}").into_bytes(),
            kind: Kind::File,
            size: 1,
            times: Times::default(),
            dev: 1,
            ino: n as u64,
            links: 1,
            mode: 0o644,
            uid: 0,
            gid: 0,
            target: None,
        };
        let entries = (0..count).map(entry).collect();
        Listing {
            path: path.into(),
            dev: 1,
            ino: 1,
            modified: 0,
            born: None,
            entries,
            large: None,
            error: None,
        }
    }

    #[test]
    fn large_directories_go_in_parts_and_nothing_is_lost() {
        let (mut batcher, mut batches) = (Batcher::default(), Vec::new());
        for (path, count) in [("", 3), ("a", 12_345), ("b", 0), ("c", 4_999)] {
            assert!(batcher.add(&listing(path, count), |batch| {
                batches.push(batch);
                true
            }));
        }
        batches.push(batcher.take());
        let mut seen = std::collections::BTreeMap::new();
        let mut open: Option<Vec<u8>> = None;
        for batch in &batches {
            assert!(
                batch.listings.iter().map(|part| part.names.len()).sum::<usize>() <= ENTRIES_MAX
            );
            for part in &batch.listings {
                assert!(open.as_ref().is_none_or(|path| *path == part.path));
                *seen.entry(part.path.clone()).or_insert(0) += part.names.len();
                open = part.continues.then(|| part.path.clone());
            }
        }
        let seen: Vec<usize> = seen.into_values().collect();
        assert_eq!((seen, open), (vec![3, 12_345, 0, 4_999], None));
    }
}
