//! The index follows the rows: tokens, other replicas, deletions, damage,
//! snapshots, budgets.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

const SOON: Duration = Duration::from_secs(20);

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "no {what} within {SOON:?}");
        tokio::task::yield_now().await;
    }
}

fn fresh(space: &str, values: &[f32], k: i32, kind: api::consistency::Kind) -> api::SearchRequest {
    let consistency = Some(api::Consistency { kind: Some(kind) });
    api::SearchRequest { consistency, ..near(space, values, k) }
}

fn strong(space: &str, values: &[f32], k: i32) -> api::SearchRequest {
    fresh(space, values, k, api::consistency::Kind::Strong(true))
}

async fn fill(house: &House, space: &str, count: usize) -> Vec<Vec<f32>> {
    let vectors = spread(count, 8);
    for (chunk, some) in vectors.chunks(500).enumerate() {
        let points = some
            .iter()
            .enumerate()
            .map(|(at, values)| {
                point(&format!("i{}", chunk * 500 + at), values, &[("n", int(at as i64))])
            })
            .collect();
        house.upsert(space, points).await.unwrap();
    }
    vectors
}

fn other_replica(dir: &Path) -> impl FnOnce(&mut Settings) {
    let index = dir.join("other");
    move |settings| settings.index_dir = Some(index)
}

#[tokio::test]
async fn a_deleted_point_never_comes_back() {
    everywhere(async |sql, dir| {
        let house = House::new(sql.clone(), dir).await;
        let (identity, catalog) = (house.identity.clone(), house.catalog.clone());
        let other = House::beside(sql, dir, other_replica(dir), identity, catalog).await;
        other.grant(&house.owner, Level::Owner).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        house.upsert("s", vec![point("keep", &[9.0, 9.0], &[])]).await.unwrap();
        for round in 0..20 {
            let item = format!("x{round}");
            let at = [round as f32, 0.0];
            let token = house.upsert("s", vec![point(&item, &at, &[])]).await.unwrap().token;
            let least = api::consistency::Kind::AtLeast(token);
            let request = other.by(&house.owner, fresh("s", &at, 1, least));
            let seen = other.searches().search(request).await.unwrap().into_inner();
            assert_eq!(items(&seen), [item.as_str()]);
            let gone = house.delete("s", &[&item]).await.token;
            // Here at once, whatever is asked for; there with the token, or strong.
            assert_eq!(house.found(near("s", &at, 1)).await, ["keep"], "{round}");
            for kind in
                [api::consistency::Kind::AtLeast(gone), api::consistency::Kind::Strong(true)]
            {
                let request = other.by(&house.owner, fresh("s", &at, 1, kind));
                let seen = other.searches().search(request).await.unwrap().into_inner();
                assert_eq!(items(&seen), ["keep"], "{round}");
            }
        }
        let begin = tokio::time::Instant::now();
        house.upsert("s", vec![point("late", &[0.0, 0.0], &[])]).await.unwrap();
        eventually("sight of another replica's write", async || {
            let request = other.by(&house.owner, near("s", &[0.0, 0.0], 1));
            let seen = other.searches().search(request).await.unwrap().into_inner();
            (items(&seen) == ["late"]).then_some(())
        })
        .await;
        assert!(begin.elapsed() < Duration::from_secs(5));
        let unknown =
            house.search(fresh("s", &[0.0, 0.0], 1, api::consistency::Kind::AtLeast(999)));
        assert!(refused(unknown.await, Code::InvalidArgument).reason_is("TOKEN_UNKNOWN"));
    })
    .await;
}

