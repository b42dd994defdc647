//! Models and versions: made, numbered, tagged, deleted, restored, refused.

use std::collections::{BTreeSet, HashMap};

use futures::StreamExt;
use service_error::Code;

use super::*;

#[tokio::test]
async fn a_model_comes_back_as_it_was_made() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let request = wire::CreateModelRequest {
            namespace: "ml".into(),
            name: "ResNet 50 ü".into(),
            description: "pictures".into(),
            tags: HashMap::from([("team".into(), "vision".into()), ("ü".into(), "✓".into())]),
        };
        let made = house.models().create_model(house.by(&ana, request.clone())).await.unwrap();
        let made = made.into_inner().model.unwrap();
        assert_eq!(made.tags, request.tags);
        assert_eq!(made.created_by, ana.principal.to_string());
        assert_eq!(house.get_model(&ana, "ResNet 50 ü").await.unwrap(), made);
        let again = house.models().create_model(house.by(&ana, request)).await.unwrap_err();
        let again = ServiceError::from(again);
        assert_eq!((again.code(), again.reason_text()), (Code::AlreadyExists, "MODEL_EXISTS"));
        // The owner's grant is on the model; a stranger finds nothing.
        let stranger = house.get_model(&Who::user(), "ResNet 50 ü").await.unwrap_err();
        assert_eq!(stranger.code(), Code::NotFound);
        let told = house.identity.resources();
        assert_eq!(told.last().unwrap().owner_id, ana.principal.to_string());
    })
    .await;
}

#[tokio::test]
async fn a_hundred_registers_at_once_give_a_hundred_numbers() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        let numbers: Vec<i64> = futures::stream::iter(0..100)
            .map(|_| house.version(&ana, "m"))
            .buffer_unordered(64)
            .map(|version| version.number)
            .collect()
            .await;
        let numbers: BTreeSet<i64> = numbers.into_iter().collect();
        assert_eq!(numbers, (1..=100).collect());
        let model = house.get_model(&ana, "m").await.unwrap();
        assert_eq!((model.latest_version, model.version_count), (100, 100));
        assert_eq!(model.latest_by_stage[0].version, 100);
        assert_eq!(house.get_version(&ana, "m", "latest").await.unwrap().number, 100);
    })
    .await;
}

#[tokio::test]
async fn a_number_is_never_given_twice() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        for _ in 0..3 {
            house.version(&ana, "m").await;
        }
        let delete = |version: &str| wire::DeleteVersionRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: version.into(),
        };
        house.alias(&ana, "m", "champion", "3").await.unwrap();
        house.versions().delete_version(house.by(&ana, delete("3"))).await.unwrap();
        let model = house.get_model(&ana, "m").await.unwrap();
        assert_eq!((model.latest_version, model.version_count), (2, 2));
        assert!(model.aliases.is_empty(), "an alias of what is gone is gone");
        assert_eq!(house.get_version(&ana, "m", "3").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(house.version(&ana, "m").await.number, 4);
        let restore = wire::RestoreVersionRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "3".into(),
        };
        house.versions().restore_version(house.by(&ana, restore)).await.unwrap();
        assert_eq!(house.get_version(&ana, "m", "3").await.unwrap().number, 3);
        assert_eq!(house.get_model(&ana, "m").await.unwrap().latest_version, 4);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_model_frees_its_name_and_comes_back() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let first = house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        let delete = wire::DeleteModelRequest { namespace: "ml".into(), name: "m".into() };
        let id = house.models().delete_model(house.by(&ana, delete)).await.unwrap();
        let id = id.into_inner().id;
        assert_eq!(id, first.id);
        assert_eq!(house.get_model(&ana, "m").await.unwrap_err().code(), Code::NotFound);
        let late = house.register(&ana, new("m")).await.unwrap_err();
        assert_eq!(late.code(), Code::NotFound, "no version of what is deleted");

        let second = house.model(&ana, "m").await;
        assert_ne!(second.id, first.id);
        let restore = wire::RestoreModelRequest { id };
        let taken = house.models().restore_model(house.by(&ana, restore.clone())).await;
        assert_eq!(taken.unwrap_err().code(), tonic::Code::AlreadyExists);
        let rename = wire::UpdateModelRequest {
            namespace: "ml".into(),
            name: "m".into(),
            new_name: Some("n".into()),
            description: Some("second".into()),
        };
        house.models().update_model(house.by(&ana, rename)).await.unwrap();
        house.models().restore_model(house.by(&ana, restore)).await.unwrap();
        assert_eq!(house.get_model(&ana, "m").await.unwrap().version_count, 1);
        assert_eq!(house.get_model(&ana, "n").await.unwrap().description, "second");
    })
    .await;
}

#[tokio::test]
async fn models_made_deleted_and_restored_at_once_wait_in_no_circle() {
    in_each_house(async |house| {
        let (ana, house) = (house.ana().await, &house);
        let lives = (0..12).map(async |number| {
            let name = format!("m{number}");
            for life in 0..3 {
                house.model(&ana, &format!("{name}-{life}")).await;
                let name = format!("{name}-{life}");
                let delete = wire::DeleteModelRequest { namespace: "ml".into(), name };
                let gone = house.models().delete_model(house.by(&ana, delete)).await.unwrap();
                let restore = wire::RestoreModelRequest { id: gone.into_inner().id };
                house.models().restore_model(house.by(&ana, restore)).await.unwrap();
            }
        });
        futures::future::join_all(lives).await;
    })
    .await;
}

