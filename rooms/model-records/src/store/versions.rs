//! Rows of versions.

use ids::{ModelId, ModelVersionId, NamespaceId, PrincipalId};
use jobs::{NewJob, Owner};
use sea_orm::{DatabaseTransaction, FromQueryResult, Value};
use service_error::ServiceError;
use sql_store::{db_error, is_unique_violation, now_micros};
use uuid::Uuid;

use super::events::{self, Place};
use super::models::{OF_NAME, hold_model, lock_model, recount};
use super::rows::VersionRow;
use super::sql::{execute, execute_or, head, insert_all, number, one};
use super::whole::whole;
use super::{Store, blobs, data, files, scans, tags, uploads};
use crate::model::version::STAGE_NONE;
use crate::model::{
    Change, EventKind, ModelVersion, NewVersion, ScanVerdict, VersionRef, VersionStatus, check_tree,
};

/// A version that was just registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    pub id: ModelVersionId,
    pub number: i64,
}

/// The kind of a job that scans a version; its key is `scan:VERSION`.
pub const SCAN_JOB: &str = "scan";

/// A version to be registered, and for whom.
#[derive(Debug, Clone)]
pub struct Registering {
    pub new: NewVersion,
    pub author: Owner,
}

#[derive(Debug, FromQueryResult)]
struct Counted {
    last_version: i64,
    namespace_id: Uuid,
    namespace: String,
    name: String,
}

impl Counted {
    fn place(self, model: ModelId) -> Place {
        Place {
            namespace_id: self.namespace_id,
            namespace: self.namespace,
            model_id: model.uuid(),
            model: self.name,
        }
    }
}

impl Store {
    /// Registers versions of one model under its next numbers, in their order:
    /// all of them or none. Those that hold files are scanned by jobs that this
    /// transaction queues, for whom `scans` names.
    ///
    /// # Errors
    /// `NotFound` when the model was deleted meanwhile, `AlreadyExists` for a
    /// label.
    pub async fn create_versions(
        &self,
        model: ModelId,
        all_new: &[Registering],
        scans: bool,
    ) -> Result<Vec<Registered>, ServiceError> {
        let tx = self.sql.begin().await?;
        let (place, made) = insert_rows(&tx, model, all_new).await?;
        let holding = attach_files(&tx, &place, all_new, &made).await?;
        if scans {
            for at in &holding {
                let job = scan_job(&place, made[*at], &all_new[*at].author)?;
                self.jobs.submit_in(&tx, job).await?;
            }
        }
        let changes = all_new.iter().zip(&made).flat_map(|(of, registered)| {
            made_changes(&of.new, registered.number).map(|change| (change, of.author.principal))
        });
        // Last of all: their counter is everybody's.
        events::append_all(&tx, &place, changes.collect()).await?;
        tx.commit().await.map_err(db_error)?;
        if scans && !holding.is_empty() {
            self.jobs.ask();
        }
        Ok(made)
    }

