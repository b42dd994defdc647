//! Scans as jobs: queued by the transaction that registers a version, stopped
//! and taken up again like other long work. The same bytes are looked at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use caller::{Caller, Refused as _};
use ids::{Id, ModelVersionId};
use jobs::{Interrupt, Job, JobResult, Owner, Work};
use model_files::SCANNER_VERSION;
use options_api::v1::{Authz, Level, Role};
use serde::{Deserialize, Serialize};
use service_error::{Code, ServiceError};
use tokio::sync::Mutex as Turn;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Registry;
use super::garbage::COLLECT_JOB;
use super::trust::key_of;
use crate::model::{FileEntry, LostFile, ModelVersion, Scan, ScanKey};
use crate::store::SCAN_JOB;

const ACTION: &str = "quarry.models.v1.TrustService/ScanVersion";
const COLLECT: &str = "quarry.models.v1.ArtifactsService/CollectGarbage";
/// Files that are looked up at once.
const PAGE: u32 = 500;
/// Between two checkpoints; verdicts are kept as they are found.
const STEP: Duration = Duration::from_millis(500);

/// Turns at bytes that are being scanned.
#[derive(Debug, Clone, Default)]
pub struct Scanning(Arc<Mutex<HashMap<ScanKey, Arc<Turn<()>>>>>);

impl Scanning {
    fn of(&self, key: &ScanKey) -> Arc<Turn<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(key.clone()).or_default())
    }
}

/// How far a scan came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Reached {
    /// The last path that was done.
    after: String,
    files: i64,
    /// Of which verdicts were not known.
    scanned: i64,
    /// The first file whose bytes were lost, and why.
    #[serde(default)]
    lost: Option<(String, String)>,
}

impl Registry {
    /// Whether the owner of a job still may have it done.
    ///
    /// # Errors
    /// `PermissionDenied`, `NotFound` where the owner sees the model no longer.
    pub async fn check_job(&self, job: &Job) -> Result<(), ServiceError> {
        let owner = job.owner.caller();
        if job.kind == COLLECT_JOB {
            if self.grants.refused(&owner) {
                let message = "who asked for the collection is disabled or its token was revoked";
                return Err(ServiceError::denied(message).reason("OWNER_REFUSED"));
            }
            let need = Authz { role: Role::Admin as i32, ..Authz::default() };
            return caller::enforce(&need, &owner)
                .inspect_err(|error| self.grants.denied(&owner, COLLECT, error));
        }
        let id: Uuid = serde_json::from_str(&job.arguments).unwrap_or_default();
        let Some(version) = self.store.find_live_version(Id::from_uuid(id)).await? else {
            // The handler ends by itself.
            return Ok(());
        };
        let Some(model) = self.store.find_model_by_id(version.model_id).await? else {
            return Ok(());
        };
        let shown = format!("{}/{}", version.namespace, version.model);
        self.require_model(&owner, Level::Write, &model, &shown, ACTION).await
    }

    /// Queues the scan of a version, unless it is queued already.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn queue_scan(
        &self,
        caller: &Caller,
        version: &ModelVersion,
    ) -> Result<Job, ServiceError> {
        self.store.queue_scan(version, &Owner::of(caller)).await
    }

    /// The outward name of the job that scans a version now, if there is one.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn scan_of(&self, id: ModelVersionId) -> Result<Option<String>, ServiceError> {
        let job = self.jobs().unfinished_of(&format!("{SCAN_JOB}:{id}")).await?;
        Ok(job.map(|job| self.job_name(&job)))
    }

    /// A job's name as the public door knows it.
    #[must_use]
    pub fn job_name(&self, job: &Job) -> String {
        format!("{}/{}", self.jobs().service(), job.id)
    }

    /// Scans the files of a version.
    ///
    /// # Errors
    /// The database's or the object store's; a file whose bytes are lost is an
    /// error of its own, and its version has failed.
    pub async fn run_scan(&self, work: Work) -> JobResult {
        let id: Uuid = work.arguments()?;
        let mut reached: Reached = work.checkpoint()?.unwrap_or_default();
        let Some(version) = self.store.find_live_version(Id::from_uuid(id)).await? else {
            return Ok(counts(&reached));
        };
        work.phase("scanning", "files");
        let mut stepped = Instant::now();
        loop {
            let files = self.file_scans(&version, &reached.after, PAGE, false).await?;
            if files.is_empty() {
                break;
            }
            for of in files {
                if of.scan.is_none() {
                    self.scan_in(&work, &of.file, &mut reached).await?;
                }
                reached.files += 1;
                reached.after = of.file.path;
                work.progress(reached.files, Some(version.file_count));
                if work.is_stopping() || stepped.elapsed() >= STEP {
                    work.step(&reached).await?;
                    stepped = Instant::now();
                }
            }
        }
        work.step(&reached).await?;
        let verdict = self.scan_verdict(&version).await?;
        let actor = work.job().owner.principal;
        let lost = reached.lost.clone().map(|(path, message)| LostFile { path, message });
        match self.store.set_version_scan(&version, verdict, lost.as_ref(), actor).await {
            // Deleted meanwhile.
            Err(error) if error.code() == Code::NotFound => Ok(counts(&reached)),
            outcome => outcome.map(|()| counts(&reached)).map_err(Interrupt::from),
        }
    }

    async fn scan_in(
        &self,
        work: &Work,
        file: &FileEntry,
        reached: &mut Reached,
    ) -> Result<(), Interrupt> {
        match self.scan_once(file, &work.stopping()).await {
            Ok((_, is_new)) => reached.scanned += i64::from(is_new),
            Err(_) if work.is_stopping() => {
                work.step(reached).await?;
                return Err(Interrupt::Stopped);
            }
            Err(error) if error.code() == Code::DataLoss => {
                work.item_failed(&file.path, error.message());
                let first = || (file.path.clone(), error.message().to_owned());
                reached.lost.get_or_insert_with(first);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// What the scanner says of a file, and whether it was asked now: who comes
    /// while the same bytes are scanned waits for that. Ends early once `stop`
    /// is cancelled.
    pub(super) async fn scan_once(
        &self,
        file: &FileEntry,
        stop: &CancellationToken,
    ) -> Result<(Scan, bool), ServiceError> {
        let key = key_of(file);
        let turn = self.scanning.of(&key);
        let _mine = turn.lock().await;
        let mut known =
            self.store.scans(std::slice::from_ref(&key), SCANNER_VERSION, false).await?;
        match known.remove(&key) {
            Some(scan) => Ok((scan, false)),
            None => Ok((self.scan_file(file, stop).await?, true)),
        }
    }
}

fn counts(reached: &Reached) -> BTreeMap<String, i64> {
    [("files", reached.files), ("scanned", reached.scanned)]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
}
