//! What is gone from the manifest and not yet from the object store.

use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{ColumnDef, Index, Table};
use sea_orm_migration::prelude::{
    DbErr, DeriveMigrationName, MigrationTrait, SchemaManager, async_trait,
};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// (index, on what): rows are found by their dataset now.
const INDEXES: [(&str, &str); 3] = [
    ("block_dataset", "block (dataset_id)"),
    ("block_deletion_dataset", "block_deletion (dataset_id)"),
    ("upload_dataset", "upload (dataset_id)"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let number = |name| ColumnDef::new(name).big_integer().not_null().take();
        let id = |name| ColumnDef::new(name).uuid().not_null().take();
        let object = Table::create()
            .table("doomed_object")
            .col(ColumnDef::new("object_key").text().not_null())
            .col(id("dataset_id"))
            .col(number("doomed_at"))
            .primary_key(Index::create().col("object_key"))
            .to_owned();
        // Rows stay: an id that was purged is told from one that never was.
        let dataset = Table::create()
            .table("purged_dataset")
            .col(id("dataset_id").primary_key())
            .col(number("purged_at"))
            .col(ColumnDef::new("gone_at").big_integer().null())
            .to_owned();
        manager.create_table(object).await?;
        manager.create_table(dataset).await?;
        for (name, on) in INDEXES {
            let sql = format!("CREATE INDEX {name} ON {on}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        let unconfirmed = "CREATE INDEX purged_dataset_waiting ON purged_dataset (dataset_id) WHERE gone_at IS NULL";
        manager.get_connection().execute_unprepared(unconfirmed).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            let sql = format!("DROP INDEX {name}");
            manager.get_connection().execute_unprepared(&sql).await?;
        }
        for table in ["purged_dataset", "doomed_object"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
