//! Saved filters, orders over Flight, placeholders: the reading surface through every door.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use catalog_api::v1::GetDatasetRequest;
use futures::TryStreamExt;
use harness::{data, eventually, fetch_bytes, get_all, put};
use http::Method;
use items_api::v1::{
    CountItemsRequest, CreateFilterRequest, ExportItemsRequest, ExportItemsResponse, Item,
    ListItemsRequest, SummarizeItemsRequest,
};
use options_api::v1::{Level, ResourceKind, Role};
use serde_json::json;
use tonic::Code;

use crate::cases::accounts::IN_FORCE_WITHIN;
use crate::cases::flight::command;
use crate::refusal::refused;
use crate::stage::Stage;

const ROWS: i64 = 3_000;

async fn filled(stage: &Stage) -> String {
    let ns = stage.namespace().await;
    for part in 0..3 {
        let rows = data::rows(part * 1_000, part * 1_000 + 1_000);
        put(&stage.admin, &ns, "rows", vec![rows]).await.unwrap();
    }
    ns
}

fn wide(id: i64) -> bool {
    data::width(id) > 3_000
}

/// Saved once, used by name in lists, counts, statistics, flights and exports; over gRPC, JSON
/// and the command line; by whoever may read.
pub async fn saved_filters(stage: &Stage) {
    let ns = filled(stage).await;
    let filters = format!("/v1/namespaces/{ns}/datasets/rows/filters");
    let body = json!({"name": "wide", "filter": "width > 3000", "description": "large ones"});
    let made = stage.admin.post(&filters, &body).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(made.json()["filter"]["revision"], "1", "{made:?}");
    let expected = (0..ROWS).filter(|id| wide(*id)).count();
    let count = CountItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        filter: "saved:wide".into(),
        ..Default::default()
    };
    let counted = stage.admin.items().count_items(count.clone()).await.unwrap().into_inner();
    assert_eq!(counted.count, i64::try_from(expected).unwrap());
    let list = ListItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        filter: "saved:wide AND is_favorite = true".into(),
        page_size: 10_000,
        ..Default::default()
    };
    let listed = stage.admin.items().list_items(list).await.unwrap().into_inner();
    let both = (0..ROWS).filter(|id| wide(*id) && data::is_favorite(*id)).count();
    assert_eq!(listed.items.len(), both);
    let summarize = SummarizeItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        filter: "saved:wide".into(),
        columns: vec!["width".into()],
        ..Default::default()
    };
    let summed = stage.admin.analysis().summarize_items(summarize).await.unwrap().into_inner();
    assert_eq!(summed.row_count, i64::try_from(expected).unwrap());
    let asked = json!({"dataset": format!("{ns}/rows"), "filter": "saved:wide"});
    let flown = get_all(&stage.admin, command(&asked)).await.unwrap();
    assert_eq!(data::joined(&flown).num_rows(), expected);
    let name = format!("{ns}/rows");
    let platform = &stage.platform;
    let listed = platform.cli(&["items", "filters", "list", &name, "-o", "json"]).await.json();
    assert_eq!(listed["filters"][0]["filter"], "width > 3000", "{listed}");
    let out = platform.scratch().join(format!("{ns}-wide.csv"));
    let export = ["export", &name, out.to_str().unwrap(), "--filter", "saved:wide"];
    assert_eq!(platform.cli(&export).await.code, 0);
    assert_eq!(std::fs::read_to_string(&out).unwrap().lines().count(), expected + 1);
    shared_filters(stage, &ns, count).await;
    let change = json!({"filter": "width > 1"});
    let updated = stage.admin.patch(&format!("{filters}/wide"), &change).await;
    assert_eq!(updated.json()["filter"]["revision"], "2", "{updated:?}");
    let gone = platform.cli(&["items", "filters", "delete", &name, "wide"]).await;
    assert_eq!(gone.code, 0, "{gone:?}");
    let absent = platform.cli(&["items", "filters", "show", &name, "wide"]).await;
    assert_eq!(absent.code, 3, "{absent:?}");
}

