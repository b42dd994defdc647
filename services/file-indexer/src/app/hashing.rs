//! Bytes: read once, by several threads, a chunk of files ahead of the rows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use file_scan::{ContentKind, HashError, MediaLimits, names, similarity};
use file_sources::{Reader, Source};
use jobs::{Interrupt, JobResult, Work};
use service_error::ServiceError;

use super::Indexer;
use super::archives::SharedSource;
use super::scan::{Pace, VerifyArguments};
use crate::model::{Location, Mode};
use crate::store::{Hashed, HashedBy, ScanKey, ToHash, Which};

const CHUNK_FILES: u32 = 4_096;
/// Of a scan that hashes more files, and more than half of the location's, the log
/// does not tell one by one: its readers begin anew.
const TOLD_MAX: i64 = 1_000;
/// A time that is this fresh may be borne by a later change too: clocks of
/// file systems move in steps.
pub(super) const FRESH_NANOS: i64 = 20_000_000;

/// What became of one file.
enum Outcome {
    Hashed(Box<Hashed>),
    /// It is not what was listed: the next scan sees it anew.
    Moved,
    Failed(String),
}

impl Indexer {
    /// Reads every file of a location that has no hash yet; answers how many.
    pub(super) async fn hash_files(
        &self,
        work: &Work,
        location: &Location,
        scan: ScanKey,
        source: &Source,
        mode: Mode,
    ) -> Result<i64, Interrupt> {
        work.phase("hashing", "files");
        let source: SharedSource = Arc::new(source.clone());
        let mut pace = Pace::new(work, scan.generation);
        let which = if mode == Mode::Deep { Which::UnhashedOrUnseen } else { Which::Unhashed };
        let told_max = TOLD_MAX.max(location.files / 2);
        let (mut after, mut done, mut left) = ((0, 0), 0_i64, false);
        let (to_hash, mut chunk) = futures::try_join!(
            self.store.to_hash_count(location.id, which, told_max + 1),
            self.store.to_hash(location.id, which, after, CHUNK_FILES)
        )?;
        let is_told = to_hash <= told_max;
        let mut read = Vec::new();
        while !chunk.is_empty() || !read.is_empty() {
            after = chunk.last().map_or(after, |last| (last.dir, last.id));
            let is_end = chunk.is_empty();
            // While one chunk is read, the one before is stored and the next one looked up.
            let reading = self.read_all(chunk, &source, mode);
            let storing = self.put_outcomes(work, scan, std::mem::take(&mut read), is_told);
            let following = async {
                if is_end {
                    return Ok(Vec::new());
                }
                self.store.to_hash(location.id, which, after, CHUNK_FILES).await
            };
            let (now_read, stored, next) = futures::join!(reading, storing, following);
            let (hashed, is_left) = stored?;
            (done, left) = (done + hashed, left | is_left);
            (read, chunk) = (now_read?, next?);
            work.progress(done, Some(location.files.max(done)));
            pace.step().await?;
        }
        self.store.set_unhashed(scan, left).await?;
        Ok(done)
    }

    /// Stores what was read; answers how many files were hashed, and whether some
    /// have to be looked at again.
    async fn put_outcomes(
        &self,
        work: &Work,
        scan: ScanKey,
        read: Vec<(ToHash, Outcome)>,
        is_told: bool,
    ) -> Result<(i64, bool), ServiceError> {
        let (mut hashed, mut left) = (Vec::with_capacity(read.len()), false);
        for (file, outcome) in read {
            match outcome {
                Outcome::Hashed(file) => {
                    left |= file.is_fresh;
                    hashed.push(*file);
                }
                Outcome::Moved => left = true,
                Outcome::Failed(why) => {
                    left = true;
                    work.item_failed(&names::shown(&file.path), &why);
                }
            }
        }
        let count = i64::try_from(hashed.len()).unwrap_or(0);
        if is_told {
            self.store.put_contents(scan, hashed, HashedBy::Server).await?;
        } else {
            self.store.put_many_contents(scan, hashed, HashedBy::Server).await?;
        }
        Ok((count, left))
    }

    async fn read_all(
        &self,
        files: Vec<ToHash>,
        source: &SharedSource,
        mode: Mode,
    ) -> Result<Vec<(ToHash, Outcome)>, ServiceError> {
        let (threads, source) = (source.threads(self.settings.threads()), Arc::clone(source));
        super::locations::blocking(move || Ok(read_in_threads(files, &source, mode, threads))).await
    }

