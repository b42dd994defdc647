//! The secrets by which roles prove to identity which role they are.
//!
//! Roles of one process get theirs in memory. A role in a process of its own
//! reads a file that identity made (or that the operator put in both places).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use caller::Secret;
use service_error::ServiceError;

use super::settings::{Role, Settings};

const SECRET_BYTES_MIN: usize = 32;
const SECRET_BYTES_MAX: u64 = 4_096;
/// How long a role waits for identity to make its secret.
const WAIT: Duration = Duration::from_secs(30);

/// The secret of every role that this process must know: its own roles', and
/// with identity among them those of all others.
///
/// # Errors
/// A file that is missing, too short or cannot be read.
pub async fn of_roles(
    settings: &Settings,
    roles: &BTreeSet<Role>,
) -> Result<BTreeMap<Role, Secret>, ServiceError> {
    let mut secrets = BTreeMap::new();
    if roles.contains(&Role::Identity) {
        for role in Role::ALL {
            let secret = if roles.contains(&role) {
                fresh()
            } else {
                read_or_make(&settings.tokens_dir(), role)?
            };
            secrets.insert(role, secret);
        }
        return Ok(secrets);
    }
    if settings.service_token_file.is_some() && roles.len() > 1 {
        return Err(ServiceError::invalid(
            "service_token_file",
            "names the secret of one role, and this process runs several; put one file a role into service_tokens_dir instead",
        ));
    }
    for role in roles {
        let path = settings
            .service_token_file
            .clone()
            .unwrap_or_else(|| settings.tokens_dir().join(role.name()));
        secrets.insert(*role, wait_for(&path, *role).await?);
    }
    Ok(secrets)
}

fn fresh() -> Secret {
    Secret::new(format!("qsvc_{}", hex::encode(rand::random::<[u8; 32]>())))
}

fn read_or_make(dir: &Path, role: Role) -> Result<Secret, ServiceError> {
    let path = dir.join(role.name());
    match read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        read => return read.map_err(|error| unusable(&path, &error)),
    }
    let secret = fresh();
    make(dir, &path, &secret).map_err(|error| unusable(&path, &error))?;
    // Whoever was faster made the one that counts.
    read(&path).map_err(|error| unusable(&path, &error))
}

/// Writes the secret under another name first, so that nobody reads half.
fn make(dir: &Path, path: &Path, secret: &Secret) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(secret.expose().as_bytes())?;
    file.sync_all()?;
    let linked = match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    };
    fs::remove_file(&draft)?;
    linked
}

fn read(path: &Path) -> io::Result<Secret> {
    if fs::metadata(path)?.len() > SECRET_BYTES_MAX {
        return Err(io::Error::other("it is too long for a secret"));
    }
    let text = fs::read_to_string(path)?;
    let text = text.trim();
    if text.len() < SECRET_BYTES_MIN {
        return Err(io::Error::other(format!(
            "a secret has at least {SECRET_BYTES_MIN} characters"
        )));
    }
    Ok(Secret::new(text))
}

async fn wait_for(path: &Path, role: Role) -> Result<Secret, ServiceError> {
    let deadline = tokio::time::Instant::now() + WAIT;
    let mut told = false;
    loop {
        match read(path) {
            Ok(secret) => return Ok(secret),
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && tokio::time::Instant::now() < deadline =>
            {
                if !told {
                    tracing::info!(path = %path.display(), %role, "waiting for identity to make the role's secret");
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(unusable(path, &error)),
        }
    }
}

fn unusable(path: &Path, error: &io::Error) -> ServiceError {
    ServiceError::invalid(
        "service_token_file",
        format!("{}: {error}; start identity on the same data dir first, or set QUARRY_SERVICE_TOKEN_FILE", path.display()),
    )
    .reason("SERVICE_TOKEN_UNUSABLE")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn settings(dir: &Path) -> Settings {
        Settings { data_dir: dir.to_owned(), ..Settings::default() }
    }

    #[tokio::test]
    async fn roles_of_one_process_need_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = of_roles(&settings(dir.path()), &Role::ALL.into()).await.unwrap();
        assert_eq!(secrets.len(), Role::ALL.len());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_role_apart_reads_what_identity_made() {
        let dir = tempfile::tempdir().unwrap();
        let known = of_roles(&settings(dir.path()), &[Role::Identity].into()).await.unwrap();
        let read = of_roles(&settings(dir.path()), &[Role::Catalog].into()).await.unwrap();
        assert_eq!(read[&Role::Catalog], known[&Role::Catalog]);
        assert_ne!(known[&Role::Catalog], known[&Role::Gateway]);
        let again = of_roles(&settings(dir.path()), &[Role::Identity].into()).await.unwrap();
        assert_eq!(again[&Role::Catalog], known[&Role::Catalog]);
    }

    #[tokio::test]
    async fn a_short_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "short").unwrap();
        let settings = Settings { service_token_file: Some(path), ..settings(dir.path()) };
        let error = of_roles(&settings, &[Role::Catalog].into()).await.unwrap_err();
        assert!(error.message().contains("at least"), "{error}");
        let several =
            of_roles(&settings, &[Role::Catalog, Role::ItemStore].into()).await.unwrap_err();
        assert_eq!(several.field_name(), Some("service_token_file"));
    }
}