/// Whoever may read uses it, whoever may write saves another that fits.
async fn shared_filters(stage: &Stage, ns: &str, count: CountItemsRequest) {
    let (reader, session) = stage.user(Role::User).await;
    refused(session.items().count_items(count.clone()).await, Code::NotFound);
    let get = GetDatasetRequest { namespace: ns.to_owned(), name: "rows".into() };
    let dataset = stage.admin.datasets().get_dataset(get).await.unwrap().into_inner();
    let dataset = dataset.dataset.expect("a dataset").id;
    stage.grant(&reader, ResourceKind::Dataset, &dataset, Level::Read).await;
    eventually("the grant opens the filter", IN_FORCE_WITHIN * 3, async || {
        session.items().count_items(count.clone()).await.ok().map(drop)
    })
    .await;
    let create = CreateFilterRequest {
        namespace: ns.to_owned(),
        dataset: "rows".into(),
        name: "mine".into(),
        filter: "width > 1".into(),
        ..Default::default()
    };
    refused(session.filters().create_filter(create.clone()).await, Code::PermissionDenied);
    let unfit = CreateFilterRequest { filter: "height > 1".into(), ..create };
    let status = refused(stage.admin.filters().create_filter(unfit).await, Code::InvalidArgument);
    assert!(status.message().contains("height"), "{status:?}");
}

/// A flight in an order is every row once and in that order, with and without a limit.
pub async fn ordered_flights(stage: &Stage) {
    let ns = filled(stage).await;
    let mut expected: Vec<i64> = (0..ROWS).collect();
    expected.sort_by_key(|id| (-data::width(*id), *id));
    for limit in [None, Some(70)] {
        let mut asked = json!({
            "dataset": format!("{ns}/rows"), "columns": ["id"], "order_by": "width desc",
        });
        if let Some(limit) = limit {
            asked["limit"] = limit.into();
        }
        let flown = data::joined(&get_all(&stage.admin, command(&asked)).await.unwrap());
        let ids = flown.column(0).as_primitive::<Int64Type>().values().to_vec();
        let rows = usize::try_from(limit.unwrap_or(ROWS)).unwrap();
        assert_eq!(ids, expected[..rows], "{limit:?}");
    }
}

/// An export is the pages of its list in messages that any client takes, with its count; over
/// JSON it is a document a line; whoever may list it may have it.
pub async fn exports(stage: &Stage) {
    let ns = filled(stage).await;
    let (filter, order) = ("width > 3000", "width desc, id");
    for (filter, order_by) in [("", ""), (filter, ""), (filter, order)] {
        let list = ListItemsRequest {
            namespace: ns.clone(),
            dataset: "rows".into(),
            filter: filter.into(),
            order_by: order_by.into(),
            page_size: 10_000,
            ..Default::default()
        };
        let listed = stage.admin.items().list_items(list).await.unwrap().into_inner();
        let export = ExportItemsRequest {
            namespace: ns.clone(),
            dataset: "rows".into(),
            filter: filter.into(),
            order_by: order_by.into(),
            ..Default::default()
        };
        let sent = stage.admin.items().export_items(export).await.unwrap().into_inner();
        let sent: Vec<ExportItemsResponse> = sent.try_collect().await.unwrap();
        assert_eq!((&sent[0].columns, sent[0].version), (&listed.columns, Some(listed.version)));
        assert_eq!(sent.last().unwrap().count, i64::try_from(listed.items.len()).ok());
        let items: Vec<Item> = sent.into_iter().flat_map(|message| message.items).collect();
        assert_eq!(items, listed.items, "{filter:?} {order_by:?}");
    }
    let path = format!("/v1/namespaces/{ns}/datasets/rows/items:export");
    let answer = stage.admin.get(&format!("{path}?columns=id&columns=section&limit=1200")).await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/x-ndjson"));
    let lines: Vec<serde_json::Value> =
        answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<_> = lines.iter().map(|line| line.get("result").unwrap_or(line)).collect();
    assert_eq!(lines[0]["columns"][1]["name"], "section", "{}", lines[0]);
    let count: usize = lines.iter().filter_map(|line| line["items"].as_array()).map(Vec::len).sum();
    assert_eq!(count, 1_200);
    assert_eq!(lines.last().unwrap()["count"], "1200");
    let wrong = stage.admin.get(&format!("{path}?filter=width%20%3E")).await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let (_, stranger) = stage.user(Role::User).await;
    assert_eq!(stranger.get(&path).await.status, 404);
    assert_eq!(stage.platform.anonymous().get(&path).await.status, 401);
}

