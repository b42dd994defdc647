//! Real trees, both databases, the real runner.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod archives;
mod changes;
mod duplicates;
mod edits;
mod faults;
mod finding;
mod large;
mod marks;
mod places;

use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use access::GrantReplica;
use caller::{Caller, Secret, TokenSource};
use file_imports::Datasets;
use file_scan::{Root, names};
use ids::PrincipalId;
use jobs::{Job, State};
use options_api::v1::Role;
use sql_store::testing;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::{Announcer, Indexer, QueryText, ScanAsked, Shown};
use crate::model::{Location, Mode, Query, Sort, SortBy};
use crate::settings::{Paths, Settings};
use crate::store::{Found, NewLocation, Store};

/// A tree, an indexer, and the location between them.
struct House {
    indexer: Indexer,
    store: Store,
    tree: TempDir,
    location: Location,
    caller: Caller,
    shutdown: CancellationToken,
    runners: Vec<JoinHandle<()>>,
}

async fn on_each<F: Future<Output = ()>>(case: impl Fn(House) -> F) {
    let data = tempfile::tempdir().unwrap();
    for settings in testing::databases(data.path()).await.unwrap() {
        let house = House::new(Store::open(&settings).await.unwrap(), data.path()).await;
        let shutdown = house.shutdown.clone();
        case(house).await;
        shutdown.cancel();
    }
}

/// A role of the platform: it may do everything, without asking identity.
fn role() -> Caller {
    Caller {
        principal: PrincipalId::new(),
        name: "test".to_owned(),
        role: Role::Admin,
        read_only: false,
        token: None,
        actor: None,
        service: true,
        jwt: Secret::new("jwt"),
        expires_at: 0,
    }
}

impl House {
    async fn new(store: Store, data_dir: &Path) -> Self {
        let nobody = service_channel::local(tonic::service::Routes::default().prepare());
        let tokens = TokenSource::new(nobody.clone(), Secret::new("secret"));
        let shutdown = CancellationToken::new();
        let (grants, _) = GrantReplica::new(nobody.clone(), tokens.clone(), shutdown.clone());
        let paths = Paths { any_for_admins: true, closed: data_dir.to_owned(), ..Paths::default() };
        let indexer = Indexer::new(
            store.clone(),
            grants,
            Announcer::new(nobody.clone(), tokens.clone()),
            Datasets::new(nobody.clone(), nobody, tokens),
            Settings::default(),
            paths,
        );
        let runners = crate::jobs::all(&indexer, &shutdown).into_iter();
        let runners = runners.map(|job| tokio::spawn(job.run)).collect();
        let tree = tempfile::tempdir().unwrap();
        let location = locate(&store, tree.path()).await;
        Self { indexer, store, tree, location, caller: role(), shutdown, runners }
    }

    /// Nobody runs jobs any more.
    async fn without_runners(&mut self) {
        self.shutdown.cancel();
        for runner in self.runners.drain(..) {
            runner.await.unwrap();
        }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.tree.path().join(relative)
    }

    fn write(&self, relative: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    async fn scan(&self) -> Job {
        self.scan_as(Mode::Metadata, false).await
    }

    async fn scan_as(&self, mode: Mode, accept_removals: bool) -> Job {
        let id = self.location.uuid.to_string();
        let job = self
            .indexer
            .scan_location(
                &self.caller,
                &id,
                ScanAsked { mode: Some(mode), accept_removals, archives: None },
            )
            .await
            .unwrap();
        self.ended(job).await
    }

    async fn ended(&self, id: uuid::Uuid) -> Job {
        let waiting = async {
            loop {
                let job = self.indexer.jobs().find(id).await.unwrap().unwrap();
                if job.state.is_final() {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("the job ends")
    }

    /// Scans, which must succeed, and compares the index with the tree.
    async fn scanned(&self) -> Job {
        let job = self.scan().await;
        assert_eq!(job.state, State::Completed, "{:?}", job.failure);
        self.assert_equal().await;
        job
    }

    async fn index(&self) -> BTreeMap<Vec<u8>, (i16, i64)> {
        let found = self.all(Query { with_hidden: true, ..Query::default() }).await;
        found
            .into_iter()
            .map(|found| (names::bytes(&found.path()), (found.kind, found.size)))
            .collect()
    }

    /// Everything that is found, over all pages.
    async fn all(&self, mut query: Query) -> Vec<Found> {
        query.locations = vec![self.location.id].into();
        let sort = Sort { by: SortBy::Number, descending: false };
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.search(&query, sort, after, 500).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some((crate::store::SortValue::Number(0), last.id));
            all.extend(page);
        }
    }

    /// What a caller is shown, on one page.
    async fn shown(&self) -> Vec<Shown> {
        let sort = Sort { by: SortBy::Number, descending: false };
        let (asked, query) = (QueryText::default(), Query::default());
        let page = self.indexer.search(&self.caller, &asked, query, sort, None, 1_000).await;
        page.unwrap().files
    }

    async fn assert_equal(&self) {
        let (index, tree) = (self.index().await, tree_of(self.tree.path()));
        let missing: Vec<_> =
            tree.iter().filter(|(path, is)| index.get(*path) != Some(is)).collect();
        let stale: Vec<_> = index.iter().filter(|(path, is)| tree.get(*path) != Some(is)).collect();
        assert!(missing.is_empty() && stale.is_empty(), "missing {missing:?}\nstale {stale:?}");
    }

    async fn now(&self) -> Location {
        self.store.location(self.location.id).await.unwrap().unwrap()
    }
}

async fn locate(store: &Store, path: &Path) -> Location {
    let identity = Root::open(path).unwrap().identity();
    let new = NewLocation {
        path: path.canonicalize().unwrap().to_str().unwrap().to_owned(),
        name: "tree".to_owned(),
        device: String::new(),
        owner: PrincipalId::new(),
        mode: Mode::Metadata,
        rules: Vec::new(),
        guard_percent: 50,
        root: Some((identity.dev.cast_signed(), identity.ino.cast_signed())),
        watched: false,
        archives: false,
    };
    let made = store.create_location(new).await.unwrap();
    store.mark_announced(made.id).await.unwrap();
    made
}

/// The tree by another way than the indexer's.
fn tree_of(root: &Path) -> BTreeMap<Vec<u8>, (i16, i64)> {
    fn below(dir: &Path, root: &Path, tree: &mut BTreeMap<Vec<u8>, (i16, i64)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let kind = meta.file_type();
            let number = if kind.is_file() {
                1
            } else if kind.is_dir() {
                2
            } else if kind.is_symlink() {
                3
            } else {
                use std::os::unix::fs::FileTypeExt;
                if kind.is_fifo() { 4 } else { 5 }
            };
            let size = if kind.is_dir() { 0 } else { i64::try_from(meta.len()).unwrap() };
            let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            tree.insert(relative, (number, size));
            if kind.is_dir() {
                below(&path, root, tree);
            }
        }
    }
    let mut tree = BTreeMap::new();
    below(root, root, &mut tree);
    tree
}

fn result(job: &Job, name: &str) -> i64 {
    *job.result.get(name).unwrap_or_else(|| panic!("{name} in {:?}", job.result))
}
