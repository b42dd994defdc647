//! A service's migration list, run whole in one transaction so that servers
//! started together wait for each other and a failed list leaves nothing.

use sea_orm::sea_query::{
    ColumnDef, Expr, ExprTrait, Iden, Table, TableCreateStatement, TableDropStatement,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;
use service_error::ServiceError;

use crate::{SqlStore, db_error};

/// One migration of a service and whether its schema has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// The migration's name, in the order they run.
    pub name: String,
    /// Whether it has run.
    pub applied: bool,
}

/// Names of the counter table, for a migration's own statements.
#[derive(Debug, Clone, Copy)]
pub enum Counter {
    /// `counter`
    Table,
    /// `name`, the primary key.
    Name,
    /// `value`, the last number taken.
    Value,
}

impl Iden for Counter {
    fn unquoted(&self) -> &str {
        match self {
            Self::Table => "counter",
            Self::Name => "name",
            Self::Value => "value",
        }
    }
}

/// `CREATE TABLE counter` as [`crate::next_number`] expects it.
#[must_use]
pub fn create_counter_table() -> TableCreateStatement {
    Table::create()
        .table(Counter::Table)
        .col(ColumnDef::new(Counter::Name).text().not_null().primary_key())
        .col(
            ColumnDef::new(Counter::Value)
                .big_integer()
                .not_null()
                .check(Expr::col(Counter::Value).gte(0)),
        )
        .to_owned()
}

/// `DROP TABLE counter`.
#[must_use]
pub fn drop_counter_table() -> TableDropStatement {
    Table::drop().table(Counter::Table).to_owned()
}

impl SqlStore {
    /// Runs what has not run. Servers of one schema that start at once wait
    /// for each other. A schema that is newer than this binary is left alone:
    /// migrations expand first and contract a release later.
    ///
    /// # Errors
    /// FAILED_PRECONDITION if the schema belongs to an older list that this
    /// binary does not know; else as [`db_error`].
    pub async fn migrate<M: MigratorTrait>(&self) -> Result<(), ServiceError> {
        let tx = self.begin().await?;
        self.take_migration_lock(&tx).await?;
        if self.is_newer::<M>(&tx).await? {
            tracing::warn!(
                schema = self.schema(),
                "the database schema is newer than this binary; left as it is"
            );
        } else {
            M::up(&tx, None).await.map_err(|err| {
                db_error(err).context(format!("migrating schema {}", self.schema()))
            })?;
        }
        tx.commit().await.map_err(db_error)
    }

    /// Takes back the last `steps` migrations, all if `None`.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn revert<M: MigratorTrait>(&self, steps: Option<u32>) -> Result<(), ServiceError> {
        let tx = self.begin().await?;
        self.take_migration_lock(&tx).await?;
        M::down(&tx, steps)
            .await
            .map_err(|err| db_error(err).context(format!("reverting schema {}", self.schema())))?;
        tx.commit().await.map_err(db_error)
    }

    /// The service's migrations in order. Changes nothing.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn migration_status<M: MigratorTrait>(
        &self,
    ) -> Result<Vec<MigrationStatus>, ServiceError> {
        let applied = self.applied(self.read()).await?;
        Ok(M::migrations()
            .iter()
            .map(|migration| MigrationStatus {
                name: migration.name().to_owned(),
                applied: applied.iter().any(|name| name == migration.name()),
            })
            .collect())
    }

    /// The names of all migrations that the schema has, those of other
    /// versions too, in order. Changes nothing.
    ///
    /// # Errors
    /// As [`db_error`].
    pub async fn applied_migrations(&self) -> Result<Vec<String>, ServiceError> {
        self.applied(self.read()).await
    }

    async fn take_migration_lock(&self, tx: &DatabaseTransaction) -> Result<(), ServiceError> {
        if self.backend() != DbBackend::Postgres {
            return Ok(()); // BEGIN IMMEDIATE is the lock.
        }
        // One number for all schemas: CREATE SCHEMA itself races otherwise.
        tx.execute_unprepared("SELECT pg_advisory_xact_lock(7070070)").await.map_err(db_error)?;
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", self.schema());
        tx.execute_unprepared(&create).await.map_err(|err| {
            db_error(err).context(format!(
                "creating schema {} (the database user needs CREATE on the database)",
                self.schema()
            ))
        })?;
        Ok(())
    }

    /// Everything of ours has run, and something unknown to us as well.
    async fn is_newer<M: MigratorTrait>(
        &self,
        tx: &DatabaseTransaction,
    ) -> Result<bool, ServiceError> {
        let applied = self.applied(tx).await?;
        let ours: Vec<String> =
            M::migrations().iter().map(|migration| migration.name().to_owned()).collect();
        let foreign: Vec<&String> = applied.iter().filter(|name| !ours.contains(name)).collect();
        if foreign.is_empty() {
            return Ok(false);
        }
        if ours.iter().all(|name| applied.contains(name)) {
            return Ok(true);
        }
        Err(ServiceError::precondition(format!(
            "the database schema {} was migrated by another version of quarry (it has {}); use that version or a newer one",
            self.schema(),
            foreign.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
        ))
        .reason("SCHEMA_UNKNOWN"))
    }

    async fn applied<C: ConnectionTrait>(&self, db: &C) -> Result<Vec<String>, ServiceError> {
        let backend = self.backend();
        let exists = match backend {
            DbBackend::Postgres => Statement::from_sql_and_values(
                backend,
                "SELECT 1 AS found FROM information_schema.tables WHERE table_schema = $1 AND table_name = 'seaql_migrations'",
                [self.schema().into()],
            ),
            _ => Statement::from_string(
                backend,
                "SELECT 1 AS found FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'",
            ),
        };
        if db.query_one_raw(exists).await.map_err(db_error)?.is_none() {
            return Ok(Vec::new());
        }
        let list = Statement::from_string(
            backend,
            "SELECT version FROM seaql_migrations ORDER BY version",
        );
        let rows = db.query_all_raw(list).await.map_err(db_error)?;
        rows.iter().map(|row| row.try_get("", "version").map_err(db_error)).collect()
    }
}
