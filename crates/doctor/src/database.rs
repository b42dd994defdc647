//! The database: reach, version, pgvector, migrations, connections, clock.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use service_error::{Code, ServiceError};
use sql_store::{SqlSettings, SqlStore, db_error, now_micros};

use crate::{Finding, clock};

/// Filtered searches of earlier ones may miss rows.
const VECTOR_MIN: [u32; 3] = [0, 8, 4];
const POSTGRES_MIN: u32 = 15;
/// The lock of every migration (crate `sql-store`).
const MIGRATION_LOCK: i64 = 7_070_070;
/// Seconds that a migration may take before it is worth a word.
const MIGRATION_SECONDS: f64 = 60.0;

/// A service's schema and what this program expects of it.
#[derive(Debug, Clone)]
pub struct Expected {
    /// E.g. `catalog`.
    pub schema: &'static str,
    /// This program's migrations, in order.
    pub migrations: Vec<String>,
}

/// Everything about the database; `pools` is how many roles open one there.
pub async fn database(sql: &SqlSettings, expected: &[Expected], pools: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    if sql.database_url.is_none() {
        let present =
            |one: &&Expected| sql.data_dir.join(format!("{}.sqlite", one.schema)).exists();
        let there: Vec<Expected> = expected.iter().filter(present).cloned().collect();
        if there.is_empty() {
            let remedy = "`quarry serve` or `quarry db migrate` makes them";
            return vec![Finding::warning("database", "there are no database files yet", remedy)];
        }
        findings.extend(schemas(sql, &there).await);
        return findings;
    }
    let Some(first) = expected.first() else { return findings };
    let small = SqlSettings { max_connections: 2, ..sql.clone() };
    let store = match SqlStore::open(&small, first.schema).await {
        Ok(store) => store,
        Err(error) => {
            let remedy = match error.code() {
                Code::Unavailable => {
                    "start Postgres, or correct host, port and network policy in QUARRY_DATABASE_URL"
                }
                _ => "correct user, password and database in QUARRY_DATABASE_URL",
            };
            return vec![Finding::of_error("database", &error, remedy)];
        }
    };
    for look in [
        server(&store).await,
        vector(&store).await,
        connections(&store, sql.max_connections.saturating_mul(pools)).await,
        migration_lock(&store).await,
        database_clock(&store).await,
    ] {
        findings.push(look.unwrap_or_else(|error| {
            Finding::of_error("database", &error, "look at Postgres' own log")
        }));
    }
    drop(store.close().await);
    findings.extend(schemas(&small, expected).await);
    findings
}

async fn schemas(sql: &SqlSettings, expected: &[Expected]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in expected {
        let check = format!("database.schema.{}", one.schema);
        let looked = async {
            let store = SqlStore::open(sql, one.schema).await?;
            let applied = store.applied_migrations().await;
            store.close().await?;
            applied
        };
        findings.push(match looked.await {
            Ok(applied) => judge_schema(check, one, &applied),
            Err(error) => {
                Finding::of_error(check, &error, "restore the file from a backup if it is damaged")
            }
        });
    }
    findings
}

fn judge_schema(check: String, expected: &Expected, applied: &[String]) -> Finding {
    let known = &expected.migrations;
    let pending: Vec<&str> =
        known.iter().filter(|name| !applied.contains(name)).map(String::as_str).collect();
    let unknown: Vec<&str> =
        applied.iter().filter(|name| !known.contains(name)).map(String::as_str).collect();
    match (pending.is_empty(), unknown.is_empty()) {
        (true, true) => Finding::ok(check, format!("{} migrations, all there", applied.len())),
        (false, true) => Finding::problem(
            check,
            format!("behind this program: {} has not run", pending.join(", ")),
            "quarry db migrate",
        ),
        (true, false) => Finding::warning(
            check,
            format!("ahead of this program: it has {}", unknown.join(", ")),
            "finish the upgrade: this program is older than the schema",
        ),
        (false, false) => Finding::problem(
            check,
            format!(
                "of another program: it has {} and lacks {}",
                unknown.join(", "),
                pending.join(", ")
            ),
            "use the program that migrated it, or a newer one",
        ),
    }
}

async fn server(store: &SqlStore) -> Result<Finding, ServiceError> {
    let version = text(store, "SELECT current_setting('server_version') AS text").await?;
    let version = version.unwrap_or_default();
    let major = numbers(&version)[0];
    if major >= POSTGRES_MIN {
        return Ok(Finding::ok("database", format!("Postgres {version} answers")));
    }
    let remedy = format!("move to Postgres {POSTGRES_MIN} or newer");
    Ok(Finding::problem("database", format!("Postgres {version} is too old"), remedy))
}

