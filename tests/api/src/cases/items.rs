//! Rows one by one and page by page.

use catalog_api::v1::value::Kind;
use harness::{Session, data, put};
use items_api::v1::{
    CountItemsRequest, GetItemRequest, GetStatisticsRequest, Item, ListItemsRequest,
    ListItemsResponse,
};
use options_api::v1::{Level, ResourceKind, Role};
use tonic::Code;

use crate::refusal::refused;
use crate::stage::Stage;

const FILTER: &str = "width > 3000 AND is_favorite = true";

fn fits(id: i64) -> bool {
    data::width(id) > 3_000 && data::is_favorite(id)
}

fn list(namespace: &str, filter: &str, page_size: i32) -> ListItemsRequest {
    ListItemsRequest {
        namespace: namespace.to_owned(),
        dataset: "rows".into(),
        filter: filter.to_owned(),
        page_size,
        ..Default::default()
    }
}

async fn page(session: &Session, request: ListItemsRequest) -> ListItemsResponse {
    session.items().list_items(request).await.expect("a page").into_inner()
}

/// The key of a row: its first cell.
fn id(item: &Item) -> i64 {
    match item.values[0].kind {
        Some(Kind::IntValue(id)) => id,
        ref other => panic!("no key: {other:?}"),
    }
}

/// Keys of all pages, with `between` called after each.
async fn all_pages(
    session: &Session,
    request: ListItemsRequest,
    mut between: impl AsyncFnMut(),
) -> Vec<i64> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let answer = page(session, ListItemsRequest { page_token, ..request.clone() }).await;
        assert!(answer.items.len() <= usize::try_from(request.page_size).unwrap());
        ids.extend(answer.items.iter().map(id));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
        between().await;
    }
}

/// Three blocks: whatever the page size, the concatenated pages are the scan, each row once.
pub async fn pages(stage: &Stage) {
    let ns = stage.namespace().await;
    for part in 0..3 {
        let rows = data::rows(part * 400, part * 400 + 400);
        put(&stage.admin, &ns, "rows", vec![rows]).await.unwrap();
    }
    let whole = all_pages(&stage.admin, list(&ns, "", 10_000), async || ()).await;
    let mut sorted = whole.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..1_200).collect::<Vec<_>>());
    for page_size in [1_199, 400, 333] {
        let paged = all_pages(&stage.admin, list(&ns, "", page_size), async || ()).await;
        assert_eq!(paged, whole, "pages of {page_size}");
    }
    let expected: Vec<i64> = whole.iter().copied().filter(|id| fits(*id)).collect();
    assert!(expected.len() > 100);
    for page_size in [1, 7, 100, 10_000] {
        let paged = all_pages(&stage.admin, list(&ns, FILTER, page_size), async || ()).await;
        assert_eq!(paged, expected, "filtered pages of {page_size}");
    }
    let two = ListItemsRequest { columns: vec!["id".into(), "section".into()], ..list(&ns, "", 3) };
    let two = page(&stage.admin, two).await;
    assert_eq!(two.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["id", "section"]);
    assert!(two.items.iter().all(|item| item.values.len() == 2));
    let first = ListItemsRequest { version: "1".into(), ..list(&ns, "", 10_000) };
    assert_eq!(page(&stage.admin, first).await.items.len(), 400);
}

/// A list that was begun goes on as it began, whatever is put meanwhile.
pub async fn pages_under_writes(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 300)]).await.unwrap();
    for filter in ["", FILTER] {
        let mut next = 10_000 * (1 + filter.len() as i64);
        let paged = all_pages(&stage.admin, list(&ns, filter, 60), async || {
            put(&stage.admin, &ns, "rows", vec![data::rows(next, next + 50)]).await.unwrap();
            next += 50;
        })
        .await;
        let old: Vec<i64> = paged.iter().copied().filter(|id| *id < 300).collect();
        let expected: Vec<i64> = (0..300).filter(|id| filter.is_empty() || fits(*id)).collect();
        assert_eq!(old, expected, "filter {filter:?}");
        if filter.is_empty() {
            assert_eq!(paged.len(), 300, "rows of a later version");
        }
    }
}

/// A page token is good for the list it came from and for the caller who got it.
pub async fn page_tokens(stage: &Stage) {
    let namespace = stage.namespace_of(&stage.admin).await;
    let ns = namespace.name.as_str();
    put(&stage.admin, ns, "rows", vec![data::rows(0, 100)]).await.unwrap();
    let first = page(&stage.admin, list(ns, "", 10)).await;
    let token = first.next_page_token;
    let with = |request: ListItemsRequest, token: &str| ListItemsRequest {
        page_token: token.to_owned(),
        ..request
    };
    let refuse = async |session: &Session, request: ListItemsRequest| {
        refused(session.items().list_items(request).await, Code::InvalidArgument);
    };
    refuse(&stage.admin, with(list(ns, FILTER, 10), &token)).await;
    refuse(&stage.admin, with(list(ns, "", 10), "nonsense")).await;
    refuse(&stage.admin, with(list(ns, "", 10), &token[..token.len() - 2])).await;
    let other = stage.namespace().await;
    put(&stage.admin, &other, "rows", vec![data::rows(0, 100)]).await.unwrap();
    refuse(&stage.admin, with(list(&other, "", 10), &token)).await;
    let (user, session) = stage.user(Role::User).await;
    stage.grant(&user, ResourceKind::Namespace, &namespace.id, Level::Read).await;
    harness::eventually("the grant", std::time::Duration::from_secs(3), async || {
        session.items().list_items(list(ns, "", 10)).await.ok()
    })
    .await;
    refuse(&session, with(list(ns, "", 10), &token)).await;
    for page_size in [-1, 10_001] {
        let answer = stage.admin.items().list_items(list(ns, "", page_size)).await;
        // Above the limit an answer may also be a page of the limit.
        if page_size < 0 || answer.is_err() {
            refused(answer, Code::InvalidArgument);
        }
    }
}

