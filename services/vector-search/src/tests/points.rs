//! Points: written whole or not at all, read, scrolled, counted.

use super::*;

async fn three(house: &House) {
    house.create("s", 2, api::Metric::L2).await.unwrap();
    let points = vec![
        point("a", &[1.0, 0.0], &[("kind", text("cat")), ("n", int(1))]),
        point("b", &[0.0, 1.0], &[("kind", text("dog")), ("n", int(2))]),
        point("c", &[2.0, 2.0], &[("kind", text("cat"))]),
    ];
    let written = house.upsert("s", points).await.unwrap();
    assert_eq!((written.token, written.inserted, written.updated), (3, 3, 0));
}

async fn count(house: &House, filter: &str) -> i64 {
    let request = api::CountPointsRequest {
        namespace: "ns".into(),
        space: "s".into(),
        filter: filter.into(),
        ..Default::default()
    };
    house.points().count_points(house.own(request)).await.unwrap().into_inner().count
}

#[tokio::test]
async fn points_come_back_as_they_were_written() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        three(&house).await;
        let get = |with_vector| api::GetPointsRequest {
            namespace: "ns".into(),
            space: "s".into(),
            item_ids: vec!["c".into(), "a".into(), "nobody".into()],
            with_vector,
            ..Default::default()
        };
        let got = house.points().get_points(house.own(get(true))).await.unwrap().into_inner();
        let expected = point("a", &[1.0, 0.0], &[("kind", text("cat")), ("n", int(1))]);
        assert_eq!((got.points.len(), &got.points[0]), (2, &expected));
        let bare = house.points().get_points(house.own(get(false))).await.unwrap().into_inner();
        assert_eq!(bare.points[0].vector, None);
        let again = vec![point("a", &[5.0, 5.0], &[])];
        let written = house.upsert("s", again).await.unwrap();
        assert_eq!((written.token, written.inserted, written.updated), (4, 0, 1));
        assert_eq!(count(&house, "").await, 3);
        let gone = house.delete("s", &["a", "nobody"]).await;
        assert_eq!((gone.token, gone.deleted), (5, 1));
        assert_eq!(house.delete("s", &["a"]).await.deleted, 0);
        assert_eq!(count(&house, "").await, 2);
    })
    .await;
}

#[tokio::test]
async fn pages_and_counts_keep_to_the_filter() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        three(&house).await;
        for (filter, expected) in
            [("kind = \"cat\"", 2), ("n > 1", 1), ("n = null", 1), ("item_id = \"b\"", 1)]
        {
            assert_eq!(count(&house, filter).await, expected, "{filter}");
        }
        let mut seen = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = api::ScrollPointsRequest {
                namespace: "ns".into(),
                space: "s".into(),
                filter: "kind = \"cat\"".into(),
                page_size: 1,
                page_token,
                ..Default::default()
            };
            let page = house.points().scroll_points(house.own(request)).await.unwrap().into_inner();
            seen.extend(page.points.into_iter().map(|point| point.item_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, ["a", "c"]);
        let request = api::ScrollPointsRequest {
            namespace: "ns".into(),
            space: "s".into(),
            filter: "nope = 1".into(),
            ..Default::default()
        };
        let wrong = house.points().scroll_points(house.own(request)).await;
        let error = refused(wrong.map_err(ServiceError::from), Code::InvalidArgument);
        assert!(error.reason_is("FILTER_INVALID") && error.message().contains("kind"), "{error}");
    })
    .await;
}

/// Items whose order is not that of their writing, and with holes between their numbers.
#[tokio::test]
async fn pages_by_item_id_miss_nobody() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        for item in ["b", "d", "a", "c", "d"] {
            house.upsert("s", vec![point(item, &[1.0, 2.0], &[])]).await.unwrap();
        }
        for (filter, expected) in [
            ("item_id = \"b\"", &["b"][..]),
            ("NOT item_id = \"b\"", &["a", "c", "d"]),
            ("item_id >= \"c\"", &["c", "d"]),
        ] {
            let request = api::ScrollPointsRequest {
                namespace: "ns".into(),
                space: "s".into(),
                filter: filter.into(),
                ..Default::default()
            };
            let page = house.points().scroll_points(house.own(request)).await.unwrap().into_inner();
            let found: Vec<&str> = page.points.iter().map(|p| p.item_id.as_str()).collect();
            assert_eq!(found, expected, "{filter}");
            assert_eq!(count(&house, filter).await, i64::try_from(expected.len()).unwrap());
        }
    })
    .await;
}