async fn vector(store: &SqlStore) -> Result<Finding, ServiceError> {
    let installed = "SELECT extversion AS text FROM pg_extension WHERE extname = 'vector'";
    let offered =
        "SELECT default_version AS text FROM pg_available_extensions WHERE name = 'vector'";
    let (installed, offered) = (text(store, installed).await?, text(store, offered).await?);
    Ok(judge_vector(installed.as_deref(), offered.as_deref()))
}

pub(crate) fn judge_vector(installed: Option<&str>, offered: Option<&str>) -> Finding {
    let check = "database.vector";
    let wanted = VECTOR_MIN.map(|number| number.to_string()).join(".");
    match (installed, offered) {
        (Some(version), _) if numbers(version) >= VECTOR_MIN => {
            Finding::ok(check, format!("pgvector {version}"))
        }
        (Some(version), Some(newer)) if numbers(newer) >= VECTOR_MIN => Finding::problem(
            check,
            format!("pgvector {version} is older than {wanted}; the server offers {newer}"),
            "ALTER EXTENSION vector UPDATE, as its owner",
        ),
        (Some(version), _) => Finding::problem(
            check,
            format!("pgvector {version} is older than {wanted}"),
            format!(
                "install pgvector {wanted} or newer on the server, then ALTER EXTENSION vector UPDATE"
            ),
        ),
        (None, Some(version)) if numbers(version) >= VECTOR_MIN => {
            Finding::ok(check, format!("pgvector {version} is offered; the migration installs it"))
        }
        (None, Some(version)) => Finding::problem(
            check,
            format!("the server offers pgvector {version}, older than {wanted}"),
            format!("install pgvector {wanted} or newer on the server"),
        ),
        (None, None) => Finding::problem(
            check,
            "the server has no pgvector",
            format!("install pgvector {wanted} or newer on the server (image pgvector/pgvector)"),
        ),
    }
}

async fn connections(store: &SqlStore, wanted: u32) -> Result<Finding, ServiceError> {
    let limit = "SELECT (current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int)::text AS text";
    let limit: u32 = text(store, limit).await?.and_then(|text| text.parse().ok()).unwrap_or(0);
    let check = "database.connections";
    if wanted <= limit {
        return Ok(Finding::ok(check, format!("{limit} connections, {wanted} at most are ours")));
    }
    Ok(Finding::warning(
        check,
        format!(
            "the roles of one replica may open {wanted} connections, and the server allows {limit}"
        ),
        "raise max_connections, lower QUARRY_DATABASE_CONNECTIONS, or put a pooler between",
    ))
}

async fn migration_lock(store: &SqlStore) -> Result<Finding, ServiceError> {
    let check = "database.migration_lock";
    let query = format!(
        "SELECT l.pid::text || ' (' || COALESCE(a.application_name, '') || ', ' ||
            round(extract(epoch FROM now() - a.xact_start))::text || ' s)' AS text,
            extract(epoch FROM now() - a.xact_start)::float8 AS seconds
         FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.locktype = 'advisory' AND l.granted AND l.database = (
             SELECT oid FROM pg_database WHERE datname = current_database())
         AND (l.classid::bigint << 32 | l.objid::bigint) = {MIGRATION_LOCK}"
    );
    let query = Statement::from_string(DbBackend::Postgres, query);
    let Some(row) = store.read().query_one_raw(query).await.map_err(db_error)? else {
        return Ok(Finding::ok(check, "no migration is running"));
    };
    let holder: String = row.try_get("", "text").map_err(db_error)?;
    let seconds: f64 = row.try_get("", "seconds").map_err(db_error)?;
    let message = format!("a migration holds its lock: process {holder}");
    if seconds < MIGRATION_SECONDS {
        return Ok(Finding::warning(check, message, "wait for it to end"));
    }
    Ok(Finding::problem(
        check,
        message,
        "if its migrator is gone, end the session: SELECT pg_terminate_backend(PID); the migration rolls back and runs again",
    ))
}

async fn database_clock(store: &SqlStore) -> Result<Finding, ServiceError> {
    let query = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros";
    let query = Statement::from_string(DbBackend::Postgres, query);
    let before = now_micros();
    let row = store.read().query_one_raw(query).await.map_err(db_error)?;
    let here = i64::midpoint(before, now_micros());
    let theirs: i64 = match row {
        Some(row) => row.try_get("", "micros").map_err(db_error)?,
        None => here,
    };
    Ok(clock("database.clock", "Postgres", (theirs - here) as f64 / 1e6))
}

async fn text(store: &SqlStore, query: &str) -> Result<Option<String>, ServiceError> {
    let query = Statement::from_string(DbBackend::Postgres, query);
    let row = store.read().query_one_raw(query).await.map_err(db_error)?;
    row.map(|row| row.try_get("", "text").map_err(db_error)).transpose()
}

/// The numbers of a version: what is no number is 0.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(version.split(['.', ' ', '-'])) {
        *number = part.parse().unwrap_or(0);
    }
    numbers
}
