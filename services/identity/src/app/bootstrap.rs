//! The first admin. There is no default password: the account's token is
//! written to the data dir for whoever owns the machine, until an operator
//! claims the account with a token of their own.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ids::PrincipalId;
use service_error::ServiceError;
use settings::Secret;
use sql_store::now_micros;

use super::done_by_server;
use crate::model::{Change, Kind, Made, Presented, Principal, Role, Scope, Token};
use crate::settings::Platform;
use crate::store::{Origin, Store, Tx};

const ADMIN: &str = "admin";
const FILE: &str = "admin-token";
const FILE_BYTES_MAX: u64 = 4_096;
const ACTION: &str = "quarry.identity.first-admin";
/// The token of a data dir that no server used for so long is revoked: a server that took over on
/// a data dir of its own left it behind, perhaps with the machine that it was on.
const UNUSED_MAX: i64 = 7 * 24 * 3_600_000_000;

/// Sees to the first admin and its token. Returns the data dir that holds one;
/// nothing if the account is claimed.
///
/// # Errors
/// A data dir that can't be written, or a claiming token that is none.
pub async fn first_admin(
    store: &Store,
    platform: &Platform,
) -> Result<Option<String>, ServiceError> {
    let admin = make_admin(store).await?;
    if let Some(path) = &platform.admin_token_file {
        claim(store, admin, path).await?;
        remove(&platform.data_dir);
        return Ok(None);
    }
    if store.claim().await?.is_some_and(|claim| claim.claimed_at.is_some()) {
        remove(&platform.data_dir);
        return Ok(None);
    }
    keep_token(store, admin, &platform.data_dir).await.map(Some)
}

/// Notes that this data dir is used, and revokes the tokens of those that no server uses any
/// more: each data dir in use has one, however often one server took over from another.
///
/// # Errors
/// Only of the store.
pub async fn revoke_unused(store: &Store, place: &str, now: i64) -> Result<(), ServiceError> {
    let tx = store.change().await?;
    tx.see_admin_token(place, now).await?;
    for token in tx.take_unused_admin_tokens(now.saturating_sub(UNUSED_MAX)).await? {
        if let Some(row) = tx.token(token).await? {
            revoke(&tx, &row.token, now).await?;
        }
    }
    tx.commit().await
}

/// Several servers may start at once: the first to change makes the admin.
async fn make_admin(store: &Store) -> Result<PrincipalId, ServiceError> {
    if let Some(claim) = store.claim().await? {
        return Ok(claim.admin);
    }
    let tx = store.change().await?;
    if let Some(claim) = tx.claim().await? {
        return Ok(claim.admin);
    }
    let admin = Principal {
        id: PrincipalId::new(),
        name: ADMIN.to_owned(),
        display_name: "First admin".to_owned(),
        kind: Kind::User,
        role: Role::Admin,
        disabled: false,
        created_at: now_micros(),
        revision: 1,
    };
    tx.insert_principal(&admin).await?;
    tx.insert_claim(admin.id).await?;
    tx.audit(&done_by_server(ACTION, format!("user/{}", admin.id), "made")).await?;
    tx.commit().await?;
    Ok(admin.id)
}

/// Makes the operator's secret the admin's token, and the only one that was
/// not asked for by a call.
async fn claim(store: &Store, admin: PrincipalId, path: &Path) -> Result<(), ServiceError> {
    let secret = Secret::from_file(path).map_err(|error| error.context("admin_token_file"))?;
    let presented = Presented::parse(secret.expose()).ok_or_else(|| {
        ServiceError::invalid(
            "admin_token_file",
            format!(
                "{} holds neither a personal access token nor a secret of at least 32 characters",
                path.display()
            ),
        )
    })?;
    let (now, tx) = (now_micros(), store.change().await?);
    match tx.token(presented.id).await? {
        None => {
            let token = new_token(&presented, admin, "claims the admin account", now);
            tx.insert_token(&token, presented.hash(), Origin::Claim).await?;
            tx.audit(&done_by_server(ACTION, format!("token/{}", token.id), "claimed")).await?;
        }
        Some(row) if !presented.matches(&row.hash) || row.token.owner != admin => {
            return Err(ServiceError::invalid(
                "admin_token_file",
                format!("the token in {} is not the admin's", path.display()),
            ));
        }
        Some(row) if !row.token.is_live(now) => {
            tracing::warn!(path = %path.display(), "the token that claims the admin account was revoked or has expired; put a new one into the file");
        }
        Some(_) => {}
    }
    revoke_others(&tx, &presented, now).await?;
    tx.mark_claimed(now).await?;
    tx.commit().await
}

