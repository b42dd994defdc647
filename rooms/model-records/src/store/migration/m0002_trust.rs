//! Verdicts by bytes and ending of a name: the same bytes are another file to a
//! loader under another one. `scan` and `finding` knew bytes only; nothing ever
//! wrote them.

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use super::in_words_of;

#[derive(DeriveMigrationName)]
pub struct Migration;

const TABLES: &[(&str, &str)] = &[
    (
        "file_scan",
        "digest {bytes} NOT NULL, ending {name} NOT NULL, scanner bigint NOT NULL,
         verdict smallint NOT NULL, format {name} NOT NULL, at bigint NOT NULL,
         PRIMARY KEY (digest, ending, scanner)",
    ),
    (
        "file_finding",
        "digest {bytes} NOT NULL, ending {name} NOT NULL, scanner bigint NOT NULL,
         ordinal bigint NOT NULL, severity smallint NOT NULL, reason {name} NOT NULL,
         member text NOT NULL, global_name text NOT NULL, byte_offset bigint NOT NULL,
         message text NOT NULL, PRIMARY KEY (digest, ending, scanner, ordinal)",
    ),
];
const INDEX: &str = "CREATE INDEX signature_key ON signature (key_fingerprint) WHERE verified";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let backend = manager.get_database_backend();
        for (name, columns) in TABLES {
            let statement = format!("CREATE TABLE {name} ({columns})");
            db.execute_unprepared(&in_words_of(backend, &statement)).await?;
        }
        db.execute_unprepared(INDEX).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("DROP INDEX signature_key").await?;
        for (name, _) in TABLES.iter().rev() {
            db.execute_unprepared(&format!("DROP TABLE {name}")).await?;
        }
        Ok(())
    }
}
