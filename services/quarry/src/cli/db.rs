//! `quarry db`: the databases of a platform, without the platform.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use service_error::{Code, ServiceError};
use sql_store::{MigrationStatus, SqlSettings};

use super::Context;
use super::serve::Stores;
use crate::failure::Failure;
use crate::output::{Column, column, table};
use crate::serve::ServeArgs;
use crate::serve::settings::Settings;

const COLUMNS: [Column; 3] =
    [column("service", "service"), column("migration", "migration"), column("applied", "applied")];

#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Bring every service's tables to what this program needs
    Migrate(DbArgs),
    /// Which migrations have run
    Status(DbArgs),
    /// Fail (exit code 5) unless all migrations have run
    Verify(DbArgs),
}

#[derive(Debug, Args)]
pub struct DbArgs {
    /// Settings file [default: quarry.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    stores: Stores,
}

impl DbArgs {
    fn settings(self, context: &Context) -> Result<SqlSettings, Failure> {
        let args = ServeArgs {
            config: self.config,
            data_dir: context.address.data_dir.clone(),
            database_url: self.stores.database_url,
            object_store_url: self.stores.object_store_url,
            ..ServeArgs::default()
        };
        Ok(Settings::load(&args)?.sql())
    }
}

impl DbCommand {
    /// Opens the databases.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let (settings, must_be_whole) = match self {
            Self::Migrate(args) => {
                let settings = args.settings(context)?;
                identity::migrate(&settings).await?;
                catalog::migrate(&settings).await?;
                item_store::migrate(&settings).await?;
                (settings, true)
            }
            Self::Status(args) => (there(args.settings(context)?)?, false),
            Self::Verify(args) => (there(args.settings(context)?)?, true),
        };
        let services = [
            ("identity", identity::migration_status(&settings).await?),
            ("catalog", catalog::migration_status(&settings).await?),
            ("item-store", item_store::migration_status(&settings).await?),
        ];
        let rows: Vec<_> = services
            .iter()
            .flat_map(|(service, list)| list.iter().map(|one| row(service, one)))
            .collect();
        let document = json!({ "migrations": rows });
        context.output.answer(&document, || table(&COLUMNS, &rows))?;
        let missing = services.iter().flat_map(|(_, list)| list).filter(|one| !one.applied).count();
        if must_be_whole && missing > 0 {
            let message = format!("{missing} migrations have not run; run `quarry db migrate`");
            return Err(ServiceError::new(Code::FailedPrecondition, message)
                .reason("MIGRATIONS_PENDING")
                .into());
        }
        Ok(())
    }
}

/// Looking must not make empty databases.
fn there(settings: SqlSettings) -> Result<SqlSettings, Failure> {
    let dir = &settings.data_dir;
    if settings.database_url.is_none() && !dir.join("identity.sqlite").exists() {
        let message = format!("{} holds no databases of a platform", dir.display());
        return Err(ServiceError::new(Code::NotFound, message).into());
    }
    Ok(settings)
}

fn row(service: &str, status: &MigrationStatus) -> serde_json::Value {
    json!({ "service": service, "migration": status.name, "applied": status.applied })
}
