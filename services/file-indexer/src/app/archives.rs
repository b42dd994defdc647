//! Archives as directories: those that are new or changed are read, each once
//! from its beginning to its end, and what an archive held no more is missing.

use std::collections::HashMap;
use std::sync::Arc;

use file_scan::{HashError, Hasher, Root, names};
use file_sources::{Format, ReadArchive, Source, Want, read};
use futures::{StreamExt, stream};
use jobs::{Interrupt, Work};
use service_error::ServiceError;

use super::Indexer;
use super::hashing::{FRESH_NANOS, now_nanos};
use super::locations::blocking;
use super::scan::Pace;
use crate::model::{Location, Mode};
use crate::store::{ArchiveFile, Batch, Hashed, HashedBy, Listed, ScanKey};

const PAGE: u32 = 1_000;
const BATCH_ENTRIES: usize = 20_000;
const MEMBERS: u32 = 8_192;

/// What a location's archives came to.
#[derive(Debug, Default)]
pub(super) struct ArchivesDone {
    /// Those that there are.
    pub archives: i64,
    /// Those that were opened.
    pub read: i64,
    /// Members whose bytes were read.
    pub hashed: i64,
}

/// What became of one archive.
pub(super) enum Outcome {
    Read(Box<ReadArchive>),
    /// It is not what was listed: the next scan sees it anew.
    Moved,
    Failed(String),
    /// Somebody wants the scan to stop.
    Stopped,
}

