//! Models, versions and what hangs on them, stages, artifacts, lineage,
//! deployments, events and webhooks.
//!
//! Times are microseconds UTC. A text that is searched by its value has a
//! `head` beside it, its first characters: an index entry of Postgres is bounded.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};
use sql_store::migration::{create_counter_table, drop_counter_table};

use super::in_words_of;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(create_counter_table()).await?;
        let db = manager.get_connection();
        let backend = manager.get_database_backend();
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
        manager.drop_table(drop_counter_table()).await
    }
}

/// In the order in which they are made.
const TABLES: &[(&str, &str)] = &[
    (
        "model",
        "id {uuid} PRIMARY KEY, namespace_id {uuid} NOT NULL, namespace {name} NOT NULL,
         name {name} NOT NULL, description text NOT NULL, created_at bigint NOT NULL,
         updated_at bigint NOT NULL, created_by {uuid} NOT NULL, deleted_at bigint,
         last_version bigint NOT NULL, latest_version bigint NOT NULL,
         version_count bigint NOT NULL, byte_count bigint NOT NULL, revision bigint NOT NULL",
    ),
    (
        "model_tag",
        "model_id {uuid} NOT NULL REFERENCES model (id), key {name} NOT NULL,
         value text NOT NULL, head {name} NOT NULL, PRIMARY KEY (model_id, key)",
    ),
    (
        "version",
        "id {uuid} PRIMARY KEY, model_id {uuid} NOT NULL REFERENCES model (id),
         number bigint NOT NULL, label {name}, description text NOT NULL,
         status smallint NOT NULL, status_message text NOT NULL, stage {name} NOT NULL,
         source text NOT NULL, source_head {name} NOT NULL, run_id {name} NOT NULL,
         run_link text NOT NULL, logged_model_id {name} NOT NULL, byte_count bigint NOT NULL,
         file_count bigint NOT NULL, digest {bytes}, scan smallint NOT NULL,
         signed boolean NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL,
         created_by {uuid} NOT NULL, deleted_at bigint, UNIQUE (model_id, number)",
    ),
    (
        "version_tag",
        "version_id {uuid} NOT NULL REFERENCES version (id), key {name} NOT NULL,
         value text NOT NULL, head {name} NOT NULL, PRIMARY KEY (version_id, key)",
    ),
    (
        "version_flavor",
        "version_id {uuid} NOT NULL REFERENCES version (id), flavor {name} NOT NULL,
         PRIMARY KEY (version_id, flavor)",
    ),
    // A value that is null is NaN.
    (
        "metric",
        "version_id {uuid} NOT NULL REFERENCES version (id), key {name} NOT NULL,
         step bigint NOT NULL, value double precision, at bigint NOT NULL,
         PRIMARY KEY (version_id, key, step)",
    ),
    // The point of each metric with the highest step.
    (
        "metric_last",
        "version_id {uuid} NOT NULL REFERENCES version (id), key {name} NOT NULL,
         step bigint NOT NULL, value double precision, at bigint NOT NULL,
         PRIMARY KEY (version_id, key)",
    ),
    // `number` is the value where it reads as one.
    (
        "param",
        "version_id {uuid} NOT NULL REFERENCES version (id), key {name} NOT NULL,
         value text NOT NULL, head {name} NOT NULL, number double precision,
         PRIMARY KEY (version_id, key)",
    ),
    (
        "alias",
        "model_id {uuid} NOT NULL REFERENCES model (id), name {name} NOT NULL,
         number bigint NOT NULL, protected boolean NOT NULL, set_at bigint NOT NULL,
         set_by {uuid} NOT NULL, revision bigint NOT NULL, PRIMARY KEY (model_id, name)",
    ),
    // 0: the alias was removed.
    (
        "alias_history",
        "model_id {uuid} NOT NULL REFERENCES model (id), name {name} NOT NULL,
         seq bigint NOT NULL, number bigint NOT NULL, set_at bigint NOT NULL,
         set_by {uuid} NOT NULL, PRIMARY KEY (model_id, name, seq)",
    ),
    (
        "stage_latest",
        "model_id {uuid} NOT NULL REFERENCES model (id), stage {name} NOT NULL,
         number bigint NOT NULL, PRIMARY KEY (model_id, stage)",
    ),
    // Stages of a namespace; without rows there are MLflow's four.
    (
        "stage",
        "namespace_id {uuid} NOT NULL, name {name} NOT NULL, ordinal bigint NOT NULL,
         approvals_required bigint NOT NULL, require_scan boolean NOT NULL,
         require_signature boolean NOT NULL, PRIMARY KEY (namespace_id, name)",
    ),
    (
        "stage_gate",
        "namespace_id {uuid} NOT NULL, stage {name} NOT NULL, ordinal bigint NOT NULL,
         metric {name} NOT NULL, comparison smallint NOT NULL,
         threshold double precision NOT NULL, PRIMARY KEY (namespace_id, stage, ordinal)",
    ),
    (
        "transition",
        "id {uuid} PRIMARY KEY, model_id {uuid} NOT NULL REFERENCES model (id),
         number bigint NOT NULL, from_stage {name} NOT NULL, to_stage {name} NOT NULL,
         state smallint NOT NULL, archive_existing boolean NOT NULL, comment text NOT NULL,
         requested_by {uuid} NOT NULL, requested_at bigint NOT NULL, decided_at bigint,
         revision bigint NOT NULL",
    ),
    (
        "approval",
        "transition_id {uuid} NOT NULL REFERENCES transition (id), principal {uuid} NOT NULL,
         approved boolean NOT NULL, comment text NOT NULL, at bigint NOT NULL,
         PRIMARY KEY (transition_id, principal)",
    ),
    // Number 0: the model's own.
    (
        "card",
        "model_id {uuid} NOT NULL REFERENCES model (id), number bigint NOT NULL,
         markdown text NOT NULL, updated_at bigint NOT NULL, updated_by {uuid} NOT NULL,
         PRIMARY KEY (model_id, number)",
    ),
    (
        "deployment",
        "id {uuid} PRIMARY KEY, model_id {uuid} NOT NULL REFERENCES model (id),
         number bigint NOT NULL, environment {name} NOT NULL, name {name} NOT NULL,
         state smallint NOT NULL, endpoint text NOT NULL, replicas bigint NOT NULL,
         ready_replicas bigint NOT NULL, message text NOT NULL, created_at bigint NOT NULL,
         updated_at bigint NOT NULL, created_by {uuid} NOT NULL, deleted_at bigint,
         revision bigint NOT NULL",
    ),
    // kind 1: a dataset version; kind 2: another model version.
    (
        "lineage",
        "version_id {uuid} NOT NULL REFERENCES version (id), kind smallint NOT NULL,
         source_id {uuid} NOT NULL, source_version bigint NOT NULL, source_name {name} NOT NULL,
         context {name} NOT NULL, at bigint NOT NULL,
         PRIMARY KEY (version_id, kind, source_id, source_version, context)",
    ),
    // State 1: live, 2: being deleted.
    (
        "blob",
        "digest {bytes} PRIMARY KEY, byte_count bigint NOT NULL, generation {uuid} NOT NULL,
         state smallint NOT NULL, refs bigint NOT NULL, pinned_until bigint NOT NULL,
         created_at bigint NOT NULL",
    ),
    // A blob's bytes are its segments' one after another.
    (
        "segment",
        "generation {uuid} NOT NULL, ordinal bigint NOT NULL, object_key {name} NOT NULL,
         byte_begin bigint NOT NULL, byte_count bigint NOT NULL, digest {bytes} NOT NULL,
         PRIMARY KEY (generation, ordinal)",
    ),
    // State 1: open, 2: committed, 3: aborted.
    (
        "upload",
        "id {uuid} PRIMARY KEY, namespace_id {uuid} NOT NULL, principal {uuid} NOT NULL,
         state smallint NOT NULL, lease_epoch bigint NOT NULL, expires_at bigint NOT NULL,
         created_at bigint NOT NULL, swept_at bigint",
    ),
    // Without a digest the file's is whatever arrives. `present`: its blob was there.
    (
        "upload_file",
        "upload_id {uuid} NOT NULL REFERENCES upload (id), ordinal bigint NOT NULL,
         path {name} NOT NULL, digest {bytes}, byte_count bigint NOT NULL,
         generation {uuid} NOT NULL, present boolean NOT NULL, PRIMARY KEY (upload_id, ordinal)",
    ),
    (
        "version_file",
        "version_id {uuid} NOT NULL REFERENCES version (id), path {name} NOT NULL,
         digest {bytes} NOT NULL REFERENCES blob (digest), byte_count bigint NOT NULL,
         PRIMARY KEY (version_id, path)",
    ),
    // Files by path in a namespace, as MLflow's artifact proxy keeps them.
    (
        "tree_file",
        "namespace_id {uuid} NOT NULL, path {name} NOT NULL,
         digest {bytes} NOT NULL REFERENCES blob (digest), byte_count bigint NOT NULL,
         at bigint NOT NULL, PRIMARY KEY (namespace_id, path)",
    ),
    (
        "scan",
        "digest {bytes} NOT NULL, scanner bigint NOT NULL, verdict smallint NOT NULL,
         format {name} NOT NULL, at bigint NOT NULL, PRIMARY KEY (digest, scanner)",
    ),
    (
        "finding",
        "digest {bytes} NOT NULL, scanner bigint NOT NULL, ordinal bigint NOT NULL,
         severity smallint NOT NULL, place text NOT NULL, message text NOT NULL,
         PRIMARY KEY (digest, scanner, ordinal)",
    ),
    (
        "signature",
        "id {uuid} PRIMARY KEY, version_id {uuid} NOT NULL REFERENCES version (id),
         bundle {bytes} NOT NULL, key_fingerprint {name} NOT NULL, verified boolean NOT NULL,
         message text NOT NULL, at bigint NOT NULL, added_by {uuid} NOT NULL",
    ),
    (
        "signing_key",
        "namespace_id {uuid} NOT NULL, fingerprint {name} NOT NULL, name text NOT NULL,
         public_key {bytes} NOT NULL, at bigint NOT NULL, added_by {uuid} NOT NULL,
         PRIMARY KEY (namespace_id, fingerprint)",
    ),
    (
        "event",
        "seq bigint PRIMARY KEY, id {uuid} NOT NULL, namespace_id {uuid} NOT NULL,
         namespace {name} NOT NULL, model_id {uuid} NOT NULL, model {name} NOT NULL,
         number bigint NOT NULL, kind smallint NOT NULL, subject text NOT NULL,
         before text NOT NULL, after text NOT NULL, actor {uuid} NOT NULL, at bigint NOT NULL",
    ),
    (
        "webhook",
        "id {uuid} PRIMARY KEY, namespace_id {uuid} NOT NULL, namespace {name} NOT NULL,
         name {name} NOT NULL, description text NOT NULL, url text NOT NULL,
         secret text NOT NULL, active boolean NOT NULL, created_at bigint NOT NULL,
         updated_at bigint NOT NULL, created_by {uuid} NOT NULL, deleted_at bigint",
    ),
    (
        "webhook_kind",
        "webhook_id {uuid} NOT NULL REFERENCES webhook (id), kind smallint NOT NULL,
         PRIMARY KEY (webhook_id, kind)",
    ),
    // State 1: waits, 2: delivered, 3: given up.
    (
        "delivery",
        "id {uuid} PRIMARY KEY, webhook_id {uuid} NOT NULL REFERENCES webhook (id),
         event_seq bigint NOT NULL, state smallint NOT NULL, attempts bigint NOT NULL,
         next_at bigint NOT NULL, lease_epoch bigint NOT NULL, last_status bigint NOT NULL,
         last_error text NOT NULL, created_at bigint NOT NULL, ended_at bigint,
         UNIQUE (webhook_id, event_seq)",
    ),
    // What identity must learn.
    (
        "outbox",
        "event_id {uuid} PRIMARY KEY, seq bigint NOT NULL UNIQUE, model_id {uuid} NOT NULL,
         namespace_id {uuid} NOT NULL, owner_id {uuid}, created_at bigint NOT NULL,
         delivered_at bigint",
    ),
];

