//! Pages, look-ups, counts and statistics.

use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use items_api::v1::{
    CountItemsRequest, GetItemRequest, GetStatisticsRequest, Item, ListItemsRequest,
    ListItemsResponse,
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
