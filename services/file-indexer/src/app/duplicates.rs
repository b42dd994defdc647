//! Files that are the same.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Seek;

use caller::Caller;
use file_scan::{names, same_bytes};
use file_sources::{Limits, Source};
use options_api::v1::Level;
use service_error::ServiceError;

use super::archives::open_member;
use super::locations::blocking;
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
            DuplicateMode::Near => self.near(caller, &ids, &locations, after, size).await?,
            DuplicateMode::Content => {
                self.same(caller, GroupKey::Content, &ids, &locations, size_min, after, size)
                    .await?
            }
            DuplicateMode::NameAndSize => {
                self.same(caller, GroupKey::NameAndSize, &ids, &locations, size_min, after, size)
                    .await?
            }
            DuplicateMode::Size => {
                self.same(caller, GroupKey::Size, &ids, &locations, size_min, after, size).await?
            }
        };
        if mode == DuplicateMode::Content {
            page.unhashed = self.store.unhashed_count(&ids).await?;
        }
        if verify {
            let mut groups = Vec::with_capacity(page.groups.len());
            for group in page.groups {
                groups.extend(self.verified(group, &locations).await?);
            }
            page.groups = groups;
        }
        Ok(page)
    }

    #[allow(clippy::too_many_arguments, reason = "what a request says")]
    async fn same(
        &self,
        caller: &Caller,
        key: GroupKey,
        ids: &[i64],
        locations: &HashMap<i64, Location>,
        size_min: i64,
        after: Option<&Group>,
        size: u32,
    ) -> Result<DuplicatePage, ServiceError> {
        let (mut found, totals) =
            self.store.duplicate_groups(key, ids, size_min, after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let files = self.store.files_of_groups(key, &found, ids, FILES_PER_GROUP).await?;
        let mut groups: Vec<ShownGroup> = found
            .into_iter()
            .zip(&files)
            .map(|(group, files)| {
                let content = if key == GroupKey::Content { hash_of(files) } else { None };
                ShownGroup { group, content, files: Vec::new(), verified: false }
            })
            .collect();
        let mut group_of: HashMap<i64, usize> = HashMap::new();
        for (at, files) in files.iter().enumerate() {
            group_of.extend(files.iter().map(|file| (file.id, at)));
        }
        // What is said of all files of the page is asked at once.
        let files = files.into_iter().flatten().collect();
        for shown in self.shown(caller, files, locations).await? {
            if let Some(at) = group_of.get(&shown.found.id) {
                groups[*at].files.push(shown);
            }
        }
        Ok(DuplicatePage { groups, totals, unhashed: 0, more })
    }

    async fn near(
        &self,
        caller: &Caller,
        ids: &[i64],
        locations: &HashMap<i64, Location>,
        after: Option<&Group>,
        size: u32,
    ) -> Result<DuplicatePage, ServiceError> {
        let images = self.store.likenesses(ids, LIKENESSES_MAX).await?;
        let values: Vec<i64> = images.iter().map(|(_, likeness, _)| *likeness).collect();
        let groups = blocking(move || Ok(likeness::groups(&values))).await?;
        let first = |group: &[usize]| group.first().map_or(0, |at| images[*at].0);
        let mut totals = Totals::default();
        let mut shown = Vec::new();
        let mut more = false;
        for group in &groups {
            let count = i64::try_from(group.len()).unwrap_or(0);
            let sizes = group.iter().skip(1).map(|at| images[*at].2);
            let wasted = sizes.fold(0, i64::saturating_add);
            totals.groups += 1;
            totals.files += count;
            totals.wasted = totals.wasted.saturating_add(wasted);
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
            let files = self.shown(caller, files, locations).await?;
            shown.push(ShownGroup { group, content: None, files, verified: false });
        }
        Ok(DuplicatePage { groups: shown, totals, unhashed: 0, more })
    }
}

fn hash_of(files: &[Found]) -> Option<Vec<u8>> {
    files.first().and_then(|file| file.content.as_ref()).map(|content| content.hash.clone())
}

/// Opens a file of a group, wherever it is.
fn open(sources: &HashMap<i64, Source>, shown: &Shown, limits: &Limits) -> Option<File> {
    let source = sources.get(&shown.found.location)?;
    let path = shown.found.path();
    match &shown.archive {
        Some((archive, ino)) => open_member(source, (archive, *ino), &path, limits),
        None => {
            let opened =
                source.reader().open(&names::bytes(&path), shown.found.ino.cast_unsigned());
            opened.ok().map(|(file, _)| file)
        }
    }
}

/// Those whose bytes are the first one's.
fn same_as_first(files: Vec<Shown>, sources: &HashMap<i64, Source>, limits: &Limits) -> Vec<Shown> {
    let mut same: Vec<Shown> = Vec::new();
    let mut first: Option<File> = None;
    for file in files {
        let Some(mut opened) = open(sources, &file, limits) else { continue };
        let is_same = match &mut first {
            None => {
                first = Some(opened);
                true
            }
            Some(first) => {
                let rewound = first.rewind();
                rewound.is_ok() && same_bytes(first, &mut opened).unwrap_or(false)
            }
        };
        if is_same {
            same.push(file);
        }
    }
    same
}

impl Indexer {
    /// Reads the files of a group again: those whose bytes are those of the first
    /// one; nothing if no two are. What lies on another device is never opened here.
    async fn verified(
        &self,
        group: ShownGroup,
        locations: &HashMap<i64, Location>,
    ) -> Result<Option<ShownGroup>, ServiceError> {
        let ShownGroup { mut group, content, files, .. } = group;
        let mut sources = HashMap::new();
        for file in &files {
            if let Some(location) = locations.get(&file.found.location)
                && !sources.contains_key(&location.id)
                && let Ok(source) = self.source(location).await
            {
                sources.insert(location.id, source);
            }
        }
        let limits = self.settings.archives.limits();
        let files = blocking(move || Ok(same_as_first(files, &sources, &limits))).await?;
        if files.len() < 2 {
            return Ok(None);
        }
        group.count = i64::try_from(files.len()).unwrap_or(0);
        // A name of another device's file system is none of this inode.
        let inodes = files.iter().map(|Shown { found, .. }| {
            let device = locations.get(&found.location).map(|location| &location.device);
            (device, found.ino, if found.links > 1 { 0 } else { found.dev })
        });
        let copies = i64::try_from(inodes.collect::<HashSet<_>>().len()).unwrap_or(1);
        group.wasted = (copies - 1).saturating_mul(group.size);
        Ok(Some(ShownGroup { group, content, files, verified: true }))
    }
}
