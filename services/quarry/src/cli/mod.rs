//! The command line: what can be typed, and which code answers it.

mod agent;
mod analysis;
mod backups;
mod data;
mod datasets;
mod db;
mod doctor;
mod edits;
mod files;
mod filters;
mod grants;
mod health;
mod items;
mod jobs;
mod namespaces;
mod ops;
mod parse;
mod serve;
mod sql;
mod tokens;
mod users;
mod vectors;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use quarry_client::page::Page;
use service_error::ServiceError;
use settings::Secret;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::client::address::Address;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::{demo, serve as server};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 denied or not authenticated, 5 conflict or exists,
6 server unavailable, 7 invalid input, 130 interrupted.";

/// A data platform for machine-learning datasets: the server and its command line.
#[derive(Debug, Parser)]
#[command(name = "quarry", version, after_help = EXIT_CODES, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
struct Global {
    /// The platform to talk to [default: the one that runs on the data dir, else http://127.0.0.1:7070]
    #[arg(
        long,
        global = true,
        env = "QUARRY_SERVER",
        value_name = "URL",
        help_heading = "Global options"
    )]
    server: Option<String>,
    /// A personal access token [default: the data dir's admin token, if its server is on this machine]
    #[arg(
        long,
        global = true,
        env = "QUARRY_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Global options"
    )]
    token: Option<String>,
    /// Where the platform keeps its data [default: ./quarry-data]
    #[arg(
        long,
        global = true,
        env = "QUARRY_DATA_DIR",
        value_name = "DIR",
        help_heading = "Global options"
    )]
    data_dir: Option<PathBuf>,
    /// Wait so long for a platform that takes no connections, e.g. one that is being started again
    // Not `--wait`: commands that queue a job have one of their own.
    #[arg(
        id = "patience",
        long = "patience",
        global = true,
        env = "QUARRY_WAIT",
        default_value_t = 0,
        value_name = "SECONDS",
        hide_default_value = true,
        help_heading = "Global options"
    )]
    wait: u64,
    /// How to print the answer
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        help_heading = "Global options"
    )]
    output: Format,
}

impl Global {
    fn address(&self) -> Address {
        Address {
            server: self.server.clone(),
            given_token: self.token.clone().map(Secret::new),
            data_dir: self.data_dir.clone(),
            wait: std::time::Duration::from_secs(self.wait),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the platform, or some of its roles
    Serve(serve::ServeCommand),
    /// Start a platform, import a sample dataset and show what it can do
    Demo(demo::DemoCommand),
    /// Read locations of this machine for a platform elsewhere
    Agent(agent::AgentCommand),
    /// Make a file or a folder of images a version of a dataset
    Import(data::ImportCommand),
    /// Write a version of a dataset to a file or a folder
    Export(data::ExportCommand),
    /// Namespaces, which hold datasets
    #[command(subcommand)]
    Namespaces(namespaces::NamespacesCommand),
    /// Datasets and their versions
    #[command(subcommand)]
    Datasets(datasets::DatasetsCommand),
    /// Rows of a dataset
    #[command(subcommand)]
    Items(items::ItemsCommand),
    /// Spaces of vectors
    #[command(subcommand)]
    Spaces(vector_commands::SpacesCommand),
    /// Similarity search over the vectors of a space
    #[command(subcommand)]
    Vectors(vectors::VectorsCommand),
    /// Images that are searched for: records, linked to items
    #[command(subcommand)]
    Images(vector_commands::ImagesCommand),
    /// What was generated from what: the log of a retrieval-augmented generator
    #[command(subcommand)]
    Generations(vector_commands::GenerationsCommand),
    /// Ask in SQL: tables are quarry.NAMESPACE.DATASET
    Sql(sql::SqlCommand),
    /// Models, their versions and files
    #[command(subcommand)]
    Models(model_commands::ModelsCommand),
    /// People and programs that may call the platform
    #[command(subcommand)]
    Users(users::UsersCommand),
    /// Personal access tokens
    #[command(subcommand)]
    Tokens(tokens::TokensCommand),
    /// Who may do what on which namespace or dataset
    #[command(subcommand)]
    Grants(grants::GrantsCommand),
    /// Files of this and other machines: found, compared, marked
    #[command(subcommand)]
    Files(files::FilesCommand),
    /// Long work of every service
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// What runs, as what, on what: for platform admins
    #[command(subcommand)]
    Ops(ops::OpsCommand),
    /// The databases of a platform: migrations, checks, backups
    #[command(subcommand)]
    Db(db::DbCommand),
    /// What is wrong with a platform's surroundings, and what to do
    Doctor(doctor::DoctorCommand),
    /// Fail unless the server on this machine is ready
    Health(health::HealthCommand),
    /// Who the token belongs to
    Whoami,
    /// Completions for a shell, to be evaluated by it
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// What commands need beside their own arguments.
#[derive(Debug)]
pub struct Context {
    /// Where the answer goes.
    pub output: Output,
    /// Which server, with which token.
    pub address: Address,
    /// Fires on Ctrl-C and SIGTERM.
    pub stop: CancellationToken,
}

impl Context {
    /// A client of the platform that is meant.
    pub fn client(&self) -> Result<Client, Failure> {
        self.address.connect()
    }
}

/// Parses, runs, reports.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output { format: cli.global.output };
    let address = cli.global.address();
    let (server, has_token) = (address.url(), address.token().is_some());
    // The rest run a platform, or look at one that does not run.
    let calls_server = !matches!(
        cli.command,
        Command::Serve(_)
            | Command::Demo(_)
            | Command::Db(_)
            | Command::Doctor(_)
            | Command::Health(_)
            | Command::Completions { .. }
    );
    let imports = matches!(cli.command, Command::Import(_));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli, output));
            // What still blocks on a file must not hold up the end.
            runtime.shutdown_background();
            result
        }
        Err(err) => Err(ServiceError::internal(format!("no threads: {err}")).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            match failure.exit() {
                Exit::Unavailable if calls_server => output.hint(&format!(
                    "Is a platform running at {server}? `quarry serve` starts one."
                )),
                Exit::NotFound if imports && failure.reason_is("DATASET_NOT_FOUND") => output.hint(
                    "An import makes the dataset, but not its namespace: `quarry namespaces create` makes one.",
                ),
                Exit::Denied if calls_server && !has_token => output.hint(
                    "No token was sent: give --token or QUARRY_TOKEN, or the --data-dir of a platform on this machine.",
                ),
                _ => {}
            }
            ExitCode::from(failure.exit() as u8)
        }
    }
}

