//! The walk into the rows: listings come through a short queue and are merged many at
//! a time; a directory of very many entries comes in pages, merged one after the other.

use std::sync::Arc;

use file_scan::{Entry, Large, Listing, Paged, WalkSummary, names};
use file_sources::Source;
use jobs::{Interrupt, Work};
use service_error::ServiceError;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Indexer;
use super::scan::Pace;
use crate::model::Location;
use crate::store::{Batch, Listed, Merged, ScanKey};

/// Entries and directories that are merged at once: one transaction, and at
/// most so much is done twice after a kill.
const BATCH_ENTRIES: usize = 20_000;
/// The same where names are indexed beside the merge, which has something to do sooner.
const BATCH_ENTRIES_BESIDE: usize = 6_000;
const BATCH_DIRS: usize = 4_000;
/// So many are merged although the walk will have more: it goes on meanwhile.
const BATCH_LEAST: usize = 2_000;
/// Directories of more entries are held by their names alone, and told in pages of so many.
const PAGE: usize = 5_000;
/// Listings between the walk and the merge, and entries in them: as many as two
/// transactions take, however they are spread over directories.
const QUEUE: usize = 1_024;
const QUEUED_ENTRIES: u32 = 40_000;

/// What the walk hands over.
enum Walked {
    Listed(Box<Listed>, OwnedSemaphorePermit),
    /// A directory of many entries, and its pages, should they be wanted.
    Large(Box<Listed>, mpsc::Receiver<Page>),
    /// What can't be an entry, and why.
    Told(String, String),
}

/// Of a large directory.
enum Page {
    Entries(Vec<Entry>),
    /// What all pages came to.
    End(Paged),
}

/// What is merged at once.
#[derive(Default)]
struct Next {
    batch: Batch,
    /// After the batch.
    large: Option<(Listed, mpsc::Receiver<Page>)>,
}

impl Indexer {
    pub(super) async fn walk_and_merge(
        &self,
        work: &Work,
        location: &Location,
        scan: ScanKey,
        source: &Source,
    ) -> Result<(Merged, WalkSummary), Interrupt> {
        work.phase("walking", "entries");
        let options = self.walk_options(location, PAGE)?;
        let (queue, mut listings) = Queue::new(QUEUED_ENTRIES);
        let walked = source.clone();
        let stopping = work.stopping();
        let walking = tokio::task::spawn_blocking(move || {
            let told = |path: &[u8], why: &str| {
                queue.send(Walked::Told(names::text(path), why.to_owned()));
            };
            walked.walk(&options, &told, |listing| queue.hand_over(listing, &stopping))
        });
        let (mut merged, mut done) = (Merged::default(), 0_i64);
        let mut pace = Pace::new(work, scan.generation);
        let expected = Some(location.entries).filter(|entries| *entries > 0);
        let now = source.clone();
        let inode_at = |path: &str| now.inode_at(&names::bytes(path));
        let most = if self.names_beside(scan) { BATCH_ENTRIES_BESIDE } else { BATCH_ENTRIES };
        loop {
            let Next { batch, large } = next(&mut listings, work, most).await;
            if batch.listed.is_empty() && large.is_none() {
                break;
            }
            let entries = |listed: &Listed| listed.listing.entry_count() as i64;
            done += batch.listed.iter().map(entries).sum::<i64>();
            merged += self.store.merge(scan, batch, inode_at).await?;
            if let Some((head, pages)) = large {
                let (before, path) = (done, names::shown(&head.path));
                done += entries(&head);
                let told = |within: i64, error: Option<&str>| {
                    work.progress(before + within, expected.map(|all| all.max(before + within)));
                    if let Some(error) = error {
                        work.item_failed(&path, error);
                    }
                };
                merged += self.merge_large(&mut pace, scan, head, pages, inode_at, told).await?;
            }
            work.progress(done, expected.map(|expected| expected.max(done)));
            pace.step().await?;
        }
        drop(listings);
        let summary = walking
            .await
            .map_err(|err| ServiceError::internal("the walk failed").caused_by(err))?;
        if work.is_stopping() || summary.stopped {
            pace.step().await?;
            return Err(Interrupt::Stopped);
        }
        Ok((merged, summary))
    }

    /// Merges a directory page by page; one that is as it was costs no page.
    async fn merge_large(
        &self,
        pace: &mut Pace<'_>,
        scan: ScanKey,
        head: Listed,
        mut pages: mpsc::Receiver<Page>,
        inode_at: impl Fn(&str) -> Option<file_scan::Identity>,
        told: impl Fn(i64, Option<&str>),
    ) -> Result<Merged, Interrupt> {
        let Some(mut dir) = self.store.begin_large(scan, head, &inode_at).await? else {
            return Ok(Merged { unchanged: 1, ..Merged::default() });
        };
        let (mut merged, mut done) = (Merged::default(), 0);
        while let Some(page) = pages.recv().await {
            match page {
                Page::Entries(entries) => {
                    done += entries.len() as i64;
                    merged += self.store.merge_page(scan, &mut dir, entries, &inode_at).await?;
                    told(done, None);
                    pace.step().await?;
                }
                Page::End(paged) => {
                    told(done, paged.error.as_deref());
                    merged.moved += dir.moved;
                    merged += self.store.end_large(scan, dir, &paged).await?;
                    return Ok(merged);
                }
            }
        }
        // The walk ended amid the directory and says why; that is to be looked at again.
        Ok(merged)
    }
}