#[tokio::test]
async fn heads_are_sealed_merged_and_found_again_after_a_restart() {
    everywhere(async |sql, dir| {
        let small = |settings: &mut Settings| settings.head_rows_max = 300;
        let house = House::with(sql.clone(), dir, small).await;
        house.create("s", 8, api::Metric::Cosine).await.unwrap();
        house.found(near("s", &[1.0; 8], 1)).await;
        let vectors = fill(&house, "s", 2_000).await;
        let stats = eventually("a snapshot", async || {
            let stats = house.stats("s").await;
            (stats.segments > 0 && stats.snapshot_token > 1_500).then_some(stats)
        })
        .await;
        assert_eq!((stats.state.as_str(), stats.points, stats.token), ("ready", 2_000, 2_000));
        let expected: Vec<_> = {
            let mut found = Vec::new();
            for values in &vectors[..20] {
                let mut asked = strong("s", values, 10);
                asked.exact = true;
                found.push(house.found(asked).await);
            }
            found
        };
        house.delete("s", &["i3"]).await;
        let whole = house.rebuild("s").await.unwrap();
        assert_eq!((whole.segments, whole.segment_points, whole.head_points), (1, 1_999, 0));
        let (identity, catalog) = (house.identity.clone(), house.catalog.clone());
        // The same files, as after a death; and a replica that has none and takes the object store's.
        let objects = dir.join("objects");
        assert!(objects.exists());
        for change in [None, Some(other_replica(dir))] {
            let own = dir.join("index");
            let restarted = House::beside(
                sql.clone(),
                dir,
                |settings| {
                    settings.head_rows_max = 300;
                    settings.index_dir = Some(own);
                    if let Some(change) = change {
                        change(settings);
                    }
                },
                identity.clone(),
                catalog.clone(),
            )
            .await;
            restarted.grant(&house.owner, Level::Owner).await;
            for (values, expected) in vectors[..20].iter().zip(&expected) {
                let mut asked = strong("s", values, 10);
                asked.exact = true;
                let request = restarted.by(&house.owner, asked);
                let got = restarted.searches().search(request).await.unwrap().into_inner();
                let expected: Vec<_> = expected.iter().filter(|item| *item != "i3").collect();
                let got: Vec<String> = items(&got);
                assert_eq!(got.iter().collect::<Vec<_>>()[..9], expected[..9]);
            }
            let request = api::GetSpaceStatsRequest {
                namespace: "ns".into(),
                space: "s".into(),
                ..Default::default()
            };
            let request = restarted.by(&house.owner, request);
            let stats = restarted.spaces().get_space_stats(request).await.unwrap().into_inner();
            assert_eq!(stats.index.unwrap().segments, 1, "from the snapshot, not from rows");
        }
    })
    .await;
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path(), ending));
        } else if entry.file_name().to_string_lossy().ends_with(ending) {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test]
