//! Bytes: read once, by several threads, some chunks of files ahead of the rows.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use file_scan::{ContentKind, HashError, MediaLimits, Stop, give_way, names, similarity};
use file_sources::{Reader, Source};
use jobs::{Interrupt, JobResult, Work};
use service_error::ServiceError;
use tokio::sync::mpsc;

use super::Indexer;
use super::archives::SharedSource;
use super::scan::{Pace, VerifyArguments};
use crate::model::{Location, Mode};
use crate::store::{Hashed, HashedBy, ScanKey, Store, ToHash, Which};

const CHUNK_FILES: u32 = 4_096;
/// The first chunk is small: until it is looked up there is nothing to read.
const FIRST_FILES: u32 = 512;
/// Threads take files in runs, so that each stays in one directory. Of large files each is
/// a run of its own: else one thread reads the last ones while the others have nothing to do.
const RUN_FILES: usize = 16;
const RUN_BYTES: i64 = 4 << 20;
/// Of a scan that hashes more files, and more than half of the location's, the log
/// does not tell one by one: its readers begin anew.
const TOLD_MAX: i64 = 1_000;
/// A time that is this fresh may be borne by a later change too: clocks of
/// file systems move in steps.
pub(super) const FRESH_NANOS: i64 = 20_000_000;

const CHANGED: &str = "it changed since the last scan";