    /// The live version that a request means, of a live model.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_version(
        &self,
        model: ModelId,
        which: &VersionRef,
    ) -> Result<Option<ModelVersion>, ServiceError> {
        let id = model.uuid();
        let (number, value): (&str, Vec<Value>) = match which {
            VersionRef::Number(number) => ("$2", vec![id.into(), (*number).into()]),
            VersionRef::Latest => ("m.latest_version", vec![id.into()]),
            VersionRef::Alias(alias) => (
                "(SELECT a.number FROM alias a WHERE a.model_id = $1 AND a.name = $2)",
                vec![id.into(), alias.clone().into()],
            ),
            VersionRef::Stage(stage) => (
                "(SELECT s.number FROM stage_latest s WHERE s.model_id = $1 AND s.stage = $2)",
                vec![id.into(), stage.clone().into()],
            ),
        };
        let condition = format!("v.model_id = $1 AND v.number = {number} AND v.deleted_at IS NULL");
        self.version_where(&condition, value).await
    }

    /// The live version that a request means, of the live model of a name.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_version_of(
        &self,
        namespace: NamespaceId,
        name: &str,
        which: &VersionRef,
    ) -> Result<Option<ModelVersion>, ServiceError> {
        let mut values: Vec<Value> = vec![namespace.uuid().into(), name.into()];
        let number = match which {
            VersionRef::Number(number) => {
                values.push((*number).into());
                "$3"
            }
            VersionRef::Latest => "m.latest_version",
            VersionRef::Alias(alias) => {
                values.push(alias.clone().into());
                "(SELECT a.number FROM alias a WHERE a.model_id = m.id AND a.name = $3)"
            }
            VersionRef::Stage(stage) => {
                values.push(stage.clone().into());
                "(SELECT s.number FROM stage_latest s WHERE s.model_id = m.id AND s.stage = $3)"
            }
        };
        // No join, as in `whole`.
        let version = format!(
            "(SELECT {} FROM version v WHERE v.model_id = m.id AND v.number = {number} \
             AND v.deleted_at IS NULL)",
            whole(self.sql.backend()).version.json
        );
        let found = self.find_whole(&version, &format!("model m WHERE {OF_NAME}"), values).await?;
        found.map(VersionRow::into_version).transpose()
    }

    /// A version by its number, live or deleted.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_any_version(
        &self,
        model: ModelId,
        number: i64,
    ) -> Result<Option<ModelVersion>, ServiceError> {
        let condition = "v.model_id = $1 AND v.number = $2";
        self.version_where(condition, vec![model.uuid().into(), number.into()]).await
    }

    /// A live version by its id.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_live_version(
        &self,
        id: ModelVersionId,
    ) -> Result<Option<ModelVersion>, ServiceError> {
        let condition = "v.id = $1 AND v.deleted_at IS NULL";
        self.version_where(condition, vec![id.uuid().into()]).await
    }

    pub(super) async fn version_where(
        &self,
        condition: &str,
        values: Vec<Value>,
    ) -> Result<Option<ModelVersion>, ServiceError> {
        let from = format!("version v JOIN model m ON m.id = v.model_id WHERE {condition}");
        let json = &whole(self.sql.backend()).version.json;
        let found = self.find_whole(json, &from, values).await?;
        found.map(VersionRow::into_version).transpose()
    }

    /// Changes a version's description or label.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` for the label.
    pub async fn update_version(
        &self,
        version: &ModelVersion,
        description: Option<&str>,
        label: Option<&str>,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = hold_model(&tx, version.model_id).await?;
        tags::touch(&tx, version).await?;
        let change = |subject: &str| {
            Change::of_version(EventKind::VersionUpdated, version.number).about(subject)
        };
        let mut changes = Vec::new();
        if let Some(description) = description {
            let sql = "UPDATE version SET description = $1 WHERE id = $2";
            execute(&tx, sql, [description.into(), version.id.uuid().into()]).await?;
            changes.push(change("description").values(&version.description, description));
        }
        if let Some(label) = label {
            let sql = "UPDATE version SET label = $1 WHERE id = $2";
            let value = Some(label.to_owned()).filter(|label| !label.is_empty());
            let values = [value.into(), version.id.uuid().into()];
            execute_or(&tx, sql, values, |error| label_taken(error, &place, label)).await?;
            changes
                .push(change("label").values(version.label.as_deref().unwrap_or_default(), label));
        }
        for change in changes {
            events::append(&tx, &place, change, actor).await?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Puts a version into the trash: its aliases go, its number stays taken.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_version(
        &self,
        version: &ModelVersion,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, version.model_id).await?;
        tags::touch(&tx, version).await?;
        let sql = "UPDATE version SET deleted_at = $1 WHERE id = $2";
        execute(&tx, sql, [now_micros().into(), version.id.uuid().into()]).await?;
        super::aliases::drop_of_version(&tx, &place, version, actor).await?;
        recount(&tx, version.model_id).await?;
        keep_latest_of(&tx, version).await?;
        let change = Change::of_version(EventKind::VersionDeleted, version.number);
        events::append(&tx, &place, change, actor).await?;
        tx.commit().await.map_err(db_error)
    }

    /// Takes a version out of the trash, without the aliases that it had.
    ///
    /// # Errors
    /// `NotFound` if it is not in it.
    pub async fn restore_version(
        &self,
        version: &ModelVersion,
        actor: PrincipalId,
    ) -> Result<(), ServiceError> {
        let tx = self.sql.begin().await?;
        let place = lock_model(&tx, version.model_id).await?;
        let sql = "UPDATE version SET deleted_at = NULL, updated_at = $1 \
                   WHERE id = $2 AND deleted_at IS NOT NULL";
        let values = [now_micros().into(), version.id.uuid().into()];
        let label = version.label.clone().unwrap_or_default();
        let failed = |error| label_taken(error, &place, &label);
        if execute_or(&tx, sql, values, failed).await? == 0 {
            let shown = format!("{}/{}/{}", place.namespace, place.model, version.number);
            return Err(ServiceError::not_found("deleted version", shown));
        }
        recount(&tx, version.model_id).await?;
        keep_latest_of(&tx, version).await?;
        let change = Change::of_version(EventKind::VersionRestored, version.number);
        events::append(&tx, &place, change, actor).await?;
        tx.commit().await.map_err(db_error)
    }
}

