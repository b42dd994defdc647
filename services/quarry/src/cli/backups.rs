//! `quarry db backup` and `quarry db restore`.

use std::collections::BTreeSet;
use std::path::Path;

use backup::{Held, Manifest, Plan};
use serde_json::json;
use service_error::ServiceError;
use sql_store::SqlSettings;

use super::Context;
use crate::failure::Failure;
use crate::output::note;
use crate::schemas::SCHEMAS;
use crate::serve::DataDir;
use crate::serve::settings::{Role, Settings};

/// Copies a platform, running or not, into a new directory.
pub async fn take(context: &Context, settings: &Settings, to: &Path) -> Result<(), Failure> {
    let plan = plan(settings).await?;
    let taken = backup::take(&plan, to).await?;
    show(context, "backed up", &taken, to)
}

/// Puts a backup into a data dir, a database and a bucket without anything.
pub async fn restore(context: &Context, settings: &Settings, from: &Path) -> Result<(), Failure> {
    let plan = plan(settings).await?;
    note("reading the whole backup");
    let held = Held::open(from, &plan).await?;
    // Nobody starts meanwhile.
    let _locks = DataDir::open(&settings.data_dir, BTreeSet::from(Role::ALL))?;
    held.demand_empty_target(&plan).await?;
    if plan.sql.database_url.is_some() {
        for schema in &SCHEMAS {
            schema.migrate(&plan.sql).await?;
        }
    }
    held.restore(&plan).await?;
    show(context, "restored", held.manifest(), from)
}

async fn plan(settings: &Settings) -> Result<Plan, ServiceError> {
    let sql = settings.sql();
    // What this program knows is asked of empty files: the target of a restore
    // must stay as it is.
    let scratch = tempfile::tempdir()
        .map_err(|error| ServiceError::precondition(format!("no temporary directory: {error}")))?;
    let empty = SqlSettings::sqlite(scratch.path());
    let mut parts = Vec::with_capacity(SCHEMAS.len());
    for schema in &SCHEMAS {
        let known = schema.status(&empty).await?.into_iter().map(|one| one.name).collect();
        parts.push(schema.part(&sql, known));
    }
    Ok(Plan {
        sql,
        object_store_url: settings.objects(),
        parts,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn show(context: &Context, done: &str, of: &Manifest, dir: &Path) -> Result<(), Failure> {
    let document = json!({
        "directory": dir.display().to_string(),
        "rows": of.rows(),
        "objects": of.object_count,
        "object_bytes": of.object_bytes,
        "schemas": of.schemas.iter().map(|schema| &schema.name).collect::<Vec<_>>(),
        "program": of.program,
    });
    context.output.answer(&document, || {
        format!(
            "{done}: {} rows, {} objects of {} bytes ({})",
            of.rows(),
            of.object_count,
            of.object_bytes,
            dir.display()
        )
    })
}
