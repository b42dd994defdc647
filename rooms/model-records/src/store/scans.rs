//! What the scanner said, by the bytes that it said it of.

use std::collections::HashMap;

use ids::{Id, PrincipalId};
use jobs::{Job, Owner};
use sea_orm::{FromQueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};

use super::blobs::digest_of;
use super::events::{self, Place};
use super::models::hold_model;
use super::sql::{Values, all, execute, insert_all};
use super::versions::{Registered, scan_job};
use super::{Store, codes};
use crate::model::{Change, EventKind, Finding, ModelVersion, Scan, ScanKey, ScanVerdict};

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
    /// what it was: it counts as no change of it.
    ///
    /// # Errors
    /// `NotFound` if the version is gone.
    pub async fn set_version_scan(
        &self,
        version: &ModelVersion,
        verdict: ScanVerdict,
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
        events::append(&tx, &place, change, actor).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// A text that both databases keep: names in archives may hold anything.
fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
