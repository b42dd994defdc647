//! `quarry db`: the databases of a platform, without the platform.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;
use service_error::{Code, ServiceError};
use sql_store::{MigrationStatus, SqlSettings};

use super::serve::Stores;
use super::{Context, backups};
use crate::failure::Failure;
use crate::output::{Column, column, note, table};
use crate::schemas::SCHEMAS;
use crate::serve::ServeArgs;
use crate::serve::settings::Settings;

/// Blocks asked of the catalog at once.
const BLOCKS_AT_ONCE: u32 = 1_000;
/// Between two looks at databases that are not ready.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

const COLUMNS: [Column; 3] =
    [column("service", "service"), column("migration", "migration"), column("applied", "applied")];

#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Bring every service's tables to what this program needs
    Migrate(DbArgs),
    /// Which migrations have run
    Status(DbArgs),
    /// Copy all rows, and the objects that they name, into a new directory; the platform may run
    Backup {
        /// A directory that does not exist or is empty
        directory: PathBuf,
        #[command(flatten)]
        args: DbArgs,
    },
    /// Put a backup into a data dir, a database and a bucket that hold nothing
    Restore {
        /// What `quarry db backup` wrote
        directory: PathBuf,
        #[command(flatten)]
        args: DbArgs,
    },
    /// Fail (exit code 5) unless all migrations have run; with --blocks, also read every
    /// block and compare it with the manifest's hash (exit code 1 if one is damaged)
    Verify {
        /// Wait so long for the database and its migrations
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
        /// Read every block
        #[arg(long)]
        blocks: bool,
        #[command(flatten)]
        args: DbArgs,
    },
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
        Ok(self.all(context)?.sql())
    }

    fn all(self, context: &Context) -> Result<Settings, Failure> {
        let args = ServeArgs {
            config: self.config,
            data_dir: context.address.data_dir.clone(),
            database_url: self.stores.database_url,
            object_store_url: self.stores.object_store_url,
            ..ServeArgs::default()
        };
        Ok(Settings::load(&args)?)
    }
}

impl DbCommand {
    /// Opens the databases.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        match self {
            Self::Migrate(args) => {
                let settings = args.settings(context)?;
                for schema in &SCHEMAS {
                    schema.migrate(&settings).await?;
                }
                let state = State::of(&settings).await?;
                state.show(context)?;
                Ok(state.whole()?)
            }
            Self::Status(args) => State::of(&there(args.settings(context)?)?).await?.show(context),
            Self::Backup { directory, args } => {
                let settings = args.all(context)?;
                there(settings.sql())?;
                backups::take(context, &settings, &directory).await
            }
            Self::Restore { directory, args } => {
                backups::restore(context, &args.all(context)?, &directory).await
            }
            Self::Verify { wait, blocks, args } => {
                let all = args.all(context)?;
                let (settings, objects) = (all.sql(), all.objects());
                let state = match wait {
                    Some(seconds) => awaited(settings, Duration::from_secs(seconds)).await?,
                    None => State::of(&there(settings)?).await?,
                };
                state.show(context)?;
                state.whole()?;
                if blocks { verify_blocks(context, &all.sql(), &objects).await } else { Ok(()) }
            }
        }
    }
}

/// Reads every block that a snapshot uses and names the damaged ones.
async fn verify_blocks(context: &Context, sql: &SqlSettings, objects: &str) -> Result<(), Failure> {
    let files = item_store::BlockFiles::open(objects).await?;
    let (mut after, mut checked, mut bytes) = (uuid::Uuid::nil(), 0u64, 0i64);
    let mut damaged = Vec::new();
    loop {
        let blocks = catalog::stored_blocks(sql, after, BLOCKS_AT_ONCE).await?;
        let Some(last) = blocks.last() else { break };
        after = last.id;
        for block in &blocks {
            let wrong =
                files.check(&block.object_key, block.byte_count, &block.content_hash).await?;
            checked += 1;
            bytes += block.byte_count;
            if let Some(why) = wrong {
                context.output.hint(&format!("damaged: {}: {why}", block.object_key));
                damaged.push(block.object_key.clone());
            }
        }
    }
    context
        .output
        .text(&format!("{checked} blocks of {bytes} bytes read, {} damaged", damaged.len()))?;
    if damaged.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = damaged.iter().map(String::as_str).take(20).collect();
    let message = format!(
        "{} of {checked} blocks are damaged; restore them from a backup: {}",
        damaged.len(),
        shown.join(", ")
    );
    Err(ServiceError::data_loss(message).reason("BLOCK_DAMAGED").into())
}

/// The migrations of every service.
struct State {
    services: Vec<(&'static str, Vec<MigrationStatus>)>,
}

impl State {
    async fn of(settings: &SqlSettings) -> Result<Self, ServiceError> {
        let mut services = Vec::with_capacity(SCHEMAS.len());
        for schema in &SCHEMAS {
            services.push((schema.role.name(), schema.status(settings).await?));
        }
        Ok(Self { services })
    }

    fn show(&self, context: &Context) -> Result<(), Failure> {
        let rows: Vec<_> = self
            .services
            .iter()
            .flat_map(|(service, list)| list.iter().map(|one| row(service, one)))
            .collect();
        context.output.answer(&json!({ "migrations": rows }), || table(&COLUMNS, &rows))
    }

    /// An error unless all migrations have run.
    fn whole(&self) -> Result<(), ServiceError> {
        let all = self.services.iter().flat_map(|(_, list)| list);
        let missing = all.filter(|one| !one.applied).count();
        if missing == 0 {
            return Ok(());
        }
        let message = format!("{missing} migrations have not run; run `quarry db migrate`");
        Err(ServiceError::new(Code::FailedPrecondition, message).reason("MIGRATIONS_PENDING"))
    }
}

/// Waits until database and migrations are there, and says what it waits for
/// whenever that changes.
async fn awaited(settings: SqlSettings, patience: Duration) -> Result<State, Failure> {
    let deadline = Instant::now() + patience;
    let mut told = String::new();
    loop {
        let looked = match there(settings.clone()) {
            Ok(settings) => State::of(&settings).await,
            Err(missing) => Err(missing),
        };
        let error = match looked.and_then(|state| state.whole().map(|()| state)) {
            Ok(state) => return Ok(state),
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(error.context(format!("after {} s", patience.as_secs())).into());
        }
        if told != error.message() {
            error.message().clone_into(&mut told);
            note(&format!("waiting: {told}"));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Looking must not make empty databases.
fn there(settings: SqlSettings) -> Result<SqlSettings, ServiceError> {
    let dir = &settings.data_dir;
    if settings.database_url.is_none() && !dir.join("identity.sqlite").exists() {
        let message = format!("{} holds no databases of a platform", dir.display());
        return Err(ServiceError::new(Code::NotFound, message));
    }
    Ok(settings)
}

fn row(service: &str, status: &MigrationStatus) -> serde_json::Value {
    json!({ "service": service, "migration": status.name, "applied": status.applied })
}