/// Revokes the data dirs' tokens, and what claimed the account before.
async fn revoke_others(tx: &Tx, kept: &Presented, now: i64) -> Result<(), ServiceError> {
    for origin in [Origin::DataDir, Origin::Claim] {
        for token in tx.live_of_origin(origin).await? {
            if token.id != kept.id {
                revoke(tx, &token, now).await?;
            }
        }
    }
    Ok(())
}

async fn revoke(tx: &Tx, token: &Token, now: i64) -> Result<(), ServiceError> {
    if !tx.revoke_token(token.id, now).await? {
        return Ok(());
    }
    tx.log_change(&Change::Revoked { token: token.id, forget_at: now }, now).await?;
    tx.audit(&done_by_server(ACTION, format!("token/{}", token.id), "revoked")).await
}

/// Keeps the data dir's token if it verifies, and replaces it otherwise; answers
/// the data dir's name.
///
/// The file comes first: a crash in between leaves a file that does not
/// verify, which the next start replaces.
async fn keep_token(
    store: &Store,
    admin: PrincipalId,
    data_dir: &Path,
) -> Result<String, ServiceError> {
    let path = data_dir.join(FILE);
    let unusable = |error: io::Error| {
        ServiceError::precondition(format!(
            "can't keep the first admin's token in {}: {error}",
            path.display()
        ))
        .reason("ADMIN_TOKEN_UNUSABLE")
        .caused_by(error)
    };
    let place = place(data_dir).map_err(unusable)?;
    if let Some(presented) = read(&path).map_err(unusable)?
        && keeps(store, &place, &presented).await?
    {
        return Ok(place);
    }
    let made = Made::new();
    write(&path, &made.text).map_err(unusable)?;
    let presented = Presented::parse(&made.text)
        .ok_or_else(|| ServiceError::internal("a token that was just made is none"))?;
    let (now, tx) = (now_micros(), store.change().await?);
    if let Some(lost) = tx.admin_token(&place).await?
        && let Some(row) = tx.token(lost).await?
    {
        revoke(&tx, &row.token, now).await?;
    }
    let token = new_token(&presented, admin, "first admin, in the data dir", now);
    tx.insert_token(&token, made.hash, Origin::DataDir).await?;
    tx.put_admin_token(&place, token.id, now).await?;
    tx.audit(&done_by_server(ACTION, format!("token/{}", token.id), "written to the data dir"))
        .await?;
    tx.commit().await?;
    tracing::info!(path = %path.display(), "the first admin's token was written");
    Ok(place)
}

/// Whether the token in a data dir is its own and lives. It is seen in the same transaction, so
/// that no other server finds it unused meanwhile.
async fn keeps(store: &Store, place: &str, presented: &Presented) -> Result<bool, ServiceError> {
    let (now, tx) = (now_micros(), store.change().await?);
    if tx.admin_token(place).await? != Some(presented.id) {
        return Ok(false);
    }
    let row = tx.token(presented.id).await?;
    if !row.is_some_and(|row| presented.matches(&row.hash) && row.token.is_live(now)) {
        return Ok(false);
    }
    tx.see_admin_token(place, now).await?;
    tx.commit().await?;
    Ok(true)
}

fn new_token(presented: &Presented, owner: PrincipalId, description: &str, now: i64) -> Token {
    Token {
        id: presented.id,
        owner,
        description: description.to_owned(),
        scope: Scope::Full,
        created_at: now,
        expires_at: None,
        revoked_at: None,
    }
}

/// A data dir's name in the table: several servers of one database, each with
/// its own, do not replace each other's token.
fn place(data_dir: &Path) -> io::Result<String> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let path: PathBuf = fs::canonicalize(data_dir)?;
    Ok(path.display().to_string())
}

/// What a file holds; nothing if it holds no token or is not ours to trust.
fn read(path: &Path) -> io::Result<Option<Presented>> {
    let named = match fs::symlink_metadata(path) {
        Ok(named) => named,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // A link, or what others could have written or read, is replaced.
    if !named.is_file() || named.mode() & 0o077 != 0 {
        return Ok(None);
    }
    let file = File::open(path)?;
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
        return Ok(None);
    }
    let mut text = String::new();
    match file.take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(Presented::parse(text.trim())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the file anew and makes it durable. Creating it exclusively follows
/// no link.
fn write(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// The token in it is revoked; the file would only mislead.
fn remove(data_dir: &Path) {
    match fs::remove_file(data_dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the revoked token of the first admin could not be removed from the data dir");
        }
        _ => {}
    }
}
