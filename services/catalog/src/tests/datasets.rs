//! Namespaces and datasets: made, listed, deleted, refused.

use std::collections::HashMap;
use std::time::Duration;

use identity_api::v1::{PutResourceRequest, Resource};
use options_api::v1::ResourceKind;
use service_error::Code;

use super::*;

#[tokio::test]
async fn a_namespace_lives_from_create_to_delete() {
    in_each_house(async |house| {
        let ana = Who::user();
        let made = house.namespace(&ana, "vision").await;
        assert_eq!(made.created_by, ana.principal.to_string());
        let request = wire::GetNamespaceRequest { name: "vision".into() };
        let found = house.namespaces().get_namespace(house.by(&ana, request)).await.unwrap();
        assert_eq!(found.into_inner().namespace.unwrap(), made);

        let again = wire::CreateNamespaceRequest { name: "vision".into(), ..Default::default() };
        let taken: ServiceError =
            house.namespaces().create_namespace(house.by(&ana, again)).await.unwrap_err().into();
        assert_eq!((taken.code(), taken.reason_text()), (Code::AlreadyExists, "NAMESPACE_EXISTS"));

        let request = wire::DeleteNamespaceRequest { name: "vision".into() };
        house.namespaces().delete_namespace(house.by(&ana, request.clone())).await.unwrap();
        let gone: ServiceError =
            house.namespaces().delete_namespace(house.by(&ana, request)).await.unwrap_err().into();
        assert_eq!(gone.code(), Code::NotFound);
        assert_ne!(
            house.namespace(&ana, "vision").await.id,
            made.id,
            "the name is free, the id is new"
        );
    })
    .await;
}

#[tokio::test]
async fn a_dataset_comes_back_as_it_was_made() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let request = wire::CreateDatasetRequest {
            namespace: "vision".into(),
            name: "icons".into(),
            description: "small pictures".into(),
            arrow_schema: table_schema(),
            public: true,
            properties: HashMap::from([
                ("licence".into(), "cc0".into()),
                ("ünïcode".into(), "✓".into()),
            ]),
            ..Default::default()
        };
        let made = house.create(&ana, request.clone()).await.unwrap();
        assert_eq!(made.profile(), wire::Profile::Table);
        assert_eq!(made.key_column, "id");
        assert_eq!(made.arrow_schema, request.arrow_schema);
        assert_eq!(made.properties, request.properties);
        assert_eq!(made.columns[1].r#type, "Int64");
        assert!(made.public && made.latest.is_none());
        assert_eq!(house.get(&ana, "vision", "icons").await.unwrap(), made);

        let taken = house.create(&ana, request).await.unwrap_err();
        assert_eq!(taken.reason_text(), "DATASET_EXISTS");
        assert_eq!(taken.detail("dataset"), Some("vision/icons"));
    })
    .await;
}

#[tokio::test]
async fn without_a_schema_it_holds_items() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let request = wire::CreateDatasetRequest {
            namespace: "vision".into(),
            name: "items".into(),
            ..Default::default()
        };
        let made = house.create(&ana, request).await.unwrap();
        assert_eq!((made.profile(), made.key_column.as_str()), (wire::Profile::Items, "id"));
        assert_eq!(made.columns.len(), 23);
    })
    .await;
}

#[tokio::test]
async fn bad_requests_name_their_field() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let good = wire::CreateDatasetRequest {
            namespace: "vision".into(),
            name: "x".into(),
            arrow_schema: table_schema(),
            ..Default::default()
        };
        let cases = [
            ("name", wire::CreateDatasetRequest { name: "../x".into(), ..good.clone() }),
            ("namespace", wire::CreateDatasetRequest { namespace: "A".into(), ..good.clone() }),
            (
                "arrow_schema",
                wire::CreateDatasetRequest { arrow_schema: vec![1, 2, 3], ..good.clone() },
            ),
            (
                "key_column",
                wire::CreateDatasetRequest { key_column: "none".into(), ..good.clone() },
            ),
            ("profile", wire::CreateDatasetRequest { profile: 77, ..good.clone() }),
            (
                "description",
                wire::CreateDatasetRequest { description: "x".repeat(10_001), ..good.clone() },
            ),
        ];
        for (field, request) in cases {
            let error = house.create(&ana, request).await.unwrap_err();
            assert_eq!(
                (error.code(), error.field_name()),
                (Code::InvalidArgument, Some(field)),
                "{error}"
            );
        }
        let elsewhere = wire::CreateDatasetRequest { namespace: "audio".into(), ..good };
        assert_eq!(
            house.create(&ana, elsewhere).await.unwrap_err().reason_text(),
            "NAMESPACE_NOT_FOUND"
        );
    })
    .await;
}

