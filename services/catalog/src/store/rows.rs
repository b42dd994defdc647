//! Rows into the model's types, and the joined query that datasets are read by.

use std::collections::BTreeMap;

use ids::Id;
use item_schema::Profile;
use sea_orm::{FromQueryResult, Set};
use service_error::ServiceError;
use uuid::Uuid;

use crate::model::{ColumnStats, Dataset, Head, Namespace, NewDataset, Snapshot, Version};
use crate::store::entity::{block_column_stats, dataset, namespace};
use crate::store::scalar_codec;

const PROFILE_ITEMS: i16 = 1;
const PROFILE_TABLE: i16 = 2;

/// A dataset with its namespace, its head and its newest version. `{schema}` is
/// the schema's column or an empty stand-in.
const SELECT_DATASETS: &str = "SELECT d.id, d.namespace_id, n.name AS namespace, d.name, d.description, d.profile, \
    {schema} AS arrow_schema, EXISTS (SELECT 1 FROM dataset_property p WHERE p.dataset_id = d.id) AS has_properties, \
    d.key_column, d.unique_columns, d.public, d.created_at, d.created_by, \
    h.number AS head_number, h.row_count AS head_row_count, h.byte_count AS head_byte_count, \
    h.block_count AS head_block_count, h.watermark AS head_watermark, \
    v.number AS version, v.parent, v.message, v.author, v.created_at AS version_created_at, \
    s.number AS snapshot, s.row_count, s.byte_count, s.block_count, s.watermark \
    FROM dataset d JOIN namespace n ON n.id = d.namespace_id \
    JOIN branch b ON b.dataset_id = d.id AND b.branch = 0 \
    LEFT JOIN snapshot h ON h.dataset_id = d.id AND h.number = b.head_snapshot \
    LEFT JOIN version v ON v.dataset_id = d.id AND v.number = b.head_version \
    LEFT JOIN snapshot s ON s.dataset_id = d.id AND s.number = v.snapshot \
    WHERE d.deleted_at IS NULL";

/// The query for datasets with their schemas; conditions follow with `AND`.
pub fn select_datasets(conditions: &str) -> String {
    format!("{} AND {conditions}", SELECT_DATASETS.replace("{schema}", "d.arrow_schema"))
}

/// The query for datasets without their schemas.
pub fn select_datasets_without_schema(conditions: &str) -> String {
    format!("{} AND {conditions}", SELECT_DATASETS.replace("{schema}", "NULL"))
}

/// A row of [`select_datasets`].
#[derive(Debug, FromQueryResult)]
pub struct DatasetRow {
    id: Uuid,
    namespace_id: Uuid,
    namespace: String,
    name: String,
    description: String,
    profile: i16,
    arrow_schema: Option<Vec<u8>>,
    /// Whether it has properties: most have none, and a read of its head is one statement.
    pub has_properties: bool,
    key_column: Option<String>,
    unique_columns: Option<String>,
    public: bool,
    created_at: i64,
    created_by: Uuid,
    head_number: Option<i64>,
    head_row_count: Option<i64>,
    head_byte_count: Option<i64>,
    head_block_count: Option<i64>,
    head_watermark: Option<i64>,
    #[sea_orm(nested)]
    latest: Option<VersionRow>,
}

/// A version with the totals of its snapshot.
#[derive(Debug, FromQueryResult)]
pub struct VersionRow {
    version: i64,
    parent: i64,
    message: String,
    author: Uuid,
    version_created_at: i64,
    snapshot: i64,
    row_count: i64,
    byte_count: i64,
    block_count: i64,
    watermark: i64,
}

impl From<VersionRow> for Version {
    fn from(row: VersionRow) -> Self {
        Self {
            number: row.version,
            parent: row.parent,
            message: row.message,
            author: Id::from_uuid(row.author),
            created_at: row.version_created_at,
            snapshot: Snapshot {
                number: row.snapshot,
                row_count: row.row_count,
                byte_count: row.byte_count,
                block_count: row.block_count,
                watermark: row.watermark,
            },
        }
    }
}

