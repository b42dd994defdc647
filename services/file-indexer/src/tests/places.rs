//! Which paths may be locations.

use std::fs;

use service_error::Code;

use super::*;
use crate::app::CreateLocation;

fn create(path: &Path) -> CreateLocation {
    CreateLocation {
        path: path.to_str().unwrap().to_owned(),
        name: String::new(),
        mode: Mode::Metadata,
        rules: Vec::new(),
        guard_percent: 0,
        nested: false,
        watched: false,
        device: String::new(),
        archives: false,
    }
}

/// Identity does not answer in these tests: made, but not announced.
fn made<T: std::fmt::Debug>(outcome: Result<T, service_error::ServiceError>) {
    assert_eq!(outcome.unwrap_err().reason_text(), "GRANT_PENDING");
}

#[tokio::test(flavor = "multi_thread")]
async fn overlaps_are_refused_unless_they_are_meant() {
    on_each(|house| async move {
        fs::create_dir(house.path("in")).unwrap();
        let again = house.indexer.create_location(&house.caller, create(house.tree.path())).await;
        assert_eq!(again.unwrap_err().code(), Code::AlreadyExists);
        for path in [house.path("in"), house.tree.path().parent().unwrap().to_owned()] {
            let error =
                house.indexer.create_location(&house.caller, create(&path)).await.unwrap_err();
            assert_eq!(error.reason_text(), "LOCATION_OVERLAPS", "{}", path.display());
        }
        let nested = CreateLocation { nested: true, ..create(&house.path("in")) };
        made(house.indexer.create_location(&house.caller, nested).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_root_is_the_same_location() {
    on_each(|house| async move {
        house.write("a/f", "x");
        house.scanned().await;
        let ids = house.all(Query::default()).await.iter().map(|f| f.id).collect::<Vec<_>>();
        let elsewhere = house.tree.path().with_extension("renamed");
        fs::rename(house.tree.path(), &elsewhere).unwrap();
        let (location, relocated) =
            house.indexer.create_location(&house.caller, create(&elsewhere)).await.unwrap();
        assert!(relocated);
        assert_eq!(location.uuid, house.location.uuid);
        let job = house.scan().await;
        assert_eq!((job.state, result(&job, "added")), (State::Completed, 0));
        let after = house.all(Query::default()).await.iter().map(|f| f.id).collect::<Vec<_>>();
        assert_eq!(ids, after);
        fs::rename(&elsewhere, house.tree.path()).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_allowed_or_refused_before_it_is_looked_at() {
    let data = tempfile::tempdir().unwrap();
    let settings = sql_store::SqlSettings::sqlite(data.path());
    let house = House::new(Store::open(&settings).await.unwrap(), data.path()).await;
    let outside = tempfile::tempdir().unwrap();
    let inside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), inside.path().join("out")).unwrap();
    let user = Caller { role: Role::User, ..role() };
    let paths = Paths {
        allowed: vec![inside.path().to_owned()],
        any_for_admins: true,
        closed: data.path().to_owned(),
        ..Paths::default()
    };
    let indexer = house.indexer.with_paths(paths);
    let refused = async |caller: &Caller, path: PathBuf| {
        let error = indexer.create_location(caller, create(&path)).await.unwrap_err();
        error.reason_text().to_owned()
    };
    assert_eq!(refused(&user, outside.path().to_owned()).await, "PATH_NOT_ALLOWED");
    assert_eq!(refused(&user, "/nothing/such".into()).await, "PATH_NOT_ALLOWED");
    assert_eq!(refused(&user, inside.path().join("out")).await, "PATH_NOT_ALLOWED");
    assert_eq!(refused(&user, inside.path().join("nothing")).await, "LOCATION_OFFLINE");
    made(indexer.create_location(&user, create(inside.path())).await);
    // An admin may name any path but the data directory.
    assert_eq!(refused(&role(), data.path().to_owned()).await, "PATH_CLOSED");
    made(indexer.create_location(&role(), create(outside.path())).await);
    house.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_within_a_location_is_not_read() {
    let data = tempfile::tempdir().unwrap();
    let settings = sql_store::SqlSettings::sqlite(data.path());
    let mut house = House::new(Store::open(&settings).await.unwrap(), data.path()).await;
    let closed = house.path("secrets");
    house.write("secrets/admin-token", "x");
    house.write("open/file", "x");
    let paths = Paths { any_for_admins: true, closed, ..Paths::default() };
    let indexer = house.indexer.with_paths(paths);
    let shutdown = CancellationToken::new();
    house.without_runners().await;
    for job in crate::jobs::all(&indexer, &shutdown) {
        tokio::spawn(job.run);
    }
    let id = house.location.uuid.to_string();
    let job = indexer.scan_location(&house.caller, &id, Default::default()).await.unwrap();
    house.ended(job).await;
    let found = house.index().await;
    assert!(found.contains_key(&b"open/file"[..]));
    assert!(!found.contains_key(&b"secrets/admin-token"[..]));
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_location_is_forgotten_and_its_files_stay() {
    on_each(|house| async move {
        house.write("a/f", "x");
        house.scanned().await;
        let id = house.location.uuid.to_string();
        house.indexer.delete_location(&house.caller, &id).await.unwrap();
        let gone = house.indexer.get_location(&house.caller, &id).await.unwrap_err();
        assert_eq!(gone.code(), Code::NotFound);
        while house.store.forget_location(house.location.id).await.unwrap() {}
        assert!(house.index().await.is_empty());
        assert!(house.path("a/f").exists());
    })
    .await;
}