#[tokio::test]
async fn versions_carry_what_they_were_given() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let point =
            |key: &str, value, step| wire::Metric { key: key.into(), value, step, time: None };
        let request = wire::CreateVersionRequest {
            label: "1.0.0-rc.1".into(),
            source: "s3://bucket/model".into(),
            run_id: "r1".into(),
            flavors: vec!["sklearn".into(), "python_function".into()],
            tags: HashMap::from([("a".into(), "x".repeat(2_000))]),
            metrics: vec![point("acc", 0.5, 1), point("acc", 0.9, 2), point("acc", 0.7, 2)],
            params: HashMap::from([("lr".into(), "0.01".into())]),
            create_model: true,
            ..new("m")
        };
        let made = house.register(&ana, request.clone()).await.unwrap();
        assert_eq!((made.number, made.label.as_str()), (1, "1.0.0-rc.1"));
        assert_eq!(made.flavors, ["python_function", "sklearn"]);
        assert_eq!(made.tags, request.tags);
        let last: Vec<_> = made.metrics.iter().map(|m| (m.value, m.step)).collect();
        assert_eq!(last, [(0.7, 2)]);
        let taken = house.register(&ana, request).await.unwrap_err();
        assert_eq!((taken.code(), taken.field_name()), (Code::AlreadyExists, Some("label")));
        assert_eq!(house.version(&ana, "m").await.number, 2, "a refused one takes no number");

        let log = |params: &[(&str, &str)], metrics| wire::LogVersionDataRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            metrics,
            params: params.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        };
        let same = log(&[("lr", "0.01"), ("depth", "3")], vec![point("acc", f64::NAN, 3)]);
        house.versions().log_version_data(house.by(&ana, same)).await.unwrap();
        let other = log(&[("lr", "0.02")], Vec::new());
        let changed = house.versions().log_version_data(house.by(&ana, other)).await.unwrap_err();
        assert_eq!(ServiceError::from(changed).reason_text(), "PARAM_CHANGED");
        let found = house.get_version(&ana, "m", "1").await.unwrap();
        assert!(found.metrics[0].value.is_nan(), "NaN stays NaN");
        assert_eq!(found.params.len(), 2);
        let points = wire::ListMetricPointsRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
            key: "acc".into(),
            page_size: 2,
            page_token: String::new(),
        };
        let page = house.versions().list_metric_points(house.by(&ana, points)).await.unwrap();
        let page = page.into_inner();
        assert_eq!(page.points.iter().map(|p| p.step).collect::<Vec<_>>(), [1, 2]);
        assert!(!page.next_page_token.is_empty());
    })
    .await;
}

#[tokio::test]
async fn bad_requests_name_their_field_and_write_nothing() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "m").await;
        for (name, field) in [("a/b", "name"), ("a:b", "name"), ("", "name"), ("..", "name")] {
            let request = wire::CreateModelRequest {
                namespace: "ml".into(),
                name: name.into(),
                ..Default::default()
            };
            let error = house.models().create_model(house.by(&ana, request)).await.unwrap_err();
            let error = ServiceError::from(error);
            let seen = (error.code(), error.field_name());
            assert_eq!(seen, (Code::InvalidArgument, Some(field)), "{name:?}");
        }
        let huge = HashMap::from([("k".to_owned(), "x".repeat(1 << 20))]);
        let error = house.register(&ana, wire::CreateVersionRequest { tags: huge, ..new("m") });
        assert_eq!(error.await.unwrap_err().field_name(), Some("tags"));
        for alias in ["latest", "v12", "a b", ""] {
            let error = house.alias(&ana, "m", alias, "1").await.unwrap_err();
            assert_eq!(error.field_name(), Some("alias"), "{alias:?}");
        }
        let nowhere = wire::CreateVersionRequest { namespace: "none".into(), ..new("m") };
        assert_eq!(house.register(&ana, nowhere).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(house.get_model(&ana, "m").await.unwrap().version_count, 0);
    })
    .await;
}

#[tokio::test]
async fn levels_are_kept_apart() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        let model = house.model(&ana, "m").await;
        house.version(&ana, "m").await;
        let bob = Who::user();
        let on = Resource::model(model.id.parse().unwrap());
        house.grant(&bob, on, Level::Write).await;
        eventually(async || house.get_model(&bob, "m").await.is_ok()).await;
        // Register, but not delete.
        house.version(&bob, "m").await;
        let delete = wire::DeleteVersionRequest {
            namespace: "ml".into(),
            model: "m".into(),
            version: "1".into(),
        };
        let refused = house.versions().delete_version(house.by(&bob, delete)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        let elsewhere = wire::CreateModelRequest {
            namespace: "ml".into(),
            name: "other".into(),
            ..Default::default()
        };
        let refused = house.models().create_model(house.by(&bob, elsewhere)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::NotFound);
        for who in [Who::viewer(), ana.reading_only()] {
            let refused = house.register(&who, new("m")).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
        }
    })
    .await;
}

#[tokio::test]
async fn statistics_count_what_the_caller_may_see() {
    in_each_house(async |house| {
        let ana = house.ana().await;
        house.model(&ana, "a").await;
        house.version(&ana, "a").await;
        house.version(&ana, "a").await;
        house.model(&ana, "b").await;
        let counted = async |who: &Who| {
            let request = wire::GetStatisticsRequest::default();
            house.models().get_statistics(house.by(who, request)).await.unwrap().into_inner()
        };
        let seen = counted(&ana).await;
        assert_eq!((seen.model_count, seen.version_count), (2, 2));
        assert_eq!(seen.deployment_count, 0);
        assert_eq!(counted(&Who::user()).await.model_count, 0);
    })
    .await;
}