/// What became of one file.
enum Outcome {
    Hashed(Box<Hashed>),
    /// It is not what was listed, in these words: the next scan sees it anew.
    Moved(&'static str),
    Failed(String),
    /// The job is to stop.
    Stopped,
}

/// A chunk of files that were read.
type Read = Vec<(ToHash, Outcome)>;

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
        let mut pace = Pace::new(work, scan.generation);
        let which = if mode == Mode::Deep { Which::UnhashedOrUnseen } else { Which::Unhashed };
        let told_max = TOLD_MAX.max(location.files / 2);
        let mut read = self.read_ahead(work, location.id, which, Arc::new(source.clone()), mode);
        let to_hash = self.store.to_hash_count(location.id, which, told_max + 1).await?;
        let (mut done, mut left) = (0_i64, false);
        loop {
            let chunk = next_read(&mut read).await?;
            if chunk.is_empty() {
                break;
            }
            let (hashed, is_left) =
                self.put_outcomes(work, scan, chunk, to_hash <= told_max).await?;
            (done, left) = (done + hashed, left | is_left);
            work.progress(done, Some(location.files.max(done)));
            pace.step().await?;
        }
        self.store.set_unhashed(scan, left).await?;
        Ok(done)
    }

    /// Reads files chunk by chunk: while one is stored the next ones are read, and those
    /// after them looked up; an empty chunk is the end. Nothing of it waits for the others
    /// but for room, and all ends when nobody takes it.
    fn read_ahead(
        &self,
        work: &Work,
        location: i64,
        which: Which,
        source: SharedSource,
        mode: Mode,
    ) -> mpsc::Receiver<Result<Read, ServiceError>> {
        let (list, mut listed) = mpsc::channel(1);
        let (give, taken) = mpsc::channel(1);
        tokio::spawn(list_chunks(self.store.clone(), location, which, list));
        let (indexer, stopping) = (self.clone(), work.stopping());
        let stop = Stop::new(move || stopping.is_cancelled());
        tokio::spawn(async move {
            while let Some(files) = listed.recv().await {
                let read = match files {
                    Ok(files) => indexer.read_all(files, &source, mode, &stop).await,
                    Err(error) => Err(error),
                };
                if give.send(read).await.is_err() {
                    break;
                }
            }
        });
        taken
    }

    /// Stores what was read; answers how many files were hashed, and whether some
    /// have to be looked at again.
    async fn put_outcomes(
        &self,
        work: &Work,
        scan: ScanKey,
        read: Read,
        is_told: bool,
    ) -> Result<(i64, bool), ServiceError> {
        let (mut hashed, mut left) = (Vec::with_capacity(read.len()), false);
        for (file, outcome) in read {
            match outcome {
                Outcome::Hashed(file) => {
                    left |= file.is_fresh;
                    hashed.push(*file);
                }
                Outcome::Moved(_) | Outcome::Stopped => left = true,
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
        stop: &Stop,
    ) -> Result<Read, ServiceError> {
        let (threads, source) = (source.threads(self.settings.threads()), Arc::clone(source));
        let stop = stop.clone();
        let read = move || Ok(read_in_threads(files, &source, mode, threads, &stop));
        super::locations::blocking(read).await
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
        let source_of = Arc::clone(&source);
        let mut read = self.read_ahead(&work, location.id, Which::Hashed, source_of, Mode::Content);
        let (mut sound, mut rotten, mut drifted, mut unreadable) = (0, 0, 0, 0);
        loop {
            let chunk = next_read(&mut read).await?;
            if chunk.is_empty() {
                break;
            }
            let (mut rot, mut drift) = (Vec::new(), Vec::new());
            for (file, outcome) in chunk {
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
                    Outcome::Moved(why) => {
                        work.item_failed(&names::shown(&file.path), why);
                        drift.push(file.id);
                    }
                    Outcome::Stopped => {}
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

/// The next chunk that [`Indexer::read_ahead`] read.
async fn next_read(
    read: &mut mpsc::Receiver<Result<Read, ServiceError>>,
) -> Result<Read, ServiceError> {
    let ended = || ServiceError::internal("reading ended amid files");
    read.recv().await.unwrap_or_else(|| Err(ended()))
}

/// Looks up the files of a location that are to be read, to an empty chunk or until nobody
/// takes more.
async fn list_chunks(
    store: Store,
    location: i64,
    which: Which,
    list: mpsc::Sender<Result<Vec<ToHash>, ServiceError>>,
) {
    let (mut after, mut limit, mut is_over) = ((0, 0), FIRST_FILES, false);
    while !is_over {
        let chunk = store.to_hash(location, which, after, limit).await;
        let last = chunk.as_ref().ok().and_then(|files| files.last());
        is_over = last.is_none();
        (after, limit) = (last.map_or(after, |last| (last.dir, last.id)), CHUNK_FILES);
        if list.send(chunk).await.is_err() {
            break;
        }
    }
}

/// The files from a place on that one thread reads next.
fn run_from(files: &[ToHash], from: usize) -> Range<usize> {
    let (mut to, mut bytes) = (from, 0);
    while to < files.len() && to - from < RUN_FILES && bytes < RUN_BYTES {
        bytes += files[to].size;
        to += 1;
    }
    from..to
}

fn read_in_threads(
    files: Vec<ToHash>,
    source: &Source,
    mode: Mode,
    threads: usize,
    stop: &Stop,
) -> Read {
    let next = Mutex::new(0);
    let outcomes: Mutex<Vec<(usize, Outcome)>> = Mutex::new(Vec::with_capacity(files.len()));
    let take_run = || {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        let run = run_from(&files, *next);
        *next = run.end;
        run
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                give_way();
                let mut reader = source.reader().until(stop.clone());
                loop {
                    let run = take_run();
                    if run.is_empty() {
                        break;
                    }
                    let read: Vec<(usize, Outcome)> =
                        run.map(|at| (at, read_one(&mut reader, &files[at], mode))).collect();
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
        Err(HashError::Gone) => return Outcome::Moved("it was removed since the last scan"),
        Err(HashError::Replaced | HashError::Changed) => return Outcome::Moved(CHANGED),
        Err(HashError::Stopped) => return Outcome::Stopped,
        Err(HashError::Unreadable(err)) => return Outcome::Failed(err.to_string()),
    };
    let is_as_listed = content.mark.size == file.size
        && content.mark.modified == file.modified
        && content.mark.changed == file.changed;
    if !is_as_listed {
        return Outcome::Moved(CHANGED);
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
