//! Tables of experiments, runs and logged models.
//!
//! Columns that end in `_ms` are a client's own milliseconds; `created_at` and
//! `updated_at` are ours, in microseconds UTC. A text that is searched by its
//! value has a `head` beside it: an index entry of Postgres is bounded.

use sea_orm::{ConnectionTrait, DbBackend};
use sea_orm_migration::prelude::{DbErr, MigrationName, MigrationTrait, SchemaManager};

/// The registry's second migration.
#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0002_tracking"
    }
}

/// In the order in which they are made.
const TABLES: [(&str, &str); 18] = [
    (
        "experiment",
        "namespace_id {uuid} NOT NULL, id bigint NOT NULL, name {name} NOT NULL,
         location text NOT NULL, lifecycle bigint NOT NULL, created_at bigint NOT NULL,
         updated_at bigint NOT NULL, PRIMARY KEY (namespace_id, id)",
    ),
    (
        "experiment_tag",
        "namespace_id {uuid} NOT NULL, experiment_id bigint NOT NULL, key {name} NOT NULL,
         value {name} NOT NULL, PRIMARY KEY (namespace_id, experiment_id, key),
         FOREIGN KEY (namespace_id, experiment_id) REFERENCES experiment (namespace_id, id)",
    ),
    (
        "run",
        "id {name} PRIMARY KEY, namespace_id {uuid} NOT NULL, experiment_id bigint NOT NULL,
         name {name} NOT NULL, user_id {name} NOT NULL, status bigint NOT NULL,
         start_ms bigint NOT NULL, end_ms bigint, lifecycle bigint NOT NULL,
         artifact_uri {name} NOT NULL, created_at bigint NOT NULL, revision bigint NOT NULL,
         FOREIGN KEY (namespace_id, experiment_id) REFERENCES experiment (namespace_id, id)",
    ),
    (
        "run_tag",
        "run_id {name} NOT NULL REFERENCES run (id), key {name} NOT NULL, value {name} NOT NULL,
         head {name} NOT NULL, PRIMARY KEY (run_id, key)",
    ),
    (
        "run_param",
        "run_id {name} NOT NULL REFERENCES run (id), key {name} NOT NULL, value {name} NOT NULL,
         head {name} NOT NULL, PRIMARY KEY (run_id, key)",
    ),
    (
        "run_metric",
        "run_id {name} NOT NULL REFERENCES run (id), key {name} NOT NULL, at_ms bigint NOT NULL,
         step bigint NOT NULL, value double precision NOT NULL, nan bigint NOT NULL,
         PRIMARY KEY (run_id, key, at_ms, step, value, nan)",
    ),
    (
        "run_metric_last",
        "run_id {name} NOT NULL REFERENCES run (id), key {name} NOT NULL, at_ms bigint NOT NULL,
         step bigint NOT NULL, value double precision NOT NULL, nan bigint NOT NULL,
         PRIMARY KEY (run_id, key)",
    ),
    // The catalog's dataset version behind it, where its source is ours.
    (
        "run_dataset",
        "id {uuid} PRIMARY KEY, namespace_id {uuid} NOT NULL, experiment_id bigint NOT NULL,
         name {name} NOT NULL, digest {name} NOT NULL, source_type text NOT NULL,
         source text NOT NULL, schema text, profile text, catalog_id {uuid},
         catalog_version bigint, catalog_name text,
         UNIQUE (namespace_id, experiment_id, name, digest)",
    ),
    (
        "run_input",
        "run_id {name} NOT NULL REFERENCES run (id),
         dataset_id {uuid} NOT NULL REFERENCES run_dataset (id), seq bigint NOT NULL,
         PRIMARY KEY (run_id, dataset_id)",
    ),
    (
        "run_input_tag",
        "run_id {name} NOT NULL, dataset_id {uuid} NOT NULL, key {name} NOT NULL,
         value {name} NOT NULL, PRIMARY KEY (run_id, dataset_id, key),
         FOREIGN KEY (run_id, dataset_id) REFERENCES run_input (run_id, dataset_id)",
    ),
    // kind 1: the run was given the model; 2: it made it.
    (
        "run_model",
        "run_id {name} NOT NULL REFERENCES run (id), kind bigint NOT NULL,
         model_id {name} NOT NULL, step bigint NOT NULL, seq bigint NOT NULL,
         PRIMARY KEY (run_id, kind, model_id)",
    ),
    (
        "logged_model",
        "id {name} PRIMARY KEY, namespace_id {uuid} NOT NULL, experiment_id bigint NOT NULL,
         name {name} NOT NULL, artifact_uri text NOT NULL, status bigint NOT NULL,
         model_type {name} NOT NULL, source_run_id {name} NOT NULL, lifecycle bigint NOT NULL,
         created_at bigint NOT NULL, updated_at bigint NOT NULL, revision bigint NOT NULL,
         FOREIGN KEY (namespace_id, experiment_id) REFERENCES experiment (namespace_id, id)",
    ),
    (
        "logged_model_tag",
        "model_id {name} NOT NULL REFERENCES logged_model (id), key {name} NOT NULL,
         value {name} NOT NULL, head {name} NOT NULL, PRIMARY KEY (model_id, key)",
    ),
    (
        "logged_model_param",
        "model_id {name} NOT NULL REFERENCES logged_model (id), key {name} NOT NULL,
         value {name} NOT NULL, head {name} NOT NULL, PRIMARY KEY (model_id, key)",
    ),
    (
        "logged_model_metric",
        "model_id {name} NOT NULL REFERENCES logged_model (id), key {name} NOT NULL,
         at_ms bigint NOT NULL, step bigint NOT NULL, run_id {name} NOT NULL,
         value double precision NOT NULL, dataset_name {name} NOT NULL,
         dataset_digest {name} NOT NULL, PRIMARY KEY (model_id, key, at_ms, step, run_id)",
    ),
    // Where a registered version came from a logged model.
    (
        "logged_model_registration",
        "model_id {name} NOT NULL REFERENCES logged_model (id), name {name} NOT NULL,
         version bigint NOT NULL, PRIMARY KEY (model_id, name, version)",
    ),
    // A file of the registry's tree that comes in parts of any size.
    (
        "tree_upload",
        "id {uuid} PRIMARY KEY, namespace_id {uuid} NOT NULL, path {name} NOT NULL,
         principal {uuid} NOT NULL, generation {uuid} NOT NULL, parts bigint NOT NULL,
         expires_at bigint NOT NULL",
    ),
    // The key of signed addresses; one row.
    ("surface_secret", "id bigint PRIMARY KEY, secret {bytes} NOT NULL"),
];

