//! Postgres: one pool whose search path is the service's schema, and a probe
//! that says why a database can't be used; the pool alone would only say that
//! it timed out.

use std::io::ErrorKind;
use std::str::FromStr;
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sea_orm::sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Error as SqlxError, Executor as _,
};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use service_error::ServiceError;

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// A caller waits this long for a connection before it hears that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(8);
/// Whether the database still answers is asked of a connection that nobody used for so long;
/// asked each time, it would be every other message to the database.
const RESTED: Duration = Duration::from_secs(1);
/// No transaction of ours waits for anything but the database, let alone so long.
const IDLE_IN_TRANSACTION: &str = "60s";

pub(crate) async fn open(
    url: &str,
    schema: &'static str,
    max_connections: u32,
) -> Result<DatabaseConnection, ServiceError> {
    let options =
        options_of(url)?.application_name(&format!("quarry-{schema}")).disable_statement_logging();
    probe(&options).await?;
    // public stays in the path: extensions such as pgvector live there.
    // A process that stops within a transaction would hold its row locks against all others.
    // No query of ours runs so long that compiling it pays; without statistics, as amid a first
    // scan, a planner thinks so of some and compiles them each time.
    let session = format!(
        "SET search_path = \"{schema}\",public; SET jit = off; \
         SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION}'"
    );
    let pool = PgPoolOptions::new()
        .max_connections(max_connections.max(2))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move { Ok(used.idle_for < RESTED || connection.ping().await.is_ok()) })
        })
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move { connection.execute(AssertSqlSafe(session)).await.map(drop) })
        })
        .connect_with(options.clone())
        .await
        .map_err(|err| unusable(&options, err))?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

/// Options of a `postgres://` or `postgresql://` URL. Takes what libpq takes
/// and URL parsers refuse: no host (`postgres://user:@/db?host=/socket/dir`).
///
/// # Errors
/// INVALID_ARGUMENT for a URL that is none; it is not repeated.
pub fn options_of(url: &str) -> Result<PgConnectOptions, ServiceError> {
    let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://")).ok_or_else(|| {
        let scheme = url.split_once("://").map_or("none", |(scheme, _)| scheme);
        ServiceError::invalid(
            "database_url",
            format!("unknown scheme ({scheme}); expected postgres://user:password@host:5432/database, or unset for SQLite in the data dir"),
        )
    })?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let user =
        user.map(|user| user.strip_suffix(':').unwrap_or(user)).filter(|user| !user.is_empty());
    let host = if host.is_empty() { "localhost" } else { host };
    let at = user.map(|user| format!("{user}@")).unwrap_or_default();
    PgConnectOptions::from_str(&format!("postgres://{at}{host}{tail}")).map_err(|err| {
        // The parser's own message may quote the URL and its password.
        ServiceError::invalid(
            "database_url",
            "not a URL of the form postgres://user:password@host:5432/database",
        )
        .caused_by(err)
    })
}

async fn probe(options: &PgConnectOptions) -> Result<(), ServiceError> {
    match tokio::time::timeout(PROBE_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => connection.close().await.map_err(|err| unusable(options, err)),
        Ok(Err(err)) => Err(unusable(options, err)),
        Err(_) => Err(away(options, "it did not answer within 5 s; check host, port and firewall")),
    }
}

fn unusable(options: &PgConnectOptions, err: SqlxError) -> ServiceError {
    let user = options.get_username();
    let error = match &err {
        SqlxError::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
            away(options, "nothing listens there; is Postgres running?")
        }
        SqlxError::Io(io) if io.kind() == ErrorKind::NotFound => {
            away(options, "there is no such socket; is Postgres running?")
        }
        SqlxError::Io(io) => away(options, &io.to_string()),
        SqlxError::Database(refusal) => match refusal.code().as_deref() {
            Some("28P01" | "28000") => ServiceError::precondition(format!(
                "Postgres at {} refuses user {user}: {}",
                place(options),
                refusal.message()
            ))
            .reason("DATABASE_LOGIN_REFUSED"),
            Some("3D000") => ServiceError::precondition(format!(
                "Postgres at {}: {}; create it first",
                place(options),
                refusal.message()
            ))
            .reason("DATABASE_MISSING"),
            _ => away(options, refusal.message()),
        },
        SqlxError::Tls(tls) => away(options, &format!("TLS failed: {tls}")),
        other => away(options, &other.to_string()),
    };
    error.caused_by(err)
}

fn away(options: &PgConnectOptions, why: &str) -> ServiceError {
    ServiceError::unavailable(format!("Postgres at {} is away: {why}", place(options)))
        .reason("DATABASE_AWAY")
}

fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use service_error::Code;

    #[test]
    fn urls_of_both_schemes_and_of_sockets_are_taken() {
        let socket = options_of("postgresql://postgres:@/postgres?host=/tmp/pg").unwrap();
        assert_eq!(socket.get_socket().unwrap().to_str(), Some("/tmp/pg"));
        assert_eq!((socket.get_username(), socket.get_database()), ("postgres", Some("postgres")));
        let tcp = options_of("postgres://quarry:p%40ss@db.example:5433/q?sslmode=disable").unwrap();
        assert_eq!((tcp.get_host(), tcp.get_port()), ("db.example", 5433));
        assert_eq!(options_of("postgresql:///only").unwrap().get_database(), Some("only"));
    }

    #[test]
    fn other_schemes_are_refused_without_echoing_the_secret() {
        for url in ["mysql://u:hunter2@h/d", "u:hunter2@h/d", "postgres://u:hunter2@h:port/d"] {
            let error = options_of(url).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(error.field_name(), Some("database_url"));
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_absent_server_says_that_nothing_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error =
            open(&format!("postgres://q@127.0.0.1:{port}/q"), "sample", 2).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert!(error.message().contains("nothing listens"), "{error}");
        let error = open("postgres://q@/q?host=/nowhere/at/all", "sample", 2).await.unwrap_err();
        assert!(error.message().contains("no such socket"), "{error}");
    }
}
