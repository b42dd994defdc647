//! Rows as queries answer them, and the types that they become.

use std::collections::BTreeMap;

use ids::Id;
use sea_orm::FromQueryResult;
use serde::Deserialize;
use service_error::ServiceError;
use uuid::Uuid;

use super::codes;
use crate::model::{Alias, Model, ModelVersion};

/// The columns of [`super::whole::Whole::model`], in their order.
#[derive(Debug, Deserialize)]
pub struct ModelRow {
    id: Uuid,
    namespace_id: Uuid,
    namespace: String,
    name: String,
    description: String,
    created_at: i64,
    updated_at: i64,
    created_by: Uuid,
    deleted_at: Option<i64>,
    latest_version: i64,
    version_count: i64,
    byte_count: i64,
    tags: BTreeMap<String, String>,
    aliases: Vec<AliasTuple>,
    stages: Vec<(String, i64)>,
}

/// Name, number, whether it is protected, when and by whom it was set.
type AliasTuple = (String, i64, i64, i64, Uuid);

fn alias((name, number, protected, set_at, set_by): AliasTuple) -> Alias {
    Alias { name, number, protected: protected != 0, set_at, set_by: Id::from_uuid(set_by) }
}

impl ModelRow {
    pub fn into_model(self) -> Model {
        let mut aliases: Vec<Alias> = self.aliases.into_iter().map(alias).collect();
        aliases.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut latest_by_stage = self.stages;
        latest_by_stage.sort_unstable();
        Model {
            id: Id::from_uuid(self.id),
            namespace_id: Id::from_uuid(self.namespace_id),
            namespace: self.namespace,
            name: self.name,
            description: self.description,
            tags: self.tags,
            aliases,
            latest_version: self.latest_version,
            latest_by_stage,
            version_count: self.version_count,
            byte_count: self.byte_count,
            created_at: self.created_at,
            updated_at: self.updated_at,
            created_by: Id::from_uuid(self.created_by),
            deleted_at: self.deleted_at,
        }
    }
}

#[derive(Debug, FromQueryResult)]
pub struct IdRow {
    pub id: Uuid,
}

#[derive(Debug, FromQueryResult)]
pub struct AliasRow {
    pub name: String,
    pub number: i64,
    pub protected: bool,
    pub set_at: i64,
    pub set_by: Uuid,
}

impl From<AliasRow> for Alias {
    fn from(row: AliasRow) -> Self {
        Self {
            name: row.name,
            number: row.number,
            protected: row.protected,
            set_at: row.set_at,
            set_by: Id::from_uuid(row.set_by),
        }
    }
}

/// A model without its stages, and these: name, the newest version's number, and that version
/// without its aliases, which the model has.
pub type WithLatest = (ModelRow, Vec<(String, i64, Option<VersionRow>)>);

/// A model without its stages and one of them, as [`WithLatest`] has it, if it has one.
pub type LatestRow = (ModelRow, Option<(String, i64, Option<VersionRow>)>);

/// Rows of which those of a model come one after the other, as models.
pub fn together(rows: Vec<LatestRow>) -> Vec<WithLatest> {
    let mut found: Vec<WithLatest> = Vec::with_capacity(rows.len());
    for (model, latest) in rows {
        match found.last_mut().filter(|(last, _)| last.id == model.id) {
            Some((_, stages)) => stages.extend(latest),
            None => found.push((model, latest.into_iter().collect())),
        }
    }
    found
}

/// A model and the newest version of each of its stages, the newest first.
///
/// # Errors
/// What no version has.
pub fn into_whole_model(
    (mut model, stages): WithLatest,
) -> Result<(Model, Vec<ModelVersion>), ServiceError> {
    let mut latest = Vec::with_capacity(stages.len());
    for (stage, number, version) in stages {
        model.stages.push((stage, number));
        latest.extend(version.map(|mut version| {
            let own = model.aliases.iter().filter(|alias| alias.1 == number);
            version.aliases = own.map(|alias| alias.0.clone()).collect();
            version
        }));
    }
    let mut latest = into_versions(latest)?;
    latest.sort_unstable_by_key(|version| std::cmp::Reverse(version.number));
    Ok((model.into_model(), latest))
}

/// Rows as the versions that they are.
///
/// # Errors
/// What no version has.
pub fn into_versions(rows: Vec<VersionRow>) -> Result<Vec<ModelVersion>, ServiceError> {
    rows.into_iter().map(VersionRow::into_version).collect()
}

/// The columns of [`super::whole::Whole::version`], in their order.
#[derive(Debug, Deserialize)]
pub struct VersionRow {
    id: Uuid,
    model_id: Uuid,
    namespace_id: Uuid,
    namespace: String,
    model: String,
    number: i64,
    label: Option<String>,
    description: String,
    status: i16,
    status_message: String,
    stage: String,
    source: String,
    run_id: String,
    run_link: String,
    logged_model_id: String,
    byte_count: i64,
    file_count: i64,
    /// In hex; SQLite writes an empty text for none.
    digest: Option<String>,
    scan: i16,
    signed: i64,
    created_at: i64,
    updated_at: i64,
    created_by: Uuid,
    deleted_at: Option<i64>,
    tags: BTreeMap<String, String>,
    flavors: Vec<String>,
    aliases: Vec<String>,
}

impl VersionRow {
    pub fn into_version(mut self) -> Result<ModelVersion, ServiceError> {
        self.flavors.sort_unstable();
        self.aliases.sort_unstable();
        let digest = self.digest.filter(|digest| !digest.is_empty()).map(hex::decode);
        let digest = digest.transpose().map_err(|error| {
            ServiceError::internal("a version's digest is none").caused_by(error)
        })?;
        Ok(ModelVersion {
            id: Id::from_uuid(self.id),
            model_id: Id::from_uuid(self.model_id),
            namespace_id: Id::from_uuid(self.namespace_id),
            namespace: self.namespace,
            model: self.model,
            number: self.number,
            label: self.label,
            description: self.description,
            status: codes::status(self.status)?,
            status_message: self.status_message,
            stage: self.stage,
            source: self.source,
            run_id: self.run_id,
            run_link: self.run_link,
            logged_model_id: self.logged_model_id,
            flavors: self.flavors,
            tags: self.tags,
            aliases: self.aliases,
            byte_count: self.byte_count,
            file_count: self.file_count,
            digest,
            scan: codes::verdict(self.scan)?,
            signed: self.signed != 0,
            created_at: self.created_at,
            updated_at: self.updated_at,
            created_by: Id::from_uuid(self.created_by),
            deleted_at: self.deleted_at,
        })
    }
}
