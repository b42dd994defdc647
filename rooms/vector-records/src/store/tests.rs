//! The schema up and down, and Postgres' own order of distances.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use ann::{Element, Metric, Settings, Vector};

use super::*;
use crate::model::{NewSpace, Owner, Space};

async fn stores() -> (tempfile::TempDir, Vec<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let mut stores = Vec::new();
    for sql in sql_store::testing::databases(dir.path()).await.unwrap() {
        let objects = format!("file://{}", dir.path().join("objects").display());
        let store = Store::open(&sql, &objects).await.unwrap();
        store.migrate().await.unwrap();
        stores.push(store);
    }
    (dir, stores)
}

#[tokio::test]
async fn migrations_run_up_down_and_up() {
    let (_dir, stores) = stores().await;
    for store in stores {
        store.revert(None).await.unwrap();
        store.migrate().await.unwrap();
        store.migrate().await.unwrap();
        store.ping().await.unwrap();
    }
}

async fn space_of(store: &Store, name: &str, vectors: Settings) -> Space {
    let owner = Owner {
        namespace: uuid::Uuid::from_u128(1),
        dataset: None,
        namespace_name: "ns".into(),
        dataset_name: String::new(),
        public: false,
    };
    let new = NewSpace { name: name.into(), vectors, embedder: String::new() };
    store.create_space(&owner, &new, uuid::Uuid::nil()).await.unwrap()
}

fn stored(settings: &Settings, at: usize) -> Vec<u8> {
    let n = at as f32;
    let floats: Vec<f32> =
        (0..4).map(|axis| ((n * (axis as f32 + 1.3)) % 17.0).round() - 8.5).collect();
    let whole: Vec<f32> = floats.iter().map(|value| value.trunc()).collect();
    let stored = match settings.element() {
        Element::Bit => settings.store(Vector::Bits(&[u8::try_from(at % 16).unwrap()])),
        Element::I8 => settings.store(Vector::Floats(&whole)),
        _ => settings.store(Vector::Floats(&floats)),
    };
    stored.unwrap().bytes().to_vec()
}

/// What both databases hold is the same vector, and Postgres' operators order it as we do.
#[tokio::test]
async fn vectors_survive_the_database_and_postgres_orders_them_as_we_do() {
    let (_dir, stores) = stores().await;
    for store in stores {
        for (metric, element) in [
            (Metric::Cosine, Element::F32),
            (Metric::L2, Element::F16),
            (Metric::InnerProduct, Element::F32),
            (Metric::L1, Element::I8),
            (Metric::Hamming, Element::Bit),
            (Metric::Jaccard, Element::Bit),
        ] {
            let settings = Settings::new(metric, element, 4).unwrap();
            let space = space_of(&store, &format!("{metric:?}-{element:?}"), settings).await;
            let points: Vec<NewPoint> = (0..60)
                .map(|at| NewPoint {
                    item_id: format!("i{at}"),
                    vector: stored(&settings, at),
                    payload: Vec::new(),
                })
                .collect();
            store.upsert(&space, &points, &Default::default(), "").await.unwrap();
            let rows = store.points_after_number(&space, 0, 100).await.unwrap();
            assert_eq!(rows.len(), 60);
            for (row, point) in rows.iter().zip(&points) {
                assert_eq!((&row.item_id, &row.vector), (&point.item_id, &point.vector));
            }
            if !store.orders_by_distance() {
                continue;
            }
            let query = stored(&settings, 11);
            let (numbers, exact) = store.nearest(&space, &query, 10, true).await.unwrap();
            assert!(exact);
            let distance = |number: u32| {
                let of = |bytes: &[u8]| crate::model::OwnedVector::of_stored(&settings, bytes);
                let row = &rows[number as usize - 1];
                settings.distance(of(&query).as_vector(), of(&row.vector).as_vector()).unwrap()
            };
            let mut best: Vec<f32> = (1..=60).map(distance).collect();
            best.sort_by(f32::total_cmp);
            let found: Vec<f32> = numbers.iter().map(|number| distance(*number)).collect();
            for (found, best) in found.iter().zip(&best) {
                assert!((found - best).abs() < 1e-3, "{metric:?} {element:?}: {found} {best}");
            }
        }
    }
}

