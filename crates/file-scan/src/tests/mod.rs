//! Trees that are ordinary, and trees that are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod clips;
mod contents;
mod equal;
mod walks;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use crate::{Listing, Root, WalkOptions, WalkSummary, walk};

/// Every listing of a walk, by path.
fn listed(path: &Path, options: &WalkOptions) -> (BTreeMap<Vec<u8>, Listing>, WalkSummary) {
    let root = Root::open(path).unwrap();
    let found = Mutex::new(BTreeMap::new());
    let summary = walk(&root, options, |listing| {
        let parent = crate::root::split(&listing.path).0.to_vec();
        let mut found = found.lock().unwrap();
        assert!(
            listing.path.is_empty() || found.contains_key(&parent),
            "a child before its parent"
        );
        assert!(found.insert(listing.path.clone(), listing).is_none(), "a directory twice");
        true
    });
    (found.into_inner().unwrap(), summary)
}

fn names(listing: &Listing) -> Vec<String> {
    listing.entries.iter().map(|entry| crate::names::text(&entry.name)).collect()
}