impl DatasetRow {
    /// The dataset at its head.
    pub fn into_head(self, properties: BTreeMap<String, String>) -> Result<Head, ServiceError> {
        let snapshot = Snapshot {
            number: self.head_number.unwrap_or(0),
            row_count: self.head_row_count.unwrap_or(0),
            byte_count: self.head_byte_count.unwrap_or(0),
            block_count: self.head_block_count.unwrap_or(0),
            watermark: self.head_watermark.unwrap_or(0),
        };
        let dataset = self.into_dataset(properties)?;
        let version = dataset.latest.as_ref().map_or(0, |latest| latest.number);
        Ok(Head { dataset, snapshot, version })
    }

    /// The dataset alone.
    pub fn into_dataset(
        self,
        properties: BTreeMap<String, String>,
    ) -> Result<Dataset, ServiceError> {
        Ok(Dataset {
            id: Id::from_uuid(self.id),
            namespace_id: Id::from_uuid(self.namespace_id),
            namespace: self.namespace,
            name: self.name,
            description: self.description,
            profile: profile_of(self.profile)?,
            schema_ipc: self.arrow_schema.unwrap_or_default(),
            key_column: self.key_column,
            unique_columns: unique_of(self.unique_columns.as_deref()),
            public: self.public,
            created_at: self.created_at,
            created_by: Id::from_uuid(self.created_by),
            latest: self.latest.map(Version::from),
            properties,
        })
    }
}

impl From<namespace::Model> for Namespace {
    fn from(row: namespace::Model) -> Self {
        Self {
            id: Id::from_uuid(row.id),
            name: row.name,
            description: row.description,
            created_at: row.created_at,
            created_by: Id::from_uuid(row.created_by),
        }
    }
}

/// A dataset that nothing was committed to.
pub fn new_dataset_row(
    id: Uuid,
    namespace: Uuid,
    new: &NewDataset,
    created_by: Uuid,
    created_at: i64,
) -> dataset::ActiveModel {
    dataset::ActiveModel {
        id: Set(id),
        namespace_id: Set(namespace),
        name: Set(new.name.as_str().to_owned()),
        description: Set(new.description.clone()),
        profile: Set(match new.profile {
            Profile::Items => PROFILE_ITEMS,
            Profile::Table => PROFILE_TABLE,
        }),
        arrow_schema: Set(new.schema_ipc.clone()),
        key_column: Set(new.key_column.clone()),
        unique_columns: Set(unique_text(&new.unique_columns)),
        public: Set(new.public),
        created_at: Set(created_at),
        created_by: Set(created_by),
        deleted_at: Set(None),
        last_snapshot: Set(0),
        last_version: Set(0),
        revision: Set(1),
    }
}

/// Unique columns as they are stored.
pub fn unique_text(columns: &[String]) -> Option<String> {
    (!columns.is_empty()).then(|| columns.join("\n"))
}

/// Unique columns as they were stored.
pub fn unique_of(text: Option<&str>) -> Vec<String> {
    text.map_or_else(Vec::new, |text| text.lines().map(str::to_owned).collect())
}

fn profile_of(stored: i16) -> Result<Profile, ServiceError> {
    match stored {
        PROFILE_ITEMS => Ok(Profile::Items),
        PROFILE_TABLE => Ok(Profile::Table),
        _ => Err(ServiceError::data_loss(format!("a dataset has the unknown profile {stored}"))),
    }
}

/// Statistics as a row of a block.
pub fn stats_row(
    block: Uuid,
    ordinal: i32,
    stats: &ColumnStats,
) -> block_column_stats::ActiveModel {
    block_column_stats::ActiveModel {
        block_id: Set(block),
        ordinal: Set(ordinal),
        column_name: Set(stats.column.clone()),
        null_count: Set(stats.null_count),
        min_value: Set(stats.min.as_ref().map(scalar_codec::encode)),
        max_value: Set(stats.max.as_ref().map(scalar_codec::encode)),
        exact: Set(stats.exact),
    }
}

/// Statistics out of a row.
pub fn stats_of(row: block_column_stats::Model) -> Result<ColumnStats, ServiceError> {
    Ok(ColumnStats {
        column: row.column_name,
        null_count: row.null_count,
        min: row.min_value.as_deref().map(scalar_codec::decode).transpose()?,
        max: row.max_value.as_deref().map(scalar_codec::decode).transpose()?,
        exact: row.exact,
    })
}