#[tokio::test]
async fn pages_are_of_one_moment() {
    let (_dir, stores) = stores().await;
    for store in stores {
        let settings = Settings::new(Metric::L2, Element::F32, 4).unwrap();
        let space = space_of(&store, "s", settings).await;
        let write = async |items: std::ops::Range<usize>| {
            let point = |at| NewPoint {
                item_id: format!("i{at}"),
                vector: stored(&settings, at),
                payload: Vec::new(),
            };
            let points: Vec<NewPoint> = items.map(point).collect();
            store.upsert(&space, &points, &Default::default(), "").await.unwrap();
        };
        write(0..5).await;
        let mut pages = store.pages(&space, 2).await.unwrap();
        let mut found: Vec<u32> = Vec::new();
        while let Some(rows) = pages.next().await.unwrap() {
            assert!(rows.len() <= 2);
            found.extend(rows.iter().map(|row| row.number));
            // Each takes a number that is greater than all before.
            write(0..6).await;
        }
        assert_eq!(found, [1, 2, 3, 4, 5]);
        // Whoever leaves in the middle holds no connection: there are not so many.
        for _ in 0..40 {
            let mut pages = store.pages(&space, 4).await.unwrap();
            assert_eq!(pages.next().await.unwrap().map(|rows| rows.len()), Some(4));
        }
        let mut pages = store.pages(&space, 10).await.unwrap();
        assert_eq!(pages.next().await.unwrap().map(|rows| rows.len()), Some(6));
        assert!(pages.next().await.unwrap().is_none());
    }
}

/// pgvector calls what has no bits as far from nothing as from everything else.
#[tokio::test]
async fn nothing_is_near_to_nothing() {
    let (_dir, stores) = stores().await;
    for store in stores.into_iter().filter(Store::orders_by_distance) {
        let settings = Settings::new(Metric::Jaccard, Element::Bit, 4).unwrap();
        let space = space_of(&store, "s", settings).await;
        let points: Vec<NewPoint> = (0..60)
            .map(|at| NewPoint {
                item_id: format!("i{at}"),
                vector: stored(&settings, at),
                payload: Vec::new(),
            })
            .collect();
        store.upsert(&space, &points, &Default::default(), "").await.unwrap();
        for indexed in [false, true] {
            if indexed {
                assert!(store.make_sql_index(&space).await.unwrap());
            }
            let space = store.space(space.id).await.unwrap().unwrap();
            let (mut numbers, exact) =
                store.nearest(&space, &stored(&settings, 0), 4, false).await.unwrap();
            numbers.sort_unstable();
            assert_eq!((numbers, exact), (vec![1, 17, 33, 49], true));
        }
    }
}

#[tokio::test]
async fn the_index_of_a_space_has_its_metrics_operators_and_is_used() {
    let (_dir, stores) = stores().await;
    for store in stores.into_iter().filter(Store::orders_by_distance) {
        for (metric, element) in [
            (Metric::Cosine, Element::F32),
            (Metric::L2, Element::F16),
            (Metric::InnerProduct, Element::F32),
            (Metric::L1, Element::F32),
            (Metric::Hamming, Element::Bit),
        ] {
            let settings = Settings::new(metric, element, 4).unwrap();
            let name = format!("x-{metric:?}");
            let space = space_of(&store, &name, settings).await;
            let points: Vec<NewPoint> = (0..200)
                .map(|at| NewPoint {
                    item_id: format!("i{at}"),
                    vector: stored(&settings, at),
                    payload: Vec::new(),
                })
                .collect();
            store.upsert(&space, &points, &Default::default(), "").await.unwrap();
            assert!(store.make_sql_index(&space).await.unwrap());
            let space = store.space(space.id).await.unwrap().unwrap();
            assert!(space.sql_indexed);
            let query = stored(&settings, 11);
            let plan = store.nearest_plan(&space, &query).await.unwrap();
            assert!(plan.contains(&super::nearest::index_name(space.id)), "{metric:?}: {plan}");
            let (found, exact) = store.nearest(&space, &query, 10, false).await.unwrap();
            assert_eq!((found.len(), exact), (10, false));
            let gone: Vec<String> = (0..150).map(|at| format!("i{at}")).collect();
            store.delete_points(&space, &gone).await.unwrap();
            let space = store.space(space.id).await.unwrap().unwrap();
            let (found, _) = store.nearest(&space, &query, 60, false).await.unwrap();
            assert_eq!(found.len(), 50, "all that there are");
        }
        let wide = Settings::new(Metric::L2, Element::F32, 2_001).unwrap();
        let wide = space_of(&store, "wide", wide).await;
        assert!(!store.make_sql_index(&wide).await.unwrap(), "beyond pgvector's dimensions");
    }
}
