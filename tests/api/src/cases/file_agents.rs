//! Locations that an agent reads: the real one, over a network that breaks, and
//! one that says what it should not.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use files_api::v1 as wire;
use files_api::v1::connect_request::Message as Say;
use files_api::v1::connect_response::Message as Told;
use harness::Session;
use options_api::v1::{Level, ResourceKind, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tonic::{Code, Status};

use crate::stage::{Stage, unique};

/// A process of ours, ended with the case.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn location(session: &Session, path: &Path, device: &str) -> wire::Location {
    let request = wire::CreateLocationRequest {
        path: path.display().to_string(),
        mode: wire::ScanMode::Content.into(),
        device: device.to_owned(),
        ..Default::default()
    };
    let answer = session.locations().create_location(request).await.expect("a location");
    answer.into_inner().location.expect("a location")
}

/// Relative paths of a location's entries.
async fn index(stage: &Stage, location: &wire::Location) -> BTreeSet<Vec<u8>> {
    let (mut found, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = wire::SearchFilesRequest {
            query: Some(wire::FileQuery {
                location_id: location.id.clone(),
                with_hidden: true,
                ..Default::default()
            }),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let answer = stage.admin.files().search_files(request).await.expect("a page").into_inner();
        for entry in answer.entries {
            let path =
                if entry.path_raw.is_empty() { entry.path.into_bytes() } else { entry.path_raw };
            found.insert(path[location.path.len() + 1..].to_vec());
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

fn tree_of(root: &Path) -> BTreeSet<Vec<u8>> {
    fn below(dir: &Path, root: &Path, tree: &mut BTreeSet<Vec<u8>>) {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            tree.insert(path.strip_prefix(root).expect("below").as_os_str().as_bytes().to_vec());
            if path.is_dir() && !path.is_symlink() {
                below(&path, root, tree);
            }
        }
    }
    let mut tree = BTreeSet::new();
    below(root, root, &mut tree);
    tree
}

fn tree(stage: &Stage) -> PathBuf {
    let tree = stage.platform.scratch().join(unique("far"));
    for n in 0..7_000 {
        let dir = tree.join(if n % 7 == 0 { format!("d{}", n % 50) } else { "large".to_owned() });
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(
            dir.join(format!("file number {n}")),
            if n % 100 == 0 { "some bytes" } else { "" },
        )
        .expect("a file");
    }
    std::fs::write(tree.join(std::ffi::OsStr::from_bytes(b"\xff odd\nname")), "x").expect("a file");
    std::os::unix::fs::symlink("..", tree.join("loop")).expect("a link");
    tree
}

/// A way to the platform that is cut after so many bytes, connection by
/// connection, and whole after the last.
async fn cutting(to: &str, cuts: Vec<usize>) -> String {
    let to = to.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut cuts = cuts.into_iter();
        while let Ok((near, _)) = listener.accept().await {
            let (to, cut) = (to.clone(), cuts.next());
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(to).await else { return };
                relay(near, far, cut.unwrap_or(usize::MAX)).await;
            });
        }
    });
    url
}

async fn relay(near: TcpStream, far: TcpStream, mut left: usize) {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut far_in, &mut near_out).await });
    let mut buffer = vec![0; 4_096];
    while left > 0 {
        let Ok(count) = near_in.read(&mut buffer).await else { break };
        let count = count.min(left);
        if count == 0 || far_out.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        left -= count;
    }
    back.abort();
}