    /// Runs a verification: every hashed file is read again.
    ///
    /// # Errors
    /// A root that is away, a lost lease, the database's.
    pub async fn run_verify(&self, work: Work) -> JobResult {
        let arguments: VerifyArguments = work.arguments()?;
        let found = self.store.location(arguments.location).await?;
        let location =
            found.ok_or_else(|| ServiceError::not_found("location", work.job().title.as_str()))?;
        let source: SharedSource = Arc::new(self.source(&location).await?);
        let scan = self.store.begin_scan(location.id, location.mode).await?;
        work.phase("verifying", "files");
        let mut pace = Pace::new(&work, scan.generation);
        let (mut after, mut sound, mut rotten, mut drifted, mut unreadable) = ((0, 0), 0, 0, 0, 0);
        loop {
            let chunk = self.store.to_hash(location.id, Which::Hashed, after, CHUNK_FILES).await?;
            let Some(last) = chunk.last() else { break };
            after = (last.dir, last.id);
            let (mut rot, mut drift) = (Vec::new(), Vec::new());
            for (file, outcome) in self.read_all(chunk, &source, Mode::Content).await? {
                let known = file.content.as_ref().map(|(_, hash)| hash.as_slice());
                match outcome {
                    Outcome::Hashed(now) if known == Some(&now.content.hash[..]) => sound += 1,
                    Outcome::Hashed(_) => {
                        work.item_failed(
                            &names::shown(&file.path),
                            "its bytes changed and nothing else: bit rot",
                        );
                        rot.push(file.id);
                    }
                    Outcome::Moved => {
                        work.item_failed(
                            &names::shown(&file.path),
                            "it changed since the last scan",
                        );
                        drift.push(file.id);
                    }
                    Outcome::Failed(why) => {
                        unreadable += 1;
                        work.item_failed(&names::shown(&file.path), &why);
                    }
                }
            }
            rotten += i64::try_from(rot.len()).unwrap_or(0);
            drifted += i64::try_from(drift.len()).unwrap_or(0);
            self.store.mark_unlike(scan, &rot, true).await?;
            self.store.mark_unlike(scan, &drift, false).await?;
            let done = sound + rotten + drifted + unreadable;
            work.progress(done, Some(location.files.max(done)));
            pace.step().await?;
        }
        let of_members = self.verify_members(&work, &location, scan, &source).await?;
        sound += of_members.0;
        rotten += of_members.1;
        unreadable += of_members.2;
        Ok([("sound", sound), ("rotten", rotten), ("drifted", drifted), ("unreadable", unreadable)]
            .map(|(name, number)| (name.to_owned(), number))
            .into())
    }
}

/// Threads take files in runs, so that each stays in one directory.
fn read_in_threads(
    files: Vec<ToHash>,
    source: &Source,
    mode: Mode,
    threads: usize,
) -> Vec<(ToHash, Outcome)> {
    // Short: a run of large files is one thread's alone.
    const RUN: usize = 16;
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, Outcome)>> = Mutex::new(Vec::with_capacity(files.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut reader = source.reader();
                loop {
                    let from = next.fetch_add(RUN, Ordering::Relaxed);
                    let Some(run) = files.get(from..files.len().min(from + RUN)) else { break };
                    if run.is_empty() {
                        break;
                    }
                    let read: Vec<(usize, Outcome)> = run
                        .iter()
                        .enumerate()
                        .map(|(at, file)| (from + at, read_one(&mut reader, file, mode)))
                        .collect();
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_unstable_by_key(|(at, _)| *at);
    files.into_iter().zip(outcomes.into_iter().map(|(_, outcome)| outcome)).collect()
}

fn read_one(reader: &mut Reader<'_>, file: &ToHash, mode: Mode) -> Outcome {
    let path = names::bytes(&file.path);
    let content = match reader.hash(&path, file.ino.cast_unsigned()) {
        Ok(content) => content,
        Err(HashError::Gone | HashError::Replaced | HashError::Changed) => return Outcome::Moved,
        Err(HashError::Unreadable(err)) => return Outcome::Failed(err.to_string()),
    };
    let is_as_listed = content.mark.size == file.size
        && content.mark.modified == file.modified
        && content.mark.changed == file.changed;
    if !is_as_listed {
        return Outcome::Moved;
    }
    let media = match (content.kind, mode) {
        (ContentKind::Image, Mode::Deep) => {
            let opened = reader.open(&path, file.ino.cast_unsigned());
            opened
                .ok()
                .and_then(|(mut file, _)| similarity(&mut file, &MediaLimits::default()).ok()?)
        }
        (kind, _) => reader.facts(kind, content.size),
    };
    let is_fresh = content.mark.changed >= now_nanos() - FRESH_NANOS;
    Outcome::Hashed(Box::new(Hashed {
        entry: file.id,
        path: file.path.clone(),
        content,
        media,
        is_fresh,
    }))
}

pub(super) fn now_nanos() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
}
