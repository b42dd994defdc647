//! Searches of every kind, the same on both databases and with and without an
//! index.

use api::query::Kind;

use super::*;

const COUNT: usize = 300;

/// Three hundred points with a payload of every kind.
async fn filled(house: &House, space: &str, metric: api::Metric) -> Vec<Vec<f32>> {
    let vectors = spread(COUNT, 8);
    house.create(space, 8, metric).await.unwrap();
    let kinds = ["cat", "dog", "bird"];
    let points: Vec<api::Point> = vectors
        .iter()
        .enumerate()
        .map(|(at, values)| {
            let words = format!(
                "{} number {at} {}",
                kinds[at % 3],
                if at == 7 { "rare" } else { "common" }
            );
            let payload = [
                ("kind", text(kinds[at % 3])),
                ("n", int(i64::try_from(at).unwrap())),
                ("words", text(&words)),
            ];
            point(&format!("i{at}"), values, &payload)
        })
        .collect();
    house.upsert(space, points).await.unwrap();
    vectors
}

fn distance(metric: api::Metric, a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    match metric {
        api::Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        api::Metric::L2 => a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt(),
        api::Metric::Ip => -dot(a, b),
        _ => a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum(),
    }
}

fn naive(
    metric: api::Metric,
    vectors: &[Vec<f32>],
    query: &[f32],
    passes: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut all: Vec<(usize, f32)> = vectors
        .iter()
        .enumerate()
        .filter(|(at, _)| passes(*at))
        .map(|(at, v)| (at, distance(metric, v, query)))
        .collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    all.into_iter().map(|(at, _)| format!("i{at}")).collect()
}

const METRICS: [api::Metric; 4] =
    [api::Metric::Cosine, api::Metric::L2, api::Metric::Ip, api::Metric::L1];

#[tokio::test]
async fn the_nearest_are_the_nearest_in_every_metric_and_from_rows_too() {
    everywhere(async |sql, dir| {
        let house = House::new(sql.clone(), dir).await;
        // Beside it one whose memory is too small for any index.
        let starved = House::beside(
            sql,
            dir,
            |settings| {
                settings.memory_bytes_max = 1;
                settings.index_dir = Some(dir.join("starved"));
                settings.postgres_index = crate::PostgresIndex::Never;
            },
            house.identity.clone(),
            house.catalog.clone(),
        )
        .await;
        starved.grant(&house.owner, Level::Owner).await;
        for (at, metric) in METRICS.into_iter().enumerate() {
            let space = format!("s{at}");
            let vectors = filled(&house, &space, metric).await;
            let query = &spread(COUNT + 1, 8)[COUNT];
            let filter = "kind = \"cat\" AND n < 200";
            for exact in [true, false] {
                let mut asked = near(&space, query, 10);
                asked.exact = exact;
                let all = naive(metric, &vectors, query, |_| true);
                let mut narrow = asked.clone();
                narrow.filter = filter.into();
                let some = naive(metric, &vectors, query, |at| at % 3 == 0 && at < 200);
                for who in [&house, &starved] {
                    let request = who.by(&house.owner, asked.clone());
                    let got = who.searches().search(request).await.unwrap().into_inner();
                    assert_eq!(items(&got), all[..10], "{metric:?}");
                    assert_eq!(got.explain.as_ref().unwrap().cardinality, 300);
                    let request = who.by(&house.owner, narrow.clone());
                    let got = who.searches().search(request).await.unwrap().into_inner();
                    assert_eq!(items(&got), some[..10], "{metric:?}");
                    assert_eq!(got.explain.unwrap().cardinality, 67);
                }
            }
        }
        let request = starved.by(&house.owner, near("s0", &[1.0; 8], 3));
        let got = starved.searches().search(request).await.unwrap().into_inner();
        let strategy = got.explain.unwrap().strategy;
        assert!(strategy.starts_with("rows:") || strategy.starts_with("postgres:"), "{strategy}");
    })
    .await;
}

