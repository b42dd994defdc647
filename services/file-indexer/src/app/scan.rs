//! A scan: walk and merge, match moves, sweep with a guard, hash, index names.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use file_scan::{Identity, Root, Rules, WalkOptions};
use file_sources::{Bucket, Source};
use jobs::{Interrupt, JobResult, Work};
use serde::{Deserialize, Serialize};
use service_error::ServiceError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::locations::{blocking, offline};
use super::{Indexer, elsewhere};
use crate::model::{Location, Mode};
use crate::store::ScanKey;

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
}

/// Steps of a job, not more often than needed.
pub(super) struct Pace<'a> {
    work: &'a Work,
    generation: i64,
    last: Instant,
}

impl<'a> Pace<'a> {
    pub fn new(work: &'a Work, generation: i64) -> Self {
        Self { work, generation, last: Instant::now() }
    }

    /// A step whatever the time: what was told so far becomes durable.
    pub async fn now(&mut self) -> Result<(), Interrupt> {
        self.last = Instant::now();
        self.work.step(&Checkpoint { generation: self.generation }).await
    }

    /// Stops here if somebody wants it; else a step now and then.
    pub async fn step(&mut self) -> Result<(), Interrupt> {
        self.step_with(&Checkpoint { generation: self.generation }).await
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
        let location = self
            .store
            .location(arguments.location)
            .await?
            .ok_or_else(|| ServiceError::not_found("location", work.job().title.as_str()))?;
        if !location.device.is_empty() {
            return self.run_agent_scan(&work, &location, &arguments).await;
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
        work.step(&Checkpoint { generation: scan.generation }).await?;
        let walked = self.walk_and_merge(&work, &location, scan, &source);
        let (merged, summary) = self.with_names(scan, walked).await?;
        let moved = self.store.match_moves(scan).await?;
        let archives = self.read_archives(&work, &location, scan, &source, mode).await?;
        let removed =
            self.sweep(&work, &location, scan, &source, arguments.accept_removals).await?;
        self.forget_members(&location, scan).await?;
        let mut hashed = archives.hashed;
        let is_unhashed = self.store.location(location.id).await?.is_some_and(|now| now.unhashed);
        if mode > Mode::Metadata && is_unhashed {
            hashed += self.hash_files(&work, &location, scan, &source, mode).await?;
        }
        self.index_names(&work, scan).await?;
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
        loop {
            let gone = self.store.sweep(scan).await?;
            if gone == 0 {
                break;
            }
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

    /// Indexes names beside the merge where the database does both at once: of a
    /// first scan, which neither moves nor removes what is being indexed.
    async fn with_names<T>(
        &self,
        scan: ScanKey,
        merge: impl Future<Output = Result<T, Interrupt>>,
    ) -> Result<T, Interrupt> {
        if !scan.is_first() || !self.store.indexes_beside() {
            return merge.await;
        }
        let over = CancellationToken::new();
        let merging = async {
            let _over = over.clone().drop_guard();
            merge.await
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
        let (merged, named) = tokio::join!(merging, naming);
        let merged = merged?;
        named?;
        Ok(merged)
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