#[tokio::test]
async fn deleting_a_dataset_frees_its_name_and_then_its_namespace() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        let first = house.dataset(&ana, "vision", "icons").await;
        house.put(&ana, &first.id, Put::append(&[10])).await.unwrap();

        let delete_namespace = wire::DeleteNamespaceRequest { name: "vision".into() };
        let full: ServiceError = house
            .namespaces()
            .delete_namespace(house.by(&ana, delete_namespace.clone()))
            .await
            .unwrap_err()
            .into();
        assert_eq!(full.reason_text(), "NAMESPACE_NOT_EMPTY");

        let delete =
            wire::DeleteDatasetRequest { namespace: "vision".into(), name: "icons".into() };
        house.datasets().delete_dataset(house.by(&ana, delete.clone())).await.unwrap();
        assert_eq!(house.get(&ana, "vision", "icons").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(house.head(&ana, &first.id, None).await.unwrap_err().code(), Code::NotFound);

        let second = house.dataset(&ana, "vision", "icons").await;
        assert_ne!(second.id, first.id);
        assert!(second.latest.is_none(), "nothing of the first shows");
        house.datasets().delete_dataset(house.by(&ana, delete)).await.unwrap();
        house.namespaces().delete_namespace(house.by(&ana, delete_namespace)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_holds_models_is_not_deleted() {
    in_each_house(async |house| {
        let ana = Who::user();
        let id = house.namespace(&ana, "vision").await.id;
        let of = |kind: ResourceKind, id: &str| Resource { kind: kind.into(), id: id.to_owned() };
        let model = of(ResourceKind::Model, &uuid::Uuid::now_v7().to_string());
        let lies_in = |parent| PutResourceRequest {
            resource: Some(model.clone()),
            parent,
            ..Default::default()
        };
        house.identity.put_resource(lies_in(Some(of(ResourceKind::Namespace, &id))));
        let delete = wire::DeleteNamespaceRequest { name: "vision".into() };
        let delete = async || -> Result<(), ServiceError> {
            house.namespaces().delete_namespace(house.by(&ana, delete.clone())).await?;
            Ok(())
        };
        let used = delete().await.unwrap_err();
        assert_eq!(used.reason_text(), "NAMESPACE_NOT_EMPTY");
        assert!(used.message().contains("1 models"), "{used}");
        house.identity.put_resource(lies_in(None));
        delete().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn pages_concatenate_to_the_whole_list_in_byte_order() {
    in_each_house(async |house| {
        let ana = Who::user();
        // A locale's order would put these elsewhere.
        let names = ["a", "a-b", "a.b", "a0", "a_b", "aa", "b", "z"];
        for name in names {
            house.namespace(&ana, name).await;
            house.dataset(&ana, name, "d2").await;
            house.dataset(&ana, name, "d1").await;
        }
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = wire::ListNamespacesRequest { page_size: 3, page_token };
            let page = house
                .namespaces()
                .list_namespaces(house.by(&ana, request))
                .await
                .unwrap()
                .into_inner();
            all.extend(page.namespaces.into_iter().map(|namespace| namespace.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(all, names);

        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request =
                wire::ListDatasetsRequest { page_size: 5, page_token, ..Default::default() };
            let page =
                house.datasets().list_datasets(house.by(&ana, request)).await.unwrap().into_inner();
            assert!(page.datasets.iter().all(|dataset| dataset.arrow_schema.is_empty()));
            all.extend(
                page.datasets
                    .into_iter()
                    .map(|dataset| format!("{}/{}", dataset.namespace, dataset.name)),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let expected: Vec<_> =
            names.iter().flat_map(|name| [format!("{name}/d1"), format!("{name}/d2")]).collect();
        assert_eq!(all, expected);
    })
    .await;
}

#[tokio::test]
async fn what_identity_missed_is_told_later_in_order() {
    in_each_house(async |house| {
        let ana = Who::user();
        house.namespace(&ana, "vision").await;
        house.identity.calls.refuse("PutResource", true);
        let request = wire::CreateNamespaceRequest { name: "later".into(), ..Default::default() };
        let pending: ServiceError =
            house.namespaces().create_namespace(house.by(&ana, request)).await.unwrap_err().into();
        assert_eq!((pending.code(), pending.reason_text()), (Code::Unavailable, "GRANT_PENDING"));
        assert!(!house.namespaces_of(&ana).await.unwrap().contains(&"later".to_owned()));

        house.identity.calls.refuse("PutResource", false);
        let arrived = async {
            while !house.namespaces_of(&ana).await.unwrap().contains(&"later".to_owned()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), arrived).await.unwrap();
        let told = house.identity.resources();
        assert_eq!(told.len(), 2, "each event once");
        assert!(told.iter().all(|event| event.owner_id == ana.principal.to_string()));
    })
    .await;
}