#[tokio::test]
async fn thresholds_are_of_the_metric_and_short_answers_say_so() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::Cosine).await.unwrap();
        let points = vec![
            point("same", &[2.0, 0.0], &[]),
            point("half", &[1.0, 1.0], &[]),
            point("not", &[0.0, 3.0], &[]),
        ];
        house.upsert("s", points).await.unwrap();
        let mut asked = near("s", &[1.0, 0.0], 3);
        asked.threshold = Some(0.5);
        let got = house.search(asked.clone()).await.unwrap();
        assert_eq!(items(&got), ["same", "half"]);
        assert!(
            (got.hits[1].score - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-4,
            "{:?}",
            got.hits[1]
        );
        assert!((got.hits[1].distance.unwrap() - 0.292_893).abs() < 1e-4);
        let explain = got.explain.unwrap();
        assert!(explain.short && explain.cardinality == 3, "{explain:?}");
        asked.threshold = None;
        asked.distance_max = Some(0.1);
        assert_eq!(house.found(asked.clone()).await, ["same"]);
        asked.distance_max = Some(f64::NAN);
        refused(house.search(asked).await, Code::InvalidArgument);
        for k in [0, -1, 10_001] {
            let error =
                refused(house.search(near("s", &[1.0, 0.0], k)).await, Code::InvalidArgument);
            assert_eq!(error.field_name(), Some("k"));
        }
        for bad in [&[1.0][..], &[f32::NAN, 0.0], &[0.0, 0.0]] {
            let error = refused(house.search(near("s", bad, 1)).await, Code::InvalidArgument);
            assert_eq!(error.field_name(), Some("query.vector"), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn by_item_by_words_by_likes_and_dislikes() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let vectors = filled(&house, "s", api::Metric::Cosine).await;
        let by_item = house.found(asking("s", Kind::ItemId("i5".into()), 4)).await;
        let expected = naive(api::Metric::Cosine, &vectors, &vectors[5], |at| at != 5);
        assert_eq!(by_item, expected[..4]);
        refused(house.search(asking("s", Kind::ItemId("nobody".into()), 1)).await, Code::NotFound);
        let words =
            |text: &str| Kind::Match(api::TextMatch { column: "words".into(), text: text.into() });
        let got = house.search(asking("s", words("rare"), 5)).await.unwrap();
        assert_eq!(items(&got), ["i7"]);
        assert_eq!((got.hits[0].distance, got.explain.unwrap().strategy.as_str()), (None, "bm25"));
        let likes = api::Recommend {
            positive_item_ids: vec!["i5".into()],
            negative_item_ids: vec!["i6".into()],
            ..Default::default()
        };
        let target: Vec<f32> =
            vectors[5].iter().zip(&vectors[6]).map(|(yes, no)| 2.0 * yes - no).collect();
        let expected = naive(api::Metric::Cosine, &vectors, &target, |at| at != 5 && at != 6);
        assert_eq!(house.found(asking("s", Kind::Recommend(likes), 3)).await, expected[..3]);
        let nothing = Kind::Recommend(api::Recommend::default());
        refused(house.search(asking("s", nothing, 3)).await, Code::InvalidArgument);
        let positive_item_ids = vec!["i5".to_owned(); 1_001];
        let many = Kind::Recommend(api::Recommend { positive_item_ids, ..Default::default() });
        let error = refused(house.search(asking("s", many, 3)).await, Code::InvalidArgument);
        assert!(error.reason_is("RECOMMEND_TOO_LARGE"), "{error}");
        let text = Kind::Text("a cat".into());
        let error = refused(house.search(asking("s", text, 3)).await, Code::FailedPrecondition);
        assert!(error.reason_is("NO_EMBEDDER"), "{error}");
        let empty = api::SearchRequest { query: None, ..near("s", &[1.0; 8], 1) };
        refused(house.search(empty).await, Code::InvalidArgument);
    })
    .await;
}

