//! Pages, look-ups, counts and statistics.

use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use futures::TryStreamExt;
use items_api::v1::bulk_edit_items_request::Change;
use items_api::v1::edits_service_client::EditsServiceClient;
use items_api::v1::{
    BulkEditItemsRequest, CountItemsRequest, ExportItemsRequest, ExportItemsResponse,
    GetItemRequest, GetStatisticsRequest, Item, ListItemsRequest, ListItemsResponse,
};
use service_error::{Code, ServiceError};

use super::{House, Who, path, rows};

fn list(filter: &str, page_size: i32, page_token: &str) -> ListItemsRequest {
    ListItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        filter: filter.into(),
        page_size,
        page_token: page_token.into(),
        ..Default::default()
    }
}

async fn page(
    house: &House,
    who: &Who,
    request: ListItemsRequest,
) -> Result<ListItemsResponse, ServiceError> {
    Ok(house.items().list_items(house.by(who, request)).await?.into_inner())
}

async fn all(
    house: &House,
    who: &Who,
    filter: &str,
    size: i32,
    between: impl AsyncFn(usize),
) -> Vec<Item> {
    let (mut items, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let found = page(house, who, list(filter, size, &token)).await.unwrap();
        assert!(found.items.len() <= usize::try_from(size).unwrap());
        items.extend(found.items);
        token = found.next_page_token;
        if token.is_empty() {
            return items;
        }
        between(pages).await;
        pages += 1;
    }
}

fn widths(items: &[Item]) -> Vec<Option<Value>> {
    items.iter().map(|item| item.values.first().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_concatenate_to_the_scan_while_others_write() {
    let house = House::with(|settings| settings.blocks.rows_max = 700).await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..2_000)]).await.unwrap();
    for (filter, count) in
        [("", 2_000), ("section = \"games\"", 667), ("width > 1990", 9), ("width > 100000", 0)]
    {
        let whole = all(&house, &who, filter, 10_000, async |_| {}).await;
        assert_eq!(whole.len(), count, "{filter}");
        let version = house.get(&who, path("t")).await.unwrap().num_rows() as u64;
        let pages = all(&house, &who, filter, 101, async |page| {
            // A version between every two pages of one list.
            if page < 3 {
                let begin = 1_000_000 + version * 10 + page as u64;
                house.put(&who, path("t"), &[rows(begin..begin + 1)]).await.unwrap();
            }
        })
        .await;
        assert_eq!(widths(&pages), widths(&whole), "{filter}");
        let anew = super::command(serde_json::json!({"dataset": "vision/t", "mode": "overwrite"}));
        house.put(&who, anew, &[rows(0..2_000)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_bound_to_its_list() {
    let house = House::new().await;
    let (who, other) = (Who::admin(), Who::admin());
    house.put(&who, path("t"), &[rows(0..100)]).await.unwrap();
    let token = page(&house, &who, list("width > 3", 10, "")).await.unwrap().next_page_token;
    assert!(
        page(&house, &who, list(" width>3.0 ", 10, &token)).await.is_ok(),
        "the same filter in other words"
    );
    let columns = ListItemsRequest { columns: vec!["id".into()], ..list("width > 3", 10, &token) };
    for (caller, request) in [
        (&other, list("width > 3", 10, &token)),
        (&who, list("width > 4", 10, &token)),
        (&who, columns),
        (&who, list("width > 3", 10, "nonsense")),
        (&who, ListItemsRequest { version: "7".into(), ..list("width > 3", 10, &token) }),
    ] {
        let error = page(&house, caller, request).await.unwrap_err();
        assert_eq!(
            (error.code(), error.field_name()),
            (Code::InvalidArgument, Some("page_token")),
            "{error}"
        );
    }
    let error = page(&house, &who, list("", 10_001, "")).await.unwrap_err();
    assert_eq!(error.field_name(), Some("page_size"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_found_by_its_key() {
    let house = House::with(|settings| settings.blocks.rows_max = 700).await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..2_000)]).await.unwrap();
    let get = |key: String| GetItemRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        key,
        columns: vec!["width".into(), "tags".into()],
        ..Default::default()
    };
    let ids = rows(1_234..1_235);
    let id = arrow::array::AsArray::as_fixed_size_binary(ids.column(0)).value(0);
    let simple: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &simple[part]);
    for key in [parts.join("-"), simple.clone()] {
        let found = house.items().get_item(house.by(&who, get(key))).await.unwrap().into_inner();
        let values = found.item.unwrap().values;
        assert_eq!(values[0].kind, Some(Kind::IntValue(1_234)));
        assert!(matches!(&values[1].kind, Some(Kind::ListValue(list)) if list.values.len() == 1));
    }
    let strange = "01932d3e-7b2a-7c1f-9f00-000000000000".to_owned();
    let absent = house.items().get_item(house.by(&who, get(strange))).await.unwrap_err();
    assert!(ServiceError::from(absent).reason_is("ITEM_NOT_FOUND"));
    let wrong = house.items().get_item(house.by(&who, get("seven".into()))).await.unwrap_err();
    assert_eq!(ServiceError::from(wrong).field_name(), Some("key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_statistics_are_exact() {
    let house = House::with(|settings| settings.blocks.rows_max = 700).await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..2_000)]).await.unwrap();
    let count = |filter: &str| CountItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        filter: filter.into(),
        ..Default::default()
    };
    for (filter, expected) in
        [("", 2_000), ("width = null", 200), ("width >= 0", 1_800), ("tags:\"t1\"", 666)]
    {
        let found =
            house.items().count_items(house.by(&who, count(filter))).await.unwrap().into_inner();
        assert_eq!((found.count, found.version), (expected, 1), "{filter}");
    }
    let request = GetStatisticsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        version: String::new(),
    };
    let found = house.items().get_statistics(house.by(&who, request)).await.unwrap().into_inner();
    assert_eq!((found.row_count, found.block_count), (2_000, 3));
    let width = &found.columns[1];
    assert_eq!((width.null_count, width.exact), (200, true));
    assert_eq!(width.min.as_ref().unwrap().kind, Some(Kind::IntValue(1)));
    assert_eq!(width.max.as_ref().unwrap().kind, Some(Kind::IntValue(1_999)));
    assert!(found.columns[4].min.is_none());
}

