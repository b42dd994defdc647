//! Flights: filters, limits, tickets, and who may use them.

use arrow::compute::filter_record_batch;
use arrow_flight::{Action, Criteria, Empty, Ticket};
use filter::Filter;
use futures::TryStreamExt;
use options_api::v1::Level;
use serde_json::json;
use service_error::{Code, ServiceError};

use super::{House, Who, by_id, command, path, rows};

#[tokio::test(flavor = "multi_thread")]
async fn filters_columns_and_limits_hold() {
    let house = House::with(|settings| {
        settings.blocks.rows_max = 3_000;
        settings.flight.endpoint_rows = 4_000;
    })
    .await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..10_000)]).await.unwrap();
    let info = house.info(&who, path("t")).await.unwrap();
    assert_eq!(info.endpoint.len(), 3, "of blocks of 3,000, 3,000, 3,000 and 1,000 rows");
    let whole = house.get(&who, path("t")).await.unwrap();
    assert_eq!(by_id(&whole), by_id(&rows(0..10_000)));
    let text = "width > 3000 AND is_favorite = true OR section = \"games\"";
    let mask = Filter::parse(text, &whole.schema()).unwrap().evaluate(&whole).unwrap();
    let expected = filter_record_batch(&whole, &mask).unwrap().project(&[2, 0]).unwrap();
    let asked = json!({"dataset": "vision/t", "filter": text, "columns": ["section", "id"]});
    assert_eq!(house.get(&who, command(asked)).await.unwrap(), expected);
    let limited =
        json!({"dataset": "vision/t", "filter": text, "columns": ["section", "id"], "limit": 7});
    assert_eq!(house.get(&who, command(limited)).await.unwrap(), expected.slice(0, 7));
    let first = json!({"dataset": "vision/t", "limit": 3_500});
    let info = house.info(&who, command(first.clone())).await.unwrap();
    assert_eq!((info.endpoint.len(), info.total_records), (1, 3_500));
    assert_eq!(house.get(&who, command(first)).await.unwrap(), whole.slice(0, 3_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named() {
    let house = House::new().await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..10)]).await.unwrap();
    for (asked, field) in [
        (json!({"dataset": "vision/t", "filter": "width = \"x\""}), "filter"),
        (json!({"dataset": "vision/t", "columns": ["nothing"]}), "columns"),
        (json!({"dataset": "vision"}), "dataset"),
        (json!({"dataset": "vision/t", "sql": "DROP"}), "descriptor"),
    ] {
        let error = house.info(&who, command(asked)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.field_name()),
            (Code::InvalidArgument, Some(field)),
            "{error}"
        );
    }
    assert_eq!(house.info(&who, path("absent")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_its_callers_alone() {
    let house = House::new().await;
    let (admin, reader, stranger) = (Who::admin(), Who::user(), Who::user());
    house.put(&admin, path("t"), &[rows(0..10)]).await.unwrap();
    house.grant(&reader, Level::Read).await;
    assert_eq!(house.get(&reader, path("t")).await.unwrap().num_rows(), 10);
    let ticket = house.info(&reader, path("t")).await.unwrap().endpoint.remove(0).ticket.unwrap();
    for who in [&stranger, &admin] {
        let refused = house.flight().do_get(house.by(who, ticket.clone())).await;
        assert_eq!(ServiceError::from(refused.unwrap_err()).code(), Code::PermissionDenied);
    }
    let mut forged = ticket.ticket.to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let refused = house.flight().do_get(house.by(&reader, Ticket { ticket: forged.into() })).await;
    assert!(ServiceError::from(refused.unwrap_err()).reason_is("TOKEN_NOT_OURS"));
    assert_eq!(house.info(&stranger, path("t")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_cannot_put() {
    let house = House::new().await;
    let (admin, reader) = (Who::admin(), Who::user());
    house.put(&admin, path("t"), &[rows(0..10)]).await.unwrap();
    house.grant(&reader, Level::Read).await;
    let error = house.put(&reader, path("t"), &[rows(10..20)]).await.unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
    let error = house.put(&admin.reading_only(), path("t"), &[rows(10..20)]).await.unwrap_err();
    assert!(error.reason_is("TOKEN_READ_ONLY"), "{error}");
    assert_eq!(house.get(&admin.reading_only(), path("t")).await.unwrap().num_rows(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn flights_and_actions_are_listed() {
    let house = House::new().await;
    let who = Who::admin();
    for name in ["a", "b", "c"] {
        house.put(&who, path(name), &[rows(0..10)]).await.unwrap();
    }
    let flights = house
        .flight()
        .list_flights(house.by(&who, Criteria::default()))
        .await
        .unwrap()
        .into_inner();
    let flights: Vec<_> = flights.try_collect().await.unwrap();
    let names: Vec<_> = flights
        .iter()
        .map(|info| info.flight_descriptor.clone().unwrap().path[1].clone())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(flights[0].total_records, 10);
    let actions = house.flight().list_actions(house.by(&who, Empty {})).await.unwrap().into_inner();
    let actions: Vec<_> = actions.try_collect().await.unwrap();
    assert_eq!(actions[0].r#type, "quarry.describe");
    let body = json!({"dataset": "vision/a"}).to_string();
    let describe = Action { r#type: "quarry.describe".into(), body: body.into() };
    let answer = house.flight().do_action(house.by(&who, describe)).await.unwrap().into_inner();
    let answer: Vec<_> = answer.try_collect().await.unwrap();
    let described: serde_json::Value = serde_json::from_slice(&answer[0].body).unwrap();
    assert_eq!((&described["row_count"], &described["columns"][1]["max"]), (&json!(10), &json!(9)));
    let strange = Action { r#type: "quarry.drop".into(), body: Default::default() };
    let refused = house.flight().do_action(house.by(&who, strange)).await;
    assert_eq!(ServiceError::from(refused.err().unwrap()).code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_holds_up_nobody() {
    let house = House::with(|settings| settings.flight.batch_bytes = 10_000).await;
    let who = Who::admin();
    house.put(&who, path("t"), &[rows(0..50_000)]).await.unwrap();
    let ticket = house.info(&who, path("t")).await.unwrap().endpoint.remove(0).ticket.unwrap();
    let mut stopped = Vec::new();
    for _ in 0..40 {
        let mut stream =
            house.flight().do_get(house.by(&who, ticket.clone())).await.unwrap().into_inner();
        stream.message().await.unwrap();
        stopped.push(stream);
    }
    assert_eq!(house.get(&who, path("t")).await.unwrap().num_rows(), 50_000);
}

/// Whoever loses its right while rows flow gets an error and not their end.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_taken_back_ends_streams_under_way() {
    let house = House::with(|settings| settings.flight.batch_bytes = 10_000).await;
    let (admin, reader) = (Who::admin(), Who::user());
    house.put(&admin, path("t"), &[rows(0..200_000)]).await.unwrap();
    let within = std::time::Duration::from_secs(5);
    let on = access::Resource::namespace(house.catalog.namespace("vision").uuid());
    let (grant, revision) = house.identity.lend(&reader, on, Level::Read);
    house.grants.wait_for(revision, within).await.unwrap();
    let ticket = house.info(&reader, path("t")).await.unwrap().endpoint.remove(0).ticket.unwrap();
    let get = house.by(&reader, ticket);
    let mut stream = house.flight().do_get(get).await.unwrap().into_inner();
    stream.message().await.unwrap();
    house.grants.wait_for(house.identity.take_back(&grant), within).await.unwrap();
    // Rights are looked at every four seconds.
    let begun = std::time::Instant::now();
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    let error = loop {
        tick.tick().await;
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it looks whole after {:?}", begun.elapsed()),
            Err(status) => break ServiceError::from(status),
        }
    };
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert!(begun.elapsed() < 2 * within, "{:?}", begun.elapsed());
}
