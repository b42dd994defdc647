//! A scan: walk and merge, match moves, sweep with a guard, hash, index names.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use file_scan::{Identity, Root, Rules, WalkOptions};
use file_sources::{Bucket, Source};
use jobs::{Interrupt, JobResult, Work};
use serde::{Deserialize, Serialize};
use service_error::{Code, ServiceError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::locations::{blocking, offline};
use super::{Indexer, elsewhere};
use crate::model::{Location, Mode};
use crate::store::ScanKey;

/// A conflict that a scan meets so often will not pass: its own rows are in its way.
const CONFLICTS_MAX: u32 = 3;
const STEP_EVERY: Duration = Duration::from_secs(2);
/// How often is looked for more names while others are merged.
const NAMES_EVERY: Duration = Duration::from_millis(20);

/// What a scan was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScanArguments {
    pub location: i64,
    pub mode: i32,
    pub accept_removals: bool,
}

/// What a verification was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyArguments {
    pub location: i64,
}

/// Where a scan is: what is merged or hashed says so itself, in its rows.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    generation: i64,
    /// How often the scan met a conflict so far.
    #[serde(default)]
    conflicts: u32,
}

/// What a job that goes on was told before.
fn conflicts_of(work: &Work) -> u32 {
    // Of a job that keeps another checkpoint there are none.
    work.checkpoint::<Checkpoint>().ok().flatten().map_or(0, |before| before.conflicts)
}

/// Steps of a job, not more often than needed.
pub(super) struct Pace<'a> {
    work: &'a Work,
    generation: i64,
    conflicts: u32,
    last: Instant,
}

impl<'a> Pace<'a> {
    pub fn new(work: &'a Work, generation: i64) -> Self {
        Self { work, generation, conflicts: conflicts_of(work), last: Instant::now() }
    }

    const fn checkpoint(&self) -> Checkpoint {
        Checkpoint { generation: self.generation, conflicts: self.conflicts }
    }

    /// A step whatever the time: what was told so far becomes durable.
    pub async fn now(&mut self) -> Result<(), Interrupt> {
        self.last = Instant::now();
        self.work.step(&self.checkpoint()).await
    }

    /// Stops here if somebody wants it; else a step now and then.
    pub async fn step(&mut self) -> Result<(), Interrupt> {
        self.step_with(&self.checkpoint()).await
    }

    /// The same with a checkpoint of one's own.
    pub async fn step_with<T: Serialize>(&mut self, checkpoint: &T) -> Result<(), Interrupt> {
        if self.work.is_stopping() || self.last.elapsed() > STEP_EVERY {
            self.last = Instant::now();
            self.work.step(checkpoint).await?;
        }
        Ok(())
    }
}

impl Indexer {
    /// Runs a scan.
    ///
    /// # Errors
    /// A root that is away, a lost lease, the database's.
    pub async fn run_scan(&self, work: Work) -> JobResult {
        let arguments: ScanArguments = work.arguments()?;
        match self.scan(&work, &arguments).await {
            Err(Interrupt::Failed(error)) if error.code() == Code::Conflict => {
                Err(self.again(&work, arguments.location, error).await)
            }
            scanned => scanned,
        }
    }

    /// What a scan that met a conflict ends with: it is tried again, but not for ever.
    async fn again(&self, work: &Work, location: i64, error: ServiceError) -> Interrupt {
        let conflicts = conflicts_of(work) + 1;
        if conflicts < CONFLICTS_MAX {
            return match work.step(&Checkpoint { generation: 0, conflicts }).await {
                Ok(()) => error.into(),
                Err(stopped) => stopped,
            };
        }
        let message =
            format!("the scan met a conflict {conflicts} times and was given up: {error}");
        match self.store.set_problem(location, &message).await {
            Ok(()) => {
                ServiceError::internal(message).reason("SCAN_CONFLICT").caused_by(error).into()
            }
            Err(error) => error.into(),
        }
    }

    async fn scan(&self, work: &Work, arguments: &ScanArguments) -> JobResult {
        let location = self
            .store
            .location(arguments.location)
            .await?
            .ok_or_else(|| ServiceError::not_found("location", work.job().title.as_str()))?;
        if !location.device.is_empty() {
            return self.run_agent_scan(work, &location, arguments).await;
        }
        let mode = Mode::of(arguments.mode);
        let source = match self.source(&location).await {
            Ok(source) => source,
            Err(error) => {
                self.store.set_problem(location.id, error.message()).await?;
                return Err(error.into());
            }
        };
        let scan = self.store.begin_scan(location.id, mode).await?;
        work.step(&Pace::new(work, scan.generation).checkpoint()).await?;
        let found = async {
            let (merged, summary) = self.walk_and_merge(work, &location, scan, &source).await?;
            let moved = self.store.match_moves(scan).await?;
            let archives = self.read_archives(work, &location, scan, &source, mode).await?;
            let accepted = arguments.accept_removals;
            let removed = self.sweep(work, &location, scan, &source, accepted).await?;
            self.forget_members(&location, scan).await?;
            Ok((merged, summary, moved, archives, removed))
        };
        let (merged, summary, moved, archives, removed) = self.with_names(scan, found).await?;
        let mut hashed = archives.hashed;
        let is_unhashed = self.store.location(location.id).await?.is_some_and(|now| now.unhashed);
        if mode > Mode::Metadata && is_unhashed {
            hashed += self.hash_files(work, &location, scan, &source, mode).await?;
        }
        self.index_names(work, scan).await?;
        // What is new takes no content from anything.
        let lost = merged.changed + merged.missing + merged.moved + moved + removed;
        if lost + archives.read > 0 {
            self.store.forget_contents().await?;
        }
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok([
            ("directories", count(summary.dirs)),
            ("entries", count(summary.entries)),
            ("unreadable", count(summary.errors)),
            ("unchanged_directories", merged.unchanged),
            ("added", merged.added),
            ("changed", merged.changed),
            ("missing", merged.missing),
            ("moved", merged.moved + moved),
            ("removed", removed),
            ("hashed", hashed),
            ("archives", archives.archives),
            ("archives_read", archives.read),
        ]
        .map(|(name, number)| (name.to_owned(), number))
        .into())
    }

