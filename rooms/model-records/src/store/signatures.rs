//! Signatures of versions, and the keys that vouch for them. A version is signed
//! while one of its signatures is verified: both change in one transaction.

use ids::{Id, ModelVersionId, NamespaceId, PrincipalId};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use service_error::ServiceError;
use sql_store::{db_error, now_micros};
use uuid::Uuid;

use super::models::lock_model;
use super::sql::{all, execute, number, one};
use super::{Store, events, tags};
use crate::model::trust::{SIGNATURES_MAX, SIGNING_KEYS_MAX};
use crate::model::{Change, EventKind, ModelVersion, Signature, SigningKey, Standing};

/// Said of a signature whose key was taken away.
const KEY_GONE: &str = "the key that vouched for it is no longer trusted here";

#[derive(Debug, FromQueryResult)]
struct SignatureRow {
    id: Uuid,
    bundle: Vec<u8>,
    key_fingerprint: String,
    verified: bool,
    message: String,
    at: i64,
    added_by: Uuid,
}

impl SignatureRow {
    fn into_signature(self) -> Signature {
        Signature {
            id: Id::from_uuid(self.id),
            bundle: self.bundle,
            standing: Standing {
                verified: self.verified,
                key_fingerprint: self.key_fingerprint,
                message: self.message,
            },
            at: self.at,
            added_by: Id::from_uuid(self.added_by),
        }
    }
}

#[derive(Debug, FromQueryResult)]
struct KeyRow {
    fingerprint: String,
    name: String,
    public_key: Vec<u8>,
    at: i64,
}

impl Store {
    /// The keys and roots of a namespace, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn signing_keys(
        &self,
        namespace: NamespaceId,
    ) -> Result<Vec<SigningKey>, ServiceError> {
        let sql = "SELECT fingerprint, name, public_key, at FROM signing_key \
                   WHERE namespace_id = $1 ORDER BY at, fingerprint";
        let rows: Vec<KeyRow> = all(self.read(), sql, [namespace.uuid().into()]).await?;
        let key = |row: KeyRow| SigningKey {
            fingerprint: row.fingerprint,
            name: row.name,
            text: String::from_utf8_lossy(&row.public_key).into_owned(),
            at: row.at,
        };
        Ok(rows.into_iter().map(key).collect())
    }

    /// Trusts a key or a root in a namespace; its name may change.
    ///
    /// # Errors
    /// `ResourceExhausted` above the number of keys.
    pub async fn add_signing_key(
        &self,
        (namespace, namespace_name): (NamespaceId, &str),
        key: &SigningKey,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "INSERT INTO signing_key (namespace_id, fingerprint, name, public_key, at, \
                   added_by, namespace) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                   ON CONFLICT (namespace_id, fingerprint) DO UPDATE SET name = excluded.name, \
                   namespace = excluded.namespace";
        let values = [
            namespace.uuid().into(),
            key.fingerprint.clone().into(),
            key.name.clone().into(),
            key.text.clone().into_bytes().into(),
            key.at.into(),
            actor.uuid().into(),
            namespace_name.into(),
        ];
        execute(&tx, sql, values).await?;
        let sql = "SELECT COUNT(*) FROM signing_key WHERE namespace_id = $1";
        let count = number(&tx, sql, [namespace.uuid().into()]).await?.unwrap_or_default();
        if count > i64::try_from(SIGNING_KEYS_MAX).unwrap_or(i64::MAX) {
            let message = format!("a namespace trusts at most {SIGNING_KEYS_MAX} keys: remove one");
            return Err(ServiceError::exhausted(message).field("pem"));
        }
        tx.commit().await.map_err(db_error)
    }

    /// Trusts a key no longer: what it vouched for counts no longer. Answers how
    /// many signatures that were; nothing if there is no such key.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_signing_key(
        &self,
        namespace: NamespaceId,
        fingerprint: &str,
        actor: PrincipalId,
    ) -> Result<Option<u64>, ServiceError> {
        let tx = self.sql.begin().await?;
        let sql = "DELETE FROM signing_key WHERE namespace_id = $1 AND fingerprint = $2";
        let values = [namespace.uuid().into(), fingerprint.into()];
        if execute(&tx, sql, values).await? == 0 {
            return Ok(None);
        }
        let sql = "UPDATE signature SET verified = $1, message = $2 \
                   WHERE verified AND key_fingerprint = $3 AND version_id IN \
                   (SELECT v.id FROM version v JOIN model m ON m.id = v.model_id \
                    WHERE m.namespace_id = $4)";
        let values = [false.into(), KEY_GONE.into(), fingerprint.into(), namespace.uuid().into()];
        let count = execute(&tx, sql, values).await?;
        unsign(&tx, namespace, actor).await?;
        tx.commit().await.map_err(db_error)?;
        Ok(Some(count))
    }

    /// The signatures of a version, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn signatures(
        &self,
        version: ModelVersionId,
    ) -> Result<Vec<Signature>, ServiceError> {
        let sql = "SELECT id, bundle, key_fingerprint, verified, message, at, added_by \
                   FROM signature WHERE version_id = $1 ORDER BY at, id";
        let rows: Vec<SignatureRow> = all(self.read(), sql, [version.uuid().into()]).await?;
        Ok(rows.into_iter().map(SignatureRow::into_signature).collect())
    }

    /// Keeps a signature; one of the same bundle is replaced.
    ///
    /// # Errors
    /// `NotFound` if the version is gone, `ResourceExhausted` above the number of
    /// signatures.
    pub async fn add_signature(
        &self,
        version: &ModelVersion,
        signature: &Signature,
    ) -> Result<(), ServiceError> {
        #[derive(Debug, FromQueryResult)]
        struct Row {
            id: Uuid,
        }
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, version.model_id).await?;
        tags::touch(&tx, version).await?;
        let standing = standing_now(&tx, version.namespace_id, &signature.standing).await?;
        let sql = "DELETE FROM signature WHERE version_id = $1 AND bundle = $2 RETURNING id";
        let values = [version.id.uuid().into(), signature.bundle.clone().into()];
        let before: Option<Row> = one(&tx, sql, values).await?;
        let sql = "INSERT INTO signature (id, version_id, bundle, key_fingerprint, verified, \
                   message, at, added_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let values = [
            before.map_or_else(|| signature.id.uuid(), |row| row.id).into(),
            version.id.uuid().into(),
            signature.bundle.clone().into(),
            standing.key_fingerprint.clone().into(),
            standing.verified.into(),
            standing.message.clone().into(),
            signature.at.into(),
            signature.added_by.uuid().into(),
        ];
        execute(&tx, sql, values).await?;
        let sql = "SELECT COUNT(*) FROM signature WHERE version_id = $1";
        let count = number(&tx, sql, [version.id.uuid().into()]).await?.unwrap_or_default();
        if count > i64::try_from(SIGNATURES_MAX).unwrap_or(i64::MAX) {
            let message = format!("a version has at most {SIGNATURES_MAX} signatures");
            return Err(ServiceError::exhausted(message).field("bundle"));
        }
        keep_signed(&tx, version.id).await?;
        let after = if standing.verified { "verified" } else { "unverified" };
        let change = Change::of_version(EventKind::VersionSigned, version.number)
            .about(&standing.key_fingerprint)
            .values("", after);
        events::append(&tx, &place, change, signature.added_by).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Notes how signatures of a version stand now.
    ///
    /// # Errors
    /// `NotFound` if the version is gone.
    pub async fn set_standings(
        &self,
        version: &ModelVersion,
        standings: &[(Uuid, Standing)],
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, version.model_id).await?;
        tags::touch(&tx, version).await?;
        let mut verified = false;
        for (id, standing) in standings {
            let standing = standing_now(&tx, version.namespace_id, standing).await?;
            verified |= standing.verified;
            let sql = "UPDATE signature SET verified = $1, key_fingerprint = $2, message = $3 \
                       WHERE id = $4 AND version_id = $5";
            let values = [
                standing.verified.into(),
                standing.key_fingerprint.into(),
                standing.message.into(),
                (*id).into(),
                version.id.uuid().into(),
            ];
            execute(&tx, sql, values).await?;
        }
        keep_signed(&tx, version.id).await?;
        if verified != version.signed {
            let word = |signed| if signed { "verified" } else { "unverified" };
            let change = Change::of_version(EventKind::VersionSigned, version.number)
                .about("verify")
                .values(word(version.signed), word(verified));
            events::append(&tx, &place, change, actor).await?;
        }
        tx.commit().await.map_err(db_error)
    }
}

