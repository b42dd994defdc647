//! The data dir and the secret files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::Finding;

const ROOM_PROBLEM_BYTES: u64 = 512 << 20;
const ROOM_WARNING_BYTES: u64 = 5 << 30;
const SECRET_CHARACTERS_MIN: usize = 32;

/// The data dir: there, its owner's alone, writable, with room.
#[must_use]
pub fn data_dir(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return vec![Finding::problem(
                "data_dir",
                format!("{shown} is no directory"),
                "name a directory with --data-dir or QUARRY_DATA_DIR",
            )];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Finding::warning(
                "data_dir",
                format!("{shown} does not exist"),
                "`quarry serve` makes it; if data should be there, name its directory with --data-dir",
            )];
        }
        Err(error) => {
            return vec![Finding::problem(
                "data_dir",
                format!("{shown}: {error}"),
                "run as the user whose directory it is",
            )];
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    let mut findings = vec![if mode & 0o077 == 0 {
        Finding::ok("data_dir", format!("{shown} is its owner's alone"))
    } else {
        Finding::problem(
            "data_dir.mode",
            format!("{shown} has mode {mode:04o}: others may read hashes and keys in it"),
            format!("chmod 0700 {shown}"),
        )
    }];
    findings.push(writable(path));
    findings.extend(room(path));
    findings
}

fn writable(path: &Path) -> Finding {
    let probe = path.join(format!(".doctor-{}", std::process::id()));
    let written = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&probe);
    match written.and_then(|file| file.sync_all()).and_then(|()| fs::remove_file(&probe)) {
        Ok(()) => Finding::ok("data_dir.write", "files can be made and removed"),
        Err(error) => Finding::problem(
            "data_dir.write",
            format!("no file can be made in {}: {error}", path.display()),
            "give this user the directory (chown), mount it writable, or free its disk",
        ),
    }
}

fn room(path: &Path) -> Option<Finding> {
    let volume = rustix::fs::statvfs(path).ok()?;
    Some(judge_room(volume.f_bavail.saturating_mul(volume.f_frsize)))
}

/// What so many free bytes mean.
pub(crate) fn judge_room(free: u64) -> Finding {
    let shown = format!("{:.1} GiB are free", free as f64 / f64::from(1 << 30));
    let remedy = "free the disk, or move the data dir to a larger one";
    match free {
        _ if free < ROOM_PROBLEM_BYTES => Finding::problem("data_dir.room", shown, remedy),
        _ if free < ROOM_WARNING_BYTES => Finding::warning("data_dir.room", shown, remedy),
        _ => Finding::ok("data_dir.room", shown),
    }
}

/// Locks of roles: held by a process, or left over; and the record of a server
/// (`server_file`) that is gone.
#[must_use]
pub fn locks(path: &Path, roles: &[&str], server_file: &str) -> Vec<Finding> {
    let (mut held, mut broken) = (Vec::new(), Vec::new());
    for role in roles {
        let name = path.join(format!("{role}.lock"));
        let file = match File::open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                broken.push(Finding::problem(
                    "locks",
                    format!("{}: {error}", name.display()),
                    "give this user the file, or remove it while no server runs",
                ));
                continue;
            }
        };
        match file.try_lock() {
            // Whoever held it has ended: the file alone holds nothing.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => held.push(*role),
            Err(TryLockError::Error(error)) => broken.push(Finding::problem(
                "locks",
                format!("{} cannot be locked: {error}", name.display()),
                "use a file system that has locks (not some network mounts)",
            )),
        }
    }
    broken.push(match held.is_empty() {
        true => Finding::ok("locks", "no server runs on the data dir"),
        false => Finding::ok("locks", format!("a server runs here: {}", held.join(", "))),
    });
    broken.extend(gone_server(path, server_file, !held.is_empty()));
    broken
}

fn gone_server(path: &Path, server_file: &str, runs: bool) -> Option<Finding> {
    let record = path.join(server_file);
    let text = fs::read_to_string(&record).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let pid = json["pid"].as_u64()?;
    if runs || Path::new(&format!("/proc/{pid}")).exists() {
        return None;
    }
    Some(Finding::warning(
        "locks.record",
        format!("{} names a server (process {pid}) that is gone", record.display()),
        format!(
            "start it again, or remove {}: the command line looks for a server there",
            record.display()
        ),
    ))
}

/// A file with a secret in it.
#[must_use]
pub fn secret(check: &str, path: &Path) -> Finding {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            return Finding::problem(
                check,
                format!("{shown} cannot be read: {error}"),
                "mount the secret there, or name the file that holds it",
            );
        }
    };
    let length = text.trim().chars().count();
    if length < SECRET_CHARACTERS_MIN {
        return Finding::problem(
            check,
            format!(
                "{shown} holds {length} characters; a secret has at least {SECRET_CHARACTERS_MIN}"
            ),
            "write a random one, e.g. `openssl rand -hex 32`",
        );
    }
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    if mode & 0o007 != 0 {
        return Finding::warning(
            check,
            format!("{shown} has mode {mode:04o}: everybody on this machine may read it"),
            format!("chmod 0600 {shown}"),
        );
    }
    Finding::ok(check, format!("{shown} is there"))
}
