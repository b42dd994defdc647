//! One `quarry` process: its doors, its log, its end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::parts::quarry_binary;
use crate::wait::eventually;

const READY_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// How a process is started, kept so that it can be started again.
#[derive(Debug, Clone)]
pub struct Launch {
    /// For messages: the role or roles it runs.
    pub name: String,
    /// After `quarry`.
    pub args: Vec<String>,
    /// `QUARRY_…` and others; nothing else of the kind is inherited.
    pub variables: BTreeMap<String, String>,
    /// Working directory and home of the ready file.
    pub dir: PathBuf,
}

/// A running `quarry`; killed when dropped.
pub struct Process {
    launch: Launch,
    /// Another one after [`Process::cycle`].
    child: Mutex<Child>,
    log: Arc<Mutex<String>>,
    doors: Mutex<Option<Doors>>,
}

#[derive(Clone, Copy)]
struct Doors {
    public: SocketAddr,
    operations: SocketAddr,
}

impl Process {
    /// Starts it without waiting. The arguments need no `--ready-file`.
    pub fn spawn(launch: Launch) -> Self {
        let log = Arc::new(Mutex::new(String::new()));
        let child = start(&launch, &log);
        Self { launch, child: Mutex::new(child), log, doors: Mutex::new(None) }
    }

    /// Waits until it serves; ends the test with its log if it ends first.
    pub async fn ready(&mut self) {
        if let Err(status) = self.ready_or_ended().await {
            panic!("{} ended with {status}:\n{}", self.launch.name, self.log());
        }
    }

    /// Waits until it serves or has ended with a status.
    pub async fn ready_or_ended(&mut self) -> Result<(), ExitStatus> {
        let what = format!("{} ready", self.launch.name);
        let path = self.launch.ready_file();
        let doors = eventually(&what, READY_WITHIN, async || {
            match self.child().try_wait().expect("its state") {
                Some(status) => Some(Err(status)),
                None => Doors::read(&path).map(Ok),
            }
        });
        let doors = doors.await?;
        self.is_at(doors);
        Ok(())
    }

    /// Where it really listens: the public door, or the role's own socket.
    pub fn listen(&self) -> SocketAddr {
        self.doors().public
    }

    /// The operations door.
    pub fn operations(&self) -> SocketAddr {
        self.doors().operations
    }

    fn doors(&self) -> Doors {
        let doors = *self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.expect("a process that is ready")
    }

    fn is_at(&self, doors: Doors) {
        *self.doors.lock().unwrap_or_else(PoisonError::into_inner) = Some(doors);
    }

