//! What is known of a version's files: headers and verdicts. Nothing is loaded.

use std::collections::HashMap;

use caller::Caller;
use model_files::{Limits, SCANNER_VERSION, Verdict, ending};
use options_api::v1::Level;
use service_error::{Code, ServiceError};
use sql_store::now_micros;
use tokio_util::sync::CancellationToken;

use super::Registry;
use super::ranges::Ranges;
use crate::model::trust::worse;
use crate::model::{
    FileEntry, FileScan, Finding, LostFile, ModelPath, ModelVersion, Scan, ScanKey, ScanVerdict,
    VersionRef, check_stored_path,
};

const SERVICE: &str = "quarry.models.v1.TrustService";
/// Files that are looked up at once.
const PAGE: u32 = 500;
/// Files that the answer of a scan tells of.
const WORST_MAX: usize = 100;

/// What a scan of a version came to.
#[derive(Debug)]
pub struct ScannedVersion {
    pub verdict: ScanVerdict,
    pub file_count: i64,
    /// Files whose verdict was not known before.
    pub scanned_count: i64,
    /// Files that are worse than clean.
    pub unclean_count: i64,
    /// The worst of them, worst first.
    pub worst: Vec<FileScan>,
}

/// A file and what its header says.
#[derive(Debug)]
pub struct Inspected {
    pub file: FileEntry,
    pub header: model_files::Header,
}

impl Registry {
    /// Scans the files of a version whose verdicts are not known yet.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, or the object store's: if it lost bytes,
    /// the version has failed.
    pub async fn scan_version(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
    ) -> Result<ScannedVersion, ServiceError> {
        let action = format!("{SERVICE}/ScanVersion");
        let (_, version) = self.version_for(caller, Level::Write, path, which, &action).await?;
        let mut done = ScannedVersion {
            verdict: ScanVerdict::Clean,
            file_count: 0,
            scanned_count: 0,
            unclean_count: 0,
            worst: Vec::new(),
        };
        let mut after = String::new();
        loop {
            let mut files = self.file_scans(&version, &after, PAGE, false).await?;
            let Some(last) = files.last() else { break };
            after.clone_from(&last.file.path);
            for of in &mut files {
                if of.scan.is_none() {
                    let (scan, is_new) = self.scan_of_file(caller, &version, &of.file).await?;
                    of.scan = Some(scan);
                    done.scanned_count += i64::from(is_new);
                }
                done.file_count += 1;
                done.verdict = worse(done.verdict, of.verdict());
            }
            files.retain(|of| of.verdict() != ScanVerdict::Clean);
            done.unclean_count += i64::try_from(files.len()).unwrap_or(i64::MAX);
            done.worst.extend(files);
            done.worst.sort_by_key(|of| std::cmp::Reverse(of.verdict().rank()));
            done.worst.truncate(WORST_MAX);
        }
        if done.file_count == 0 {
            // There is nothing that could be clean.
            done.verdict = ScanVerdict::None;
        }
        let actor = caller.principal;
        self.store.set_version_scan(&version, done.verdict, None, actor).await?;
        self.with_findings(&mut done.worst).await?;
        Ok(done)
    }

    /// What the scanner says of a file, and whether it was asked now. Without the
    /// file's bytes its version has failed.
    async fn scan_of_file(
        &self,
        caller: &Caller,
        version: &ModelVersion,
        file: &FileEntry,
    ) -> Result<(Scan, bool), ServiceError> {
        let scanned = self.scan_once(file, &CancellationToken::new()).await;
        if let Err(error) = &scanned
            && error.code() == Code::DataLoss
        {
            let (path, message) = (file.path.clone(), error.message().to_owned());
            let (lost, actor) = (LostFile { path, message }, caller.principal);
            self.store.set_version_scan(version, ScanVerdict::None, Some(&lost), actor).await?;
        }
        scanned
    }

