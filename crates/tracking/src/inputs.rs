//! What runs were given and what they made.

use std::collections::HashMap;

use mlflow_wire::proto::{
    Dataset, DatasetInput, InputTag, LogInputs, LogOutputs, ModelInput, ModelOutput, RunInputs,
    RunOutputs,
};
use mlflow_wire::{ErrorCode, MlflowError, Result, names};
use sea_orm::{DatabaseTransaction, FromQueryResult};
use uuid::Uuid;

use crate::datasets::Resolved;
use crate::sql::{Values, all, execute, insert_all, one};
use crate::{Scope, Tracking, commit};

/// Ids in one list of a query.
pub(crate) const IDS_MAX: usize = 5_000;
const NAME_MAX: usize = 500;
const DIGEST_MAX: usize = 36;
const SOURCE_MAX: usize = 65_535;
const SCHEMA_MAX: usize = 1_048_575;
const PROFILE_MAX: usize = 16_777_215;
const TAG_KEY_MAX: usize = 255;
const TAG_VALUE_MAX: usize = 500;
const INPUT: i64 = 1;
const OUTPUT: i64 = 2;

#[derive(Debug, FromQueryResult)]
struct InputRow {
    run_id: String,
    dataset_id: Uuid,
    name: String,
    digest: String,
    source_type: String,
    source: String,
    schema: Option<String>,
    profile: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct TagRow {
    run_id: String,
    dataset_id: Uuid,
    key: String,
    value: String,
}

#[derive(Debug, FromQueryResult)]
struct ModelRow {
    run_id: String,
    model_id: String,
    step: i64,
}

#[derive(Debug, FromQueryResult)]
struct IdRow {
    id: Uuid,
}

fn checked(input: &DatasetInput) -> Result<&Dataset> {
    let dataset = input.dataset.as_ref().ok_or_else(|| {
        MlflowError::new(
            ErrorCode::InternalError,
            "Dataset input must have a dataset associated with it.",
        )
    })?;
    names::length("name", NAME_MAX, dataset.name())?;
    names::length("digest", DIGEST_MAX, dataset.digest())?;
    names::length("source", SOURCE_MAX, dataset.source())?;
    names::length("schema", SCHEMA_MAX, dataset.schema())?;
    names::length("profile", PROFILE_MAX, dataset.profile())?;
    for tag in &input.tags {
        names::length("key", TAG_KEY_MAX, tag.key())?;
        names::length("value", TAG_VALUE_MAX, tag.value())?;
    }
    Ok(dataset)
}

impl Tracking {
    /// Notes datasets and models that a run was given; `resolved` says which
    /// sources are the catalog's.
    ///
    /// # Errors
    /// As the names' rules, `RESOURCE_DOES_NOT_EXIST`, a run that is deleted.
    pub async fn log_inputs(
        &self,
        scope: &Scope,
        asked: &LogInputs,
        resolved: &Resolved,
    ) -> Result<()> {
        let id = asked.run_id();
        names::run_id(id)?;
        asked.datasets.iter().try_for_each(|input| checked(input).map(drop))?;
        let tx = self.begin().await?;
        let run = self.hold_run(&tx, scope, id).await?;
        for (at, input) in asked.datasets.iter().enumerate() {
            let place = Place { scope, experiment: run.experiment_id, run: id };
            put_dataset(&tx, &place, at, input, resolved).await?;
        }
        let models = asked.models.iter().map(|model| (model.model_id().to_owned(), 0));
        put_models(&tx, id, INPUT, models.collect()).await?;
        commit(tx).await
    }

    /// Notes models that a run made.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, a run that is deleted.
    pub async fn log_outputs(&self, scope: &Scope, asked: &LogOutputs) -> Result<()> {
        let id = asked.run_id();
        let tx = self.begin().await?;
        self.hold_run(&tx, scope, id).await?;
        let models = asked.models.iter().map(|model| (model.model_id().to_owned(), model.step()));
        put_models(&tx, id, OUTPUT, models.collect()).await?;
        commit(tx).await
    }

    /// What runs were given.
    pub(crate) async fn inputs_of(&self, ids: &[String]) -> Result<HashMap<String, RunInputs>> {
        let mut found: HashMap<String, RunInputs> = HashMap::new();
        for some in ids.chunks(IDS_MAX) {
            let mut tags = self.input_tags(some).await?;
            let mut values = Values::default();
            let list = values.list(some.iter().cloned());
            let sql = format!(
                "SELECT i.run_id, i.dataset_id, d.name, d.digest, d.source_type, d.source, d.schema, d.profile \
                 FROM run_input i JOIN run_dataset d ON d.id = i.dataset_id \
                 WHERE i.run_id IN ({list}) ORDER BY i.run_id, i.seq, i.dataset_id"
            );
            for row in all::<InputRow, _>(self.sql.read(), &sql, values.all).await? {
                let tags = tags.remove(&(row.run_id.clone(), row.dataset_id)).unwrap_or_default();
                let dataset = Dataset {
                    name: Some(row.name),
                    digest: Some(row.digest),
                    source_type: Some(row.source_type),
                    source: Some(row.source),
                    schema: row.schema,
                    profile: row.profile,
                };
                let input = DatasetInput { tags, dataset: Some(dataset) };
                found.entry(row.run_id).or_default().dataset_inputs.push(input);
            }
            for row in self.models_of(some, INPUT).await? {
                let input = ModelInput { model_id: Some(row.model_id) };
                found.entry(row.run_id).or_default().model_inputs.push(input);
            }
        }
        Ok(found)
    }