    /// All it has written to stdout and stderr.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill9(&mut self) {
        self.child().kill().expect("a process to kill");
        self.child().wait().expect("its end");
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child()), Signal::TERM).expect("a process to end");
    }

    /// SIGSTOP: it holds what it holds and does nothing more.
    pub fn suspend(&self) {
        kill_process(Pid::from_child(&self.child()), Signal::STOP).expect("a process to stop");
    }

    /// SIGCONT, after [`Self::suspend`].
    pub fn go_on(&self) {
        kill_process(Pid::from_child(&self.child()), Signal::CONT).expect("a process to go on");
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.over().await
    }

    async fn over(&self) -> ExitStatus {
        let what = format!("{} ended", self.launch.name);
        eventually(&what, ENDS_WITHIN, async || self.child().try_wait().expect("its state")).await
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SIGTERM, its end, and the same again on the same ports, while others go on using
    /// it: a rolling restart's turn. Answers how it ended, and once it serves again.
    pub async fn cycle(&self) -> ExitStatus {
        self.terminate();
        let status = self.over().await;
        let doors = self.doors();
        let mut launch = self.launch.clone();
        launch.set("--listen", &doors.public.to_string());
        launch.set("--ops-listen", &doors.operations.to_string());
        *self.child() = start(&launch, &self.log);
        let what = format!("{} ready again", launch.name);
        let path = launch.ready_file();
        eventually(&what, READY_WITHIN, async || {
            let ended = self.child().try_wait().expect("its state");
            assert!(ended.is_none(), "{what}: {ended:?}\n{}", self.log());
            Doors::read(&path)
        })
        .await;
        status
    }

    /// The next process, on a data directory of its own, is started beside this one on the
    /// same public door; once it serves, this one is told to stop. Answers how it ended.
    /// The platform shares its ports (`QUARRY_START__SHARE_PORTS`).
    pub async fn hand_over(&self) -> ExitStatus {
        let doors = self.doors();
        let mut launch = self.launch.clone();
        launch.name = format!("{}-after-{}", launch.name, self.pid());
        launch.set("--listen", &doors.public.to_string());
        launch.set("--ops-listen", "127.0.0.1:0");
        let data_dir = launch.dir.join(&launch.name).display().to_string();
        launch.set("--data-dir", &data_dir);
        let mut next = Ending(start(&launch, &self.log));
        let what = format!("{} ready", launch.name);
        let path = launch.ready_file();
        let doors = eventually(&what, READY_WITHIN, async || {
            let ended = next.0.try_wait().expect("its state");
            assert!(ended.is_none(), "{what}: {ended:?}\n{}", self.log());
            Doors::read(&path)
        })
        .await;
        std::mem::swap(&mut *self.child(), &mut next.0);
        self.is_at(doors);
        let mut before = next;
        kill_process(Pid::from_child(&before.0), Signal::TERM).expect("a process to end");
        let what = format!("{} ended", self.launch.name);
        eventually(&what, ENDS_WITHIN, async || before.0.try_wait().expect("its state")).await
    }

    /// Starts again what was killed, on the same ports, with the log going on.
    pub async fn restart(&mut self) {
        let before = self.log();
        let doors = self.doors();
        let mut launch = self.launch.clone();
        launch.set("--listen", &doors.public.to_string());
        launch.set("--ops-listen", &doors.operations.to_string());
        *self = Self::spawn(launch);
        self.log.lock().unwrap_or_else(PoisonError::into_inner).insert_str(0, &before);
        self.ready().await;
    }

    /// The most memory it ever held, in bytes.
    pub fn memory_peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("a running process");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number") * 1024
    }
}

/// A process between two owners: ended if nobody takes it.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts a process whose output is added to `log`.
fn start(launch: &Launch, log: &Arc<Mutex<String>>) -> Child {
    let ready = launch.ready_file();
    drop(std::fs::remove_file(&ready));
    let mut command = Command::new(quarry_binary());
    command.args(&launch.args).arg("--ready-file").arg(&ready);
    let mut child = launch.apply(&mut command).spawn().expect("the quarry binary");
    collect(child.stdout.take().expect("stdout"), Arc::clone(log));
    collect(child.stderr.take().expect("stderr"), Arc::clone(log));
    child
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child().kill());
        drop(self.child().wait());
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.launch.name, self.log());
        }
    }
}

impl Launch {
    fn ready_file(&self) -> PathBuf {
        self.dir.join(format!("{}.ready", self.name))
    }

    /// Gives an option another value, or adds it.
    fn set(&mut self, option: &str, value: &str) {
        match self.args.iter().position(|arg| arg == option) {
            Some(at) => value.clone_into(&mut self.args[at + 1]),
            None => self.args.extend([option.to_owned(), value.to_owned()]),
        }
    }

    /// Directory, input, output and a clean environment.
    pub(crate) fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUARRY_") {
                command.env_remove(name);
            }
        }
        command
            .envs(&self.variables)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
    }
}

impl Doors {
    /// The ready file, once it is there and whole.
    fn read(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        let door = |name: &str| json[name].as_str()?.parse().ok();
        Some(Self { public: door("listen")?, operations: door("ops_listen")? })
    }
}

fn collect(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&line);
            log.push('\n');
        }
    });
}