    /// Opens what the location is read from.
    pub(super) async fn source(&self, location: &Location) -> Result<Source, ServiceError> {
        elsewhere(location, "read by the server")?;
        if location.is_bucket() {
            let opened = Bucket::open(&location.path, &self.paths.closed_objects).await?;
            return Ok(Source::Bucket(opened));
        }
        let path = PathBuf::from(&location.path);
        let opened = move || Root::open(&path).map_err(|error| offline(&error));
        blocking(opened).await.map(Source::Directory)
    }

    /// How a location is walked; directories of more entries than `page` in pages.
    pub(super) fn walk_options(
        &self,
        location: &Location,
        page: usize,
    ) -> Result<WalkOptions, ServiceError> {
        let rules = Rules::new(&location.rules)
            .map_err(|why| ServiceError::precondition(format!("the location's rules: {why}")))?;
        let closed = Root::open(&self.paths.closed).map(|root| root.identity());
        Ok(WalkOptions {
            threads: self.settings.threads(),
            rules,
            closed: closed.into_iter().collect::<Vec<Identity>>(),
            page: Some(page),
            ..WalkOptions::default()
        })
    }

    /// Removes what is missing unless it is so much that somebody should say
    /// so first; answers how many went.
    async fn sweep(
        &self,
        work: &Work,
        location: &Location,
        scan: ScanKey,
        source: &Source,
        accepted: bool,
    ) -> Result<i64, Interrupt> {
        let now = source.identity();
        let Some(missing) = self.guarded(location, scan, now, accepted).await? else {
            return Ok(0);
        };
        work.phase("removing", "entries");
        let mut pace = Pace::new(work, scan.generation);
        let mut removed = 0;
        while let Some(gone) = self.store.sweep(scan).await? {
            removed += gone;
            work.progress(removed, Some(missing.max(removed)));
            pace.step().await?;
        }
        self.store.end_scan(scan, now, 0, "").await?;
        Ok(removed)
    }

    /// How much is missing, if it may be removed; otherwise the scan ends here
    /// and the location says why. `now` is what the root is.
    pub(super) async fn guarded(
        &self,
        location: &Location,
        scan: ScanKey,
        now: (i64, i64),
        accepted: bool,
    ) -> Result<Option<i64>, ServiceError> {
        let (total, missing) = self.store.missing(location.id).await?;
        let is_other = location.root.is_some_and(|was| was != now);
        let is_much = missing * 100 > total * i64::from(location.guard_percent);
        if missing > 0 && !accepted && (is_much || is_other) {
            let what = if is_other {
                "its root is another directory than before"
            } else {
                "that is more than is removed unasked"
            };
            let problem = format!(
                "{missing} of {total} entries are missing and {what}: nothing was removed; scan with accept_removals if it is right"
            );
            tracing::warn!(location = %location.uuid, "{problem}");
            let kept = location.root.unwrap_or(now);
            self.store.end_scan(scan, kept, missing, &problem).await?;
            return Ok(None);
        }
        Ok(Some(missing))
    }

    /// Whether names are indexed beside what finds them: where the database does both at once,
    /// of a first scan, which mostly neither moves nor removes what is being indexed.
    pub(super) fn names_beside(&self, scan: ScanKey) -> bool {
        scan.is_first() && self.store.indexes_beside()
    }

    /// Indexes names beside what finds them, where that is done.
    async fn with_names<T>(
        &self,
        scan: ScanKey,
        find: impl Future<Output = Result<T, Interrupt>>,
    ) -> Result<T, Interrupt> {
        if !self.names_beside(scan) {
            return find.await;
        }
        let over = CancellationToken::new();
        let finding = async {
            let _over = over.clone().drop_guard();
            find.await
        };
        let naming = async {
            while !over.is_cancelled() {
                if !self.store.index_names_meanwhile().await? {
                    // Until more is merged.
                    let _ = timeout(NAMES_EVERY, over.cancelled()).await;
                }
            }
            Ok::<(), ServiceError>(())
        };
        let (found, named) = tokio::join!(finding, naming);
        let found = found?;
        named?;
        Ok(found)
    }

    async fn index_names(&self, work: &Work, scan: ScanKey) -> Result<(), Interrupt> {
        work.phase("indexing names", "pages");
        let mut pace = Pace::new(work, scan.generation);
        let mut pages = 0;
        while self.store.index_names().await? {
            pages += 1;
            work.progress(pages, None);
            pace.step().await?;
        }
        Ok(())
    }
}
