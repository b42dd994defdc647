//! `kill -9` at random moments of scans of a tree that is edited meanwhile: the next process
//! goes on, and in the end the index is the tree, with its sizes, its bytes and what its
//! archives hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use files_api::v1 as wire;
use harness::{Database, Platform, Setup, Topology, eventually};
use ops_api::v1::{JobState, JobsGetRequest, JobsListRequest};

/// Kills of one run; `QUARRY_TEST_KILLS` makes it a long one.
const KILLS: usize = 4;
const DIRS: u64 = 40;
const FILES: u64 = 25;
const ARCHIVES: u64 = 6;
/// A scan of this tree takes less.
const MOMENT_MS_MAX: u64 = 700;

/// Kind, size and content of everything that there is.
type Tree = BTreeMap<String, (wire::EntryKind, i64, String)>;

/// Random numbers that a seed tells.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        // Knuth's multiplier; the high bits are the good ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn dir(root: &Path, number: u64) -> PathBuf {
    root.join(format!("d{}/e{number}", number % 7))
}

fn write_tree(root: &Path, dice: &mut Dice) {
    for number in 0..DIRS {
        fs::create_dir_all(dir(root, number)).unwrap();
        for file in 0..FILES {
            let bytes = format!("{}-{}", dice.below(50), file % 5);
            fs::write(dir(root, number).join(format!("f{file}")), bytes).unwrap();
        }
    }
    for number in 0..ARCHIVES {
        fs::write(root.join(format!("a{number}.tar")), archive(dice)).unwrap();
    }
}

/// One edit; what is not there can't be edited.
fn edit(root: &Path, dice: &mut Dice) {
    let (from, to) = (dir(root, dice.below(DIRS)), dir(root, dice.below(DIRS)));
    let name = |dice: &mut Dice| format!("f{}", dice.below(FILES * 2));
    match dice.below(12) {
        // The same size as before, often.
        0..=3 => drop(fs::write(from.join(name(dice)), format!("{:04}", dice.below(10_000)))),
        4 => drop(fs::remove_file(from.join(name(dice)))),
        5 => drop(fs::rename(from.join(name(dice)), to.join(name(dice)))),
        6 => drop(fs::rename(&from, to.join(format!("m{}", dice.below(4))))),
        7 => drop(fs::remove_dir_all(from)),
        8 => drop(fs::create_dir_all(from.join("new"))),
        9 => drop(std::os::unix::fs::symlink("..", from.join("link"))),
        10 => {
            let path = root.join(format!("a{}.tar", dice.below(ARCHIVES)));
            drop(fs::write(path, archive(dice)));
        }
        _ => {
            let (one, other) = (dice.below(ARCHIVES), dice.below(ARCHIVES));
            let to = from.join(format!("a{other}.tar"));
            drop(fs::rename(root.join(format!("a{one}.tar")), to));
        }
    }
}

fn archive(dice: &mut Dice) -> Vec<u8> {
    let mut tar = Vec::new();
    for number in 0..=dice.below(12) {
        let bytes = format!("{}", dice.below(1_000));
        let mut header = [0_u8; 512];
        let name = format!("in{}/m{number}", number % 3);
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        tar.extend(header);
        tar.extend(bytes.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1_024, 0);
    tar
}

/// The tree by another way than the indexer's.
fn tree_of(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let shown = path.display().to_string();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                found.insert(shown, (wire::EntryKind::Directory, 0, String::new()));
                left.push(path);
            } else if meta.is_symlink() {
                let size = i64::try_from(meta.len()).unwrap();
                found.insert(shown, (wire::EntryKind::Symlink, size, String::new()));
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(shown.clone(), file(&bytes));
                if shown.ends_with(".tar") {
                    members_of(&shown, &bytes, &mut found);
                }
            }
        }
    }
    found
}

fn file(bytes: &[u8]) -> (wire::EntryKind, i64, String) {
    let content = blake3::hash(bytes).to_hex().to_string();
    (wire::EntryKind::File, i64::try_from(bytes.len()).unwrap(), content)
}

/// What [`archive`] wrote.
fn members_of(archive: &str, bytes: &[u8], found: &mut Tree) {
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8(field[..end].to_vec()).unwrap()
    };
    let mut at = 0;
    while bytes[at] != 0 {
        let name = text(&bytes[at..at + 100]);
        let size = usize::from_str_radix(&text(&bytes[at + 124..at + 136]), 8).unwrap();
        let parent = name.split('/').next().unwrap();
        let directory = (wire::EntryKind::Directory, 0, String::new());
        found.insert(format!("{archive}/{parent}"), directory);
        found.insert(format!("{archive}/{name}"), file(&bytes[at + 512..at + 512 + size]));
        at += 512 + size.next_multiple_of(512);
    }
}

