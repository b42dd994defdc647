//! Making a backup.

use std::path::Path;

use service_error::ServiceError;
use sql_store::now_micros;
use tokio::fs;

use crate::manifest::{self, Engine, Manifest, Schema};
use crate::objects::{List, Stores};
use crate::{Plan, files, postgres, sqlite, unusable};

/// Copies the platform into `dir`, which must not exist or be empty.
///
/// # Errors
/// A directory that is in use, a database or an object store that is away, an
/// object that a row names and that is missing or damaged. Then the directory
/// holds no manifest, and is no backup.
pub async fn take(plan: &Plan, dir: &Path) -> Result<Manifest, ServiceError> {
    let began_at = now_micros();
    prepare(dir).await?;
    let mut list = List::create(dir).await?;
    let engine = plan.engine();
    let schemas = match &plan.sql.database_url {
        Some(url) => of_postgres(plan, url, dir, &mut list).await?,
        None => of_sqlite(plan, dir, &mut list).await?,
    };
    let (object_count, object_bytes) = (list.count, list.bytes);
    let manifest = Manifest {
        format: manifest::FORMAT,
        program: plan.program.clone(),
        began_at,
        ended_at: now_micros(),
        engine,
        schemas,
        objects: list.finish(dir).await?,
        object_count,
        object_bytes,
    };
    manifest.write(dir).await?;
    Ok(manifest)
}

async fn prepare(dir: &Path) -> Result<(), ServiceError> {
    let broken = |error| unusable(dir, &error);
    files::make_dir(dir).await.map_err(broken)?;
    let mut inside = fs::read_dir(dir).await.map_err(broken)?;
    if inside.next_entry().await.map_err(broken)?.is_some() {
        let message = format!("{} is not empty; name a new directory", dir.display());
        return Err(ServiceError::precondition(message).reason("BACKUP_EXISTS"));
    }
    files::make_dir(&dir.join("sql")).await.map_err(broken)
}

async fn of_sqlite(plan: &Plan, dir: &Path, list: &mut List) -> Result<Vec<Schema>, ServiceError> {
    // All rows first, and then the objects: what the rows of the first file
    // name is there when the last one is read.
    for part in &plan.parts {
        let file = format!("{}.sqlite", part.schema);
        sqlite::copy(&plan.sql.data_dir.join(&file), &dir.join("sql").join(&file)).await?;
    }
    let mut stores = Stores::new(&plan.object_store_url);
    let mut schemas = Vec::with_capacity(plan.parts.len());
    for part in &plan.parts {
        let path = format!("sql/{}.sqlite", part.schema);
        let place = dir.join(&path);
        let mut copy = sqlite::open(&place, true).await?;
        sqlite::check(&mut copy).await?;
        let migrations = sqlite::migrations(&mut copy).await?;
        let tables = sqlite::tables(&mut copy).await?;
        if let Some(objects) = part.objects {
            let store = stores.of(objects.prefix).await?;
            list.copy_all(sqlite::named(&mut copy, objects), &store, dir).await?;
        }
        sqlite::close(copy).await?;
        private(&place).await.map_err(|error| unusable(&place, &error))?;
        let (bytes, blake3) =
            files::hash(&place).await.map_err(|error| unusable(&place, &error))?;
        let files = vec![manifest::File { path, bytes, blake3 }];
        schemas.push(Schema { name: part.schema.to_owned(), migrations, tables, files });
    }
    Ok(schemas)
}

/// For its owner alone, and on the disk.
async fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).await?;
    fs::File::open(path).await?.sync_all().await
}

async fn of_postgres(
    plan: &Plan,
    url: &str,
    dir: &Path,
    list: &mut List,
) -> Result<Vec<Schema>, ServiceError> {
    let mut connection = postgres::connect(url).await?;
    postgres::freeze(&mut connection).await?;
    let mut schemas = Vec::with_capacity(plan.parts.len());
    for part in &plan.parts {
        schemas.push(postgres::dump(&mut connection, part.schema, dir).await?);
    }
    let mut stores = Stores::new(&plan.object_store_url);
    for objects in plan.parts.iter().filter_map(|part| part.objects) {
        let store = stores.of(objects.prefix).await?;
        list.copy_all(postgres::named(&mut connection, objects), &store, dir).await?;
    }
    Ok(schemas)
}

/// Whether a kind of database is the plan's.
pub fn is_same_engine(plan: &Plan, engine: Engine) -> bool {
    plan.engine() == engine
}