async fn run(cli: Cli, output: Output) -> Result<(), Failure> {
    let context = Context { output, address: cli.global.address(), stop: CancellationToken::new() };
    match cli.command {
        // They hear signals by themselves.
        Command::Serve(command) => return Ok(server::run(command.args(&context.address)).await?),
        Command::Db(command) => return command.run(&context).await,
        Command::Doctor(command) => return command.run(&context).await,
        Command::Health(command) => return command.run(&context).await,
        Command::Completions { shell } => return completions(shell),
        _ => {}
    }
    let stop = context.stop.clone();
    tokio::spawn(async move {
        if told_to_end().await.is_ok() {
            stop.cancel();
        }
    });
    match cli.command {
        // They have something to clean up.
        Command::Agent(command) => command.run(&context).await,
        Command::Import(command) => command.run(&context).await,
        Command::Demo(command) => command.run(&context).await,
        command => {
            let stopped = context.stop.clone();
            tokio::select! {
                result = query(command, &context) => result,
                () = stopped.cancelled() => Err(Failure::interrupted("interrupted")),
            }
        }
    }
}

/// Ctrl-C or SIGTERM.
async fn told_to_end() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

async fn query(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Export(command) => command.run(context).await,
        Command::Namespaces(command) => command.run(context).await,
        Command::Datasets(command) => command.run(context).await,
        Command::Items(command) => command.run(context).await,
        Command::Spaces(command) => command.run(&context.client()?, context.output).await,
        Command::Vectors(command) => command.run(context).await,
        Command::Images(command) => command.run(&context.client()?, context.output).await,
        Command::Generations(command) => command.run(&context.client()?, context.output).await,
        Command::Sql(command) => command.run(context).await,
        Command::Models(command) => {
            let client = &context.client()?;
            let asked = model_commands::Context { client, output: context.output };
            command.run(&asked).await
        }
        Command::Users(command) => command.run(context).await,
        Command::Tokens(command) => command.run(context).await,
        Command::Grants(command) => command.run(context).await,
        Command::Files(command) => command.run(context).await,
        Command::Jobs(command) => command.run(context).await,
        Command::Ops(command) => command.run(context).await,
        Command::Whoami => users::whoami(context).await,
        Command::Serve(_)
        | Command::Db(_)
        | Command::Doctor(_)
        | Command::Health(_)
        | Command::Completions { .. }
        | Command::Agent(_)
        | Command::Import(_)
        | Command::Demo(_) => Ok(()),
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "quarry", &mut script);
    Output { format: Format::Table }.text(String::from_utf8_lossy(&script).trim_end())
}

#[cfg(test)]
mod tests;