/// One row by its key, numbers of rows, and what the columns hold.
pub async fn look_up(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 1_000)]).await.unwrap();
    put(&stage.admin, &ns, "rows", vec![data::rows(1_000, 1_200)]).await.unwrap();
    let get = |key: &str| GetItemRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        key: key.into(),
        ..Default::default()
    };
    let mut items = stage.admin.items();
    for key in [0, 1, 777, 1_199] {
        let item = items.get_item(get(&key.to_string())).await.unwrap().into_inner().item.unwrap();
        assert_eq!(id(&item), key);
        assert_eq!(item.values[1].kind, Some(Kind::IntValue(data::width(key))));
        assert_eq!(item.values[3].kind, Some(Kind::StringValue(data::section(key).into())));
        assert_eq!(item.values[2].kind.is_none(), key % 7 == 0, "null is no value");
    }
    refused(items.get_item(get("1200")).await, Code::NotFound);
    refused(items.get_item(get("first")).await, Code::InvalidArgument);
    let count = |filter: &str| CountItemsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        filter: filter.into(),
        ..Default::default()
    };
    assert_eq!(items.count_items(count("")).await.unwrap().into_inner().count, 1_200);
    let expected = (0..1_200).filter(|id| fits(*id)).count();
    let counted = items.count_items(count(FILTER)).await.unwrap().into_inner().count;
    assert_eq!(usize::try_from(counted).unwrap(), expected);
    let request = GetStatisticsRequest {
        namespace: ns.clone(),
        dataset: "rows".into(),
        ..Default::default()
    };
    let statistics = items.get_statistics(request).await.unwrap().into_inner();
    assert_eq!((statistics.row_count, statistics.version), (1_200, 2));
    let of = |name: &str| statistics.columns.iter().find(|c| c.column == name).expect("a column");
    assert_eq!(of("score").null_count, (0..1_200).filter(|id| id % 7 == 0).count() as i64);
    assert_eq!(of("id").min.as_ref().unwrap().kind, Some(Kind::IntValue(0)));
    assert_eq!(of("id").max.as_ref().unwrap().kind, Some(Kind::IntValue(1_199)));
}

/// The filter language against the same condition in Rust, by counting.
pub async fn filters(stage: &Stage) {
    type Row = (&'static str, fn(i64) -> bool);
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 500)]).await.unwrap();
    put(&stage.admin, &ns, "rows", vec![data::rows(500, 1_000)]).await.unwrap();
    let table: [Row; 14] = [
        ("section = \"games\"", |id| data::section(id) == "games"),
        ("section != \"games\"", |id| data::section(id) != "games"),
        ("section = \"g*\"", |id| data::section(id).starts_with('g')),
        ("section:\"lib\"", |id| data::section(id).contains("lib")),
        ("id >= 990", |id| id >= 990),
        ("id < 10 OR id > 995", |id| !(10..=995).contains(&id)),
        ("NOT is_favorite = true", |id| !data::is_favorite(id)),
        ("score = null", |id| id % 7 == 0),
        ("score != null AND score < 1.5", |id| id % 7 != 0 && id < 12),
        ("section IN (\"doc\", \"utils\")", |id| id % 4 >= 2),
        ("(id = 1 OR id = 2) AND is_favorite = false", |id| id == 1 || id == 2),
        ("width > 3000 AND is_favorite = true", fits),
        ("id = 5000", |_| false),
        ("id >= 0", |_| true),
    ];
    for (filter, condition) in table {
        let request = CountItemsRequest {
            namespace: ns.clone(),
            dataset: "rows".into(),
            filter: filter.into(),
            ..Default::default()
        };
        let counted = stage.admin.items().count_items(request).await;
        let counted = counted.unwrap_or_else(|err| panic!("{filter}: {err}")).into_inner().count;
        let expected = (0..1_000).filter(|id| condition(*id)).count();
        assert_eq!(usize::try_from(counted).unwrap(), expected, "{filter}");
    }
}

/// Wrong filters say where they are wrong; deep and long ones are refused before they cost.
pub async fn bad_filters(stage: &Stage) {
    let ns = stage.namespace().await;
    put(&stage.admin, &ns, "rows", vec![data::rows(0, 10)]).await.unwrap();
    let deep = format!("{}id = 1{}", "(".repeat(100_000), ")".repeat(100_000));
    let long = vec!["id = 1"; 100_000].join(" OR ");
    for filter in [
        "width >",
        "width > \"wide\"",
        "nothing = 1",
        "width = 1; DROP TABLE x",
        "id = 1 AND",
        "section = 'games",
        "\0",
        &deep,
        &long,
    ] {
        let status = refused(
            stage.admin.items().list_items(list(&ns, filter, 10)).await,
            Code::InvalidArgument,
        );
        let shown = &filter[..filter.len().min(60)];
        assert!(status.message().len() < 2_000, "{shown}: a message of pages");
    }
}
