//! A version knows its namespace, so that the versions of one namespace are read in the
//! order of their changes by an index, at any depth, however many others there are.

use sea_orm::DbBackend;
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

use super::run;

#[derive(DeriveMigrationName)]
pub struct Migration;

const UP: &[&str] = &[
    "ALTER TABLE version ADD COLUMN namespace_id {uuid}",
    "UPDATE version SET namespace_id = (SELECT m.namespace_id FROM model m
     WHERE m.id = version.model_id)",
    "CREATE INDEX version_of_namespace ON version (namespace_id, updated_at, number)
     WHERE deleted_at IS NULL",
    "CREATE INDEX version_of_model ON version (model_id, updated_at, number)
     WHERE deleted_at IS NULL",
];
/// While replicas are replaced, older ones go on to insert versions without it.
const UP_POSTGRES: &[&str] = &[
    "CREATE FUNCTION version_namespace() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
     SELECT m.namespace_id INTO NEW.namespace_id FROM model m WHERE m.id = NEW.model_id;
     RETURN NEW; END $$",
    "CREATE TRIGGER version_namespace BEFORE INSERT ON version FOR EACH ROW
     WHEN (NEW.namespace_id IS NULL) EXECUTE FUNCTION version_namespace()",
];
const DOWN_POSTGRES: &[&str] =
    &["DROP TRIGGER version_namespace ON version", "DROP FUNCTION version_namespace()"];
const DOWN: &[&str] = &[
    "DROP INDEX version_of_model",
    "DROP INDEX version_of_namespace",
    "ALTER TABLE version DROP COLUMN namespace_id",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, UP).await?;
        match manager.get_database_backend() {
            DbBackend::Postgres => run(manager, UP_POSTGRES).await,
            _ => Ok(()),
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Postgres {
            run(manager, DOWN_POSTGRES).await?;
        }
        run(manager, DOWN).await
    }
}
