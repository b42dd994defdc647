//! Putting a backup back, after every byte of it was read.

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use service_error::ServiceError;
use tokio::fs;

use crate::manifest::{Engine, File, Manifest};
use crate::objects::{self, Listed, Stores};
use crate::take::is_same_engine;
use crate::{Plan, damaged, files, postgres, sqlite, unusable};

/// A backup whose every byte is as it was written.
#[derive(Debug, Clone)]
pub struct Held {
    dir: PathBuf,
    manifest: Manifest,
}

impl Held {
    /// Reads a backup to its end and compares it with its manifest, and its
    /// migrations with those of this program.
    ///
    /// # Errors
    /// One that is cut, changed, of another layout or of a newer program.
    pub async fn open(dir: &Path, plan: &Plan) -> Result<Self, ServiceError> {
        let manifest = Manifest::read(dir).await?;
        for schema in &manifest.schemas {
            for file in &schema.files {
                check(dir, file).await?;
            }
        }
        check(dir, &manifest.objects).await?;
        let held = Self { dir: dir.to_owned(), manifest };
        held.demand_known(plan)?;
        let checked = objects::listed(dir)
            .await?
            .map_ok(|listed| objects::check(listed, dir))
            .try_buffer_unordered(objects::at_once())
            .try_fold(0u64, |count, ()| async move { Ok(count + 1) })
            .await?;
        if checked != held.manifest.object_count {
            let why = format!("{checked} objects of {}", held.manifest.object_count);
            return Err(damaged(dir, &why));
        }
        Ok(held)
    }

    /// What it says of itself.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn demand_known(&self, plan: &Plan) -> Result<(), ServiceError> {
        let program = &self.manifest.program;
        if !is_same_engine(plan, self.manifest.engine) {
            let message = match self.manifest.engine {
                Engine::Sqlite => {
                    "the backup is of SQLite files; restore it without a database URL"
                }
                Engine::Postgres => "the backup is of Postgres; name the target's database URL",
            };
            return Err(ServiceError::precondition(message).reason("BACKUP_OTHER_DATABASE"));
        }
        for part in &plan.parts {
            let schema = self.manifest.schemas.iter().find(|schema| schema.name == part.schema);
            let Some(schema) = schema else {
                let why = format!("it lacks the schema {}", part.schema);
                return Err(damaged(&self.dir, &why));
            };
            let unknown = schema.migrations.iter().find(|name| !part.migrations.contains(name));
            if let Some(name) = unknown {
                return Err(ServiceError::precondition(format!(
                    "the backup's schema {} has the migration {name}, which this program lacks; restore it with quarry {program}",
                    part.schema
                ))
                .reason("BACKUP_TOO_NEW"));
            }
            // Files bring their own tables; on Postgres they are this program's.
            let missing = part.migrations.iter().find(|name| !schema.migrations.contains(name));
            if let Some(name) = missing.filter(|_| self.manifest.engine == Engine::Postgres) {
                return Err(ServiceError::precondition(format!(
                    "the backup's schema {} lacks the migration {name}; restore it with quarry {program}, and then run `quarry db migrate` of this one",
                    part.schema
                ))
                .reason("BACKUP_TOO_OLD"));
            }
        }
        Ok(())
    }

    /// An error unless the target has neither rows nor objects.
    ///
    /// # Errors
    /// What is there, or a target that can't be looked at.
    pub async fn demand_empty_target(&self, plan: &Plan) -> Result<(), ServiceError> {
        let occupied = |what: String| {
            let message =
                format!("{what} is there; restore into a new data dir, database and bucket");
            ServiceError::precondition(message).reason("RESTORE_TARGET_OCCUPIED")
        };
        match &plan.sql.database_url {
            Some(url) => {
                let mut connection = postgres::connect(url).await?;
                let schemas: Vec<&str> = plan.parts.iter().map(|part| part.schema).collect();
                if let Some(table) = postgres::has_tables(&mut connection, &schemas).await? {
                    return Err(occupied(format!("the table {table}")));
                }
            }
            None => {
                for part in &plan.parts {
                    let path = plan.sql.data_dir.join(format!("{}.sqlite", part.schema));
                    if path.exists() {
                        return Err(occupied(path.display().to_string()));
                    }
                }
            }
        }
        let mut stores = Stores::new(&plan.object_store_url);
        for prefix in prefixes(plan) {
            if let Some(object) = stores.of(prefix).await?.list("").try_next().await? {
                return Err(occupied(format!("the object {prefix}/{}", object.key)));
            }
        }
        Ok(())
    }

    /// Writes objects and then rows. On Postgres this program's migrations have
    /// run before.
    ///
    /// # Errors
    /// A target that can't be written; what was written stays and has to be
    /// removed before another try.
    pub async fn restore(&self, plan: &Plan) -> Result<(), ServiceError> {
        self.restore_objects(plan).await?;
        match &plan.sql.database_url {
            Some(url) => {
                let mut connection = postgres::connect(url).await?;
                let after: Vec<&'static str> =
                    plan.parts.iter().flat_map(|part| part.after_restore).copied().collect();
                postgres::load(&mut connection, &self.manifest.schemas, &after, &self.dir).await
            }
            None => self.restore_files(plan).await,
        }
    }

    async fn restore_objects(&self, plan: &Plan) -> Result<(), ServiceError> {
        let mut stores = Stores::new(&plan.object_store_url);
        let mut open = Vec::new();
        for prefix in prefixes(plan) {
            open.push((prefix, stores.of(prefix).await?));
        }
        let (open, dir) = (&open, self.dir.as_path());
        objects::listed(dir)
            .await?
            .map_ok(|listed: Listed| async move {
                let store = open.iter().find(|(prefix, _)| *prefix == listed.prefix);
                let Some((_, store)) = store else {
                    let why = format!("it has objects below {:?}", listed.prefix);
                    return Err(damaged(dir, &why));
                };
                objects::copy_in(listed, store, dir).await
            })
            .try_buffer_unordered(objects::at_once())
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    async fn restore_files(&self, plan: &Plan) -> Result<(), ServiceError> {
        let target = &plan.sql.data_dir;
        files::make_dir(target).await.map_err(|error| unusable(target, &error))?;
        for part in &plan.parts {
            let file = format!("{}.sqlite", part.schema);
            let draft = target.join(format!("{file}.restored"));
            let broken = |error: std::io::Error| unusable(&draft, &error);
            let source = self.dir.join("sql").join(&file);
            fs::copy(&source, &draft).await.map_err(broken)?;
            sqlite::run(&draft, part.after_restore).await?;
            fs::File::open(&draft).await.map_err(broken)?.sync_all().await.map_err(broken)?;
            let place = target.join(&file);
            fs::rename(&draft, &place).await.map_err(broken)?;
            files::sync_dir(&place).await.map_err(broken)?;
        }
        Ok(())
    }
}

fn prefixes(plan: &Plan) -> std::collections::BTreeSet<&'static str> {
    plan.parts.iter().filter_map(|part| part.objects.map(|objects| objects.prefix)).collect()
}

async fn check(dir: &Path, file: &File) -> Result<(), ServiceError> {
    let path = dir.join(&file.path);
    let (bytes, blake3) = files::hash(&path).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => damaged(&path, "it is missing"),
        _ => unusable(&path, &error),
    })?;
    if (bytes, &blake3) == (file.bytes, &file.blake3) {
        return Ok(());
    }
    Err(damaged(&path, &format!("it has {bytes} bytes, {} were written", file.bytes)))
}
