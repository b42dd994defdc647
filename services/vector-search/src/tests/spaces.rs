//! Spaces: made, listed, deleted, and who may.

use super::*;

#[tokio::test]
async fn a_space_is_made_listed_and_deleted() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.catalog.dataset("ns/icons", 0);
        let made = house.create("clip", 3, api::Metric::Cosine).await.unwrap();
        assert_eq!((made.namespace.as_str(), made.dataset.as_str()), ("ns", ""));
        refused(house.create("clip", 3, api::Metric::L2).await, Code::AlreadyExists);
        let of_dataset = api::CreateSpaceRequest {
            namespace: "ns".into(),
            dataset: "icons".into(),
            space: "clip".into(),
            dimension: 70,
            metric: api::Metric::Hamming.into(),
            ..Default::default()
        };
        let of_dataset =
            house.spaces().create_space(house.own(of_dataset)).await.unwrap().into_inner();
        assert_eq!(of_dataset.space.unwrap().element(), api::Element::Bit);
        let list = |page_token: String| api::ListSpacesRequest {
            namespace: "ns".into(),
            page_size: 1,
            page_token,
            ..Default::default()
        };
        let first =
            house.spaces().list_spaces(house.own(list(String::new()))).await.unwrap().into_inner();
        let second = house.spaces().list_spaces(house.own(list(first.next_page_token))).await;
        let second = second.unwrap().into_inner();
        assert_eq!(first.spaces[0].id, made.id);
        assert_eq!((second.spaces.len(), second.next_page_token.as_str()), (1, ""));
        let delete = api::DeleteSpaceRequest {
            namespace: "ns".into(),
            space: "clip".into(),
            ..Default::default()
        };
        house.spaces().delete_space(house.own(delete.clone())).await.unwrap();
        let gone = house.search(near("clip", &[1.0, 0.0, 0.0], 1)).await;
        refused(gone, Code::NotFound);
        let again = house.spaces().delete_space(house.own(delete)).await;
        refused(again.map_err(ServiceError::from), Code::NotFound);
        house.create("clip", 4, api::Metric::L1).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn numbers_that_make_no_space_are_refused() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        for (dimension, metric, field) in [
            (0, api::Metric::Cosine, "dimension"),
            (-3, api::Metric::Cosine, "dimension"),
            (16_001, api::Metric::L2, "dimension"),
            (64_001, api::Metric::Jaccard, "dimension"),
        ] {
            let error = refused(house.create("s", dimension, metric).await, Code::InvalidArgument);
            assert_eq!(error.field_name(), Some(field), "{error}");
        }
        let error = refused(house.create("S!", 3, api::Metric::L2).await, Code::InvalidArgument);
        assert_eq!(error.field_name(), Some("space"));
    })
    .await;
}

#[tokio::test]
async fn what_a_caller_may_not_see_is_not_there() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        house.upsert("s", vec![point("a", &[1.0, 0.0], &[])]).await.unwrap();
        let (stranger, reader) = (Who::user(), Who::user());
        house.grant(&reader, Level::Read).await;
        let search = near("s", &[1.0, 0.0], 1);
        let seen = house.searches().search(house.by(&reader, search.clone())).await;
        assert_eq!(items(&seen.unwrap().into_inner()), ["a"]);
        let hidden = house.searches().search(house.by(&stranger, search)).await;
        refused(hidden.map_err(ServiceError::from), Code::NotFound);
        let write = api::UpsertPointsRequest {
            namespace: "ns".into(),
            space: "s".into(),
            points: vec![point("b", &[0.0, 1.0], &[])],
            ..Default::default()
        };
        let written = house.points().upsert_points(house.by(&reader, write.clone())).await;
        refused(written.map_err(ServiceError::from), Code::PermissionDenied);
        let reading = house.owner.reading_only();
        let written = house.points().upsert_points(house.by(&reading, write)).await;
        refused(written.map_err(ServiceError::from), Code::PermissionDenied);
        let none = house.spaces().list_spaces(house.by(&stranger, Default::default())).await;
        assert!(none.unwrap().into_inner().spaces.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_deleted_dataset_takes_its_spaces_along() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.catalog.dataset("ns/icons", 0);
        let create = api::CreateSpaceRequest {
            namespace: "ns".into(),
            dataset: "icons".into(),
            space: "s".into(),
            dimension: 2,
            ..Default::default()
        };
        house.spaces().create_space(house.own(create)).await.unwrap();
        let write = api::UpsertPointsRequest {
            namespace: "ns".into(),
            dataset: "icons".into(),
            space: "s".into(),
            points: vec![point("a", &[1.0, 0.0], &[])],
            ..Default::default()
        };
        house.points().upsert_points(house.own(write)).await.unwrap();
        assert_eq!(house.app.cascade().await.unwrap(), 0);
        house.catalog.drop_dataset("ns/icons");
        // The job may have been there first.
        house.app.cascade().await.unwrap();
        house.app.purge_deleted().await.unwrap();
        house.catalog.dataset("ns/icons", 0);
        let list = house.spaces().list_spaces(house.own(Default::default())).await;
        assert!(list.unwrap().into_inner().spaces.is_empty());
    })
    .await;
}