#[tokio::test]
async fn hybrid_answers_hold_what_both_find() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let vectors = filled(&house, "s", api::Metric::Cosine).await;
        let part = |kind, filter: &str| api::Prefetch {
            query: Some(api::Query { kind: Some(kind) }),
            k: 20,
            filter: filter.into(),
            weight: 1.0,
        };
        let words = Kind::Match(api::TextMatch { column: "words".into(), text: "rare cat".into() });
        for method in [api::FusionMethod::Rrf, api::FusionMethod::Dbsf] {
            let fusion = api::Fusion {
                method: method.into(),
                prefetch: vec![
                    part(Kind::Vector(vector(&vectors[7])), ""),
                    part(words.clone(), ""),
                ],
            };
            let got = house.search(asking("s", Kind::Fusion(fusion), 10)).await.unwrap();
            assert_eq!(got.hits[0].item_id, "i7", "{method:?}");
            assert!(got.hits[0].distance.unwrap().abs() < 1e-5, "{:?}", got.hits[0]);
        }
        let narrow = api::Fusion {
            method: 0,
            prefetch: vec![part(Kind::Vector(vector(&vectors[7])), "kind = \"bird\"")],
        };
        let mut asked = asking("s", Kind::Fusion(narrow), 5);
        asked.filter = "n < 50".into();
        let expected =
            naive(api::Metric::Cosine, &vectors, &vectors[7], |at| at % 3 == 2 && at < 50);
        assert_eq!(house.found(asked).await, expected[..5]);
        let mut deep = Kind::Vector(vector(&vectors[7]));
        for _ in 0..6 {
            deep = Kind::Fusion(api::Fusion { method: 1, prefetch: vec![part(deep, "")] });
        }
        refused(house.search(asking("s", deep, 5)).await, Code::InvalidArgument);
        let wide = |of: Kind, parts: usize| {
            let prefetch = vec![part(of, ""); parts];
            Kind::Fusion(api::Fusion { method: 1, prefetch })
        };
        let many = wide(wide(Kind::ItemId("i7".into()), 8), 8);
        let got = house.search(asking("s", many.clone(), 5)).await.unwrap();
        assert_eq!(got.hits.len(), 5, "64 searches are within the bound");
        let error = refused(
            house.search(asking("s", wide(many.clone(), 2), 5)).await,
            Code::InvalidArgument,
        );
        assert!(error.reason_is("FUSION_TOO_LARGE"), "{error}");
        assert_eq!(error.field_name(), Some("query.fusion"));
        let batch = api::SearchBatchRequest {
            namespace: "ns".into(),
            space: "s".into(),
            queries: vec![api::Query { kind: Some(many) }; 63],
            k: Some(1),
            ..Default::default()
        };
        let outcome = house.searches().search_batch(house.own(batch)).await;
        let error = refused(outcome.map_err(ServiceError::from), Code::InvalidArgument);
        assert!(error.reason_is("BATCH_TOO_LARGE"), "{error}");
        let wrong = vec![part(Kind::ItemId("i7".into()), "nothing = 1")];
        let wrong = Kind::Fusion(api::Fusion { method: 1, prefetch: wrong });
        let error = refused(house.search(asking("s", wrong, 5)).await, Code::InvalidArgument);
        assert_eq!(error.field_name(), Some("query.fusion.prefetch[0].filter"), "{error}");
    })
    .await;
}