fn export(filter: &str, page_token: &str) -> ExportItemsRequest {
    ExportItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        filter: filter.into(),
        page_token: page_token.into(),
        ..Default::default()
    }
}

/// The rows of a whole export: columns first, the count last.
async fn exported(
    house: &House,
    who: &Who,
    request: ExportItemsRequest,
) -> Result<Vec<Item>, ServiceError> {
    let sent = house.items().export_items(house.by(who, request)).await?.into_inner();
    let sent: Vec<ExportItemsResponse> = sent.map_err(ServiceError::from).try_collect().await?;
    let (first, last) = (&sent[0], &sent[sent.len() - 1]);
    assert!(!first.columns.is_empty() && first.version.is_some() && first.items.is_empty());
    assert!(sent.iter().all(|message| prost::Message::encoded_len(message) < 4 << 20));
    assert!(sent[1..].iter().all(|message| message.columns.is_empty()));
    assert!(sent[..sent.len() - 1].iter().all(|message| message.count.is_none()));
    let count = last.count;
    let items: Vec<Item> = sent.into_iter().flat_map(|message| message.items).collect();
    assert_eq!(count, i64::try_from(items.len()).ok(), "the last message counts");
    Ok(items)
}

/// Changes some rows, which are in the delta then.
async fn edit_some(house: &House, who: &Who) {
    let request = BulkEditItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        filter: "width > 1960 OR width < 20".into(),
        change: Some(Change::Favorite(true)),
        ..Default::default()
    };
    let mut edits = EditsServiceClient::new(house.transport.clone());
    edits.bulk_edit_items(house.by(who, request)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_all_pages_of_its_list() {
    let house = House::with(|settings| settings.blocks.rows_max = 700).await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..2_000)]).await.unwrap();
    let mut next = 9_000;
    for filter in ["", "section = \"games\"", "width > 1990 OR width = 7", "width > 100000"] {
        // From any page on, of the snapshot that the list reads, within blocks and beyond them.
        for size in [1, 3, 650, 1_945, 1_990] {
            edit_some(&house, &who).await;
            let whole = all(&house, &who, filter, 10_000, async |_| {}).await;
            assert_eq!(exported(&house, &who, export(filter, "")).await.unwrap(), whole);
            let limited = ExportItemsRequest { limit: 5, ..export(filter, "") };
            let limited = exported(&house, &who, limited).await.unwrap();
            assert_eq!(limited, whole[..whole.len().min(5)], "{filter}");
            let first = page(&house, &who, list(filter, size, "")).await.unwrap();
            house.put(&who, path("t"), &[rows(next..next + 1)]).await.unwrap();
            next += 1;
            if !first.next_page_token.is_empty() {
                let more = exported(&house, &who, export(filter, &first.next_page_token)).await;
                assert_eq!(more.unwrap(), whole[first.items.len()..], "{filter} after {size}");
            }
        }
    }
    let listed = ListItemsRequest { order_by: "width desc, id".into(), ..list("", 10_000, "") };
    let listed = page(&house, &who, listed).await.unwrap().items;
    let ordered = ExportItemsRequest { order_by: "width desc, id".into(), ..export("", "") };
    assert_eq!(exported(&house, &who, ordered.clone()).await.unwrap(), listed);
    let first = ListItemsRequest { order_by: "width desc, id".into(), ..list("", 10, "") };
    let token = page(&house, &who, first).await.unwrap().next_page_token;
    for (wrong, field) in [
        (ExportItemsRequest { page_token: token, ..ordered.clone() }, "page_token"),
        (export("", "nonsense"), "page_token"),
        (ExportItemsRequest { limit: -1, ..export("", "") }, "limit"),
        (ExportItemsRequest { columns: vec!["nothing".into()], ..export("", "") }, "columns"),
        (ExportItemsRequest { order_by: "nothing".into(), ..ordered }, "order_by"),
        (export("nothing = 1", ""), "filter"),
    ] {
        let error = exported(&house, &who, wrong).await.unwrap_err();
        assert_eq!(error.field_name(), Some(field), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_ends_with_its_right_and_with_its_reader() {
    let house = House::with(|settings| settings.blocks.rows_max = 700).await;
    let (who, stranger) = (Who::admin(), Who::user());
    house.put(&who, path("t"), &[rows(0..2_000)]).await.unwrap();
    let error = exported(&house, &stranger, export("", "")).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    // A reader that goes away leaves nothing behind: the next one reads.
    for _ in 0..20 {
        let sent = house.items().export_items(house.by(&who, export("", ""))).await.unwrap();
        assert!(sent.into_inner().message().await.unwrap().is_some());
    }
    assert_eq!(exported(&house, &who, export("", "")).await.unwrap().len(), 2_000);
}