impl Indexer {
    /// Reads the archives of a location that are not known as they are.
    pub(super) async fn read_archives(
        &self,
        work: &Work,
        location: &Location,
        scan: ScanKey,
        source: &Source,
        mode: Mode,
    ) -> Result<ArchivesDone, Interrupt> {
        let mut done = ArchivesDone::default();
        let Some(root) = source.directory().filter(|_| location.archives) else { return Ok(done) };
        work.phase("reading archives", "archives");
        let mut pace = Pace::new(work, scan.generation);
        let mut after = (0, 0);
        loop {
            let page =
                self.store.archive_files(location.id, &Format::EXTENSIONS, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(done) };
            after = (last.dir, last.id);
            let mut unknown = Vec::new();
            for archive in page {
                if Format::named(&names::bytes(&archive.path)).is_none() {
                    continue;
                }
                done.archives += 1;
                if archive.is_known(level(mode)) {
                    // What was wrong with it is so still.
                    if let Some(problem) = &archive.problem {
                        work.item_failed(&names::shown(&archive.path), problem);
                    }
                } else {
                    unknown.push(archive);
                }
            }
            self.read_some(work, scan, root, mode, unknown, &mut done, &mut pace).await?;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one loop in two functions")]
    async fn read_some(
        &self,
        work: &Work,
        scan: ScanKey,
        root: &Root,
        mode: Mode,
        unknown: Vec<ArchiveFile>,
        done: &mut ArchivesDone,
        pace: &mut Pace<'_>,
    ) -> Result<(), Interrupt> {
        let reading = unknown.into_iter().map(|archive| self.read_one(work, root, mode, archive));
        let mut reading = stream::iter(reading).buffered(self.settings.threads().max(1));
        while let Some(read) = reading.next().await {
            let (archive, outcome) = read?;
            let path = names::shown(&archive.path);
            match outcome {
                Outcome::Read(read) => {
                    done.hashed += self.put_archive(work, scan, mode, &archive, *read).await?;
                    done.read += 1;
                    work.progress(done.read, Some(done.archives));
                }
                Outcome::Moved => {}
                Outcome::Failed(why) => work.item_failed(&path, &why),
                Outcome::Stopped => {
                    pace.now().await?;
                    return Err(Interrupt::Stopped);
                }
            }
            pace.step().await?;
        }
        Ok(())
    }

    async fn read_one(
        &self,
        work: &Work,
        root: &Root,
        mode: Mode,
        archive: ArchiveFile,
    ) -> Result<(ArchiveFile, Outcome), ServiceError> {
        let (root, stopping) = (root.clone(), work.stopping());
        let limits = self.settings.archives.limits();
        let want = match mode {
            Mode::Metadata => Want::Names,
            Mode::Content => Want::Contents,
            Mode::Deep => Want::Likeness,
        };
        blocking(move || {
            let outcome =
                open_and_read(&root, &archive, want, &limits, &|| stopping.is_cancelled());
            Ok((archive, outcome))
        })
        .await
    }

    /// Stores an archive's members; answers how many were hashed.
    async fn put_archive(
        &self,
        work: &Work,
        scan: ScanKey,
        mode: Mode,
        archive: &ArchiveFile,
        read: ReadArchive,
    ) -> Result<i64, Interrupt> {
        // What the last byte of its mark says is how closely it was looked at.
        let is_other = archive.known.as_deref().map(|known| &known[..16.min(known.len())])
            != Some(&archive.print(0)[..16]);
        self.store.begin_archive(scan, archive, is_other).await?;
        let ReadArchive { listings, members, told, untold, problem, mark } = read;
        let mut batch = Batch::default();
        let mut entries = 0;
        let mut merged = crate::store::Merged::default();
        for listing in listings {
            entries += listing.entries.len() + 1;
            batch.listed.push(Listed::within(archive, listing));
            if entries >= BATCH_ENTRIES {
                merged += self.store.merge(scan, std::mem::take(&mut batch), |_| None).await?;
                entries = 0;
            }
        }
        if !batch.listed.is_empty() {
            merged += self.store.merge(scan, batch, |_| None).await?;
        }
        tracing::debug!(added = merged.added, changed = merged.changed, "members of an archive");
        let members = members.into_iter().map(|member| {
            let path = format!("{}/{}", archive.path, names::text(&member.path));
            (path, (member.content, member.media))
        });
        let hashed = self.put_members(scan, archive.id, members.collect()).await?;
        for (path, why) in &told {
            let inner =
                if path.is_empty() { String::new() } else { format!("/{}", names::text(path)) };
            work.item_failed(&names::shown(&format!("{}{inner}", archive.path)), why);
        }
        if untold > 0 {
            let why = format!("{untold} more of its members are not told one by one");
            work.item_failed(&names::shown(&archive.path), &why);
        }
        if let Some(problem) = &problem {
            work.item_failed(&names::shown(&archive.path), problem);
        }
        let problem = problem.or_else(|| summary(&told, untold));
        // A later change may bear so fresh a time too.
        let is_fresh = mark.changed >= now_nanos() - FRESH_NANOS;
        let print = (!is_fresh).then(|| archive.print(level(mode)));
        self.store.end_archive(scan, archive, print, problem.as_deref()).await?;
        Ok(hashed)
    }

    async fn put_members(
        &self,
        scan: ScanKey,
        archive: i64,
        mut contents: HashMap<String, (file_scan::Content, Option<file_scan::MediaFacts>)>,
    ) -> Result<i64, ServiceError> {
        let (mut after, mut count) = (0, 0_i64);
        while !contents.is_empty() {
            let page = self.store.members(archive, after, MEMBERS).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let mut hashed = Vec::new();
            for row in page {
                if let Some((content, media)) = contents.remove(&row.path) {
                    hashed.push(Hashed {
                        entry: row.id,
                        path: row.path,
                        content,
                        media,
                        is_fresh: false,
                    });
                }
            }
            count += i64::try_from(hashed.len()).unwrap_or(0);
            self.store.put_contents(scan, hashed, HashedBy::Server).await?;
        }
        Ok(count)
    }

    /// Forgets members of archives that are gone, or of all where archives are
    /// looked into no more.
    pub(super) async fn forget_members(
        &self,
        location: &Location,
        scan: ScanKey,
    ) -> Result<(), ServiceError> {
        let mut is_changed = location.archives;
        while self.store.forget_members(scan, !location.archives).await? {
            is_changed = true;
        }
        if is_changed {
            self.store.count_members(scan).await?;
        }
        Ok(())
    }

    /// Reads the archives of a location again and compares each member that has a
    /// hash; answers (sound, rotten, unreadable) members.
    pub(super) async fn verify_members(
        &self,
        work: &Work,
        location: &Location,
        scan: ScanKey,
        source: &Source,
    ) -> Result<(i64, i64, i64), Interrupt> {
        let (mut sound, mut rotten, mut unreadable) = (0, 0, 0);
        let Some(root) = source.directory().filter(|_| location.archives) else {
            return Ok((0, 0, 0));
        };
        let mut pace = Pace::new(work, scan.generation);
        let mut after = (0, 0);
        loop {
            let page =
                self.store.archive_files(location.id, &Format::EXTENSIONS, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok((sound, rotten, unreadable)) };
            after = (last.dir, last.id);
            for archive in page.into_iter().filter(|archive| archive.root.is_some()) {
                let (archive, outcome) = self.read_one(work, root, Mode::Content, archive).await?;
                let read = match outcome {
                    Outcome::Read(read) => *read,
                    // The file itself is told as drifted or unreadable.
                    Outcome::Moved | Outcome::Failed(_) => continue,
                    Outcome::Stopped => {
                        pace.now().await?;
                        return Err(Interrupt::Stopped);
                    }
                };
                let now: HashMap<String, [u8; 32]> = read
                    .members
                    .iter()
                    .map(|member| {
                        let path = format!("{}/{}", archive.path, names::text(&member.path));
                        (path, member.content.hash)
                    })
                    .collect();
                let rot = self.unlike(work, archive.id, &now, &mut sound, &mut unreadable).await?;
                rotten += i64::try_from(rot.len()).unwrap_or(0);
                self.store.mark_unlike(scan, &rot, true).await?;
                pace.step().await?;
            }
        }
    }

    /// Members of an archive whose bytes are others than they were.
    async fn unlike(
        &self,
        work: &Work,
        archive: i64,
        now: &HashMap<String, [u8; 32]>,
        sound: &mut i64,
        unreadable: &mut i64,
    ) -> Result<Vec<i64>, ServiceError> {
        let (mut rot, mut after) = (Vec::new(), 0);
        loop {
            let page = self.store.members(archive, after, MEMBERS).await?;
            let Some(last) = page.last() else { return Ok(rot) };
            after = last.id;
            for row in page {
                let Some(known) = &row.hash else { continue };
                match now.get(&row.path) {
                    Some(hash) if known[..] == hash[..] => *sound += 1,
                    Some(_) => {
                        let why = "its bytes changed and nothing else of its archive: bit rot";
                        work.item_failed(&names::shown(&row.path), why);
                        rot.push(row.id);
                    }
                    None => {
                        *unreadable += 1;
                        let why = "it can't be read from its archive any more";
                        work.item_failed(&names::shown(&row.path), why);
                    }
                }
            }
        }
    }
}

/// How closely members were looked at.
const fn level(mode: Mode) -> u8 {
    mode as u8
}

/// What stays with an archive that was read to its end with something wrong in it.
fn summary(told: &[(Vec<u8>, String)], untold: u64) -> Option<String> {
    let (path, why) = told.first()?;
    let others = told.len() as u64 - 1 + untold;
    let path = if path.is_empty() {
        String::new()
    } else {
        format!("{}: ", names::shown(&names::text(path)))
    };
    Some(if others == 0 {
        format!("{path}{why}")
    } else {
        format!("{path}{why}; and {others} more")
    })
}

fn open_and_read(
    root: &Root,
    archive: &ArchiveFile,
    want: Want,
    limits: &file_sources::Limits,
    stop: &dyn Fn() -> bool,
) -> Outcome {
    let path = names::bytes(&archive.path);
    let Some(format) = Format::named(&path) else { return Outcome::Moved };
    let opened = Hasher::default().open(root, &path, archive.ino.cast_unsigned());
    let read = opened.and_then(|(mut file, mark)| {
        let is_as_listed = mark.size == archive.size
            && mark.modified == archive.modified
            && mark.changed == archive.changed;
        if is_as_listed {
            read(&mut file, format, archive.id, want, limits, stop)
        } else {
            Err(HashError::Changed)
        }
    });
    match read {
        Ok(Some(read)) => Outcome::Read(Box::new(read)),
        Ok(None) | Err(HashError::Stopped) => Outcome::Stopped,
        Err(HashError::Gone | HashError::Replaced | HashError::Changed) => Outcome::Moved,
        Err(HashError::Unreadable(error)) => Outcome::Failed(error.to_string()),
    }
}

/// A member's bytes in a file, for whoever compares them.
pub(super) fn open_member(
    source: &Source,
    (archive, ino): (&str, i64),
    path: &str,
    limits: &file_sources::Limits,
) -> Option<std::fs::File> {
    let path = names::bytes(crate::model::relative_to(archive, path)?);
    let archive = names::bytes(archive);
    let format = Format::named(&archive)?;
    let (mut file, _) = source.reader().open(&archive, ino.cast_unsigned()).ok()?;
    file_sources::unpacked(&mut file, format, &path, limits).ok()?
}

/// What several threads read.
pub(super) type SharedSource = Arc<Source>;
