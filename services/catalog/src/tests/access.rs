//! Who may do what, and that hidden and missing look the same.

use service_error::Code;

use super::*;

#[tokio::test]
async fn what_may_not_be_seen_answers_as_what_does_not_exist() {
    in_each_house(async |house| {
        let (ana, eve) = (Who::user(), Who::user());
        house.namespace(&ana, "secret").await;
        let dataset = house.dataset(&ana, "secret", "plans").await;

        let hidden = house.get(&eve, "secret", "plans").await.unwrap_err();
        let missing = house.get(&eve, "secret", "nothing").await.unwrap_err();
        assert_eq!(hidden.code(), Code::NotFound);
        assert_eq!(hidden.message().replace("plans", "nothing"), missing.message());
        assert_eq!(hidden.reason_text(), missing.reason_text());

        assert_eq!(house.head(&eve, &dataset.id, None).await.unwrap_err().code(), Code::NotFound);
        for name in ["plans", "nothing"] {
            let error = house.open_upload(&eve, by_name("secret", name)).await.unwrap_err();
            assert_eq!(error.reason_text(), "DATASET_NOT_FOUND", "{name}");
        }
        assert!(house.namespaces_of(&eve).await.unwrap().is_empty());
        let list = |namespace: &str| wire::ListDatasetsRequest {
            namespace: namespace.into(),
            ..Default::default()
        };
        for namespace in ["secret", "nowhere"] {
            let error: ServiceError = house
                .datasets()
                .list_datasets(house.by(&eve, list(namespace)))
                .await
                .unwrap_err()
                .into();
            assert_eq!(error.reason_text(), "NAMESPACE_NOT_FOUND", "{namespace}");
        }
        let all =
            house.datasets().list_datasets(house.by(&eve, list(""))).await.unwrap().into_inner();
        assert!(all.datasets.is_empty());
    })
    .await;
}

#[tokio::test]
async fn levels_on_the_namespace_reach_its_datasets() {
    in_each_house(async |house| {
        let (ana, bob) = (Who::user(), Who::user());
        let namespace = house.namespace(&ana, "vision").await;
        let dataset = house.dataset(&ana, "vision", "icons").await;
        let on = Resource::namespace(namespace.id.parse().unwrap());

        house.grant(&bob, on, Level::Read).await;
        eventually(async || house.get(&bob, "vision", "icons").await.is_ok()).await;
        let refused = house.put(&bob, &dataset.id, Put::append(&[1])).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.reason_text()),
            (Code::PermissionDenied, "LEVEL_TOO_LOW")
        );

        house.grant(&bob, on, Level::Write).await;
        eventually(async || house.put(&bob, &dataset.id, Put::append(&[1])).await.is_ok()).await;
        house.dataset(&bob, "vision", "of-bob").await;
        let delete =
            wire::DeleteDatasetRequest { namespace: "vision".into(), name: "icons".into() };
        let refused = house.datasets().delete_dataset(house.by(&bob, delete)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    })
    .await;
}

#[tokio::test]
async fn lists_show_granted_and_public_datasets_only() {
    in_each_house(async |house| {
        let (ana, bob) = (Who::user(), Who::user());
        house.namespace(&ana, "vision").await;
        house.dataset(&ana, "vision", "private").await;
        let shared = house.dataset(&ana, "vision", "shared").await;
        let open = wire::CreateDatasetRequest {
            namespace: "vision".into(),
            name: "open".into(),
            public: true,
            ..Default::default()
        };
        house.create(&ana, open).await.unwrap();
        house.grant(&bob, Resource::dataset(shared.id.parse().unwrap()), Level::Read).await;
        let listed = async |who: &Who, namespace: &str| {
            let request =
                wire::ListDatasetsRequest { namespace: namespace.into(), ..Default::default() };
            let page =
                house.datasets().list_datasets(house.by(who, request)).await.unwrap().into_inner();
            page.datasets.into_iter().map(|dataset| dataset.name).collect::<Vec<_>>()
        };
        eventually(async || listed(&bob, "").await == ["open", "shared"]).await;
        assert_eq!(listed(&bob, "vision").await, ["open", "shared"]);
        assert_eq!(listed(&Who::user(), "").await, ["open"]);
        assert_eq!(listed(&Who::admin(), "").await, ["open", "private", "shared"]);
        assert_eq!(listed(&ana, "").await, ["open", "private", "shared"]);

        // Public is readable and no more.
        assert!(house.get(&bob, "vision", "open").await.is_ok());
        let refused = house.open_upload(&bob, by_name("vision", "open")).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    })
    .await;
}

#[tokio::test]
async fn roles_tokens_and_platform_calls_are_kept_apart() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let dataset = house.dataset(&ana, "vision", "icons").await;
        let create = || wire::CreateNamespaceRequest { name: "other".into(), ..Default::default() };
        for who in [Who::viewer(), ana.reading_only()] {
            let refused =
                house.namespaces().create_namespace(house.by(&who, create())).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        }
        let nobody = house.namespaces().create_namespace(create()).await.unwrap_err();
        assert_eq!(nobody.code(), tonic::Code::Unauthenticated);

        // A user can't speak to the manifest past the item store.
        let head = wire::GetHeadRequest { dataset: Some(by_id(&dataset.id)), at: None };
        let refused = house.manifest().get_head(house.by(&ana, head)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        // Nor can the item store sweep in a user's name.
        let sweep = house.by(&ana.via(ITEM_STORE), wire::SweepUploadsRequest::default());
        assert_eq!(
            house.manifest().sweep_uploads(sweep).await.unwrap_err().code(),
            tonic::Code::PermissionDenied
        );
        let sweep = house.by(&Who::service(ITEM_STORE), wire::SweepUploadsRequest::default());
        house.manifest().sweep_uploads(sweep).await.unwrap();
    })
    .await;
}

/// Waits until a grant has reached the service.
async fn eventually(holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
}