/// What lies between vectors of whole numbers is none, and no reason to refuse it.
#[tokio::test]
async fn likes_and_dislikes_of_small_whole_numbers_are_answered() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        for (space, metric) in [("l2", api::Metric::L2), ("cos", api::Metric::Cosine)] {
            let request = api::CreateSpaceRequest {
                namespace: "ns".into(),
                space: space.into(),
                dimension: 2,
                metric: metric.into(),
                element: api::Element::I8.into(),
                ..Default::default()
            };
            house.spaces().create_space(house.own(request)).await.unwrap();
            let points = [
                ("a", [1.0, 2.0]),
                ("b", [2.0, 2.0]),
                ("c", [100.0, 0.0]),
                ("d", [50.0, 0.0]),
                ("e", [127.0, 1.0]),
                ("f", [2.0, 3.0]),
            ];
            let points = points.map(|(item, values)| point(item, &values, &[]));
            house.upsert(space, points.to_vec()).await.unwrap();
            let likes = |yes: &[&str], no: &[&str]| {
                let items = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
                Kind::Recommend(api::Recommend {
                    positive_item_ids: items(yes),
                    negative_item_ids: items(no),
                    ..Default::default()
                })
            };
            assert_eq!(house.found(asking(space, likes(&["a", "b"], &[]), 1)).await, ["f"]);
            assert_eq!(house.found(asking(space, likes(&["c"], &["d"]), 1)).await, ["e"]);
        }
    })
    .await;
}

#[tokio::test]
async fn groups_facets_and_diversity() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let vectors = filled(&house, "s", api::Metric::L2).await;
        let mut grouped = near("s", &vectors[0], 3);
        grouped.grouping = Some(api::Grouping { column: "kind".into(), size: 2 });
        let got = house.search(grouped.clone()).await.unwrap();
        assert_eq!(got.hits.len(), 6);
        let groups: Vec<_> = got.hits.iter().map(|hit| hit.group.clone().unwrap()).collect();
        assert!(groups.chunks(2).all(|pair| pair[0] == pair[1]));
        assert!(groups[0] != groups[2] && groups[2] != groups[4] && groups[0] != groups[4]);
        let cats = naive(api::Metric::L2, &vectors, &vectors[0], |at| at % 3 == 0);
        assert_eq!(items(&got)[..2], cats[..2], "the nearest group first, whole");
        grouped.k = Some(4);
        assert!(house.search(grouped.clone()).await.unwrap().explain.unwrap().short);
        grouped.grouping = Some(api::Grouping { column: "nope".into(), size: 1 });
        refused(house.search(grouped).await, Code::InvalidArgument);

        let facets = api::FacetPointsRequest {
            namespace: "ns".into(),
            space: "s".into(),
            column: "kind".into(),
            filter: "n < 10".into(),
            ..Default::default()
        };
        let counted = house.searches().facet_points(house.own(facets)).await.unwrap().into_inner();
        assert_eq!((counted.cardinality, counted.distinct_values), (10, 3));
        assert_eq!(counted.facets[0].value, Some(text("cat")));
        assert_eq!(counted.facets.iter().map(|facet| facet.count).collect::<Vec<_>>(), [4, 3, 3]);

        house.create("d", 2, api::Metric::Cosine).await.unwrap();
        let points = vec![
            point("a", &[1.0, 0.02], &[]),
            point("twin", &[1.0, 0.021], &[]),
            point("other", &[1.0, -0.6], &[]),
        ];
        house.upsert("d", points).await.unwrap();
        let mut diverse = near("d", &[1.0, 0.0], 2);
        assert_eq!(house.found(diverse.clone()).await, ["a", "twin"]);
        diverse.diversity = Some(api::Diversity { lambda: 0.3, candidates: 3 });
        assert_eq!(house.found(diverse).await, ["a", "other"]);
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_its_single_searches() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let vectors = filled(&house, "s", api::Metric::Cosine).await;
        let queries: Vec<api::Query> = vectors[..7]
            .iter()
            .map(|values| api::Query { kind: Some(Kind::Vector(vector(values))) })
            .collect();
        let request = api::SearchBatchRequest {
            namespace: "ns".into(),
            space: "s".into(),
            queries,
            k: Some(5),
            filter: "n > 3".into(),
            with_payload: true,
            ..Default::default()
        };
        let got = house.searches().search_batch(house.own(request.clone())).await.unwrap();
        let results = got.into_inner().results;
        for (result, values) in results.iter().zip(&vectors) {
            let mut single = near("s", values, 5);
            single.filter = "n > 3".into();
            single.with_payload = true;
            let single = house.search(single).await.unwrap();
            assert_eq!(result.hits, single.hits);
            assert_eq!(result.hits[0].payload.len(), 3);
        }
        let mut bad = request;
        bad.queries[3] = api::Query { kind: Some(Kind::Vector(vector(&[1.0]))) };
        let outcome = house.searches().search_batch(house.own(bad)).await;
        let error = refused(outcome.map_err(ServiceError::from), Code::InvalidArgument);
        assert_eq!(error.field_name(), Some("queries[3].vector"));
    })
    .await;
}