fn agent(
    stage: &Stage,
    url: &str,
    place: &str,
    device: &str,
    more: &[&str],
) -> std::process::Command {
    let args: Vec<&str> =
        ["agent", place, "--device", device, "--server", url].iter().chain(more).copied().collect();
    let mut command = stage.platform.cli_command(&args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The real agent, its stream cut again and again: the index is the tree.
pub async fn broken_network(stage: &Stage) {
    let (tree, device) = (tree(stage), unique("device"));
    // On the device the path is another one than here: the server can't have read it.
    let shown = PathBuf::from("/nowhere/on/the/server").join(unique("photos"));
    let made = location(&stage.admin, &shown, &device).await;
    // The agent waits longer the more streams brought nothing: one that brings something
    // stands between those that are cut at once.
    let cuts =
        vec![0, 60, 60_000, 400, 150_000, 900, 300_000, 1_500, 450_000, 4_000, 600_000, 700_000];
    let url = cutting(&stage.platform.url(), cuts).await;
    let place = format!("{}={}", shown.display(), tree.display());
    let mut command = agent(stage, &url, &place, &device, &["--once"]);
    let output = tokio::task::spawn_blocking(move || command.output().expect("the agent"))
        .await
        .expect("its end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(index(stage, &made).await, tree_of(&tree));
    let request =
        wire::ListDuplicatesRequest { location_id: made.id.clone(), ..Default::default() };
    let groups = stage.admin.files().list_duplicates(request).await.expect("groups").into_inner();
    assert_eq!((groups.unhashed_count, groups.group_count), (0, 1), "{groups:?}");
    assert_eq!(groups.groups[0].entry_count, 70);
}

/// An agent that stays: somebody asks for a scan and gets it.
pub async fn asked(stage: &Stage) {
    let (device, tree) = (unique("device"), stage.platform.scratch().join(unique("near")));
    std::fs::create_dir_all(tree.join("a")).expect("a directory");
    std::fs::write(tree.join("a/one"), "1").expect("a file");
    let made = location(&stage.admin, &tree, &device).await;
    // Nobody is there: that is said at once, and nothing is opened here.
    let path = tree.display().to_string();
    let away = stage.platform.cli(&["files", "scan", &path, "--wait", "-o", "json"]).await;
    assert_ne!(away.code, 0, "{away:?}");
    assert!(index(stage, &made).await.is_empty());
    let mut command = agent(stage, &stage.platform.url(), &path, &device, &["--every", "0"]);
    let _agent = Running(command.stderr(Stdio::null()).spawn().expect("the agent"));
    let scanned = harness::eventually("a scan", std::time::Duration::from_secs(30), async || {
        let scan = stage.platform.cli(&["files", "scan", &path, "--wait", "-o", "json"]).await;
        (scan.code == 0).then_some(())
    });
    scanned.await;
    assert_eq!(index(stage, &made).await, tree_of(&tree));
    std::fs::rename(tree.join("a/one"), tree.join("two")).expect("renamed");
    std::fs::write(tree.join("a/new"), "new").expect("a file");
    stage.platform.cli(&["files", "scan", &path, "--wait", "-o", "json"]).await.json();
    assert_eq!(index(stage, &made).await, tree_of(&tree));
    // What only the server itself reads is refused, typed.
    for command in
        [vec!["files", "verify", &path], vec!["files", "import", &path, "a/b", "--no-scan"]]
    {
        let refused = stage.platform.cli(&command).await;
        assert!(refused.stderr.contains("whose agent alone reads it"), "{refused:?}");
    }
}

/// A stream that speaks the protocol by hand.
struct Fake {
    say: mpsc::Sender<wire::ConnectRequest>,
    told: tonic::Streaming<wire::ConnectResponse>,
}

impl Fake {
    async fn connect(session: &Session) -> Self {
        let (say, said) = mpsc::channel(64);
        let stream = futures::stream::unfold(said, |mut said: mpsc::Receiver<_>| async move {
            said.recv().await.map(|message| (message, said))
        });
        let told = session.agent().connect(stream).await.expect("a stream").into_inner();
        Self { say, told }
    }

    async fn hello(
        session: &Session,
        location: &wire::Location,
        generation: i64,
    ) -> Result<(Self, wire::AgentWelcome), Status> {
        let mut fake = Self::connect(session).await;
        let hello = wire::AgentHello {
            location_id: location.id.clone(),
            device: location.device.clone(),
            root_device: 1,
            root_inode: 2,
            generation,
        };
        fake.say(Say::Hello(hello)).await;
        match fake.next().await? {
            Told::Welcome(welcome) => Ok((fake, welcome)),
            other => panic!("{other:?}"),
        }
    }

    /// Until the walk of a new scan.
    async fn walking(session: &Session, location: &wire::Location) -> (Self, i64) {
        let (mut fake, _) = Self::hello(session, location, 0).await.expect("welcome");
        fake.say(Say::Wish(wire::AgentWish {})).await;
        match fake.next().await.expect("a scan") {
            Told::Scan(scan) => (fake, scan.generation),
            other => panic!("{other:?}"),
        }
    }

    async fn say(&self, message: Say) {
        drop(self.say.send(wire::ConnectRequest { message: Some(message) }).await);
    }

    async fn next(&mut self) -> Result<Told, Status> {
        match self.told.message().await? {
            Some(told) => Ok(told.message.expect("a message")),
            None => Err(Status::unavailable("ended")),
        }
    }

    async fn batch(&mut self, seq: i64, listings: Vec<wire::AgentListing>) -> Result<Told, Status> {
        self.say(Say::Batch(wire::AgentBatch { seq, listings })).await;
        self.next().await
    }
}

fn listing(path: &[u8], names: &[&[u8]]) -> wire::AgentListing {
    let count = names.len();
    wire::AgentListing {
        path: path.to_vec(),
        device: 1,
        inode: 2,
        names: names.iter().map(|name| name.to_vec()).collect(),
        kinds: vec![1; count],
        sizes: vec![1; count],
        modify_times: vec![1; count],
        change_times: vec![1; count],
        birth_times: vec![1; count],
        inodes: (10..).take(count).collect(),
        links: vec![1; count],
        modes: vec![0o644; count],
        uids: vec![0; count],
        gids: vec![0; count],
        ..Default::default()
    }
}

fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// What no directory holds, more than a message takes, and what comes out of
/// turn is refused; nothing of it stays.
pub async fn hostile(stage: &Stage) {
    let device = unique("device");
    let made =
        location(&stage.admin, Path::new("/far/away").join(unique("x")).as_path(), &device).await;
    for name in [&b".."[..], b".", b"", b"a/b", b"/etc/passwd", b"nul\0", &[b'x'; 256]] {
        let (mut fake, _) = Fake::walking(&stage.admin, &made).await;
        let refused = fake.batch(1, vec![listing(b"", &[name])]).await.expect_err("a name");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "AGENT_NAME_REFUSED"),
            "{name:?}"
        );
    }
    for path in [&b"/etc"[..], b"../up", b"a/../../b", b"a//b", b"a/", b"nul\0"] {
        let (mut fake, _) = Fake::walking(&stage.admin, &made).await;
        let refused = fake
            .batch(1, vec![listing(b"", &[b"a"]), listing(path, &[])])
            .await
            .expect_err("a path");
        assert_eq!(reason(&refused), "AGENT_NAME_REFUSED", "{path:?}");
    }
    let many: Vec<Vec<u8>> = (0..5_001).map(|n| format!("{n:06}").into_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let mut unsorted = listing(b"", &[b"b", b"a"]);
    let mut ragged = listing(b"", &[b"a", b"b"]);
    ragged.sizes.push(1);
    unsorted.kinds = vec![1, 1];
    let mut negative = listing(b"", &[b"a"]);
    negative.sizes = vec![-1];
    let mut strange = listing(b"", &[b"a"]);
    strange.kinds = vec![99];
    for (batch, why) in [
        (vec![listing(b"", &many)], "AGENT_BATCH_TOO_LARGE"),
        (vec![unsorted], "AGENT_NAME_REFUSED"),
        (vec![ragged], "AGENT_COLUMNS"),
        (vec![strange], "AGENT_COLUMNS"),
        (vec![listing(b"hangs/in/the/air", &[b"a"])], "AGENT_PARENT_UNKNOWN"),
    ] {
        let (mut fake, _) = Fake::walking(&stage.admin, &made).await;
        let refused = fake.batch(1, batch).await.expect_err(why);
        assert_eq!(reason(&refused), why, "{refused:?}");
    }
    let (mut fake, _) = Fake::walking(&stage.admin, &made).await;
    let refused = fake.batch(1, vec![negative]).await.expect_err("negative");
    assert_eq!(refused.code(), Code::InvalidArgument);
    // Columns of one byte an entry: more than a message takes is refused by its size.
    let flood = |count: usize| wire::AgentListing { kinds: vec![1; count], ..listing(b"", &[]) };
    let (mut fake, _) = Fake::walking(&stage.admin, &made).await;
    let refused = fake.batch(1, vec![flood(3_000_000)]).await.expect_err("a flood");
    assert_eq!(reason(&refused), "AGENT_BATCH_TOO_LARGE", "{refused:?}");
    // A hundred million of them may be cut off before they are all sent.
    let (mut fake, _) = Fake::walking(&stage.admin, &made).await;
    fake.batch(1, vec![flood(100_000_000)]).await.expect_err("a larger flood");
    let (mut fake, _) = Fake::walking(&stage.admin, &made).await;
    let refused = fake.batch(2, vec![]).await.expect_err("out of order");
    assert_eq!(reason(&refused), "AGENT_OUT_OF_ORDER");
    let (fake, _) = Fake::hello(&stage.admin, &made, 0).await.expect("welcome");
    let mut fake = fake;
    let refused = fake.batch(1, vec![listing(b"", &[b"a"])]).await.expect_err("no scan");
    assert_eq!(reason(&refused), "AGENT_OUT_OF_ORDER");
    assert!(index(stage, &made).await.is_empty());
}

/// A token reads for its own locations and devices alone.
pub async fn strangers(stage: &Stage) {
    let device = unique("device");
    let path = |name: &str| Path::new("/far/away").join(unique(name));
    let (user, session) = stage.user(Role::User).await;
    let own = location(&session, &path("own"), &device).await;
    let others = location(&stage.admin, &path("others"), &device).await;
    let hidden = Fake::hello(&session, &others, 0).await.err().expect("hidden");
    assert_eq!(hidden.code(), Code::NotFound, "{hidden:?}");
    stage.grant(&user, ResourceKind::Location, &others.id, Level::Read).await;
    let seen = harness::eventually("the grant", std::time::Duration::from_secs(2), async || {
        let get = wire::GetLocationRequest { id: others.id.clone() };
        session.locations().get_location(get).await.ok()
    });
    seen.await;
    let denied = Fake::hello(&session, &others, 0).await.err().expect("it may only read");
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    let elsewhere = wire::Location { device: "another".to_owned(), ..own.clone() };
    let denied = Fake::hello(&session, &elsewhere, 0).await.err().expect("another device");
    assert_eq!(reason(&denied), "LOCATION_NOT_OF_DEVICE", "{denied:?}");
    // One stream a location: the older one writes nothing more.
    let (mut first, _) = Fake::walking(&session, &own).await;
    let (_second, _) = Fake::hello(&session, &own, 0).await.expect("welcome");
    let lost = first.batch(1, vec![listing(b"", &[b"a"])]).await.expect_err("taken over");
    assert_eq!(reason(&lost), "LEASE_LOST", "{lost:?}");
    assert!(index(stage, &own).await.is_empty());
}

/// A stream that ends after each of its messages, and goes on.
pub async fn resumed(stage: &Stage) {
    let device = unique("device");
    let made =
        location(&stage.admin, Path::new("/far/away").join(unique("y")).as_path(), &device).await;
    let (mut fake, generation) = Fake::walking(&stage.admin, &made).await;
    let mut root = listing(b"", &[b"d", b"f"]);
    root.kinds = vec![2, 1];
    let said = vec![vec![root], vec![listing(b"d", &[b"1"])], vec![listing(b"d", &[b"1", b"2"])]];
    for batch in said {
        let told = fake.batch(1, batch).await.expect("an ack");
        assert!(matches!(told, Told::Ack(wire::AgentAck { seq: 1 })), "{told:?}");
        drop(fake);
        let welcome;
        (fake, welcome) = Fake::hello(&stage.admin, &made, generation).await.expect("welcome");
        assert_eq!(welcome.generation, generation, "it goes on");
    }
    let end = wire::AgentWalkEnd { seq: 1, unreadable_count: 0, root_device: 1, root_inode: 2 };
    fake.say(Say::WalkEnd(end)).await;
    assert!(matches!(fake.next().await.expect("an ack"), Told::Ack(_)));
    // Hashes that are no answer to what was asked are refused; the next stream is asked anew.
    let Told::Need(need) = fake.next().await.expect("files") else {
        panic!("hashes are asked for")
    };
    assert_eq!(need.files.len(), 3, "{need:?}");
    let wrong =
        wire::AgentHashes { seq: 2, hashes: vec![wire::AgentHash { id: 1, outcome: None }] };
    fake.say(Say::Hashes(wrong)).await;
    assert_eq!(fake.next().await.expect_err("refused").code(), Code::InvalidArgument);
    let (mut fake, _) = Fake::hello(&stage.admin, &made, generation).await.expect("welcome");
    fake.say(Say::WalkEnd(end)).await;
    assert!(matches!(fake.next().await.expect("an ack"), Told::Ack(_)));
    let Told::Need(need) = fake.next().await.expect("files") else {
        panic!("hashes are asked for")
    };
    let hashes = need.files.iter().map(|file| {
        let content = wire::AgentContent {
            hash: vec![u8::try_from(file.id % 250).expect("small"); 32],
            kind: "text".to_owned(),
            size: file.size,
            modified: file.modified,
            changed: file.changed,
            ..Default::default()
        };
        wire::AgentHash { id: file.id, outcome: Some(wire::agent_hash::Outcome::Content(content)) }
    });
    let hashes = wire::AgentHashes { seq: 2, hashes: hashes.collect() };
    fake.say(Say::Hashes(hashes)).await;
    assert!(matches!(fake.next().await.expect("an ack"), Told::Ack(_)));
    let Told::Done(done) = fake.next().await.expect("an end") else { panic!("done") };
    assert_eq!((done.generation, done.hashed, done.problem.as_str()), (generation, 3, ""));
    let expected: BTreeSet<Vec<u8>> = [&b"d"[..], b"d/1", b"d/2", b"f"].map(<[u8]>::to_vec).into();
    assert_eq!(index(stage, &made).await, expected);
}