const INDEXES: &[&str] = &[
    "CREATE UNIQUE INDEX model_name ON model (namespace_id, name) WHERE deleted_at IS NULL",
    "CREATE INDEX model_place ON model (namespace, name, id)",
    "CREATE INDEX model_updated ON model (updated_at, id)",
    "CREATE INDEX model_deleted ON model (deleted_at) WHERE deleted_at IS NOT NULL",
    "CREATE INDEX model_tag_value ON model_tag (key, head, model_id)",
    "CREATE UNIQUE INDEX version_label ON version (model_id, label) WHERE deleted_at IS NULL",
    "CREATE INDEX version_live ON version (model_id, number) WHERE deleted_at IS NULL",
    "CREATE INDEX version_stage ON version (model_id, stage, number) WHERE deleted_at IS NULL",
    "CREATE INDEX version_updated ON version (updated_at, id) WHERE deleted_at IS NULL",
    "CREATE INDEX version_created ON version (created_at, id) WHERE deleted_at IS NULL",
    "CREATE INDEX version_size ON version (byte_count, id) WHERE deleted_at IS NULL",
    "CREATE INDEX version_run ON version (run_id, id)",
    "CREATE INDEX version_source ON version (source_head, id)",
    "CREATE INDEX version_digest ON version (digest, id)",
    "CREATE INDEX version_deleted ON version (deleted_at) WHERE deleted_at IS NOT NULL",
    "CREATE INDEX version_tag_value ON version_tag (key, head, version_id)",
    "CREATE INDEX version_flavor_name ON version_flavor (flavor, version_id)",
    "CREATE INDEX metric_value ON metric_last (key, value, version_id)",
    "CREATE INDEX param_value ON param (key, head, version_id)",
    "CREATE INDEX param_number ON param (key, number, version_id)",
    "CREATE INDEX alias_number ON alias (model_id, number)",
    "CREATE INDEX alias_name ON alias (name, model_id)",
    "CREATE INDEX transition_model ON transition (model_id, requested_at)",
    "CREATE UNIQUE INDEX deployment_name ON deployment (model_id, environment, name) WHERE deleted_at IS NULL",
    "CREATE INDEX lineage_source ON lineage (kind, source_id, source_version)",
    "CREATE INDEX blob_loose ON blob (pinned_until) WHERE refs = 0",
    "CREATE INDEX upload_open ON upload (expires_at) WHERE state = 1",
    "CREATE INDEX upload_unswept ON upload (id) WHERE state <> 1 AND swept_at IS NULL",
    "CREATE INDEX upload_file_generation ON upload_file (generation)",
    "CREATE INDEX version_file_digest ON version_file (digest)",
    "CREATE INDEX tree_file_digest ON tree_file (digest)",
    "CREATE INDEX signature_version ON signature (version_id)",
    "CREATE INDEX event_model ON event (model_id, seq)",
    "CREATE INDEX event_namespace ON event (namespace_id, seq)",
    "CREATE UNIQUE INDEX webhook_name ON webhook (namespace_id, name) WHERE deleted_at IS NULL",
    "CREATE INDEX delivery_due ON delivery (next_at) WHERE state = 1",
    "CREATE INDEX delivery_webhook ON delivery (webhook_id, event_seq)",
    "CREATE INDEX outbox_undelivered ON outbox (seq) WHERE delivered_at IS NULL",
];
