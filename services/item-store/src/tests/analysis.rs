//! Orders, backward pages, positions, summaries, facets, samples, explanations.

use catalog_api::v1::Value;
use catalog_api::v1::value::Kind;
use items_api::v1::analysis_service_client::AnalysisServiceClient;
use items_api::v1::explain_items_request::Operation;
use items_api::v1::{
    DescribeItemsRequest, ExplainItemsRequest, ExplainItemsResponse, GetFacetsRequest,
    GetItemsAtRequest, Item, ListItemsRequest, ListItemsResponse, PreviewItemsRequest,
    SampleItemsRequest, SummarizeItemsRequest,
};
use service_channel::Transport;
use service_error::ServiceError;

use super::{House, Who, path, rows};

const NAME: (&str, &str) = ("vision", "t");

fn analysis(house: &House) -> AnalysisServiceClient<Transport> {
    AnalysisServiceClient::new(house.transport.clone())
}

async fn filled() -> (House, Who) {
    let house = House::with(|settings| {
        settings.blocks.rows_max = 700;
        settings.blocks.row_group_rows = 300;
    })
    .await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..2_000)]).await.unwrap();
    (house, who)
}

fn list(filter: &str, order_by: &str, page_size: i32) -> ListItemsRequest {
    ListItemsRequest {
        namespace: NAME.0.into(),
        dataset: NAME.1.into(),
        filter: filter.into(),
        order_by: order_by.into(),
        page_size,
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

/// All pages from the first to the last, and back again.
async fn there_and_back(house: &House, who: &Who, first: ListItemsRequest) -> Vec<Item> {
    let (mut pages, mut request) = (Vec::new(), first.clone());
    let mut last;
    loop {
        last = page(house, who, request.clone()).await.unwrap();
        assert_eq!(last.previous_page_token.is_empty(), pages.is_empty());
        pages.push(last.items.clone());
        if last.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&last.next_page_token);
        request.skip = 0;
    }
    let mut back = vec![last.items.clone()];
    while !last.previous_page_token.is_empty() {
        request.page_token.clone_from(&last.previous_page_token);
        last = page(house, who, request.clone()).await.unwrap();
        assert!(!last.next_page_token.is_empty());
        if !last.items.is_empty() {
            back.push(last.items.clone());
        }
    }
    back.reverse();
    assert_eq!(back.concat(), pages.concat(), "{first:?}");
    pages.concat()
}

fn number(item: &Item, column: usize) -> Option<i64> {
    match item.values[column].kind {
        Some(Kind::IntValue(n)) => Some(n),
        None => None,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_both_ways_in_every_order() {
    let (house, who) = filled().await;
    let key = |item: &Item| {
        let Some(Kind::BytesValue(id)) = &item.values[0].kind else { panic!() };
        id.clone()
    };
    for (filter, passing) in [("", 2_000), ("section = \"games\" AND width > 900", 330)] {
        let mut found = there_and_back(&house, &who, list(filter, "", 97)).await;
        assert_eq!(found.len(), passing, "{filter}");
        let by_width = there_and_back(&house, &who, list(filter, "width desc, id", 97)).await;
        found.sort_by_key(|item| (number(item, 1).map_or(i64::MAX, |n| -n), key(item)));
        assert_eq!(by_width, found, "{filter}");
    }
    let up = there_and_back(&house, &who, list("width != null", "section, width", 500)).await;
    let key = |item: &Item| {
        let Some(Kind::StringValue(section)) = &item.values[2].kind else { panic!() };
        (section.clone(), number(item, 1))
    };
    assert!(up.windows(2).all(|pair| key(&pair[0]) <= key(&pair[1])));
    for order in ["nowhere", "tags sideways", "width, width", ","] {
        let error = page(&house, &who, list("", order, 5)).await.unwrap_err();
        assert_eq!(error.field_name(), Some("order_by"), "{order}: {error}");
    }
    let token = page(&house, &who, list("", "width", 5)).await.unwrap().next_page_token;
    let other = ListItemsRequest { page_token: token, ..list("", "width desc", 5) };
    let error = page(&house, &who, other).await.unwrap_err();
    assert_eq!(error.field_name(), Some("page_token"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_depth_is_reached_by_position() {
    let (house, who) = filled().await;
    let all = page(&house, &who, list("", "", 2_000)).await.unwrap().items;
    for skip in [0usize, 1, 699, 700, 1_234, 1_999] {
        let request = ListItemsRequest { skip: skip as i64, ..list("", "", 10) };
        let found = page(&house, &who, request).await.unwrap();
        assert_eq!(found.items, all[skip..(skip + 10).min(2_000)], "{skip}");
    }
    let beyond = ListItemsRequest { skip: 2_000, ..list("", "", 10) };
    assert!(page(&house, &who, beyond).await.unwrap().items.is_empty());
    let filtered = ListItemsRequest { skip: 50, ..list("width > 100", "width", 3) };
    let found = page(&house, &who, filtered).await.unwrap().items;
    // Nine of ten are there: 101 … 109, 111 … 119, and so on.
    assert_eq!(number(&found[0], 1), Some(156));
    for (skip, field) in [(-1, "skip"), (1_000_000, "skip")] {
        let request = ListItemsRequest { skip, ..list("width > 1", "", 3) };
        assert_eq!(page(&house, &who, request).await.unwrap_err().field_name(), Some(field));
    }
    let positions = vec![1_999, 0, 700, 700];
    let request = GetItemsAtRequest {
        namespace: NAME.0.into(),
        dataset: NAME.1.into(),
        positions: positions.clone(),
        ..Default::default()
    };
    let found = analysis(&house).get_items_at(house.by(&who, request.clone())).await.unwrap();
    let expected: Vec<Item> = positions.iter().map(|at| all[*at as usize].clone()).collect();
    assert_eq!(found.into_inner().items, expected);
    let beyond = GetItemsAtRequest { positions: vec![0, 2_000], ..request };
    let error = analysis(&house).get_items_at(house.by(&who, beyond)).await.unwrap_err();
    assert!(ServiceError::from(error).reason_is("POSITION_BEYOND_END"));
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries_are_those_of_the_rows() {
    let (house, who) = filled().await;
    let request = |filter: &str| SummarizeItemsRequest {
        namespace: NAME.0.into(),
        dataset: NAME.1.into(),
        filter: filter.into(),
        top: 2,
        histogram_bins: 4,
        ..Default::default()
    };
    // Twice: from rows, then from what was kept.
    for _ in 0..2 {
        let found = analysis(&house).summarize_items(house.by(&who, request(""))).await.unwrap();
        let found = found.into_inner();
        assert_eq!((found.row_count, found.columns.len()), (2_000, 5));
        let [id, width, section, favorite, tags] = found.columns.as_slice() else { panic!() };
        assert!(matches!(id.min.as_ref().unwrap().kind, Some(Kind::BytesValue(_))), "a UUID");
        assert_eq!((id.distinct_count, id.distinct_exact), (2_000, true));
        assert_eq!((width.null_count, width.distinct_count), (200, 1_800));
        let known: Vec<i64> = (0..2_000).filter(|n| n % 10 != 0).collect();
        let mean = known.iter().sum::<i64>() as f64 / 1_800.0;
        assert!((width.mean.unwrap() - mean).abs() < 1e-6);
        assert_eq!(width.max.as_ref().unwrap().kind, Some(Kind::IntValue(1_999)));
        let counts: Vec<i64> = width.histogram.iter().map(|bin| bin.count).collect();
        assert_eq!(counts.iter().sum::<i64>(), 1_800);
        assert!(counts.iter().all(|n| (440..=460).contains(n)), "{counts:?}");
        let median = width.quantiles.iter().find(|q| q.quantile == 0.5).unwrap();
        let Some(Kind::DoubleValue(median)) = median.value.as_ref().unwrap().kind else { panic!() };
        assert!((median - 1_000.0).abs() < 60.0, "{median}");
        assert_eq!((section.distinct_count, section.top_exact), (3, true));
        assert_eq!((section.top[0].count, section.top.len()), (667, 2));
        assert_eq!((favorite.distinct_count, favorite.top[1].count), (2, 400));
        assert!(tags.counts_elements);
        assert_eq!((tags.distinct_count, tags.top[0].count), (2, 1_333));
    }
    let few = analysis(&house)
        .summarize_items(house.by(&who, request("width < 100")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((few.row_count, few.columns[1].distinct_count), (90, 90));
    assert_eq!(few.columns[1].max.as_ref().unwrap().kind, Some(Kind::IntValue(99)));
    let wrong = SummarizeItemsRequest { quantiles: vec![2.0], ..request("") };
    let error = analysis(&house).summarize_items(house.by(&who, wrong)).await.unwrap_err();
    assert_eq!(ServiceError::from(error).field_name(), Some("quantiles"));
}

#[tokio::test(flavor = "multi_thread")]
async fn facets_count_and_measure() {
    let (house, who) = filled().await;
    let request = |filter: &str, column: &str| GetFacetsRequest {
        namespace: NAME.0.into(),
        dataset: NAME.1.into(),
        filter: filter.into(),
        column: column.into(),
        measures: vec!["width".into()],
        ..Default::default()
    };
    for _ in 0..2 {
        let found = analysis(&house).get_facets(house.by(&who, request("", "section"))).await;
        let found = found.unwrap().into_inner();
        assert_eq!((found.group_count, found.row_count, found.other_row_count), (3, 2_000, 0));
        assert_eq!(found.groups[0].row_count, 667);
        let games: Vec<i64> = (0..2_000).filter(|n| n % 3 == 0 && n % 10 != 0).collect();
        let games_group = found
            .groups
            .iter()
            .find(|group| {
                let value = group.value.as_ref().and_then(|value| value.kind.as_ref());
                value == Some(&Kind::StringValue("games".into()))
            })
            .unwrap();
        let measure = &games_group.measures[0];
        assert_eq!(measure.count, games.len() as i64);
        let mean = games.iter().sum::<i64>() as f64 / games.len() as f64;
        assert!((measure.mean.unwrap() - mean).abs() < 1e-6);
        let bounds = (Some(games[0] as f64), games.last().map(|n| *n as f64));
        assert_eq!((measure.min, measure.max), bounds);
    }
    let some = request("width >= 1000", "is_favorite");
    let some = analysis(&house).get_facets(house.by(&who, some)).await.unwrap().into_inner();
    assert_eq!(some.groups.iter().map(|group| group.row_count).collect::<Vec<_>>(), [800, 100]);
    for (column, measures, field) in [
        ("tags", vec![], "column"),
        ("nowhere", vec![], "column"),
        ("section", vec!["section"], "measures"),
    ] {
        let measures = measures.into_iter().map(str::to_owned).collect();
        let wrong = GetFacetsRequest { measures, ..request("", column) };
        let error = analysis(&house).get_facets(house.by(&who, wrong)).await.unwrap_err();
        assert_eq!(ServiceError::from(error).field_name(), Some(field), "{column}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_repeat_with_their_seed() {
    let (house, who) = filled().await;
    let draw = async |seed: u64, size: i32, filter: &str| {
        let request = SampleItemsRequest {
            namespace: NAME.0.into(),
            dataset: NAME.1.into(),
            filter: filter.into(),
            seed,
            size,
            ..Default::default()
        };
        let found = analysis(&house).sample_items(house.by(&who, request)).await;
        found.unwrap().into_inner().items
    };
    let (one, again, other) = (draw(1, 50, "").await, draw(1, 50, "").await, draw(2, 50, "").await);
    assert_eq!((one.len(), &one), (50, &again));
    assert_ne!(one, other);
    let few = draw(3, 50, "width < 40").await;
    assert_eq!(few.len(), 36, "all that pass");
    // Every row has the same chance: thirds of the rows come in thirds.
    let many = draw(4, 900, "").await;
    let games = many
        .iter()
        .filter(|item| item.values[2].kind == Some(Kind::StringValue("games".into())))
        .count();
    assert!((250..350).contains(&games), "{games}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_was_skipped() {
    let (house, who) = filled().await;
    let explain = async |filter: &str, operation: Operation| -> ExplainItemsResponse {
        let request = ExplainItemsRequest {
            namespace: NAME.0.into(),
            dataset: NAME.1.into(),
            filter: filter.into(),
            operation: operation as i32,
            ..Default::default()
        };
        analysis(&house).explain_items(house.by(&who, request)).await.unwrap().into_inner()
    };
    let none = explain("width > 100000", Operation::Count).await;
    assert_eq!((none.row_count, none.blocks_read, none.blocks_skipped), (0, 0, 3));
    assert_eq!(none.requests, 0);
    let first = explain("width = 7", Operation::Count).await;
    assert_eq!((first.row_count, first.blocks_read, first.blocks_skipped), (1, 1, 2));
    assert!(first.requests > 0 && first.bytes > 0 && first.pieces_decoded > 0, "{first:?}");
    // What is asked for again is kept.
    for _ in 0..2 {
        explain("width = 8", Operation::Count).await;
    }
    let again = explain("width = 8", Operation::Count).await;
    assert_eq!((again.requests, again.bytes), (0, 0), "{again:?}");
    let page = explain("section = \"web\"", Operation::List).await;
    assert_eq!(page.row_count, 100);
    assert!(page.filter.contains("section"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_described_and_previewed() {
    let (house, who) = filled().await;
    let (namespace, dataset) = (NAME.0.to_owned(), NAME.1.to_owned());
    let request = DescribeItemsRequest {
        namespace: namespace.clone(),
        dataset: dataset.clone(),
        version: String::new(),
    };
    let found = analysis(&house).describe_items(house.by(&who, request)).await.unwrap();
    let found = found.into_inner();
    assert_eq!((found.row_count, found.key_column.as_str(), found.columns.len()), (2_000, "id", 5));
    assert_eq!(found.columns[1].null_count, 200);
    assert_eq!(found.columns[1].max, Some(Value { kind: Some(Kind::IntValue(1_999)) }));
    let request = PreviewItemsRequest {
        namespace,
        dataset,
        columns: vec!["width".into()],
        ..Default::default()
    };
    let found = analysis(&house).preview_items(house.by(&who, request)).await.unwrap();
    let found = found.into_inner();
    assert_eq!((found.items.len(), found.row_count, found.columns.len()), (20, 2_000, 1));
}
