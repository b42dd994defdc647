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
use crate::schemas::{SCHEMAS, Schema};
use crate::serve::settings::{Role, Settings, address};
use crate::serve::{SERVER_FILE, ServeArgs};

/// Lines are broken beyond so many characters, and nothing is cut.
const WIDTH: usize = 110;

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
        context.output.answer(&document, || shown(&findings))?;
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

/// Each finding whole: what was seen beside its check, what to do below it.
fn shown(findings: &[Finding]) -> String {
    let checks = findings.iter().map(|one| one.check.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for one in findings {
        let verdict = match one.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        let mut before = format!("{verdict:<8} {:<checks$}  ", one.check);
        let width = WIDTH.saturating_sub(before.chars().count()).max(20);
        let remedy = if one.remedy.is_empty() {
            Vec::new()
        } else {
            wrapped(&format!("→ {}", one.remedy), width)
        };
        for text in wrapped(&one.message, width).into_iter().chain(remedy) {
            lines.push(format!("{before}{text}").trim_end().to_owned());
            before = " ".repeat(before.chars().count());
        }
    }
    lines.join("\n")
}

/// Lines of at most `width` characters, broken between words; a longer word has its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_whole_and_wrapped() {
        let message = "word ".repeat(60) + &"x".repeat(150) + "\u{1b}[31m\nend";
        let remedy = "do this and that ".repeat(12);
        let findings = [
            Finding::ok("settings", "they can be read"),
            Finding::problem("database.schema.catalog", &message, &remedy),
        ];
        let text = shown(&findings);
        let words = |text: &str| {
            text.split(|c: char| c.is_whitespace() || c.is_control())
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let expected = format!(
            "ok settings they can be read PROBLEM database.schema.catalog {message} → {remedy}"
        );
        assert_eq!(words(&text), words(&expected));
        assert!(!text.contains('\u{1b}') && text.lines().count() > 5);
        for line in text.lines().filter(|line| !line.contains("xxx")) {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