async fn indexed(platform: &Platform, location: &str) -> Tree {
    let (mut found, mut page_token) = (Tree::new(), String::new());
    loop {
        let query = wire::FileQuery { location_id: location.to_owned(), ..Default::default() };
        let request = wire::SearchFilesRequest {
            query: Some(query),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = platform.admin().files().search_files(request).await.unwrap().into_inner();
        for entry in page.entries {
            let kind = entry.kind();
            let twice = found.insert(entry.path.clone(), (kind, entry.size, entry.content));
            assert!(twice.is_none(), "{} is there twice", entry.path);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

async fn start_scan(platform: &Platform, location: &str) -> String {
    let request = wire::ScanLocationRequest {
        id: location.to_owned(),
        mode: wire::ScanMode::Content.into(),
        accept_removals: true,
        ..Default::default()
    };
    platform.admin().locations().scan_location(request).await.unwrap().into_inner().job
}

async fn completed(platform: &Platform, name: &str) {
    eventually("the scan's end", Duration::from_secs(60), async || {
        let request = JobsGetRequest { name: name.to_owned() };
        let job = platform.admin().jobs().get(request).await.ok()?.into_inner().job?;
        assert_ne!(job.state(), JobState::Failed, "{job:?}");
        (job.state() == JobState::Completed).then_some(())
    })
    .await;
}

#[allow(clippy::disallowed_methods, reason = "knobs of this test")]
fn knob(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Edits the tree until the moment of the kill.
async fn edited_until(moment: Instant, root: &Path, mut dice: Dice) -> Dice {
    let (root, is_over) = (root.to_owned(), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&is_over);
    let editing = tokio::task::spawn_blocking(move || {
        while !over.load(Ordering::Relaxed) {
            edit(&root, &mut dice);
            std::thread::park_timeout(Duration::from_millis(3));
        }
        dice
    });
    eventually("the moment", Duration::from_secs(5), async || {
        (Instant::now() >= moment).then_some(())
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    editing.await.unwrap()
}

fn assert_equal(index: &Tree, tree: &Tree, when: &str) {
    let missing: Vec<_> = tree.iter().filter(|(path, is)| index.get(*path) != Some(is)).collect();
    let stale: Vec<_> = index.iter().filter(|(path, is)| tree.get(*path) != Some(is)).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "{when}: missing {missing:#?}\nstale {stale:#?}"
    );
}

async fn survives(database: Database) {
    let kills = knob("QUARRY_TEST_KILLS").map_or(KILLS, |kills| usize::try_from(kills).unwrap());
    let seed = knob("QUARRY_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let mut dice = Dice(seed);
    let mut platform = Setup::new(Topology::OneProcess, database)
        .variable("QUARRY_FILES__LEASE_SECONDS", "3")
        .start()
        .await;
    let root = platform.scratch().join("tree");
    write_tree(&root, &mut dice);
    let request = wire::CreateLocationRequest {
        path: root.display().to_string(),
        archives: true,
        ..Default::default()
    };
    let made = platform.admin().locations().create_location(request).await.unwrap();
    let location = made.into_inner().location.unwrap().id;
    for kill in 1..=kills {
        start_scan(&platform, &location).await;
        let moment = Instant::now() + Duration::from_millis(dice.below(MOMENT_MS_MAX));
        dice = edited_until(moment, &root, dice).await;
        platform.kill9();
        platform.restart().await;
        if kill % 25 == 0 {
            equals(&platform, &location, &root, &format!("seed {seed}, kill {kill}")).await;
            // Enough is left to be edited.
            write_tree(&root, &mut dice);
        }
    }
    equals(&platform, &location, &root, &format!("seed {seed}, {kills} kills")).await;
}

/// Whatever was under way ends, one more scan, and the index is the tree.
async fn equals(platform: &Platform, location: &str, root: &Path, when: &str) {
    let under_way = platform.admin().jobs().list(JobsListRequest::default()).await.unwrap();
    for job in under_way.into_inner().jobs {
        completed(platform, &job.name).await;
    }
    let name = start_scan(platform, location).await;
    completed(platform, &name).await;
    assert_equal(&indexed(platform, location).await, &tree_of(root), when);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite() {
    survives(Database::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres() {
    survives(Database::Postgres).await;
}