#[tokio::test]
async fn a_bad_point_refuses_its_whole_batch_by_name() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        three(&house).await;
        house.create("cos", 2, api::Metric::Cosine).await.unwrap();
        let good = || point("new", &[1.0, 1.0], &[]);
        let nan = f32::NAN;
        for (space, bad, field) in [
            ("s", point("x", &[1.0], &[]), "points[1].vector"),
            ("s", point("x", &[1.0, nan], &[]), "points[1].vector"),
            ("s", point("x", &[1.0, f32::INFINITY], &[]), "points[1].vector"),
            ("s", point("x", &[], &[]), "points[1].vector"),
            ("cos", point("x", &[0.0, 0.0], &[]), "points[1].vector"),
            ("s", point("", &[1.0, 1.0], &[]), "points[1].item_id"),
            ("s", point("new", &[1.0, 1.0], &[]), "points[1].item_id"),
            ("s", point(&"x".repeat(513), &[1.0, 1.0], &[]), "points[1].item_id"),
            ("s", point("x", &[1.0, 1.0], &[("item_id", int(1))]), "points[1].payload"),
            ("s", point("x\0", &[1.0, 1.0], &[]), "points[1].item_id"),
            ("s", point("x", &[1.0, 1.0], &[("n\0", int(1))]), "points[1].payload"),
        ] {
            let outcome = house.upsert(space, vec![good(), bad]).await;
            let error = refused(outcome, Code::InvalidArgument);
            assert_eq!(error.field_name(), Some(field), "{error}");
        }
        let typed = point("x", &[1.0, 1.0], &[("n", text("one"))]);
        let error = refused(house.upsert("s", vec![good(), typed]).await, Code::InvalidArgument);
        assert!(error.reason_is("PAYLOAD_TYPE_MISMATCH"), "{error}");
        assert_eq!(error.field_name(), Some("points[1].payload"), "of what is stored");
        refused(house.upsert("s", Vec::new()).await, Code::InvalidArgument);
        let many = (0..1_001).map(|n| point(&n.to_string(), &[1.0, 1.0], &[])).collect();
        refused(house.upsert("s", many).await, Code::InvalidArgument);
        assert_eq!(count(&house, "").await, 3, "nothing of a refused batch is there");
    })
    .await;
}

#[tokio::test]
async fn vectors_of_another_embedder_are_refused() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::Cosine).await.unwrap();
        let write = |embedder: &str| api::UpsertPointsRequest {
            namespace: "ns".into(),
            space: "s".into(),
            points: vec![point("a", &[1.0, 0.0], &[])],
            embedder: embedder.into(),
            ..Default::default()
        };
        house.points().upsert_points(house.own(write("minilm"))).await.unwrap();
        house.points().upsert_points(house.own(write("minilm"))).await.unwrap();
        let other = house.points().upsert_points(house.own(write("clip"))).await;
        let error = refused(other.map_err(ServiceError::from), Code::FailedPrecondition);
        assert!(error.reason_is("EMBEDDER_MISMATCH"), "{error}");
        // Nobody says what made these: what is known to be of a model does not go beside them.
        house.create("unnamed", 2, api::Metric::Cosine).await.unwrap();
        house.upsert("unnamed", vec![point("a", &[1.0, 0.0], &[])]).await.unwrap();
        let named = api::UpsertPointsRequest { space: "unnamed".into(), ..write("minilm") };
        let mixed = house.points().upsert_points(house.own(named.clone())).await;
        let error = refused(mixed.map_err(ServiceError::from), Code::FailedPrecondition);
        assert!(error.reason_is("EMBEDDER_MISMATCH"), "{error}");
        house.delete("unnamed", &["a"]).await;
        house.points().upsert_points(house.own(named)).await.unwrap();
    })
    .await;
}

