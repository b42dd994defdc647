//! `quarry doctor`: what is wrong, and what to do.

use std::path::PathBuf;

use clap::Args;
use doctor::{Finding, Verdict};
use serde_json::{Value as Json, json};
use service_error::ServiceError;
use sql_store::SqlSettings;

use super::Context;
use super::health::reachable;
use super::serve::Stores;
use crate::failure::Failure;
use crate::output::{Column, column, table};
use crate::schemas::{SCHEMAS, Schema};
use crate::serve::settings::{Role, Settings, address};
use crate::serve::{SERVER_FILE, ServeArgs};

const COLUMNS: [Column; 4] = [
    column("verdict", "verdict"),
    column("check", "check"),
    column("seen", "message"),
    column("do", "remedy"),
];

/// The settings are those of a server that would be started with the same.
#[derive(Debug, Args)]
pub struct DoctorCommand {
    /// Settings file [default: quarry.toml, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Roles of the process [default: all]
    #[arg(long, value_name = "R,…", value_delimiter = ',')]
    roles: Vec<String>,
    /// The operations door [default: as the server's settings have it]
    #[arg(long, value_name = "HOST:PORT")]
    ops_listen: Option<String>,
    /// A server that does not run is a problem
    #[arg(long)]
    running: bool,
    #[command(flatten)]
    stores: Stores,
}

impl DoctorCommand {
    /// Fails (exit code 1) if something does not work.
    pub async fn run(self, context: &Context) -> Result<(), Failure> {
        let running = self.running;
        let args = ServeArgs {
            config: self.config,
            data_dir: context.address.data_dir.clone(),
            roles: self.roles,
            ops_listen: self.ops_listen,
            database_url: self.stores.database_url,
            object_store_url: self.stores.object_store_url,
            ..ServeArgs::default()
        };
        let findings = look(&args, running).await;
        let rows: Vec<Json> = findings.iter().map(|one| json!(one)).collect();
        let problems = findings.iter().filter(|one| one.verdict == Verdict::Problem).count();
        let document = json!({ "problems": problems, "findings": rows });
        context.output.answer(&document, || table(&COLUMNS, &rows))?;
        if problems == 0 {
            return Ok(());
        }
        let message = format!("{problems} of {} checks found a problem", findings.len());
        Err(ServiceError::internal(message).reason("DOCTOR_FOUND_PROBLEMS").into())
    }
}

async fn look(args: &ServeArgs, running: bool) -> Vec<Finding> {
    let read = Settings::load(args).and_then(|settings| {
        let roles = settings.roles()?;
        Ok((settings, roles))
    });
    let (settings, roles) = match read {
        Ok(read) => read,
        Err(error) => {
            let remedy =
                "correct the key where it stands; `quarry serve --help` and the README name them";
            return vec![Finding::of_error("settings", &error, remedy)];
        }
    };
    let mut findings = vec![Finding::ok("settings", "they can be read")];
    findings.extend(doctor::place::data_dir(&settings.data_dir));
    let names = Role::ALL.map(Role::name);
    findings.extend(doctor::place::locks(&settings.data_dir, &names, SERVER_FILE));
    for (check, file) in [
        ("service_token_file", &settings.service_token_file),
        ("admin_token_file", &settings.admin_token_file),
    ] {
        findings.extend(file.as_ref().map(|path| doctor::place::secret(check, path)));
    }
    if let Some(url) = &settings.database_url {
        findings.extend(doctor::certificates::of_database(url.expose()));
    }
    let schemas: Vec<Schema> = roles.iter().filter_map(|role| Schema::of(*role)).collect();
    if !schemas.is_empty() {
        findings.extend(rows(&settings, &schemas).await);
    }
    let with_objects = [Role::ItemStore, Role::ModelRegistry, Role::VectorSearch];
    if with_objects.iter().any(|role| roles.contains(role)) {
        findings.extend(doctor::bucket::bucket(&settings.objects()).await);
    }
    match address("ops_listen", &settings.ops_listen) {
        Ok(door) => findings.extend(doctor::doors::readiness(reachable(door), running).await),
        Err(error) => {
            findings.push(Finding::of_error("ops_listen", &error, "write host:port"));
        }
    }
    for role in Role::ALL.into_iter().filter(|role| !roles.contains(role)) {
        if let Some(url) = settings.neighbours.of(role) {
            findings.extend(doctor::doors::neighbour(role.name(), url).await);
        }
    }
    findings
}

async fn rows(settings: &Settings, schemas: &[Schema]) -> Vec<Finding> {
    let sql = settings.sql();
    let broken = |error: &ServiceError| {
        vec![Finding::of_error("database", error, "free the temporary directory")]
    };
    let scratch = match tempfile::tempdir() {
        Ok(scratch) => scratch,
        Err(error) => return broken(&ServiceError::precondition(error.to_string())),
    };
    let empty = SqlSettings::sqlite(scratch.path());
    let mut expected = Vec::with_capacity(SCHEMAS.len());
    for schema in schemas {
        match schema.status(&empty).await {
            Ok(known) => expected.push(doctor::database::Expected {
                schema: schema.name,
                migrations: known.into_iter().map(|one| one.name).collect(),
            }),
            Err(error) => return broken(&error),
        }
    }
    let pools = u32::try_from(schemas.len()).unwrap_or(u32::MAX);
    doctor::database::database(&sql, &expected, pools).await
}
