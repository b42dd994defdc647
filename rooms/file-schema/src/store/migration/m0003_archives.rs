//! Archives as directories: whose members a directory holds, and whether a
//! location's archives are looked into.

use sea_orm_migration::prelude::{
    ConnectionTrait, DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

/// Makes room for archives.
#[derive(DeriveMigrationName)]
pub struct Migration;

/// A directory whose `dev` is -1 has lost its place to something else.
/// `dir.archive` is the entry of the archive that the directory lies in. Totals
/// are those of the disk: of members they are asked for within their archive.
const UP: [&str; 7] = [
    "ALTER TABLE location ADD COLUMN archives boolean NOT NULL DEFAULT FALSE",
    "ALTER TABLE location ADD COLUMN members bigint NOT NULL DEFAULT 0",
    "ALTER TABLE dir ADD COLUMN archive bigint",
    "CREATE INDEX dir_archive ON dir (archive, path) WHERE archive IS NOT NULL",
    "CREATE INDEX dir_replaced ON dir (location_id) WHERE dev = -1",
    "DROP INDEX dir_totals",
    "CREATE INDEX dir_totals ON dir (location_id, path, files, bytes, archive)",
];

const DOWN: [&str; 9] = [
    "DELETE FROM entry WHERE dir_id IN (SELECT id FROM dir WHERE archive IS NOT NULL)",
    "DELETE FROM dir WHERE archive IS NOT NULL",
    "DROP INDEX dir_totals",
    "DROP INDEX dir_replaced",
    "DROP INDEX dir_archive",
    "ALTER TABLE dir DROP COLUMN archive",
    "ALTER TABLE location DROP COLUMN members",
    "ALTER TABLE location DROP COLUMN archives",
    "CREATE INDEX dir_totals ON dir (location_id, path, files, bytes)",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in UP {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in DOWN {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}