/// A character that Postgres does not keep is refused by name wherever it could come in.
#[tokio::test]
async fn nul_is_refused_by_the_name_of_its_field() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        three(&house).await;
        let (namespace, space) = ("ns".to_owned(), "s".to_owned());
        let get = api::GetPointsRequest {
            namespace: namespace.clone(),
            space: space.clone(),
            item_ids: vec!["a".into(), "a\0".into()],
            ..Default::default()
        };
        let delete = api::DeletePointsRequest {
            namespace: namespace.clone(),
            space: space.clone(),
            item_ids: get.item_ids.clone(),
            ..Default::default()
        };
        let upsert = api::UpsertPointsRequest {
            namespace: namespace.clone(),
            space: space.clone(),
            points: vec![point("a", &[1.0, 0.0], &[])],
            embedder: "mini\0".into(),
            ..Default::default()
        };
        let create = api::CreateSpaceRequest {
            namespace: namespace.clone(),
            space: "t".into(),
            dimension: 2,
            embedder: "\0".into(),
            ..Default::default()
        };
        let search = asking("s", api::query::Kind::ItemId("a\0".into()), 1);
        let likes = api::Recommend { positive_item_ids: vec!["a\0".into()], ..Default::default() };
        let liked = asking("s", api::query::Kind::Recommend(likes), 1);
        let image = api::AddImageRequest {
            namespace: namespace.clone(),
            image: Some(api::Image { image_path: "p\0".into(), ..Default::default() }),
            ..Default::default()
        };
        let log = api::LogGenerationRequest {
            namespace,
            generation: Some(api::Generation { prompt: "p\0".into(), ..Default::default() }),
        };
        let mut images = ImagesServiceClient::new(house.transport.clone());
        let mut logs = GenerationsServiceClient::new(house.transport.clone());
        let outcomes = [
            (house.points().get_points(house.own(get)).await.err(), "item_ids[1]"),
            (house.points().delete_points(house.own(delete)).await.err(), "item_ids[1]"),
            (house.points().upsert_points(house.own(upsert)).await.err(), "embedder"),
            (house.spaces().create_space(house.own(create)).await.err(), "embedder"),
            (house.searches().search(house.own(search)).await.err(), "query.item_id"),
            (
                house.searches().search(house.own(liked)).await.err(),
                "query.recommend.positive_item_ids",
            ),
            (images.add_image(house.own(image)).await.err(), "image.image_path"),
            (logs.log_generation(house.own(log)).await.err(), "generation.prompt"),
        ];
        for (status, field) in outcomes {
            let outcome = status.map_or(Ok(()), |status| Err(ServiceError::from(status)));
            let error = refused(outcome, Code::InvalidArgument);
            assert_eq!(error.field_name(), Some(field), "{error}");
        }
        assert_eq!(count(&house, "").await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_stream_acknowledges_each_batch() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        let batch = |at: u32, space: &str| api::StreamPointsRequest {
            namespace: "ns".into(),
            space: space.into(),
            points: (0..10).map(|n| point(&format!("{at}-{n}"), &[1.0, 2.0], &[])).collect(),
            ..Default::default()
        };
        let mut bad = batch(2, "");
        bad.points[3] = point("bad", &[1.0], &[]);
        let batches = vec![batch(0, "s"), batch(1, ""), bad, batch(3, "")];
        let request = house.own(futures::stream::iter(batches));
        let mut answers = house.points().stream_points(request).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().token, 10);
        assert_eq!(answers.message().await.unwrap().unwrap().token, 20);
        let error = answers.message().await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert_eq!(count(&house, "").await, 20);
    })
    .await;
}

/// It is not the end of a stream that went well.
#[tokio::test]
async fn a_message_that_cannot_be_read_ends_its_stream_with_an_error() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        let batch = |item: &str| api::StreamPointsRequest {
            namespace: "ns".into(),
            space: "s".into(),
            points: vec![point(item, &[1.0, 2.0], &[])],
            ..Default::default()
        };
        let mut large = batch("large");
        large.points[0].vector = Some(api::Vector { bits: vec![0; 81 << 20], ..vector(&[]) });
        let request = house.own(futures::stream::iter([batch("a"), large, batch("b")]));
        let mut answers = house.points().stream_points(request).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().inserted, 1);
        let error = answers.message().await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::OutOfRange, "{error}");
        assert_eq!(count(&house, "").await, 1);
    })
    .await;
}

#[tokio::test]
async fn writers_at_once_lose_nothing_and_numbers_are_in_order() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        house.upsert("s", vec![point("first", &[0.0, 0.0], &[])]).await.unwrap();
        assert_eq!(house.found(near("s", &[0.0, 0.0], 1)).await, ["first"]);
        let writes = (0..8).map(|writer| {
            let house = &house;
            async move {
                for n in 0..10 {
                    let item = format!("{writer}-{n}");
                    let points = vec![point(&item, &[writer as f32, n as f32], &[])];
                    house.upsert("s", points).await.unwrap();
                }
            }
        });
        futures::future::join_all(writes).await;
        assert_eq!(count(&house, "").await, 81);
        let mut all = near("s", &[0.0, 0.0], 100);
        all.consistency =
            Some(api::Consistency { kind: Some(api::consistency::Kind::Strong(true)) });
        assert_eq!(house.found(all).await.len(), 81, "the index saw every change");
    })
    .await;
}

/// A point that is replaced takes a greater number, behind what was read so far.
#[tokio::test]
async fn rows_are_read_as_they_are_at_one_moment() {
    everywhere(async |sql, dir| {
        let house = House::with(sql, dir, |settings| settings.memory_bytes_max = 1).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        let some = |items: std::ops::Range<usize>| -> Vec<api::Point> {
            items.map(|i| point(&format!("i{i}"), &[i as f32, 0.0], &[("n", int(1))])).collect()
        };
        for at in 0..5 {
            house.upsert("s", some(at * 500..at * 500 + 500)).await.unwrap();
        }
        let writes = async {
            for _ in 0..60 {
                house.upsert("s", some(0..100)).await.unwrap();
            }
        };
        let reads = async {
            for _ in 0..6 {
                assert_eq!(count(&house, "n = 1").await, 2_500);
                let filter = "n = 1".to_owned();
                let asked = api::SearchRequest { filter, ..near("s", &[0.0, 0.0], 20) };
                let expected: Vec<String> = (0..20).map(|i| format!("i{i}")).collect();
                assert_eq!(house.found(asked).await, expected);
            }
        };
        tokio::join!(writes, reads);
    })
    .await;
}