/// Versions without a signature that holds are signed no longer; each is told.
async fn unsign(
    tx: &DatabaseTransaction,
    namespace: NamespaceId,
    actor: PrincipalId,
) -> Result<(), ServiceError> {
    #[derive(Debug, FromQueryResult)]
    struct Row {
        id: Uuid,
        number: i64,
        model_id: Uuid,
        namespace: String,
        model: String,
    }
    let sql = "SELECT v.id, v.number, v.model_id, m.namespace, m.name AS model FROM version v \
               JOIN model m ON m.id = v.model_id WHERE v.signed AND m.namespace_id = $1 \
               AND NOT EXISTS (SELECT 1 FROM signature s WHERE s.version_id = v.id AND s.verified) \
               ORDER BY v.id";
    let rows: Vec<Row> = all(tx, sql, [namespace.uuid().into()]).await?;
    for row in &rows {
        let sql = "UPDATE version SET signed = $1, updated_at = $2 WHERE id = $3";
        execute(tx, sql, [false.into(), now_micros().into(), row.id.into()]).await?;
    }
    for row in rows {
        let place = events::Place {
            namespace_id: namespace.uuid(),
            namespace: row.namespace,
            model_id: row.model_id,
            model: row.model,
        };
        let change = Change::of_version(EventKind::VersionSigned, row.number)
            .about("key removed")
            .values("verified", "unverified");
        events::append(tx, &place, change, actor).await?;
    }
    Ok(())
}

/// A key that was taken away since it was read vouches for nothing. Its row is
/// held until the end: whoever takes it away then finds the signature.
async fn standing_now(
    tx: &DatabaseTransaction,
    namespace: NamespaceId,
    standing: &Standing,
) -> Result<Standing, ServiceError> {
    if !standing.verified {
        return Ok(standing.clone());
    }
    let sql = "UPDATE signing_key SET at = at WHERE namespace_id = $1 AND fingerprint = $2";
    let values = [namespace.uuid().into(), standing.key_fingerprint.clone().into()];
    if execute(tx, sql, values).await? > 0 {
        return Ok(standing.clone());
    }
    Ok(Standing { verified: false, message: KEY_GONE.to_owned(), ..standing.clone() })
}

async fn keep_signed(
    tx: &DatabaseTransaction,
    version: ModelVersionId,
) -> Result<(), ServiceError> {
    let sql = "UPDATE version SET signed = EXISTS (SELECT 1 FROM signature s \
               WHERE s.version_id = version.id AND s.verified), updated_at = $1 WHERE id = $2";
    execute(tx, sql, [now_micros().into(), version.uuid().into()]).await.map(drop)
}
