//! The log on every database that this machine offers, and its protocol
//! without one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod fences;
mod log;
mod model;

use std::future::Future;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use sea_orm_migration::prelude::{
    DbErr, MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait,
};
use sql_store::SqlStore;
use uuid::Uuid;

use crate::{Outcome, Place, RowDelta, Write};

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "m0001_delta"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::migration::up(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::migration::down(manager).await
    }
}

struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Tables)]
    }
}

/// Runs a case on each database.
async fn on_each<F: Future<Output = ()>>(case: impl Fn(RowDelta, SqlStore) -> F) {
    let dir = tempfile::tempdir().unwrap();
    for settings in sql_store::testing::databases(dir.path()).await.unwrap() {
        let sql = SqlStore::open(&settings, "items").await.unwrap();
        sql.migrate::<Migrator>().await.unwrap();
        case(RowDelta::new(sql.clone(), 1 << 20), sql).await;
    }
}

fn place() -> Place {
    Place::main(Uuid::now_v7())
}

/// Rows of a text key and a number.
fn rows(keys: &[&str], n: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![n; keys.len()]));
    RecordBatch::try_from_iter([("id", ids), ("n", numbers)]).unwrap()
}

fn write(place: Place, live: &[&str], dead: &[&str], n: i64) -> Write {
    let dead: ArrayRef = Arc::new(StringArray::from(dead.to_vec()));
    Write {
        place,
        epoch: 0,
        read_seq: 0,
        floor: 0,
        live: Some(rows(live, n)),
        dead: Some(RecordBatch::try_from_iter([("id", dead)]).unwrap()),
        key_column: "id".into(),
        of_all: false,
        edit: None,
    }
}

async fn written(delta: &RowDelta, write: Write) -> i64 {
    match delta.write(write).await.unwrap() {
        Outcome::Written(seq) => seq,
        other => panic!("{other:?}"),
    }
}