/// What stands for a picture until it is there, and its thumbnail, over HTTP.
pub async fn placeholders(stage: &Stage) {
    let ns = stage.namespace().await;
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/shapes");
    let name = format!("{ns}/shapes");
    let imported = stage.platform.cli(&["import", samples, &name]).await;
    assert_eq!(imported.code, 0, "{imported:?}");
    let list = ["items", "list", &name, "--limit", "1", "-o", "json"];
    let listed = stage.platform.cli(&list).await.json();
    let hash = listed["items"][0]["content_hash"].as_str().expect("a hash").to_owned();
    let media = format!("/v1/namespaces/{ns}/datasets/shapes/media/{hash}");
    let info = stage.admin.get(&format!("{media}/info")).await;
    assert_eq!(info.status, 200, "{info:?}");
    let info = info.json();
    assert_eq!(info["mime_type"], "image/png", "{info}");
    assert!(info["width"].as_i64().is_some_and(|width| width > 0), "{info}");
    assert!(info["color"].as_str().is_some_and(|color| color.starts_with('#')), "{info}");
    for (format, mime) in [("webp", "image/webp"), ("jpeg", "image/jpeg")] {
        let path = format!("{media}/thumbnail?size=64&format={format}");
        let thumbnail = stage.admin.get(&path).await;
        assert_eq!(thumbnail.status, 200, "{thumbnail:?}");
        assert_eq!(thumbnail.content_type, mime);
        assert!(thumbnail.text.len() > 20, "{format}: {} bytes", thumbnail.text.len());
    }
    let anonymous = stage.platform.anonymous().get(&format!("{media}/info")).await;
    assert_eq!(anonymous.status, 401, "{anonymous:?}");
}

/// What HTTP says of a file's bytes.
struct Bytes {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

async fn bytes(stage: &Stage, method: Method, path: &str, headers: &[(&str, &str)]) -> Bytes {
    let url = format!("{}{path}", stage.platform.url());
    let token = format!("Bearer {}", stage.platform.admin_token());
    let headers = [headers, &[("authorization", token.as_str())]].concat();
    let (status, headers, body) = fetch_bytes(method, &url, &headers).await;
    Bytes { status, headers, body }
}

/// A file by its hash and by its item: whole, in parts, and not again for who has it.
pub async fn files_in_parts(stage: &Stage) {
    let ns = stage.namespace().await;
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/shapes");
    let name = format!("{ns}/shapes");
    let imported = stage.platform.cli(&["import", samples, &name]).await;
    assert_eq!(imported.code, 0, "{imported:?}");
    let list = ["items", "list", &name, "--limit", "1", "-o", "json"];
    let listed = stage.platform.cli(&list).await.json();
    let text = |column: &str| listed["items"][0][column].as_str().expect(column).to_owned();
    let (hash, id) = (text("content_hash"), text("id"));
    let dataset = format!("/v1/namespaces/{ns}/datasets/shapes");
    let get =
        async |path: &str, headers: &[(&str, &str)]| bytes(stage, Method::GET, path, headers).await;
    let by_hash = format!("{dataset}/media/{hash}");
    let whole = get(&by_hash, &[]).await;
    let tag = format!("\"{hash}\"");
    assert_eq!((whole.status, &whole.body[1..4]), (200, &b"PNG"[..]));
    assert_eq!(whole.headers["etag"], tag.as_str());
    assert_eq!(whole.headers["accept-ranges"], "bytes");
    assert_eq!(whole.headers["content-type"], "image/png");
    let total = whole.body.len();
    assert_eq!(whole.headers["content-length"], total.to_string().as_str());
    for path in [
        by_hash.clone(),
        format!("{dataset}/items/{id}/media"),
        format!("{dataset}/items/{id}/media?version=1"),
    ] {
        let part = get(&path, &[("range", "bytes=4-19"), ("if-range", &tag)]).await;
        assert_eq!((part.status, &part.body[..]), (206, &whole.body[4..20]), "{path}");
        assert_eq!(part.headers["content-range"], format!("bytes 4-19/{total}").as_str());
        let last = get(&path, &[("range", "bytes=-5")]).await;
        assert_eq!((last.status, &last.body[..]), (206, &whole.body[total - 5..]), "{path}");
        let again = get(&path, &[("if-none-match", &tag), ("range", "bytes=0-3")]).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        assert_eq!(again.headers["etag"], tag.as_str());
        let other = get(&path, &[("range", "bytes=4-19"), ("if-range", "\"x\"")]).await;
        assert_eq!((other.status, other.body.len()), (200, total), "{path}");
        let outside = get(&path, &[("range", "bytes=99999999-")]).await;
        assert_eq!(outside.status, 416, "{path}");
        assert_eq!(outside.headers["content-range"], format!("bytes */{total}").as_str());
        let head = bytes(stage, Method::HEAD, &path, &[("range", "bytes=4-19")]).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.headers["content-length"], total.to_string().as_str());
    }
    let small = get(&format!("{by_hash}/thumbnail?size=64"), &[]).await;
    let small_tag = small.headers["etag"].to_str().expect("text").to_owned();
    let again =
        get(&format!("{by_hash}/thumbnail?size=64"), &[("if-none-match", &small_tag)]).await;
    assert_eq!((small.status, again.status), (200, 304));
    let absent = get(&format!("{dataset}/items/{}/media", "0".repeat(32)), &[]).await;
    assert_eq!(absent.status, 404);
}
