//! What the scanner said, by the bytes that it said it of.

use std::collections::HashMap;

use ids::{Id, PrincipalId};
use jobs::{Job, Owner};
use sea_orm::{DatabaseTransaction, FromQueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use super::blobs::digest_of;
use super::events::{self, Place};
use super::models::hold_model;
use super::sql::{Values, all, execute, insert_all, number};
use super::versions::{Registered, scan_job};
use super::{Store, codes};
use crate::model::{
    Change, EventKind, Finding, LostFile, ModelVersion, Scan, ScanKey, ScanVerdict, VersionStatus,
};

const AT_ONCE: usize = 200;

#[derive(Debug, FromQueryResult)]
struct ScanRow {
    digest: Vec<u8>,
    ending: String,
    verdict: i16,
    format: String,
    at: i64,
}

#[derive(Debug, FromQueryResult)]
struct FindingRow {
    digest: Vec<u8>,
    ending: String,
    severity: i16,
    reason: String,
    member: String,
    global_name: String,
    byte_offset: i64,
    message: String,
}

impl Store {
    /// What a scanner said of some bytes, with its findings if they are asked for.
    ///
    /// # Errors
    /// The database's.
    pub async fn scans(
        &self,
        keys: &[ScanKey],
        scanner: i64,
        with_findings: bool,
    ) -> Result<HashMap<ScanKey, Scan>, ServiceError> {
        let mut found = HashMap::new();
        for some in keys.chunks(AT_ONCE) {
            let mut values = Values::new(self.sql.backend());
            let by = values.add(scanner);
            let list: Vec<String> =
                some.iter().map(|key| values.add(key.digest.to_vec())).collect();
            let list = list.join(", ");
            let sql = format!(
                "SELECT digest, ending, verdict, format, at FROM file_scan \
                 WHERE scanner = {by} AND digest IN ({list})"
            );
            for row in all::<ScanRow, _>(self.read(), &sql, values.all.clone()).await? {
                let key = ScanKey { digest: digest_of(row.digest)?, ending: row.ending };
                let verdict = codes::verdict(row.verdict)?;
                let scan = Scan { format: row.format, verdict, at: row.at, findings: Vec::new() };
                found.insert(key, scan);
            }
            if !with_findings {
                continue;
            }
            let sql = format!(
                "SELECT digest, ending, severity, reason, member, global_name, byte_offset, \
                 message FROM file_finding WHERE scanner = {by} AND digest IN ({list}) \
                 ORDER BY digest, ending, ordinal"
            );
            for row in all::<FindingRow, _>(self.read(), &sql, values.all).await? {
                let key = ScanKey { digest: digest_of(row.digest)?, ending: row.ending };
                let Some(scan) = found.get_mut(&key) else { continue };
                scan.findings.push(Finding {
                    severity: codes::verdict(row.severity)?,
                    reason: row.reason,
                    member: row.member,
                    global: row.global_name,
                    at_byte: row.byte_offset,
                    message: row.message,
                });
            }
        }
        Ok(found)
    }

    /// Keeps what a scanner said of some bytes.
    ///
    /// # Errors
    /// The database's.
    pub async fn put_scan(
        &self,
        key: &ScanKey,
        scanner: i64,
        scan: &Scan,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let digest = || -> Value { key.digest.to_vec().into() };
        let sql = "INSERT INTO file_scan (digest, ending, scanner, verdict, format, at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (digest, ending, scanner) DO UPDATE \
                   SET verdict = excluded.verdict, format = excluded.format, at = excluded.at";
        let values = [
            digest(),
            key.ending.clone().into(),
            scanner.into(),
            (scan.verdict as i16).into(),
            scan.format.clone().into(),
            now_micros().into(),
        ];
        execute(&tx, sql, values).await?;
        let sql = "DELETE FROM file_finding WHERE digest = $1 AND ending = $2 AND scanner = $3";
        execute(&tx, sql, [digest(), key.ending.clone().into(), scanner.into()]).await?;
        let row = |(finding, ordinal): (&Finding, i64)| {
            vec![
                digest(),
                key.ending.clone().into(),
                scanner.into(),
                ordinal.into(),
                (finding.severity as i16).into(),
                finding.reason.clone().into(),
                plain(&finding.member).into(),
                plain(&finding.global).into(),
                finding.at_byte.into(),
                plain(&finding.message).into(),
            ]
        };
        let rows = scan.findings.iter().zip(0..).map(row).collect();
        let into = "file_finding (digest, ending, scanner, ordinal, severity, reason, member, \
                    global_name, byte_offset, message)";
        insert_all(&tx, into, rows, "").await?;
        tx.commit().await.map_err(db_error)
    }

    /// Queues the job that scans a version, unless it is queued already.
    ///
    /// # Errors
    /// The database's.
    pub async fn queue_scan(
        &self,
        version: &ModelVersion,
        owner: &Owner,
    ) -> Result<Job, ServiceError> {
        let place = Place {
            namespace_id: version.namespace_id.uuid(),
            namespace: version.namespace.clone(),
            model_id: version.model_id.uuid(),
            model: version.model.clone(),
        };
        let registered = Registered { id: version.id, number: version.number };
        self.jobs.submit(scan_job(&place, registered, owner)?).await
    }

    /// Notes the verdict of a version, and that its scan is over. The version is
    /// what it was: it counts as no change of it, unless bytes of it are `lost`
    /// now, or no longer are.
    ///
    /// # Errors
    /// `NotFound` if the version is gone.
    pub async fn set_version_scan(
        &self,
        version: &ModelVersion,
        verdict: ScanVerdict,
        lost: Option<&LostFile>,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = hold_model(&tx, version.model_id).await?;
        let sql = "UPDATE version SET scan = $1 WHERE id = $2 AND deleted_at IS NULL";
        let values = [(verdict as i16).into(), Id::uuid(version.id).into()];
        if execute(&tx, sql, values).await? == 0 {
            let shown = format!("{}/{}/{}", place.namespace, place.model, version.number);
            return Err(ServiceError::not_found("model version", shown));
        }
        let word = |verdict: ScanVerdict| format!("{verdict:?}").to_lowercase();
        let change = Change::of_version(EventKind::VersionScanned, version.number)
            .about("scan")
            .values(&word(version.scan), &word(verdict));
        let mut changes = vec![(change, actor)];
        if let Some(before) = set_status(&tx, version, lost).await? {
            changes.push((status_change(version.number, Some(before), lost), actor));
        }
        events::append_all(&tx, &place, changes).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// That a version's bytes can be fetched, or that some are lost.
pub fn status_change(
    number: i64,
    before: Option<VersionStatus>,
    lost: Option<&LostFile>,
) -> Change {
    let before = before.map(|status| format!("{status:?}").to_lowercase()).unwrap_or_default();
    let (kind, after) = match lost {
        None => (EventKind::VersionReady, "ready".to_owned()),
        Some(lost) => (EventKind::VersionFailed, lost.to_string()),
    };
    Change::of_version(kind, number).about("status").values(&before, &after)
}

/// Notes whether bytes of a version are lost; answers the status that it had, if
/// it had another. Its model's row is locked.
async fn set_status(
    tx: &DatabaseTransaction,
    version: &ModelVersion,
    lost: Option<&LostFile>,
) -> Result<Option<VersionStatus>, ServiceError> {
    let id = || -> Value { Id::uuid(version.id).into() };
    let sql = "SELECT CAST(status AS bigint) FROM version WHERE id = $1";
    let before = number(tx, sql, [id()]).await?;
    let before = codes::status(before.and_then(|code| code.try_into().ok()).unwrap_or_default())?;
    let after = if lost.is_some() { VersionStatus::Failed } else { VersionStatus::Ready };
    if before == after {
        return Ok(None);
    }
    let sql = "UPDATE version SET status = $1, status_message = $2, updated_at = $3 WHERE id = $4";
    let message = lost.map(LostFile::to_string).unwrap_or_default();
    let values = [(after as i16).into(), message.into(), now_micros().into(), id()];
    execute(tx, sql, values).await?;
    Ok(Some(before))
}

/// A text that both databases keep: names in archives may hold anything.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
