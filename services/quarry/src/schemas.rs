//! The schemas of the platform: whose they are, and how they are migrated.

use backup::{Objects, Part};
use service_error::ServiceError;
use sql_store::{MigrationStatus, SqlSettings};

use crate::serve::settings::Role;

/// A role's schema, or its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// Whose it is.
    pub role: Role,
    /// E.g. `items`.
    pub name: &'static str,
}

/// All of them, in the order in which a backup reads them where each is a
/// file of its own. What refers to another schema's rows comes before it;
/// the catalog comes before the items, so that no watermark in it is above what the
/// items have; identity comes last, so that what was delivered to it is there.
pub const SCHEMAS: [Schema; 6] = [
    Schema { role: Role::ModelRegistry, name: "models" },
    Schema { role: Role::VectorSearch, name: "vectors" },
    Schema { role: Role::FileIndexer, name: "files" },
    Schema { role: Role::Catalog, name: "catalog" },
    Schema { role: Role::ItemStore, name: "items" },
    Schema { role: Role::Identity, name: "identity" },
];

/// The blocks that some snapshot uses.
const BLOCKS: Objects = Objects {
    prefix: "items",
    sqlite:
        "SELECT b.object_key AS key, b.byte_count AS bytes, b.content_hash AS hash, 1 AS certain
        FROM block b WHERE EXISTS (SELECT 1 FROM block_use u WHERE u.block_id = b.id)",
    postgres: "SELECT b.object_key AS key, b.byte_count AS bytes, b.content_hash AS hash,
            1::bigint AS certain
        FROM catalog.block b
        WHERE EXISTS (SELECT 1 FROM catalog.block_use u WHERE u.block_id = b.id)",
};

/// Images and other files of rows, at the place that `item_records::Media` gives
/// them. A row comes before its bytes, and is marked after its upload's commit.
const MEDIA: Objects = Objects {
    prefix: "items",
    sqlite: "WITH file AS (SELECT lower(hex(dataset_id)) AS d, lower(hex(upload_id)) AS u,
            byte_count, content_hash, committed FROM media)
        SELECT substr(d, 1, 8) || '-' || substr(d, 9, 4) || '-' || substr(d, 13, 4) || '-' ||
            substr(d, 17, 4) || '-' || substr(d, 21) || '/' ||
            substr(u, 1, 8) || '-' || substr(u, 9, 4) || '-' || substr(u, 13, 4) || '-' ||
            substr(u, 17, 4) || '-' || substr(u, 21) || '/media/' || lower(hex(content_hash)) AS key,
            byte_count AS bytes, content_hash AS hash, CAST(committed AS INTEGER) AS certain FROM file",
    postgres: "SELECT dataset_id::text || '/' || upload_id::text || '/media/' ||
            encode(content_hash, 'hex') AS key,
            byte_count AS bytes, content_hash AS hash, committed::int::bigint AS certain
        FROM items.media",
};

/// The parts of files that live blobs are made of, but for those that rows hold.
/// Until its upload commits, nobody may read a blob.
const ARTIFACTS: Objects = Objects {
    prefix: "models",
    sqlite: "SELECT s.object_key AS key, s.byte_count AS bytes, NULL AS hash, 1 AS certain
        FROM segment s JOIN blob b ON b.generation = s.generation
        WHERE b.state = 1 AND s.object_key <> ''",
    postgres: "SELECT s.object_key AS key, s.byte_count AS bytes, NULL::bytea AS hash,
            1::bigint AS certain
        FROM models.segment s JOIN models.blob b ON b.generation = s.generation
        WHERE b.state = 1 AND s.object_key <> ''",
};

/// Indexes made of other rows are no indexes of these: each is made anew.
const VECTORS_AFTER: [&str; 1] = ["UPDATE space SET snapshot_seq = 0, epoch = epoch + 1"];
const VECTORS_AFTER_POSTGRES: [&str; 1] =
    ["UPDATE vectors.space SET snapshot_seq = 0, sql_indexed = false, epoch = epoch + 1"];
/// Page tokens and tickets name snapshots, and their numbers are given again.
const ITEMS_AFTER: [&str; 1] = ["DELETE FROM key_ring"];
const ITEMS_AFTER_POSTGRES: [&str; 1] = ["DELETE FROM items.key_ring"];

impl Schema {
    /// What a backup must know of it; `known` are its migrations.
    pub fn part(&self, sql: &SqlSettings, known: Vec<String>) -> Part {
        let on_postgres = sql.database_url.is_some();
        let objects = match self.role {
            Role::Catalog => Some(BLOCKS),
            Role::ItemStore => Some(MEDIA),
            Role::ModelRegistry => Some(ARTIFACTS),
            _ => None,
        };
        let after_restore: &'static [&'static str] = match (self.role, on_postgres) {
            (Role::VectorSearch, false) => &VECTORS_AFTER,
            (Role::VectorSearch, true) => &VECTORS_AFTER_POSTGRES,
            (Role::ItemStore, false) => &ITEMS_AFTER,
            (Role::ItemStore, true) => &ITEMS_AFTER_POSTGRES,
            _ => &[],
        };
        Part { schema: self.name, migrations: known, objects, after_restore }
    }

    /// The schema of a role; none for one without rows.
    pub fn of(role: Role) -> Option<Self> {
        SCHEMAS.into_iter().find(|schema| schema.role == role)
    }

    /// Runs the migrations that have not run.
    ///
    /// # Errors
    /// A database that cannot be used, or a schema of another version.
    pub async fn migrate(&self, sql: &SqlSettings) -> Result<(), ServiceError> {
        match self.role {
            Role::Identity => identity::migrate(sql).await,
            Role::Catalog => catalog::migrate(sql).await,
            Role::ItemStore => item_store::migrate(sql).await,
            Role::VectorSearch => vector_search::migrate(sql).await,
            Role::FileIndexer => file_indexer::migrate(sql).await,
            Role::ModelRegistry => model_registry::migrate(sql).await,
            Role::Gateway => Ok(()),
        }
    }

    /// Its migrations in order, and which of them have run. Changes nothing.
    ///
    /// # Errors
    /// A database that cannot be used.
    pub async fn status(&self, sql: &SqlSettings) -> Result<Vec<MigrationStatus>, ServiceError> {
        match self.role {
            Role::Identity => identity::migration_status(sql).await,
            Role::Catalog => catalog::migration_status(sql).await,
            Role::ItemStore => item_store::migration_status(sql).await,
            Role::VectorSearch => vector_search::migration_status(sql).await,
            Role::FileIndexer => file_indexer::migration_status(sql).await,
            Role::ModelRegistry => model_registry::migration_status(sql).await,
            Role::Gateway => Ok(Vec::new()),
        }
    }
}
