//! Marks that only their owner sees, and how long clips play.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

/// Parts the marks of one user from shared ones.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// `own` is who alone sees a mark; {NIL}: whoever sees the file. A tag is its
/// maker's until somebody uses it for all.
const UP: [&str; 20] = [
    "ALTER TABLE tag ADD COLUMN own uuid NOT NULL DEFAULT {NIL}",
    "ALTER TABLE tagging ADD COLUMN own uuid NOT NULL DEFAULT {NIL}",
    "ALTER TABLE labelling ADD COLUMN own uuid NOT NULL DEFAULT {NIL}",
    "DROP INDEX tagging_entry",
    "DROP INDEX tagging_content",
    "DROP INDEX labelling_entry",
    "DROP INDEX labelling_content",
    "CREATE UNIQUE INDEX tagging_entry ON tagging (entry_id, tag_id, own) WHERE entry_id IS NOT NULL",
    "CREATE UNIQUE INDEX tagging_content ON tagging (content_id, tag_id, own) WHERE content_id IS NOT NULL",
    "CREATE UNIQUE INDEX labelling_entry ON labelling (entry_id, label_id, source, own) WHERE entry_id IS NOT NULL",
    "CREATE UNIQUE INDEX labelling_content ON labelling (content_id, label_id, source, own) WHERE content_id IS NOT NULL",
    "CREATE TABLE annotation_of (
        id bigint NOT NULL PRIMARY KEY, entry_id bigint, content_id bigint, own uuid NOT NULL, note text NOT NULL,
        favorite smallint NOT NULL, hidden smallint NOT NULL, changed_by uuid NOT NULL, changed_at bigint NOT NULL,
        CHECK ((entry_id IS NULL) <> (content_id IS NULL))
    )",
    "INSERT INTO annotation_of (id, entry_id, content_id, own, note, favorite, hidden, changed_by, changed_at)
        SELECT id, entry_id, content_id, {NIL}, note, favorite, hidden, changed_by, changed_at FROM annotation",
    "CREATE TABLE property_of (annotation_id bigint NOT NULL, name text NOT NULL, value text NOT NULL)",
    "INSERT INTO property_of SELECT annotation_id, name, value FROM annotation_property",
    "DROP TABLE annotation_property",
    "DROP TABLE annotation",
    "ALTER TABLE annotation_of RENAME TO annotation",
    "CREATE UNIQUE INDEX annotation_entry ON annotation (entry_id, own) WHERE entry_id IS NOT NULL",
    "CREATE UNIQUE INDEX annotation_content ON annotation (content_id, own) WHERE content_id IS NOT NULL",
];

const PROPERTIES: [&str; 3] = [
    "CREATE TABLE annotation_property (
        annotation_id bigint NOT NULL REFERENCES annotation (id) ON DELETE CASCADE, name text NOT NULL,
        value text NOT NULL, PRIMARY KEY (annotation_id, name)
    )",
    "INSERT INTO annotation_property SELECT annotation_id, name, value FROM property_of",
    "DROP TABLE property_of",
];

/// Sound and moving pictures that are known are looked at once more.
const CLIPS: [&str; 4] = [
    "CREATE INDEX annotation_property_value ON annotation_property (name, value)",
    "ALTER TABLE content ADD COLUMN duration bigint",
    "UPDATE entry SET hashed = 2 WHERE hashed = 1 AND content_id IN (SELECT id FROM content WHERE kind IN (5, 6))
        AND dir_id IN (SELECT id FROM dir WHERE archive IS NULL)",
    "UPDATE location SET unhashed = TRUE WHERE mode > 1 AND id IN (SELECT d.location_id FROM dir d
        JOIN entry e ON e.dir_id = d.id WHERE e.hashed = 2)",
];

const DOWN: [&str; 24] = [
    "ALTER TABLE content DROP COLUMN duration",
    "DROP INDEX annotation_property_value",
    "DELETE FROM tagging WHERE own <> {NIL}",
    "DELETE FROM labelling WHERE own <> {NIL}",
    "DELETE FROM annotation WHERE own <> {NIL}",
    "DELETE FROM tag WHERE own <> {NIL}",
    "DROP INDEX tagging_entry",
    "DROP INDEX tagging_content",
    "DROP INDEX labelling_entry",
    "DROP INDEX labelling_content",
    "ALTER TABLE tag DROP COLUMN own",
    "ALTER TABLE tagging DROP COLUMN own",
    "ALTER TABLE labelling DROP COLUMN own",
    "CREATE UNIQUE INDEX tagging_entry ON tagging (entry_id, tag_id) WHERE entry_id IS NOT NULL",
    "CREATE UNIQUE INDEX tagging_content ON tagging (content_id, tag_id) WHERE content_id IS NOT NULL",
    "CREATE UNIQUE INDEX labelling_entry ON labelling (entry_id, label_id, source) WHERE entry_id IS NOT NULL",
    "CREATE UNIQUE INDEX labelling_content ON labelling (content_id, label_id, source) WHERE content_id IS NOT NULL",
    "CREATE TABLE annotation_of (
        id bigint NOT NULL PRIMARY KEY, entry_id bigint UNIQUE, content_id bigint UNIQUE, note text NOT NULL,
        favorite smallint NOT NULL, hidden smallint NOT NULL, changed_by uuid NOT NULL, changed_at bigint NOT NULL,
        CHECK ((entry_id IS NULL) <> (content_id IS NULL))
    )",
    "INSERT INTO annotation_of (id, entry_id, content_id, note, favorite, hidden, changed_by, changed_at)
        SELECT id, entry_id, content_id, note, favorite, hidden, changed_by, changed_at FROM annotation",
    "CREATE TABLE property_of (annotation_id bigint NOT NULL, name text NOT NULL, value text NOT NULL)",
    "INSERT INTO property_of SELECT annotation_id, name, value FROM annotation_property",
    "DROP TABLE annotation_property",
    "DROP TABLE annotation",
    "ALTER TABLE annotation_of RENAME TO annotation",
];

async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let nil = match db.get_database_backend() {
        DbBackend::Postgres => "'00000000-0000-0000-0000-000000000000'",
        _ => "x'00000000000000000000000000000000'",
    };
    for statement in statements {
        // A literal among selected columns would be text to Postgres.
        let selected = match db.get_database_backend() {
            DbBackend::Postgres => statement.replace(
                "content_id, {NIL}, note",
                &format!("content_id, CAST({nil} AS uuid), note"),
            ),
            _ => (*statement).to_owned(),
        };
        db.execute_unprepared(&selected.replace("{NIL}", nil)).await?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &UP).await?;
        run(manager, &PROPERTIES).await?;
        run(manager, &CLIPS).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &DOWN).await?;
        run(manager, &PROPERTIES).await
    }
}
