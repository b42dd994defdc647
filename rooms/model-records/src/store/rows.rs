//! Rows as queries answer them, and the types that they become.

use std::collections::BTreeMap;

use ids::Id;
use sea_orm::FromQueryResult;
use service_error::ServiceError;
use uuid::Uuid;

use super::codes;
use crate::model::{Alias, Model, ModelVersion};

pub const MODEL_COLUMNS: &str = "m.id, m.namespace_id, m.namespace, m.name, m.description, \
    m.created_at, m.updated_at, m.created_by, m.deleted_at, m.latest_version, m.version_count, \
    m.byte_count";

#[derive(Debug, FromQueryResult)]
pub struct ModelRow {
    pub id: Uuid,
    pub namespace_id: Uuid,
    pub namespace: String,
    pub name: String,
    pub description: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub created_by: Uuid,
    pub deleted_at: Option<i64>,
    pub latest_version: i64,
    pub version_count: i64,
    pub byte_count: i64,
}

impl ModelRow {
    pub fn into_model(self) -> Model {
        Model {
            id: Id::from_uuid(self.id),
            namespace_id: Id::from_uuid(self.namespace_id),
            namespace: self.namespace,
            name: self.name,
            description: self.description,
            tags: BTreeMap::new(),
            aliases: Vec::new(),
            latest_version: self.latest_version,
            latest_by_stage: Vec::new(),
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

pub const VERSION_COLUMNS: &str = "v.id, v.model_id, m.namespace_id, m.namespace, m.name AS model, \
    v.number, v.label, v.description, v.status, v.status_message, v.stage, v.source, v.run_id, \
    v.run_link, v.logged_model_id, v.byte_count, v.file_count, v.digest, v.scan, v.signed, \
    v.created_at, v.updated_at, v.created_by, v.deleted_at";

#[derive(Debug, FromQueryResult)]
pub struct VersionRow {
    pub id: Uuid,
    pub model_id: Uuid,
    pub namespace_id: Uuid,
    pub namespace: String,
    pub model: String,
    pub number: i64,
    pub label: Option<String>,
    pub description: String,
    pub status: i16,
    pub status_message: String,
    pub stage: String,
    pub source: String,
    pub run_id: String,
    pub run_link: String,
    pub logged_model_id: String,
    pub byte_count: i64,
    pub file_count: i64,
    pub digest: Option<Vec<u8>>,
    pub scan: i16,
    pub signed: bool,
    pub created_at: i64,
    pub updated_at: i64,
    pub created_by: Uuid,
    pub deleted_at: Option<i64>,
}

impl VersionRow {
    pub fn into_version(self) -> Result<ModelVersion, ServiceError> {
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
            flavors: Vec::new(),
            tags: BTreeMap::new(),
            aliases: Vec::new(),
            byte_count: self.byte_count,
            file_count: self.file_count,
            digest: self.digest,
            scan: codes::verdict(self.scan)?,
            signed: self.signed,
            created_at: self.created_at,
            updated_at: self.updated_at,
            created_by: Id::from_uuid(self.created_by),
            deleted_at: self.deleted_at,
        })
    }
}