const INDEXES: [&str; 12] = [
    "CREATE UNIQUE INDEX experiment_name ON experiment (namespace_id, name)",
    "CREATE INDEX experiment_created ON experiment (namespace_id, created_at, id)",
    "CREATE INDEX run_started ON run (namespace_id, experiment_id, start_ms, id)",
    "CREATE INDEX run_tag_value ON run_tag (key, head, run_id)",
    "CREATE INDEX run_param_value ON run_param (key, head, run_id)",
    "CREATE INDEX run_metric_value ON run_metric_last (key, value, run_id)",
    "CREATE INDEX run_dataset_catalog ON run_dataset (catalog_id, catalog_version)",
    "CREATE INDEX run_input_dataset ON run_input (dataset_id, run_id)",
    "CREATE INDEX run_model_model ON run_model (model_id)",
    "CREATE INDEX logged_model_created ON logged_model (namespace_id, experiment_id, created_at, id)",
    "CREATE INDEX logged_model_run ON logged_model (source_run_id)",
    "CREATE INDEX logged_model_metric_value ON logged_model_metric (key, value, model_id)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let (db, backend) = (manager.get_connection(), manager.get_database_backend());
        for (name, columns) in TABLES {
            let statement = format!("CREATE TABLE {name} ({columns})");
            db.execute_unprepared(&in_words_of(backend, &statement)).await?;
        }
        for index in INDEXES {
            db.execute_unprepared(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in TABLES.iter().rev() {
            let statement = format!("DROP TABLE {name}");
            manager.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}

/// `{uuid}`, and `{name}`: a text that sorts by byte.
fn in_words_of(backend: DbBackend, statement: &str) -> String {
    let (uuid, bytes, name) = match backend {
        DbBackend::Postgres => ("uuid", "bytea", "text COLLATE \"C\""),
        _ => ("blob", "blob", "text"),
    };
    statement.replace("{uuid}", uuid).replace("{bytes}", bytes).replace("{name}", name)
}