/// What is told of a version when it is made. Its bytes were durable before.
fn made_changes(new: &NewVersion, number: i64) -> [Change; 2] {
    let made = Change::of_version(EventKind::VersionCreated, number).values("", &new.source);
    [made, scans::status_change(number, None, None)]
}

/// Writes the versions' own rows.
async fn insert_rows(
    tx: &DatabaseTransaction,
    model: ModelId,
    all_new: &[Registering],
) -> Result<(Place, Vec<Registered>), ServiceError> {
    let now = now_micros();
    let mut made = Vec::with_capacity(all_new.len());
    let mut place = None;
    let mut numbers = Vec::new();
    if all_new.iter().all(|of| of.new.number.is_none()) {
        let count = i64::try_from(all_new.len()).unwrap_or(i64::MAX);
        let counted = next_numbers(tx, model, count, now).await?;
        numbers.extend(counted.last_version - count + 1..=counted.last_version);
        place = Some(counted.place(model));
    }
    for (at, Registering { new, author }) in all_new.iter().enumerate() {
        let number = match numbers.get(at) {
            Some(number) => *number,
            None => {
                let counted = next_number(tx, model, new.number, now).await?;
                let number = counted.last_version;
                place = Some(counted.place(model));
                number
            }
        };
        let place = place.as_ref().ok_or_else(|| ServiceError::internal("no model was counted"))?;
        let id = ModelVersionId::new();
        let row = Inserted { id, number, author: author.principal, now };
        insert_row(tx, place, new, row).await?;
        tags::put(tx, tags::Owner::Version, id.uuid(), &new.tags).await?;
        let flavors = new.flavors.iter().map(|of| vec![id.uuid().into(), of.clone().into()]);
        let behind = "ON CONFLICT DO NOTHING";
        insert_all(tx, "version_flavor (version_id, flavor)", flavors.collect(), behind).await?;
        data::put_metrics(tx, id, &new.metrics).await?;
        data::put_params(tx, id, &new.params).await?;
        data::put_inputs(tx, id, &new.datasets, &new.base_models).await?;
        made.push(Registered { id, number });
    }
    let last = made.last().zip(place);
    let (last, place) = last.ok_or_else(|| ServiceError::internal("no version is registered"))?;
    set_stage_latest(tx, model, STAGE_NONE, last.number).await?;
    Ok((place, made))
}

