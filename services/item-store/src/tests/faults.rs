//! A full disk, a bucket that is away, one that does not answer: typed errors, and data
//! as it was.

use std::sync::Arc;

use serde_json::json;
use service_error::Code;

use super::unruly::{Mood, Moods};
use super::*;

/// Nothing is kept in memory, so that each read needs the bucket.
async fn house() -> (House, Moods) {
    let moods = Moods::new();
    let layer = moods.clone();
    let house = House::over(
        |settings| settings.cache_bytes = 1,
        move |blobs| blobs.through(|inner| layer.over(inner)),
    )
    .await;
    (house, moods)
}

/// In each mode a put that fails leaves everything as it was, lets go of its fence, and
/// can be made again.
async fn fails_whole(mood: Mood, code: Code, reason: &str) {
    let (house, moods) = house().await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..3_000)]).await.unwrap();
    let modes = ["append", "upsert", "overwrite"];
    for (at, mode) in (1..).zip(modes) {
        let before = house.get(&who, path("t")).await.unwrap();
        let put = || command(json!({"dataset": "vision/t", "mode": mode}));
        let new = [rows(at * 10_000..at * 10_000 + 500)];
        moods.set(mood);
        let error = house.put(&who, put(), &new).await.unwrap_err();
        assert_eq!((error.code(), error.reason_text()), (code, reason), "{mode}: {error}");
        let fresh = house.put(&who, path(&format!("new-{mode}")), &new).await.unwrap_err();
        assert_eq!(fresh.code(), code, "{fresh}");
        moods.set(Mood::Fine);
        assert_eq!(house.get(&who, path("t")).await.unwrap(), before, "{mode}");
        let absent = house.info(&who, path(&format!("new-{mode}"))).await.unwrap_err();
        assert_eq!(absent.code(), Code::NotFound);
        house.put(&who, put(), &new).await.unwrap();
    }
    assert_eq!(house.get(&who, path("t")).await.unwrap().num_rows(), 500, "overwritten");
    // Each was committed, or is given up soon.
    while house.catalog.open_uploads() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_nothing_is_lost() {
    fails_whole(Mood::Full, Code::ResourceExhausted, "OBJECT_STORE_FULL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_is_said_and_nothing_is_lost() {
    fails_whole(Mood::Away, Code::Unavailable, "OBJECT_STORE_AWAY").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_a_bucket_that_is_away_say_so() {
    let (house, moods) = house().await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..3_000)]).await.unwrap();
    moods.set(Mood::Away);
    let error = house.get(&who, path("t")).await.unwrap_err();
    assert_eq!((error.code(), error.reason_text()), (Code::Unavailable, "OBJECT_STORE_AWAY"));
    moods.set(Mood::Fine);
    assert_eq!(house.get(&who, path("t")).await.unwrap().num_rows(), 3_000);
}

/// While a bucket does not answer, what does not need it is answered; what waits for it
/// gets its rows once it answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_bucket_holds_up_only_what_needs_it() {
    let (house, moods) = house().await;
    let (house, who) = (Arc::new(house), Who::admin());
    house.put(&who, path("t"), &[rows(0..3_000)]).await.unwrap();
    moods.set(Mood::Slow);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let (house, who) = (Arc::clone(&house), who.clone());
        waiting.push(tokio::spawn(async move { house.get(&who, path("t")).await }));
    }
    let putting = {
        let (house, who) = (Arc::clone(&house), who.clone());
        tokio::spawn(async move { house.put(&who, path("t"), &[rows(5_000..5_100)]).await })
    };
    for _ in 0..20 {
        assert_eq!(house.info(&who, path("t")).await.unwrap().total_records, 3_000);
    }
    assert!(waiting.iter().all(|read| !read.is_finished()) && !putting.is_finished());
    moods.set(Mood::Fine);
    for read in waiting {
        assert!(read.await.unwrap().unwrap().num_rows() >= 3_000);
    }
    putting.await.unwrap().unwrap();
    assert_eq!(house.get(&who, path("t")).await.unwrap().num_rows(), 3_100);
}