#[tokio::test]
async fn bits_and_small_numbers_are_vectors_too() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        for metric in [api::Metric::Hamming, api::Metric::Jaccard] {
            let space = format!("bits-{}", metric.as_str_name().to_lowercase());
            let space = space.replace("metric_", "");
            house.create(&space, 10, metric).await.unwrap();
            let bits = |bits: &[u8]| api::Vector { values: Vec::new(), bits: bits.to_vec() };
            let of = |item: &str, b: &[u8]| api::Point {
                item_id: item.into(),
                vector: Some(bits(b)),
                ..Default::default()
            };
            let points = vec![of("near", &[0b111, 0]), of("far", &[0b1000_0001, 0b11])];
            house.upsert(&space, points).await.unwrap();
            let by_bits = asking(&space, Kind::Vector(bits(&[0b11, 0])), 2);
            let got = house.search(by_bits.clone()).await.unwrap();
            assert_eq!(items(&got), ["near", "far"], "{metric:?}");
            let expected = if metric == api::Metric::Hamming { 1.0 } else { 1.0 / 3.0 };
            assert!((got.hits[0].distance.unwrap() - expected).abs() < 1e-6);
            let ones = vector(&[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
            let by_values = house.search(asking(&space, Kind::Vector(ones), 2)).await.unwrap();
            assert_eq!(by_values.hits, got.hits);
            for bad in [&[0b11][..], &[0, 0b100]] {
                let outcome = house.search(asking(&space, Kind::Vector(bits(bad)), 1)).await;
                refused(outcome, Code::InvalidArgument);
            }
        }
        for (name, element) in [("half", api::Element::F16), ("bytes", api::Element::I8)] {
            let create = api::CreateSpaceRequest {
                namespace: "ns".into(),
                space: name.into(),
                dimension: 2,
                metric: api::Metric::L2.into(),
                element: element.into(),
                ..Default::default()
            };
            house.spaces().create_space(house.own(create)).await.unwrap();
            let points = vec![point("a", &[3.0, 4.0], &[]), point("b", &[-100.0, 0.0], &[])];
            house.upsert(name, points).await.unwrap();
            let got = house.search(near(name, &[0.0, 0.0], 2)).await.unwrap();
            assert_eq!(
                got.hits.iter().map(|hit| hit.distance.unwrap()).collect::<Vec<_>>(),
                [5.0, 100.0]
            );
        }
        refused(
            house.upsert("bytes", vec![point("x", &[0.5, 0.0], &[])]).await,
            Code::InvalidArgument,
        );
        refused(
            house.upsert("half", vec![point("x", &[1e9, 0.0], &[])]).await,
            Code::InvalidArgument,
        );
    })
    .await;
}

/// Beside a house one whose memory is too small for any index.
async fn starved(house: &House, sql: &SqlSettings, dir: &Path) -> House {
    let own = |settings: &mut Settings| {
        settings.memory_bytes_max = 1;
        settings.index_dir = Some(dir.join("starved"));
        settings.postgres_index = crate::PostgresIndex::Never;
    };
    let (identity, catalog) = (house.identity.clone(), house.catalog.clone());
    let starved = House::beside(sql.clone(), dir, own, identity, catalog).await;
    starved.grant(&house.owner, Level::Owner).await;
    starved
}

