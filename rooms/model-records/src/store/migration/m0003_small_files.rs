//! Small files are kept in the rows of their pieces; a key knows the name of its namespace, by
//! which the catalog is asked for it. `scan` and `finding`, which nothing ever wrote, go.

use sea_orm::{ConnectionTrait, Statement};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use super::run;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &[&str] = &[
    "ALTER TABLE segment ADD COLUMN content {bytes}",
    "DROP TABLE finding",
    "DROP TABLE scan",
    "ALTER TABLE signing_key ADD COLUMN namespace {name} NOT NULL DEFAULT ''",
    "UPDATE signing_key SET namespace = COALESCE((SELECT MAX(m.namespace) FROM model m
     WHERE m.namespace_id = signing_key.namespace_id), '')",
];
const DOWN: &[&str] = &[
    "CREATE TABLE scan (digest {bytes} NOT NULL, scanner bigint NOT NULL,
     verdict smallint NOT NULL, format {name} NOT NULL, at bigint NOT NULL,
     PRIMARY KEY (digest, scanner))",
    "CREATE TABLE finding (digest {bytes} NOT NULL, scanner bigint NOT NULL,
     ordinal bigint NOT NULL, severity smallint NOT NULL, place text NOT NULL,
     message text NOT NULL, PRIMARY KEY (digest, scanner, ordinal))",
    "ALTER TABLE segment DROP COLUMN content",
    "ALTER TABLE signing_key DROP COLUMN namespace",
];
const KEPT: &str = "SELECT COUNT(*) AS kept FROM segment WHERE content IS NOT NULL";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, UP).await
    }

    /// Refused while rows hold files: their bytes are nowhere else.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let kept = Statement::from_string(manager.get_database_backend(), KEPT);
        let row = db.query_one_raw(kept).await?;
        let kept: i64 = row.map_or(Ok(0), |row| row.try_get("", "kept"))?;
        if kept > 0 {
            let message = format!(
                "{kept} small files of models are kept in rows, which an older version cannot \
                 read: restore a backup that was made before the upgrade"
            );
            return Err(DbErr::Custom(message));
        }
        run(manager, DOWN).await
    }
}
