//! Datasets and their versions.

use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, write_message};
use catalog_api::v1::{
    CreateDatasetRequest, Dataset, DeleteDatasetRequest, GetDatasetRequest, GetVersionRequest,
    ListDatasetsRequest, ListVersionsRequest, Profile,
};
use harness::{data, put};
use items_api::v1::ListItemsRequest;
use options_api::v1::Role;
use tonic::Code;

use crate::cases::namespaces::BAD_NAMES;
use crate::refusal;
use crate::stage::Stage;

/// A schema as an encapsulated IPC message.
fn arrow_schema() -> Vec<u8> {
    let options = IpcWriteOptions::default();
    let mut tracker = DictionaryTracker::new(true);
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        &data::schema(),
        &mut tracker,
        &options,
    );
    let mut bytes = Vec::new();
    write_message(&mut bytes, encoded, &options).expect("a message");
    bytes
}

fn table(namespace: &str, name: &str) -> CreateDatasetRequest {
    CreateDatasetRequest {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        profile: Profile::Table.into(),
        arrow_schema: arrow_schema(),
        ..Default::default()
    }
}

fn get(namespace: &str, name: &str) -> GetDatasetRequest {
    GetDatasetRequest { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A dataset is there from its creation to its deletion, empty until something is put.
pub async fn lifecycle(stage: &Stage) {
    let ns = stage.namespace().await;
    let mut datasets = stage.admin.datasets();
    let made = datasets.create_dataset(table(&ns, "rows")).await.unwrap().into_inner();
    let made: Dataset = made.dataset.unwrap();
    assert_eq!((made.namespace.as_str(), made.name.as_str()), (ns.as_str(), "rows"));
    assert_eq!(made.key_column, "id");
    assert_eq!(made.columns.len(), 5);
    assert!(made.latest.is_none());
    let read = datasets.get_dataset(get(&ns, "rows")).await.unwrap().into_inner();
    assert_eq!(read.dataset.unwrap().id, made.id);
    refusal::refused(datasets.create_dataset(table(&ns, "rows")).await, Code::AlreadyExists);
    let items =
        ListItemsRequest { namespace: ns.clone(), dataset: "rows".into(), ..Default::default() };
    assert!(stage.admin.items().list_items(items).await.unwrap().into_inner().items.is_empty());
    let list = ListDatasetsRequest { namespace: ns.clone(), ..Default::default() };
    let list = datasets.list_datasets(list).await.unwrap().into_inner();
    assert_eq!(list.datasets.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["rows"]);
    let delete = DeleteDatasetRequest { namespace: ns.clone(), name: "rows".into() };
    datasets.delete_dataset(delete).await.unwrap();
    refusal::refused(datasets.get_dataset(get(&ns, "rows")).await, Code::NotFound);
    let again = datasets.create_dataset(table(&ns, "rows")).await.expect("the name is free");
    assert_ne!(again.into_inner().dataset.unwrap().id, made.id, "an id is never used again");
}

/// Names outside the grammar, a schema that is none, a key that is no column, no namespace.
pub async fn refused(stage: &Stage) {
    let ns = stage.namespace().await;
    let mut datasets = stage.admin.datasets();
    for name in BAD_NAMES {
        refusal::refused(datasets.create_dataset(table(&ns, name)).await, Code::InvalidArgument);
    }
    let no_schema = CreateDatasetRequest { arrow_schema: Vec::new(), ..table(&ns, "rows") };
    refusal::refused(datasets.create_dataset(no_schema).await, Code::InvalidArgument);
    let garbage = CreateDatasetRequest { arrow_schema: vec![0xff; 64], ..table(&ns, "rows") };
    refusal::refused(datasets.create_dataset(garbage).await, Code::InvalidArgument);
    let cut = arrow_schema();
    let cut =
        CreateDatasetRequest { arrow_schema: cut[..cut.len() / 2].into(), ..table(&ns, "rows") };
    refusal::refused(datasets.create_dataset(cut).await, Code::InvalidArgument);
    let no_key = CreateDatasetRequest { key_column: "nothing".into(), ..table(&ns, "rows") };
    refusal::refused(datasets.create_dataset(no_key).await, Code::InvalidArgument);
    refusal::refused(
        datasets.create_dataset(table("no-such-namespace", "rows")).await,
        Code::NotFound,
    );
    refusal::refused(datasets.get_dataset(get(&ns, "rows")).await, Code::NotFound);
}

/// Versions are counted from 1, newest first, each with its rows and its parent.
pub async fn versions(stage: &Stage) {
    let ns = stage.namespace().await;
    for part in 0..3 {
        let rows = data::rows(part * 10, part * 10 + 10);
        put(&stage.admin, &ns, "rows", vec![rows]).await.unwrap();
    }
    let list =
        ListVersionsRequest { namespace: ns.clone(), dataset: "rows".into(), ..Default::default() };
    let list = stage.admin.datasets().list_versions(list).await.unwrap().into_inner().versions;
    let seen: Vec<_> = list.iter().map(|v| (v.number, v.parent, v.row_count)).collect();
    assert_eq!(seen, [(3, 2, 30), (2, 1, 20), (1, 0, 10)]);
    let version = |version: &str| GetVersionRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        version: version.into(),
    };
    let mut datasets = stage.admin.datasets();
    let second = datasets.get_version(version("2")).await.unwrap().into_inner();
    assert_eq!(second.version.unwrap(), list[1]);
    let latest = datasets.get_version(version("latest")).await.unwrap().into_inner();
    assert_eq!(latest.version.unwrap().number, 3);
    refusal::refused(datasets.get_version(version("4")).await, Code::NotFound);
    refusal::refused(datasets.get_version(version("two")).await, Code::InvalidArgument);
}

/// A public dataset is read by every caller and changed by none but the granted.
pub async fn public(stage: &Stage) {
    let ns = stage.namespace().await;
    let request = CreateDatasetRequest { public: true, ..table(&ns, "open") };
    stage.admin.datasets().create_dataset(request).await.unwrap();
    put(&stage.admin, &ns, "open", vec![data::rows(0, 10)]).await.unwrap();
    let (_, viewer) = stage.user(Role::Viewer).await;
    let items =
        ListItemsRequest { namespace: ns.clone(), dataset: "open".into(), ..Default::default() };
    let read = viewer.items().list_items(items).await.expect("a public dataset").into_inner();
    assert_eq!(read.items.len(), 10);
    let (_, user) = stage.user(Role::User).await;
    let denied = put(&user, &ns, "open", vec![data::rows(10, 20)]).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
}
