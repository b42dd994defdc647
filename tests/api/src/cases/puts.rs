//! Arrow Flight: writing.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use catalog_api::v1::{GetDatasetRequest, ListVersionsRequest};
use futures::StreamExt;
use futures::stream;
use harness::{Put, Session, data, eventually, get_all, put};
use items_api::v1::CountItemsRequest;
use options_api::v1::{Level, ResourceKind, Role};
use serde_json::Value;
use tonic::{Code, Status};

use crate::cases::flight::{by_key, path};
use crate::refusal::well_formed;
use crate::stage::{Stage, unique};

/// The number of the version that a put says it committed.
pub fn version_of(said: &Value) -> i64 {
    let version = &said["version"];
    let number = version.as_i64().or_else(|| version.as_str().and_then(|text| text.parse().ok()));
    number.unwrap_or_else(|| panic!("no version in {said}"))
}

/// How many rows the newest version has.
pub async fn count(session: &Session, namespace: &str, dataset: &str) -> i64 {
    let request = CountItemsRequest {
        namespace: namespace.to_owned(),
        dataset: dataset.to_owned(),
        ..Default::default()
    };
    session.items().count_items(request).await.expect("a count").into_inner().count
}

async fn versions(session: &Session, namespace: &str, dataset: &str) -> usize {
    let request = ListVersionsRequest {
        namespace: namespace.to_owned(),
        dataset: dataset.to_owned(),
        ..Default::default()
    };
    session.datasets().list_versions(request).await.expect("versions").into_inner().versions.len()
}

/// Refused with a code, words and a reason.
fn is(answer: Result<Value, Status>, code: Code) -> Status {
    let status = match answer {
        Ok(said) => panic!("expected {code:?}, got {said}"),
        Err(status) => status,
    };
    assert_eq!(status.code(), code, "{status:?}");
    well_formed(&status);
    status
}

fn to(namespace: &str, dataset: &str) -> Put {
    Put::to(namespace, dataset, data::schema())
}

fn rows(from: i64, to: i64) -> stream::Iter<std::vec::IntoIter<RecordBatch>> {
    stream::iter(vec![data::rows(from, to)])
}

/// Appends add, overwrites replace, and old versions stay as they were.
pub async fn modes(stage: &Stage) {
    let ns = stage.namespace().await;
    let admin = &stage.admin;
    let first = to(&ns, "rows").send(admin, rows(0, 100)).await.unwrap();
    assert_eq!(version_of(&first), 1);
    let second = to(&ns, "rows").option("mode", "append").option("message", "more");
    assert_eq!(version_of(&second.send(admin, rows(100, 150)).await.unwrap()), 2);
    let third =
        to(&ns, "rows").option("mode", "overwrite").send(admin, rows(40, 50)).await.unwrap();
    assert_eq!(version_of(&third), 3);
    let newest = get_all(admin, path(&ns, "rows")).await.unwrap();
    assert_eq!(by_key(&newest), data::rows(40, 50));
    let mut second = path(&ns, "rows");
    second.path.push("2".into());
    assert_eq!(by_key(&get_all(admin, second).await.unwrap()), data::rows(0, 150));
    is(
        to(&ns, "rows").option("mode", "replace").send(admin, rows(0, 1)).await,
        Code::InvalidArgument,
    );
    let get = GetDatasetRequest { namespace: ns, name: "rows".into() };
    let dataset = admin.datasets().get_dataset(get).await.unwrap().into_inner().dataset.unwrap();
    assert_eq!(dataset.latest.unwrap().row_count, 10);
}

/// A put repeated under its key answers what the first one did; another body is refused.
pub async fn idempotent(stage: &Stage) {
    let ns = stage.namespace().await;
    let key = unique("key");
    let put = || to(&ns, "rows").option("idempotency_key", key.as_str());
    let first = put().send(&stage.admin, rows(0, 100)).await.unwrap();
    let again = put().send(&stage.admin, rows(0, 100)).await.unwrap();
    assert_eq!(version_of(&first), version_of(&again));
    assert_eq!(count(&stage.admin, &ns, "rows").await, 100);
    assert_eq!(versions(&stage.admin, &ns, "rows").await, 1);
    let other = put().send(&stage.admin, rows(100, 200)).await.unwrap_err();
    let conflicts =
        [Code::AlreadyExists, Code::FailedPrecondition, Code::Aborted, Code::InvalidArgument];
    assert!(conflicts.contains(&other.code()), "{other:?}");
    assert_eq!(count(&stage.admin, &ns, "rows").await, 100);
}