async fn by_both(houses: [&House; 2], asked: &api::SearchRequest) -> Vec<api::SearchResponse> {
    let mut answers = Vec::new();
    for house in houses {
        let request = house.by(&houses[0].owner, asked.clone());
        answers.push(house.searches().search(request).await.unwrap().into_inner());
    }
    answers
}

#[tokio::test]
async fn a_hit_of_exactly_the_threshold_is_one() {
    everywhere(async |sql, dir| {
        let house = House::new(sql.clone(), dir).await;
        let starved = starved(&house, &sql, dir).await;
        house.create("bits", 10, api::Metric::Hamming).await.unwrap();
        let bits = |ones: usize| {
            let values: Vec<f32> = (0..10).map(|at| if at < ones { 1.0 } else { 0.0 }).collect();
            point(&format!("{ones}"), &values, &[])
        };
        house.upsert("bits", (0..=10).map(bits).collect()).await.unwrap();
        for differ in 0..=10_u8 {
            let mut asked = near("bits", &[0.0; 10], 20);
            asked.threshold = Some(f64::from(10 - differ) / 10.0);
            for got in by_both([&house, &starved], &asked).await {
                assert_eq!(got.hits.len(), usize::from(differ) + 1, "{:?}", asked.threshold);
            }
        }
        for metric in METRICS {
            let space = format!("t{}", metric as i32);
            let vectors = filled(&house, &space, metric).await;
            let mut asked = near(&space, &vectors[3], 40);
            asked.exact = true;
            let all = house.search(asked.clone()).await.unwrap().hits;
            for at in [0, 7, 39] {
                asked.threshold = Some(all[at].score);
                let expected = all.iter().filter(|hit| hit.score >= all[at].score).count();
                for got in by_both([&house, &starved], &asked).await {
                    assert_eq!(got.hits.len(), expected, "{metric:?} {at}");
                    assert_eq!(got.hits[at].item_id, all[at].item_id);
                }
            }
        }
    })
    .await;
}

