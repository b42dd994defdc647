//! A directory whose entries come in pages.

use std::path::Path;
use std::sync::Mutex;

use file_scan::{Kind, Listing, Paged, Root, WalkOptions, names, walk};

use super::{Place, entry, on_each};
use crate::model::Mode;
use crate::store::{Batch, Listed, Merged, ScanKey, get};

fn head(print: u8) -> Listed {
    Listed {
        path: "big".to_owned(),
        listing: Listing {
            path: b"big".to_vec(),
            dev: 1,
            ino: 77,
            modified: 5_000,
            born: Some(4_000),
            entries: Vec::new(),
            large: None,
            error: None,
        },
        print: Some([print; 16]),
        archive: None,
    }
}

fn paged(print: Option<u8>, files: i64) -> Paged {
    Paged { print: print.map(|print| [print; 16]), totals: (files, 10 * files), ..Paged::default() }
}

impl Place<'_> {
    /// A scan that hands over files of these numbers, so many a page; nothing if
    /// the directory is as it was.
    async fn pages(&self, print: u8, numbers: &[u64], page: usize, end: Paged) -> Option<Merged> {
        let scan = self.store.begin_scan(self.location, Mode::Metadata).await.unwrap();
        let mut large = self.store.begin_large(scan, head(print), |_| None).await.unwrap()?;
        let mut merged = Merged::default();
        for numbers in numbers.chunks(page) {
            let made =
                numbers.iter().map(|n| entry(&format!("f{n:03}"), Kind::File, *n, 10, 7_000));
            merged +=
                self.store.merge_page(scan, &mut large, made.collect(), |_| None).await.unwrap();
        }
        merged += self.store.end_large(scan, large, &end).await.unwrap();
        Some(merged)
    }

    /// A whole scan of a directory of the disk, two entries a page.
    async fn scan_disk(&self, root: &Path) {
        let (store, root, listings) =
            (self.store, Root::open(root).unwrap(), Mutex::new(Vec::new()));
        let options = WalkOptions { threads: 1, page: Some(2), ..WalkOptions::default() };
        let keep = |listing| listings.lock().map(|mut all| all.push(listing)).is_ok();
        walk(&root, &options, keep);
        let scan = store.begin_scan(self.location, Mode::Metadata).await.unwrap();
        let inode_at = |path: &str| root.inode_at(&names::bytes(path));
        for listing in listings.into_inner().unwrap() {
            let mut listed = Listed::from(listing);
            if let Some(large) = listed.listing.large.clone() {
                large.pages(|page| {
                    listed.listing.entries.extend(page);
                    true
                });
                self.scan_pages(scan, listed, inode_at).await;
            } else {
                let batch = Batch { listed: vec![listed] };
                store.merge(scan, batch, inode_at).await.unwrap();
            }
        }
        while store.sweep(scan).await.unwrap().is_some() {}
        store.end_scan(scan, (1, 2), 0, "").await.unwrap();
    }

    /// Entries that are there, and how many are missing.
    async fn counted(&self) -> (i64, i64) {
        let sql = "SELECT SUM(CASE WHEN gone IS NULL THEN 1 ELSE 0 END) AS here, COUNT(gone) AS gone FROM entry";
        let row = self.store.row(sql, vec![]).await.unwrap().unwrap();
        (get(&row, "here").unwrap(), get(&row, "gone").unwrap())
    }
}

fn merged(added: i64, missing: i64) -> Option<Merged> {
    Some(Merged { added, missing, ..Merged::default() })
}

#[tokio::test]
async fn pages_are_compared_with_what_lies_between_them() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let all: Vec<u64> = (0..50).collect();
        assert_eq!(place.pages(1, &all, 20, paged(Some(1), 50)).await, merged(50, 0));
        assert_eq!(place.pages(1, &all, 20, paged(Some(1), 50)).await, None, "as it is known");
        let usage = store.usage(place.location, "big").await.unwrap().unwrap();
        assert_eq!((usage.files, usage.bytes, usage.dirs), (50, 500, 1));

        // At the beginning, between two pages, within one, and at the end.
        let fewer: Vec<u64> =
            (3..60).filter(|n| !(10..15).contains(n) && *n < 53 && *n != 49).collect();
        assert_eq!(place.pages(2, &fewer, 7, paged(Some(2), 44)).await, merged(3, 9));
        assert_eq!(place.counted().await, (44, 9));
        // They return; and the last ones go.
        assert_eq!(place.pages(3, &all[..30], 100, paged(Some(3), 30)).await, merged(0, 22));
        assert_eq!(place.counted().await, (30, 23));
        assert_eq!(place.pages(4, &[], 100, paged(Some(4), 0)).await, merged(0, 30));
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_did_not_end_is_looked_at_again() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let all: Vec<u64> = (0..50).collect();
        assert_eq!(place.pages(1, &all[..20], 10, paged(None, 20)).await, merged(20, 0));
        assert_eq!(place.pages(1, &all, 10, paged(Some(1), 50)).await, merged(30, 0));
        // What would come after the last page is not missing.
        assert_eq!(place.pages(2, &all[40..], 10, paged(None, 0)).await, merged(0, 40));
        assert_eq!(place.pages(2, &all[..5], 10, paged(None, 0)).await, merged(0, 0));
        assert_eq!(place.counted().await, (15, 35));
    })
    .await;
}

#[tokio::test]
async fn a_page_under_a_lost_lease_is_refused() {
    on_each(async |store| {
        let place = Place::new(&store, "/made").await;
        let scan: ScanKey = store.begin_scan(place.location, Mode::Metadata).await.unwrap();
        let mut large = store.begin_large(scan, head(1), |_| None).await.unwrap().unwrap();
        store.begin_scan(place.location, Mode::Metadata).await.unwrap();
        let made = vec![entry("f", Kind::File, 1, 10, 7_000)];
        let error = store.merge_page(scan, &mut large, made, |_| None).await.unwrap_err();
        assert_eq!(error.reason_text(), "LEASE_LOST");
    })
    .await;
}

#[tokio::test]
async fn a_directory_moves_before_a_file_of_an_earlier_page_takes_its_name() {
    on_each(async |store| {
        let (disk, place) = (tempfile::tempdir().unwrap(), Place::new(&store, "/made").await);
        let at = |path: &str| disk.path().join(path);
        std::fs::create_dir_all(at("big/b")).unwrap();
        for f in ["a", "b/f", "c", "d", "e"] {
            std::fs::write(at(&format!("big/{f}")), f).unwrap();
        }
        place.scan_disk(disk.path()).await;
        let before = [place.entry("big", "b").await, place.entry("big/b", "f").await];
        std::fs::rename(at("big/b"), at("big/y")).unwrap();
        std::fs::write(at("big/b"), "b").unwrap();
        place.scan_disk(disk.path()).await;
        let after = [place.entry("big", "y").await, place.entry("big/y", "f").await];
        assert_eq!(before, after);
        assert!(before[0].is_some() && place.entry("big", "b").await.is_some());
    })
    .await;
}
