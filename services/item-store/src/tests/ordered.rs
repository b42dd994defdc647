//! Flights in an order of the caller's, saved filters, and what is kept of summaries.

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use filter::Filter;
use items_api::v1::analysis_service_client::AnalysisServiceClient;
use items_api::v1::filters_service_client::FiltersServiceClient;
use items_api::v1::{
    CountItemsRequest, CreateFilterRequest, DeleteFilterRequest, GetFilterRequest,
    ListFiltersRequest, ListItemsRequest, SavedFilter, SummarizeItemsRequest,
    SummarizeItemsResponse, UpdateFilterRequest,
};
use options_api::v1::Level;
use serde_json::json;
use service_channel::Transport;
use service_error::{Code, ServiceError};

use super::{House, Who, command, path, rows};

const ROWS: u64 = 12_000;

async fn filled() -> (House, Who) {
    let house = House::with(|settings| {
        settings.blocks.rows_max = 5_000;
        settings.flight.endpoint_rows = 5_000;
        // A sort of all rows does not fit and is spilled.
        settings.query.memory_bytes_max = 8 << 20;
    })
    .await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..ROWS)]).await.unwrap();
    (house, who)
}

/// By columns, each descending or not; nulls last, then by id.
fn in_order(batch: &RecordBatch, by: &[(&str, bool)]) -> RecordBatch {
    let column = |(name, descending): &(&str, bool)| SortColumn {
        values: batch.column_by_name(name).unwrap().clone(),
        options: Some(SortOptions { descending: *descending, nulls_first: false }),
    };
    let columns: Vec<SortColumn> = by.iter().chain(&[("id", false)]).map(column).collect();
    let order: UInt32Array = lexsort_to_indices(&columns, None).unwrap();
    take_record_batch(batch, &order).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_fly_in_the_order_that_is_asked_for() {
    let (house, who) = filled().await;
    let whole = house.get(&who, path("t")).await.unwrap();
    let by = [("section", false), ("width", true)];
    let expected = in_order(&whole, &by);
    let asked = |more: serde_json::Value| {
        let mut asked = json!({"dataset": "vision/t", "order_by": "section, width desc"});
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command(asked)
    };
    // None, few, many and more than there are: found by place, kept while others pass, sorted.
    for limit in [None, Some(0), Some(7), Some(2_500), Some(10_001), Some(200_000)] {
        let limit_of = limit.map_or_else(|| json!({}), |limit| json!({"limit": limit}));
        let info = house.info(&who, asked(limit_of.clone())).await.unwrap();
        assert_eq!(info.endpoint.len(), 1, "an order is one of all rows");
        let rows = limit.unwrap_or(usize::MAX).min(expected.num_rows());
        assert_eq!(info.total_records, rows as i64);
        let found = house.get(&who, asked(limit_of)).await.unwrap();
        assert_eq!(found, expected.slice(0, rows), "{limit:?}");
    }
    let text = "width > 1000 OR width = null";
    let mask = Filter::parse(text, &whole.schema()).unwrap().evaluate(&whole).unwrap();
    let passing = arrow::compute::filter_record_batch(&whole, &mask).unwrap();
    let expected = in_order(&passing, &by).project(&[2, 0]).unwrap();
    for limit in [json!({}), json!({"limit": 33})] {
        let mut more = json!({"filter": text, "columns": ["section", "id"]});
        more.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
        let found = house.get(&who, asked(more)).await.unwrap();
        assert_eq!(found, expected.slice(0, found.num_rows()));
        assert_eq!(
            found.num_rows(),
            limit["limit"].as_u64().map_or(expected.num_rows(), |n| n as usize)
        );
    }
    for wrong in ["nothing", "width sideways", "width, width"] {
        let asked = command(json!({"dataset": "vision/t", "order_by": wrong}));
        let error = house.info(&who, asked).await.unwrap_err();
        assert_eq!(error.field_name(), Some("order_by"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_flights_of_one_order_are_the_same() {
    let (house, who) = filled().await;
    let asked = json!({"dataset": "vision/t", "order_by": "width desc, id", "columns": ["id"], "limit": 3_000});
    let flown = house.get(&who, command(asked)).await.unwrap();
    let mut request = ListItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        order_by: "width desc, id".into(),
        columns: vec!["id".into()],
        page_size: 1_000,
        ..Default::default()
    };
    let mut listed = Vec::new();
    for _ in 0..3 {
        let page = house.items().list_items(house.by(&who, request.clone())).await.unwrap();
        let page = page.into_inner();
        request.page_token = page.next_page_token;
        listed.extend(page.items.into_iter().map(|item| match &item.values[0].kind {
            Some(catalog_api::v1::value::Kind::BytesValue(id)) => id.clone(),
            other => panic!("{other:?}"),
        }));
    }
    let ids = flown.column(0).as_fixed_size_binary();
    let flown: Vec<Vec<u8>> = (0..ids.len()).map(|row| ids.value(row).to_vec()).collect();
    assert_eq!(flown, listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn flights_are_listed_by_criteria() {
    let house = House::new().await;
    let who = Who::admin();
    for name in ["aa", "ab", "b"] {
        house.put(&who, path(name), &[rows(0..10)]).await.unwrap();
    }
    let names = async |expression: &'static str| {
        let criteria = arrow_flight::Criteria { expression: expression.into() };
        let flights = house.flight().list_flights(house.by(&who, criteria)).await?.into_inner();
        let flights: Vec<_> = futures::TryStreamExt::try_collect(flights).await?;
        let name = |info: arrow_flight::FlightInfo| info.flight_descriptor.unwrap().path[1].clone();
        Ok::<_, ServiceError>(flights.into_iter().map(name).collect::<Vec<_>>())
    };
    assert_eq!(names("vision/a").await.unwrap(), ["aa", "ab"]);
    assert_eq!(names(r#"{"namespace":"vision","prefix":"b"}"#).await.unwrap(), ["b"]);
    assert_eq!(names("vision").await.unwrap().len(), 3);
    let error = names("a/b/c").await.unwrap_err();
    assert_eq!(error.field_name(), Some("expression"), "{error}");
}

fn filters(house: &House) -> FiltersServiceClient<Transport> {
    FiltersServiceClient::new(house.transport.clone())
}

async fn save(
    house: &House,
    who: &Who,
    name: &str,
    filter: &str,
) -> Result<SavedFilter, ServiceError> {
    let request = CreateFilterRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        name: name.into(),
        filter: filter.into(),
        description: "for a test".into(),
    };
    Ok(filters(house).create_filter(house.by(who, request)).await?.into_inner().filter.unwrap())
}

async fn count(house: &House, who: &Who, filter: &str) -> Result<i64, ServiceError> {
    let request = CountItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        filter: filter.into(),
        ..Default::default()
    };
    Ok(house.items().count_items(house.by(who, request)).await?.into_inner().count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_filter_is_used_by_its_name() {
    let (house, who) = filled().await;
    let saved = save(&house, &who, "wide", "width > 3000 OR width = null").await.unwrap();
    assert_eq!((saved.revision, saved.description.as_str()), (1, "for a test"));
    let wide = count(&house, &who, "width > 3000 OR width = null").await.unwrap();
    assert_eq!(count(&house, &who, "saved:wide").await.unwrap(), wide);
    let both = count(&house, &who, "saved:wide AND section = \"games\"").await.unwrap();
    let written = "(width > 3000 OR width = null) AND section = \"games\"";
    assert_eq!(both, count(&house, &who, written).await.unwrap());
    let asked = command(json!({"dataset": "vision/t", "filter": "NOT saved:wide"}));
    let flown = house.get(&who, asked.clone()).await.unwrap();
    assert_eq!(flown.num_rows() as i64, count(&house, &who, "width <= 3000").await.unwrap());
    // A ticket is of what the name said when it was made.
    let ticket = house.info(&who, asked).await.unwrap().endpoint.remove(0).ticket.unwrap();
    let name = || ("vision".to_owned(), "t".to_owned(), "wide".to_owned());
    let (namespace, dataset, named) = name();
    let update = UpdateFilterRequest {
        namespace,
        dataset,
        name: named,
        filter: Some("width > 3500".into()),
        revision: 1,
        ..Default::default()
    };
    let updated = filters(&house).update_filter(house.by(&who, update.clone())).await.unwrap();
    assert_eq!(updated.into_inner().filter.unwrap().revision, 2);
    let stale = filters(&house).update_filter(house.by(&who, update)).await.unwrap_err();
    assert!(ServiceError::from(stale).reason_is("REVISION_CHANGED"));
    let refused = house.flight().do_get(house.by(&who, ticket)).await.unwrap_err();
    assert_eq!(ServiceError::from(refused).code(), Code::FailedPrecondition);
    assert_eq!(
        count(&house, &who, "saved:wide").await.unwrap(),
        count(&house, &who, "width > 3500").await.unwrap()
    );
    let (namespace, dataset, named) = name();
    let delete = DeleteFilterRequest { namespace, dataset, name: named };
    filters(&house).delete_filter(house.by(&who, delete.clone())).await.unwrap();
    let gone = filters(&house).delete_filter(house.by(&who, delete)).await.unwrap_err();
    assert_eq!(ServiceError::from(gone).code(), Code::NotFound);
    let error = count(&house, &who, "saved:wide").await.unwrap_err();
    assert!(error.reason_is("FILTER_INVALID") && error.message().contains("wide"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_checked_when_it_is_saved_and_by_whom() {
    let (house, who) = filled().await;
    let (reader, stranger) = (Who::user(), Who::user());
    house.grant(&reader, Level::Read).await;
    for (name, filter, field) in [
        ("2wide", "width > 1", "name"),
        ("wide", "", "filter"),
        ("wide", "height > 1", "filter"),
        ("wide", "saved:other", "filter"),
    ] {
        let error = save(&house, &who, name, filter).await.unwrap_err();
        assert_eq!(error.field_name(), Some(field), "{name} {filter}: {error}");
    }
    save(&house, &who, "wide", "width > 3000").await.unwrap();
    let again = save(&house, &who, "wide", "width > 1").await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again}");
    save(&house, &who, "games", "section = \"games\"").await.unwrap();
    let error = save(&house, &reader, "mine", "width > 1").await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    let error = save(&house, &stranger, "mine", "width > 1").await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert!(count(&house, &reader, "saved:wide").await.unwrap() > 0);
    let mut request = ListFiltersRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        page_size: 1,
        ..Default::default()
    };
    let mut names = Vec::new();
    loop {
        let page = filters(&house).list_filters(house.by(&reader, request.clone())).await;
        let page = page.unwrap().into_inner();
        names.extend(page.filters.into_iter().map(|filter| filter.name));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["games", "wide"]);
    let get =
        GetFilterRequest { namespace: "vision".into(), dataset: "t".into(), name: "games".into() };
    let found = filters(&house).get_filter(house.by(&reader, get.clone())).await.unwrap();
    assert_eq!(found.into_inner().filter.unwrap().filter, "section = \"games\"");
    let hidden = filters(&house).get_filter(house.by(&stranger, get)).await.unwrap_err();
    assert_eq!(ServiceError::from(hidden).code(), Code::NotFound);
}

async fn summary(house: &House, who: &Who, filter: &str) -> SummarizeItemsResponse {
    let request = SummarizeItemsRequest {
        namespace: "vision".into(),
        dataset: "t".into(),
        filter: filter.into(),
        columns: vec!["id".into(), "width".into(), "section".into()],
        histogram_bins: 8,
        ..Default::default()
    };
    let mut client = AnalysisServiceClient::new(house.transport.clone());
    client.summarize_items(house.by(who, request)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries_that_are_kept_are_those_of_the_rows() {
    let (house, who) = filled().await;
    let first = summary(&house, &who, "").await;
    let kept = summary(&house, &who, "").await;
    assert_eq!(first, kept);
    // A filter that every row passes is computed anew and says the same.
    let anew = summary(&house, &who, "width = null OR width != null").await;
    assert_eq!(anew, kept);
    let width = &kept.columns[1];
    let counted: i64 = width.histogram.iter().map(|bin| bin.count).sum();
    assert_eq!(counted + width.null_count, ROWS as i64);
    assert!(width.distinct_exact && width.distinct_error == 0.0 && width.top_error == 0);
    let ids = &kept.columns[0];
    assert!(!ids.distinct_exact && ids.distinct_error > 0.0 && ids.distinct_error < 0.05);
    let off = (ids.distinct_count - ROWS as i64).abs() as f64 / ROWS as f64;
    assert!(off <= ids.distinct_error, "{off}");
    // What was deleted is no longer summed up, and what is left of a row group is kept too.
    let delete = command(json!({"dataset": "vision/t", "mode": "delete"}));
    house.put(&who, delete, &[rows(0..100).project(&[0]).unwrap()]).await.unwrap();
    for _ in 0..2 {
        let after = summary(&house, &who, "").await;
        assert_eq!(after.row_count, ROWS as i64 - 100);
        assert_eq!(after, summary(&house, &who, "width = null OR width != null").await);
    }
}