    /// What this scanner said of a version's files after a path, and of all of
    /// them together; and the job that scans them now.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_scan(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        after: &str,
        limit: u32,
    ) -> Result<(ScanVerdict, Vec<FileScan>, Option<String>), ServiceError> {
        let action = format!("{SERVICE}/GetScan");
        let (_, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
        // Asked first: a job that ends meanwhile has left its verdict.
        let job = self.scan_of(version.id).await?;
        let verdict = self.scan_verdict(&version).await?;
        Ok((verdict, self.file_scans(&version, after, limit, true).await?, job))
    }

    /// The worst that this scanner said of a version's files: of bytes that only
    /// an older one saw it says nothing.
    pub(super) async fn scan_verdict(
        &self,
        version: &ModelVersion,
    ) -> Result<ScanVerdict, ServiceError> {
        let mut verdict =
            if version.file_count == 0 { ScanVerdict::None } else { ScanVerdict::Clean };
        let mut after = String::new();
        loop {
            let files = self.file_scans(version, &after, PAGE, false).await?;
            let Some(last) = files.last() else { return Ok(verdict) };
            after.clone_from(&last.file.path);
            verdict = files.iter().fold(verdict, |worst, of| worse(worst, of.verdict()));
        }
    }

    /// The header of a file of a version.
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a file without a header that is known.
    pub async fn inspect_file(
        &self,
        caller: &Caller,
        path: &ModelPath,
        which: &VersionRef,
        file: &str,
    ) -> Result<Inspected, ServiceError> {
        check_stored_path("path", file)?;
        let action = format!("{SERVICE}/InspectFile");
        let (_, version) = self.version_for(caller, Level::Read, path, which, &action).await?;
        let entry = self.file_of(&version, file).await?;
        let name = entry.path.clone();
        let read = self
            .reading(&entry, &CancellationToken::new(), move |ranges| {
                model_files::read_header(&name, ranges)
            })
            .await?;
        let header = read.map_err(|error| match error {
            model_files::HeaderError::Io(error) => lost(error),
            error => ServiceError::invalid("path", format!("{file}: {error}"))
                .reason("HEADER_UNREADABLE"),
        })?;
        Ok(Inspected { file: entry, header })
    }

    pub(super) async fn file_scans(
        &self,
        version: &ModelVersion,
        after: &str,
        limit: u32,
        with_findings: bool,
    ) -> Result<Vec<FileScan>, ServiceError> {
        let files = self.store.version_files(version.id, after, limit).await?;
        let keys: Vec<ScanKey> = files.iter().map(key_of).collect();
        let known = self.store.scans(&keys, SCANNER_VERSION, with_findings).await?;
        Ok(with_scans(files, &known))
    }

    async fn with_findings(&self, files: &mut [FileScan]) -> Result<(), ServiceError> {
        let keys: Vec<ScanKey> = files.iter().map(|of| key_of(&of.file)).collect();
        let known = self.store.scans(&keys, SCANNER_VERSION, true).await?;
        for of in files {
            of.scan = known.get(&key_of(&of.file)).cloned();
        }
        Ok(())
    }

    pub(super) async fn scan_file(
        &self,
        file: &FileEntry,
        stop: &CancellationToken,
    ) -> Result<Scan, ServiceError> {
        let name = file.path.clone();
        let report = self
            .reading(file, stop, move |ranges| {
                let report = model_files::scan(&name, ranges, &Limits::default());
                // Of what could not be had nothing may be kept.
                ranges.failure().map_or(Ok(report), Err)
            })
            .await?
            .map_err(lost)?;
        let scan = Scan {
            format: report.format.to_owned(),
            verdict: verdict_of(report.verdict),
            at: now_micros(),
            findings: report.findings.into_iter().map(finding_of).collect(),
        };
        self.store.put_scan(&key_of(file), SCANNER_VERSION, &scan).await?;
        Ok(scan)
    }

    /// Runs a reader of ranges on a thread that may wait; it ends soon after its
    /// caller has gone or `stop` was cancelled.
    async fn reading<T: Send + 'static>(
        &self,
        file: &FileEntry,
        stop: &CancellationToken,
        read: impl FnOnce(&Ranges) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let gone = || {
            ServiceError::data_loss("a file's blob is gone: restore it from a backup")
                .reason("BLOB_LOST")
                .with("digest", hex::encode(file.digest))
        };
        let _turn = self.readers.acquire().await.map_err(|_| {
            ServiceError::unavailable("the registry is going away: ask again in a moment")
        })?;
        let blob = self.store.blob(&file.digest).await?.ok_or_else(gone)?;
        let segments = self.store.segments(blob.generation).await?;
        let end = stop.child_token();
        let ranges = Ranges::new(self.store.clone(), segments, file.byte_count, end.clone());
        let _ended = end.drop_guard();
        tokio::task::spawn_blocking(move || read(&ranges)).await.map_err(|error| {
            ServiceError::internal("a file could not be looked at").caused_by(error)
        })
    }
}

fn lost(error: std::io::Error) -> ServiceError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ServiceError::data_loss(
            "a file's bytes are not where they were kept: restore it from a backup",
        )
        .reason("BLOB_LOST"),
        _ => ServiceError::unavailable("a file's bytes could not be read: try again soon")
            .caused_by(error),
    }
}

pub(super) fn key_of(file: &FileEntry) -> ScanKey {
    ScanKey { digest: file.digest, ending: ending(&file.path) }
}

fn with_scans(files: Vec<FileEntry>, known: &HashMap<ScanKey, Scan>) -> Vec<FileScan> {
    let with = |file: FileEntry| FileScan { scan: known.get(&key_of(&file)).cloned(), file };
    files.into_iter().map(with).collect()
}

const fn verdict_of(verdict: Verdict) -> ScanVerdict {
    match verdict {
        Verdict::Clean => ScanVerdict::Clean,
        Verdict::Unknown => ScanVerdict::Unknown,
        Verdict::Suspicious => ScanVerdict::Suspicious,
        Verdict::Unreadable => ScanVerdict::Unreadable,
        Verdict::Dangerous => ScanVerdict::Dangerous,
    }
}

fn finding_of(finding: model_files::Finding) -> Finding {
    let model_files::Finding { severity, reason, member, global, offset, message } = finding;
    Finding {
        severity: verdict_of(severity),
        reason: reason.to_owned(),
        member,
        global,
        at_byte: i64::try_from(offset).unwrap_or(i64::MAX),
        message,
    }
}
