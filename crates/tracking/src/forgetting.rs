//! What is left of a namespace that is gone.

use ids::NamespaceId;
use sea_orm::{DatabaseTransaction, FromQueryResult, Statement, Value};
use service_error::ServiceError;
use sql_store::db_error;

use crate::Tracking;
use crate::sql::{Values, try_execute};

/// Runs, or logged models, of one transaction: each may have many metrics.
const AT_ONCE: i64 = 20;
/// What hangs on a run by its id, children first.
const OF_RUN: [&str; 7] = [
    "run_input_tag",
    "run_input",
    "run_model",
    "run_metric",
    "run_metric_last",
    "run_param",
    "run_tag",
];
/// What hangs on a logged model by its id.
const OF_LOGGED_MODEL: [&str; 4] =
    ["logged_model_tag", "logged_model_param", "logged_model_metric", "logged_model_registration"];
/// What hangs on a namespace, children first.
const OF_NAMESPACE: [&str; 3] = ["run_dataset", "experiment_tag", "experiment"];

#[derive(Debug, FromQueryResult)]
struct IdRow {
    id: String,
}

impl Tracking {
    /// Forgets experiments, runs and logged models of a namespace, some in each transaction;
    /// answers how many runs and logged models there were.
    ///
    /// # Errors
    /// The database's; what was done stays done.
    pub async fn forget_namespace(&self, namespace: NamespaceId) -> Result<u64, ServiceError> {
        let mut forgotten = 0;
        for (table, column, children) in
            [("run", "run_id", &OF_RUN[..]), ("logged_model", "model_id", &OF_LOGGED_MODEL[..])]
        {
            loop {
                let tx = self.sql.begin().await?;
                let some = forget_some(&tx, namespace, table, column, children).await?;
                tx.commit().await.map_err(db_error)?;
                if some == 0 {
                    break;
                }
                forgotten += some;
            }
        }
        let tx = self.sql.begin().await?;
        for table in OF_NAMESPACE {
            let sql = format!("DELETE FROM {table} WHERE namespace_id = $1");
            run(&tx, &sql, vec![namespace.uuid().into()]).await?;
        }
        tx.commit().await.map_err(db_error)?;
        Ok(forgotten)
    }
}

async fn forget_some(
    tx: &DatabaseTransaction,
    namespace: NamespaceId,
    table: &str,
    column: &str,
    children: &[&str],
) -> Result<u64, ServiceError> {
    use sea_orm::ConnectionTrait as _;
    let sql = format!("SELECT id FROM {table} WHERE namespace_id = $1 LIMIT $2");
    let values: [Value; 2] = [namespace.uuid().into(), AT_ONCE.into()];
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    let rows = IdRow::find_by_statement(statement).all(tx).await.map_err(db_error)?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut values = Values::default();
    let list = values.list(rows.into_iter().map(|row| row.id));
    for child in children {
        let sql = format!("DELETE FROM {child} WHERE {column} IN ({list})");
        run(tx, &sql, values.all.clone()).await?;
    }
    run(tx, &format!("DELETE FROM {table} WHERE id IN ({list})"), values.all).await
}

async fn run(tx: &DatabaseTransaction, sql: &str, values: Vec<Value>) -> Result<u64, ServiceError> {
    try_execute(tx, sql, values).await.map_err(db_error)
}