/// The way from the walk's threads to the merge.
struct Queue {
    send: mpsc::Sender<Walked>,
    room: Arc<Semaphore>,
    entries_max: u32,
    runtime: Handle,
}

impl Queue {
    /// With room for so many entries; within a runtime.
    fn new(entries_max: u32) -> (Self, mpsc::Receiver<Walked>) {
        let (send, taken) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(entries_max as usize));
        (Self { send, room, entries_max, runtime: Handle::current() }, taken)
    }

    fn send(&self, walked: Walked) -> bool {
        self.send.blocking_send(walked).is_ok()
    }

    /// Hands a directory over, once there is room for it; false when nobody takes more.
    fn hand_over(&self, listing: Listing, stopping: &CancellationToken) -> bool {
        if stopping.is_cancelled() {
            return false;
        }
        if let Some(large) = listing.large.clone() {
            let (pages, taken) = mpsc::channel(1);
            let head = Walked::Large(Box::new(Listed::from(listing)), taken);
            return self.send(head) && hand_over_pages(&large, &pages, stopping);
        }
        let wanted = u32::try_from(listing.entries.len() + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(wanted.min(self.entries_max));
        let Ok(room) = self.runtime.block_on(room) else { return false };
        // The fingerprint is made here, in the walk's threads.
        self.send(Walked::Listed(Box::new(Listed::from(listing)), room))
    }
}

/// Until nobody wants the pages: the directory is as it was.
fn hand_over_pages(
    large: &Large,
    pages: &mpsc::Sender<Page>,
    stopping: &CancellationToken,
) -> bool {
    let wait = |page| pages.blocking_send(page).is_ok();
    let paged = large.pages(|entries| !stopping.is_cancelled() && wait(Page::Entries(entries)));
    if stopping.is_cancelled() {
        return false;
    }
    wait(Page::End(paged));
    true
}

/// As many listings as are there, up to a batch of `most` entries, and at least some;
/// nothing at the end of the walk.
async fn next(listings: &mut mpsc::Receiver<Walked>, work: &Work, most: usize) -> Next {
    let mut next = Next::default();
    let mut entries = 0;
    while entries < most && next.batch.listed.len() < BATCH_DIRS {
        let walked = match listings.try_recv() {
            Err(TryRecvError::Empty) if entries >= BATCH_LEAST => break,
            Err(TryRecvError::Empty) => listings.recv().await,
            walked => walked.ok(),
        };
        let (listed, pages) = match walked {
            Some(Walked::Listed(listed, _room)) => (*listed, None),
            Some(Walked::Large(listed, pages)) => (*listed, Some(pages)),
            Some(Walked::Told(path, why)) => {
                work.item_failed(&names::shown(&path), &why);
                continue;
            }
            None => break,
        };
        entries += listed.listing.entries.len() + 1;
        if let Some(error) = &listed.listing.error {
            let path = if listed.path.is_empty() { "." } else { listed.path.as_str() };
            work.item_failed(&names::shown(path), error);
        }
        if let Some(pages) = pages {
            next.large = Some((listed, pages));
            break;
        }
        next.batch.listed.push(listed);
    }
    next
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use file_scan::{Kind, Times};

    use super::*;

    fn listing(path: &str, count: usize) -> Listing {
        let entry = |n: usize| Entry {
            name: format!("f{n}").into_bytes(),
            kind: Kind::File,
            size: 1,
            times: Times::default(),
            dev: 1,
            ino: 1,
            links: 1,
            mode: 0,
            uid: 0,
            gid: 0,
            target: None,
        };
        Listing {
            path: path.into(),
            dev: 1,
            ino: 1,
            modified: 0,
            born: None,
            entries: (0..count).map(entry).collect(),
            large: None,
            error: None,
        }
    }

    #[tokio::test]
    async fn the_queue_holds_so_many_entries_and_one_directory_of_any_size() {
        let (queue, mut taken) = Queue::new(10);
        let room = Arc::clone(&queue.room);
        let walk = tokio::task::spawn_blocking(move || {
            let stopping = CancellationToken::new();
            ["a", "b", "c"]
                .iter()
                .zip([4, 4, 50])
                .all(|(path, count)| queue.hand_over(listing(path, count), &stopping))
        });
        let mut held = Vec::new();
        for path in ["a", "b", "c"] {
            if path == "c" {
                assert!(taken.try_recv().is_err(), "there is no room for more");
                held.clear();
            }
            let Some(Walked::Listed(listed, room)) = taken.recv().await else { unreachable!() };
            assert_eq!(listed.path, path);
            held.push(room);
        }
        assert_eq!(room.available_permits(), 0);
        drop(held);
        assert!(walk.await.unwrap());
        assert_eq!(room.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_walk_that_waits_for_room_ends_when_nobody_takes_it() {
        let (queue, taken) = Queue::new(3);
        let walk = tokio::task::spawn_blocking(move || {
            let stopping = CancellationToken::new();
            let first = queue.hand_over(listing("a", 2), &stopping);
            (first, queue.hand_over(listing("b", 2), &stopping))
        });
        while taken.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(taken);
        assert_eq!(walk.await.unwrap(), (true, false));
    }
}
