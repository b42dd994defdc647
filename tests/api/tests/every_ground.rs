//! Every case on every ground: the same code in one process and split, on both databases.

use api::run;
use harness::{Database, Topology};

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_sqlite() {
    run(Topology::OneProcess, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_on_postgres() {
    run(Topology::OneProcess, Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split_on_sqlite() {
    run(Topology::Split, Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn split_on_postgres() {
    run(Topology::Split, Database::Postgres).await;
}