/// The key is unique: within a put and against what is there.
pub async fn duplicate_keys(stage: &Stage) {
    let ns = stage.namespace().await;
    let twice = stream::iter(vec![data::rows(0, 10), data::rows(5, 6)]);
    is(to(&ns, "rows").send(&stage.admin, twice).await, Code::AlreadyExists);
    let get = GetDatasetRequest { namespace: ns.clone(), name: "rows".into() };
    let status = stage.admin.datasets().get_dataset(get).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "a failed first put leaves no dataset");
    to(&ns, "rows").send(&stage.admin, rows(0, 100)).await.unwrap();
    let status = is(to(&ns, "rows").send(&stage.admin, rows(99, 120)).await, Code::AlreadyExists);
    assert!(status.message().contains("99"), "the message names the key: {status:?}");
    assert_eq!(count(&stage.admin, &ns, "rows").await, 100);
    to(&ns, "rows").send(&stage.admin, rows(100, 120)).await.unwrap();
}

/// A stream that ends early, is cut or breaks leaves nothing, and the server serves on.
pub async fn truncated(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let fewer = to(&ns, "rows").option("rows", 500).send(&stage.admin, rows(10, 300)).await;
    let fewer = fewer.unwrap_err();
    let kinds = [Code::InvalidArgument, Code::DataLoss, Code::FailedPrecondition, Code::Aborted];
    assert!(kinds.contains(&fewer.code()), "{fewer:?}");
    well_formed(&fewer);
    // The client goes away in the middle of its stream.
    let (sender, receiver) = tokio::sync::mpsc::channel::<RecordBatch>(1);
    let cut = tokio_stream(receiver);
    let session = stage.admin.apart();
    let put = to(&ns, "rows");
    let call = tokio::spawn(async move { put.send(&session, cut).await });
    for part in 1..20 {
        sender.send(data::rows(part * 100, part * 100 + 100)).await.expect("a server that reads");
    }
    call.abort();
    drop(call.await);
    let enough = to(&ns, "rows").option("rows", 100).send(&stage.admin, rows(2_000, 2_100)).await;
    enough.expect("the announced number of rows");
    assert_eq!(count(&stage.admin, &ns, "rows").await, 110);
    assert_eq!(versions(&stage.admin, &ns, "rows").await, 2);
}

fn tokio_stream(
    receiver: tokio::sync::mpsc::Receiver<RecordBatch>,
) -> impl futures::Stream<Item = RecordBatch> + Send + 'static {
    stream::unfold(receiver, |mut receiver| async {
        let batch = receiver.recv().await?;
        Some((batch, receiver))
    })
}

/// Another column, another type, no column at all.
pub async fn schemas(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let ids = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let no_id: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1)]));
    let misfits: Vec<Vec<(&str, ArrayRef)>> = vec![
        vec![("id", ids(vec![100, 101])), ("extra", texts.clone())],
        vec![("id", texts.clone())],
        vec![("other", ids(vec![100, 101]))],
        vec![("id", no_id)],
    ];
    for columns in misfits {
        let batch = RecordBatch::try_from_iter(columns).expect("a batch");
        let fields = batch.schema();
        let answer = put(&stage.admin, &ns, "rows", vec![batch]).await;
        let status = is(answer, Code::InvalidArgument);
        assert!(!status.message().is_empty(), "{fields:?}");
    }
    let empty = Put::to(&ns, "nothing", Arc::new(Schema::empty()));
    is(empty.send(&stage.admin, stream::empty()).await, Code::InvalidArgument);
    let twice = Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("a", DataType::Int64, true),
    ]);
    let twice = Put::to(&ns, "twice", Arc::new(twice)).send(&stage.admin, stream::empty()).await;
    is(twice, Code::InvalidArgument);
    assert_eq!(count(&stage.admin, &ns, "rows").await, 10);
}

