//! Databases for tests: SQLite in a directory, and a new empty Postgres
//! database for each caller when `QUARRY_TEST_POSTGRES_URL` names a server.

use std::path::Path;

use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use service_error::ServiceError;

use crate::{SqlSettings, db_error, postgres};

/// One empty database of each kind that this machine offers.
///
/// # Errors
/// If `QUARRY_TEST_POSTGRES_URL` is set and can't be used.
#[allow(clippy::disallowed_methods, reason = "tests are told of a Postgres by a variable")]
pub async fn databases(data_dir: &Path) -> Result<Vec<SqlSettings>, ServiceError> {
    let mut all = vec![SqlSettings::sqlite(data_dir)];
    if let Ok(server) = std::env::var("QUARRY_TEST_POSTGRES_URL") {
        let database_url = Some(new_database(&server).await?);
        all.push(SqlSettings {
            database_url,
            data_dir: data_dir.to_owned(),
            max_connections: SqlSettings::DEFAULT_MAX_CONNECTIONS,
        });
    }
    Ok(all)
}

/// Makes an empty database on a Postgres server; returns its URL.
///
/// # Errors
/// If the server can't be reached or refuses.
pub async fn new_database(server: &str) -> Result<String, ServiceError> {
    let name = format!("t{}", uuid::Uuid::now_v7().simple());
    let failed = |err: sea_orm::sqlx::Error| {
        db_error(sea_orm::DbErr::Conn(sea_orm::RuntimeErr::SqlxError(err.into())))
    };
    let mut connection =
        PgConnection::connect_with(&postgres::options_of(server)?).await.map_err(failed)?;
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(with_database(server, &name))
}

fn with_database(server: &str, name: &str) -> String {
    let (address, query) = server
        .split_once('?')
        .map_or((server, String::new()), |(address, query)| (address, format!("?{query}")));
    let start = address.find("://").map_or(0, |at| at + 3);
    let end = address[start..].find('/').map_or(address.len(), |at| start + at);
    format!("{}/{name}{query}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        assert_eq!(
            with_database("postgres://q@h:1/old?host=/x/y", "new"),
            "postgres://q@h:1/new?host=/x/y"
        );
        assert_eq!(with_database("postgres://q@h", "new"), "postgres://q@h/new");
    }
}