/// Gives the versions their files; answers which of them have some. All blobs
/// are counted before the first row of a file is written, in one order.
async fn attach_files(
    tx: &DatabaseTransaction,
    place: &Place,
    all_new: &[Registering],
    made: &[Registered],
) -> Result<Vec<usize>, ServiceError> {
    let mut holding = Vec::new();
    let mut files_of = Vec::new();
    for (at, Registering { new, author }) in all_new.iter().enumerate() {
        let entries = match new.upload {
            Some(upload) => uploads::committed_files(tx, upload, author.principal).await?,
            None => files::files_of(tx, new.copy_from, new.tree.as_ref()).await?,
        };
        check_tree("source", entries.iter().map(|entry| entry.path.as_str()))?;
        if !entries.is_empty() {
            holding.push(at);
            files_of.push(entries);
        }
    }
    blobs::count(tx, files_of.iter().flatten(), 1).await?;
    for (at, entries) in holding.iter().zip(&files_of) {
        blobs::attach(tx, made[*at].id.uuid(), place.model_id, entries).await?;
    }
    Ok(holding)
}

/// The job that scans a version.
///
/// # Errors
/// Never: its arguments are plain.
pub fn scan_job(place: &Place, version: Registered, owner: &Owner) -> Result<NewJob, ServiceError> {
    let title = format!("{}/{}/{}", place.namespace, place.model, version.number);
    NewJob::new(SCAN_JOB, owner.clone())
        .title(title)
        .key(format!("{SCAN_JOB}:{}", version.id))
        .arguments(&version.id.uuid())
}

/// Takes the model's next numbers, so many at once; the last is answered.
async fn next_numbers(
    tx: &DatabaseTransaction,
    model: ModelId,
    count: i64,
    now: i64,
) -> Result<Counted, ServiceError> {
    let sql = "UPDATE model SET last_version = last_version + $3, \
               latest_version = last_version + $3, version_count = version_count + $3, \
               updated_at = $1, revision = revision + 1 WHERE id = $2 AND deleted_at IS NULL \
               RETURNING last_version, namespace_id, namespace, name";
    let values: [Value; 3] = [now.into(), model.uuid().into(), count.into()];
    let counted = one(tx, sql, values).await?;
    counted.ok_or_else(|| ServiceError::not_found("model", model))
}

/// Takes the model's next number, or one above all that it ever gave.
async fn next_number(
    tx: &DatabaseTransaction,
    model: ModelId,
    wanted: Option<i64>,
    now: i64,
) -> Result<Counted, ServiceError> {
    // The row lock until the commit is what makes numbers unique and in order.
    let (number, free) = match wanted {
        None => ("last_version + 1", ""),
        Some(_) => ("CAST($3 AS bigint)", "AND last_version < $3"),
    };
    let sql = format!(
        "UPDATE model SET last_version = {number}, latest_version = {number}, \
         version_count = version_count + 1, updated_at = $1, revision = revision + 1 \
         WHERE id = $2 AND deleted_at IS NULL {free} \
         RETURNING last_version, namespace_id, namespace, name"
    );
    let mut values: Vec<Value> = vec![now.into(), model.uuid().into()];
    values.extend(wanted.map(Value::from));
    if let Some(counted) = one(tx, &sql, values).await? {
        return Ok(counted);
    }
    let place = lock_model(tx, model).await?;
    let number = wanted.unwrap_or_default();
    let shown = format!("{}/{}/{number}", place.namespace, place.model);
    Err(ServiceError::already_exists("version number", shown)
        .field("number")
        .reason("VERSION_NUMBER_TAKEN"))
}

struct Inserted {
    id: ModelVersionId,
    number: i64,
    author: PrincipalId,
    now: i64,
}