    async fn input_tags(&self, ids: &[String]) -> Result<HashMap<(String, Uuid), Vec<InputTag>>> {
        let mut values = Values::default();
        let list = values.list(ids.iter().cloned());
        let sql = format!(
            "SELECT run_id, dataset_id, key, value FROM run_input_tag WHERE run_id IN ({list}) \
             ORDER BY run_id, dataset_id, key"
        );
        let mut found: HashMap<(String, Uuid), Vec<InputTag>> = HashMap::new();
        for row in all::<TagRow, _>(self.sql.read(), &sql, values.all).await? {
            let tag = InputTag { key: Some(row.key), value: Some(row.value) };
            found.entry((row.run_id, row.dataset_id)).or_default().push(tag);
        }
        Ok(found)
    }

    /// What runs made.
    pub(crate) async fn outputs_of(&self, ids: &[String]) -> Result<HashMap<String, RunOutputs>> {
        let mut found: HashMap<String, RunOutputs> = HashMap::new();
        for some in ids.chunks(IDS_MAX) {
            for row in self.models_of(some, OUTPUT).await? {
                let output = ModelOutput { model_id: Some(row.model_id), step: Some(row.step) };
                found.entry(row.run_id).or_default().model_outputs.push(output);
            }
        }
        Ok(found)
    }

    async fn models_of(&self, ids: &[String], kind: i64) -> Result<Vec<ModelRow>> {
        let mut values = Values::default();
        let kind = values.add(kind);
        let list = values.list(ids.iter().cloned());
        let sql = format!(
            "SELECT run_id, model_id, step FROM run_model WHERE kind = {kind} AND run_id IN ({list}) \
             ORDER BY run_id, seq, model_id"
        );
        all(self.sql.read(), &sql, values.all).await
    }
}

/// Where a dataset is put.
struct Place<'a> {
    scope: &'a Scope,
    experiment: i64,
    run: &'a str,
}

async fn put_dataset(
    tx: &DatabaseTransaction,
    place: &Place<'_>,
    at: usize,
    input: &DatasetInput,
    resolved: &Resolved,
) -> Result<()> {
    let dataset = checked(input)?;
    let edge = resolved.get(dataset.source());
    let sql = "INSERT INTO run_dataset (id, namespace_id, experiment_id, name, digest, source_type, source, schema, \
               profile, catalog_id, catalog_version, catalog_name) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
               ON CONFLICT (namespace_id, experiment_id, name, digest) DO NOTHING";
    let namespace = place.scope.namespace.uuid();
    let values = vec![
        Uuid::now_v7().into(),
        namespace.into(),
        place.experiment.into(),
        dataset.name().into(),
        dataset.digest().into(),
        dataset.source_type().into(),
        dataset.source().into(),
        dataset.schema.clone().filter(|text| !text.is_empty()).into(),
        dataset.profile.clone().filter(|text| !text.is_empty()).into(),
        edge.map(|edge| edge.id.uuid()).into(),
        edge.map(|edge| edge.version).into(),
        edge.map(|edge| edge.name.clone()).into(),
    ];
    execute(tx, sql, values).await?;
    let sql = "SELECT id FROM run_dataset WHERE namespace_id = $1 AND experiment_id = $2 AND name = $3 AND digest = $4";
    let values = vec![
        namespace.into(),
        place.experiment.into(),
        dataset.name().into(),
        dataset.digest().into(),
    ];
    let row: Option<IdRow> = one(tx, sql, values).await?;
    let id = row.ok_or_else(|| crate::defect("a dataset vanished"))?.id;
    let sql = "INSERT INTO run_input (run_id, dataset_id, seq) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let seq = i64::try_from(at).unwrap_or(i64::MAX);
    if execute(tx, sql, vec![place.run.into(), id.into(), seq.into()]).await? == 0 {
        return Ok(());
    }
    let rows = input
        .tags
        .iter()
        .map(|tag| vec![place.run.into(), id.into(), tag.key().into(), tag.value().into()]);
    let into = "run_input_tag (run_id, dataset_id, key, value)";
    insert_all(tx, into, rows.collect(), "ON CONFLICT DO NOTHING").await
}

async fn put_models(
    tx: &DatabaseTransaction,
    run: &str,
    kind: i64,
    models: Vec<(String, i64)>,
) -> Result<()> {
    for (at, (model, step)) in models.into_iter().enumerate() {
        let sql = "INSERT INTO run_model (run_id, kind, model_id, step, seq) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (run_id, kind, model_id) DO UPDATE SET step = excluded.step";
        let seq = i64::try_from(at).unwrap_or(i64::MAX);
        execute(tx, sql, vec![run.into(), kind.into(), model.into(), step.into(), seq.into()])
            .await?;
    }
    Ok(())
}