/// Many are equally far: which of them are answered is not a matter of who was written first.
#[tokio::test]
async fn of_equals_the_item_decides() {
    everywhere(async |sql, dir| {
        let house = House::new(sql.clone(), dir).await;
        let starved = starved(&house, &sql, dir).await;
        for (space, step) in [("up", 1), ("mixed", 7)] {
            house.create(space, 2, api::Metric::L2).await.unwrap();
            let at = |n: usize| (n * step) % 60;
            let same = |n: usize| point(&format!("i{:02}", at(n)), &[1.0, 1.0], &[]);
            house.upsert(space, (0..60).map(same).collect()).await.unwrap();
            house.upsert(space, vec![point("z", &[0.0, 0.0], &[])]).await.unwrap();
            let mut asked = near(space, &[0.0, 0.0], 5);
            asked.exact = true;
            for got in by_both([&house, &starved], &asked).await {
                assert_eq!(items(&got), ["z", "i00", "i01", "i02", "i03"], "{space}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_distance_bounds_vectors_alone() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        filled(&house, "s", api::Metric::Cosine).await;
        let words = Kind::Match(api::TextMatch { column: "words".into(), text: "common".into() });
        let part = api::Prefetch {
            query: Some(api::Query { kind: Some(words.clone()) }),
            ..Default::default()
        };
        let fusion = Kind::Fusion(api::Fusion { prefetch: vec![part], ..Default::default() });
        for kind in [words, fusion] {
            let mut asked = asking("s", kind, 3);
            house.search(asked.clone()).await.unwrap();
            asked.distance_max = Some(0.5);
            let error = refused(house.search(asked).await, Code::InvalidArgument);
            assert_eq!(error.field_name(), Some("distance_max"));
        }
    })
    .await;
}

/// One value has more points near than one search finds: the others are found all the same.
#[tokio::test]
async fn groups_are_found_behind_a_crowd() {
    let dir = tempfile::tempdir().unwrap();
    // The crowd is of the index, not of a database: one is enough.
    let sql = sql_store::testing::databases(dir.path()).await.unwrap().remove(0);
    let house = House::new(sql, dir.path()).await;
    house.create("s", 2, api::Metric::L2).await.unwrap();
    for batch in 0..11 {
        let crowd = (0..1_000).map(|n| {
            let values = [(batch * 1_000 + n) as f32 * 1e-6, 0.0];
            point(&format!("c{batch}-{n}"), &values, &[("kind", text("crowd"))])
        });
        house.upsert("s", crowd.collect()).await.unwrap();
    }
    let far = |item: &str, x: f32, kind: &str| point(item, &[x, 0.0], &[("kind", text(kind))]);
    let alone = point("no kind", &[0.5, 0.0], &[]);
    let others = vec![far("b", 3.0, "b"), far("a", 2.0, "a"), far("a2", 4.0, "a"), alone];
    house.upsert("s", others).await.unwrap();
    let mut asked = near("s", &[0.0, 0.0], 3);
    asked.grouping = Some(api::Grouping { column: "kind".into(), size: 2 });
    let got = house.search(asked.clone()).await.unwrap();
    assert_eq!(items(&got), ["c0-0", "c0-1", "a", "a2", "b"]);
    assert!(!got.explain.unwrap().short);
    asked.k = Some(4);
    assert!(house.search(asked).await.unwrap().explain.unwrap().short, "there are three");
}

#[tokio::test]
async fn values_are_counted_without_an_index_too() {
    everywhere(async |sql, dir| {
        let house = House::new(sql.clone(), dir).await;
        let starved = starved(&house, &sql, dir).await;
        filled(&house, "s", api::Metric::L2).await;
        let asked = |column: &str, filter: &str| api::FacetPointsRequest {
            namespace: "ns".into(),
            space: "s".into(),
            column: column.into(),
            filter: filter.into(),
            ..Default::default()
        };
        for filter in ["", "n < 100", "n > 290 AND kind = \"cat\""] {
            let mut answers = Vec::new();
            for who in [&house, &starved] {
                let request = who.by(&house.owner, asked("kind", filter));
                answers.push(who.searches().facet_points(request).await.unwrap().into_inner());
            }
            assert_eq!(answers[0], answers[1], "{filter}");
        }
        let request = starved.by(&house.owner, asked("absent", ""));
        let outcome = starved.searches().facet_points(request).await;
        refused(outcome.map_err(ServiceError::from), Code::InvalidArgument);
    })
    .await;
}

#[tokio::test]
async fn an_answer_has_a_size() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        let long = "x".repeat(60_000);
        let points = (0..20).map(|n| point(&format!("i{n}"), &[1.0, 2.0], &[("t", text(&long))]));
        house.upsert("s", points.collect()).await.unwrap();
        let query = near("s", &[0.0, 0.0], 1).query.unwrap();
        let batch = |queries: usize, k: i32, with_payload: bool| api::SearchBatchRequest {
            namespace: "ns".into(),
            space: "s".into(),
            queries: vec![query.clone(); queries],
            k: Some(k),
            with_payload,
            ..Default::default()
        };
        let ask = async |request| {
            let answer = house.searches().search_batch(house.own(request)).await;
            answer.map(tonic::Response::into_inner).map_err(ServiceError::from)
        };
        let error = refused(ask(batch(1_000, 10_000, false)).await, Code::InvalidArgument);
        assert_eq!(error.field_name(), Some("queries"), "{error}");
        let error = refused(ask(batch(60, 20, true)).await, Code::ResourceExhausted);
        assert!(error.reason_is("ANSWER_TOO_LARGE"), "{error}");
        assert_eq!(ask(batch(60, 20, false)).await.unwrap().results.len(), 60);
        assert_eq!(ask(batch(5, 20, true)).await.unwrap().results[4].hits.len(), 20);
    })
    .await;
}