async fn insert_row(
    tx: &DatabaseTransaction,
    place: &Place,
    new: &NewVersion,
    row: Inserted,
) -> Result<(), ServiceError> {
    let sql = "INSERT INTO version (id, model_id, number, label, description, status, \
               status_message, stage, source, source_head, run_id, run_link, logged_model_id, \
               byte_count, file_count, scan, signed, created_at, updated_at, created_by, \
               namespace_id) VALUES ($1, $2, $3, $4, $5, $6, '', $7, $8, $9, $10, $11, $12, 0, 0, \
               $13, $14, $15, $15, $16, $17)";
    let values = [
        row.id.uuid().into(),
        place.model_id.into(),
        row.number.into(),
        new.label.clone().into(),
        new.description.clone().into(),
        (VersionStatus::Ready as i16).into(),
        STAGE_NONE.into(),
        new.source.clone().into(),
        head(&new.source).into(),
        new.run_id.clone().into(),
        new.run_link.clone().into(),
        new.logged_model_id.clone().into(),
        (ScanVerdict::None as i16).into(),
        false.into(),
        row.now.into(),
        row.author.uuid().into(),
        place.namespace_id.into(),
    ];
    let label = new.label.clone().unwrap_or_default();
    execute_or(tx, sql, values, |error| label_taken(error, place, &label)).await?;
    Ok(())
}

/// Notes the newest version of a stage.
pub async fn set_stage_latest(
    tx: &DatabaseTransaction,
    model: ModelId,
    stage: &str,
    number: i64,
) -> Result<(), ServiceError> {
    let sql = "INSERT INTO stage_latest (model_id, stage, number) VALUES ($1, $2, $3) \
               ON CONFLICT (model_id, stage) DO UPDATE SET number = excluded.number \
               WHERE excluded.number > stage_latest.number";
    execute(tx, sql, [model.uuid().into(), stage.into(), number.into()]).await.map(drop)
}

/// The stage that a version is in, live or not.
pub async fn stage_in(
    tx: &DatabaseTransaction,
    model: Uuid,
    number: i64,
) -> Result<Option<String>, ServiceError> {
    #[derive(Debug, FromQueryResult)]
    struct Row {
        stage: String,
    }
    let sql = "SELECT stage FROM version WHERE model_id = $1 AND number = $2";
    let row: Option<Row> = one(tx, sql, [model.into(), number.into()]).await?;
    Ok(row.map(|row| row.stage))
}

/// Looks anew which version of a version's stage is the newest: the stage is that
/// of its row, which may have moved since the caller read it.
async fn keep_latest_of(
    tx: &DatabaseTransaction,
    version: &ModelVersion,
) -> Result<(), ServiceError> {
    let stage = stage_in(tx, version.model_id.uuid(), version.number).await?;
    keep_stage_latest(tx, version.model_id, stage.as_deref().unwrap_or(&version.stage)).await
}

/// Looks anew which version of a stage is the newest, after one left it.
pub async fn keep_stage_latest(
    tx: &DatabaseTransaction,
    model: ModelId,
    stage: &str,
) -> Result<(), ServiceError> {
    let values: [Value; 2] = [model.uuid().into(), stage.into()];
    let sql = "SELECT MAX(number) FROM version \
               WHERE model_id = $1 AND stage = $2 AND deleted_at IS NULL";
    if let Some(newest) = number(tx, sql, values.clone()).await? {
        let sql = "INSERT INTO stage_latest (model_id, stage, number) VALUES ($1, $2, $3) \
                   ON CONFLICT (model_id, stage) DO UPDATE SET number = excluded.number";
        let [model, stage] = values;
        execute(tx, sql, [model, stage, newest.into()]).await?;
    } else {
        execute(tx, "DELETE FROM stage_latest WHERE model_id = $1 AND stage = $2", values).await?;
    }
    Ok(())
}

fn label_taken(error: sea_orm::DbErr, place: &Place, label: &str) -> ServiceError {
    if is_unique_violation(&error) {
        let shown = format!("{}/{} labelled {label}", place.namespace, place.model);
        ServiceError::already_exists("version", shown).field("label")
    } else {
        db_error(error)
    }
}