/// Writers at once all land: each row once, each version numbered.
pub async fn at_once(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let ns = &ns;
    let writers = (1..9).map(|writer| async move {
        let session = stage.admin.apart();
        // A writer whose keys were checked against an older head is told to try again.
        eventually("a put that lands", Duration::from_secs(60), async || {
            let from = writer * 100;
            match put(&session, ns, "rows", vec![data::rows(from, from + 100)]).await {
                Ok(said) => Some(version_of(&said)),
                Err(status) if status.code() == Code::Aborted => None,
                Err(status) => panic!("{status:?}"),
            }
        })
        .await
    });
    let mut numbers: Vec<i64> = stream::iter(writers).buffer_unordered(8).collect().await;
    numbers.sort_unstable();
    assert_eq!(numbers, (2..10).collect::<Vec<_>>());
    let all = by_key(&get_all(&stage.admin, path(ns, "rows")).await.unwrap());
    assert_eq!(all.num_rows(), 810);
    let expected = data::joined(&[data::rows(0, 10), data::rows(100, 900)]);
    assert_eq!(all, expected);
}

/// Nobody, a viewer, a stranger, a reader, a writer.
pub async fn permissions(stage: &Stage) {
    let namespace = stage.namespace_of(&stage.admin).await;
    let ns = namespace.name.as_str();
    put(&stage.admin, ns, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let anonymous = stage.platform.anonymous();
    is(to(ns, "rows").send(&anonymous, rows(10, 20)).await, Code::Unauthenticated);
    let (_, viewer) = stage.user(Role::Viewer).await;
    let denied = to(ns, "rows").send(&viewer, rows(10, 20)).await.unwrap_err();
    assert!(matches!(denied.code(), Code::NotFound | Code::PermissionDenied), "{denied:?}");
    let (user, session) = stage.user(Role::User).await;
    is(to(ns, "rows").send(&session, rows(10, 20)).await, Code::NotFound);
    is(to(ns, "new").send(&session, rows(10, 20)).await, Code::NotFound);
    is(to("no-such-namespace", "new").send(&session, rows(10, 20)).await, Code::NotFound);
    stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Write).await;
    eventually("a put with a grant", Duration::from_secs(3), async || {
        to(ns, "rows").send(&session, rows(10, 20)).await.ok()
    })
    .await;
    to(ns, "new").send(&session, rows(10, 20)).await.expect("a writer makes datasets");
}

/// Bytes that are no Arrow: a typed error each time, and the server serves on.
pub async fn garbage(stage: &Stage) {
    let ns = stage.namespace().await;
    let good: Vec<FlightData> = to(&ns, "rows").messages(rows(0, 100)).collect().await;
    let descriptor = good[0].flight_descriptor.clone();
    let headless = FlightData { flight_descriptor: descriptor.clone(), ..Default::default() };
    let noise = FlightData {
        flight_descriptor: descriptor,
        data_header: vec![0xaa; 200].into(),
        ..Default::default()
    };
    let mut cut_body = good[1].clone();
    cut_body.data_body = cut_body.data_body.slice(..cut_body.data_body.len() / 2);
    let mut cut_header = good[1].clone();
    cut_header.data_header = cut_header.data_header.slice(..cut_header.data_header.len() / 2);
    let nameless = FlightData { flight_descriptor: None, ..good[0].clone() };
    for messages in [
        vec![],
        vec![headless],
        vec![noise],
        vec![good[0].clone(), cut_body],
        vec![good[0].clone(), cut_header],
        vec![nameless],
        vec![good[1].clone()],
    ] {
        let shown = messages.len();
        let answer = match stage.admin.flight().do_put(stream::iter(messages)).await {
            Ok(answer) => answer.into_inner().next().await.expect("an answer").map(|_| Value::Null),
            Err(status) => Err(status),
        };
        let status = answer.expect_err("refused");
        let kinds = [Code::InvalidArgument, Code::DataLoss];
        assert!(kinds.contains(&status.code()), "{shown} messages: {status:?}");
        well_formed(&status);
    }
    let answer = stage.admin.flight().do_put(stream::iter(good)).await.unwrap().into_inner();
    answer.collect::<Vec<_>>().await;
    assert_eq!(count(&stage.admin, &ns, "rows").await, 100);
}
