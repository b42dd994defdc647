//! Files that are the same.

use std::collections::HashMap;
use std::path::PathBuf;

use caller::Caller;
use file_scan::{Root, names, same_bytes};
use options_api::v1::Level;
use service_error::ServiceError;

use super::{Indexer, Shown};
use crate::model::{Location, likeness};
use crate::store::{Found, Group, GroupKey, Totals};

const FILES_PER_GROUP: u32 = 1_000;
/// Images that are compared at once.
const LIKENESSES_MAX: u32 = 200_000;

/// In what files are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateMode {
    Content,
    NameAndSize,
    Size,
    /// Images that look alike.
    Near,
}

/// Files that are the same.
#[derive(Debug)]
pub struct ShownGroup {
    pub group: Group,
    pub content: Option<Vec<u8>>,
    pub files: Vec<Shown>,
    pub verified: bool,
}

/// A page of groups.
#[derive(Debug)]
pub struct DuplicatePage {
    pub groups: Vec<ShownGroup>,
    pub totals: Totals,
    pub unhashed: i64,
    pub more: bool,
}

impl Indexer {
    /// A page of groups, the most wasteful first.
    ///
    /// # Errors
    /// `NotFound` for a location that the caller may not see.
    #[allow(clippy::too_many_arguments, reason = "what a request says")]
    pub async fn duplicates(
        &self,
        caller: &Caller,
        location: &str,
        mode: DuplicateMode,
        size_min: i64,
        verify: bool,
        after: Option<&Group>,
        size: u32,
    ) -> Result<DuplicatePage, ServiceError> {
        let action = "quarry.files.v1.FilesService/ListDuplicates";
        let locations = if location.is_empty() {
            self.visible(caller).await?
        } else {
            let one = self.location_for(caller, Level::Read, location, action).await?;
            HashMap::from([(one.id, one)])
        };
        let mut ids: Vec<i64> = locations.keys().copied().collect();
        ids.sort_unstable();
        let mut page = match mode {
            DuplicateMode::Near => self.near(&ids, &locations, after, size).await?,
            DuplicateMode::Content => {
                self.same(GroupKey::Content, &ids, &locations, size_min, after, size).await?
            }
            DuplicateMode::NameAndSize => {
                self.same(GroupKey::NameAndSize, &ids, &locations, size_min, after, size).await?
            }
            DuplicateMode::Size => {
                self.same(GroupKey::Size, &ids, &locations, size_min, after, size).await?
            }
        };
        if mode == DuplicateMode::Content {
            page.unhashed = self.store.unhashed_count(&ids).await?;
        }
        if verify {
            let mut groups = Vec::with_capacity(page.groups.len());
            for group in page.groups {
                groups.extend(verified(group).await?);
            }
            page.groups = groups;
        }
        Ok(page)
    }

    async fn same(
        &self,
        key: GroupKey,
        ids: &[i64],
        locations: &HashMap<i64, Location>,
        size_min: i64,
        after: Option<&Group>,
        size: u32,
    ) -> Result<DuplicatePage, ServiceError> {
        let totals = self.store.duplicate_totals(key, ids, size_min).await?;
        let mut found = self.store.duplicate_groups(key, ids, size_min, after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let mut groups = Vec::with_capacity(found.len());
        for group in found {
            let files = self.store.duplicate_files(key, &group, ids, FILES_PER_GROUP).await?;
            let content = match key {
                GroupKey::Content => hash_of(&files),
                GroupKey::NameAndSize | GroupKey::Size => None,
            };
            let files = self.shown(files, locations).await?;
            groups.push(ShownGroup { group, content, files, verified: false });
        }
        Ok(DuplicatePage { groups, totals, unhashed: 0, more })
    }

    async fn near(
        &self,
        ids: &[i64],
        locations: &HashMap<i64, Location>,
        after: Option<&Group>,
        size: u32,
    ) -> Result<DuplicatePage, ServiceError> {
        let images = self.store.likenesses(ids, LIKENESSES_MAX).await?;
        let values: Vec<i64> = images.iter().map(|(_, likeness, _)| *likeness).collect();
        let groups = super::locations::blocking(move || Ok(likeness::groups(&values))).await?;
        let first = |group: &[usize]| group.first().map_or(0, |at| images[*at].0);
        let mut totals = Totals::default();
        let mut shown = Vec::new();
        let mut more = false;
        for group in &groups {
            let count = i64::try_from(group.len()).unwrap_or(0);
            let wasted: i64 = group.iter().skip(1).map(|at| images[*at].2).sum();
            totals.groups += 1;
            totals.files += count;
            totals.wasted += wasted;
            if after.is_some_and(|after| first(group) <= after.number) {
                continue;
            }
            if shown.len() == size as usize {
                more = true;
                continue;
            }
            let mut files = Vec::new();
            for at in group {
                let (content, _, size) = images[*at];
                let of = Group { number: content, name: String::new(), size, count: 0, wasted: 0 };
                files.extend(
                    self.store
                        .duplicate_files(GroupKey::Content, &of, ids, FILES_PER_GROUP)
                        .await?,
                );
            }
            let size = files.first().map_or(0, |file| file.size);
            let group = Group { number: first(group), name: String::new(), size, count, wasted };
            let files = self.shown(files, locations).await?;
            shown.push(ShownGroup { group, content: None, files, verified: false });
        }
        Ok(DuplicatePage { groups: shown, totals, unhashed: 0, more })
    }
}

fn hash_of(files: &[Found]) -> Option<Vec<u8>> {
    files.first().and_then(|file| file.content.as_ref()).map(|content| content.hash.clone())
}

/// Reads the files of a group again: those whose bytes are those of the first
/// one; nothing if no two are.
async fn verified(group: ShownGroup) -> Result<Option<ShownGroup>, ServiceError> {
    let ShownGroup { mut group, content, files, .. } = group;
    let files = super::locations::blocking(move || {
        // What lies on another device is never opened here.
        let open = |shown: &Shown| {
            let location = &shown.location;
            if !location.device.is_empty() {
                return None;
            }
            Root::open(&PathBuf::from(&location.path)).ok()
        };
        let at =
            |shown: &Shown| (names::bytes(&shown.found.path()), shown.found.ino.cast_unsigned());
        let mut files = files.into_iter();
        let mut same: Vec<Shown> = Vec::new();
        for file in files.by_ref() {
            let Some(first) = same.first() else {
                if open(&file).is_some() {
                    same.push(file);
                }
                continue;
            };
            let (Some(root_a), Some(root_b)) = (open(first), open(&file)) else { continue };
            let ((path_a, ino_a), (path_b, ino_b)) = (at(first), at(&file));
            let compared = same_bytes(&root_a, (&path_a, ino_a), &root_b, (&path_b, ino_b));
            if compared.unwrap_or(false) {
                same.push(file);
            }
        }
        Ok(same)
    })
    .await?;
    if files.len() < 2 {
        return Ok(None);
    }
    group.count = i64::try_from(files.len()).unwrap_or(0);
    let mut inodes: Vec<i64> = files.iter().map(|file| file.found.ino).collect();
    inodes.sort_unstable();
    inodes.dedup();
    group.wasted = (i64::try_from(inodes.len()).unwrap_or(1) - 1) * group.size;
    Ok(Some(ShownGroup { group, content, files, verified: true }))
}