/// Before any sweep: neither lists nor totals have them, nor a new dataset of that name.
#[tokio::test]
async fn spaces_of_a_deleted_dataset_are_in_no_list() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        for name in ["icons", "kept"] {
            house.catalog.dataset(&format!("ns/{name}"), 0);
            let create = api::CreateSpaceRequest {
                namespace: "ns".into(),
                dataset: name.into(),
                space: "s".into(),
                dimension: 2,
                ..Default::default()
            };
            house.spaces().create_space(house.own(create)).await.unwrap();
        }
        house.catalog.drop_dataset("ns/icons");
        house.catalog.dataset("ns/icons", 0);
        for (namespace, page_size) in [("ns", 0), ("", 0), ("ns", 1)] {
            let request = api::ListSpacesRequest {
                namespace: namespace.into(),
                page_size,
                ..Default::default()
            };
            let list = house.spaces().list_spaces(house.own(request)).await.unwrap().into_inner();
            let of: Vec<&str> = list.spaces.iter().map(|space| space.dataset.as_str()).collect();
            assert_eq!((of, list.next_page_token.as_str()), (vec!["kept"], ""));
        }
        house.catalog.drop_dataset("ns/kept");
        let request = api::GetRagStatisticsRequest { namespace: "ns".into(), recent_hours: 0 };
        let mut logs = GenerationsServiceClient::new(house.transport.clone());
        let counted = logs.get_rag_statistics(house.own(request)).await.unwrap().into_inner();
        assert_eq!(counted.total_spaces, 0);
    })
    .await;
}

/// Looks for a name that began before its space was deleted do not bring it back.
#[tokio::test]
async fn a_space_made_anew_under_its_name_is_found_at_once() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        house.create("s", 2, api::Metric::L2).await.unwrap();
        let end = tokio_util::sync::CancellationToken::new();
        let writes = async {
            let mut n = 0;
            while !end.is_cancelled() {
                n += 1;
                let items = [format!("a{n}"), format!("b{n}"), format!("c{n}")];
                let writes = items.map(|item| {
                    let house = &house;
                    async move { house.upsert("s", vec![point(&item, &[1.0, 0.0], &[])]).await }
                });
                futures::future::join_all(writes).await;
            }
        };
        let anew = async {
            for _ in 0..15 {
                let delete = api::DeleteSpaceRequest {
                    namespace: "ns".into(),
                    space: "s".into(),
                    ..Default::default()
                };
                house.spaces().delete_space(house.own(delete)).await.unwrap();
                let made = house.create("s", 2, api::Metric::L2).await.unwrap();
                let get = api::GetSpaceRequest {
                    namespace: "ns".into(),
                    space: "s".into(),
                    ..Default::default()
                };
                let found = house.spaces().get_space(house.own(get)).await.unwrap().into_inner();
                assert_eq!(found.space.unwrap().id, made.id);
                house.upsert("s", vec![point("x", &[1.0, 0.0], &[])]).await.unwrap();
            }
            end.cancel();
        };
        tokio::join!(writes, anew);
    })
    .await;
}

#[tokio::test]
async fn many_owners_are_looked_for_in_one_list() {
    everywhere(async |sql, dir| {
        let house = House::new(sql, dir).await;
        let names: Vec<String> = (0..12).map(|n| format!("d{n}")).collect();
        for name in &names {
            house.catalog.dataset(&format!("ns/{name}"), 0);
            let create = api::CreateSpaceRequest {
                namespace: "ns".into(),
                dataset: name.clone(),
                space: "s".into(),
                dimension: 2,
                ..Default::default()
            };
            house.spaces().create_space(house.own(create)).await.unwrap();
        }
        let log = api::TouchModelRequest {
            namespace: "ns".into(),
            model_name: "m".into(),
            ..Default::default()
        };
        let mut logs = GenerationsServiceClient::new(house.transport.clone());
        logs.touch_model(house.own(log)).await.unwrap();
        let heads = || house.catalog.calls.count("GetHead");
        let before = heads();
        house.app.cascade().await.unwrap();
        // A sweep that began when there were few owners may still be asking.
        assert!(heads() - before < names.len(), "they were asked for one by one");
        assert!(house.catalog.calls.count("ListDatasets") > 0);
        house.catalog.drop_dataset("ns/d3");
        house.app.cascade().await.unwrap();
        let list = house.spaces().list_spaces(house.own(Default::default())).await;
        let left: Vec<String> =
            list.unwrap().into_inner().spaces.into_iter().map(|space| space.dataset).collect();
        assert_eq!(left.len(), 11);
        assert!(!left.contains(&"d3".to_owned()));
        let models = api::ListCachedModelsRequest { namespace: "ns".into(), ..Default::default() };
        let kept = logs.list_cached_models(house.own(models)).await.unwrap().into_inner();
        assert_eq!(kept.models.len(), 1, "its namespace is there");
    })
    .await;
}

#[tokio::test]
async fn a_space_fits_the_embedder_that_it_names() {
    everywhere(async |sql, dir| {
        let house = House::with(sql, dir, |settings| {
            let hash = embedder::EmbedderSettings::PerceptualHash;
            settings.embedders.insert("copies".into(), hash);
        })
        .await;
        let create = |space: &str, dimension: i32, metric: api::Metric, embedder: &str| {
            let request = api::CreateSpaceRequest {
                namespace: "ns".into(),
                space: space.into(),
                dimension,
                metric: metric.into(),
                embedder: embedder.into(),
                ..Default::default()
            };
            house.own(request)
        };
        for (dimension, metric, field) in
            [(65, api::Metric::Hamming, "dimension"), (64, api::Metric::Cosine, "element")]
        {
            let outcome =
                house.spaces().create_space(create("s", dimension, metric, "copies")).await;
            let error = refused(outcome.map_err(ServiceError::from), Code::InvalidArgument);
            assert_eq!(error.field_name(), Some(field), "{error}");
        }
        let good = create("s", 64, api::Metric::Hamming, "copies");
        house.spaces().create_space(good).await.unwrap();
        // The caller's own word for its own vectors.
        let own = create("mine", 65, api::Metric::Cosine, "my-model");
        house.spaces().create_space(own).await.unwrap();
    })
    .await;
}
