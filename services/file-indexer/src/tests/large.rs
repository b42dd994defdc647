//! Directories and locations that are more than one page.

use std::fs;

use super::*;
use crate::store::Log;

fn made(house: &House, count: i64) {
    fs::create_dir(house.path("many")).unwrap();
    for n in 0..count {
        fs::write(house.path(&format!("many/f{n:05}")), n.to_string()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_several_pages_is_followed() {
    on_each(|house| async move {
        const COUNT: i64 = 5_050;
        made(&house, COUNT);
        let job = house.scanned().await;
        assert_eq!(result(&job, "added"), COUNT + 1);
        assert_eq!((house.now().await.files, house.now().await.entries), (COUNT, COUNT + 1));
        let job = house.scanned().await;
        assert_eq!(result(&job, "unchanged_directories"), 2);

        // It moves with all that is in it: no file becomes another one.
        let ids = async || -> BTreeMap<String, i64> {
            let all = house.all(Query { with_hidden: true, ..Query::default() }).await;
            all.into_iter().map(|found| (found.name, found.id)).collect()
        };
        let mut before = ids().await;
        fs::rename(house.path("many"), house.path("more")).unwrap();
        let job = house.scanned().await;
        assert_eq!(["moved", "changed", "removed"].map(|name| result(&job, name)), [1, 0, 0]);
        let moved = before.remove("many");
        before.extend(moved.map(|id| ("more".to_owned(), id)));
        assert_eq!(ids().await, before);

        // Before, within, between and after the pages.
        for gone in ["f00000", "f04999", "f05000", "f05049"] {
            fs::remove_file(house.path(&format!("more/{gone}"))).unwrap();
        }
        for new in ["a", "f02500b", "z"] {
            house.write(&format!("more/{new}"), "new");
        }
        house.write("more/f03500", "changed");
        let job = house.scanned().await;
        let numbers = ["added", "changed", "missing", "removed", "unchanged_directories"];
        assert_eq!(numbers.map(|name| result(&job, name)), [3, 1, 4, 4, 1]);

        // It lost its last page.
        for n in 4_500..COUNT {
            drop(fs::remove_file(house.path(&format!("more/f{n:05}"))));
        }
        let job = house.scanned().await;
        assert_eq!(numbers.map(|name| result(&job, name)), [0, 0, 547, 547, 1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_of_several_chunks_are_all_hashed_and_told_as_one() {
    on_each(|house| async move {
        const COUNT: i64 = 4_150;
        made(&house, COUNT);
        house.scanned().await;
        let before = house.now().await.change_seq;
        let job = house.scan_as(Mode::Content, false).await;
        assert_eq!((job.state, result(&job, "hashed")), (State::Completed, COUNT));
        let all = house.all(Query { with_hidden: true, ..Query::default() }).await;
        for found in all.iter().filter(|found| found.kind == 1) {
            let bytes = fs::read(house.path(&found.path())).unwrap();
            let hash = &found.content.as_ref().unwrap().hash;
            assert_eq!(hash[..], blake3::hash(&bytes).as_bytes()[..], "{}", found.path());
        }
        // That most of it was hashed is no news a file.
        let log = house.store.changes(house.location.id, before, 10).await.unwrap();
        let now = house.now().await.change_seq;
        assert_eq!(log, Log::Reset(now));

        // That two were is.
        house.write("many/f00001", "one more");
        house.write("many/f04100", "one more");
        fs::write(house.path("many/f04101"), "other").unwrap();
        let job = house.scan_as(Mode::Content, false).await;
        assert_eq!((result(&job, "changed"), result(&job, "hashed") >= 3), (3, true));
        let log = house.store.changes(house.location.id, now, 10).await.unwrap();
        let Log::Changes(changes, _) = log else { panic!("{log:?}") };
        assert!(changes.len() >= 6, "{changes:?}");
    })
    .await;
}