async fn damage_is_seen_answered_from_rows_and_mended() {
    everywhere(async |sql, dir| {
        let house = House::new(sql.clone(), dir).await;
        house.create("s", 8, api::Metric::L2).await.unwrap();
        let vectors = fill(&house, "s", 600).await;
        house.found(near("s", &vectors[0], 1)).await;
        house.rebuild("s").await.unwrap();
        let (identity, catalog) = (house.identity.clone(), house.catalog.clone());
        for (place, share, cut) in [
            ("index", 3, false),
            ("index", 2, true),
            ("index", 2, false),
            ("objects", 2, false),
            ("objects", 3, true),
        ] {
            for path in files(&dir.join(place), ".seg") {
                let mut bytes = fs::read(&path).unwrap();
                let at = bytes.len() / share;
                if cut {
                    bytes.truncate(at);
                } else {
                    bytes[at] ^= 0xff;
                }
                // A new file: what is mapped now stays as it is.
                fs::remove_file(&path).unwrap();
                fs::write(&path, bytes).unwrap();
            }
            let restarted =
                House::beside(sql.clone(), dir, |_| {}, identity.clone(), catalog.clone()).await;
            restarted.grant(&house.owner, Level::Owner).await;
            for (at, values) in vectors.iter().enumerate().take(600).step_by(37) {
                let request = restarted.by(&house.owner, strong("s", values, 1));
                let got = restarted.searches().search(request).await.unwrap().into_inner();
                assert_eq!(items(&got), [format!("i{at}")]);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_too_old_to_follow_is_made_anew() {
    everywhere(async |sql, dir| {
        let house = House::with(sql.clone(), dir, |settings| settings.change_seconds = 0).await;
        house.create("s", 8, api::Metric::L2).await.unwrap();
        let vectors = fill(&house, "s", 100).await;
        house.found(near("s", &vectors[0], 1)).await;
        house.rebuild("s").await.unwrap();
        let (identity, catalog) = (house.identity.clone(), house.catalog.clone());
        let other = House::beside(sql.clone(), dir, other_replica(dir), identity, catalog).await;
        other.grant(&house.owner, Level::Owner).await;
        let request = other.by(&house.owner, strong("s", &vectors[5], 1));
        assert_eq!(items(&other.searches().search(request).await.unwrap().into_inner()), ["i5"]);
        house.app.forget_changes().await.unwrap();
        // Changes that a snapshot needs are kept.
        house.delete("s", &["i5"]).await;
        house.app.forget_changes().await.unwrap();
        let request = other.by(&house.owner, strong("s", &vectors[5], 1));
        let got = items(&other.searches().search(request).await.unwrap().into_inner());
        assert_ne!(got, ["i5"]);
    })
    .await;
}

#[tokio::test]
async fn the_budget_is_kept_by_letting_go_what_was_used_longest_ago() {
    everywhere(async |sql, dir| {
        let house = House::with(sql, dir, |settings| settings.memory_bytes_max = 200_000).await;
        for space in ["a", "b", "c"] {
            house.create(space, 8, api::Metric::L2).await.unwrap();
            let vectors = fill(&house, space, 300).await;
            assert_eq!(house.found(near(space, &vectors[7], 1)).await, ["i7"]);
        }
        let stats = house.stats("c").await;
        assert_eq!(stats.state, "ready");
        assert!(stats.memory_used_bytes <= 200_000, "{stats:?}");
        assert_eq!(house.stats("a").await.state, "cold", "it was let go");
        house.create("big", 8, api::Metric::L2).await.unwrap();
        let vectors = fill(&house, "big", 1_500).await;
        let got = house.search(near("big", &vectors[7], 1)).await.unwrap();
        assert_eq!(items(&got), ["i7"], "its rows are searched");
        assert_eq!(house.stats("big").await.state, "over_budget");
        let error = refused(house.rebuild("big").await, Code::ResourceExhausted);
        assert!(error.reason_is("INDEX_OVER_BUDGET"), "{error}");
    })
    .await;
}

/// What is written to an index that is in memory counts too.
#[tokio::test]
async fn an_index_that_outgrows_the_budget_is_let_go() {
    everywhere(async |sql, dir| {
        let house = House::with(sql, dir, |settings| settings.memory_bytes_max = 60_000).await;
        house.create("s", 8, api::Metric::L2).await.unwrap();
        assert!(house.found(near("s", &[0.0; 8], 1)).await.is_empty());
        assert_eq!(house.stats("s").await.state, "ready");
        let vectors = fill(&house, "s", 1_500).await;
        eventually("an index that is let go", async || {
            (house.stats("s").await.state == "over_budget").then_some(())
        })
        .await;
        assert!(house.stats("s").await.memory_used_bytes <= 60_000);
        assert_eq!(house.found(strong("s", &vectors[7], 1)).await, ["i7"], "its rows are searched");
    })
    .await;
}

/// Nothing of the index that serves is believed.
#[tokio::test]
async fn a_rebuild_reads_the_rows_again() {
    use std::os::unix::fs::FileExt as _;
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 8, api::Metric::L2).await.unwrap();
        let vectors = fill(&house, "s", 600).await;
        house.found(near("s", &vectors[0], 1)).await;
        house.rebuild("s").await.unwrap();
        let segments = files(&dir.join("index"), ".seg");
        // In use, as a disk would do it: rows and links, but no head.
        let segment = fs::OpenOptions::new().write(true).open(&segments[0]).unwrap();
        let length = segment.metadata().unwrap().len();
        segment.write_all_at(&vec![0x3d; length as usize - 4_096], 4_096).unwrap();
        let whole = house.rebuild("s").await.unwrap();
        assert_eq!((whole.segments, whole.segment_points, whole.head_points), (1, 600, 0));
        assert_ne!(files(&dir.join("index"), ".seg"), segments);
        for (at, values) in vectors.iter().enumerate() {
            let got = house.search(near("s", values, 1)).await.unwrap();
            assert_eq!(items(&got), [format!("i{at}")]);
            assert!(!got.explain.unwrap().strategy.starts_with("rows"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_rebuild_is_disturbed_by_nobody() {
    everywhere(async |sql, dir| {
        let house = House::with(sql, dir, |settings| settings.head_rows_max = 50).await;
        house.create("s", 8, api::Metric::L2).await.unwrap();
        let vectors = fill(&house, "s", 400).await;
        house.found(near("s", &vectors[0], 1)).await;
        let upkeep = async || {
            for _ in 0..10 {
                house.app.upkeep().await;
            }
        };
        for round in 0..8 {
            let writes = async {
                for at in 0..30 {
                    let (item, values) = (format!("w{round}-{at}"), [round as f32, at as f32]);
                    let values = [&values[..], &[9.0; 6]].concat();
                    house.upsert("s", vec![point(&item, &values, &[])]).await.unwrap();
                    assert_eq!(house.found(near("s", &values, 1)).await, [item]);
                }
            };
            let (one, other, (), ()) =
                tokio::join!(house.rebuild("s"), house.rebuild("s"), upkeep(), writes);
            assert_eq!(
                (one.unwrap().state, other.unwrap().state),
                ("ready".into(), "ready".into())
            );
        }
        let whole = house.rebuild("s").await.unwrap();
        assert_eq!((whole.segments, whole.segment_points, whole.head_points), (1, 640, 0));
    })
    .await;
}
