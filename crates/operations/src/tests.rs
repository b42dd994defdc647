//! Samples and statistics on every database that this machine offers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use sea_orm_migration::prelude::ConnectionTrait;
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use sql_store::{SqlStore, SystemMetrics, testing};

use super::*;
use crate::store::{series, statistics};

struct Sampled;
impl MigratorTrait for Sampled {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(SystemMetrics)]
    }
}

async fn on_each<F: Future<Output = ()>>(case: impl Fn(Database) -> F) {
    let dir = tempfile::tempdir().unwrap();
    for sql in testing::databases(dir.path()).await.unwrap() {
        let store = SqlStore::open(&sql, "sample").await.unwrap();
        store.migrate::<Sampled>().await.unwrap();
        case(Database::new("sample", &sql, vec!["system_metrics_0001".to_owned()])).await;
    }
}

const MINUTE: i64 = 60_000_000;

#[tokio::test]
async fn samples_become_points_and_old_ones_go() {
    on_each(|database| async move {
        let week = i64::try_from(HISTORY.as_micros()).unwrap();
        // A whole ten minutes, so that the points begin where they are expected.
        let now = 3_000_000 * 10 * MINUTE + 10 * week;
        let now = now - now % (10 * MINUTE);
        let sample = |value| [Sample { metric: "rpc.requests", value }];
        store::keep(&database, "a", "sample", now - week - MINUTE, &sample(99.0)).await.unwrap();
        for (instance, at, value) in
            [("a", 0, 1.0), ("b", 0, 3.0), ("a", MINUTE, 5.0), ("a", 10 * MINUTE, 7.0)]
        {
            store::keep(&database, instance, "sample", now + at, &sample(value)).await.unwrap();
        }
        let step = Duration::from_secs(600);
        let all = series(&database, 0, step, &[]).await.unwrap();
        assert_eq!(all.len(), 1, "the sample of last week is gone: {all:?}");
        let points = &all[0].points;
        assert_eq!(points.len(), 2, "{points:?}");
        let first = &points[0];
        assert_eq!((first.at, first.count, first.sum), (now, 3, 9.0));
        assert_eq!((first.min, first.mean, first.max), (1.0, 3.0, 5.0));
        assert_eq!(points[1].at, now + 10 * MINUTE);
        let wanted = ["rpc.requests".to_owned()];
        assert_eq!(
            series(&database, now + MINUTE, step, &wanted).await.unwrap()[0].points.len(),
            2
        );
        assert!(series(&database, 0, step, &["other".to_owned()]).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn statistics_count_rows_and_bytes() {
    on_each(|database| async move {
        let sample = [Sample { metric: "a", value: 1.0 }, Sample { metric: "b", value: 2.0 }];
        store::keep(&database, "a", "sample", now_micros(), &sample).await.unwrap();
        let found = statistics(&database, true).await.unwrap();
        let table = found.tables.iter().find(|table| table.name == "system_metrics").unwrap();
        assert_eq!((table.rows, table.is_estimate), (2, false));
        assert!(found.bytes > 0 && !found.version.is_empty(), "{found:?}");
        assert_eq!(found.applied, ["system_metrics_0001"]);
    })
    .await;
}

#[test]
fn what_happened_between_two_counts() {
    let before = Counted {
        requests: 10.0,
        seconds: 1.0,
        durations: vec![(0.1, 10), (1.0, 10), (f64::INFINITY, 10)],
        cpu_seconds: 5.0,
        ..Counted::default()
    };
    let now = Counted {
        requests: 110.0,
        failures: 2.0,
        seconds: 31.0,
        durations: vec![(0.1, 60), (1.0, 110), (f64::INFINITY, 110)],
        cpu_seconds: 35.0,
        ..before.clone()
    };
    let rows = rows_of(&before, &now, Duration::from_secs(60));
    let of = |name: &str| rows.iter().find(|row| row.metric == name).unwrap().value;
    assert_eq!((of("rpc.requests"), of("rpc.failures")), (100.0, 2.0));
    assert_eq!((of("rpc.seconds_mean"), of("process.cpu_cores")), (0.3, 0.5));
    assert!((of("rpc.seconds_p50") - 0.1).abs() < 1e-9, "{rows:?}");
    assert!(of("rpc.seconds_p99") > 0.9 && of("rpc.seconds_p99") < 1.0, "{rows:?}");
    // A restart: the counters begin anew.
    let restarted = Counted { requests: 3.0, ..Counted::default() };
    let rows = rows_of(&now, &restarted, Duration::from_secs(60));
    assert_eq!(rows[0], Sample { metric: "rpc.requests", value: 3.0 });
    // Nobody called: no time is made up.
    assert!(
        rows_of(&now, &now, Duration::from_secs(60))
            .iter()
            .all(|row| !row.metric.contains("seconds_"))
    );
}

#[tokio::test]
async fn tidying_gives_space_back_and_loses_nothing() {
    on_each(|database| async move {
        let week = i64::try_from(HISTORY.as_micros()).unwrap();
        let now = now_micros();
        let store = SqlStore::open(&database.sql, database.schema).await.unwrap();
        let fill = async || {
            let sql = format!(
                "INSERT INTO system_metrics (at, instance, component, metric, value)
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                 SELECT {} - i, 'a', 'sample', 'm', 1.0 FROM n",
                now - week - MINUTE
            );
            let tx = store.begin().await.unwrap();
            tx.execute_unprepared(&sql).await.unwrap();
            tx.commit().await.unwrap();
        };
        fill().await;
        let before = store::bytes(&database).await.unwrap();
        // A newer sample takes the old ones away; their space stays.
        let one = [Sample { metric: "m", value: 2.0 }];
        store::keep(&database, "a", "sample", now, &one).await.unwrap();
        store::tidy(&database, false).await.unwrap();
        let tidied = store::tidy(&database, true).await.unwrap();
        let found = statistics(&database, true).await.unwrap();
        let table = found.tables.iter().find(|table| table.name == "system_metrics").unwrap();
        assert_eq!(table.rows, 1);
        assert!(table.bytes > 0 && table.bytes <= found.bytes, "{table:?} of {}", found.bytes);
        let after = store::bytes(&database).await.unwrap();
        // Postgres keeps the room for the next rows, and knows again how many there are.
        if database.sql.database_url.is_none() {
            assert!(after < before / 2.0, "{before} bytes, then {after}: {tidied:?}");
        } else {
            let found = statistics(&database, false).await.unwrap();
            let table = found.tables.iter().find(|table| table.name == "system_metrics").unwrap();
            assert_eq!((table.rows, table.is_estimate), (1, true));
        }
        assert_eq!(series(&database, 0, Duration::from_secs(600), &[]).await.unwrap().len(), 1);
    })
    .await;
}
